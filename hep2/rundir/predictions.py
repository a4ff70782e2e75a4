"""predictions.csv: one row a test cell; written, and read back with every row checked.

held_out.csv has the same columns, of training cells that were held out to calibrate with.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hep2.calls.calibration import HeldOut
from hep2.calls.unlike import is_unlike
from hep2.data.cells import Cells, Indices
from hep2.data.manifest import LONGEST
from hep2.metrics import FloatArray, IntArray, StringArray, confusion_counts
from hep2.rundir.directory import damaged

NOVELTY = "novelty"  # a column that is there where an autoencoder could tell
_ROUNDING = 1e-3  # by how much a row's probabilities may miss a sum of one
_OVERSHOOT = 1e-6  # by how much one probability may pass 0 or 1, in single precision


Columns = Mapping[str, Sequence[str]]  # texts, by the name of the column


@dataclass(frozen=True)
class Predictions:
    """The N test cells of one run."""

    ids: StringArray  # unique, shape (N,)
    specimens: StringArray  # shape (N,); empty where they are not known
    targets: IntArray  # class indices, shape (N,)
    outputs: IntArray  # class indices, shape (N,)
    probabilities: FloatArray  # shape (N, C), each row sums to one
    # An autoencoder's error over what is usual, shape (N,); None where there was none to tell.
    novelty: FloatArray | None = None

    @property
    def known_specimens(self) -> StringArray | None:
        """Specimen names, shape (N,); None when any cell's is not known."""
        return self.specimens if bool((self.specimens != "").all()) else None

    @property
    def unlike(self) -> NDArray[np.bool_] | None:
        """Whether each is unlike the training cells, shape (N,); None where nobody can tell."""
        return None if self.novelty is None else is_unlike(self.novelty)

    def confusion(self) -> FloatArray:
        """Counts, shape (C, C), rows = output class."""
        return confusion_counts(self.targets, self.outputs, self.probabilities.shape[1])


def cells_table(cells: Cells, rows: Indices, columns: Columns) -> str:
    """A CSV with one row for each of some cells: id, specimen, target, and more columns."""
    targets = np.array(cells.classes)[cells.labels[rows]]
    return _table(cells.ids[rows], cells.specimens[rows], targets, columns)


def predictions_csv(
    cells: Cells,
    rows: Indices,
    probabilities: NDArray[np.float64],
    novelty: FloatArray | None = None,
) -> str:
    """One row for each of some cells: id, specimen, target, output, probabilities, any novelty.

    Probabilities are written with nine significant digits: enough to tell float32 values apart.
    """
    columns = _named(cells.classes, probabilities)
    if novelty is not None:
        columns[NOVELTY] = [f"{value:.6g}" for value in novelty]
    return cells_table(cells, rows, columns)


def held_out_csv(held: HeldOut, classes: Sequence[str]) -> str:
    """The same columns, one row a cell that was held out."""
    targets = np.array(classes)[held.labels]
    return _table(held.ids, held.specimens, targets, _named(classes, held.probabilities))


def _table(ids: StringArray, specimens: StringArray, targets: StringArray, columns: Columns) -> str:
    frame = pd.DataFrame({"id": ids, "specimen": specimens, "target": targets, **columns})
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def _named(classes: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, Sequence[str]]:
    """The columns of a classifier: output, and one probability a class."""
    columns: dict[str, Sequence[str]] = {}
    columns["output"] = [classes[index] for index in probabilities.argmax(axis=1)]
    for name, shares in zip(classes, probabilities.T, strict=True):
        columns[f"p_{name}"] = [f"{share:.9g}" for share in shares]
    return columns


