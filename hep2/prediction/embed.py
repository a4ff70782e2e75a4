"""Cells in, their vectors out: .npy with a table beside it, .csv, or .parquet."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hep2.data.views import check_orientations, in_unit_range
from hep2.errors import HEp2Error
from hep2.features.transforms import Representation
from hep2.files import progress_bar
from hep2.prediction.cells import BATCH, batches, find_images, say_masks, scale_of, spare
from hep2.prediction.judge import Result
from hep2.prediction.member import read_representation
from hep2.prediction.models import find_runs, opened_again
from hep2.prediction.vector_files import SINKS, Vectors
from hep2.rundir.directory import RunDir

log = logging.getLogger(__name__)

Batch = tuple[list[list[str]], Vectors]  # rows of COLUMNS, and their vectors, NaN after a problem


@dataclass
class Embedded:
    """What came of it."""

    cells: int = 0
    unreadable: int = 0  # of them, images that could not be decoded
    not_held_out: int = 0  # of them, cells that their encoder may have learned from
    folds: set[int] = field(default_factory=set)  # by whose encoders they were embedded
    files: list[Path] = field(default_factory=list)  # written


def embed(
    run: str | None,
    runs_dir: Path,
    images: str | None,
    out: str | None,
    orientations: int | None = None,
    page: int | None = None,
    full_scale: int | None = None,
) -> Embedded:
    """Write the vectors that a method makes of cells: an encoder's latents, or other features.

    Without `images` they are the cells of the run's own data set, each by the fold in which it is
    a test cell, so that no encoder has learned from it; by the first fold where it is in none. The
    column held_out says so. Others are embedded by the first fold, and held_out is empty. Rows are
    in the order of the folds; vectors of different folds are not comparable where their encoders
    are not one. Memory does not grow with the number of cells but for their names.

    `out` ends in .npy (float32, one row a cell; COLUMNS in a .csv beside it), .csv or .parquet,
    all else is as of `hep2.prediction.predict.predict`.

    Raises:
        HEp2Error: an argument is wrong, a file cannot be read or written, or the data set of the
            run is not what it was.
    """
    target = Path(out or "")
    if target.suffix not in SINKS:
        raise HEp2Error(f"out={out} must name a file that ends in {', '.join(SINKS)}")
    found = find_runs(run, runs_dir, embed=True)
    if orientations is not None:
        check_orientations(orientations)
    if images is None:
        count, made = _own(found, orientations)
    else:
        path, result = next(iter(found.items()))
        if len(found) > 1:
            log.info("all cells by one fold of %d: %s", len(found), path)
        count, made = _foreign(path, result, images, orientations, page, full_scale)
        spare(images, target.with_suffix(".csv") if target.suffix == ".npy" else target)
    done = Embedded()
    try:
        first = next(made)  # before a file is opened: it tells the length of a vector
        length = first[1].shape[1]
        with SINKS[target.suffix](target, (count, length), done.files) as write:
            for rows, vectors in progress_bar(chain([first], made), "embedding cells"):
                if vectors.shape[1] != length:
                    raise HEp2Error(
                        f"the folds make vectors of {length} and of {vectors.shape[1]} values: "
                        "choose one fold by run=<its directory>"
                    )
                write(rows, vectors)
                done.cells += len(rows)
                done.unreadable += sum(bool(row[4]) for row in rows)
                done.not_held_out += sum(row[3] == "no" for row in rows)
                done.folds |= {int(row[2]) for row in rows}
    except OSError as error:
        raise HEp2Error(f"cannot write {target}: {error.strerror}; choose another out=") from error
    return done


def _vectors(
    representation: Representation, image: Tensor, turns: int | None, masks: Tensor | None
) -> Vectors:
    with torch.inference_mode():
        made: Tensor = representation(image, turns, masks)
    return made.numpy()


def _foreign(
    path: Path,
    result: Result,
    images: str,
    turns: int | None,
    page: int | None,
    full_scale: int | None,
) -> tuple[int, Iterator[Batch]]:
    """How many cells `images` means, and their batches."""
    cells, representation = find_images(images), read_representation(path, result)
    data = RunDir(path).stored()["data"]
    page = data.get("page") if page is None else page
    scale = scale_of(images, cells, data["channel"], page, result.get("full_scale"), full_scale)
    say_masks(cells, representation.masked)
    size, fold = int(data["image_size"]), str(result.get("fold", 0))

    def made() -> Iterator[Batch]:
        for batch in batches(cells, size, data["channel"], page, scale, representation.masked):
            rows = [[cell.id, cell.specimen, fold, "", problem]
                    for cell, problem in zip(batch.cells, batch.problems, strict=True)]  # fmt: skip
            read = [place for place, problem in enumerate(batch.problems) if not problem]
            # Of a blank cell where none could be read: the length of a vector is still to be known.
            blank = (torch.zeros(1, 1, size, size), turns, None)
            known = (batch.image, turns, batch.masks) if read else blank
            some = _vectors(representation, *known)
            vectors = np.full((len(rows), some.shape[1]), np.nan, np.float32)
            vectors[read] = some[: len(read)]
            yield rows, vectors

    return len(cells), made()


def _own(found: dict[Path, Result], turns: int | None) -> tuple[int, Iterator[Batch]]:
    """How many cells the runs' data set has, and their batches, fold by fold."""
    folds = {path: opened_again(path, result, every_label=True) for path, result in found.items()}
    owners = dict[Path, NDArray[np.int64]]()
    left = np.arange(len(next(iter(folds.values())).cells))
    for path, fold in folds.items():
        owners[path] = np.intersect1d(left, fold.split.test)
        left = np.setdiff1d(left, fold.split.test)
    first = next(iter(folds))
    owners[first] = np.sort(np.concatenate([owners[first], left]))

    def made() -> Iterator[Batch]:
        for path, mine in owners.items():
            fold, representation = folds[path], read_representation(path, found[path])
            tested = set(fold.split.test.tolist())
            for start in range(0, len(mine), BATCH):
                part = mine[start : start + BATCH]
                cells = fold.cells
                image = torch.from_numpy(in_unit_range(cells.images[part]))
                masks = cells.masks[part] > 0 if cells.masks is not None else None
                given = None if masks is None else torch.from_numpy(masks.astype(np.float32))
                rows = [
                    [str(cells.ids[cell]), str(cells.specimens[cell]), str(fold.number),
                     "yes" if cell in tested else "no", ""]
                    for cell in part.tolist()
                ]  # fmt: skip
                yield rows, _vectors(representation, image, turns, given)

    return sum(map(len, owners.values())), made()
