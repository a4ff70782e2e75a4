"""Pictures of cells: reconstructions of typical and worst ones, and the most confident mistakes."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hep2.evaluation.plots.style import (
    WIDTH,
    Picture,
    held_out_words,
    make_picture,
    plain_name,
    stem_of,
    title_of,
)
from hep2.evaluation.results import Result
from hep2.rundir.artifacts import Sheet, mistakes_of
from hep2.rundir.result import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_MISTAKES = 12
_IN_A_ROW = 3
_ERROR_GAIN = 4


def reconstruction_sheet(run: Run, sheet: Sheet) -> Picture:
    """Input, reconstruction and error of typical (left) and worst (right) cells per pattern."""
    columns = {kind: [i for i, c in enumerate(sheet.cells) if c["kind"] == kind]
               for kind in ("typical", "worst")}  # fmt: skip
    lines: list[tuple[str, list[int | None]]] = []
    for name in dict.fromkeys(str(cell["pattern"]) for cell in sheet.cells):
        kinds = [[i for i in members if sheet.cells[i]["pattern"] == name]
                 for members in columns.values()]  # fmt: skip
        for place in range(max(map(len, kinds))):
            shown = [members[place] if place < len(members) else None for members in kinds]
            lines.append((name, shown))

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(lines), 6, squeeze=False)
        for line, (name, shown) in enumerate(lines):
            for side, cell in enumerate(shown):
                _draw_trio(grid[line, 3 * side : 3 * side + 3], sheet, cell)
            if line == 0 or lines[line - 1][0] != name:
                grid[line, 0].set_ylabel(plain_name(name), fontsize=7.5, loc="center")
        for column, title in enumerate(("input", "reconstruction", f"error x {_ERROR_GAIN}") * 2):
            kind = "typical" if column < 3 else "worst"
            grid[0, column].set_title(f"{kind}\n{title}", fontsize=7)

    worst = max(sheet.cells, key=lambda cell: float(cell["mse"]))
    return make_picture(
        draw,
        (WIDTH, 0.9 + 0.8 * len(lines)),
        f"{run.method}, fold {run.fold}: {title_of(run)}",
        stem_of(run, "reconstructions"),
        f"What the autoencoder {run.method} can and cannot draw",
        f"Input, reconstruction and error of {len(sheet.cells)} test cells: typical and worst of "
        f"every pattern; the worst is {worst['id']}, a {plain_name(worst['pattern'])} cell.",
        f"{title_of(run)}. Test cells of fold {run.fold} and its autoencoder; "
        f"{held_out_words(run)}. Typical: nearest to the pattern's median error.",
    )


def _draw_trio(trio: NDArray[Any], sheet: Sheet, cell: int | None) -> None:
    for axes in trio:
        _bare(axes)
    if cell is None:
        return
    given, made = sheet.images[:, cell].astype(np.int16)
    error = np.clip(_ERROR_GAIN * np.abs(given - made), 0, 255)
    for axes, image, colours in zip(trio, (given, made, error), ("gray", "gray", "magma"),
                                    strict=True):  # fmt: skip
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
    ranked = sorted(found.values(), key=lambda item: -float(item[0]["confidence"]))
    ranked = ranked[:SHOWN_MISTAKES]
    if not ranked:
        return None
    return Sheet([cell for cell, _ in ranked], np.stack([image for _, image in ranked])[None])


def mistake_gallery(result: Result, sheet: Sheet) -> Picture:
    """The most confident mistakes with IDs, target and output."""
    run = result.group.first
    rows = -(-len(sheet.cells) // _IN_A_ROW)

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(rows, _IN_A_ROW, squeeze=False)
        for place, axes in enumerate(grid.flat):
            _bare(axes)
            if place >= len(sheet.cells):
                continue
            cell = sheet.cells[place]
            axes.imshow(sheet.images[0, place], cmap="gray", vmin=0, vmax=255,
                        interpolation="none")  # fmt: skip
            axes.set_xlabel(
                f"{_short(cell['id'])}\n{plain_name(cell['target'])}\n"
                f"taken for {plain_name(cell['output'])}\n{100 * cell['confidence']:.1f} % sure",
                fontsize=7.5,
            )

    first = sheet.cells[0]
    return make_picture(
        draw,
        (WIDTH, 0.4 + 2.25 * rows),
        f"{run.method}: {title_of(run)}",
        stem_of(run, "mistakes"),
        "Its most confident mistakes",
        f"Images of {len(sheet.cells)} misclassified test cells. First {first['id']}: "
        f"{plain_name(first['target'])} taken for {plain_name(first['output'])}.",
        f"{title_of(run)}. Test cells of all folds, by the probability of the wrong class; the "
        "table below names them.",
    )


def _short(text: object) -> str:
    whole = str(text)
    return whole if len(whole) <= 24 else f"…{whole[-23:]}"


def _bare(axes: "Axes") -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
