"""Cells in, a CSV out: one row a cell, and one a specimen where specimens are given."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path

from hep2.calls.calibration import at_alpha
from hep2.data.fields import Cut
from hep2.data.patterns import PatternNames, pattern_names
from hep2.errors import HEp2Error
from hep2.files import progress_bar, whole_csv
from hep2.prediction.batch_page import write_page
from hep2.prediction.calls import Opinion
from hep2.prediction.cells import BATCH, CellBatch, find_images, scale_of, spare
from hep2.prediction.fields import find_fields, read_batches
from hep2.prediction.gathered import Gathered, Specimen
from hep2.prediction.models import Ensemble, load_ensemble, outputs_of
from hep2.prediction.outcome import cell_columns, cell_rows, specimen_row, texts

log = logging.getLogger(__name__)

MOST_NEAREST = 5  # training cells beside a doubtful one: a page is to stay readable


@dataclass
class Summary:
    """What came of a prediction."""

    cells: int = 0
    unreadable: int = 0  # of them, without a call: their image is unusable, or they are cut off
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
    masks: str | None = None,
    cut: Cut | None = None,
    names: str | None = None,
    nearest: int = 0,
    alpha: float | None = None,
) -> Summary:
    """Name the patterns of cells with finished runs, and write a CSV.

    Columns: id, specimen (if given), output, p_<class>..., set (patterns that are not ruled out),
    novelty (mean squared error of the reconstruction over the 99th percentile of held-out cells),
    unlike_training (novelty above 1), problem (why a cell has no call). With specimens
    `<out>-specimens.csv` holds one call a specimen, and `<out>.html` shows them. Memory does not
    grow with the number of cells but for their names.

    `out` is the CSV, `images` as of `find_images`, or, where `masks` says whose outlines they are,
    both as of `find_fields`; a cell's id is then `<field>#<label>`. `cut` says how cells are cut
    out, `names` as of `pattern_names`, `nearest` as of `write_page`, `alpha` as of `at_alpha`;
    `page` and `full_scale` as of `read_image` (None: as in training), all else as of
    `load_ensemble`.

    Raises:
        HEp2Error: an argument is wrong, or a file cannot be read or written.
    """
    if out is None or Path(out).suffix == ".html":  # as the page is called
        raise HEp2Error(f"out={out}: where to? out=<CSV file>")
    if not 0 <= nearest <= MOST_NEAREST:
        raise HEp2Error(f"nearest={nearest} must be a whole number from 0 to {MOST_NEAREST}")
    known = pattern_names(names)
    cells = find_images(images) if masks is None else find_fields(images, masks)
    target = Path(out)
    spare(images, target)
    ensemble = load_ensemble(run, runs_dir, orientations)
    ensemble = replace(ensemble, calibration=at_alpha(ensemble.calibration, alpha))
    what, runs = "cells" if masks is None else "fields", ensemble.runs
    log.info("%d %s; %d run(s) of %s", len(cells), what, len(runs), runs[0].parents[1])
    page = ensemble.page if page is None else page
    scale = scale_of(str(images), cells, ensemble.channel, page, ensemble.full_scale, full_scale)
    reading = (ensemble.image_size, ensemble.channel, page, scale)
    found = read_batches(cells, *reading, ensemble.masked, cut or Cut())
    summary, gathered = Summary(), Gathered(ensemble)
    total = -(-len(cells) // BATCH) if masks is None else len(cells)
    specimens = any(cell.specimen for cell in cells)
    _write(target, _cells(progress_bar(found, f"naming {what}", total), ensemble, specimens,
                          gathered, summary))  # fmt: skip
    summary.files.append(target)
    if specimens:
        said = [(one, one.opinion(ensemble)) for one in gathered.specimens.values() if one.name]
        table, shown = target.with_name(f"{target.stem}-specimens.csv"), target.with_suffix(".html")
        _write(table, _specimens(ensemble.classes, said, known))
        write_page(shown, said, ensemble, known, nearest)
        summary.files += [table, shown]
    return summary


def _cells(
    found: Iterable[CellBatch],
    ensemble: Ensemble,
    specimens: bool,
    gathered: Gathered,
    summary: Summary,
) -> Iterator[list[str]]:
    """A heading, then one row a cell, which is counted on the way."""
    yield (columns := cell_columns(ensemble.classes, specimens))
    for batch in found:
        probabilities, novelties = outputs_of(ensemble, batch)
        if specimens:
            gathered.add(batch, probabilities, novelties)
        made = (probabilities, novelties, ensemble.calibration)
        for row in cell_rows(batch, ensemble.classes, *made):
            summary.cells += 1
            summary.unreadable += bool(row["problem"])
            summary.unlike += bool(row["unlike_training"])
            yield texts({column: row[column] for column in columns})


def _specimens(
    classes: Sequence[str], said: Iterable[tuple[Specimen, Opinion]], known: PatternNames
) -> Iterator[list[str]]:
    """A heading, then the call of each specimen, as of `specimen_row`."""
    rows = [specimen_row(one.name, found, classes, known) for one, found in said]
    yield list(rows[0])
    yield from map(texts, sorted(rows, key=itemgetter("specimen")))


def _write(path: Path, rows: Iterable[list[str]]) -> None:
    """Write a CSV that appears under its name when it is whole."""
    try:
        with whole_csv(path) as writer:
            writer.writerows(rows)
    except OSError as error:
        raise HEp2Error(f"cannot write {path}: {error.strerror}; choose another out=") from error
