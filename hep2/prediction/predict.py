"""Cells in, a CSV out: one row a cell, and one a specimen where specimens are given."""

import csv
import io
import logging
from collections import defaultdict
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
from hep2.prediction.cells import BATCH, CellBatch, batches, find_images
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
    run: str | None, runs_dir: Path, images: str | None, out: str | None, orientations: int | None
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
        orientations: see `hep2.prediction.models.load_ensemble`.

    Raises:
        HEp2Error: an argument is wrong, or a file cannot be read or written.
    """
    if out is None:
        raise HEp2Error("where to? out=<CSV file>")
    cells = find_images(images)
    ensemble = load_ensemble(run, runs_dir, orientations)
    runs = ensemble.runs
    log.info("%d cells; %d run(s) of %s", len(cells), len(runs), runs[0].parents[1])
    summary, target = Summary(), Path(out)
    specimens = _Specimens(ensemble.classes) if any(cell.specimen for cell in cells) else None
    named = ["id", "specimen"] if specimens else ["id"]
    columns = ["output", *_shares(ensemble.classes), "novelty", "unlike_training", "problem"]
    with _rows_into(target) as writer:
        writer.writerow([*named, *columns])
        found = batches(cells, ensemble.image_size, ensemble.channel)
        for batch in watched(found, "naming cells", total=-(-len(cells) // BATCH)):
            writer.writerows(_rows(batch, ensemble, specimens, summary))
    summary.files.append(target)
    if specimens:
        summary.files.append(target.with_name(f"{target.stem}-specimens.csv"))
        with _rows_into(summary.files[-1]) as writer:
            writer.writerows(specimens.rows())
    return summary


class _Specimens:
    """Sums of the probabilities, and votes, over the cells of each specimen."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.sums = defaultdict[str, Vector](lambda: np.zeros(len(classes)))
        self.votes = defaultdict[str, Vector](lambda: np.zeros(len(classes)))

    def add(self, specimen: str, probabilities: Vector) -> None:
        """Count a cell, if it has a specimen."""
        if specimen:
            self.sums[specimen] += probabilities
            self.votes[specimen][probabilities.argmax()] += 1

    def rows(self) -> Iterator[list[str]]:
        """A heading, then the call of each specimen: by mean probability, and by majority.

        A tied majority goes to the tied class with the higher mean probability.
        """
        yield ["specimen", "cells", "output", "output_by_majority", *_shares(self.classes)]
        for specimen, total in sorted(self.sums.items()):
            votes = self.votes[specimen]
            cells = int(votes.sum())
            mean = total / cells
            majority = int(np.where(votes == votes.max(), mean, -1).argmax())
            output, *texts = _call(self.classes, mean)
            yield [
                escape_formula(specimen),
                str(cells),
                output,
                escape_formula(self.classes[majority]),
                *texts,
            ]


def _rows(
    batch: CellBatch, ensemble: Ensemble, specimens: _Specimens | None, summary: Summary
) -> Iterator[list[str]]:
    """One row a cell, which is counted on the way."""
    with torch.inference_mode():
        probabilities, novelties = ensemble.network(batch.image, ensemble.orientations)
    outcomes = iter(zip(probabilities.numpy(), novelties.tolist(), strict=True))
    for cell, problem in zip(batch.cells, batch.problems, strict=True):
        named = [
            escape_formula(text) for text in ((cell.id, cell.specimen) if specimens else (cell.id,))
        ]
        summary.cells += 1
        if problem:
            summary.unreadable += 1
            yield [*named, *[""] * (len(ensemble.classes) + 3), problem]
            continue
        row, strange = next(outcomes)
        summary.unlike += strange > UNLIKE
        if specimens:
            specimens.add(cell.specimen, row)
        judged = [f"{strange:.6g}", "yes" if strange > UNLIKE else "no"]
        judged = ["", ""] if np.isnan(strange) else judged
        yield [*named, *_call(ensemble.classes, row), *judged, ""]


def _shares(classes: Sequence[str]) -> list[str]:
    return [f"p_{name}" for name in classes]


def _call(classes: Sequence[str], probabilities: Vector) -> list[str]:
    """The columns output and p_<class>."""
    return [
        escape_formula(classes[int(probabilities.argmax())]),
        *(f"{p:.9g}" for p in probabilities),
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
