"""Diagrams of results: ranking, labels, specimens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hep2 import metrics
from hep2.evaluation.plots import style
from hep2.evaluation.published import Published
from hep2.evaluation.results import Result, pooled_confusions
from hep2.evaluation.statistics import specimen_patterns
from hep2.rundir.result import data_label, protocol_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ranking(results: Sequence[Result], published: Sequence[Published]) -> style.Picture:
    """MCA of every method with its interval; published scores of the same protocol as diamonds."""
    run = results[0].group.first
    points = [(_with_folds(result), *result.pooled["mca"]) for result in results]
    printed = [(f"{row.method} ({row.metric})", row.value / 100) for row in published]
    rows = len(points) + len(printed)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for place, (_, here, low, high) in enumerate(points):
            if not np.isnan(low):
                axes.plot([100 * low, 100 * high], [place, place], color="#0072B2", linewidth=2)
            axes.plot(100 * here, place, "o", color="#0072B2", markersize=6)
        for place, (_, value) in enumerate(printed, start=len(points)):
            axes.plot(100 * value, place, "D", color=style.FAINT, markersize=6)
        names = [name for name, *_ in points] + [f"published: {name}" for name, _ in printed]
        axes.set_yticks(range(rows), names)
        axes.set_ylim(rows - 0.4, -0.6)
        lows = [low if not np.isnan(low) else here for _, here, low, _ in points]
        style.percent_axis(axes, [*lows, *(value for _, value in printed)])
        label = f"MCA %, pooled over folds, 95 % interval ({protocol_label(run)})"
        axes.set_xlabel(label, loc="right")  # it may be wider than axes next to long names

    best = points[0]
    also = f"; {len(printed)} published scores below" if printed else ""
    what = "published scores of the same data set and protocol, not computed here"
    diamonds = f" Diamonds: {what}." if printed else ""
    return style.make_picture(
        draw,
        (style.WIDTH, 1.1 + 0.3 * rows),
        style.title_of(run),
        f"ranking-{data_label(run)}-{protocol_label(run)}",
        "Mean class accuracy and its 95 % interval",
        f"{len(points)} methods by mean class accuracy, {best[0]} first with "
        f"{100 * best[1]:.1f} per cent{also}.",
        f"{style.title_of(run)}. Lines: 95 % intervals by bootstrap over specimens.{diamonds}",
    )


def _with_folds(result: Result) -> str:
    group = result.group
    return result.method + (f" ({group.finished_folds} folds)" if group.missing_folds else "")


def label_efficiency(results: Sequence[Result]) -> list[style.Picture]:
    """MCA by the number of labelled specimens; none where no method was run with few labels."""
    lines: dict[str, dict[int | None, Result]] = {}
    for result in results:
        few = result.group.first.kept.get("labelled")
        name = result.method.removesuffix(f"-{few}specimens")
        lines.setdefault(name, {})[few] = result
    lines = {name: line for name, line in lines.items() if len(line) > 1}
    if not lines:
        return []
    run = results[0].group.first
    counts = sorted({few for line in lines.values() for few in line if few is not None})
    places = {few: place for place, few in enumerate([*counts, None])}

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for number, (name, line) in enumerate(lines.items()):
            ordered = [few for few in places if few in line]
            scores = 100 * np.array([line[few].pooled["mca"] for few in ordered])  # (points, 3)
            across = np.array([places[few] for few in ordered]) + 0.06 * number
            colour, marker = style.styles(len(lines))[number]
            axes.plot(across, scores[:, 0], color=colour, marker=marker, label=name)
            axes.vlines(across, scores[:, 1], scores[:, 2], color=colour, linewidth=1)
        axes.set_xticks(list(places.values()), [*map(str, counts), "all"])
        axes.set_xlabel("labelled training specimens of a pattern")
        axes.set_ylabel(f"MCA %, pooled ({protocol_label(run)})")
        axes.grid(axis="y", color=style.FAINT, alpha=0.35, linewidth=0.6)
        axes.legend(fontsize=8)

    return [
        style.make_picture(
            draw,
            (style.WIDTH, 3.4),
            style.title_of(run),
            f"labels-{data_label(run)}-{protocol_label(run)}",
            "What labels are worth",
            f"Mean class accuracy of {', '.join(lines)} with {counts[0]} to all labelled training "
            "specimens of a pattern.",
            f"{style.title_of(run)}. Lines: 95 % intervals by bootstrap over specimens. Encoders "
            "learn without labels from all cells; networks with labels from the labelled ones.",
        )
    ]


def specimen_strips(result: Result) -> list[style.Picture]:
    """The accuracy on every specimen, pattern by pattern; none where specimens are unknown."""
    group, run = result.group, result.group.first
    if not group.specimens_known:
        return []
    names, confusions = pooled_confusions(group, group.by_fold)
    accuracy, patterns = metrics.aca(confusions), specimen_patterns(confusions)
    cells = confusions.sum(axis=(1, 2))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for label, (colour, marker) in enumerate(style.styles(len(run.classes))):
            members = np.flatnonzero(patterns == label)
            ranks = np.argsort(np.argsort(accuracy[members], kind="stable"))
            heights = label + (ranks % 5 - 2) * 0.12  # marks of nearly equal values stay apart
            sizes = 12 + 2.0 * np.sqrt(cells[members])
            axes.scatter(100 * accuracy[members], heights, s=sizes, c=colour, marker=marker,
                         alpha=0.8, linewidths=0)  # fmt: skip
            if len(members):
                ends = (label - 0.36, label + 0.36)
                mean = 100 * float(accuracy[members].mean())
                axes.plot([mean, mean], ends, color=style.INK, linewidth=1.2)
        axes.set_yticks(range(len(run.classes)), [style.plain_name(name) for name in run.classes])
        axes.set_ylim(len(run.classes) - 0.5, -0.5)
        style.percent_axis(axes, accuracy.tolist())
        axes.set_xlabel(f"accuracy on one specimen, % ({protocol_label(run)})")

    order = np.argsort(accuracy, kind="stable")[:3]
    lowest = [f"{names[i]} {100 * accuracy[i]:.0f} %" for i in order]
    picture = style.make_picture(
        draw,
        (style.WIDTH, 1.2 + 0.42 * len(run.classes)),
        f"{run.method}: {style.title_of(run)}",
        style.stem_of(run, "specimens"),
        "Accuracy specimen by specimen",
        f"{len(names)} specimens in {len(run.classes)} rows, one a pattern; accuracies from "
        f"{100 * float(accuracy.min()):.0f} to {100 * float(accuracy.max()):.0f} per cent, lowest "
        f"on {names[order[0]]}.",
        f"{style.title_of(run)}. A mark is a specimen, larger with more cells; the line is the "
        f"mean over specimens. Lowest: {', '.join(lowest)}.",
    )
    return [picture]
