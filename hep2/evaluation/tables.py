"""Results as tables.

The protocol is in every caption and column heading, with `-leaky` where it leaks; tables of
simulated cells say synthetic.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter

from hep2.data.patterns import PatternName, pattern_names
from hep2.evaluation.formats import NOTHING, Table, caption, cells_label, interval_text, spread_text
from hep2.evaluation.leak import HONEST, LEAKY, LeakGap
from hep2.evaluation.plots.style import plain_name
from hep2.evaluation.published import Published
from hep2.evaluation.results import Comparison, Group, Result, behind
from hep2.metrics import HEADLINE, RANKED_BY, SECONDARY, Metric
from hep2.rundir.result import Run, protocol_label

_LABELS = {True: "yes", False: "no", None: NOTHING}


def over_folds(results: Sequence[Result]) -> Table:
    """The ranked table: mean and standard deviation over folds. All of one data and protocol."""
    run, last = results[0].group.first, behind(results)
    ranked = [result.method for result in results if result.method not in last]
    places = {method: str(place) for place, method in enumerate(ranked, start=1)}
    return Table.of(
        caption(run, "mean ± standard deviation over folds, by MCA"),
        results,
        {
            "rank": lambda r: places.get(r.method, NOTHING),
            "method": lambda r: r.method,
            "labels in\nfeatures": lambda r: _LABELS[r.group.first.labels_in_features],
            **_columns(HEADLINE, run, _mean_and_deviation),
            "seconds\na fold": lambda r: f"{r.group.seconds.mean:.0f}",
            "folds": lambda r: r.group.finished_folds,
        },
        [
            "labels in features: whether labels were read where the features were learned; "
            f"{_LABELS[None]}: nothing was learned. Rank: none for a method that lacks folds which "
            "others have. Seconds: of the head and its encoders, without features that were found "
            "in the cache; an encoder that folds share is counted once.",
            *comparability(results),
            *(note for r in results for note in folds_and_seeds(r)),
        ],
    )


def pooled(results: Sequence[Result]) -> Table:
    """All folds' test cells put together, with 95 % intervals by bootstrap over specimens."""
    run = results[0].group.first
    return Table.of(
        caption(run, "pooled over folds, 95 % interval over specimens"),
        results,
        {
            "method": lambda r: r.method,
            **_columns(HEADLINE, run, lambda m, r: interval_text(r.pooled[m.name])),
            "tested": lambda r: f"{r.confusion.sum():.0f}",
            "specimens": lambda r: NOTHING if r.specimens is None else str(r.specimens),
        },
        [note for result in results for note in intervals(result)],
    )


def recalls(results: Sequence[Result]) -> Table:
    """Recall of each class, mean and standard deviation over the folds that have the class."""
    run = results[0].group.first
    headings = [f"{name} %\n({protocol_label(run)})" for name in run.classes]
    return Table(
        caption(run, "recall of each class, mean ± standard deviation over folds"),
        ["method", *headings],
        [[r.method, *(spread_text(values, 100) for values in r.recalls)] for r in results],
    )


def secondary(results: Sequence[Result]) -> Table:
    """Agreement, ranking, calibration and calls of whole specimens, over folds."""
    run = results[0].group.first
    return Table.of(
        caption(run, "secondary metrics, mean ± standard deviation over folds"),
        results,
        {"method": lambda r: r.method, **_columns(SECONDARY, run, _mean_and_deviation)},
    )


def icap(run: Run) -> list[Table]:
    """What ICAP calls the patterns of a run, beside their own names; none where it is not known."""
    known = pattern_names()
    found = [(name, icap) for name in run.classes if (icap := known.get(name))]
    if not found:
        return []
    of: dict[str, Callable[[tuple[str, PatternName]], str]] = {
        "pattern": lambda one: plain_name(one[0]),
        "ICAP": lambda one: " or ".join(one[1].codes),
        "its name": lambda one: one[1].name,
        "remark": lambda one: one[1].note or NOTHING,
    }
    what = "patterns as the International Consensus on ANA Patterns (ICAP) calls them"
    return [Table.of(caption(run, what), found, of)]


def _columns(
    shown: Iterable[Metric], run: Run, text: Callable[[Metric, Result], str]
) -> dict[str, Callable[[Result], str]]:
    """A column for each of some metrics."""
    of, units = protocol_label(run), {100: " %", 1: ""}
    return {f"{m.title}{units[m.scale]}\n({of})": partial(text, m) for m in shown}


def _mean_and_deviation(metric: Metric, result: Result) -> str:
    return spread_text(result.measure(metric.name), metric.scale)


def comparisons(run: Run, pairs: Sequence[Comparison]) -> Table:
    """The first-ranked method against the others, on the same test cells."""
    of = protocol_label(run)
    return Table.of(
        caption(run, f"{pairs[0].first} against the others on the same test cells"),
        pairs,
        {
            "other method": lambda p: p.second,
            f"MCA difference\nin points ({of})": lambda p: interval_text(p.difference, signed=True),
            "folds": lambda p: str(p.folds),
            f"specimens ({of})\nbetter/worse/equal": lambda p: "/".join(map(str, p.signs[:3])),
            f"sign test p\n({of})": lambda p: _chance(p.signs.p),
            f"p by Holm\n({of})": lambda p: _chance(p.p_holm),
        },
    )


