"""The answers of a method for its test specimens, pooled over folds, with intervals by specimen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hep2 import metrics
from hep2.calls.answer import Call, cells_needed
from hep2.calls.conformal import prediction_sets
from hep2.calls.figures import called_against_error, calls
from hep2.calls.specimens import RULES, LearnedRule, Specimens, patterns_of, wilson
from hep2.evaluation import statistics
from hep2.evaluation.results import NO_INTERVAL, Group
from hep2.evaluation.statistics import Interval
from hep2.metrics import FloatArray, StringArray
from hep2.rundir.artifacts import cells_needed_of
from hep2.rundir.result import Run


class Answer(NamedTuple):
    """What a run said of one test specimen; patterns are indices."""

    specimen: str
    target: int
    second: int | None  # the pattern of its other cells, where it is mixed
    share: float  # of them
    said: Call
    needed: int  # cells, for the same pattern
    rules: dict[str, int]  # the pattern by each of RULES that there is
    sets: dict[float, tuple[int, ...]]  # by alpha

    @property
    def both_named(self) -> bool:
        """Whether a mixed one's two patterns are named, in whatever order."""
        return {self.said.pattern, self.said.second} == {self.target, self.second}


@dataclass(frozen=True)
class Answers:
    """All of a method's; a specimen that was tested in several folds or seeds counts once."""

    every: list[Answer]
    classes: int
    calibrated: bool  # whether every run was

    @property
    def names(self) -> StringArray:
        """Of the specimens, one an answer, (R,)."""
        return np.array([one.specimen for one in self.every])

    @property
    def weights(self) -> FloatArray:
        """What each answer counts, (R,); those of one specimen count 1 together."""
        _, owner, sizes = np.unique(self.names, return_inverse=True, return_counts=True)
        return np.asarray(1 / sizes[owner])

    @property
    def count(self) -> int:
        """The number of specimens."""
        return len(np.unique(self.names))

    @property
    def alphas(self) -> list[float]:
        """Those that every run has sets of."""
        each = [set(one.sets) for one in self.every]
        return sorted(set.intersection(*each), reverse=True) if self.calibrated else []

    @property
    def rules(self) -> list[str]:
        """Those that every run has."""
        return [rule for rule in RULES if all(rule in one.rules for one in self.every)]

    def confusions(self, rule: str = "mean") -> FloatArray:
        """One matrix a specimen, (S, C, C), rows = output class."""
        targets, outputs = ([one.target for one in self.every], self.by(rule))
        index = (np.array(targets), np.array(outputs), self.classes, self.weights)
        return statistics.specimen_confusions(self.names, *index)[1]

    def by(self, rule: str) -> list[int]:
        """The pattern of each answer by a rule."""
        return [one.rules[rule] for one in self.every]

    def share(self, holds: list[bool], of: list[bool] | None = None) -> Interval:
        """How often something holds (of those that something else holds of), by Wilson."""
        weights = self.weights * (1 if of is None else np.array(of, dtype=np.float64))
        if not (total := float(weights.sum())):
            return NO_INTERVAL
        here = float(weights @ np.array(holds, dtype=np.float64)) / total
        low, high = wilson(np.array([here]), total)
        return Interval(here, float(low[0]), float(high[0]))

    def accuracy(self, rule: str) -> Interval:
        """Share of specimens that a rule names rightly."""
        return self.share([one.rules[rule] == one.target for one in self.every])

    def metric(self, statistic: metrics.ConfusionStatistic) -> Interval:
        """A metric of calls by mean probability, with its interval by bootstrap."""
        return statistics.percentile_interval(self.confusions(), statistic)

    def gain(self, rule: str) -> Interval:
        """Accuracy of a rule minus that of the mean, on the same specimens."""
        mean = self.confusions()
        return statistics.percentile_interval(self.confusions(rule), metrics.aca, mean)

    def coverage(self, alpha: float) -> Interval:
        """Share of specimens whose set holds the right pattern."""
        return self.share([one.target in one.sets[alpha] for one in self.every])

    def set_size(self, alpha: float) -> float:
        """Mean number of patterns in a set."""
        sizes = [len(one.sets[alpha]) for one in self.every]
        return float(np.average(sizes, weights=self.weights))

    @property
    def said(self) -> Interval:
        """Share of specimens that the machine calls."""
        return self.share([one.said.said for one in self.every])

    @property
    def error_said(self) -> Interval:
        """Share of wrong ones among them."""
        wrong = [one.rules["mean"] != one.target for one in self.every]
        return self.share(wrong, [one.said.said for one in self.every])

    @property
    def invented(self) -> Interval:
        """Share of specimens of one pattern for which a second one is named."""
        named = [one.said.second is not None for one in self.every]
        return self.share(named, [one.second is None for one in self.every])

    @property
    def tenths(self) -> list[int]:
        """The shares of second patterns that there are, in tenths."""
        return sorted({round(10 * one.share) for one in self.every if one.second is not None})

    def both_named(self, tenths: int) -> Interval:
        """Share of mixed specimens, of about this share, of which both patterns are named."""
        mixed = [one.second is not None and round(10 * one.share) == tenths for one in self.every]
        return self.share([one.both_named for one in self.every], mixed)

    @property
    def curve(self) -> FloatArray:
        """Share called and error among them, the surest first, (P, 2)."""
        right = np.array([one.rules["mean"] == one.target for one in self.every], np.float64)
        sure = np.array([one.said.probability for one in self.every])
        return called_against_error(sure, right, self.weights)

    def error_of_surest(self, share: float) -> float:
        """The error among the surest specimens, at most this share of all; NaN: that is none."""
        within = [error for called, error in self.curve if called <= share + 1e-9]
        return within[-1] if within else float("nan")


