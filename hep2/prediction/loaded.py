"""A trained method in Python: cells in, a table or vectors out.

Needs what pyproject.toml lists for `predict`: neither Lightning nor W&B nor scikit-learn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hep2.calls.calibration import Calibration, at_alpha
from hep2.calls.unlike import unlike_of
from hep2.data.patterns import pattern_names
from hep2.errors import HEp2Error
from hep2.prediction.arrays import Images, batches_of
from hep2.prediction.calls import opinion
from hep2.prediction.cells import CellBatch
from hep2.prediction.exporting.bioimageio import read_bioimageio
from hep2.prediction.exporting.hub import CONFIG, read_hub
from hep2.prediction.exporting.model import ExportedModel
from hep2.prediction.exporting.onnx import read_onnx
from hep2.prediction.exporting.pt2 import read_pt2
from hep2.prediction.member import members_of
from hep2.prediction.models import Ensemble, Outputs, load_ensemble, outputs_of
from hep2.prediction.outcome import Row, cell_columns, cell_rows, shares, specimen_row

if TYPE_CHECKING:
    import pandas as pd

    from hep2.prediction.nearest import TrainingCells

Vectors = Callable[[CellBatch], Tensor]  # (B, D)
_READERS: dict[str, Callable[[Path], ExportedModel]] = {
    ".onnx": read_onnx,
    ".pt2": read_pt2,
    ".zip": read_bioimageio,
}


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
    calibration: Calibration | None  # how far probabilities can be believed, where that was learned
    _outputs: Callable[[CellBatch], Outputs]
    _encoder: Callable[[], Vectors]
    _training: Callable[[], "TrainingCells"]

    def predict(
        self, images: Images, full_scale: int | None = None, masks: str | Path | None = None
    ) -> "pd.DataFrame":
        """Name the pattern of cells, as `hep2 predict` does: the table has the same columns.

        Args:
            images: an image, a folder, a CSV with the column image (and specimen), a list of
                these, or arrays (N, H, W): uint8, uint16 or floats in [0, 1].
            full_scale: what is white in 16-bit images; None: as of `hep2 predict`.
            masks: label images, where `images` are whole fields, whose cells are to be cut out: an
                image, a folder, or the name of a CSV's column.

        Returns:
            A row a cell: id (of fields `<field>#<label>`), specimen (if any is known), output,
            p_<class>..., set (the patterns that are not ruled out, at the run's first alpha; ""
            where it was not calibrated), novelty (reconstruction error over the 99th percentile of
            held-out cells, NaN where it is not known), unlike_training (novelty above 1), problem
            (why there is no call, or "").

        Raises:
            HEp2Error: there are no such images, or an array is no image.
        """
        import pandas as pd

        rows = [row for batch in self._batches(images, full_scale, masks)
                for row in self._rows(batch)]  # fmt: skip
        known = any(row["specimen"] for row in rows)
        table = pd.DataFrame(rows, columns=cell_columns(self.classes, known))
        return table.astype({"unlike_training": bool})  # None, which is not known, becomes False

    def specimens(
        self, cells: "pd.DataFrame", names: str | None = None, alpha: float | None = None
    ) -> "pd.DataFrame":
        """One call a specimen, or that nothing can be said and why, as `hep2 predict` writes them.

        >>> model = hep2.load("default")  # doctest: +SKIP
        >>> model.specimens(model.predict("cells.csv"))  # doctest: +SKIP

        Args:
            cells: what `predict` gave, or the CSV of `hep2 predict`, read by pandas. Where it does
                not know specimens, e.g. of arrays, add them as a column: cells["specimen"] = ...
            names: a YAML file with codes of your own for patterns; None: ICAP's.
            alpha: how often a set may lack the right pattern; one of those that the run has
                learned (`stage.calibration.alpha`); None: the first of them.

        Returns:
            A row a specimen, in the order of their names, with the columns of
            `hep2.prediction.outcome.specimen_row`. Cells of no specimen are left out.

        Raises:
            HEp2Error: the table has no specimens, or is not one of this model's; nothing was
                learned for this alpha.
        """
        import pandas as pd

        if "specimen" not in cells:
            raise HEp2Error("no specimen is known: add them as a column, cells['specimen'] = ...")
        columns, calibration = [*shares(self.classes, None)], at_alpha(self.calibration, alpha)
        if lacking := {*columns, "novelty", "problem"} - {*cells}:
            raise HEp2Error(f"this is no table of predict: it lacks {', '.join(sorted(lacking))}")
        known, rows = pattern_names(names), list[Row]()
        for name, part in cells[cells["specimen"].notna()].groupby("specimen"):
            called = part[part["problem"].fillna("") == ""]  # NaN where it comes from a CSV
            values = called[columns].to_numpy(np.float64)
            strange = unlike_of(called["novelty"].to_numpy(np.float64))
            without = len(part) - len(called)
            said = opinion(values, strange, without, self.classes, calibration)
            rows += [specimen_row(str(name), said, self.classes, known)] if name != "" else []
        return pd.DataFrame(rows)

    def embed(self, images: Images, full_scale: int | None = None) -> NDArray[np.float32]:
        """What the frozen encoder of one run makes of cells: a vector each, (N, D).

        Arguments as of `predict`.

        Raises:
            HEp2Error: as of `predict`; an image cannot be read; or what is loaded gives no vectors,
                as several runs do, whose vectors have nothing in common.
        """
        vectors, made = self._encoder(), []
        for batch in self._batches(images, full_scale):
            for cell, problem in zip(batch.cells, batch.problems, strict=True):
                if problem:
                    raise HEp2Error(f"{cell.id}: {problem}")
            with torch.inference_mode():
                made.append(vectors(batch).float().numpy())
        return np.concatenate(made) if made else np.empty((0, 0), np.float32)

    def nearest(
        self, images: Images, count: int = 3, full_scale: int | None = None
    ) -> "pd.DataFrame":
        """The training cells that look to the first run most like each of some cells.

        The data set that was learned from is opened and encoded, at every call. Images and
        full_scale as of `predict`; those without a usable image are left out.

        Returns:
            A row a neighbour, the nearest first: id, rank (from 1), neighbour (its id), label,
            specimen, distance (Euclidean, every value of the vectors over its standard deviation
            among the training cells).

        Raises:
            HEp2Error: as of `predict`; or the data set cannot be opened here.
        """
        import pandas as pd

        known, rows = self._training(), []
        for batch in self._batches(images, full_scale):
            usable = [cell.id for cell, problem in zip(batch.cells, batch.problems, strict=True)
                      if not problem]  # fmt: skip
            greys = (batch.image[:, 0] * 255).round().to(torch.uint8).numpy()
            for name, grey in zip(usable, greys, strict=True):
                rows += [(name, rank, one.id, one.label, one.specimen, one.distance)
                         for rank, one in enumerate(known.nearest(grey, count), 1)]  # fmt: skip
        columns = ["id", "rank", "neighbour", "label", "specimen", "distance"]
        return pd.DataFrame(rows, columns=columns)

    def _batches(
        self, images: Images, full_scale: int | None, masks: str | Path | None = None
    ) -> Iterator[CellBatch]:
        how = (self.image_size, self.channel, self.page, self.full_scale)
        return batches_of(images, *how, full_scale, self.masked, masks)

    def _rows(self, batch: CellBatch) -> Iterator[Row]:
        """The rows of some cells."""
        probabilities, novelties = self._outputs(batch)
        return cell_rows(batch, self.classes, probabilities, novelties, self.calibration)


def load(run: str | Path, runs_dir: str | Path = "runs", orientations: int | None = None) -> Loaded:
    """Load a trained method.

    >>> import hep2
    >>> hep2.load("no such run")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    hep2.errors.HEp2Error: runs/no such run holds no finished run that classifies: ...

    Args:
        run: a run's directory, a method's (all its folds, whose probabilities are averaged), a
            name in `runs_dir`; or what `hep2 export` wrote: .hep2, .onnx, .pt2, .zip, or a folder
            for the hub.
        runs_dir: where names are looked for.
        orientations: over how many flips and quarter turns features are averaged, 1 to 8; None: as
            in the runs' own tests.

    Raises:
        HEp2Error: nothing of the kind is there, or it is damaged; the message says what to do.
    """
    path = Path(run)
    if path.suffix in _READERS or (path / CONFIG).is_file():
        return _exported(path)
    return _of_runs(load_ensemble(str(run), Path(runs_dir), orientations), str(run))


def _of_runs(ensemble: Ensemble, name: str) -> Loaded:
    """All that is known here of how runs compute."""
    members = members_of(ensemble.network)

    def encoder() -> Vectors:
        if len(members) > 1:
            one = f"load one of them, e.g. {str(ensemble.runs[0])!r}"
            raise HEp2Error(
                f"{name} holds {len(members)} encoders, whose vectors have nothing in common: "
                f"{one if len(ensemble.runs) > 1 else 'load a run of one of them'}"
            )
        (member,) = members
        return lambda batch: member.representation(batch.image, ensemble.orientations, batch.masks)

    def training() -> "TrainingCells":
        from hep2.prediction.nearest import training_cells  # opens data sets, which few need

        if isinstance(found := training_cells(ensemble), str):
            raise HEp2Error(f"{name}: {found}")
        return found

    return Loaded(
        ensemble.classes, ensemble.image_size, ensemble.channel, ensemble.page,
        ensemble.full_scale, ensemble.masked, name, ensemble.calibration,
        partial(outputs_of, ensemble), encoder, training,
    )  # fmt: skip


def _exported(path: Path) -> Loaded:
    """What `hep2 export` wrote, in any of its formats."""
    model = load_exported(path)

    def outputs(batch: CellBatch) -> Outputs:
        if not len(batch.image):
            return np.empty((0, len(model.classes))), np.empty(0)
        probabilities, *novelty = model.outputs(batch.image.numpy())
        unknown = np.full(len(probabilities), np.nan)
        return probabilities, novelty[0] if novelty else unknown

    def encoder() -> Vectors:
        raise HEp2Error(f"{path} gives no vectors: load the run that it was exported from")

    def training() -> "TrainingCells":
        raise HEp2Error(f"{path} names no training cells: load the run that it was exported from")

    reading = (model.image_size, model.channel, None, model.full_scale)
    return Loaded(model.classes, *reading, False, str(path), model.calibration, outputs, encoder,
                  training)  # fmt: skip


def load_exported(path: Path) -> ExportedModel:
    """Load what `hep2.prediction.export.export` wrote: .onnx, .pt2, bioimage.io zip, hub folder.

    ONNX Runtime runs all of them but .pt2, for which torch is needed. None runs code of the file's.

    Raises:
        HEp2Error: there is no such file, it was not exported from here, it was changed since, or a
            package that it needs is not installed.
    """
    if path.is_dir():
        return read_hub(path)
    if path.suffix not in _READERS:
        raise HEp2Error(f"{path} is no exported model: .onnx, .pt2, .zip, or a folder for the hub")
    if not path.is_file():
        raise HEp2Error(f"there is no {path}")
    return _READERS[path.suffix](path)
