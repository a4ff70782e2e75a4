"""The pictures of the README and of this documentation, all of them of simulated cells.

make reproduce
.venv/bin/python docs/pictures.py
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from hep2.data.simulator.cells import CLASSES, simulate
from hep2.evaluation.plots.style import WIDTH, make_picture, plain_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = Path(__file__).parent / "images"
FIGURES = Path(__file__).parents[1] / "reports" / "reproduce" / "figures"
FROM_REPORT = {  # our name: the report's
    "ranking": "ranking-synthetic-published",
    "matrix": "matrix-synthetic-published-dcae_plus-mlp_means",
}


def montage() -> bytes:
    """The first cell of every specimen, a row for each pattern."""
    cells = simulate(image_size=96)
    _, first = np.unique(cells.specimens, return_index=True)
    rows = {pattern: first[cells.labels[first] == pattern] for pattern in CLASSES}

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(rows), len(first) // len(rows))
        for line, (pattern, shown) in zip(grid, rows.items(), strict=True):
            for axes, cell in zip(line, shown, strict=True):
                axes.imshow(cells.images[cell], cmap="gray", vmin=0, vmax=255)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            name = plain_name(pattern).replace(" ", "\n")
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")

    title = "SYNTHETIC cells (simulated, not real), one of each specimen"
    return make_picture(draw, (WIDTH, 3.2), title, "cells", "", "", "").png


def small(file: Path) -> None:
    """Write a picture again with a palette: a third of its size, and no difference to the eye."""
    picture = Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)


def main() -> None:
    """Draw the cells; copy the others from the report of `make reproduce`, where there is one."""
    IMAGES.mkdir(exist_ok=True)
    made = {"cells": montage()}
    for name, stem in FROM_REPORT.items():
        file = FIGURES / f"{stem}.png"
        if file.is_file():
            made[name] = file.read_bytes()
        else:
            print(f"left as it is: {name}.png, for there is no {file}; `make reproduce` makes it")
    for name, png in made.items():
        file = IMAGES / f"{name}.png"
        file.write_bytes(png)
        small(file)
        print(f"{file}: {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
