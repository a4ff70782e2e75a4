"""A data set of image files: decodes them and names every one that cannot be used."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Row
from hep2.data.images import ImageError, Pixels, decoded, has_16_bits
from hep2.data.manifest import by_reason, shortened
from hep2.data.masks import any_mask, mask_images
from hep2.data.rows import check_rows
from hep2.errors import HEp2Error

FIELD = 5  # times as long as the others' sides: no cell of the same microscope is
FEW = 0.2  # share of the images


@dataclass(frozen=True)
class ImageSource:
    """Image files with labels; rows are sorted by ID, so the order of reading changes nothing."""

    name: str
    root: Path
    classes: tuple[str, ...]  # pattern names, in the order of every table
    rows: tuple[Row, ...]
    problems: tuple[str, ...]  # of rows that were left out; reported together with bad images
    synthetic: bool = False

    def fingerprint(self) -> str:
        """Changes when a row, a file's size or a file's time changes; opens no image."""
        digest = hashlib.sha256(repr((str(self.root), self.classes, self.problems)).encode())
        for row in self.rows:
            cell = (row.id, row.label, row.specimen, row.pool, str(row.file), _state(row.file))
            more: tuple[Any, ...] = (row.intensity, row.source)
            if row.mask != Path():
                more += (str(row.mask), _state(row.mask))
            digest.update(repr(cell + more if any(more) else cell).encode())
        return digest.hexdigest()

    def dtype(self) -> np.dtype[Any]:
        """uint16 where any image has 16 bits, as their headers say; no image is decoded."""
        return np.dtype(np.uint16 if any(has_16_bits(row.file) for row in self.rows) else np.uint8)

    def images(self, size: int, channel: str) -> Iterator[Pixels]:
        """The images of the rows as they are decoded.

        Raises:
            HEp2Error: (after the last image) rows or images are bad; all of them are named.
        """
        problems, repeated, constant = list(self.problems), list[str](), list[str]()
        known: dict[bytes, Row] = {}
        sides: list[tuple[int, Row]] = []
        files = (row.file for row in self.rows)
        for row, outcome in zip(self.rows, decoded(files, size, channel), strict=True):
            if isinstance(outcome, ImageError):
                problems.append(f"{row}: {outcome}")
                continue
            sides.append((outcome.side, row))
            if outcome.constant:  # all black images are equal, whatever their specimens
                constant.append(str(row))
            elif (first := known.setdefault(outcome.digest, row)).specimen != row.specimen:
                problems.append(
                    f"{row}: same pixels as {first}, but specimen '{row.specimen}' here and"
                    f" '{first.specimen}' there; keep the right one"
                )
            elif first is not row:
                labels = "" if first.label == row.label else f" ({row.label} and {first.label})"
                repeated.append(f"{row}: same pixels as {first}{labels}")
            yield outcome.pixels
        fields = whole_fields([side for side, _ in sides])
        problems += [f"{sides[position][1]}: {why}" for position, why in fields.items()]
        self._report(problems, repeated, constant)

    def masks(self, size: int) -> Iterator[NDArray[np.uint8]] | None:
        """The rows' masks, resized as the images are; None where no row has one."""
        return mask_images(self.rows, size) if any_mask(self.rows) else None

    def _report(self, problems: list[str], repeated: list[str], constant: list[str]) -> None:
        for title, cells in (
            ("images that appear twice", repeated),
            ("images in which every pixel has the same value", constant),
        ):
            if cells:
                text = f"{self.root}: {title} ({len(cells)}):\n{shortened(cells)}"
                warnings.warn(text, stacklevel=3)
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise HEp2Error(
                f"{self.root}: {count}; mend or remove these rows and images:\n"
                f"{shortened(by_reason(problems))}"
            )


def image_source(
    name: str,
    root: Path,
    rows: Iterable[Row],
    problems: list[str],
    order: tuple[str, ...] = (),
    merge_spellings: bool = False,
) -> ImageSource:
    """Check the rows of a data set, add to `problems` what is wrong, and order the classes."""
    checked = check_rows(rows, problems, merge_spellings)
    classes = ordered_classes({row.label for row in checked}, order)
    return ImageSource(name, root, classes, tuple(checked), tuple(problems))


def ordered_classes(labels: set[str], order: tuple[str, ...]) -> tuple[str, ...]:
    """The labels that occur, in the given order if it covers them all, else alphabetically.

    Spelling of spaces, hyphens and capitals does not matter.
    """
    rank = {_letters(name): position for position, name in enumerate(order)}
    if not all(_letters(label) in rank for label in labels):
        return tuple(sorted(labels))
    return tuple(sorted(labels, key=lambda label: (rank[_letters(label)], label)))


def _letters(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter.isalnum())


def whole_fields(sides: Sequence[int]) -> dict[int, str]:
    """What is said of images so much larger than the others that they are no cells, by position.

    Few images, that is: where many are large, sizes just differ. `sides` are the longer ones.
    """
    usual = float(np.median(sides)) if sides else 0.0
    large = [position for position, side in enumerate(sides) if side >= FIELD * usual]
    if len(large) > FEW * len(sides):
        return {}
    return {
        position: f"{sides[position]} pixels wide or high where others have {usual:.0f}: a whole"
        " field? cut out its cells, or leave it out"
        for position in large
    }


def _state(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
