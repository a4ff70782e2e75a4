"""The manifest: one row a cell (image, label, specimen, pool), with every bad row named."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hep2.data.cells import Row
from hep2.data.csv_text import fitted, records
from hep2.data.foreign_paths import Finder
from hep2.data.spelling import POOLS, pool_meant, said, spelling_key
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

LONGEST = 1000  # characters of a field: a table of names is as wide as its longest, in every row
LISTED = 20  # bad rows that a message shows; the rest are counted
ALIKE = 3  # bad rows of one kind that are named each; of more, this many stand for all

_OPTIONAL = ("pool", "mask", "intensity", "source")
_WORDS = {  # what others call our columns
    "image": "file filename filepath path image_path image_name image_id img name cell cell_id id",
    "label": "class pattern target category class_name image_class staining diagnosis",
    "specimen": "slide patient patient_id sample serum case subject well specimen_id donor",
    "pool": "split set subset partition",
}
_WORDS |= {"Image ID": _WORDS["image"], "Image class": _WORDS["label"] + " label"}
_WORDS |= {"Specimen": _WORDS["specimen"]}


def read_csv(
    path: Path,
    columns: Sequence[str],
    problems: list[str],
    optional: Sequence[str] = (),
    named: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (row number, {column: stripped text}) of a CSV; the header is row 1.

    Text is UTF-8, or UTF-16 with its mark; commas, semicolons, tabs or bars separate; columns are
    found however their names are spelt. Rows with too few or too many fields, or an overlong one,
    are added to `problems` and skipped; empty lines are skipped.

    Args:
        path: of the file.
        columns: that must be there.
        problems: gets a sentence for each bad row.
        optional: columns that may be there.
        named: what this file calls columns, by our names.

    Raises:
        HEp2Error: the file is missing, empty, not such text, no CSV, or lacks one of the columns.
    """
    wanted = (*columns, *optional)
    header, lines = records(path, (*wanted, *(named or {}).values()))
    header = _our_names(path, header, wanted, named or {})
    _check_header(path, header, columns)
    count = 0
    for number, line in lines:
        count += 1
        fields = fitted(line, header)
        if (found := len(fields)) != (titles := len(header)):
            problem = f"{found} fields, the header has {titles} (quote fields that hold a comma)"
        elif (longest := max(map(len, fields))) > LONGEST:
            problem = f"a field of {longest} characters, more than {LONGEST}; shorten it"
            problem += " (is a quote left open?)"
        else:
            yield number, {n: f.strip() for n, f in zip(header, fields, strict=True)}
            continue
        problems.append(f"{path.name} row {number}: {problem}")
    if count == 0:
        raise HEp2Error(f"{path} has a header but no rows; add one row for each cell")


def _our_names(
    path: Path, header: Sequence[str], wanted: Sequence[str], named: Mapping[str, str]
) -> list[str]:
    """The header with our names, where it spells them in another way or `named` says so."""
    if unknown := [column for column in named if column not in wanted]:
        raise HEp2Error(
            f"data.source.columns names {', '.join(unknown)}; columns are {', '.join(wanted)}"
        )
    names = list(header)
    for column in wanted:
        asked = named.get(column, column)
        alike = [place for place, name in enumerate(header) if name == asked] or [
            place for place, name in enumerate(header) if spelling_key(name) == spelling_key(asked)
        ]
        if not alike and column in named:
            raise HEp2Error(f"{path} row 1: no column {asked}, which data.source.columns names")
        if column in named:  # another column of our own name is not meant
            names = ["" if name == column else name for name in names]
        if len(alike) == 1 or column in named:
            names[alike[0]] = column
    return names


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in header]:
        raise HEp2Error(
            f"{path} row 1: no column {', '.join(missing)}; the header must hold"
            f" {','.join(columns)}, separated by commas, and reads: {','.join(header)[:200]}"
            f"{_meant(missing, header)}"
        )
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise HEp2Error(f"{path} row 1: column {', '.join(twice)} appears twice; rename one")


