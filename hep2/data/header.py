"""What an image file says of itself, before a pixel of it is decoded: its pages and their depth."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_PNG = b"\x89PNG\r\n\x1a\n"  # what it begins with
_PNG_DEPTH = 24  # which of its bytes says how many bits a channel has
_TIFF = (b"II", b"MM")
_BIG_TIFF = 43  # its version, which gives offsets of 8 bytes instead of 4
_NOT_A_PAGE = 1 | 4  # of NewSubfileType: a smaller copy, a transparency mask
_GREY, _COLOURED = (0, 1), (2, 3, 6)  # photometric: white or black is zero; RGB, palette, YCbCr
_NAMES = {5: "CMYK", 8: "LAB", 9: "LAB", 10: "LAB", 32803: "those of a colour filter array"}
_SIZE, _TILE_SIZE = (256, 257), (322, 323)  # width and length
_ALPHA = (1, 2)  # of ExtraSamples
_TYPES = {1: "uint", 2: "int", 3: "float", 4: "uint", 5: "complex int", 6: "complex"}
_DEPTHS = (1, 8, 10, 12, 14, 16)
# Where a TIFF says how many of its 16 bits carry the value, in words: OME, Micro-Manager, Zeiss.
_SIGNIFICANT = re.compile(
    r'SignificantBits="(\d{1,2})"|"BitDepth":\s*"?(\d{1,2})\b|ValidBitsPerPixel\W+(\d{1,2})\b'
)
_TEXTS = (270, 51123)  # ImageDescription, Micro-Manager's own
_BRIGHTEST = (281, 341)  # MaxSampleValue, SMaxSampleValue
MAX_PIXELS = 16_000_000  # a whole slide field has 1-5 million; more than this is not a cell
TOO_LARGE = f"more than {MAX_PIXELS // 10**6} megapixels; crop it to a cell"
_FULL = {(1 << bits) - 1: bits for bits in (10, 12, 14)}


class ImageError(Exception):
    """Why a file is not a usable cell image; the caller adds the file's name and row."""


@dataclass(frozen=True)
class Page:
    """One image in a file."""

    number: int = 0  # from 0, counting all directories of a TIFF
    start: int = 0  # where its directory lies in a TIFF, bytes
    wide: bool = False  # more than 8 bits a channel
    significant: int | None = None  # how many of them carry the value, where the file says so
    white_is_zero: bool = False  # and the decoder leaves it so
    problem: str = ""  # why it cannot be used

    @property
    def in_tiff(self) -> bool:
        """Whether a TIFF holds it."""
        return self.start > 0


def page_of(file: Path, page: int | None) -> Page:
    """The page of a file that is asked for, None meaning the only one.

    Raises:
        ImageError: the page cannot be used, there is none of this number, or there are several and
            none is chosen.
        Exception: the file is missing, broken or no image, of any kind.
    """
    pages = _pages(file)
    if page is None and len(pages) > 1:
        raise ImageError(
            f"{len(pages)} pages; choose one with data.page=<0 to {len(pages) - 1}>"
            " (it holds for all files)"
        )
    if page is not None and page >= len(pages):
        many = "one page" if len(pages) == 1 else f"{len(pages)} pages"
        raise ImageError(f"{many}, no page {page} (data.page counts from 0)")
    chosen = pages[page or 0]
    if chosen.problem:
        raise ImageError(chosen.problem)
    return chosen


def has_16_bits(file: Path, page: int | None = None) -> bool:
    """Whether a file's header says that it has more than 8 bits a channel; False if unreadable."""
    try:
        return page_of(file, page).wide
    except Exception:  # readers of headers raise all kinds on broken files; decoding will tell
        return False


def _pages(file: Path) -> list[Page]:
    with file.open("rb") as opened:
        start = opened.read(_PNG_DEPTH + 1)
        if start.startswith(_PNG):
            return [Page(wide=start[_PNG_DEPTH] > 8, significant=_png_significant(opened))]
        if not start.startswith(_TIFF):
            return [Page()]  # JPEG and BMP have 8 bits
        every = list(_directories(opened, start))
    words = " ".join(str(every[0][1].get(tag, "")) for tag in _TEXTS)
    pages = [_tiff_page(number, *one, words) for number, one in enumerate(every)]
    kinds = [int(tags.get(254, 0)) for _, tags in every]
    proper = [page for page, kind in zip(pages, kinds, strict=True) if not kind & _NOT_A_PAGE]
    return proper or pages


