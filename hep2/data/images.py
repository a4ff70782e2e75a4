"""One cell image: checked, decoded to its fluorescence channel, brought to the common size."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from hep2.data.header import TOO_LARGE, ImageError, Page, page_of, too_large
from hep2.data.opencv import cv2
from hep2.errors import HEp2Error, whole

F = TypeVar("F")  # a file, or what is read from files
T = TypeVar("T")
Pixels = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16

SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})
FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
CHANNELS = ("green", "red", "blue", "mean")
FULL_SCALE = 65535  # of 16 bits
THREADS = min(8, os.cpu_count() or 1)
AHEAD = 256  # images decoded ahead of their reader: bounds memory

_EXTRA_SAMPLES, _TRANSPARENCY = 338, (2,)  # a TIFF's tag: alpha that colours do not contain
_BGR = ("blue", "green", "red")  # the order in which OpenCV decodes
_COLOURS_WITHOUT_GREEN = ("CMYK", "YCbCr", "LAB", "HSV")  # Pillow's names
_TURNS: tuple[Callable[[Pixels], Pixels], ...] = (  # what undoes EXIF's orientations 1 to 8
    lambda image: image,
    lambda image: image[:, ::-1],
    lambda image: image[::-1, ::-1],
    lambda image: image[::-1],
    lambda image: image.swapaxes(0, 1),
    lambda image: image.swapaxes(0, 1)[:, ::-1],
    lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    lambda image: image.swapaxes(0, 1)[::-1],
)
_REASONS: tuple[tuple[Any, str], ...] = (  # the first that fits
    ((FileNotFoundError, NotADirectoryError), "missing file"),
    (IsADirectoryError, "a folder, not an image"),
    (PermissionError, "no permission to read the file"),
    (Image.DecompressionBombError, f"the image is {TOO_LARGE}"),
    (Exception, "the image cannot be decoded as PNG, TIFF, JPEG or BMP"),
)


@dataclass(frozen=True)
class CellImage:
    """A decoded cell."""

    pixels: Pixels  # (size, size), uint8 or uint16, from black to white
    digest: bytes  # of the pixels before they were resized: equal for equal images of any format
    constant: bool  # whether every pixel has the same value
    side: int  # the longer one, before it was resized


def image_files(root: Path) -> Iterator[Path]:
    """All image files below a folder, links followed, hidden files and folders left out."""
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link upwards would never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(folder, name)


def decoded(
    files: Iterable[Path],
    size: int,
    channel: str,
    page: int | None = None,
    full_scale: int = FULL_SCALE,
) -> Iterator[CellImage | ImageError]:
    """Decode files by threads, in their order: for each its cell, or why there is none."""
    return ahead(lambda file: load_cell(file, size, channel, page, full_scale), files)


def ahead(
    function: Callable[[F], T], files: Iterable[F], most: int = AHEAD
) -> Iterator[T | ImageError]:
    """What a function makes of each file, by threads, in their order; ImageErrors are handed on.

    Not more than `most` results wait for their reader.
    """

    def outcome(file: F) -> T | ImageError:
        try:
            return function(file)
        except ImageError as error:
            return error

    waiting: deque[Future[T | ImageError]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:  # OpenCV lets other threads run as it decodes
        for file in files:
            waiting.append(pool.submit(outcome, file))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def load_cell(
    file: Path,
    size: int,
    channel: str,
    page: int | None = None,
    full_scale: int = FULL_SCALE,
) -> CellImage:
    """Decode one file and bring it to size x size; raises what `read_image` raises.

    So does an image of two values, which is a mask.
    """
    pixels = read_image(file, channel, page, full_scale)
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(pixels.tobytes())
    low, high = pixels.min(), pixels.max()
    constant = bool(low == high)
    if not constant and bool(((pixels == low) | (pixels == high)).all()):
        raise ImageError(f"only two values, {low} and {high}: a mask, no cell")
    return CellImage(resize_square(pixels, size), digest.digest(), constant, max(pixels.shape))


def check_reading(channel: str, page: object, full_scale: object) -> None:
    """Raise HEp2Error for a channel that does not exist, no page, or no value of 16 bits."""
    if channel not in CHANNELS:
        raise HEp2Error(f"data.channel={channel} is unknown; choose one of {', '.join(CHANNELS)}")
    if page is not None and not whole(page, 0):
        raise HEp2Error(f"data.page={page} must be a whole number from 0, or null")
    if full_scale is not None and not whole(full_scale, 255, FULL_SCALE):
        raise HEp2Error(
            f"data.full_scale={full_scale} must be a whole number from 255 to 65535 (4095 for 12 "
            "bits), or null"
        )


def read_image(
    file: Path, channel: str, page: int | None = None, full_scale: int = FULL_SCALE
) -> Pixels:
    """The fluorescence of one image file, at its own size; what is bright has high values.

    Grey images are taken as they are. Of RGB(A) images `channel` is taken: fluorescein glows
    green, so "green" carries the signal; "mean" is the rounded mean of the three. Alpha is ignored.
    Orientation and an inverted scale are undone, as the file says. Images of 16 bits are stretched
    so that `full_scale` becomes 65535.
    Shape: (H, W)

    Args:
        file: PNG, TIFF, JPEG or BMP.
        channel: one of CHANNELS.
        page: of a TIFF, from 0; None: the only one.
        full_scale: the pixel value that means white in images of 16 bits.

    Raises:
        ImageError: missing, empty, undecodable, too large, not 8- or 16-bit, brighter than
            `full_scale`, or of several pages with none chosen.
    """
    pixels, header = read_raw(file, channel, page)
    if pixels.dtype == np.uint8:
        return pixels
    if (brightest := int(pixels.max())) > full_scale:
        raise ImageError(f"a pixel of {brightest}, above the full scale {full_scale}")
    if header.white_is_zero:
        pixels = np.uint16(full_scale) - pixels
    return pixels if full_scale == FULL_SCALE else rescaled(pixels, full_scale)


def rescaled(pixels: Pixels, white: int) -> Pixels:
    """Values of 16 bits so that `white` becomes 65535, rounded."""
    return ((pixels.astype(np.uint32) * FULL_SCALE + white // 2) // white).astype(np.uint16)


def read_raw(file: Path, channel: str, page: int | None) -> tuple[Pixels, Page]:
    """The pixels of `read_image` with the values that 16 bits have in the file, and its header."""
    check_reading(channel, page, None)
    try:
        header = page_of(file, page)
        decoded, turn = _checked(file, header)
    except ImageError:
        raise
    except Exception as error:  # Pillow's plug-ins raise all kinds on broken files
        raise ImageError(next(why for kind, why in _REASONS if isinstance(error, kind))) from error
    pixels = _decoded(file, header) if decoded is None else decoded
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels are {pixels.dtype}; save it with 8 or 16 bits a pixel")
    if (pixels.dtype == np.uint16) != header.wide:  # by which the store makes room
        bits, said = 8 * pixels.dtype.itemsize, "more" if header.wide else "fewer"
        raise ImageError(f"{bits} bits a pixel, though its header says {said}; save it again")
    if turn in range(2, 1 + len(_TURNS)):
        pixels = np.ascontiguousarray(_TURNS[turn - 1](pixels))
    return _pick_channel(pixels, channel), header


def _decoded(file: Path, page: Page) -> Pixels:
    """A page as OpenCV gives it: (H, W), or channels behind, blue first."""
    pixels = None
    with suppress(cv2.error, OSError):
        content = _page_first(np.fromfile(file, dtype=np.uint8), page)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.size == 0:
        raise ImageError("the image cannot be decoded")
    return cast(Pixels, pixels)


def _page_first(content: NDArray[np.uint8], page: Page) -> NDArray[np.uint8]:
    """A TIFF whose first page is the one that is asked for: decoders see no other."""
    if page.in_tiff:
        order = "<" if content[0] == ord("I") else ">"
        where = slice(8, 16) if 43 in content[2:4] else slice(4, 8)
        content[where].view(f"{order}u{where.stop - where.start}")[:] = page.start
    return content


def _checked(file: Path, page: Page) -> tuple[Pixels | None, int]:
    """Refuse a file by its header, before memory is spent on it; then test that it is whole.

    Returns the image where OpenCV would spoil it, and its orientation, 1 to 8 as EXIF counts, where
    OpenCV does not undo it.
    """
    if file.stat().st_size == 0:
        raise ImageError("the file is empty (0 bytes)")
    try:
        opened = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if page.in_tiff:  # of a kind that OpenCV knows and Pillow does not
            return None, 1
        raise
    with opened as image:
        if page.in_tiff:
            image.seek(page.number)
        if 0 in image.size:
            raise ImageError("the image is empty (no pixels)")
        if problem := too_large(*image.size):
            raise ImageError(problem)
        if image.mode in _COLOURS_WITHOUT_GREEN:
            raise ImageError(f"colours are {image.mode}; save it as grey or RGB")
        image.load()  # OpenCV returns the first part of a truncated JPEG, Pillow refuses it
        if page.in_tiff:
            return _without_alpha(image), 1
        return None, int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _without_alpha(image: Any) -> Pixels | None:
    """A TIFF that OpenCV would multiply by its transparency; None where it would not."""
    if image.tag_v2.get(_EXTRA_SAMPLES) != _TRANSPARENCY or image.mode not in ("LA", "RGBA"):
        return None
    bands = np.asarray(image)
    return bands[:, :, 0] if image.mode == "LA" else np.ascontiguousarray(bands[:, :, 2::-1])


def _pick_channel(pixels: Pixels, channel: str) -> Pixels:
    """From (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA to (H, W)."""
    height, width, *channels = pixels.shape
    if channels in ([], [1]):
        return pixels.reshape(height, width)
    if channels not in ([3], [4]):
        raise ImageError(f"{channels[0]} channels; save it as grey, RGB or RGBA")
    if channel == "mean":
        total: NDArray[np.uint32] = pixels[:, :, :3].sum(axis=2, dtype=np.uint32)
        return cast(Pixels, ((total + 1) // 3).astype(pixels.dtype))
    return np.ascontiguousarray(pixels[:, :, _BGR.index(channel)])


def resize_square(image: Pixels, size: int) -> Pixels:
    """Bring an image to size x size without changing its proportions.

    The longer side becomes `size` (area average when it shrinks, bilinear when it grows); the
    shorter side is then filled up on both ends with its own reflection, so that no artificial
    edge appears. An image that has this size already is unchanged.

    Shape: (H, W) -> (size, size), of the same type
    """
    scale = size / max(image.shape)
    if scale != 1:
        new_size = [max(1, round(side * scale)) for side in reversed(image.shape)]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cast(Pixels, cv2.resize(image, new_size, interpolation=how))
    down, across = size - image.shape[0], size - image.shape[1]
    if down or across:
        ends = (down // 2, down - down // 2, across // 2, across - across // 2)
        image = cast(Pixels, cv2.copyMakeBorder(image, *ends, cv2.BORDER_REFLECT_101))
    return image
