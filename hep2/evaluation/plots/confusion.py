"""Pictures of finished runs, drawn without a display and without global state."""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hep2 import metrics
from hep2.evaluation.formats import NOTHING
from hep2.evaluation.plots.style import WIDTH, Picture, about, picture, plain_name, stem_of
from hep2.evaluation.published import (
    PAPER_CLASSES,
    PAPER_CONFUSION,
    PAPER_TOTAL_ACCURACY,
    paper_mean_recall,
)
from hep2.evaluation.results import Result
from hep2.files import neutral
from hep2.metrics import FloatArray
from hep2.rundir.result import data_label, protocol_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150


def column_per_cent(confusion: FloatArray) -> FloatArray:
    """Per cent of each target class (column) given each output class (row).

    Shape: (C, C) -> (C, C). Columns of classes that no target has are NaN.
    """
    cells = confusion.sum(axis=0, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.where(cells > 0, 100 * confusion / cells, np.nan)


def confusion_csv(result: Result) -> str:
    """The pooled matrix in per cent, laid out as the picture; last row: target cells counted."""
    run = result.group.first
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    corner = f"{data_label(run)} {protocol_label(run)}: % of target (columns) by output (rows)"
    writer.writerow(neutral(text) for text in [corner, *run.classes])
    for name, row in zip(run.classes, column_per_cent(result.confusion), strict=True):
        shares = ("" if np.isnan(share) else f"{share:.4f}" for share in row)
        writer.writerow([neutral(name), *shares])
    cells = result.confusion.sum(axis=0)
    writer.writerow(["target cells", *(f"{count:g}" for count in cells)])
    return lines.getvalue()


def confusion_png(result: Result) -> bytes:
    """Draw the pooled confusion matrix as the paper's Fig. 1: rows output, columns target class.

    When the classes are the paper's, its own matrix stands to the right, marked as published.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run = result.group.first
    ours = (column_per_cent(result.confusion), run.classes, _title(result), "Blues")
    panels = [ours, _paper_panel()] if run.classes == PAPER_CLASSES else [ours]
    side = 2.8 + 0.75 * len(run.classes)  # inches
    figure = Figure(figsize=(side * len(panels), side), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.15)
    for axes, (shares, classes, title, colours) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _draw_matrix(axes, shares, classes, colours)
        axes.set_title(title, fontsize=9.5, pad=10)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def confusion_picture(result: Result) -> Picture:
    """The same matrix alone, for the page."""
    run = result.group.first
    shares = column_per_cent(result.confusion)
    return picture(
        lambda figure: _draw_panel(figure, shares, run.classes, _title(result), "Blues"),
        _page_size(len(run.classes)),
        stem_of(run, "matrix"),
        "Which patterns it mixes up",
        f"Confusion matrix of {run.method}. {_worst_confusion(shares, run.classes)}",
        f"{about(run)}. Rows: output class; columns: target class; per cent of the target class, "
        "so every column adds up to 100.",
    )


def paper_picture() -> Picture:
    """The paper's own matrix, marked as published."""
    shares, classes, title, colours = _paper_panel()
    return picture(
        lambda figure: _draw_panel(figure, shares, classes, title, colours),
        _page_size(len(classes)),
        "matrix-published-paper",
        "The paper's own matrix",
        f"Confusion matrix printed in the paper. {_worst_confusion(shares, classes)}",
        "PUBLISHED figures of real cells (SNPHEp-2), copied from Fig. 1 of Vununu et al.; not "
        "computed here.",
    )


def _page_size(classes: int) -> tuple[float, float]:
    return WIDTH, min(WIDTH, 2.0 + 0.65 * classes) + 0.3


def _draw_panel(
    figure: "Figure", shares: FloatArray, classes: Sequence[str], title: str, colours: str
) -> None:
    axes = figure.subplots()
    _draw_matrix(axes, shares, classes, colours)
    axes.set_title(title, fontsize=9, pad=10)


def _worst_confusion(shares: FloatArray, classes: Sequence[str]) -> str:
    """The greatest share off the diagonal, in words."""
    off = np.where(np.eye(len(classes), dtype=bool), 0, np.nan_to_num(shares))
    if not off.any():
        return "No cell is misclassified."
    output, target = divmod(int(off.argmax()), len(classes))
    return (
        f"The greatest confusion: {off.max():.1f} per cent of {plain_name(classes[target])} are "
        f"taken for {plain_name(classes[output])}."
    )


def _title(result: Result) -> str:
    run = result.group.first
    confusion = result.confusion
    done, every = len(result.group.by_fold), run.folds
    folds = f"{done} folds" if done == every else f"{done} of {every} folds"
    cells = "SYNTHETIC cells (simulated)" if run.synthetic else f"cells of {data_label(run)}"
    return "\n".join(
        [
            f"{run.method}: {cells}",
            f"protocol {protocol_label(run)}, {folds} pooled",
            f"ACA {100 * float(metrics.aca(confusion)):.2f} %, "
            f"MCA {100 * float(metrics.mca(confusion)):.2f} %",
        ]
    )


def _paper_panel() -> tuple[FloatArray, tuple[str, ...], str, str]:
    title = "\n".join(
        [
            "PUBLISHED: Vununu et al., Fig. 1, real cells of SNPHEp-2",
            "the authors' figures, not computed here",
            f"total accuracy in the text {PAPER_TOTAL_ACCURACY:.2f} %",
            f"mean recall of this matrix {paper_mean_recall():.2f} %",
        ]
    )
    return PAPER_CONFUSION, PAPER_CLASSES, title, "Greys"


def _draw_matrix(axes: "Axes", shares: FloatArray, classes: Sequence[str], colours: str) -> None:
    labels = [name.replace("_", "\n").replace("-", "-\n") for name in classes]
    axes.imshow(np.nan_to_num(shares), cmap=colours, vmin=0, vmax=100, interpolation="none")
    for (row, column), share in np.ndenumerate(shares):
        text = NOTHING if np.isnan(share) else f"{share:.2f}"
        cell = axes.text(column, row, text, ha="center", va="center", fontsize=9)
        cell.set(color="white" if share > 55 else "black")
        cell.set(fontweight="bold" if row == column else "normal")
    axes.set_xticks(range(len(classes)), labels, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(classes)), labels, fontsize=8, parse_math=False)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("target class (each column: 100 %)", fontsize=9)
    axes.set_ylabel("output class", fontsize=9)
