"""Tables of what a laboratory would read: calibration, and one call a specimen."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from hep2 import metrics
from hep2.calls.figures import level_of
from hep2.evaluation.formats import NOTHING, Table, caption, interval_text, spread_text
from hep2.evaluation.plots.style import plain_name
from hep2.evaluation.results import NAN, Group, Result
from hep2.evaluation.specimens import Answer, Answers
from hep2.evaluation.statistics import Interval
from hep2.rundir.result import Run, protocol_label

NOT_CALIBRATED = "not calibrated"
DRAWN = (
    "A temperature is drawn towards 1 as far as its few specimens leave it open, and is 1 where "
    "they cannot tell it from 1."
)
SURE = (0.5, 0.7, 0.8, 0.9, 1.0)  # shares of the specimens
SHOWN = 20  # specimens of a method that are wrong or not called
Pair = tuple[Result, Answers]
Answered = Sequence[Pair]
Columns = dict[str, Callable[[Pair], str]]


def calibration(results: Sequence[Result]) -> Table:
    """What the temperature changed: confidence against accuracy of cells, before and after."""
    run = results[0].group.first
    of = protocol_label(run)

    return Table.of(
        caption(run, "calibration of cells before and after, mean ± standard deviation over folds"),
        results,
        {
            "method": lambda r: r.method,
            "temperature": lambda r: _temperature(r.group),
            f"ECE before\n({of})": _measure("ece"),
            f"ECE after\n({of})": _measure("ece_calibrated"),
            f"Brier before\n({of})": _measure("brier"),
            f"Brier after\n({of})": _measure("brier_calibrated"),
        },
        [*_how(results), *[DRAWN] * any(run.calibration for run in _runs(results))],
    )


def _runs(results: Sequence[Result]) -> Iterator[Run]:
    return (run for result in results for run in result.group.runs)


def cell_sets(results: Sequence[Result]) -> list[Table]:
    """Sets of patterns for cells, promised and measured; none where nothing is calibrated."""
    known = [run.calibration for run in _runs(results) if run.calibration]
    if not known:
        return []
    run = results[0].group.first
    columns: dict[str, Callable[[Result], str]] = {"method": lambda result: result.method}
    for level in [level_of(one.alpha) for one in known[0].limits]:  # as the first that has any
        within, size = _set_headings(run, level)
        columns[within] = _measure(f"cell_coverage_{level}", 100)
        columns[size] = _measure(f"cell_set_size_{level}")
    what = "sets of patterns for cells, promised and measured, mean ± standard deviation over folds"
    return [Table.of(caption(run, what), results, columns)]


def _set_headings(run: Run, level: str) -> tuple[str, str]:
    """How often sets that promise so many per cent hold the right pattern, and how many others."""
    of = protocol_label(run)
    return f"within their set %,\n{level} promised ({of})", f"patterns in\n{level} % sets ({of})"


def _measure(name: str, scale: int = 1) -> Callable[[Result], str]:
    return lambda result: spread_text(result.measure(name), scale)


def _temperature(group: Group) -> str:
    found = [run.calibration for run in group.runs]
    if not any(found):
        return NOT_CALIBRATED
    return spread_text(group.spread([one.temperature if one else NAN for one in found]), 1)


def _how(results: Sequence[Result]) -> list[str]:
    """Where the calibration of each method comes from, methods of one kind together."""
    told: dict[str, list[str]] = {}
    for result in results:
        record = result.group.first.kept.get("calibration")
        how = str(record.get("how")) if isinstance(record, dict) else "run by an earlier version"
        if known := result.group.first.calibration:
            how = f"{known.specimens} {how}" if how.startswith("specimens") else how
            own = [n for n, o in zip(result.group.first.classes, known.limits[0].own, strict=True)
                   if o]  # fmt: skip
            level = level_of(known.limits[0].alpha)
            which = ", ".join(map(plain_name, own)) if own else "no pattern by itself"
            how += f"; enough of them to promise {level} % for {which}"
        else:
            how = f"{NOT_CALIBRATED}: {how}"
        told.setdefault(how, []).append(result.method)
    return [f"{', '.join(methods)}: {how}." for how, methods in told.items()]


def calls(answered: Answered) -> Table:
    """One call a specimen: accuracy, agreement, and how many the machine calls at which error."""
    run = answered[0][0].group.first
    of = protocol_label(run)
    return Table.of(
        caption(run, "one call a specimen, pooled over folds, 95 % interval over specimens"),
        answered,
        {
            "method": lambda a: a[0].method,
            f"accuracy %\n({of})": lambda a: interval_text(a[1].accuracy("mean")),
            f"MCA %\n({of})": lambda a: interval_text(a[1].metric(metrics.mca)),
            f"kappa\n({of})": lambda a: _plain(a[1].metric(metrics.kappa)),
            f"called %\n({of})": lambda a: _if_calibrated(a[1], a[1].said),
            f"error among\nthem % ({of})": lambda a: _if_calibrated(a[1], a[1].error_said),
            "specimens": lambda a: str(a[1].count),
        },
        [
            "Calls are by the mean probability of a specimen's cells, after calibration. Called: "
            "the set of patterns that is promised to hold the right one has one member, no second "
            "pattern is named, there are enough cells, and most of them are like the training "
            "cells (where the fold's autoencoder tells). A specimen tested in several folds counts "
            "once, with the mean over them. Intervals of shares are Wilson's, of MCA and "
            "kappa percentiles by bootstrap; without an error there is none of the latter."
        ],
    )


def _plain(values: Interval) -> str:
    """Of a metric that tables do not show in per cent."""
    estimate, low, high = (f"{value:.3f}" for value in values)
    return estimate if np.isnan(values.low) else f"{estimate} [{low}, {high}]"


def _if_calibrated(answers: Answers, values: Interval) -> str:
    if not answers.calibrated:
        return NOT_CALIBRATED
    return NOTHING if np.isnan(values[0]) else interval_text(values)


def sets(answered: Answered) -> list[Table]:
    """Sets of patterns for specimens: promised and measured; none where nothing is calibrated."""
    answered = [pair for pair in answered if pair[1].alphas]
    if not answered:
        return []
    run = answered[0][0].group.first

    def coverage(alpha: float, pair: Pair) -> str:
        return interval_text(pair[1].coverage(alpha)) if alpha in pair[1].alphas else NOTHING

    def size(alpha: float, pair: Pair) -> str:
        return f"{pair[1].set_size(alpha):.2f}" if alpha in pair[1].alphas else NOTHING

    columns: Columns = {"method": lambda a: a[0].method}
    for alpha in answered[0][1].alphas:
        within, patterns = _set_headings(run, level_of(alpha))
        columns[within], columns[patterns] = partial(coverage, alpha), partial(size, alpha)
    return [
        Table.of(
            caption(run, "sets of patterns for specimens, promised and measured"),
            answered,
            columns,
            [
                "The promise is over specimens like those that were held out in training, and "
                "exact only for a classifier that learned without them; the one that is tested "
                "learned from more. With too few of them a set holds every pattern."
            ],
        )
    ]


def surest(answered: Answered) -> Table:
    """The error among the specimens that are called first, as the picture of the curve has it."""
    run = answered[0][0].group.first

    def error(share: float, pair: Pair) -> str:
        found = pair[1].error_of_surest(share)
        return NOTHING if np.isnan(found) else f"{100 * found:.1f}"

    columns: Columns = {"method": lambda a: a[0].method}
    for share in SURE:
        columns[f"of {100 * share:.0f} %\n({protocol_label(run)})"] = partial(error, share)
    return Table.of(
        caption(run, "error % among the surest specimens, by the share of them that is called"),
        answered,
        columns,
        ["Specimens in the order of their calls' probabilities; equal ones come together."],
    )


def rules(answered: Answered) -> list[Table]:
    """Mean, vote and the learned rule on the same specimens; none without a learned rule."""
    answered = [pair for pair in answered if "learned" in pair[1].rules]
    if not answered:
        return []
    run = answered[0][0].group.first
    of = protocol_label(run)
    return [
        Table.of(
            caption(run, "specimens named rightly, by the rule that puts their cells together"),
            answered,
            {
                "method": lambda a: a[0].method,
                f"mean probability %\n({of})": lambda a: interval_text(a[1].accuracy("mean")),
                f"vote %\n({of})": lambda a: interval_text(a[1].accuracy("vote")),
                f"learned rule %\n({of})": lambda a: interval_text(a[1].accuracy("learned")),
                f"vote - mean\nin points ({of})": lambda a: _gain(a[1], "vote"),
                f"learned - mean\nin points ({of})": lambda a: _gain(a[1], "learned"),
            },
            [
                "Learned: logistic regression on mean, spread and vote shares of a specimen's "
                "cells, from the specimens that were held out in training. Intervals of "
                "differences are percentiles by bootstrap over specimens."
            ],
        )
    ]


def seconds(answered: Answered) -> list[Table]:
    """How often a second pattern is invented, and found by its share; none without calibration."""
    answered = [pair for pair in answered if pair[1].calibrated]
    if not answered:
        return []
    run = answered[0][0].group.first
    of = protocol_label(run)
    columns: Columns = {
        "method": lambda a: a[0].method,
        f"second invented %,\nof one pattern ({of})": lambda a: interval_text(a[1].invented),
    }
    for tenths in answered[0][1].tenths:
        heading = f"both named %,\n{10 * tenths} % second ({of})"
        columns[heading] = partial(_both_named, tenths)
    which = "" if answered[0][1].tenths else " No specimen here has two patterns."
    return [
        Table.of(
            caption(run, "second patterns of specimens"),
            answered,
            columns,
            [
                "A second pattern is named from a share of cells on that few of the specimens held "
                "out in training (the run's alpha, usually one in ten) give to a wrong one."
                f"{which}"
            ],
        )
    ]


def _both_named(tenths: int, pair: Pair) -> str:
    return interval_text(pair[1].both_named(tenths))


def _gain(answers: Answers, rule: str) -> str:
    return interval_text(answers.gain(rule), signed=True)


def doubtful(result: Result, answers: Answers) -> Table | None:
    """The specimens of a method that are wrong, the surest first, and those without a call."""
    run = result.group.first
    names = [plain_name(name) for name in run.classes]
    wrong = [one for one in answers.every if one.rules["mean"] != one.target]
    rest = [one for one in answers.every if one.rules["mean"] == one.target and not one.said.said]
    shown = sorted(wrong, key=_sureness) + sorted(rest, key=_sureness)
    if not shown:
        return None
    more = len(shown) - SHOWN

    def members(one: Answer) -> str:
        if one.said.members is None:
            return NOTHING
        return ", ".join(names[c] for c in one.said.members) or "none"

    return Table.of(
        caption(run, f"specimens that {result.method} calls wrongly, or not at all"),
        shown[:SHOWN],
        {
            "specimen": lambda one: one.specimen,
            "target": lambda one: names[one.target],
            "output": lambda one: names[one.rules["mean"]],
            "probability %": lambda one: f"{100 * one.said.probability:.1f}",
            "second": lambda one: NOTHING if one.said.second is None else names[one.said.second],
            "set": members,
            "no call, as": lambda one: one.said.reason or NOTHING,
            "cells": lambda one: str(one.said.cells),
            "cells needed": lambda one: str(one.needed),
        },
        [f"{more} more {'is' if more == 1 else 'are'} not shown."] if more > 0 else [],
    )


def _sureness(one: Answer) -> tuple[float, str]:
    return -one.said.probability, one.specimen
