"""The figures of one method: over its folds, pooled over them, and against another method's."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hep2 import metrics
from hep2.errors import HEp2Error
from hep2.evaluation.statistics import (
    Interval,
    SignTest,
    holm,
    paired_difference,
    sign_test,
    specimen_confusions,
    specimen_interval,
)
from hep2.files import neutral
from hep2.metrics import ConfusionStatistic, FloatArray, StringArray
from hep2.rundir.result import Run, data_label, protocol_label


@dataclass(frozen=True)
class Group:
    """The finished runs of one method on one data set under one protocol, by fold, then seed."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """Any of them: what is asked of it is the same for all."""
        return self.runs[0]

    @property
    def by_fold(self) -> dict[int, list[Run]]:
        """The runs of each finished fold, one a seed."""
        folds: dict[int, list[Run]] = {}
        for run in self.runs:
            folds.setdefault(run.fold, []).append(run)
        return folds

    @property
    def specimens_known(self) -> bool:
        """Whether every test cell names its specimen."""
        return all(run.cells.known_specimens is not None for run in self.runs)

    @property
    def missing_folds(self) -> list[int]:
        """Folds of the protocol that no finished run covers."""
        return sorted(set(range(self.first.folds)) - {run.fold for run in self.runs})


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Group the runs that classify by (data, protocol, method), in that order.

    Raises:
        HEp2Error: runs that would be pooled differ in data key, classes or number of folds, or two
            are of the same fold and seed. The message names both directories.
    """
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.predictions is not None:
            groups.setdefault((run.data, run.protocol, run.method), []).append(run)
    for members in groups.values():
        members.sort(key=lambda run: (run.fold, run.seed))
        for earlier, later in pairwise(members):
            _check_poolable(earlier, later)
    return [Group(tuple(groups[key])) for key in sorted(groups)]


def _check_poolable(earlier: Run, later: Run) -> None:
    remedy = "give one of them another name=..., or delete it"
    for what in ("data_key", "classes", "folds", "synthetic", "leaky"):
        here, there = getattr(earlier, what), getattr(later, what)
        if here != there:
            raise HEp2Error(
                f"{earlier.path} and {later.path} cannot be pooled, their {what} differ "
                f"({here} and {there}): {remedy}"
            )
    if (earlier.fold, earlier.seed) == (later.fold, later.seed):
        raise HEp2Error(f"{earlier.path} and {later.path} are the same fold and seed: {remedy}")


def pooled_confusions(group: Group, folds: Iterable[int]) -> tuple[StringArray, FloatArray]:
    """Add up the test cells of several folds, one confusion matrix a specimen.

    The seeds of a fold share its weight, so a fold trained twice counts once. A protocol that tests
    a cell in several folds (`published`) counts it as often, always within its specimen.

    Returns:
        Specimen names, shape (S,), one empty name where they are not known; counts, shape
        (S, C, C), rows = output class.
    """
    by_fold = group.by_fold
    parts = [(run, 1 / len(by_fold[fold])) for fold in folds for run in by_fold[fold]]
    tables = [(run.cells, weight) for run, weight in parts]
    return specimen_confusions(
        np.concatenate([cells.specimens for cells, _ in tables]),
        np.concatenate([cells.targets for cells, _ in tables]),
        np.concatenate([cells.outputs for cells, _ in tables]),
        len(group.first.classes),
        np.concatenate([np.full(len(cells.ids), weight) for cells, weight in tables]),
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


CSV_COLUMNS = (
    "data", "synthetic", "protocol", "leaky", "method", "metric", "mean", "sd", "folds_with_value",
    "folds_finished", "folds", "missing_folds", "seeds", "pooled", "pooled_low", "pooled_high",
)  # fmt: skip


def results_csv(results: Iterable[Result]) -> str:
    """One row a (method, metric), values in [0, 1]; metrics are named `<protocol>/test/<name>`.

    Texts that a spreadsheet would run as a formula get an apostrophe in front (OWASP, CSV
    injection).
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for result in results:
        for name, values in _named_spreads(result):
            interval = result.pooled.get(name, Interval(math.nan, math.nan, math.nan))
            writer.writerow([*_csv_head(result, name), *_csv_numbers(result, values, interval)])
    return lines.getvalue()


def _named_spreads(result: Result) -> list[tuple[str, Spread]]:
    classes = result.group.first.classes
    by_class = zip(classes, result.recalls, strict=True)
    return [*result.measures.items(), *((f"recall/{name}", values) for name, values in by_class)]


def _csv_head(result: Result, name: str) -> list[str]:
    run = result.group.first
    metric = f"{protocol_label(run)}/test/{name}"
    truth = {True: "true", False: "false"}
    texts = [data_label(run), truth[run.synthetic], protocol_label(run), truth[run.leaky]]
    return [neutral(text) for text in [*texts, run.method, metric]]


def _csv_numbers(result: Result, values: Spread, interval: Interval) -> list[str]:
    group = result.group
    counts = [values.folds, len(group.by_fold), group.first.folds]
    return [
        _number(values.mean),
        _number(values.sd),
        *map(str, counts),
        " ".join(map(str, group.missing_folds)),
        " ".join(map(str, sorted({run.seed for run in group.runs}))),
        *map(_number, interval),
    ]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
