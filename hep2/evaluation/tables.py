"""Results as tables.

The protocol stands in every caption and column heading, with `-leaky` where it leaks; tables of
simulated cells say synthetic.
"""

import math
from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import groupby

from hep2.evaluation.formats import NOTHING, Table, interval_text, spread_text
from hep2.evaluation.leak import HONEST, LEAKY, LeakGap
from hep2.evaluation.published import Published
from hep2.evaluation.results import NAN, Comparison, Group, Result, Spread
from hep2.metrics import HEADLINE, RANKED_BY, SECONDARY, Metric
from hep2.rundir.result import Run, data_label, protocol_label

Column = Callable[[Result], str]
_LABELS = {True: "yes", False: "no", None: NOTHING}


def over_folds(results: Sequence[Result]) -> Table:
    """The ranked table: mean and standard deviation over folds. All of one data and protocol."""
    run = results[0].group.first
    places = {result.method: str(place) for place, result in enumerate(results, start=1)}
    return Table.of(
        caption(run, "mean ± standard deviation over folds, by MCA"),
        results,
        {
            "rank": lambda r: places[r.method],
            "method": lambda r: r.method,
            "labels in\nfeatures": lambda r: _LABELS[r.group.first.labels_in_features],
            **_over_folds(HEADLINE, run),
            "seconds\na fold": lambda r: f"{r.group.seconds.mean:.0f}",
            "folds": lambda r: _folds(r.group.by_fold, run),
        },
        [
            "labels in features: whether labels were read where the features were learned; "
            f"{_LABELS[None]}: nothing was learned. Seconds: of the head and its encoders, without "
            "features that were found in the cache.",
            *comparability(results),
            *(note for r in results for note in folds_and_seeds(r)),
        ],
    )


def pooled(results: Sequence[Result]) -> Table:
    """All folds' test cells put together, with 95 % intervals by bootstrap over specimens."""
    run = results[0].group.first

    def interval(metric: Metric) -> Column:
        return lambda r: interval_text(r.pooled[metric.name])

    return Table.of(
        caption(run, "pooled over folds, 95 % interval over specimens"),
        results,
        {
            "method": lambda r: r.method,
            **{_heading(metric, run): interval(metric) for metric in HEADLINE},
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
        caption(run, "further measures, mean ± standard deviation over folds"),
        results,
        {"method": lambda r: r.method, **_over_folds(SECONDARY, run)},
    )


def _over_folds(shown: Iterable[Metric], run: Run) -> dict[str, Column]:
    """A column for each of some metrics: mean and deviation over folds."""

    def column(metric: Metric) -> Column:
        absent = Spread(NAN, NAN, 0)
        return lambda r: spread_text(r.measures.get(metric.name, absent), metric.scale)

    return {_heading(metric, run): column(metric) for metric in shown}


def _heading(metric: Metric, run: Run) -> str:
    unit = " %" if metric.scale == 100 else ""
    return f"{metric.title}{unit}\n({protocol_label(run)})"


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
        f"{_data_caption(run)}: what the leak of protocol {LEAKY} is worth, the same method on "
        "the same test cells",
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

    def place(run: Run) -> tuple[str, str]:
        return run.data, run.protocol

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
            "folds": lambda group: f"{len(group.by_fold)} of {runs[0].folds}",
        },
        [
            "clustering accuracy: each cluster is given the pattern that suits the test cells "
            "best, by their own labels (Hungarian method), as in the literature; matched in "
            "training: by the labels of the training cells. Neither may stand beside the accuracy "
            "of a classifier."
        ],
    )


def caption(run: Run, what: str) -> str:
    """Data set, protocol and what the table shows; synthetic and leaky ones say so."""
    leak = ", leaky: cells of one specimen on both sides" if run.leaky else ""
    return f"{_data_caption(run)}, protocol {protocol_label(run)}{leak}: {what}"


def _data_caption(run: Run) -> str:
    return f"{data_label(run)} {'cells (simulated, not real)' if run.synthetic else 'cells'}"


def comparability(results: Sequence[Result]) -> list[str]:
    """Whether methods of one table were run on different data."""
    keys = {result.group.first.data_key: result.method for result in results}
    if len(keys) == 1:
        return []
    versions = ", ".join(f"{key} ({method})" for key, method in keys.items())
    return [f"the methods were not run on the same data: data keys {versions}."]


def folds_and_seeds(result: Result) -> list[str]:
    """Folds that are missing, lack a pattern, or had an encoder that learned nothing; seeds."""
    notes: list[str] = []
    group, finished = result.group, len(result.group.by_fold)
    collapsed = sorted({run.fold for run in group.runs if run.encoder_collapsed})
    if collapsed:
        notes.append(
            f"THE ENCODER HAD COLLAPSED in folds {_listed(collapsed)}; figures of its latents "
            "say nothing about the method"
        )
    seeds = sorted({len(runs) for runs in group.by_fold.values()})
    if seeds != [1]:
        several = "-".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
        notes.append(f"{several} seeds a fold, averaged within the fold")
    if group.missing_folds:
        remedy = "compare only methods with the same folds"
        notes.append(f"folds not finished: {_listed(group.missing_folds)}; {remedy}")
    absent = [
        f"{name} ({finished - values.folds} of {finished})"
        for name, values in zip(group.first.classes, result.recalls, strict=True)
        if values.folds < finished
    ]
    if absent:
        consequence = "their MCA is that of the other classes"
        notes.append(f"folds without a test cell of {', '.join(absent)}; {consequence}")
    return [f"{result.method}: {note}." for note in notes]


def intervals(result: Result) -> list[str]:
    """Why a method has no intervals."""
    if result.specimens is None:
        return [f"{result.method}: no intervals, the specimens of the cells are not known."]
    if math.isnan(result.pooled[RANKED_BY].low):
        why = "some class has a single test specimen, or the specimens do not vary"
        return [f"{result.method}: no intervals, for {why}."]
    return []


def _folds(finished: Sized, run: Run) -> str:
    return str(run.folds) if len(finished) == run.folds else f"{len(finished)} of {run.folds}"


def _listed(folds: Sequence[int]) -> str:
    more = f" and {len(folds) - 10} more" if len(folds) > 10 else ""
    return ", ".join(map(str, folds[:10])) + more


def _chance(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"