def read_cells_table(file: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """A CSV of test cells, all of it as texts.

    Raises:
        ValueError: a wanted column is missing, a row has too many columns, or there is no row.
        OSError: the file cannot be read.
    """
    try:
        lines = pd.read_csv(file, header=None, dtype=str, na_filter=False, skip_blank_lines=False)
    except pd.errors.ParserError as error:
        long = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if long is None:
            raise
        raise ValueError(f"row {long[2]} has {long[3]} columns, not {long[1]}") from error
    header = lines.iloc[0].tolist()
    if missing := [column for column in wanted if header.count(column) != 1]:
        raise ValueError(f"row 1 has not one column each for {', '.join(missing)}")
    if len(lines) == 1:
        raise ValueError("there is no row below the header")
    return lines[1:].set_axis(header, axis=1)


def read_predictions(file: Path, classes: tuple[str, ...]) -> Predictions:
    """Read and check predictions.csv: `id,specimen,target,output,p_<class>,...`, perhaps more.

    Raises:
        HEp2Error: a column is missing or a row is bad; the message names file, row and remedy.
    """
    shares = [f"p_{name}" for name in classes]
    try:
        table = read_cells_table(file, ["id", "specimen", "target", "output", *shares])
        _check_texts(table, classes)
        probabilities = _probabilities(table[shares].to_numpy())
        novelty = _novelty(table[[NOVELTY]].to_numpy()) if NOVELTY in table else None
    except (ValueError, OSError) as error:
        raise damaged(file, str(error)) from error
    ids, specimens = (table[name].to_numpy(np.str_) for name in ("id", "specimen"))
    index = {name: position for position, name in enumerate(classes)}
    targets = table["target"].map(index).to_numpy().astype(np.int64)
    outputs = table["output"].map(index).to_numpy().astype(np.int64)
    return Predictions(ids, specimens, targets, outputs, probabilities, novelty)


def _check_texts(table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    ids, patterns = table["id"], table[["target", "output"]]
    # pandas fills up a row that is too short, and what it fills up with is empty
    if row := _first((table[f"p_{classes[-1]}"] == "") & (table.iloc[:, -1] == "")):
        found = max(np.flatnonzero(table.iloc[row - 2] != "") + 1, default=0)
        raise ValueError(f"row {row} has {found} columns, not {table.shape[1]}")
    if row := _first((table[["id", "specimen"]].map(len) > LONGEST).any(axis=1)):
        raise ValueError(f"row {row}: a name of more than {LONGEST} characters")
    if row := _first((ids == "") | ids.duplicated()):
        raise ValueError(f"row {row}: id {ids.iloc[row - 2]!r} is empty or already in use")
    if row := _first(~patterns.isin(classes).all(axis=1)):
        target, output = patterns.iloc[row - 2]
        raise ValueError(f"row {row}: {target!r} or {output!r} is not a class of the run")


def _probabilities(texts: NDArray[np.object_]) -> FloatArray:
    """Texts, shape (N, C), as shares of one."""
    shares = _numbers(texts)
    inside = ((shares >= -_OVERSHOOT) & (shares <= 1 + _OVERSHOOT)).all(axis=1)
    if bad := _first(~(inside & (np.abs(shares.sum(axis=1) - 1) <= _ROUNDING))):
        given = ", ".join(texts[bad - 2])
        raise ValueError(f"row {bad}: probabilities {given} are not shares of one")
    return shares


def _novelty(texts: NDArray[np.object_]) -> FloatArray:
    """Texts, shape (N, 1), as errors in units of what is usual, shape (N,)."""
    found = _numbers(texts)[:, 0]
    if bad := _first(~(np.isfinite(found) & (found >= 0))):
        raise ValueError(f"row {bad}: a {NOVELTY} of {texts[bad - 2][0]}")
    return found


def _numbers(texts: NDArray[np.object_]) -> FloatArray:
    """Texts as numbers, of the same shape, (N, K)."""
    found = np.empty(texts.shape)
    for row, line in enumerate(texts, start=2):
        try:
            found[row - 2] = [float(text) for text in line]
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
    return found


def _first(bad: ArrayLike) -> int | None:
    """The row of the file (the header is row 1) in which something is true first."""
    return int(np.argmax(bad)) + 2 if np.any(bad) else None
