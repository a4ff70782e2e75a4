"""The cells to be named: found, decoded exactly as in training, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hep2.data.images import SUFFIXES, CellImage, decoded, image_files
from hep2.data.inputs import in_unit_range
from hep2.data.manifest import read_csv, shortened
from hep2.errors import HEp2Error

BATCH = 256  # cells in memory at a time


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image to be looked at; all that memory holds of each for as long as others are named."""

    id: str  # the file's path in its folder
    specimen: str  # where it came from, "" where that is not known
    folder: Path  # one object for all


@dataclass(frozen=True)
class CellBatch:
    """Some cells."""

    cells: Sequence[NamedImage]
    image: Tensor  # those that could be decoded, shape (B, 1, H, W), float32 in [0, 1]
    problems: list[str]  # for every cell why it could not, or ""


def find_images(images: str | None) -> list[NamedImage]:
    """The images that a path means.

    Args:
        images: an image; a folder, then all images below it; or a CSV with the column image
            (relative to the CSV's folder) and, if wanted, specimen.

    Raises:
        HEp2Error: there is no such file, or nothing in it.
    """
    if images is None:
        raise HEp2Error("which cells? images=<image, folder, or CSV with the column image>")
    path = Path(images)
    if path.is_dir():
        found = sorted(file.relative_to(path).as_posix() for file in image_files(path))
        if not found:
            raise HEp2Error(f"images={images}: no image below ({', '.join(sorted(SUFFIXES))})")
        return [NamedImage(name, "", path) for name in found]
    if not path.is_file():
        raise HEp2Error(f"images={images}: no such file or folder")
    if path.suffix.lower() != ".csv":
        return [NamedImage(path.name, "", path.parent)]
    cells, problems, folder = list[NamedImage](), list[str](), path.parent
    for number, row in read_csv(path, ("image",), problems):
        if row["image"]:
            cells.append(NamedImage(row["image"], row.get("specimen", ""), folder))
        else:
            problems.append(f"{path.name} row {number}: no image is named")
    if problems:
        raise HEp2Error(f"{path}: mend or remove these rows:\n{shortened(problems)}")
    return cells


def batches(cells: Sequence[NamedImage], size: int, channel: str) -> Iterator[CellBatch]:
    """Batches of decoded cells; while one is being worked on, the next is being decoded."""
    outcomes = decoded((cell.folder / cell.id for cell in cells), size, channel)
    for start in range(0, len(cells), BATCH):
        part = cells[start : start + BATCH]
        made = list(islice(outcomes, len(part)))
        good = [in_unit_range(one.pixels) for one in made if isinstance(one, CellImage)]
        image = np.stack(good)[:, None] if good else np.empty((0, 1, size, size), np.float32)
        problems = ["" if isinstance(one, CellImage) else str(one) for one in made]
        yield CellBatch(part, torch.from_numpy(image), problems)
