"""The cells to be named: found, decoded exactly as in training, batch by batch."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hep2.data.images import FULL_SCALE, SUFFIXES, CellImage, decoded, image_files
from hep2.data.inputs import in_unit_range
from hep2.data.manifest import read_csv, shortened
from hep2.data.scale import full_scale_of
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

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


def scale_of(
    images: str,
    cells: Sequence[NamedImage],
    channel: str,
    page: int | None,
    learned: int | None,
    asked: int | None,
) -> int:
    """The value of white in the images of 16 bits among those that `images` means.

    Args:
        images: what was asked for, for messages.
        cells: what it means.
        channel: as of `read_image`.
        page: as of `read_image`.
        learned: what was white in the images that the run learned from, 255 where they have 8 bits;
            None: it does not say.
        asked: data.full_scale; None: it is found over all of them.

    Raises:
        HEp2Error: these images are of several scales, or of another than the run learned from.
    """

    def files() -> Iterator[tuple[str, Path]]:
        return ((cell.id, cell.folder / cell.id) for cell in cells)

    found = full_scale_of(f"images={images}", files, channel, page, asked)
    if found is None:
        return FULL_SCALE
    expected = FULL_SCALE if learned is None else learned
    if asked is None and expected not in (255, found):
        known = f"learned from {learned} as white" if learned else "does not say what was white"
        dark = f", or data.full_scale={expected} if they are only darker" * (found < expected)
        raise HEp2Error(
            f"images={images}: the 16-bit images among them look as if {found} were white, and the "
            f"run {known}; if it is {found}, add data.full_scale={found}{dark}"
        )
    log.info("%d is taken for white in 16-bit images; data.full_scale=<number> sets another", found)
    return found


def batches(
    cells: Sequence[NamedImage],
    size: int,
    channel: str,
    page: int | None = None,
    full_scale: int = FULL_SCALE,
) -> Iterator[CellBatch]:
    """Batches of decoded cells; while one is being worked on, the next is being decoded."""
    files = (cell.folder / cell.id for cell in cells)
    outcomes = decoded(files, size, channel, page, full_scale)
    for start in range(0, len(cells), BATCH):
        part = cells[start : start + BATCH]
        made = list(islice(outcomes, len(part)))
        good = [in_unit_range(one.pixels) for one in made if isinstance(one, CellImage)]
        image = np.stack(good)[:, None] if good else np.empty((0, 1, size, size), np.float32)
        problems = ["" if isinstance(one, CellImage) else str(one) for one in made]
        yield CellBatch(part, torch.from_numpy(image), problems)
