"""Cells in, a CSV out: one row a cell, and one a specimen where specimens are given."""

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hep2.errors import HEp2Error
from hep2.files import escape_formula, watched, whole_file
from hep2.prediction.cells import BATCH, CellBatch, batches, find_images, specimens_given
from hep2.prediction.models import Ensemble, check_orientations, load_ensemble

log = logging.getLogger(__name__)

UNLIKE = 1.0  # reconstruction error over its 99th percentile beyond which a cell is unlike training


@dataclass
class Summary:
    """What came of a prediction.

    Attributes:
        cells: looked at.
        unreadable: of them, images that could not be decoded.
        unlike: of them, cells unlike those that the networks learned from.
        files: written.
    """

    cells: int = 0
    unreadable: int = 0
    unlike: int = 0
    files: list[Path] = field(default_factory=list)


def predict(
    run: str | None, runs_dir: Path, images: str | None, out: str | None, orientations: int
) -> Summary:
    """Name the patterns of cells with finished runs, and write a CSV.

    Columns: id, specimen (if given), output, p_<class>..., novelty (mean squared error of the
    reconstruction over the 99th percentile of held-out cells), unlike_training (novelty above 1),
    problem (why an image could not be read). With specimens a second file, `<out>-specimens.csv`,
    holds one call a specimen. Memory does not grow with the number of cells but for their names.

    Args:
        run: see `hep2.prediction.models.load_ensemble`.
        runs_dir: where names of runs are looked up.
        images: see `hep2.prediction.cells.find_images`.
        out: the CSV.
        orientations: flips and quarter turns that are averaged over, 1 to 8.

    Raises:
        HEp2Error: an argument is wrong, or a file cannot be read or written.
    """
    check_orientations(orientations)
    if out is None:
        raise HEp2Error("where to? out=<CSV file>")
    cells = find_images(images)
    ensemble = load_ensemble(run, runs_dir)
    log.info(
        "%d cells; %d run(s) of %s", len(cells), len(ensemble.runs), ensemble.runs[0].parents[1]
    )
    summary, target = Summary(), Path(out)
    by_specimen = _Specimens(ensemble.classes) if specimens_given(cells) else None
    with _rows_into(target) as writer:
        writer.writerow(_header(ensemble, by_specimen is not None))
        steps = watched(
            batches(cells, ensemble.image_size, ensemble.channel),
            "naming cells",
            total=-(-len(cells) // BATCH),
        )
        for batch in steps:
            writer.writerows(_rows(batch, ensemble, orientations, by_specimen, summary))
    summary.files.append(target)
    if by_specimen is not None:
        summary.files.append(target.with_name(f"{target.stem}-specimens.csv"))
        with _rows_into(summary.files[-1]) as writer:
            writer.writerows(by_specimen.rows())
    return summary


def _header(ensemble: Ensemble, specimens: bool) -> list[str]:
    probabilities = [f"p_{name}" for name in ensemble.classes]
    told = ["id", "specimen"] if specimens else ["id"]
    return [*told, "output", *probabilities, "novelty", "unlike_training", "problem"]


def _rows(
    batch: CellBatch,
    ensemble: Ensemble,
    orientations: int,
    specimens: "_Specimens | None",
    summary: Summary,
) -> Iterator[list[str]]:
    with torch.inference_mode():
        probabilities, novelties = ensemble.network(batch.image, orientations)
    named = iter(zip(probabilities.numpy(), novelties.tolist(), strict=True))
    for cell, problem in zip(batch.cells, batch.problems, strict=True):
        told = [cell.id] if specimens is None else [cell.id, cell.specimen]
        told = [escape_formula(text) for text in told]
        summary.cells += 1
        if problem:
            summary.unreadable += 1
            yield [*told, *[""] * (len(ensemble.classes) + 3), problem]
            continue
        row, strange = next(named)
        summary.unlike += strange > UNLIKE
        if specimens is not None:
            specimens.add(cell.specimen, row)
        yield [*told, *_call(ensemble.classes, row), *_novelty(strange), ""]


def _call(classes: Sequence[str], row: NDArray[np.float64]) -> list[str]:
    return [escape_formula(classes[int(row.argmax())]), *(f"{p:.9g}" for p in row)]


def _novelty(strange: float) -> list[str]:
    if np.isnan(strange):
        return ["", ""]
    return [f"{strange:.6g}", "yes" if strange > UNLIKE else "no"]


class _Specimens:
    """Sums over the cells of each specimen."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.votes: dict[str, NDArray[np.int64]] = {}

    def add(self, specimen: str, row: NDArray[np.float64]) -> None:
        if specimen:
            nothing = np.zeros(len(self.classes))
            self.sums[specimen] = self.sums.get(specimen, nothing) + row
            votes = self.votes.setdefault(specimen, np.zeros(len(self.classes), dtype=np.int64))
            votes[row.argmax()] += 1

    def rows(self) -> Iterator[list[str]]:
        """A heading, then the call of each specimen: by mean probability, and by majority.

        A tied majority goes to the tied class with the higher mean probability.
        """
        shares = [f"p_{name}" for name in self.classes]
        yield ["specimen", "cells", "output", "output_by_majority", *shares]
        for specimen, total in sorted(self.sums.items()):
            votes = self.votes[specimen]
            cells = int(votes.sum())
            mean = total / cells
            majority = np.where(votes == votes.max(), mean, -1).argmax()
            call, *texts = _call(self.classes, mean)
            yield [
                escape_formula(specimen),
                str(cells),
                call,
                escape_formula(self.classes[majority]),
                *texts,
            ]


@contextmanager
def _rows_into(path: Path) -> Iterator[Any]:
    """A CSV writer whose file appears under its name when it is whole."""
    try:
        with whole_file(path) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="")
            yield csv.writer(text, lineterminator="\n")
            text.detach()  # writes what it holds; the file is not its own to close
    except OSError as error:
        raise HEp2Error(f"cannot write {path}: {error.strerror}; choose another out=") from error
