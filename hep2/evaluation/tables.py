"""Results as tables: aligned text for the terminal, and Markdown.

The protocol stands in every caption and column heading, with `-leaky` where it leaks; tables of
simulated cells say synthetic.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from hep2.evaluation.leak import HONEST, LEAKY, LeakGap
from hep2.evaluation.published import Published
from hep2.evaluation.results import Comparison, Result, Spread
from hep2.evaluation.runs import Run, data_label, protocol_label
from hep2.evaluation.statistics import Interval

NOTHING = "–"  # noqa: RUF001  the dash that tables print where there is no figure
_LABELS = {True: "yes", False: "no", None: NOTHING}


@dataclass(frozen=True)
class Table:
    """A caption, a heading, rows of text, and notes below."""

    caption: str
    heading: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        """Aligned columns for the terminal."""
        heading = [
            list(line) for line in zip_longest(*map(str.splitlines, self.heading), fillvalue="")
        ]
        columns = zip(*heading, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        rule = ["-" * width for width in widths]
        padded = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in [*heading, rule, *self.rows]
        ]
        return "\n".join([self.caption, *padded, *(f"  {note}" for note in self.notes)]) + "\n"

    def as_markdown(self) -> str:
        """A Markdown table under its caption."""
        lines = [self.heading, ["---"] * len(self.heading), *self.rows]
        body = ["| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"**{self.caption}**", "", *body, "", *notes]).rstrip() + "\n"


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
            *_comparability_notes(results),
            *(note for r in results for note in _notes(r)),
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
            + [_interval(result.pooled[name]) for name in ("mca", "aca", "macro_f1")]
            + [f"{result.confusion.sum():.0f}"]
            + [NOTHING if result.specimens is None else str(result.specimens)]
            for result in results
        ],
        [note for result in results for note in _interval_notes(result)],
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
                _interval(pair.difference, signed=True),
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
                _interval(gap.difference, signed=True),
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


def _comparability_notes(results: Sequence[Result]) -> list[str]:
    keys = {result.group.first.data_key: result.method for result in results}
    if len(keys) == 1:
        return []
    versions = ", ".join(f"{key} ({method})" for key, method in keys.items())
    return [f"the methods were not run on the same data: data keys {versions}."]


def _notes(result: Result) -> list[str]:
    group, notes = result.group, []
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


def _interval_notes(result: Result) -> list[str]:
    if result.specimens is None:
        return [f"{result.method}: no intervals, the specimens of the cells are not known."]
    if math.isnan(result.pooled["mca"].low):
        why = "some class has a single test specimen, or the specimens do not vary"
        return [f"{result.method}: no intervals, for {why}."]
    return []


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")


def _folds(result: Result) -> str:
    done, every = len(result.group.by_fold), result.group.first.folds
    return str(done) if done == every else f"{done} of {every}"


def _percent(values: Spread) -> str:
    return spread_text(values, 100, 2)


def _plain(values: Spread) -> str:
    return spread_text(values, 1, 3)


def spread_text(values: Spread, scale: int, digits: int) -> str:
    """Mean and, where there are several folds, deviation."""
    if math.isnan(values.mean):
        return NOTHING
    mean = f"{scale * values.mean:.{digits}f}"
    return mean if math.isnan(values.sd) else f"{mean} ± {scale * values.sd:.{digits}f}"


def _interval(values: Interval, signed: bool = False) -> str:
    sign = "+" if signed else ""
    estimate, low, high = (f"{100 * value:{sign}.2f}" for value in values)
    return estimate if math.isnan(values.low) else f"{estimate} [{low}, {high}]"


def _chance(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
