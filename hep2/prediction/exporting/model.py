"""What goes with a model that is handed on, and a model that was read back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.calls.calibration import Calibration
from hep2.calls.record import from_record
from hep2.errors import HEp2Error

Array = NDArray[np.float32]
INPUTS, OUTPUTS = ["pixels", "full_scale"], ["probabilities", "novelty"]
Run = Callable[[Array], list[Array]]  # probabilities, and novelty where the model judges


@dataclass(frozen=True)
class Traced:
    """What every format is written from."""

    program: Any  # a torch.export.ExportedProgram
    facts: dict[str, str]  # of `traced.description`
    # Simulated ones to try it on, from 0 to 1, (B, 1, H, W); one of each pattern comes first.
    cells: Array
    outputs: list[Array]  # what the original makes of them: probabilities, and novelty if it judges


@dataclass(frozen=True)
class Card:
    """What is said of a model that is handed on."""

    name: str  # of the method
    classes: tuple[str, ...]  # pattern names
    authors: tuple[str, ...]
    license: str  # an SPDX identifier
    warnings: tuple[str, ...]  # leaky, simulated: what must be read first
    text: str  # README.md
    picture: bytes  # its confusion matrix, PNG


@dataclass(frozen=True)
class ExportedModel:
    """What names patterns, whatever format it was handed on in."""

    classes: tuple[str, ...]  # pattern names
    image_size: int  # side of the images it takes, pixels
    channel: str  # of colour images
    full_scale: int  # white in what it learned from, 255 for 8 bits
    synthetic: bool  # whether it learned from simulated cells
    # Of its probabilities, which are scaled already; None where the runs were not calibrated.
    calibration: Calibration | None
    run: Run

    def __call__(self, images: NDArray[Any]) -> Array:
        """Probabilities of the classes; arguments and errors as of `outputs`."""
        return self.outputs(images)[0]

    def outputs(self, images: NDArray[Any]) -> list[Array]:
        """Probabilities of the classes and, where the model judges cells, their novelty.

        Shape:
            cells (B, 1, image_size, image_size), from 0 to 1, black to white -> (B, classes), (B,)

        Raises:
            HEp2Error: the images have another shape.
        """
        size = (1, self.image_size, self.image_size)
        if images.ndim != 4 or images.shape[1:] != size:
            raise HEp2Error(f"images of the shape {images.shape} do not fit: they must be (B, 1, "
                            f"{self.image_size}, {self.image_size})")  # fmt: skip
        return self.run(np.ascontiguousarray(images, dtype=np.float32))


def model_of(path: Path, facts: Mapping[str, str], run: Run) -> ExportedModel:
    """A model by what its file says of it (`hep2.prediction.exporting.traced.description`).

    Raises:
        HEp2Error: the file does not say what an export says.
    """
    try:
        classes = tuple(map(str, json.loads(facts["classes"])))
        return ExportedModel(
            classes=classes,
            image_size=int(facts["image_size"]),
            channel=facts["channel"],
            full_scale=int(facts["full_scale"]),
            synthetic=facts["synthetic"] == "true",
            calibration=from_record(json.loads(facts.get("calibration", "null")), classes),
            run=run,
        )
    except (KeyError, ValueError, TypeError, RecursionError, HEp2Error) as error:
        raise unreadable(path, f"it does not say what an export says ({error})") from error


def unreadable(path: Path, what: str) -> HEp2Error:
    """The error to raise for a file that cannot be what the export wrote."""
    return HEp2Error(f"{path} is damaged or foreign: {what}; get it again, or export the run again")


def missing(error: ImportError, what: str, extra: str = "export") -> HEp2Error:
    """The error to raise where a package of an extra is not installed; `what` needs it."""
    return HEp2Error(f"{what} needs the package {error.name}: pip install 'hep2[{extra}]'")
