"""A trained method in Python: cells in, a table or vectors out.

Needs what pyproject.toml lists for `predict`: neither Lightning nor W&B nor scikit-learn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hep2.calls.unlike import UNLIKE
from hep2.errors import HEp2Error
from hep2.prediction.arrays import Images, batches_of
from hep2.prediction.cells import CellBatch
from hep2.prediction.exported import load_exported
from hep2.prediction.exporting.hub import CONFIG
from hep2.prediction.models import Ensemble, load_ensemble

if TYPE_CHECKING:
    import pandas as pd

EXPORTED = (".onnx", ".pt2", ".zip")
Outputs = tuple[NDArray[np.floating], NDArray[np.floating]]  # (B, classes), (B,)


@dataclass(frozen=True)
class Loaded:
    """What `hep2.load` gives: finished runs of one method, or a file that `task=export` wrote.

    >>> model = hep2.load("default")  # doctest: +SKIP
    >>> model.predict("folder of cells")  # doctest: +SKIP
    """

    classes: tuple[str, ...]  # pattern names, in the order of the probabilities
    image_size: int  # side of the images that the networks see, pixels
    channel: str  # of colour images
    page: int | None  # of TIFFs
    full_scale: int | None  # white in what was learned from; None: it does not say
    masked: bool  # whether it has learned with masks; those beside files are used
    name: str  # what was loaded
    _outputs: Callable[[CellBatch], Outputs]
    _vectors: Callable[[CellBatch], Tensor] | None

    def predict(self, images: Images, full_scale: int | None = None) -> "pd.DataFrame":
        """Name the pattern of cells.

        Args:
            images: an image, a folder, a CSV with the column image (and specimen), a list of
                these, or arrays (N, H, W): uint8, uint16 or floats in [0, 1].
            full_scale: what is white in 16-bit images; None: as of `hep2 predict`.

        Returns:
            A row a cell: id, specimen, output, p_<class>..., novelty (reconstruction error over
            the 99th percentile of held-out cells, NaN where it is not known), unlike_training
            (novelty above 1), problem (why there is no call, or "").

        Raises:
            HEp2Error: there are no such images, or an array is no image.
        """
        import pandas as pd

        parts = [self._table(batch) for batch in self._batches(images, full_scale)]
        return pd.concat(parts, ignore_index=True) if parts else self._table(_NOTHING)

    def embed(self, images: Images, full_scale: int | None = None) -> NDArray[np.float32]:
        """What the frozen encoder of one run makes of cells: a vector each, (N, D).

        Arguments as of `predict`.

        Raises:
            HEp2Error: as of `predict`; an image cannot be read; several runs are loaded, whose
                vectors have nothing in common; or what is loaded gives no vectors.
        """
        if self._vectors is None:
            raise HEp2Error(
                f"{self.name} gives no vectors: load one run by its directory, .../fold0/seed0"
            )
        made = []
        for batch in self._batches(images, full_scale):
            for cell, problem in zip(batch.cells, batch.problems, strict=True):
                if problem:
                    raise HEp2Error(f"{cell.id}: {problem}")
            with torch.inference_mode():
                made.append(self._vectors(batch).float().numpy())
        return np.concatenate(made) if made else np.empty((0, 0), np.float32)

    def _batches(self, images: Images, full_scale: int | None) -> Iterator[CellBatch]:
        how = (self.image_size, self.channel, self.page, self.full_scale)
        return batches_of(images, *how, full_scale, self.masked)

    def _table(self, batch: CellBatch) -> "pd.DataFrame":
        """The rows of some cells."""
        import pandas as pd

        cells = len(batch.cells)
        known = np.array([not problem for problem in batch.problems], dtype=bool)
        shares, novelty = np.full((cells, len(self.classes)), np.nan), np.full(cells, np.nan)
        if known.any():
            shares[known], novelty[known] = self._outputs(batch)
        names = np.array(self.classes, dtype=object)
        output = np.where(known, names[np.nan_to_num(shares).argmax(axis=1)], None)
        columns: dict[str, Any] = {
            "id": [cell.id for cell in batch.cells],
            "specimen": [cell.specimen for cell in batch.cells],
            "output": output,
            **{f"p_{name}": shares[:, number] for number, name in enumerate(self.classes)},
            "novelty": novelty,
            "unlike_training": novelty > UNLIKE,
            "problem": batch.problems,
        }
        return pd.DataFrame(columns)


_NOTHING = CellBatch([], torch.empty(0), [])


def load(run: str | Path, runs_dir: str | Path = "runs", orientations: int | None = None) -> Loaded:
    """Load a trained method.

    >>> import hep2
    >>> hep2.load("no such run")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    hep2.errors.HEp2Error: runs/no such run holds no finished run that classifies: ...

    Args:
        run: a run's directory, a method's (all its folds, whose probabilities are averaged), a
            name in `runs_dir`; or what `hep2 export` wrote: .onnx, .pt2, .zip, or a folder for the
            hub.
        runs_dir: where names are looked for.
        orientations: over how many flips and quarter turns features are averaged, 1 to 8; None: as
            in the runs' own tests.

    Raises:
        HEp2Error: nothing of the kind is there, or it is damaged; the message says what to do.
    """
    path = Path(run)
    if path.suffix in EXPORTED or (path / CONFIG).is_file():
        return _exported(path)
    return _of_runs(load_ensemble(str(run), Path(runs_dir), orientations), str(run))


def _of_runs(ensemble: Ensemble, name: str) -> Loaded:
    """All that is known here of how runs compute."""
    runs: list[Any] = list(ensemble.network)
    members = [member for run in runs for member in run.members]

    def outputs(batch: CellBatch) -> Outputs:
        with torch.inference_mode():
            made = ensemble.network(batch.image, ensemble.orientations, batch.masks)
        return made[0].numpy(), made[1].numpy()

    def vectors(batch: CellBatch) -> Tensor:
        made: Tensor = members[0].representation(batch.image, ensemble.orientations, batch.masks)
        return made

    return Loaded(
        ensemble.classes, ensemble.image_size, ensemble.channel, ensemble.page,
        ensemble.full_scale, ensemble.masked, name, outputs, vectors if len(members) == 1 else None,
    )  # fmt: skip


def _exported(path: Path) -> Loaded:
    """What `hep2 export` wrote, in any of its formats."""
    model = load_exported(path)

    def outputs(batch: CellBatch) -> Outputs:
        probabilities, *novelty = model.outputs(batch.image.numpy())
        unknown = np.full(len(probabilities), np.nan)
        return probabilities, novelty[0] if novelty else unknown

    reading = (model.image_size, model.channel, None, model.full_scale)
    return Loaded(model.classes, *reading, False, str(path), outputs, None)