def _meant(missing: Sequence[str], header: Sequence[str]) -> str:
    """Which columns may be meant, as a setting that says so."""
    pairs = [(column, other) for column in missing if (other := _other_name(column, header))]
    if not pairs:
        return ""
    columns = ", ".join(f"{column}: {other}" for column, other in pairs)
    if "image" not in missing and "label" not in missing and "specimen" not in missing:
        return f"; rename {', '.join(f'{other} to {column}' for column, other in pairs)}"
    return f"; if so is meant, add 'data.source.columns={{{columns}}}', or rename them"


def _other_name(column: str, header: Sequence[str]) -> str | None:
    keys = {spelling_key(word): rank for rank, word in enumerate(_WORDS.get(column, "").split())}
    found = [name for name in header if spelling_key(name) in keys]
    return min(found, key=lambda name: keys[spelling_key(name)], default=None)


def read_manifest(
    path: Path,
    root: Path,
    problems: list[str],
    allow_outside: bool = False,
    columns: Mapping[str, str] | None = None,
) -> list[Row]:
    """Read a CSV with the columns image, label, specimen and, if wanted, others of `Row`.

    These are pool, mask (an image's path), intensity and source. The cell's ID is its image path
    relative to the root, with forward slashes. Other columns are ignored. Every row that cannot be
    used adds a sentence to `problems`; one of them is an image outside the root, unless
    `allow_outside`. `columns` says what the file calls its columns, by our names.

    Raises:
        HEp2Error: the file is missing, empty, not UTF-8, no CSV, or lacks a column.
    """
    rows, real_root, finder = [], os.path.realpath(root), Finder(root)
    needed = ("image", "label", "specimen")
    for number, cell in read_csv(path, needed, problems, _OPTIONAL, columns):
        origin = f"{path.name} row {number}"
        if number == 2 and "pool" not in cell:
            _warn_of_unread_pools(path, cell)
        image, mask = said(cell["image"]), said(cell.get("mask", ""))
        file = finder.file(image)
        identity = Path(os.path.relpath(file, root)).as_posix()
        row = Row(identity, cell["label"], cell["specimen"], cell.get("pool", ""), file, origin,
                  finder.file(mask) if mask else Path(),
                  said(cell.get("intensity", "")), said(cell.get("source", "")))  # fmt: skip
        if problem := _row_problem(row, image, None if allow_outside else real_root):
            problems.append(f"{origin} ({cell['image']}): {problem}")
        else:
            rows.append(row)
    finder.warn(path.name)
    return rows


def _warn_of_unread_pools(path: Path, cell: Mapping[str, str]) -> None:
    other = _other_name("pool", list(cell))
    if other and pool_meant(cell[other]) in POOLS:
        log.warning(
            "%s",
            f"{path.name}: the column {other} is not read; if it names pools, add"
            f" 'data.source.columns={{pool: {other}}}'",
        )


def _row_problem(row: Row, image: str, root: str | None) -> str:
    if not image:
        return "no image is named"
    if "\0" in image:
        return "a null character in the image's path"
    if root and os.path.commonpath([os.path.realpath(row.file), root]) != root:  # links count
        return "the image lies outside the data root (data.source.allow_outside=true accepts it)"
    if row.mask != Path() and not row.mask.is_file():
        return "missing file of its mask"
    return ""


def shortened(lines: Sequence[str], listed: int = LISTED) -> str:
    """The first lines of a list, indented, and how many more there are."""
    shown = [f"  {line}" for line in lines[:listed]]
    if len(lines) > listed:
        shown.append(f"  ... and {len(lines) - listed} more")
    return "\n".join(shown)


def by_reason(problems: Sequence[str]) -> list[str]:
    """Problems, each `<place>: <what is wrong>`; what is wrong in many places is said once."""
    places: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        place, _, reason = problem.partition(": ")
        places[reason or problem].append(place)
    lines = []
    for problem in problems:
        _, _, reason = problem.partition(": ")
        if len(alike := places[reason or problem]) <= ALIKE:
            lines.append(problem)
        elif problem.startswith(f"{alike[0]}: "):
            lines.append(f"{reason}: {len(alike)} rows, e.g. {', '.join(alike[:ALIKE])}")
    return lines


def refuse_rows(path: Path, problems: Sequence[str]) -> None:
    """Raise HEp2Error where rows of a CSV have problems; all of them are named."""
    if problems:
        raise HEp2Error(f"{path}: mend or remove these rows:\n{shortened(by_reason(problems))}")