def answers_of(group: Group) -> Answers | None:
    """The answers of a method; None where specimens are unknown."""
    if not group.specimens_known:
        return None
    every = [answer for run in group.runs for answer in _answers(run)]
    known = all(run.calibration for run in group.runs)
    return Answers(every, len(group.first.classes), known)


def _answers(run: Run) -> Iterator[Answer]:
    cells, known, classes = run.cells, run.calibration, len(run.classes)
    scaled = known.scaled(cells.probabilities) if known else cells.probabilities
    whole = Specimens.of(cells.specimens, scaled)
    rules = {"mean": whole.by_mean(), "vote": whole.by_vote()}
    if known and (held := run.held_out):
        learned = Specimens.of(held.specimens, known.scaled(held.probabilities))
        patterns = patterns_of(held.specimens, held.labels, classes)
        rules["learned"] = LearnedRule(learned, patterns)(whole)
    limits, needed = known.limits if known else (), cells_needed_of(run)
    sets = {one.alpha: prediction_sets(whole.means, one.specimens) for one in limits}
    true = Specimens.of(cells.specimens, np.eye(classes)[cells.targets]).shares
    order = np.argsort(-true, axis=1, kind="stable")  # the first as in `patterns_of`
    for place, (name, said) in enumerate(
        calls(cells.specimens, scaled, known, cells.unlike).items()
    ):
        first, second = (order[place, 0], order[place, min(1, classes - 1)])
        mixed = first != second and true[place, second] > 0
        yield Answer(
            specimen=name,
            target=int(first),
            second=int(second) if mixed else None,
            share=float(true[place, second]) if mixed else 0.0,
            said=said,
            needed=needed.get(name) or cells_needed(scaled[cells.specimens == name]),
            rules={rule: int(outputs[place]) for rule, outputs in rules.items()},
            sets={a: tuple(np.flatnonzero(inside[place]).tolist()) for a, inside in sets.items()},
        )


def scaled_probabilities(group: Group) -> FloatArray | None:
    """Of all test cells, run by run, (N, C); None where a run is not calibrated."""
    every = [(run, run.calibration) for run in group.runs]
    parts = [known.scaled(run.cells.probabilities) for run, known in every if known]
    return np.concatenate(parts) if len(parts) == len(every) else None