def _png_significant(opened: BinaryIO) -> int | None:
    """The most bits that a channel has by the chunk sBIT, which stands before the pixels."""
    opened.seek(len(_PNG))
    while (head := opened.read(8)) and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"sBIT":
            return max(opened.read(min(length, 4)), default=None)
        opened.seek(length + 4, 1)
    return None


def _directories(opened: BinaryIO, start: bytes) -> Iterator[tuple[int, Mapping[int, Any]]]:
    """Where each directory of a TIFF lies, and its tags, which are decoded when they are read."""
    head = start[: 16 if _BIG_TIFF in start[2:4] else 8]
    offset, seen = ImageFileDirectory_v2(head).next, set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        tags = ImageFileDirectory_v2(head)
        opened.seek(offset)
        tags.load(opened)
        yield offset, tags
        offset = tags.next


def _tiff_page(number: int, start: int, tags: Mapping[int, Any], words: str) -> Page:
    bits, photometric = max(tags.get(258, (1,))), int(tags.get(262, 1))
    return Page(
        number=number,
        start=start,
        wide=bits > 8,
        # The decoder moves values of 10 to 14 bits to the upper end of 16.
        significant=_tiff_significant(tags, words) if bits == 16 else 16,
        white_is_zero=bits > 8 and photometric == 0,
        problem=_unusable(tags, bits, photometric) or _calibrated(words),
    )


def _unusable(tags: Mapping[int, Any], bits: int, photometric: int) -> str:
    """Why a page of a TIFF is not a grey or colour image of 8 or 16 bits; "" where it is."""
    kind = _TYPES.get(max(tags.get(339, (1,))), "unknown ")
    if kind != "uint" or (bits not in _DEPTHS and photometric != 3):
        return f"pixels are {kind}{bits}; save it with 8 or 16 bits a pixel"
    if photometric not in _GREY + _COLOURED:
        colours = _NAMES.get(photometric, f"of the kind {photometric}")
        return f"colours are {colours}; save it as grey or RGB"
    samples = int(tags.get(277, 1))
    alpha = sum(extra in _ALPHA for extra in tags.get(338, ())) if bits <= 8 else 0
    if samples > 4 or (photometric in _GREY and samples - alpha != 1):
        return f"{samples} channels; save it as grey, RGB or RGBA"
    # A small TIFF may be cut into huge tiles, which decoders make room for.
    sizes = [[int(tags.get(tag, 0)) for tag in pair] for pair in (_SIZE, _TILE_SIZE)]
    return next(filter(None, (too_large(*size) for size in sizes)), "")


def too_large(width: int, height: int) -> str:
    """Why an image has too many pixels; "" where it has not."""
    return f"{width} x {height} is {TOO_LARGE}" if width * height > MAX_PIXELS else ""


def _calibrated(words: str) -> str:
    """Why the pixels of an ImageJ file are not its values; "" where they are."""
    factors = [re.search(rf"^c{n}=(\S+)", words, re.MULTILINE) for n in (0, 1)]
    found = [float(factor[1]) for factor in factors if factor]
    if not words.startswith("ImageJ=") or found in ([], [0, 1]):
        return ""
    return (
        f"ImageJ's values are {found[0]:g} + {found[-1]:g} times its pixels; save it uncalibrated"
    )


def _tiff_significant(tags: Mapping[int, Any], words: str) -> int | None:
    """How many of 16 bits carry the value: in words, as the brightest value, or by ImageJ."""
    if said := _SIGNIFICANT.search(words):
        return int(next(filter(None, said.groups())))
    brightest = [value for tag in _BRIGHTEST for value in _numbers(tags.get(tag))]
    if words.startswith("ImageJ=") and re.search(r"^min=0(\.0*)?$", words, re.MULTILINE):
        brightest += [float(top) for top in re.findall(r"^max=([\d.]+)$", words, re.MULTILINE)]
    return next((_FULL[value] for value in brightest if value in _FULL), None)


def _numbers(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]
