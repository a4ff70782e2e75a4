"""Results as tables.

The protocol stands in every caption and column heading, with `-leaky` where it leaks; tables of
simulated cells say synthetic.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from hep2.evaluation.formats import NOTHING, Table, interval_text, spread_text
from hep2.evaluation.leak import HONEST, LEAKY, LeakGap
from hep2.evaluation.published import Published
from hep2.evaluation.results import Comparison, Result, Spread, spread, wall_time
from hep2.rundir.artifacts import audit_of, chosen_of
from hep2.rundir.result import Run, data_label, protocol_label

_LABELS = {True: "yes", False: "no", None: NOTHING}


def over_folds(results: Sequence[Result]) -> Table:
    """The ranked table: mean and standard deviation over folds. All of one data and protocol."""
    of = protocol_label(results[0].group.first)
    return Table(
        caption(results[0].group.first, "mean ± standard deviation over folds, by MCA"),
        [
            "rank",
            "method",
            "labels in\nfeatures",
            f"MCA %\n({of})",
            f"ACA %\n({of})",
            f"macro-F1 %\n({of})",
            "seconds\na fold",
            "folds",
        ],
        [
            [str(place), result.method, _LABELS[result.group.first.labels_in_features]]
            + [_percent(result.measures[name]) for name in ("mca", "aca", "macro_f1")]
            + [f"{result.seconds.mean:.0f}", _folds(result)]
            for place, result in enumerate(results, start=1)
        ],
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
    of = protocol_label(results[0].group.first)
    return Table(
        caption(results[0].group.first, "pooled over folds, 95 % interval over specimens"),
        [
            "method",
            f"MCA %\n({of})",
            f"ACA %\n({of})",
            f"macro-F1 %\n({of})",
            "tested",
            "specimens",
        ],
        [
            [result.method]
            + [interval_text(result.pooled[name]) for name in ("mca", "aca", "macro_f1")]
            + [f"{result.confusion.sum():.0f}"]
            + [NOTHING if result.specimens is None else str(result.specimens)]
            for result in results
        ],
        [note for result in results for note in intervals(result)],
    )


def recalls(results: Sequence[Result]) -> Table:
    """Recall of each class, mean and standard deviation over the folds that have the class."""
    first = results[0].group.first
    return Table(
        caption(first, "recall of each class, mean ± standard deviation over folds"),
        ["method", *(f"{name} %\n({protocol_label(first)})" for name in first.classes)],
        [[result.method, *map(_percent, result.recalls)] for result in results],
    )


def further(results: Sequence[Result]) -> Table:
    """Agreement, ranking, calibration and calls of whole specimens, over folds."""
    of = protocol_label(results[0].group.first)
    shown = ("kappa", "auroc", "ece", "specimen_majority", "specimen_mean_probability")
    names = ("kappa", "AUROC", "ECE", "specimens by majority", "by mean probability")
    absent = Spread(math.nan, math.nan, 0)
    return Table(
        caption(results[0].group.first, "further measures, mean ± standard deviation over folds"),
        ["method", *(f"{name}\n({of})" for name in names)],
        [
            [result.method, *(_plain(result.measures.get(name, absent)) for name in shown)]
            for result in results
        ],
    )


def comparisons(run: Run, pairs: Sequence[Comparison]) -> Table:
    """The first-ranked method against the others, on the same test cells."""
    of = protocol_label(run)
    return Table(
        caption(run, f"{pairs[0].first} against the others on the same test cells"),
        [
            "other method",
            f"MCA difference\nin points ({of})",
            "folds",
            f"specimens ({of})\nbetter/worse/equal",
            f"sign test p\n({of})",
            f"p by Holm\n({of})",
        ],
        [
            [
                pair.second,
                interval_text(pair.difference, signed=True),
                str(pair.folds),
                f"{pair.signs.better}/{pair.signs.worse}/{pair.signs.equal}",
                _chance(pair.signs.p),
                _chance(pair.p_holm),
            ]
            for pair in pairs
        ],
    )


def leaks(gaps: Sequence[LeakGap]) -> Table:
    """What dealing cells out at random adds to a method's MCA. All of one data set."""
    run = gaps[0].group.first
    caption = (
        f"{_data_caption(run)}: what the leak of protocol {LEAKY} is worth, the same method on "
        f"the same test cells"
    )
    return Table(
        caption,
        [
            "method",
            f"MCA %\n({protocol_label(run)})",
            f"MCA %\n({HONEST})",
            f"the leak's worth in points\n({protocol_label(run)} - {HONEST})",
            "test cells",
            "folds finished",
        ],
        [
            [
                gap.group.first.method,
                f"{100 * gap.leaky:.2f}",
                f"{100 * gap.honest:.2f}",
                interval_text(gap.difference, signed=True),
                str(gap.cells),
                f"{gap.folds[0]} and {gap.folds[1]} of {run.folds}",
            ]
            for gap in gaps
        ],
        ["paired 95 % interval by bootstrap over specimens, on the cells that both have tested."],
    )


