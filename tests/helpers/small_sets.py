"""Small data sets of image files, as people have them, and what comes of opening one."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hep2.data.cells import Cells
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

LABELS = ("homogeneous", "nucleolar", "speckled")
SPECIMENS, CELLS = 2, 2  # of a label, of a specimen


def write_image(file: Path, mask: bool = False, side: int = 12) -> Path:
    """A cell of noise, another for every path, or a mask."""
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = list(str(file).encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side)).astype(np.uint8)
    assert cv2.imwrite(str(file), (pixels > 99).astype(np.uint8) * 255 if mask else pixels)
    return file


def described() -> list[dict[str, str]]:
    """Twelve cells: number, label, specimen, and a pool."""
    return [
        {
            "i": f"{(place * SPECIMENS + specimen) * CELLS + cell + 1:05d}",
            "label": label,
            "specimen": f"{label[:3].upper()}{specimen}",
            "pool": ("train", "test")[cell],
            "s": str(specimen),
        }
        for place, label in enumerate(LABELS)
        for specimen in range(SPECIMENS)
        for cell in range(CELLS)
    ]


def write_folders(root: Path, *forms: str) -> Path:
    """Images by forms of their paths, `{label}/{specimen}/{i}.png`; other forms are masks."""
    for cell in described():
        for number, form in enumerate(forms):
            write_image(root / form.format(**cell), mask=number > 0)
    return root


def write_table(
    root: Path,
    name: str,
    header: str,
    row: Callable[[dict[str, str]], str],
    end: str = "\n",
    encoding: str = "utf-8",
) -> Path:
    """A CSV with a row for each cell of `described`."""
    root.mkdir(parents=True, exist_ok=True)
    text = end.join([header, *map(row, described())]) + end
    (root / name).write_bytes(text.encode(encoding))
    return root


def opened(source: Any, tmp_path: Path) -> Cells:
    return open_cells(source, tmp_path / "cache", 8, "green")


def refusal(make: Callable[[], Any], tmp_path: Path) -> str:
    """What is said of a data set that is refused, at once or when its images have been read."""
    with pytest.raises(HEp2Error) as caught:
        opened(make(), tmp_path)
    return str(caught.value)


def specimens_of(cells: Cells) -> list[str]:
    return sorted(set(cells.specimens.tolist()))


def all_specimens(cells: Iterable[dict[str, str]] = ()) -> list[str]:
    return sorted({cell["specimen"] for cell in cells or described()})
