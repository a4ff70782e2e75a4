"""The audit of a split in words, tables and pictures."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hep2.data.cells import Cells
from hep2.evaluation.formats import NOTHING, Table, interval_text, render
from hep2.evaluation.nearest import Scores
from hep2.evaluation.plots.style import png_uri
from hep2.evaluation.split_audit import SURE, SplitAudit
from hep2.files import escape_formula, write_atomic

LISTED, SHOWN = 10, 24  # pairs in the table, on the page


def sentence(audit: SplitAudit) -> str:
    """What is to be said, in one sentence."""
    found = []
    if audit.shared:
        cells = f"{audit.total('cells_of_shared')} of {audit.tested} test cells"
        found.append(f"{_count(audit.shared, 'specimen')} on both sides ({cells})")
    if identical := audit.total("identical"):
        found.append(f"{_count(identical, 'test cell')} identical to a cell learned from")
    if audit.beyond_chance:
        chance = f"where chance gives {audit.expected_near:.1f}"
        found.append(f"{_count(audit.total('near'), 'look-alike')}, {chance}")
    if not found:
        known = "specimens are unknown, but no" if audit.shared is None else "no specimen, no"
        words = f"{known} identical cell and no more look-alikes than by chance"
        return f"{audit.name} is clean: {words} on both sides"
    gain = ""
    if difference := audit.worth.difference:
        points = f"{100 * difference.estimate:.1f} points of MCA"
        gain = f"; to a nearest neighbour that is worth {points}"
    return f"{audit.name} LEAKS: {', '.join(found)}{gain}"


def tables(audit: SplitAudit) -> list[Table]:
    """What was found, what it is worth, and the closest pairs, where there are any."""
    pairs = audit.pairs[:LISTED]
    found = Table(
        f"the closest pairs, {len(pairs)} of {len(audit.pairs)}",
        ["test cell", "its specimen", "cell learned from", "its specimen", "kind"],
        [[*_named(audit, test), *_named(audit, other), kind] for test, other, kind in pairs],
    )
    return [_sides(audit), _worth(audit), *([found] if pairs else [])]


def _sides(audit: SplitAudit) -> Table:
    def shared(specimens: int | None, cells: int) -> list[str]:
        return [NOTHING] * 2 if specimens is None else [str(specimens), str(cells)]

    rows = [
        [
            one.held.name,
            *map(str, (len(one.held.test), len(one.held.learning))),
            *shared(None if one.shared is None else len(one.shared), one.cells_of_shared),
            *map(str, (len(one.identical), len(one.near))),
        ]
        for one in audit.findings
    ]
    if len(rows) > 1:
        specimens = shared(audit.shared, audit.total("cells_of_shared"))
        copies = [str(audit.total(what)) for what in ("identical", "near")]
        rows.append(["all", str(audit.tested), NOTHING, *specimens, *copies])
    thresholds = sorted({f"{one.threshold:.3f}" for one in audit.findings})
    notes = [
        "look-alikes: other test cells whose perceptual hash differs in at most 4 of 63 bits from "
        "that of a cell learned from, in some flip or quarter turn, and which correlate with it by "
        f"{' to '.join(dict.fromkeys((thresholds[0], thresholds[-1])))} or more; chance gives "
        f"{audit.expected_near:.1f} of {audit.tested}; so many more that p < {SURE:g} are a leak",
        "not found: copies that were cropped, scaled or turned by another angle, and two specimens "
        "of one patient",
        *audit.table.notes,
    ]
    heading = ["test cells", "number", "learned from", "specimens\non both sides",
               "their\ntest cells", "identical\ncells", "look-alikes"]  # fmt: skip
    return Table("what test cells share with the cells learned from", heading, rows, notes)


def _worth(audit: SplitAudit) -> Table:
    def percent(scores: Scores) -> list[str]:
        return [f"{100 * score:.2f}" for score in scores]

    worth = audit.worth
    rows = [["this split", *percent(worth.given)]]
    notes = ["MCA: mean over labels of the share of their cells that are recognised; ACA: of all"]
    if worth.honest and worth.difference:
        rows.append([f"whole specimens held out, {worth.folds} folds", *percent(worth.honest)])
        accuracy = f"{100 * (worth.given.aca - worth.honest.aca):+.2f}"
        rows.append(["difference, points", interval_text(worth.difference, True), accuracy])
        notes.append("in brackets the 95 % interval of a bootstrap over specimens")
    else:
        notes.append("what held-out specimens give cannot be told without the specimens' names")
    caption = "what a nearest neighbour by histograms of grey levels gets, the same test cells"
    return Table(caption, ["learned from", "MCA %", "ACA %"], rows, notes)


def _named(audit: SplitAudit, cell: int) -> tuple[str, str]:
    cells = audit.table.cells
    return str(cells.ids[cell]), str(cells.specimens[cell]) or NOTHING


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def write_audit(audit: SplitAudit, folder: Path) -> list[Path]:
    """Write audit.html and, of all identical cells and look-alikes, pairs.csv."""
    page = render(
        "audit.html.j2",
        audit=audit,
        sentence=sentence(audit),
        tables=tables(audit),
        pairs=_pictured(audit),
        columns=asdict(audit.table.columns),
    )
    files = {"audit.html": page, "pairs.csv": _pairs_csv(audit)}
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]


def _pairs_csv(audit: SplitAudit) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("test", "test_specimen", "other", "other_specimen", "kind"))
    ids, specimens = audit.table.cells.ids, audit.table.cells.specimens
    for test, other, kind in audit.pairs:
        names = (ids[test], specimens[test], ids[other], specimens[other], kind)
        writer.writerow([escape_formula(str(name)) for name in names])
    return text.getvalue()


def _pictured(audit: SplitAudit) -> list[tuple[Sequence[tuple[str, str, str]], str]]:
    """The first pairs: of both cells the name, the specimen and the image, and the kind."""
    return [
        ([(*_named(audit, cell), _uri(audit.table.cells, cell)) for cell in (test, other)], kind)
        for test, other, kind in audit.pairs[:SHOWN]
    ]


def _uri(cells: Cells, cell: int) -> str:
    pixels = cells.images[cell, 0].astype(np.float32)
    return png_uri((pixels * (255 / max(1.0, float(pixels.max())))).astype(np.uint8))
