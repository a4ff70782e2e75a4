"""The runs of one method and their metrics: over folds, pooled, and against another method."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from hep2 import metrics
from hep2.calls.figures import cell_figures, specimen_figures
from hep2.errors import HEp2Error
from hep2.evaluation import statistics
from hep2.evaluation.statistics import Interval, SignTest
from hep2.files import escape_formula
from hep2.metrics import HEADLINE, RANKED_BY, FloatArray, StringArray
from hep2.rundir.result import Run, data_label, protocol_label

NAN = float("nan")
NO_INTERVAL = Interval(NAN, NAN, NAN)


class Spread(NamedTuple):
    """Mean over folds, sample standard deviation (NaN for one fold), and number of folds."""

    mean: float
    sd: float
    folds: int


@dataclass(frozen=True)
class Group:
    """The finished runs of one method on one data set under one protocol, by fold, then seed."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """Any of them, for what is the same for all."""
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

    @property
    def finished_folds(self) -> str:
        """How many folds are finished, and of how many if not all: "5" or "3 of 5"."""
        finished, folds = len(self.by_fold), self.first.folds
        return str(folds) if finished == folds else f"{finished} of {folds}"

    @property
    def seconds(self) -> Spread:
        """Wall time of a run and of the encoders that it started from, over folds."""
        return self.spread([run.seconds + run.encoder_seconds for run in self.runs])

    def spread(self, values: Iterable[float]) -> Spread:
        """Spread over folds of one value a run, in their order: of the means over seeds."""
        folds: dict[int, list[float]] = {}
        for run, value in zip(self.runs, values, strict=True):
            folds.setdefault(run.fold, []).append(value)
        return spread([spread(seeds).mean for seeds in folds.values()])


@dataclass(frozen=True)
class Result:
    """The metrics of one method on one data set under one protocol."""

    group: Group
    measures: dict[str, Spread]  # over folds, of every metric of `metrics.summarise`, by name
    recalls: list[Spread]  # over folds, in the order of the classes
    confusion: FloatArray  # counts pooled over folds, shape (C, C), rows = output class
    pooled: dict[str, Interval]  # headline metrics of the pooled counts, with 95 % intervals
    specimens: int | None  # number of test specimens; None where they are not known

    @property
    def method(self) -> str:
        """Its name."""
        return self.group.first.method

    def measure(self, name: str) -> Spread:
        """A metric over folds; NaN where no run has it."""
        return self.measures.get(name, Spread(NAN, NAN, 0))


@dataclass(frozen=True)
class Comparison:
    """One method against another on the same test cells; `p_holm` is adjusted over the table."""

    first: str
    second: str
    folds: int
    difference: Interval
    signs: SignTest
    p_holm: float


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
    both = f"{earlier.path} and {later.path}"
    for what in ("data_key", "classes", "folds", "synthetic", "leaky"):
        here, there = getattr(earlier, what), getattr(later, what)
        if here != there:
            differ = f"their {what} differ ({here} and {there})"
            raise HEp2Error(f"{both} cannot be pooled, {differ}: {remedy}")
    if (earlier.fold, earlier.seed) == (later.fold, later.seed):
        raise HEp2Error(f"{both} are the same fold and seed: {remedy}")


def columns(runs: Sequence[Run], *names: str) -> list[Any]:
    """Columns of `Predictions`, e.g. "targets", of several runs one below the other."""
    return [np.concatenate([getattr(run.cells, name) for run in runs]) for name in names]


def pooled_confusions(group: Group, folds: Iterable[int]) -> tuple[StringArray, FloatArray]:
    """Add up the test cells of several folds, one confusion matrix a specimen.

    The seeds of a fold share its weight, so a fold trained twice counts once. A protocol that tests
    a cell in several folds (`published`) counts it as often, always within its specimen.

    Returns:
        Specimen names (S,), one empty name where they are not known; counts (S, C, C).
    """
    members = group.by_fold
    runs = [run for fold in folds for run in members[fold]]
    weights = [np.full(len(run.cells.ids), 1 / len(members[run.fold])) for run in runs]
    specimens, targets, outputs = columns(runs, "specimens", "targets", "outputs")
    classes = len(group.first.classes)
    counted = np.concatenate(weights)
    return statistics.specimen_confusions(specimens, targets, outputs, classes, counted)


def summarise_group(group: Group) -> Result:
    """Compute the metrics of one group.

    A fold's value is the mean over its seeds; means and deviations run over folds. Where a fold's
    targets lack a class, its recall is left out of that class's mean.
    """
    cells = [run.cells for run in group.runs]
    scores = [_summarise_run(run) for run in group.runs]
    recalls = np.array([metrics.recalls(c.confusion()) for c in cells])  # (runs, C)
    names, confusions = pooled_confusions(group, group.by_fold)
    known, total = group.specimens_known, confusions.sum(axis=0)
    return Result(
        group=group,
        measures={
            name: group.spread([s.get(name, NAN) for s in scores])
            for name in dict.fromkeys(chain(*scores))
        },
        recalls=[group.spread(column) for column in recalls.T.tolist()],
        confusion=total,
        pooled={
            metric.name: statistics.specimen_interval(confusions, metric.function)
            if known
            else Interval(float(metric.function(total)), NAN, NAN)
            for metric in HEADLINE
        },
        specimens=len(names) if known else None,
    )


def _summarise_run(run: Run) -> dict[str, float]:
    """Metrics of its cells, and how far its answers can be believed."""
    cells, known = run.cells, run.calibration
    called, specimens = (cells.targets, cells.outputs, cells.probabilities), cells.known_specimens
    found = metrics.summarise(*called, len(run.classes), specimens) | cell_figures(*called, known)
    if specimens is None:
        return found
    named = (specimens, cells.targets, cells.probabilities)
    return found | specimen_figures(*named, known, cells.unlike)


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor n - 1) of the values that are numbers."""
    defined = np.array([value for value in values if not np.isnan(value)])
    mean = float(defined.mean()) if len(defined) else NAN
    sd = float(defined.std(ddof=1)) if len(defined) > 1 else NAN
    return Spread(mean, sd, len(defined))


