"""Whole fields with their outlines: every labelled cell cut out as the cells of training sets are.

What those look like, measured on both: of a nucleus's longer side, contest cells (I3A, cut out by
their bounding boxes) and simulated ones leave a fifth free on each end, 0.70 to 0.72 of the image's
side being nucleus. So a cell is the square around the middle of its bounding box, a fifth wider on
each end, with whatever lies around it; past the field's border its own reflection is put.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from hep2.data.header import ImageError, too_large
from hep2.data.images import Pixels, read_image, resize_square
from hep2.data.opencv import cv2
from hep2.errors import HEp2Error

Labels = NDArray[np.int64]
Box = tuple[int, int, int, int]  # top, left, bottom, right: as of slices

MARGIN = 0.2  # of the cell's longer side, free on each end
FEWEST_PIXELS = 64  # of a cell; less shows no pattern at any size
MOST_CELLS = 20_000  # a field has tens; more are the grey values of a picture
MOST_LABEL = 2**32  # what 32 bits can hold
PICTURE = 800  # longest side of a field's picture on a page, pixels

_GREY = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # Pillow's: a number a pixel
_AS_NUMBERS = "save one number a pixel, 0 outside (of cellpose *_cp_masks, not its overlay)"


@dataclass(frozen=True)
class Cut:
    """How cells are cut out of fields; HEp2Error where a value cannot be."""

    margin: float = MARGIN  # free space on each end, as a share of the cell's longer side
    smallest: float = 0.25  # the share of the field's median area below which a cell is too small
    stretch: bool = False  # whether every cell's grey levels are stretched from black to white

    def __post_init__(self) -> None:
        for key, most in (("margin", 2), ("smallest", 1)):
            value = getattr(self, key)
            if isinstance(value, bool) or not (isinstance(value, int | float)
                                               and 0 <= value <= most):  # fmt: skip
                raise HEp2Error(f"fields.{key}={value} must be a number from 0 to {most}")
        if not isinstance(self.stretch, bool):
            raise HEp2Error(f"fields.stretch={self.stretch} must be true or false")


@dataclass(frozen=True)
class FieldCell:
    """One labelled cell of a field."""

    label: int
    outline: NDArray[np.int32]  # (n, 2): x and y of its corners, pixels of the field
    problem: str  # why it is not to be named, or ""


@dataclass(frozen=True)
class CutField:
    """A field, small enough to wait in memory."""

    cells: list[FieldCell]  # by ascending label
    images: Pixels  # (n, size, size): those that have no problem, as they are
    masks: NDArray[np.bool_]  # of the same shape: where in its image the cell is
    picture: bytes  # JPEG, at most PICTURE wide and high, its grey levels stretched
    width: int  # of the field, pixels
    height: int


def cut_field(
    field: Path,
    mask: Path,
    size: int,
    channel: str,
    page: int | None,
    full_scale: int,
    cut: Cut,
) -> CutField:
    """Decode a field once, and cut out its cells to size x size.

    Cells that reach the field's border, or are too small, are marked and not cut.

    Raises:
        ImageError: field or mask cannot be read (`read_image`, `read_labels`).
    """
    pixels = read_image(field, channel, page, full_scale)
    labels = read_labels(mask, pixels.shape)
    cells, boxes = _cells_of(labels, cut.smallest)
    images = np.empty((len(boxes), size, size), pixels.dtype)
    masks = np.empty(images.shape, np.bool_)
    numbers = labels.astype(np.float64)  # of 32 bits and more, OpenCV takes these
    named = (cell.label for cell in cells if not cell.problem)
    for place, (box, label) in enumerate(zip(boxes, named, strict=True)):
        images[place] = cut_out(pixels, box, size, cut)
        inside = (_square(numbers, box, cut.margin) == label).astype(np.uint8) * 255
        masks[place] = resize_square(inside, size) > 127
    return CutField(cells, images, masks, _picture(pixels), *reversed(pixels.shape))


def read_labels(file: Path, shape: tuple[int, ...]) -> Labels:
    """A label image as cellpose, StarDist and others save it: 0 is no cell.

    PNG or TIFF of 1, 8, 16 or 32 bits, whole numbers also as floats; a palette's colours are left
    aside. Where all cells have one number, as a threshold gives it, every piece becomes a cell.
    Shape: `shape`, (H, W)

    Raises:
        ImageError: missing, undecodable, of another size than its field, several pages, colours, no
            whole numbers, no cell, or more than MOST_CELLS.
    """
    try:
        with Image.open(file, formats=("PNG", "TIFF")) as image:
            _check_header(image, shape)
            labels = np.asarray(image)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"missing mask {file.name}") from error
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError(f"its mask {file.name} is no PNG or TIFF") from error
    except Exception as error:  # Pillow's plug-ins raise all kinds on broken files
        raise ImageError(f"its mask {file.name} cannot be decoded") from error
    if not (np.isfinite(labels) & (labels >= 0) & (labels < MOST_LABEL)).all() or (
        labels.dtype.kind == "f" and (labels != np.floor(labels)).any()
    ):
        raise ImageError(f"its mask has fractions or negative numbers: {_AS_NUMBERS}")
    return _told_apart(labels.astype(np.int64))


def _check_header(image: Image.Image, shape: tuple[int, ...]) -> None:
    """Refuse a mask before memory is spent on its pixels."""
    height, width = shape
    if problem := too_large(*image.size):
        raise ImageError(f"its mask is {problem}")
    if (pages := getattr(image, "n_frames", 1)) != 1:
        raise ImageError(f"its mask has {pages} pages; save one label image a file")
    if image.size != (width, height):
        wrong = "{} x {}".format(*image.size)
        raise ImageError(f"its mask has {wrong} pixels, the field {width} x {height}")
    if image.mode not in _GREY:
        raise ImageError(f"its mask has colours ({image.mode}): {_AS_NUMBERS}")
    if (
        isinstance(image, TiffImageFile)
        and image.tag_v2.prefix == b"MM"
        and image.mode in ("I", "F")
        and image.info.get("compression") != "raw"
    ):  # Pillow would take its bytes in the wrong order
        raise ImageError("its mask is a compressed big-endian TIFF of 32 bits; save it with 16")


def _told_apart(labels: Labels) -> Labels:
    """Labels of single cells: where there is one number only, its connected pieces are numbered."""
    inside = labels > 0
    if not inside.any():
        raise ImageError("its mask has no cell: all of it is 0")
    if (labels[inside] == labels.max()).all():
        pieces, numbered = cv2.connectedComponents(inside.astype(np.uint8))
        if pieces > 2:  # the background is one
            return cast(Labels, numbered.astype(np.int64))
    return labels


def _cells_of(labels: Labels, smallest: float) -> tuple[list[FieldCell], list[Box]]:
    """The cells, and the bounding boxes of those that can be cut out."""
    try:
        from scipy import ndimage  # slow to import, and masks alone need it
    except ImportError as error:
        raise HEp2Error("cells are cut out of fields with scipy: pip install scipy") from error

    numbers, compact = _compact(labels)
    if len(numbers) > MOST_CELLS:
        raise ImageError(f"its mask has {len(numbers)} numbers: no label image, a picture?")
    areas = np.bincount(compact.ravel(), minlength=len(numbers) + 1)[1:]
    seen = areas[areas >= FEWEST_PIXELS]
    least = max(FEWEST_PIXELS, smallest * float(np.median(seen)) if seen.size else 0)
    cells, boxes = list[FieldCell](), list[Box]()
    places = ndimage.find_objects(compact)
    for index, (number, where) in enumerate(zip(numbers.tolist(), places, strict=True)):
        (top, bottom), (left, right) = ((part.start, part.stop) for part in where)
        problem = _problem(where, labels.shape, int(areas[index]), least)
        outline = _outline(compact[where] == index + 1) + np.array([left, top], np.int32)
        cells.append(FieldCell(number, outline, problem))
        if not problem:
            boxes.append((top, left, bottom, right))
    return cells, boxes


def _compact(labels: Labels) -> tuple[Labels, NDArray[np.int32]]:
    """The numbers that occur, ascending, without 0; and the image with 1, 2, ... in their place."""
    if (
        int(labels.max()) < labels.size
    ):  # gaps in numbering are small: a table is faster than a sort
        present = np.bincount(labels.ravel()) > 0
        present[0] = False
        table = np.cumsum(present) * present
        return np.flatnonzero(present), table[labels].astype(np.int32)
    numbers, places = np.unique(labels, return_inverse=True)
    compact = places.reshape(labels.shape).astype(np.int32)
    return (numbers[1:], compact) if numbers[0] == 0 else (numbers, compact + np.int32(1))


def _problem(where: Sequence[slice], shape: tuple[int, ...], area: int, least: float) -> str:
    if area < least:
        return f"too small: {area} pixels, at least {least:.0f} are expected here"
    edge = any(part.start == 0 or part.stop == side
               for part, side in zip(where, shape, strict=True))  # fmt: skip
    return "cut off by the field's border" if edge else ""


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The corners of the largest piece, (n, 2), to a pixel."""
    found, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(found, key=cv2.contourArea)
    return cast(NDArray[np.int32], cv2.approxPolyDP(largest, 1.0, True).reshape(-1, 2))


