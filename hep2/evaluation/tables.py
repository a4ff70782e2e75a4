"""Results as tables.

The protocol stands in every caption and column heading, with `-leaky` where it leaks; tables of
simulated cells say synthetic.
"""

import math
from collections.abc import Iterable, Sequence

from hep2.evaluation import notes
from hep2.evaluation.leak import HONEST, LEAKY, LeakGap
from hep2.evaluation.published import Published
from hep2.evaluation.results import Comparison, Result, Spread
from hep2.evaluation.runs import Run, data_label, protocol_label
from hep2.evaluation.table import NOTHING, Table, interval_text, spread_text

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
            *notes.comparability(results),
            *(note for r in results for note in notes.folds_and_seeds(r)),
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
        [note for result in results for note in notes.intervals(result)],
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
