"""The predictions of one run (predictions.csv), read back with every row checked."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hep2.data.fold import Fold
from hep2.data.manifest import LONGEST
from hep2.errors import HEp2Error
from hep2.metrics import FloatArray, IntArray, StringArray, confusion_counts

_ROUNDING = 1e-3  # by how much a row's probabilities may miss a sum of one
_OVERSHOOT = 1e-6  # by how much one probability may pass 0 or 1, in single precision


@dataclass(frozen=True)
class Predictions:
    """The test cells of one run.

    Attributes:
        ids: cell IDs, unique, shape (N,).
        specimens: specimen names, shape (N,); all empty where they are not known.
        targets: target class indices, shape (N,).
        outputs: output class indices, shape (N,).
        probabilities: shape (N, C), each row sums to one.
    """

    ids: StringArray
    specimens: StringArray
    targets: IntArray
    outputs: IntArray
    probabilities: FloatArray

    @property
    def known_specimens(self) -> StringArray | None:
        """Specimen names, shape (N,); None when any cell's is not known."""
        return self.specimens if bool((self.specimens != "").all()) else None

    def confusion(self) -> FloatArray:
        """Counts, shape (C, C), rows = output class."""
        return confusion_counts(self.targets, self.outputs, self.probabilities.shape[1])


def read_predictions(file: Path, classes: tuple[str, ...], remedy: str) -> Predictions:
    """Read and check predictions.csv.

    Args:
        file: the CSV, columns `id,specimen,target,output,p_<class>,...`; more columns are ignored.
        classes: pattern names, in the order of the indices.
        remedy: what an error tells the user to do.

    Raises:
        HEp2Error: a column is missing or a row is bad; the message names file, row and remedy.
    """
    index = {name: position for position, name in enumerate(classes)}
    ids: dict[str, int] = {}
    specimens, targets, outputs, probabilities = [], [], [], []
    try:
        for number, row in _rows(file, ["id", "specimen", "target", "output"], classes):
            name, specimen, target, output = row[:4]
            if max(len(name), len(specimen)) > LONGEST:
                raise ValueError(f"row {number}: a name of more than {LONGEST} characters")
            if not name or name in ids:
                raise ValueError(f"row {number}: id {name!r} is empty or already in use")
            if target not in index or output not in index:
                raise ValueError(f"row {number}: {target!r} or {output!r} is no class of the run")
            ids[name] = number
            specimens.append(specimen)
            targets.append(index[target])
            outputs.append(index[output])
            probabilities.append(_shares(number, row[4:]))
    except (ValueError, csv.Error, OSError) as error:
        raise HEp2Error(f"{file} is damaged or foreign: {error}; {remedy}") from error
    return Predictions(
        ids=np.array(list(ids), dtype=np.str_),
        specimens=np.array(specimens, dtype=np.str_),
        targets=np.array(targets, dtype=np.int64),
        outputs=np.array(outputs, dtype=np.int64),
        probabilities=np.array(probabilities, dtype=np.float64),
    )


def _rows(
    file: Path, fixed: list[str], classes: tuple[str, ...]
) -> Iterator[tuple[int, list[str]]]:
    """Number (the header is row 1) and wanted cells of each row: the fixed columns, then p_..."""
    with file.open(newline="", encoding="utf-8") as opened:
        lines = csv.reader(opened, strict=True)
        header = next(lines, [])
        wanted = fixed + [f"p_{name}" for name in classes]
        missing = [column for column in wanted if header.count(column) != 1]
        if missing:
            raise ValueError(f"row 1 has not one column each for {', '.join(missing)}")
        places = [header.index(column) for column in wanted]
        number = 1
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise ValueError(f"row {number} has {len(line)} columns, not {len(header)}")
            yield number, [line[place] for place in places]
        if number == 1:
            raise ValueError("there is no row below the header")


def _shares(number: int, texts: list[str]) -> list[float]:
    try:
        shares = [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from error
    inside = all(-_OVERSHOOT <= share <= 1 + _OVERSHOOT for share in shares)
    if not inside or abs(sum(shares) - 1) > _ROUNDING:
        raise ValueError(f"row {number}: probabilities {', '.join(texts)} are no shares of one")
    return shares


def predictions_csv(fold: Fold, probabilities: NDArray[np.float64]) -> str:
    """One row a test cell: id, specimen, target, output, one probability a class.

    Probabilities are written with nine significant digits: enough to tell float32 values apart.
    """
    cells, test = fold.cells, fold.split.test
    classes = cells.classes
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "specimen", "target", "output", *(f"p_{name}" for name in classes)])
    for cell, row in zip(test, probabilities, strict=True):
        target, output = classes[cells.labels[cell]], classes[int(row.argmax())]
        writer.writerow(
            [cells.ids[cell], cells.specimens[cell], target, output, *(f"{p:.9g}" for p in row)]
        )
    return text.getvalue()
