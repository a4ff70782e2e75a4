"""A data set of image files and masks: decodes them and names what cannot be used."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hep2.data.cells import Row
from hep2.data.header import ImageError
from hep2.data.images import FULL_SCALE, Pixels, decoded, read_image, resize_square
from hep2.data.manifest import by_reason, shortened
from hep2.data.rows import check_rows
from hep2.data.scale import full_scale_of
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

LOSSY = (".jpg", ".jpeg")  # masks whose black is not quite black
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

    def full_scale(self, channel: str, page: int | None, asked: int | None) -> int | None:
        """As of `full_scale_of`; images of 16 bits are decoded to find it."""

        def files() -> Iterator[tuple[str, Path]]:
            return ((str(row), row.file) for row in self.rows)

        return full_scale_of(str(self.root), files, channel, page, asked)

    def images(
        self,
        size: int,
        channel: str,
        page: int | None = None,
        full_scale: int = FULL_SCALE,
        notes: list[str] | None = None,
    ) -> Iterator[Pixels]:
        """The images of the rows as they are decoded; what is odd is added to `notes` in the end.

        Raises:
            HEp2Error: (after the last image) rows or images are bad; all of them are named.
        """
        problems, repeated, constant = list(self.problems), list[str](), list[str]()
        known: dict[bytes, Row] = {}
        sides: list[tuple[int, Row]] = []
        files = (row.file for row in self.rows)
        outcomes = decoded(files, size, channel, page, full_scale)
        for row, outcome in zip(self.rows, outcomes, strict=True):
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
        odd = {
            "images that appear twice": repeated,
            "images in which every pixel has the same value": constant,
        }
        if notes is not None:
            notes += [
                f"{self.root}: {title} ({len(cells)}):\n{shortened(cells)}"
                for title, cells in odd.items()
                if cells
            ]
        fields = whole_fields([side for side, _ in sides])
        problems += [f"{sides[position][1]}: {why}" for position, why in fields.items()]
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise HEp2Error(
                f"{self.root}: {count}; mend or remove these rows and images:\n"
                f"{shortened(by_reason(problems))}"
            )

    def masks(self, size: int) -> Iterator[NDArray[np.uint8]] | None:
        """The rows' masks, resized as the images are; None where no row has one."""
        some = any(row.mask != Path() for row in self.rows)
        return mask_images(self.rows, size) if some else None


def mask_images(rows: Sequence[Row], size: int) -> Iterator[NDArray[np.uint8]]:
    """A mask for each row, shape (size, size), uint8: 255 is the cell; resized as its image is.

    Where there is none, or one that cannot be its image's (a warning says which), all is 0.
    """
    unused = []
    for row in rows:
        made = np.zeros((size, size), np.uint8)
        if row.mask != Path():
            try:
                made = _resized(row, size)
            except ImageError as error:
                unused.append(f"{row.mask}: {error}")
            except Exception:  # Pillow's plug-ins raise all kinds on broken files
                unused.append(f"{row.mask}: the image cannot be decoded")
        yield made
    if unused:
        lines = shortened(by_reason(unused))
        log.warning("%s", f"{len(unused)} masks are not used:\n{lines}")


def _resized(row: Row, size: int) -> NDArray[np.uint8]:
    with Image.open(row.file) as image, Image.open(row.mask) as mask:  # before memory is spent
        if image.size != mask.size:
            raise ImageError("of another size than its image")
    pixels = read_image(row.mask, "mean")
    inside = pixels > (pixels.max() / 2 if row.mask.suffix.lower() in LOSSY else 0)
    return (resize_square(inside.astype(np.uint8) * 255, size) > 127).astype(np.uint8) * 255


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