def rank(results: Sequence[Result]) -> list[Result]:
    """Sort by mean MCA over folds, best first, equal ones by name; `behind` comes last."""
    last = behind(results)
    return sorted(results, key=lambda r: (r.method in last, -r.measures[RANKED_BY].mean, r.method))


def behind(results: Sequence[Result]) -> set[str]:
    """The methods that lack folds which others have: folds differ more than methods do.

    None where a single method has them all: while a sweep runs, that is the quickest, not the best.
    """
    most = max(len(result.group.by_fold) for result in results)
    lacking = {result.method for result in results if len(result.group.by_fold) < most}
    return lacking if len(results) - len(lacking) > 1 else set()


def compare_with_first(results: Sequence[Result]) -> list[Comparison]:
    """Compare the first result with every other, on the folds in which both test the same cells.

    Pairs without such a fold, or without known specimens, are left out. The p-values of the sign
    tests are adjusted for the number of pairs by Holm's method.
    """
    first, pairs = results[0].group, []
    for other in [result.group for result in results[1:]]:
        folds = _common_folds(first, other)
        if folds and first.specimens_known and other.specimens_known:
            (_, ours), (_, theirs) = (pooled_confusions(group, folds) for group in (first, other))
            difference = statistics.paired_difference(ours, theirs, metrics.mca)
            pairs.append((other, len(folds), difference, statistics.sign_test(ours, theirs)))
    adjusted = statistics.holm([signs.p for *_, signs in pairs])
    return [
        Comparison(first.first.method, other.first.method, folds, difference, signs, p)
        for (other, folds, difference, signs), p in zip(pairs, adjusted, strict=True)
    ]


def _common_folds(first: Group, second: Group) -> list[int]:
    """Folds in which every run of both groups tests the same cells of the same data."""

    def tested(run: Run) -> frozenset[tuple[str, str, int]]:
        rows = (column.tolist() for column in columns([run], "ids", "specimens", "targets"))
        return frozenset(zip(*rows, strict=True))

    if first.first.data_key != second.first.data_key:
        return []
    ours, theirs = first.by_fold, second.by_fold
    both = sorted(ours.keys() & theirs.keys())
    return [fold for fold in both if len({tested(run) for run in ours[fold] + theirs[fold]}) == 1]


def results_csv(results: Iterable[Result]) -> str:
    """One row a (method, metric), values in [0, 1]; metrics are named `<protocol>/test/<name>`.

    Texts that a spreadsheet would run as a formula get an apostrophe in front (CSV injection).
    """
    import pandas

    rows: list[tuple[Result, str, Spread]] = []
    for result in results:
        rows += [(result, name, values) for name, values in result.measures.items()]
        recalls = zip(result.group.first.classes, result.recalls, strict=True)
        rows += [(result, f"recall/{name}", values) for name, values in recalls]
    frame = pandas.DataFrame({name: [of(*row) for row in rows] for name, of in _COLUMNS.items()})
    text: str = frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    return text


_COLUMNS: dict[str, Callable[[Result, str, Spread], object]] = {
    "data": lambda result, *_: escape_formula(data_label(result.group.first)),
    "synthetic": lambda result, *_: str(result.group.first.synthetic).lower(),
    "protocol": lambda result, *_: escape_formula(protocol_label(result.group.first)),
    "leaky": lambda result, *_: str(result.group.first.leaky).lower(),
    "method": lambda result, *_: escape_formula(result.method),
    "metric": lambda r, name, _: escape_formula(f"{protocol_label(r.group.first)}/test/{name}"),
    "mean": lambda _, name, values: values.mean,
    "sd": lambda _, name, values: values.sd,
    "folds_with_value": lambda _, name, values: values.folds,
    "folds_finished": lambda result, *_: len(result.group.by_fold),
    "folds": lambda result, *_: result.group.first.folds,
    "missing_folds": lambda result, *_: " ".join(map(str, result.group.missing_folds)),
    "seeds": lambda result, *_: " ".join(map(str, sorted({run.seed for run in result.group.runs}))),
    "pooled": lambda result, name, _: result.pooled.get(name, NO_INTERVAL).estimate,
    "pooled_low": lambda result, name, _: result.pooled.get(name, NO_INTERVAL).low,
    "pooled_high": lambda result, name, _: result.pooled.get(name, NO_INTERVAL).high,
}
