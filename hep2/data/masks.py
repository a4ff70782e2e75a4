"""Masks that a data set brings: brought to the size of the cells, for features that use them."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hep2.data.cells import Row
from hep2.data.header import ImageError
from hep2.data.images import read_image, resize_square
from hep2.data.manifest import by_reason, shortened

log = logging.getLogger(__name__)

LOSSY = (".jpg", ".jpeg")  # whose black is not quite black


def any_mask(rows: Sequence[Row]) -> bool:
    """Whether any cell has a mask."""
    return any(row.mask != Path() for row in rows)


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
