"""Confusion matrices as the paper's Fig. 1: rows output class, columns target class."""

import csv
import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hep2.data.sources import PAPER_CLASSES
from hep2.evaluation import published
from hep2.evaluation.formats import NOTHING
from hep2.evaluation.plots import style
from hep2.evaluation.results import Result
from hep2.files import escape_formula
from hep2.metrics import FloatArray, aca, mca
from hep2.rundir.result import data_label, protocol_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Panel(NamedTuple):
    """A matrix and how it is shown."""

    shares: FloatArray  # per cent of the target class, shape (C, C)
    classes: tuple[str, ...]
    title: str
    colours: str


_PAPER = _Panel(
    published.PAPER_CONFUSION,
    PAPER_CLASSES,
    "PUBLISHED: Vununu et al., Fig. 1, real cells of SNPHEp-2\n"
    "the authors' scores, not computed here\n"
    f"total accuracy in the text {published.PAPER_TOTAL_ACCURACY:.2f} %\n"
    f"mean recall of this matrix {published.PAPER_MEAN_RECALL:.2f} %",
    "Greys",
)


def column_per_cent(confusion: FloatArray) -> FloatArray:
    """Per cent of each target class (column) given each output class (row). (C, C) -> (C, C)."""
    cells = confusion.sum(axis=0, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.where(cells > 0, 100 * confusion / cells, np.nan)


def confusion_csv(result: Result) -> str:
    """The pooled matrix in per cent, laid out as the picture; last row: target cells counted."""
    run = result.group.first
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    corner = f"{data_label(run)} {protocol_label(run)}: % of target (columns) by output (rows)"
    writer.writerow(escape_formula(text) for text in [corner, *run.classes])
    for name, row in zip(run.classes, column_per_cent(result.confusion), strict=True):
        shares = ("" if np.isnan(share) else f"{share:.4f}" for share in row)
        writer.writerow([escape_formula(name), *shares])
    writer.writerow(["target cells", *(f"{cells:g}" for cells in result.confusion.sum(axis=0))])
    return lines.getvalue()


def confusion_picture(result: Result, large: bool = False) -> style.Picture:
    """The pooled matrix, for the page.

    A large one is for a slide: it has more room for every class, and where the classes are the
    paper's, its own matrix is to the right, marked as published.
    """
    run, matrix, folds = result.group.first, result.confusion, result.group.finished_folds
    cells = "SYNTHETIC cells (simulated)" if run.synthetic else f"cells of {data_label(run)}"
    title = (
        f"{run.method}: {cells}\nprotocol {protocol_label(run)}, {folds} folds pooled\n"
        f"ACA {100 * float(aca(matrix)):.2f} %, MCA {100 * float(mca(matrix)):.2f} %"
    )
    ours = _Panel(column_per_cent(matrix), run.classes, title, "Blues")
    return _picture(
        [ours, _PAPER] if large and run.classes == PAPER_CLASSES else [ours],
        style.stem_of(run, "confusion" if large else "matrix"),
        "Which patterns it mixes up",
        f"Confusion matrix of {run.method}. {_worst_confusion(ours)}",
        f"{style.title_of(run)}. Rows: output class; columns: target class; per cent of the target "
        "class, so every column adds up to 100.",
        large,
    )


def paper_picture() -> style.Picture:
    """The paper's own matrix, marked as published."""
    return _picture(
        [_PAPER],
        "matrix-published-paper",
        "The paper's own matrix",
        f"Confusion matrix printed in the paper. {_worst_confusion(_PAPER)}",
        "PUBLISHED scores of real cells (SNPHEp-2), copied from Fig. 1 of Vununu et al.; not "
        "computed here.",
    )


def _picture(
    panels: list[_Panel], stem: str, heading: str, alt: str, caption: str, large: bool = False
) -> style.Picture:
    classes = len(panels[0].classes)
    side = 2.8 + 0.75 * classes  # inches
    size = (style.WIDTH, min(style.WIDTH, 2.0 + 0.65 * classes) + 0.3)
    if large:
        size = (side * len(panels), side)

    def draw(figure: "Figure") -> None:
        if large:
            figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.15)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_matrix(axes, panel)

    return style.make_picture(draw, size, "", stem, heading, alt, caption)


def _draw_matrix(axes: "Axes", panel: _Panel) -> None:
    shares, classes, title, colours = panel
    labels = [name.replace("_", "\n").replace("-", "-\n") for name in classes]
    axes.imshow(np.nan_to_num(shares), cmap=colours, vmin=0, vmax=100, interpolation="none")
    for (row, column), share in np.ndenumerate(shares):
        text = NOTHING if np.isnan(share) else f"{share:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=9,
                  color="white" if share > 55 else "black",
                  fontweight="bold" if row == column else "normal")  # fmt: skip
    axes.set_xticks(range(len(classes)), labels, fontsize=8)
    axes.set_yticks(range(len(classes)), labels, fontsize=8)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("target class (each column: 100 %)", fontsize=9)
    axes.set_ylabel("output class", fontsize=9)
    axes.set_title(title, fontsize=9, pad=10)


def _worst_confusion(panel: _Panel) -> str:
    """The greatest share off the diagonal, in words."""
    off = np.where(np.eye(len(panel.classes), dtype=bool), 0, np.nan_to_num(panel.shares))
    if not off.any():
        return "No cell is misclassified."
    indices = np.unravel_index(off.argmax(), off.shape)
    output, target = (style.plain_name(panel.classes[i]) for i in indices)
    return f"The greatest confusion: {off.max():.1f} per cent of {target} are taken for {output}."
