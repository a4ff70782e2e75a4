"""An ensemble as a graph of operations, with what its user must know and cells to try it on."""

import json
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hep2.calls.record import as_record
from hep2.data.simulator.cells import SMALLEST_IMAGE, simulate
from hep2.prediction.exporting.model import Array, Traced
from hep2.prediction.models import Ensemble

TRIED = 100  # cells on which what was written is compared with the original


class Exported(nn.Module):
    """An ensemble with its arithmetic of pixels, as it goes into the file."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.network, self.orientations = ensemble.network, ensemble.orientations
        self.judges = ensemble.judges

    def forward(self, pixels: Tensor, full_scale: Tensor) -> tuple[Tensor, ...]:
        """Probabilities and, where an autoencoder is known, novelty; all is float32.

        Shape:
            pixels as the image file has them (B, 1, H, W), full_scale, the pixel value that means
            1: 255, 4095, 65535 ... () -> (B, classes), (B,)
        """
        probabilities, novelty = self.network(pixels * (1 / full_scale), self.orientations)
        outputs = (probabilities.float(), novelty.float())
        return outputs if self.judges else outputs[:1]


def trace(ensemble: Ensemble) -> Traced:
    """Record what an ensemble does to any number of cells.

    Orientations and runs are unrolled: five runs in eight orientations take a minute or more.
    """
    module = Exported(ensemble).eval()
    cells = trial_cells(ensemble.image_size)
    inputs = (torch.from_numpy(cells), torch.tensor(1.0))
    with torch.inference_mode():
        outputs = [part.numpy() for part in module(*inputs)]
    shapes: Any = {"pixels": {0: torch.export.Dim("cells")}, "full_scale": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch
        # Traced with another number of cells than it is tried with: the number must be free.
        traced = (inputs[0][:2], inputs[1])
        program = torch.export.export(module, traced, dynamic_shapes=shapes)
    for node in program.graph.nodes:  # where this machine has the code is nobody else's business
        node.meta.pop("stack_trace", None)
    return Traced(program, description(ensemble), cells, outputs)


def trial_cells(size: int) -> Array:
    """Simulated cells, first one of each pattern: nobody's data, and more like cells than noise."""
    made = simulate(cells=TRIED, specimens=10, image_size=max(size, SMALLEST_IMAGE))
    _, first = np.unique(made.labels, return_index=True)
    order = [*np.sort(first), *np.setdiff1d(np.arange(TRIED), first)]
    shown = made.images[order, None, :size, :size]
    return shown.astype(np.float32) / np.float32(255)


def description(ensemble: Ensemble) -> dict[str, str]:
    """What a user of the file must know, stored in it."""
    learned = ensemble.full_scale or 255
    wide = (
        "65535 for 16-bit ones (4095 where they hold 12 bits)"
        if learned == 255
        else (f"{learned} for 16-bit ones, as in training")
    )
    return {
        "classes": json.dumps(list(ensemble.classes)),
        "image_size": str(ensemble.image_size),
        "channel": ensemble.channel,
        "full_scale": str(learned),
        "orientations": str(ensemble.orientations or "as each member was tested"),
        "runs": str(len(ensemble.runs)),
        "data": ensemble.data,
        "synthetic": str(ensemble.synthetic).lower(),
        "calibration": json.dumps(
            as_record(ensemble.calibration or "the runs were not calibrated", ensemble.classes)
        ),
        "preprocessing": (
            f"{framing(ensemble)} Give the pixels as float32, not scaled, and full_scale 255 for "
            f"8-bit images, {wide}; the file divides. Where a file says that white is 0 (TIFF), "
            "give full_scale minus its pixels."
        ),
    }


def framing(ensemble: Ensemble) -> str:
    """How a cell becomes an image of the right size, in words."""
    return (
        f"Take the {ensemble.channel} channel of colour images. Bring the longer side to "
        f"{ensemble.image_size} pixels (area average to shrink, bilinear to grow) and fill up the "
        "shorter one on both ends by reflection without repeating the edge."
    )
