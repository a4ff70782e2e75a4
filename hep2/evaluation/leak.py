"""What a leak is worth: one method on the same cells, dealt out at random and by specimens."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hep2 import metrics
from hep2.evaluation.results import Group
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
        if protocol != LEAKY or honest is None or not honest.specimens_known:
            continue
        if leaky.first.data_key == honest.first.data_key and leaky.specimens_known:
            gap = _gap(leaky, honest)
            gaps += [gap] if gap else []
    return gaps


def _gap(leaky: Group, honest: Group) -> LeakGap | None:
    common: StringArray = np.intersect1d(_tested(leaky), _tested(honest))
    if not len(common):
        return None
    first, second = _confusions(leaky, common), _confusions(honest, common)
    values = [float(metrics.mca(part.sum(axis=0))) for part in (first, second)]
    return LeakGap(
        leaky,
        values[0],
        values[1],
        paired_difference(first, second, metrics.mca),
        len(common),
        (len(leaky.by_fold), len(honest.by_fold)),
    )


def _tested(group: Group) -> StringArray:
    return np.concatenate([run.cells.ids for run in group.runs])


def _confusions(group: Group, wanted: StringArray) -> FloatArray:
    """Counts of the wanted cells by specimen, (S, C, C); seeds share a cell's weight."""
    cells = [run.cells for run in group.runs]
    ids = np.concatenate([part.ids for part in cells])
    names, place, times = np.unique(ids, return_inverse=True, return_counts=True)
    chosen = np.isin(names, wanted)[place]
    columns: Sequence[FloatArray | StringArray] = [
        np.concatenate([getattr(part, name) for part in cells])[chosen]
        for name in ("specimens", "targets", "outputs")
    ]
    specimens, targets, outputs = columns
    _, counts = specimen_confusions(
        np.asarray(specimens, dtype=np.str_),
        np.asarray(targets, dtype=np.int64),
        np.asarray(outputs, dtype=np.int64),
        len(group.first.classes),
        1.0 / times[place][chosen],
    )
    return counts
