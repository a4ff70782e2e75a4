"""What a leak is worth: one method on the same cells, dealt out at random and by specimens."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hep2 import metrics
from hep2.evaluation.results import Group, columns
from hep2.evaluation.statistics import Interval, paired_difference, specimen_confusions
from hep2.metrics import FloatArray, StringArray

LEAKY, HONEST = "random", "specimen"


class LeakGap(NamedTuple):
    """MCA of a method under both protocols on the same test cells, and the difference."""

    group: Group  # of the leaky protocol
    leaky: float
    honest: float
    difference: Interval
    cells: int
    folds: tuple[int, int]  # finished, of each


def leak_gaps(groups: Iterable[Group]) -> list[LeakGap]:
    """Compare, for every method, the protocols `random` and `specimen`.

    Both test every cell once, each in a fold of its own, so the comparison is paired: on the cells
    that both have tested (all of them when all folds are finished), resampled by specimens.
    Methods with one of the protocols alone, or with different data, are left out.
    """
    known = {(g.first.data, g.first.method, g.first.protocol): g for g in groups}
    gaps = []
    for (data, method, protocol), leaky in known.items():
        honest = known.get((data, method, HONEST))
        if protocol != LEAKY or honest is None or leaky.first.data_key != honest.first.data_key:
            continue
        if leaky.specimens_known and honest.specimens_known:
            gap = _gap(leaky, honest)
            gaps += [gap] if gap else []
    return gaps


def _gap(leaky: Group, honest: Group) -> LeakGap | None:
    (ours,), (theirs,) = columns(leaky.runs, "ids"), columns(honest.runs, "ids")
    common: StringArray = np.intersect1d(ours, theirs)
    if not len(common):
        return None
    first, second = _confusions(leaky, common), _confusions(honest, common)
    return LeakGap(
        group=leaky,
        leaky=float(metrics.mca(first.sum(axis=0))),
        honest=float(metrics.mca(second.sum(axis=0))),
        difference=paired_difference(first, second, metrics.mca),
        cells=len(common),
        folds=(len(leaky.by_fold), len(honest.by_fold)),
    )


def _confusions(group: Group, wanted: StringArray) -> FloatArray:
    """Counts of the wanted cells by specimen, (S, C, C); seeds share a cell's weight."""
    ids, *calls = columns(group.runs, "ids", "specimens", "targets", "outputs")
    chosen = np.isin(ids, wanted)
    _, place, times = np.unique(ids[chosen], return_inverse=True, return_counts=True)
    specimens, targets, outputs = (column[chosen] for column in calls)
    classes = len(group.first.classes)
    return specimen_confusions(specimens, targets, outputs, classes, 1.0 / times[place])[1]
