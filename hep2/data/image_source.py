"""A data set of image files: decodes them and names every one that cannot be used."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hep2.data.cells import Row
from hep2.data.images import CellImage, ImageError, Pixels, decoded, has_16_bits
from hep2.data.manifest import check_rows, shortened
from hep2.errors import HEp2Error


@dataclass(frozen=True)
class ImageSource:
    """Image files with labels; rows are sorted by ID, so the order of reading changes nothing.

    Attributes:
        name: the data set's name.
        root: its folder.
        classes: pattern names, in the order of every table.
        rows: its cells.
        problems: what is wrong with rows that were left out; reported together with bad images.
        synthetic: False: these are real cells.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    synthetic: bool = False

    def fingerprint(self) -> str:
        """Changes when a row, a file's size or a file's time changes; opens no image."""
        digest = hashlib.sha256(repr((str(self.root), self.classes, self.problems)).encode())
        for row in self.rows:
            cell = (row.id, row.label, row.specimen, row.pool, str(row.file), _state(row.file))
            digest.update(repr(cell).encode())
        return digest.hexdigest()

    def dtype(self) -> np.dtype[Any]:
        """uint16 where any image has 16 bits, as their headers say; no image is decoded."""
        return np.dtype(np.uint16 if any(has_16_bits(row.file) for row in self.rows) else np.uint8)

    def images(self, size: int, channel: str) -> Iterator[Pixels]:
        """The images of the rows as they are decoded.

        Raises:
            HEp2Error: (after the last image) rows or images are bad; all of them are named.
        """
        findings = _Findings(list(self.problems))
        files = (row.file for row in self.rows)
        for row, outcome in zip(self.rows, decoded(files, size, channel), strict=True):
            if isinstance(outcome, ImageError):
                findings.problems.append(f"{row}: {outcome}")
            else:
                findings.add(row, outcome)
                yield outcome.pixels
        findings.report(self.root)


def image_source(
    name: str,
    root: Path,
    rows: Iterable[Row],
    problems: list[str],
    order: tuple[str, ...] = (),
) -> ImageSource:
    """Check the rows of a data set and order its classes.

    Args:
        name: the data set's name.
        root: its folder.
        rows: its cells, as read.
        problems: what is wrong with rows that had to be left out; gets what is wrong between rows.
        order: the classes' order where the data set has one; used if it covers all labels
            (spelling of spaces, hyphens and capitals does not matter). Otherwise alphabetical.
    """
    checked = check_rows(rows, problems)
    classes = ordered_classes({row.label for row in checked}, order)
    return ImageSource(name, root, classes, tuple(checked), tuple(problems))


def ordered_classes(labels: set[str], order: tuple[str, ...]) -> tuple[str, ...]:
    """The labels that occur, in the given order if it covers them all, else alphabetically."""
    rank = {_plain(name): position for position, name in enumerate(order)}
    if all(_plain(label) in rank for label in labels):
        return tuple(sorted(labels, key=lambda label: (rank[_plain(label)], label)))
    return tuple(sorted(labels))


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter.isalnum())


def _state(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


@dataclass
class _Findings:
    """What turns up while images are decoded."""

    problems: list[str]
    repeated: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    first: dict[bytes, Row] = field(default_factory=dict)

    def add(self, row: Row, image: CellImage) -> None:
        if image.constant:  # all black images are equal, which says nothing about their specimens
            self.constant.append(str(row))
            return
        first = self.first.setdefault(image.digest, row)
        if first is row:
            return
        if first.specimen != row.specimen:
            self.problems.append(
                f"{row}: same pixels as {first}, but specimen '{row.specimen}' here and"
                f" '{first.specimen}' there; keep the right one"
            )
        else:
            labels = "" if first.label == row.label else f" ({row.label} and {first.label})"
            self.repeated.append(f"{row}: same pixels as {first}{labels}")

    def report(self, root: Path) -> None:
        for title, cells in (
            ("images that appear twice", self.repeated),
            ("images in which every pixel has the same value", self.constant),
        ):
            if cells:
                text = f"{root}: {title} ({len(cells)}):\n{shortened(cells)}"
                warnings.warn(text, stacklevel=2)
        if self.problems:
            count = len(self.problems)
            raise HEp2Error(
                f"{root}: {count} {'problem' if count == 1 else 'problems'}; mend or remove"
                f" these rows and images:\n{shortened(self.problems)}"
            )
