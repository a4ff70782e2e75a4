"""The text of a CSV that somebody's spreadsheet, editor or script has written."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hep2.data.spelling import spelling_key
from hep2.errors import HEp2Error

DELIMITERS = ",;\t|"
Record = tuple[int, list[str]]  # a row's number, the header's is 1; its fields
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_OTHERS = (  # what is not text, by its first bytes
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive; save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"<!DOCTYPE", "a web page; download the file itself"),
    (b"<html", "a web page; download the file itself"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file with git lfs pull"),
)


def _text_of(path: Path) -> str:
    """The text of a CSV in UTF-8, or in UTF-16 as Excel's "Unicode text" has it.

    Raises:
        HEp2Error: the file is missing, empty, or no such text.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise HEp2Error(f"{path}: no such file; it must name the cells of the data set") from error
    except OSError as error:
        raise HEp2Error(f"{path} cannot be read: {error.strerror}") from error
    for start, what in _OTHERS:
        if content[: len(start)].lower() == start.lower():
            raise HEp2Error(f"{path} is {what}")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:2]:  # UTF-16 without its mark; no text begins so
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        row = len(re.findall(rb"\r\n|\r|\n", content[: error.start])) + 1
        raise HEp2Error(
            f"{path} row {row}: not UTF-8 text; save it as CSV UTF-8, or, if it was written on"
            f" Windows, iconv -f windows-1252 -t utf-8 {path.name} > new.csv"
        ) from error
    if not text.strip():
        raise HEp2Error(f"{path} is empty; it must name the cells of the data set")
    return text


def records(path: Path, known: Collection[str]) -> tuple[list[str], Iterator[Record]]:
    """The header of a CSV, and its rows with their numbers; empty ones are left out.

    Fields are separated by that of DELIMITERS which gives most of the known columns, or, where none
    gives any, most columns; a first line `sep=;`, as Excel understands it, says so itself.

    Raises:
        HEp2Error: (some of them from the rows) as `_text_of`, and where a row is not valid.
    """
    text, keys = _text_of(path), {spelling_key(name) for name in known}
    told = re.match(r"\s*\"?sep=(.)\"?\s*?(\r\n|\r|\n)", text)
    found: dict[str, list[str]] = {}
    for delimiter in told[1] if told else DELIMITERS:
        with suppress(csv.Error):
            found[delimiter] = _header(_reader(text, delimiter), bool(told))

    def fits(delimiter: str) -> tuple[int, int]:
        header = found[delimiter]
        return sum(spelling_key(name) in keys for name in header), len(header)

    lines = _valid(path, _reader(text, max(found, key=fits, default=",")))
    header = next((fields for number, fields in lines if number > bool(told)), [])
    return [name.strip() for name in header], lines


def _valid(path: Path, reader: Any) -> Iterator[Record]:
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise HEp2Error(f"{path} row {reader.line_num}: not a valid CSV: {error}") from error


def _reader(text: str, delimiter: str) -> Any:
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def _header(reader: Iterator[list[str]], told: bool) -> list[str]:
    if told:
        next(reader, [])
    return [name.strip() for name in next(reader, [])]


def fitted(fields: list[str], header: Sequence[str]) -> list[str]:
    """Fields without empty ones that no column has, and with those that unnamed columns lack."""
    while len(fields) > len(header) and not fields[-1].strip():
        fields = fields[:-1]
    missing = header[len(fields) :]
    return fields + [""] * len(missing) if missing and not any(missing) else fields
