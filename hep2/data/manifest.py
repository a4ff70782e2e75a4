"""The manifest: one row a cell (image, label, specimen, pool), with every bad row named."""

import csv
import io
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hep2.data.cells import Row
from hep2.errors import HEp2Error

POOLS = ("train", "val", "test")
LONGEST = 1000  # characters of a field: a table of names is as wide as its longest, in every row
LISTED = 20  # bad rows that a message shows; the rest are counted


def read_csv(
    path: Path, columns: Sequence[str], problems: list[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (row number, {column: stripped text}) of a UTF-8 CSV; the header is row 1.

    Rows with too few or too many fields, or an overlong one, are added to `problems` and skipped;
    empty lines are skipped.

    Raises:
        HEp2Error: the file is missing, empty, not UTF-8, no CSV, or lacks one of the columns.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, columns)
        count = 0
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            count += 1
            if (found := len(fields)) != (named := len(header)):
                problem = f"{found} fields, the header has {named} (quote fields that hold a comma)"
            elif (longest := max(map(len, fields))) > LONGEST:
                problem = f"a field of {longest} characters, more than {LONGEST}; shorten it"
                problem += " (is a quote left open?)"
            else:
                yield reader.line_num, {n: f.strip() for n, f in zip(header, fields, strict=True)}
                continue
            problems.append(f"{path.name} row {reader.line_num}: {problem}")
    except csv.Error as error:
        raise HEp2Error(f"{path} row {reader.line_num}: not a valid CSV: {error}") from error
    if count == 0:
        raise HEp2Error(f"{path} has a header but no rows; add one row for each cell")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise HEp2Error(f"{path}: no such file; it must name the cells of the data set") from error
    except OSError as error:
        raise HEp2Error(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise HEp2Error(f"{path} row {row}: not UTF-8 text; save the CSV as UTF-8") from error
    if not text.strip():
        raise HEp2Error(f"{path} is empty; it must name the cells of the data set")
    return text


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise HEp2Error(
            f"{path} row 1: no column {', '.join(missing)}; the header must hold"
            f" {','.join(columns)}, separated by commas, and reads: {','.join(header)[:200]}"
        )
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise HEp2Error(f"{path} row 1: column {', '.join(twice)} appears twice; rename one")


def read_manifest(
    path: Path, root: Path, problems: list[str], allow_outside: bool = False
) -> list[Row]:
    """Read a CSV with the columns image, label, specimen and, if wanted, pool and source.

    The cell's ID is its image path relative to the root, with forward slashes. A specimen is of its
    source: "1" of the source a is called "a/1". Other columns are ignored. Every row that cannot be
    used adds a sentence to `problems`; one of them is an image outside the root, unless
    `allow_outside`.

    Raises:
        HEp2Error: the file is missing, empty, not UTF-8, no CSV, or lacks a column.
    """
    rows, real_root = [], os.path.realpath(root)
    for number, cell in read_csv(path, ("image", "label", "specimen"), problems):
        origin = f"{path.name} row {number}"
        file = Path(os.path.normpath(root / cell["image"]))
        identity = Path(os.path.relpath(file, root)).as_posix()
        source, specimen = cell.get("source", ""), cell["specimen"]
        if source and specimen:  # numbers begin again in every source
            specimen = f"{source}/{specimen}"
        row = Row(identity, cell["label"], specimen, cell.get("pool", ""), file, origin, source)
        if problem := _row_problem(row, cell["image"], None if allow_outside else real_root):
            problems.append(f"{origin} ({cell['image']}): {problem}")
        else:
            rows.append(row)
    return rows


def _row_problem(row: Row, image: str, root: str | None) -> str:
    if not image:
        return "no image is named"
    if "\0" in image:
        return "a null character in the image's path"
    if root and os.path.commonpath([os.path.realpath(row.file), root]) != root:  # links count
        return "the image lies outside the data root (data.source.allow_outside=true accepts it)"
    return "" if row.label else "the label is empty"


def check_rows(found: Iterable[Row], problems: list[str]) -> list[Row]:
    """Sort rows by ID and add what is wrong between them; warn of specimens with two labels.

    Of rows with the same ID, or the same file under two spellings of an ID, the first is kept.
    """
    rows: dict[str, Row] = {}
    files: dict[Path, Row] = {}
    for row in found:
        first = rows.get(row.id) or files.get(row.file)
        # Names of files that cannot be written into a CSV; Linux allows them.
        if any("\ud800" <= letter <= "\udfff" for letter in row.id + row.label + row.specimen):
            problems.append(f"{row.id!a}: a name that is not UTF-8; rename the file or folder")
        elif first:
            problems.append(f"{row}: duplicate ID, {first.origin or first.file} has it too")
        else:
            rows[row.id] = files[row.file] = row
    ordered = [rows[identity] for identity in sorted(rows)]
    problems += _pool_problems(ordered)
    if any(row.source for row in ordered):
        problems += (
            f"{row}: no source, though other rows have one" for row in ordered if not row.source
        )
    problems += _specimen_problems(ordered)
    _warn_of_mixed_specimens(ordered)
    return ordered


def _pool_problems(rows: Sequence[Row]) -> Iterator[str]:
    pooled = any(row.pool for row in rows)
    for row in rows:
        if row.pool and row.pool not in POOLS:
            yield f"{row}: unknown pool '{row.pool}'; allowed are {', '.join(POOLS)}"
        elif pooled and not row.pool:
            yield f"{row}: no pool, though other rows have one"


def _specimen_problems(rows: Sequence[Row]) -> Iterator[str]:
    if not any(row.specimen for row in rows):
        return  # a source without specimens: only leaky protocols can use it
    members: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.specimen:
            members[row.label].setdefault(row.specimen, row)
        else:
            yield f"{row}: no specimen, though other rows have one"
    for label, specimens in sorted(members.items()):
        if len(specimens) == 1:
            specimen, row = next(iter(specimens.items()))
            yield (
                f"{row}: class '{label}' has a single specimen ('{specimen}'), so it cannot be"
                " both learnt and tested; add a specimen or leave the class out"
            )


def _warn_of_mixed_specimens(rows: Iterable[Row]) -> None:
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.specimen:
            labels[row.specimen][row.label] += 1
    mixed = [
        f"{specimen}: " + ", ".join(f"{label} ({n} cells)" for label, n in sorted(counts.items()))
        for specimen, counts in sorted(labels.items())
        if len(counts) > 1
    ]
    if mixed:
        text = "specimens with more than one label (right for mixed patterns only):"
        warnings.warn(f"{text}\n{shortened(mixed)}", stacklevel=2)


def shortened(lines: Sequence[str]) -> str:
    """The first lines of a list, indented, and how many more there are."""
    shown = [f"  {line}" for line in lines[:LISTED]]
    if len(lines) > LISTED:
        shown.append(f"  ... and {len(lines) - LISTED} more")
    return "\n".join(shown)
