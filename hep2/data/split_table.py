"""Anybody's split: a CSV that says of every image on which side of it the cell stands."""

import math
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Cells, Indices, Row, widened
from hep2.data.foreign_paths import Finder
from hep2.data.images import CellImage, check_reading, decoded
from hep2.data.manifest import read_csv, refuse_rows
from hep2.data.rows import differences
from hep2.data.spelling import POOLS, pool_meant, said
from hep2.errors import HEp2Error
from hep2.files import progress_bar, reserve

IMAGE_SIZE = 64  # that of conf/data: the audit's thresholds were measured at it
MOST_FOLDS = 1000


@dataclass(frozen=True)
class Columns:
    """What the columns of the table are called; None: it has no such column."""

    image: str | None = "image"
    label: str | None = "label"
    specimen: str | None = "specimen"
    split: str | None = "split"
    fold: str | None = "fold"


class Held(NamedTuple):
    """Test cells, and the cells that are learned from to name them; positions, sorted."""

    name: str  # "test", or which fold
    learning: Indices
    test: Indices


@dataclass(frozen=True)
class SplitTable:
    """The cells of a table, and the split that it makes of them."""

    cells: Cells  # in the order of their IDs: the images as the table writes them
    held: tuple[Held, ...]  # one, or one a fold
    columns: Columns  # those that were read
    notes: tuple[str, ...]  # what the reader must know


class _Entry(NamedTuple):
    row: int
    image: str
    label: str
    specimen: str
    side: str  # "train", "val" or "test", or the number of a fold


def read_split_table(
    path: Path,
    columns: Columns,
    root: Path | None = None,
    channel: str = "green",
    given: Iterable[tuple[int, Mapping[str, str]]] | None = None,
) -> SplitTable:
    """Read a table and decode its images, which are kept on the disk, 8 KiB a cell.

    Args:
        path: a CSV, one row a cell, with the columns image, label, if wanted specimen, and either
            split (train, val or test; val counts as learned from) or fold (a number: every fold is
            held out in turn).
        columns: what they are called.
        root: the folder that images are relative to; the table's where None.
        channel: of colour images.
        given: numbers and {column: text} of a table that is in memory, which `path` only names;
            None: those of the file.

    Raises:
        HEp2Error: a column is missing, or rows or images are bad (all are named).
    """
    check_reading(channel, None, None)
    problems, entries, found = list[str](), list[_Entry](), columns
    names = [name for name in asdict(columns).values() if name]
    for number, row in read_csv(path, (), problems, names) if given is None else given:
        if not entries:
            found = _found_columns(path, row, columns)
        fields = (found.image, found.label, found.specimen, found.split or found.fold)
        entries.append(_Entry(number, *(said(row[name]) if name else "" for name in fields)))
    problems += _row_problems(path, entries, found)
    refuse_rows(path, problems)
    by_fold = found.split is None
    sides = [str(int(float(e.side))) if by_fold else pool_meant(e.side) for e in entries]
    named = sorted(zip(_identities(entries), entries, sides, strict=True))
    ids, entries, sides = (list(column) for column in zip(*named, strict=True))
    held, notes = _held(path, np.array(sides), by_fold)
    if not any(entry.specimen for entry in entries):
        notes.append("specimens are unknown: columns.specimen=<column> names their column")
    finder = Finder(path.parent if root is None else root)
    files = [finder.file(entry.image) for entry in entries]
    finder.warn(path.name)
    labels = [entry.label for entry in entries]
    specimens = [entry.specimen for entry in entries]
    rows = map(Row, ids, labels, specimens, [""] * len(ids), files, _origins(path, entries))
    refuse_rows(
        path, [f"one thing under two spellings: {line}" for line in differences(list(rows))]
    )
    images = _images(path, entries, files, channel)
    classes, indices = np.unique(labels, return_inverse=True)
    cells = Cells(
        images,
        np.array(ids),
        indices.astype(np.int64),
        np.array(specimens),
        np.full(len(ids), ""),
        tuple(classes.tolist()),
        path.stem,
        "",
    )
    return SplitTable(cells, tuple(held), found, tuple(notes))


def _origins(path: Path, entries: Sequence[_Entry]) -> list[str]:
    return [f"{path.name} row {entry.row}" for entry in entries]


