"""Cells in, a CSV out: one row a cell, and one a specimen where specimens are given."""

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hep2.errors import HEp2Error
from hep2.files import escape_formula, progress_bar, whole_file
from hep2.prediction.cells import (
    BATCH,
    CellBatch,
    NamedImage,
    batches,
    find_images,
    say_masks,
    scale_of,
)
from hep2.prediction.models import Ensemble, load_ensemble

log = logging.getLogger(__name__)

Vector = NDArray[np.float64]
UNLIKE = 1.0  # reconstruction error over its 99th percentile beyond which a cell is unlike training


@dataclass
class Summary:
    """What came of a prediction."""

    cells: int = 0
    unreadable: int = 0  # of them, images that could not be decoded
    unlike: int = 0  # of them, cells unlike those that the networks learned from
    files: list[Path] = field(default_factory=list)  # written


def predict(
    run: str | None,
    runs_dir: Path,
    images: str | None,
    out: str | None,
    orientations: int | None,
    page: int | None = None,
    full_scale: int | None = None,
) -> Summary:
    """Name the patterns of cells with finished runs, and write a CSV.

    Columns: id, specimen (if given), output, p_<class>..., novelty (mean squared error of the
    reconstruction over the 99th percentile of held-out cells), unlike_training (novelty above 1),
    problem (why an image could not be read). With specimens a second file, `<out>-specimens.csv`,
    holds one call a specimen. Memory does not grow with the number of cells but for their names.

    `out` is the CSV, `images` as of `find_images`, `page` and `full_scale` as of `read_image`
    (None: as in training), all else as of `load_ensemble`.

    Raises:
        HEp2Error: an argument is wrong, or a file cannot be read or written.
    """
    if out is None:
        raise HEp2Error("where to? out=<CSV file>")
    cells = find_images(images)
    ensemble = load_ensemble(run, runs_dir, orientations)
    runs = ensemble.runs
    log.info("%d cells; %d run(s) of %s", len(cells), len(runs), runs[0].parents[1])
    page = ensemble.page if page is None else page
    scale = scale_of(str(images), cells, ensemble.channel, page, ensemble.full_scale, full_scale)
    say_masks(cells, ensemble.masked)
    found = batches(
        cells, ensemble.image_size, ensemble.channel, page, scale, masked=ensemble.masked
    )
    summary, target = Summary(), Path(out)
    # Of each specimen: sums of its cells' probabilities, and votes.
    specimens = defaultdict[str, Vector](lambda: np.zeros((2, len(ensemble.classes))))
    _write(target, _cells(cells, found, ensemble, specimens, summary))
    summary.files.append(target)
    if any(cell.specimen for cell in cells):
        summary.files.append(target.with_name(f"{target.stem}-specimens.csv"))
        _write(summary.files[-1], _specimens(ensemble.classes, specimens))
    return summary


def _cells(
    cells: Sequence[NamedImage],
    found: Iterable[CellBatch],
    ensemble: Ensemble,
    specimens: dict[str, Vector],
    summary: Summary,
) -> Iterator[list[str]]:
    """A heading, then one row a cell, which is counted on the way."""
    classes = ensemble.classes
    named = ("id", "specimen") if any(cell.specimen for cell in cells) else ("id",)
    yield [*named, "output", *_shares(classes), "novelty", "unlike_training", "problem"]
    for batch in progress_bar(found, "naming cells", total=-(-len(cells) // BATCH)):
        with torch.inference_mode():
            probabilities, novelties = ensemble.network(
                batch.image, ensemble.orientations, batch.masks
            )
        outcomes = iter(zip(probabilities.numpy(), novelties.tolist(), strict=True))
        for cell, problem in zip(batch.cells, batch.problems, strict=True):
            identity = [escape_formula(getattr(cell, name)) for name in named]
            summary.cells += 1
            if problem:
                summary.unreadable += 1
                yield [*identity, *[""] * (len(classes) + 3), problem]
                continue
            row, novelty = next(outcomes)
            unlike = novelty > UNLIKE
            summary.unlike += unlike
            specimens[cell.specimen] += [row, np.eye(len(classes))[row.argmax()]]
            judged = (
                ["", ""] if np.isnan(novelty) else [f"{novelty:.6g}", "yes" if unlike else "no"]
            )
            yield [*identity, *_call(classes, row), *judged, ""]


def _specimens(classes: Sequence[str], specimens: dict[str, Vector]) -> Iterator[list[str]]:
    """A heading, then the call of each specimen: by mean probability, and by majority.

    A tied majority goes to the tied class with the higher mean probability.
    """
    yield ["specimen", "cells", "output", "output_by_majority", *_shares(classes)]
    for specimen, (total, votes) in sorted(specimens.items()):
        if specimen:
            cells = int(votes.sum())
            mean = total / cells
            majority = int(np.where(votes == votes.max(), mean, -1).argmax())
            output, *texts = _call(classes, mean)
            yield [
                escape_formula(specimen),
                str(cells),
                output,
                escape_formula(classes[majority]),
                *texts,
            ]


def _shares(classes: Sequence[str]) -> list[str]:
    return [f"p_{name}" for name in classes]


def _call(classes: Sequence[str], probabilities: Vector) -> list[str]:
    """The columns output and p_<class>."""
    return [
        escape_formula(classes[int(probabilities.argmax())]),
        *(f"{p:.9g}" for p in probabilities),
    ]


def _write(path: Path, rows: Iterable[list[str]]) -> None:
    """Write a CSV that appears under its name when it is whole."""
    try:
        with whole_file(path) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="")
            csv.writer(text, lineterminator="\n").writerows(rows)
            text.detach()  # writes what it holds; the file is not its own to close
    except OSError as error:
        raise HEp2Error(f"cannot write {path}: {error.strerror}; choose another out=") from error