def leaks(gaps: Sequence[LeakGap]) -> Table:
    """What dealing cells out at random adds to a method's MCA. All of one data set."""
    run = gaps[0].group.first
    of = protocol_label(run)
    return Table.of(
        f"{cells_label(run)}: what the leak of protocol {LEAKY} is worth, the same method on the "
        "same test cells",
        gaps,
        {
            "method": lambda gap: gap.group.first.method,
            f"MCA %\n({of})": lambda gap: f"{100 * gap.leaky:.2f}",
            f"MCA %\n({HONEST})": lambda gap: f"{100 * gap.honest:.2f}",
            f"the leak's worth in points\n({of} - {HONEST})": lambda gap: interval_text(
                gap.difference, signed=True
            ),
            "test cells": lambda gap: str(gap.cells),
            "folds finished": lambda gap: f"{gap.folds[0]} and {gap.folds[1]} of {run.folds}",
        },
        ["paired 95 % interval by bootstrap over specimens, on the cells that both have tested."],
    )


def published(caption: str, rows: Iterable[Published]) -> Table:
    """Scores from the literature; never among our own rows."""
    return Table.of(
        caption,
        rows,
        {
            "published method": lambda row: row.method,
            "features": lambda row: row.features,
            "data": lambda row: row.data,
            "protocol": lambda row: row.marked_protocol,
            "metric": lambda row: row.metric,
            "%": lambda row: f"{row.value:.2f}",
            "source": lambda row: row.source,
            "remark": lambda row: row.remark or NOTHING,
        },
    )


def clusterings(runs: Iterable[Run]) -> list[Table]:
    """One table for each data set and protocol with finished runs of kind "clustering"."""
    place = attrgetter("data", "protocol")
    found = sorted((run for run in runs if run.kind == "clustering"), key=place)
    return [_clustering(list(block)) for _, block in groupby(found, key=place)]


def _clustering(runs: list[Run]) -> Table:
    of = protocol_label(runs[0])
    methods = sorted({run.method for run in runs})

    def score(name: str, scale: int = 1) -> Callable[[Group], str]:
        key = f"{of}/test/{name}"
        return lambda g: spread_text(g.spread([run.metrics[key] for run in g.runs]), scale)

    return Table.of(
        caption(runs[0], "UNSUPERVISED clusters, mean ± standard deviation over folds"),
        [Group(tuple(run for run in runs if run.method == method)) for method in methods],
        {
            "method": lambda group: group.first.method,
            f"clustering\naccuracy % ({of})": score("clustering_accuracy", 100),
            f"matched in\ntraining % ({of})": score("accuracy_matched_in_training", 100),
            f"NMI ({of})": score("nmi"),
            f"ARI ({of})": score("ari"),
            "seconds\na fold": lambda group: f"{group.seconds.mean:.0f}",
            "folds": lambda group: f"{len(group.by_fold)} of {group.first.folds}",
        },
        [
            "clustering accuracy: each cluster is given the pattern that suits the test cells "
            "best, by their own labels (Hungarian method), as in the literature; matched in "
            "training: by the labels of the training cells. Neither may be compared with the "
            "accuracy of a classifier."
        ],
    )


def comparability(results: Sequence[Result]) -> list[str]:
    """A note where methods of one table were run on different data."""
    keys = {result.group.first.data_key: result.method for result in results}
    if len(keys) == 1:
        return []
    versions = ", ".join(f"{key} ({method})" for key, method in keys.items())
    return [f"the methods were not run on the same data: data keys {versions}."]


def folds_and_seeds(result: Result) -> list[str]:
    """Notes on missing folds, absent patterns, encoders that learned nothing, several seeds."""
    notes = []
    group, finished = result.group, len(result.group.by_fold)
    if collapsed := sorted({run.fold for run in group.runs if run.encoder_collapsed}):
        consequence = "scores of its latents say nothing about the method"
        notes.append(f"THE ENCODER HAD COLLAPSED in folds {_listed(collapsed)}; {consequence}")
    seeds = sorted({len(runs) for runs in group.by_fold.values()})
    if seeds != [1]:
        several = "-".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        notes.append(f"{several} seeds a fold, averaged within the fold")
    if group.missing_folds:
        remedy = "compare only methods with the same folds"
        notes.append(f"folds not finished: {_listed(group.missing_folds)}; {remedy}")
    if absent := [
        f"{name} ({finished - values.folds} of {finished})"
        for name, values in zip(group.first.classes, result.recalls, strict=True)
        if values.folds < finished
    ]:
        consequence = "their MCA is that of the other classes"
        notes.append(f"folds without a test cell of {', '.join(absent)}; {consequence}")
    return [f"{result.method}: {note}." for note in notes]


def intervals(result: Result) -> list[str]:
    """A note that says why a method has no intervals, where it has none."""
    if not math.isnan(result.pooled[RANKED_BY].low):
        return []
    why = "for some class has a single test specimen, or the specimens do not vary"
    if result.specimens is None:
        why = "the specimens of the cells are not known"
    return [f"{result.method}: no intervals, {why}."]


def _listed(folds: Sequence[int]) -> str:
    more = f" and {len(folds) - 10} more" if len(folds) > 10 else ""
    return ", ".join(map(str, folds[:10])) + more


def _chance(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"
