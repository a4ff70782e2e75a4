"""What a leak is worth: one method on the same cells, split at random and by specimens."""

from collections.abc import Sequence
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


def leak_gaps(groups: Sequence[Group]) -> list[LeakGap]:
    """Compare, for every method, the protocols `random` and `specimen`.

    Both test every cell once, so the comparison is paired: on the cells that both have tested (all
    of them when all folds are finished), resampled by specimens. Methods with one of the protocols
    alone, or with different data, are left out.
    """
    leaky, honest = (
        {(group.first.data, group.first.data_key, group.first.method): group
         for group in groups if group.first.protocol == protocol and group.specimens_known}
        for protocol in (LEAKY, HONEST)
    )  # fmt: skip
    gaps = [_gap(leaky[place], honest[place]) for place in leaky if place in honest]
    return [gap for gap in gaps if gap]


def _gap(leaky: Group, honest: Group) -> LeakGap | None:
    common = np.intersect1d(*(columns(group.runs, "ids")[0] for group in (leaky, honest)))
    if not len(common):
        return None
    first, second = (_confusions(group, common) for group in (leaky, honest))
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
