"""Reading the CSV files that users write: every fault is named by file and row."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hep2.errors import HEp2Error

LONGEST = 1000  # characters of a field: a table of names is as wide as its longest, in every row


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
            if len(fields) != len(header):
                problems.append(
                    f"{path.name} row {reader.line_num}: {len(fields)} fields, the header has"
                    f" {len(header)} (quote fields that hold a comma)"
                )
                continue
            if max(map(len, fields)) > LONGEST:
                problems.append(
                    f"{path.name} row {reader.line_num}: a field of {max(map(len, fields))} "
                    f"characters, more than {LONGEST}; shorten it (is a quote left open?)"
                )
                continue
            yield reader.line_num, {n: f.strip() for n, f in zip(header, fields, strict=True)}
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
