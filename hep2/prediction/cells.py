"""The cells to be named: found, decoded exactly as in training, batch by batch."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hep2.data.cells import Row
from hep2.data.foreign_paths import Finder
from hep2.data.image_source import mask_images, whole_fields
from hep2.data.images import FULL_SCALE, SUFFIXES, CellImage, decoded, image_files
from hep2.data.manifest import read_csv, refuse_rows
from hep2.data.no_cells import say_left_out, told_apart
from hep2.data.scale import full_scale_of
from hep2.data.spelling import nothing, said, shown, spelling_key, spellings
from hep2.data.views import in_unit_range
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

BATCH = 256  # cells in memory at a time
TABLES = (".csv", ".tsv", ".txt")  # suffixes of files that list images


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image to be looked at; all that memory holds of each for as long as others are named."""

    id: str  # the file's path in its folder
    specimen: str  # where it came from, "" where that is not known
    folder: Path  # one object for all
    mask: Path | None = None  # an image of where the cell is, where one lies beside it


@dataclass(frozen=True)
class CellBatch:
    """Some cells."""

    cells: Sequence[NamedImage]
    image: Tensor  # those that could be decoded, shape (B, 1, H, W), float32 in [0, 1]
    problems: list[str]  # for every cell why it could not, or ""
    # Of the same shape, 1 in a cell, all 0 without a mask; None where they were not asked for.
    masks: Tensor | None = None


def find_images(images: str | None) -> list[NamedImage]:
    """The images that a path means.

    Args:
        images: an image; a folder, then all images below it but masks, which are their cells'; or
            a CSV with the column image (relative to the CSV's folder) and, if wanted, specimen and
            mask.

    Raises:
        HEp2Error: there is no such file, nothing in it, or rows of it are bad (all are named).
    """
    if images is None:
        raise HEp2Error("which cells? images=<image, folder, or CSV with the column image>")
    path = Path(images)
    if path.is_dir():
        found = told_apart(image_files(path), path)
        if not found.cells:
            masks = f" but {len(found.no_cells)} masks" if found.no_cells else ""
            suffixes = ", ".join(sorted(SUFFIXES))
            raise HEp2Error(f"images={images}: no image below{masks} ({suffixes})")
        say_left_out(found, path)
        named = sorted((file.relative_to(path).as_posix(), file) for file in found.cells)
        return [NamedImage(name, "", path, found.masks.get(file)) for name, file in named]
    if not path.is_file():
        raise HEp2Error(f"images={images}: no such file or folder")
    if path.suffix.lower() in TABLES:
        return _listed(path)
    return [NamedImage(path.name, "", path.parent)]


def _listed(path: Path) -> list[NamedImage]:
    """The images of a CSV."""
    cells, problems, folder = list[NamedImage](), list[str](), path.parent
    finder, places = Finder(folder), dict[Path, str]()
    for number, row in read_csv(path, ("image",), problems, ("specimen", "mask")):
        if nothing(row["image"]):
            problems.append(f"{path.name} row {number} ({row['image']}): no image is named")
            continue
        file = finder.file(row["image"])
        name = os.path.relpath(file, folder) if row["image"] in finder.read else row["image"]
        mask = None if nothing(row.get("mask", "")) else finder.file(row["mask"])
        cells.append(NamedImage(name, said(row.get("specimen", "")), folder, mask))
        places.setdefault(file, f"{path.name} row {number} ({row['image']})")
    for file, why in told_apart(places, folder).no_cells.items():
        problems.append(f"{places[file]}: {why}, no cell")
    problems = [*two_spellings([cell.specimen for cell in cells], "cells"), *problems]
    refuse_rows(path, problems)
    finder.warn(path.name)
    return cells


def spare(images: str | None, file: Path) -> None:
    """Raise HEp2Error where the file that is to be written is the one that names the cells."""
    if images is not None and file.exists() and file.samefile(images):
        raise HEp2Error(f"{file} would take the place of images={images}: choose another out=")


def two_spellings(specimens: Sequence[str], what: str) -> list[str]:
    """A sentence for each specimen that rows write in several ways; `what` a row is."""
    counts = Counter(specimens)
    names = (
        " and ".join(f"{shown(name, forms)} ({counts[name]} {what})" for name in forms)
        for forms in spellings(specimens, spelling_key)
    )
    return [f"one specimen under two spellings, write it in one way: {name}" for name in names]


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


def say_masks(cells: Sequence[NamedImage], masked: bool) -> None:
    """Say whose masks are used; a method that learned with masks misses those that lack.

    `masked` says whether the method learned with any.
    """
    lacking = sum(cell.mask is None for cell in cells)
    if masked and lacking:
        log.warning(
            "the method learned with masks, and %d of %d cells have none beside them: where a cell "
            "is, a threshold or its middle has to tell",
            lacking, len(cells),
        )  # fmt: skip


def batches(
    cells: Sequence[NamedImage],
    size: int,
    channel: str,
    page: int | None = None,
    full_scale: int = FULL_SCALE,
    masked: bool = False,
) -> Iterator[CellBatch]:
    """Batches of decoded cells, with masks if so asked; meanwhile the next are being decoded."""
    files = (cell.folder / cell.id for cell in cells)
    outcomes = decoded(files, size, channel, page, full_scale)
    for start in range(0, len(cells), BATCH):
        part = cells[start : start + BATCH]
        made = list(islice(outcomes, len(part)))
        problems = ["" if isinstance(one, CellImage) else str(one) for one in made]
        places = [place for place, problem in enumerate(problems) if not problem]
        readable = [one for one in made if isinstance(one, CellImage)]
        fields = whole_fields([one.side for one in readable])
        for position, why in fields.items():
            problems[places[position]] = why
        good = [in_unit_range(one.pixels) for position, one in enumerate(readable)
                if position not in fields]  # fmt: skip
        image = np.stack(good)[:, None] if good else np.empty((0, 1, size, size), np.float32)
        taken = [cell for cell, problem in zip(part, problems, strict=True) if not problem]
        masks = _masks(taken, size) if masked else None
        yield CellBatch(part, torch.from_numpy(image), problems, masks)


def _masks(cells: Sequence[NamedImage], size: int) -> Tensor:
    """The masks of some cells, shape (B, 1, size, size), as training has them."""
    rows = [Row(cell.id, "", cell.specimen, "", cell.folder / cell.id, mask=cell.mask or Path())
            for cell in cells]  # fmt: skip
    made = list(mask_images(rows, size))
    masks = np.stack(made)[:, None] > 0 if made else np.empty((0, 1, size, size), np.bool_)
    return torch.from_numpy(masks.astype(np.float32))
