"""Pictures of cells: reconstructions of typical and worst ones, and the most confident mistakes."""

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hep2.evaluation.plots import style
from hep2.evaluation.results import Result
from hep2.rundir.artifacts import Sheet, mistakes_of
from hep2.rundir.result import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_MISTAKES = 12
_IN_A_ROW = 3
_ERROR_GAIN = 4


def reconstruction_sheet(run: Run, sheet: Sheet) -> style.Picture:
    """Input, reconstruction and error of typical (left) and worst (right) cells per pattern."""
    lines: list[tuple[str, tuple[int | None, ...]]] = []
    for name in dict.fromkeys(str(cell["pattern"]) for cell in sheet.cells):
        kinds = [[i for i, c in enumerate(sheet.cells) if (c["pattern"], c["kind"]) == (name, kind)]
                 for kind in ("typical", "worst")]  # fmt: skip
        lines += [(name, shown) for shown in zip_longest(*kinds)]

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(lines), 6, squeeze=False)
        for line, (name, shown) in enumerate(lines):
            for side, cell in enumerate(shown):
                _draw_trio(grid[line, 3 * side : 3 * side + 3], sheet, cell)
            if line == 0 or lines[line - 1][0] != name:
                grid[line, 0].set_ylabel(style.plain_name(name), fontsize=7.5, loc="center")
        for column, title in enumerate(("input", "reconstruction", f"error x {_ERROR_GAIN}") * 2):
            kind = "typical" if column < 3 else "worst"
            grid[0, column].set_title(f"{kind}\n{title}", fontsize=7)

    worst = max(sheet.cells, key=lambda cell: float(cell["mse"]))
    return style.make_picture(
        draw,
        (style.WIDTH, 0.9 + 0.8 * len(lines)),
        f"{run.method}, fold {run.fold}: {style.title_of(run)}",
        style.stem_of(run, "reconstructions"),
        f"What the autoencoder {run.method} can and cannot draw",
        f"Input, reconstruction and error of {len(sheet.cells)} test cells: typical and worst of "
        f"every pattern; the worst is {worst['id']}, a {style.plain_name(worst['pattern'])} cell.",
        f"{style.title_of(run)}. Test cells of fold {run.fold} and its autoencoder; "
        f"{style.held_out_words(run)}. Typical: nearest to the pattern's median error.",
    )


def _draw_trio(trio: NDArray[Any], sheet: Sheet, cell: int | None) -> None:
    for axes in trio:
        _bare(axes)
    if cell is None:
        return
    given, made = sheet.images[:, cell].astype(np.int16)
    _show(trio[0], given)
    _show(trio[1], made)
    _show(trio[2], np.clip(_ERROR_GAIN * np.abs(given - made), 0, 255), "magma")


def _show(axes: "Axes", image: NDArray[Any], colours: str = "gray") -> None:
    axes.imshow(image, cmap=colours, vmin=0, vmax=255, interpolation="none")


def confident_mistakes(result: Result) -> Sheet | None:
    """The most confident mistakes of all runs of a method; a cell appears once."""
    found: dict[str, tuple[dict[str, Any], NDArray[np.uint8]]] = {}
    for run in result.group.runs:
        sheet = mistakes_of(run)
        for place, cell in enumerate(sheet.cells if sheet else []):
            seen = found.get(str(cell["id"]))
            if sheet and (seen is None or cell["confidence"] > seen[0]["confidence"]):
                found[str(cell["id"])] = (cell, sheet.images[0, place])
    if not found:
        return None
    ranked = sorted(found.values(), key=lambda item: -float(item[0]["confidence"]))
    chosen, images = zip(*ranked[:SHOWN_MISTAKES], strict=True)
    return Sheet(list(chosen), np.stack(images)[None])


def mistake_gallery(result: Result, sheet: Sheet) -> style.Picture:
    """The most confident mistakes with IDs, target and output."""
    run = result.group.first
    rows = -(-len(sheet.cells) // _IN_A_ROW)

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(rows, _IN_A_ROW, squeeze=False)
        for place, axes in enumerate(grid.flat):
            _bare(axes)
            if place >= len(sheet.cells):
                continue
            _show(axes, sheet.images[0, place])
            cell, name = sheet.cells[place], str(sheet.cells[place]["id"])
            target, output = style.plain_name(cell["target"]), style.plain_name(cell["output"])
            words = (name if len(name) <= 24 else f"…{name[-23:]}", target, f"taken for {output}",
                     f"{100 * cell['confidence']:.1f} % sure")  # fmt: skip
            axes.set_xlabel("\n".join(words), fontsize=7.5)

    first = sheet.cells[0]
    return style.make_picture(
        draw,
        (style.WIDTH, 0.4 + 2.25 * rows),
        f"{run.method}: {style.title_of(run)}",
        style.stem_of(run, "mistakes"),
        "Its most confident mistakes",
        f"Images of {len(sheet.cells)} misclassified test cells. First {first['id']}: "
        f"{style.plain_name(first['target'])} taken for {style.plain_name(first['output'])}.",
        f"{style.title_of(run)}. Test cells of all folds, by the probability of the wrong class; "
        "the table below names them.",
    )


def _bare(axes: "Axes") -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