def published(caption: str, rows: Iterable[Published]) -> Table:
    """Figures from the literature; never among our own rows."""
    return Table(
        caption,
        ["published method", "features", "data", "protocol", "metric", "%", "source", "remark"],
        [
            [
                row.method,
                row.features,
                row.data,
                row.marked_protocol,
                row.metric,
                f"{row.value:.2f}",
                row.source,
                row.remark or NOTHING,
            ]
            for row in rows
        ],
    )


def _data_caption(run: Run) -> str:
    return f"{data_label(run)} {'cells (simulated, not real)' if run.synthetic else 'cells'}"


def caption(run: Run, what: str) -> str:
    """Data set, protocol and what the table shows; synthetic and leaky ones say so."""
    leak = ", leaky: cells of one specimen on both sides" if run.leaky else ""
    return f"{_data_caption(run)}, protocol {protocol_label(run)}{leak}: {what}"


def _folds(result: Result) -> str:
    done, every = len(result.group.by_fold), result.group.first.folds
    return str(done) if done == every else f"{done} of {every}"


def _percent(values: Spread) -> str:
    return spread_text(values, 100, 2)


def _plain(values: Spread) -> str:
    return spread_text(values, 1, 3)


def _chance(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


SHOWN = ("clustering_accuracy", "accuracy_matched_in_training", "nmi", "ari")
NOTE = (
    "clustering accuracy: each cluster is given the pattern that suits the test cells best, by "
    "their own labels (Hungarian method), as in the literature; matched in training: by the labels "
    "of the training cells. Neither may stand beside the accuracy of a classifier."
)


def clustering_tables(runs: Iterable[Run]) -> list[Table]:
    """One table for each data set and protocol with finished runs of kind "clustering"."""

    def place(run: Run) -> tuple[str, str]:
        return run.data, run.protocol

    found = sorted((run for run in runs if run.kind == "clustering"), key=place)
    return [_table(list(block)) for _, block in groupby(found, key=place)]


def _table(runs: list[Run]) -> Table:
    of = protocol_label(runs[0])
    methods = sorted({run.method for run in runs})
    names = ("clustering\naccuracy %", "matched in\ntraining %", "NMI", "ARI")
    return Table(
        caption(runs[0], "UNSUPERVISED clusters, mean ± standard deviation over folds"),
        ["method", *(f"{name} ({of})" for name in names), "seconds\na fold", "folds"],
        [_row(method, [run for run in runs if run.method == method]) for method in methods],
        [NOTE],
    )


def _row(method: str, runs: list[Run]) -> list[str]:
    by_fold = {fold: [r for r in runs if r.fold == fold] for fold in {r.fold for r in runs}}
    texts = []
    for name, scale, digits in zip(SHOWN, (100, 100, 1, 1), (2, 2, 3, 3), strict=True):
        key = f"{protocol_label(runs[0])}/test/{name}"
        folds = [spread([run.metrics[key] for run in group]).mean for group in by_fold.values()]
        texts.append(spread_text(spread(folds), scale, digits))
    count = f"{len(by_fold)} of {runs[0].folds}"
    return [method, *texts, f"{wall_time(by_fold).mean:.0f}", count]


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
    group = result.group
    collapsed = sorted({run.fold for run in group.runs if run.encoder_collapsed})
    if collapsed:
        folds = _listed([str(fold) for fold in collapsed])
        notes.append(
            f"{result.method}: THE ENCODER HAD COLLAPSED in folds {folds}; figures of its latents "
            "say nothing about the method."
        )
    finished = len(group.by_fold)
    seeds = sorted({len(runs) for runs in group.by_fold.values()})
    if seeds != [1]:
        several = "-".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
        notes.append(f"{result.method}: {several} seeds a fold, averaged within the fold.")
    if group.missing_folds:
        missing = _listed([str(fold) for fold in group.missing_folds])
        remedy = "compare only methods with the same folds"
        notes.append(f"{result.method}: folds not finished: {missing}; {remedy}.")
    absent = [
        f"{name} ({finished - values.folds} of {finished})"
        for name, values in zip(group.first.classes, result.recalls, strict=True)
        if values.folds < finished
    ]
    if absent:
        consequence = "their MCA is that of the other classes"
        notes.append(
            f"{result.method}: folds without a test cell of {', '.join(absent)}; {consequence}."
        )
    return notes


def intervals(result: Result) -> list[str]:
    """Why a method's figures have no intervals."""
    if result.specimens is None:
        return [f"{result.method}: no intervals, the specimens of the cells are not known."]
    if math.isnan(result.pooled["mca"].low):
        why = "some class has a single test specimen, or the specimens do not vary"
        return [f"{result.method}: no intervals, for {why}."]
    return []


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")


def audits(runs: Sequence[Run]) -> Table:
    """One row a split; runs on the same split have the same audit."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        audit = audit_of(run)
        if audit is None or run.split_hash in rows:
            continue
        counts = (audit[name] for name in ("shared_specimens", "cells_of_shared_specimens",
                                           "identical_cells", "near_duplicate_cells"))  # fmt: skip
        texts = [NOTHING if count is None else str(count) for count in counts]
        place = [data_label(run), protocol_label(run), str(run.fold)]
        rows[run.split_hash] = [*place, *texts, str(run.kept.get("cells", {}).get("test", NOTHING))]
    heading = ["data", "protocol", "fold", "specimens on both sides", "their test cells",
               "identical cells", "look-alikes", "of test cells"]  # fmt: skip
    return Table(
        f"leakage audit{synthetic_words(runs)}: what test cells share with the cells learned from",
        heading,
        list(rows.values()),
        [
            "look-alikes: a perceptual hash differs in at most 4 of 63 bits in some flip or "
            "quarter turn, and the images correlate by 0.985 or more; simulated cells, which hold "
            "no copy, reach a handful by chance."
        ],
    )


def origins(runs: Sequence[Run]) -> Table:
    """Data, code and packages that the runs were made with."""
    rows: dict[tuple[str, ...], int] = {}
    for run in runs:
        versions = run.kept.get("versions", {})
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        commit = str(run.kept.get("git_commit") or "not known")
        key = (data_label(run), run.data_key, commit, listed)
        rows[key] = rows.get(key, 0) + 1
    return Table(
        f"where the figures come from{synthetic_words(runs)}",
        ["data", "data key", "git commit", "versions", "runs"],
        [[*key, str(count)] for key, count in rows.items()],
    )


def commands(runs: Sequence[Run]) -> Table:
    """One row a run."""
    return Table(
        f"every run and its command{synthetic_words(runs)}",
        ["run", "split hash", "seconds", "chosen on inner folds", "command"],
        [
            [
                f"{run.path.parts[-3]}, {protocol_label(run)}, fold {run.fold}, seed {run.seed}",
                run.split_hash,
                f"{run.seconds:.0f}",
                chosen_of(run) or NOTHING,
                run.command or NOTHING,
            ]
            for run in runs
        ],
    )


def synthetic_words(runs: Iterable[Run]) -> str:
    """What a title says of simulated cells; nothing where all are real."""
    kinds = {run.synthetic for run in runs}
    if True not in kinds:
        return ""
    return " (partly synthetic cells)" if len(kinds) > 1 else " (synthetic cells)"
