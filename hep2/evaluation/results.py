"""The figures of one method: over its folds, pooled over them, and against another method's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hep2.evaluation import metrics
from hep2.evaluation.groups import Group, pooled_confusions
from hep2.evaluation.metrics import ConfusionStatistic, FloatArray
from hep2.evaluation.runs import Run
from hep2.evaluation.statistics import (
    Interval,
    SignTest,
    holm,
    paired_difference,
    sign_test,
    specimen_interval,
)

POOLED: dict[str, ConfusionStatistic] = {
    "aca": metrics.aca,
    "mca": metrics.mca,
    "macro_f1": metrics.macro_f1,
}


class Spread(NamedTuple):
    """Mean over folds, sample standard deviation (NaN for one fold), and number of folds."""

    mean: float
    sd: float
    folds: int


@dataclass(frozen=True)
class Result:
    """The figures of one method on one data set under one protocol.

    Attributes:
        group: the runs.
        measures: spread over folds of every measure of `metrics.summarise`, by name.
        recalls: spread over folds of each class's recall, in the order of the classes.
        confusion: counts pooled over folds, shape (C, C), rows = output class.
        pooled: aca, mca and macro_f1 of the pooled counts, with their 95 % intervals.
        specimens: number of test specimens; None where they are not known.
        seconds: spread over folds of the wall time, with that of the encoders.
    """

    group: Group
    measures: dict[str, Spread]
    recalls: list[Spread]
    confusion: FloatArray
    pooled: dict[str, Interval]
    specimens: int | None
    seconds: Spread

    @property
    def method(self) -> str:
        """The method's name."""
        return self.group.first.method


@dataclass(frozen=True)
class Comparison:
    """One method against another on the same test cells; `p_holm` is adjusted over the table."""

    first: str
    second: str
    folds: int
    difference: Interval
    signs: SignTest
    p_holm: float


def summarise_group(group: Group) -> Result:
    """Compute the figures of one group.

    A fold's figure is the mean over its seeds; means and deviations run over folds. Where a fold's
    targets lack a class, its recall is left out of that class's mean.
    """
    folds = [_mean_over_seeds([_figures(run) for run in runs]) for runs in group.by_fold.values()]
    classes = len(group.first.classes)
    names, confusions = pooled_confusions(group, group.by_fold)
    known = group.specimens_known
    return Result(
        group=group,
        measures={
            name: spread([fold[name] for fold in folds])
            for name in folds[0]
            if not name.startswith("recall/")
        },
        recalls=[spread([fold[f"recall/{c}"] for fold in folds]) for c in range(classes)],
        confusion=confusions.sum(axis=0),
        pooled={name: _pooled(confusions, statistic, known) for name, statistic in POOLED.items()},
        specimens=len(names) if known else None,
        seconds=wall_time(group.by_fold),
    )


def wall_time(by_fold: Mapping[int, Sequence[Run]]) -> Spread:
    """Seconds a fold, mean over its seeds: of the run, and of the encoders that it started from."""
    return spread(
        [
            spread([run.seconds + run.encoder_seconds for run in runs]).mean
            for runs in by_fold.values()
        ]
    )


def rank(results: Sequence[Result]) -> list[Result]:
    """Sort by mean MCA over folds, best first; equal ones by name."""
    return sorted(results, key=lambda result: (-result.measures["mca"].mean, result.method))


def compare_with_first(results: Sequence[Result]) -> list[Comparison]:
    """Compare the first result with every other, on the folds in which both test the same cells.

    Pairs without such a fold, or without known specimens, are left out. The p-values of the sign
    tests are adjusted for the number of pairs by Holm's method.
    """
    pairs = []
    for other in results[1:]:
        folds = _common_folds(results[0].group, other.group)
        if folds and results[0].group.specimens_known and other.group.specimens_known:
            _, ours = pooled_confusions(results[0].group, folds)
            _, theirs = pooled_confusions(other.group, folds)
            difference = paired_difference(ours, theirs, metrics.mca)
            pairs.append((other.method, len(folds), difference, sign_test(ours, theirs)))
    adjusted = holm([signs.p for *_, signs in pairs])
    return [
        Comparison(results[0].method, method, folds, difference, signs, p)
        for (method, folds, difference, signs), p in zip(pairs, adjusted, strict=True)
    ]


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor n - 1) of the values that are numbers."""
    defined = np.array([value for value in values if not np.isnan(value)])
    mean = float(defined.mean()) if len(defined) else float("nan")
    sd = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    return Spread(mean, sd, len(defined))


def _figures(run: Run) -> dict[str, float]:
    cells, classes = run.cells, len(run.classes)
    figures = metrics.summarise(
        cells.targets, cells.outputs, cells.probabilities, classes, cells.known_specimens
    )
    recalls = metrics.recalls(cells.confusion())
    return figures | {f"recall/{c}": float(recall) for c, recall in enumerate(recalls)}


def _mean_over_seeds(seeds: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: spread([seed.get(name, float("nan")) for seed in seeds]).mean for name in seeds[0]
    }


def _pooled(confusions: FloatArray, statistic: ConfusionStatistic, known: bool) -> Interval:
    if known:
        return specimen_interval(confusions, statistic)
    return Interval(float(statistic(confusions.sum(axis=0))), float("nan"), float("nan"))


def _common_folds(first: Group, second: Group) -> list[int]:
    """Folds in which every run of both groups tests the same cells of the same data."""
    if first.first.data_key != second.first.data_key:
        return []
    both = first.by_fold.keys() & second.by_fold.keys()
    return [
        fold
        for fold in sorted(both)
        if len({_tested(run) for run in first.by_fold[fold] + second.by_fold[fold]}) == 1
    ]


def _tested(run: Run) -> frozenset[tuple[str, str, int]]:
    cells = run.cells
    return frozenset(
        zip(cells.ids.tolist(), cells.specimens.tolist(), cells.targets.tolist(), strict=True)
    )