def cut_out(field: Pixels, box: Box, size: int, cut: Cut) -> Pixels:
    """The square around a bounding box, brought to size x size.

    Shape: (H, W) -> (size, size), of the same type
    """
    made = resize_square(_square(field, box, cut.margin), size)
    return stretched(made, int(made.min()), int(made.max())) if cut.stretch else made


def _square(field: NDArray[Any], box: Box, margin: float) -> Any:
    """The square around a bounding box; past the border the field's reflection.

    Shape: (H, W) -> (side, side)
    """
    top, left, bottom, right = box
    side = max(1, round(max(bottom - top, right - left) * (1 + 2 * margin)))
    start = (round((top + bottom - side) / 2), round((left + right - side) / 2))
    before = [max(0, -at) for at in start]
    after = [max(0, at + side - most) for at, most in zip(start, field.shape, strict=True)]
    inside = field[start[0] + before[0] : start[0] + side - after[0],
                   start[1] + before[1] : start[1] + side - after[1]]  # fmt: skip
    if any(before + after):
        ends = (before[0], after[0], before[1], after[1])
        inside = cv2.copyMakeBorder(inside, *ends, cv2.BORDER_REFLECT_101)
    return inside


def stretched(pixels: Pixels, black: float, white: float) -> Pixels:
    """Grey levels from `black` to `white` spread over all that the type has."""
    top = np.iinfo(pixels.dtype).max
    levels = (pixels.astype(np.float32) - black) * (top / max(white - black, 1.0))
    return cast(Pixels, np.clip(np.rint(levels), 0, top).astype(pixels.dtype))


def _picture(field: Pixels) -> bytes:
    """A field for the eye: smaller, with a thousandth of its pixels black and one white."""
    scale = min(1.0, PICTURE / max(field.shape))
    new_size = [max(1, round(side * scale)) for side in reversed(field.shape)]
    small: Any = cv2.resize(field, new_size, interpolation=cv2.INTER_AREA)
    shown = stretched(small, *np.quantile(small, (0.001, 0.999)))
    shown = (shown >> 8).astype(np.uint8) if shown.dtype == np.uint16 else shown
    jpeg: Any = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return bytes(jpeg.tobytes())
