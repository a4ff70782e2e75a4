"""The cells to be named: found, decoded exactly as in training, batch by batch."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hep2.data.foreign_paths import Finder
from hep2.data.image_source import whole_fields
from hep2.data.images import SUFFIXES, CellImage, decoded, image_files
from hep2.data.inputs import in_unit_range
from hep2.data.manifest import by_reason, read_csv, shortened
from hep2.data.no_cells import say_left_out, told_apart
from hep2.data.spelling import nothing, shown, spelling_key, spellings
from hep2.errors import HEp2Error

BATCH = 256  # cells in memory at a time
TABLES = (".csv", ".tsv", ".txt")  # suffixes of files that list images


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
        images: an image; a folder, then all images below it but masks; or a CSV with the column
            image (relative to the CSV's folder) and, if wanted, specimen.

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
        names = sorted(file.relative_to(path).as_posix() for file in found.cells)
        return [NamedImage(name, "", path) for name in names]
    if not path.is_file():
        raise HEp2Error(f"images={images}: no such file or folder")
    if path.suffix.lower() in TABLES:
        return _listed(path)
    return [NamedImage(path.name, "", path.parent)]


def _listed(path: Path) -> list[NamedImage]:
    """The images of a CSV."""
    cells, problems, folder = list[NamedImage](), list[str](), path.parent
    finder, places = Finder(folder), dict[Path, str]()
    for number, row in read_csv(path, ("image",), problems, ("specimen",)):
        if nothing(row["image"]):
            problems.append(f"{path.name} row {number} ({row['image']}): no image is named")
            continue
        file, specimen = finder.file(row["image"]), row.get("specimen", "")
        name = os.path.relpath(file, folder) if row["image"] in finder.read else row["image"]
        cells.append(NamedImage(name, "" if nothing(specimen) else specimen, folder))
        places.setdefault(file, f"{path.name} row {number} ({row['image']})")
    for file, why in told_apart(places, folder).no_cells.items():
        problems.append(f"{places[file]}: {why}, no cell")
    counts = Counter(cell.specimen for cell in cells)
    for forms in spellings([cell.specimen for cell in cells], spelling_key):
        names = " and ".join(f"{shown(name, forms)} ({counts[name]} cells)" for name in forms)
        problems.insert(0, f"one specimen under two spellings, write it in one way: {names}")
    if problems:
        lines = shortened(by_reason(problems))
        raise HEp2Error(f"{path}: mend or remove these rows:\n{lines}")
    finder.warn(path.name)
    return cells


def batches(cells: Sequence[NamedImage], size: int, channel: str) -> Iterator[CellBatch]:
    """Batches of decoded cells; while one is being worked on, the next is being decoded."""
    outcomes = decoded((cell.folder / cell.id for cell in cells), size, channel)
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
        yield CellBatch(part, torch.from_numpy(image), problems)