def _found_columns(path: Path, header: Mapping[str, str], columns: Columns) -> Columns:
    """The columns that the table has.

    Those that were named are needed; specimen, split and fold may be missing under their own names.
    """
    found = asdict(columns)
    remedy = f"its columns are {', '.join(filter(None, header))}"
    for what, name in found.items():
        if name is None or name in header:
            continue
        if what in ("image", "label") or name != what:
            raise HEp2Error(f"{path} has no column {name}: say columns.{what}=<column>; {remedy}")
        found[what] = None
    lacking = [what for what in ("image", "label") if found[what] is None]
    if lacking:
        raise HEp2Error(f"{path}: say columns.{lacking[0]}=<column>; {remedy}")
    split, fold = found["split"], found["fold"]
    if split and fold:  # the one that was named, where only one was
        if (split == "split") == (fold == "fold"):
            raise HEp2Error(
                f"{path} has both a column {split} and a column {fold}: say which one is not to be "
                "read with columns.fold=null or columns.split=null"
            )
        found["split" if split == "split" else "fold"] = None
    elif not split and not fold:
        raise HEp2Error(
            f"{path} does not tell the sides: say columns.split=<column> (train, val or test) or "
            f"columns.fold=<column> (a number); {remedy}"
        )
    twice = [name for name, count in Counter(found.values()).items() if name and count > 1]
    if twice:
        raise HEp2Error(f"{path}: the column {twice[0]} is named for two things; {remedy}")
    return Columns(**found)


def _row_problems(path: Path, entries: Sequence[_Entry], columns: Columns) -> Iterator[str]:
    some_specimen = any(entry.specimen for entry in entries)
    strange: dict[str, list[int]] = defaultdict(list)
    for origin, entry in zip(_origins(path, entries), entries, strict=True):
        lacking = [what for what in ("image", "label") if not getattr(entry, what)]
        lacking += ["specimen"] * (some_specimen and not entry.specimen)
        if "\0" in entry.image:
            yield f"{origin}: a null character in the image's path"
        elif lacking:
            yield f"{origin} ({entry.image}): no {' and no '.join(lacking)}"
        if not (_is_fold(entry.side) if columns.split is None else pool_meant(entry.side) in POOLS):
            strange[entry.side].append(entry.row)
    right = "a whole number from 0" if columns.split is None else "train, val or test"
    for side, rows in strange.items():
        others = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield (
            f"{path.name} row {rows[0]}{others}: {columns.split or columns.fold} is {side!r}, "
            f"not {right}"
        )


def _is_fold(text: str) -> bool:
    whole, _, zeros = text.partition(".")  # spreadsheets and pandas write 3 as 3.0
    return whole.isascii() and whole.isdecimal() and len(whole) < 10 and not zeros.strip("0")


def _identities(entries: Sequence[_Entry]) -> list[str]:
    """Unique names: the image, and the row where an image is listed more than once."""
    count = Counter(entry.image for entry in entries)
    return [f"{e.image} (row {e.row})" if count[e.image] > 1 else e.image for e in entries]


def _held(path: Path, sides: NDArray[np.str_], by_fold: bool) -> tuple[list[Held], list[str]]:
    notes = list[str]()
    names = np.unique(sides).tolist()
    if by_fold:
        if not 2 <= len(names) <= MOST_FOLDS:
            raise HEp2Error(
                f"{path}: {len(names)} different folds; an audit needs from 2 to {MOST_FOLDS}"
            )
        names.sort(key=int)
    elif "test" in names:
        names = ["test"]
    else:
        notes.append("no cell is in test: val is taken for the test")
        names = ["val"]
    held = [
        Held(
            f"fold {name}" if by_fold else name,
            np.flatnonzero(sides != name),
            np.flatnonzero(sides == name),
        )
        for name in names
    ]
    for one in held:
        if not len(one.learning) or not len(one.test):
            raise HEp2Error(f"{path}: all cells are on one side ({np.unique(sides)[0]})")
    return held, notes


def _images(
    path: Path, entries: Sequence[_Entry], files: Sequence[Path], channel: str
) -> NDArray[np.uint16]:
    """All images as a memory map of a file that vanishes with it, shape (N, 1, H, W)."""
    if not any(map(os.path.exists, files)):  # also where a name is too long to be one
        raise HEp2Error(
            f"{path}: none of its {len(files)} images is there, e.g. {files[0]}; "
            "root=<folder> says where they lie"
        )
    shape = (len(files), 1, IMAGE_SIZE, IMAGE_SIZE)
    problems = list[str]()
    try:
        with tempfile.TemporaryFile() as file:
            reserve(file, 2 * math.prod(shape))
            images = np.memmap(file, np.uint16, "r+", shape=shape)
    except OSError as error:
        raise HEp2Error(
            f"no room for the images in {tempfile.gettempdir()}: {error.strerror}; TMPDIR=<folder> "
            "chooses another place"
        ) from error
    outcomes = progress_bar(decoded(files, IMAGE_SIZE, channel), "cells", len(files))
    for place, (origin, outcome) in enumerate(zip(_origins(path, entries), outcomes, strict=True)):
        if isinstance(outcome, CellImage):
            images[place, 0] = widened(outcome.pixels, np.uint16)
        else:
            problems.append(f"{origin} ({entries[place].image}): {outcome}")
    refuse_rows(path, problems)
    return images
