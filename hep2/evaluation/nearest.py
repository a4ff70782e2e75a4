"""What a leak is worth to a classifier that understands nothing of cells.

It gives a cell the label of the cell with the most similar histogram of grey levels: brightness
and contrast, which tell a specimen rather than a pattern. On I3A (10,644 cells, estimated
specimens) its MCA is 76 % where cells were dealt out at random and 47 % where specimens were; the
nearest neighbour on pixels, which feels how a cell is turned, has 54 and 48 %.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hep2 import metrics
from hep2.data.audit import CELLS
from hep2.data.cells import Cells, Indices
from hep2.data.protocols import make_split
from hep2.data.split_table import Held
from hep2.evaluation.statistics import Interval, paired_difference, specimen_confusions
from hep2.files import progress_bar
from hep2.metrics import FloatArray, IntArray

LEVELS = 32  # of grey
MOST_FOLDS = 10  # with whole specimens held out
_PRODUCTS = 1 << 22  # similarities at a time; it bounds memory


class Scores(NamedTuple):
    """Metrics of the nearest neighbour, in [0, 1]."""

    mca: float
    aca: float


class Worth(NamedTuple):
    """What the nearest neighbour gets under a split, and with whole specimens held out."""

    given: Scores
    honest: Scores | None  # the same test cells; None where specimens are unknown, or but one
    folds: int  # of the honest one
    difference: Interval | None  # of the MCA, resampled by specimens


def worth_of(cells: Cells, held: Sequence[Held]) -> Worth:
    """Classify the test cells of a split by their nearest neighbours, as it is and honestly.

    Honestly: the same cells under this project's `protocol=specimen`, with as many folds as let the
    classifier learn from about as many cells. Each cell counts once.
    """
    looks, given = histograms(cells), np.full(len(cells), -1)
    for one in progress_bar(held, "nearest neighbours"):
        given[one.test] = cells.labels[nearest(looks, one.learning, one.test)]
    tested = np.flatnonzero(given >= 0)
    specimens = cells.specimens if np.all(cells.specimens != "") else np.full(len(cells), "")
    first = _confusions(cells, specimens, tested, given)
    names = np.unique(specimens)
    if len(names) < 2:
        return Worth(_scores(first), None, 0, None)
    share = len(tested) / len(held) / len(cells)
    folds = min(max(2, round(1 / share)), MOST_FOLDS, len(names))
    honest = np.full(len(cells), -1)
    for fold in progress_bar(range(folds), "whole specimens held out", folds):
        split = make_split(cells, "specimen", fold, folds, 0, 0)
        test = np.intersect1d(split.test, tested)
        honest[test] = cells.labels[nearest(looks, split.train, test)]
    second = _confusions(cells, specimens, tested, honest)
    difference = paired_difference(first, second, metrics.mca)
    return Worth(_scores(first), _scores(second), folds, difference)


def histograms(cells: Cells) -> NDArray[np.float32]:
    """Square roots of the shares of LEVELS grey levels, up to the brightest pixel of all cells.

    The product of two rows, the Bhattacharyya coefficient, is 1 for equal histograms.
    Shape: (N, LEVELS)
    """
    blocks = [slice(start, start + CELLS) for start in range(0, len(cells), CELLS)]
    top = 1.0 + max(float(cells.images[block].max()) for block in blocks)
    counts = np.zeros((len(cells), LEVELS))
    for block in blocks:
        levels = (cells.images[block] * (LEVELS / top)).astype(np.int64).reshape(-1, _pixels(cells))
        shifted = levels + LEVELS * np.arange(len(levels))[:, None]
        found = np.bincount(shifted.ravel(), minlength=levels.shape[0] * LEVELS)
        counts[block] = found.reshape(-1, LEVELS)
    return np.sqrt(counts / _pixels(cells)).astype(np.float32)


def _pixels(cells: Cells) -> int:
    return int(np.prod(cells.images.shape[1:]))


def nearest(looks: NDArray[np.float32], learning: Indices, test: Indices) -> Indices:
    """For each test cell the position of the cell to learn from that looks most like it."""
    step = max(1, _PRODUCTS // len(learning))
    best = np.empty(len(test), dtype=np.int64)
    for start in range(0, len(test), step):
        part = slice(start, start + step)
        best[part] = (looks[test[part]] @ looks[learning].T).argmax(axis=1)
    found: Indices = learning[best]
    return found


def _confusions(
    cells: Cells, specimens: metrics.StringArray, tested: Indices, outputs: IntArray
) -> FloatArray:
    """One matrix a specimen, (S, C, C), of the tested cells."""
    calls = (specimens[tested], cells.labels[tested], outputs[tested])
    return specimen_confusions(*calls, len(cells.classes))[1]


def _scores(confusions: FloatArray) -> Scores:
    total = confusions.sum(axis=0)
    return Scores(float(metrics.mca(total)), float(metrics.aca(total)))
