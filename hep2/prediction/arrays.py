"""Cells that a Python program holds, as arrays or as paths, made into batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from hep2.data.fields import Cut
from hep2.data.images import FULL_SCALE, rescaled, resize_square
from hep2.data.views import in_unit_range
from hep2.errors import HEp2Error
from hep2.prediction.cells import BATCH, CellBatch, NamedImage, find_images, scale_of
from hep2.prediction.fields import find_fields, read_batches

# An image, a folder, or a CSV with the column image; or arrays, (N, H, W) or of several sizes.
Images: TypeAlias = str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]]


def batches_of(
    images: Images, size: int, channel: str, page: int | None, learned: int | None,
    full_scale: int | None, masked: bool = False, masks: str | Path | None = None,
) -> Iterator[CellBatch]:  # fmt: skip
    """Cells of any form, (size, size), as training has them.

    Args:
        images: paths, as of `find_images`; or grey arrays, (N, H, W) or a sequence of (H, W), of
            uint8, uint16 or floats in [0, 1]. The id of an array is its number.
        size: side of the images, pixels.
        channel: of colour images, which are read from files alone.
        page: of TIFFs.
        learned: what was white in the 16-bit images that were learned from, or 255; None: unknown.
        full_scale: what is white in 16-bit images; None: for files as of `scale_of`, for arrays
            `learned`, or 65535 where that was 255.
        masked: whether masks beside files are read; arrays have none.
        masks: of whole fields, whose cells are cut out; both paths are then as of `find_fields`.

    Raises:
        HEp2Error: a path leads nowhere, or an array is no image; the message names it.
    """
    found: Sequence[NamedImage]
    named = str(images) if isinstance(images, str | Path) else "the list"
    if masks is not None:
        if not isinstance(images, str | Path):
            raise HEp2Error("masks belong to whole fields: give images as one path, as masks are")
        found = find_fields(named, str(masks))
    elif isinstance(images, str | Path):
        found = find_images(named)
    elif len(images) and all(isinstance(one, str | Path) for one in images):
        found = [cell for one in images for cell in find_images(str(one))]
    else:
        white = full_scale or (learned if learned and learned > 255 else FULL_SCALE)
        return _from_arrays([np.asarray(one) for one in images], size, white)
    scale = scale_of(named, found, channel, page, learned, full_scale)
    return read_batches(found, size, channel, page, scale, masked, Cut())


def _from_arrays(images: Sequence[NDArray[Any]], size: int, white: int) -> Iterator[CellBatch]:
    folder = Path()
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        made = [unit_square(one, size, white, f"image {start + i}") for i, one in enumerate(part)]
        named = [NamedImage(str(start + i), "", folder) for i in range(len(part))]
        yield CellBatch(named, torch.from_numpy(np.stack(made)[:, None]), [""] * len(part))


def unit_square(image: NDArray[Any], size: int, white: int, name: str) -> NDArray[np.float32]:
    """A grey image from 0 to 1, brought to the common size as those of files are.

    Shape: (H, W) -> (size, size)

    Args:
        image: uint8, uint16 or floats in [0, 1].
        size: side in pixels.
        white: the value of white in uint16.
        name: what a message calls it.

    Raises:
        HEp2Error: it has other dimensions, another type, or values out of range.
    """
    if image.ndim != 2 or 0 in image.shape:
        raise HEp2Error(f"{name} has the shape {image.shape}: give grey images, (N, H, W)")
    if image.dtype == np.uint8:
        return in_unit_range(resize_square(image, size))
    if image.dtype == np.uint16:
        if (brightest := int(image.max())) > white:
            raise HEp2Error(f"{name} has a pixel of {brightest}, above full_scale={white}")
        return in_unit_range(resize_square(rescaled(image, white), size))
    if not np.issubdtype(image.dtype, np.floating):
        raise HEp2Error(f"{name} is {image.dtype}: give uint8, uint16 or floats in [0, 1]")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also where a value is NaN
        raise HEp2Error(f"{name} has values from {low:g} to {high:g}: floats must be in [0, 1]")
    squared: Any = resize_square(image.astype(np.float32), size)
    return np.asarray(squared, np.float32)
