"""TIFFs and PNGs with the tags that a test needs, which no writer at hand would write."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

WHITE_IS_ZERO = {262: 0}
TYPES = {"u": 1, "i": 2, "f": 3}  # of SampleFormat, by NumPy's kind


def tiff(
    *pages: np.ndarray,
    tags: Mapping[int, int | str] | None = None,
    later: Sequence[Mapping[int, int]] = (),
    order: str = "<",
    bits: int | None = None,
) -> bytes:
    """A TIFF of pages (H, W) or (H, W, C), uncompressed.

    `tags` are added to those of all pages, or replace them, `later` to those of the second and so
    on. With `bits` the values are packed, that many each.
    """
    content = {"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4)
    link = 4  # where the offset of the next directory is due
    for number, page in enumerate(pages):
        samples = page.shape[2] if page.ndim == 3 else 1
        pixels = _packed(page, bits) if bits else page.astype(page.dtype.newbyteorder(order))
        depth = bits or 8 * page.dtype.itemsize
        data = pixels if isinstance(pixels, bytes) else pixels.tobytes()
        entries: dict[int, int | str | list[int]] = {
            256: page.shape[1], 257: page.shape[0], 258: [depth] * samples, 259: 1,
            262: 1 if samples == 1 else 2, 273: len(content), 277: samples, 278: page.shape[0],
            279: len(data), 339: TYPES[page.dtype.kind],
        }  # fmt: skip
        entries |= dict(tags or {}) | dict(later[number - 1] if 0 < number <= len(later) else {})
        content += data
        directory = b""
        for tag, value in sorted(entries.items()):
            kind, count, packed = _packed_tag(value, order)
            if len(packed) > 4:
                at, content = len(content), content + packed
                packed = struct.pack(f"{order}I", at)
            directory += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
        content += bytes(len(content) % 2)
        content = content[:link] + struct.pack(f"{order}I", len(content)) + content[link + 4 :]
        content += struct.pack(f"{order}H", len(entries)) + directory
        link, content = len(content), content + bytes(4)
    return content


def _packed_tag(value: int | str | list[int], order: str) -> tuple[int, int, bytes]:
    """Type, count and bytes."""
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return 2, len(text), text
    if isinstance(value, list):
        return 3, len(value), struct.pack(f"{order}{len(value)}H", *value)
    return 4, 1, struct.pack(f"{order}I", value)


def _packed(page: np.ndarray, bits: int) -> bytes:
    rows = b""
    for row in page:
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows += int(text, 2).to_bytes(len(text) // 8, "big")
    return rows


def png(pixels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of 8 or 16 bits with some chunks in front of its pixels."""
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, 0, 0, 0, 0)
    every = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in every
    )


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
