"""One cell image: checked, decoded to its fluorescence channel, brought to the common size."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hep2.data.opencv import cv2
from hep2.errors import HEp2Error

Pixels = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16

SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})
FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
CHANNELS = ("green", "red", "blue", "mean")
MAX_PIXELS = 16_000_000  # a whole slide field has 1-5 million; more than this is not a cell
THREADS = min(8, os.cpu_count() or 1)
AHEAD = 256  # images decoded ahead of their reader: bounds memory

_PNG = b"\x89PNG\r\n\x1a\n"  # what it begins with
_PNG_DEPTH = 24  # which of its bytes says how many bits a channel has
_TIFF = (b"II", b"MM")
_TIFF_DEPTH = 258  # its tag BitsPerSample: a number for each channel
_TILE_SIZE = (322, 323)  # its tags TileWidth and TileLength
_BGR = ("blue", "green", "red")  # the order in which OpenCV decodes
_COLOURS_WITHOUT_GREEN = ("CMYK", "YCbCr", "LAB", "HSV")  # Pillow's names
_TOO_LARGE = f"more than {MAX_PIXELS // 10**6} megapixels; crop it to a cell"
_REASONS: tuple[tuple[Any, str], ...] = (  # the first that fits
    ((FileNotFoundError, NotADirectoryError), "missing file"),
    (IsADirectoryError, "a folder, not an image"),
    (PermissionError, "no permission to read the file"),
    (Image.DecompressionBombError, _TOO_LARGE),
    (Exception, "the image cannot be decoded as PNG, TIFF, JPEG or BMP"),
)


class ImageError(Exception):
    """Why a file is not a usable cell image; the caller adds the file's name and row."""


@dataclass(frozen=True)
class CellImage:
    """A decoded cell."""

    pixels: Pixels  # (size, size), uint8 or uint16, as the file has it
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


def decoded(files: Iterable[Path], size: int, channel: str) -> Iterator[CellImage | ImageError]:
    """Decode files by threads, in their order: for each its cell, or why there is none."""

    def outcome(file: Path) -> CellImage | ImageError:
        try:
            return load_cell(file, size, channel)
        except ImageError as error:
            return error

    ahead: deque[Future[CellImage | ImageError]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:  # OpenCV lets other threads run as it decodes
        for file in files:
            ahead.append(pool.submit(outcome, file))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def has_16_bits(file: Path) -> bool:
    """Whether a file's header says that it has more than 8 bits a channel; False if unreadable."""
    try:
        with file.open("rb") as opened:
            start = opened.read(_PNG_DEPTH + 1)
        if start.startswith(_PNG):
            return start[_PNG_DEPTH] > 8
        if not start.startswith(_TIFF):
            return False  # JPEG and BMP have 8
        with Image.open(file, formats=["TIFF"]) as header:
            return bool(max(getattr(header, "tag_v2", {}).get(_TIFF_DEPTH, (1,))) > 8)
    except Exception:  # Pillow's plug-ins raise all kinds on broken files; decoding will tell
        return False


def load_cell(file: Path, size: int, channel: str) -> CellImage:
    """Decode one file and bring it to size x size; raises what `read_image` raises.

    So does an image of two values, which is a mask.
    """
    pixels = read_image(file, channel)
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(pixels.tobytes())
    low, high = pixels.min(), pixels.max()
    constant = bool(low == high)
    if not constant and bool(((pixels == low) | (pixels == high)).all()):
        raise ImageError(f"only two values, {low} and {high}: a mask, no cell")
    return CellImage(resize_square(pixels, size), digest.digest(), constant, max(pixels.shape))


def check_channel(channel: str) -> None:
    """Raise HEp2Error for a channel that does not exist."""
    if channel not in CHANNELS:
        raise HEp2Error(f"data.channel={channel} is unknown; choose one of {', '.join(CHANNELS)}")


def read_image(file: Path, channel: str) -> Pixels:
    """The fluorescence of one image file (of a TIFF stack: its first page), at its own size.

    Grey images are taken as they are. Of RGB(A) images `channel` is taken: fluorescein glows
    green, so "green" carries the signal; "mean" is the rounded mean of the three. Alpha is ignored.
    Shape: (H, W)

    Raises:
        ImageError: missing, empty, undecodable, too large, or not 8- or 16-bit.
    """
    check_channel(channel)
    _check_header(file)
    pixels = None
    with suppress(cv2.error, OSError):
        pixels = cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.size == 0:
        raise ImageError("the image cannot be decoded")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels are {pixels.dtype}; save it with 8 or 16 bits a pixel")
    if pixels.dtype == np.uint16 and not has_16_bits(file):  # by which the store makes room
        raise ImageError("16 bits a pixel, though its header says fewer; save it again")
    return _pick_channel(cast(Pixels, pixels), channel)


def _check_header(file: Path) -> None:
    """Refuse a file by its header, before memory is spent on it; then test that it is whole."""
    try:
        if file.stat().st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        with Image.open(file, formats=FORMATS) as header:
            if 0 in header.size:
                raise ImageError("the image is empty (no pixels)")
            # A small TIFF may be cut into huge tiles, which decoders make room for.
            tile = [int(getattr(header, "tag_v2", {}).get(tag, 0)) for tag in _TILE_SIZE]
            for width, height in (header.size, tile):
                if width * height > MAX_PIXELS:
                    raise ImageError(f"{width} x {height} is {_TOO_LARGE}")
            if header.mode in _COLOURS_WITHOUT_GREEN:
                raise ImageError(f"colours are {header.mode}; save it as grey or RGB")
            header.load()  # OpenCV returns the first part of a truncated JPEG, Pillow refuses it
    except ImageError:
        raise
    except Exception as error:  # Pillow's plug-ins raise all kinds on broken files
        raise ImageError(next(why for kind, why in _REASONS if isinstance(error, kind))) from error


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
