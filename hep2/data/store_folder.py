"""One store on disk, images.npy + cells.csv + meta.json: written whole, checked when opened."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hep2.data.images import Pixels
from hep2.data.npy import map_npy
from hep2.files import write_atomic

FORMAT = 1  # raise it when decoding, resizing or the files' layout change
HEADER = ("id", "label", "specimen", "pool")
WIDEN = 257  # 255 * 257 = 65535: full scale stays full scale
BLOCK = 1 << 24  # bytes hashed at a time
KEYED = ("classes", "image_size", "channel", "shape", "dtype", "cells_hash")

Stored = NDArray[np.uint8] | NDArray[np.uint16]


class BrokenStoreError(Exception):
    """A store is incomplete, damaged or not what it says."""


@dataclass(frozen=True)
class Annotations:
    """What is known of N cells besides their images, in the order of their IDs."""

    ids: Sequence[str]
    labels: Sequence[str]
    specimens: Sequence[str]
    pools: Sequence[str]


def write_folder(
    folder: Path,
    cells: Annotations,
    images: Iterable[Pixels],
    scratch: Path,
    settings: dict[str, Any],
) -> str:
    """Write a store and return its content key.

    Args:
        folder: an empty folder.
        cells: annotations of N cells.
        images: for each cell (size, size), uint8 or uint16; if any is uint16, all are stored so.
        scratch: a file for intermediate results.
        settings: "classes", "image_size" and "channel", as they belong to the key.
    """
    size = int(settings["image_size"])
    wide = _spool(images, scratch, size)
    if len(wide) != len(cells.ids):
        raise ValueError(f"a source gave {len(wide)} images for {len(cells.ids)} cells")
    dtype = np.dtype(np.uint16 if any(wide) else np.uint8)
    pixels = folder / "images.npy"
    _compose(scratch, wide, pixels, dtype, size)
    table = _csv_text(cells)
    write_atomic(folder / "cells.csv", table)
    meta = {
        **settings,
        "format": FORMAT,
        "shape": [len(wide), 1, size, size],
        "dtype": dtype.name,
        "cells_hash": short_hash(table),
        "images_mtime_ns": pixels.stat().st_mtime_ns,
    }
    key = _content_key(meta, pixels)
    write_atomic(folder / "meta.json", json.dumps({**meta, "key": key}, indent=1) + "\n")
    return key


def read_folder(folder: Path, key: str) -> tuple[Annotations, Stored]:
    """Open a store; the images are a read-only memory map (N, 1, H, W).

    Raises:
        BrokenStoreError: it is not whole, not what it says, or has another key.
    """
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        table = (folder / "cells.csv").read_bytes().decode()
        images = map_npy(folder / "images.npy")
        if meta["format"] != FORMAT or meta["key"] != key:
            raise BrokenStoreError("meta.json belongs to another store")
        if short_hash(table) != meta["cells_hash"]:
            raise BrokenStoreError("cells.csv was changed")
        if list(images.shape) != meta["shape"] or images.dtype.name != meta["dtype"]:
            raise BrokenStoreError(f"images.npy is {images.dtype.name} {images.shape}")
        _check_pixels(folder / "images.npy", meta)
        records = list(csv.reader(io.StringIO(table, newline="")))[1:]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenStoreError(f"{type(error).__name__}: {error}") from error
    return Annotations(*zip(*records, strict=True)), images


def _check_pixels(file: Path, meta: dict[str, Any]) -> None:
    """Hash the pixels again, but only if the file was touched: copied, or written to."""
    if file.stat().st_mtime_ns == meta["images_mtime_ns"]:
        return
    if _content_key(meta, file) != meta["key"]:
        raise BrokenStoreError("images.npy was changed")


def short_hash(text: str) -> str:
    """16 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _content_key(meta: dict[str, Any], images: Path) -> str:
    """16 hex digits of everything that makes a data set what it is, whatever its file times."""
    digest = hashlib.sha256(json.dumps([meta[name] for name in KEYED]).encode())
    with images.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()[:16]


def _spool(images: Iterable[Pixels], path: Path, size: int) -> list[bool]:
    """Write images one after the other as they are; say which have 16 bits."""
    wide = []
    with path.open("wb") as file:
        for image in images:
            if image.shape != (size, size) or image.dtype not in (np.uint8, np.uint16):
                raise ValueError(f"a source gave an image {image.shape} {image.dtype}")
            wide.append(image.dtype == np.uint16)
            file.write(image.tobytes())
    return wide


def _compose(
    spool: Path, wide: Sequence[bool], path: Path, dtype: np.dtype[Any], size: int
) -> None:
    """Write images.npy from the spooled images, all of one type.

    Plain writes, not a writable memory map: a full disk is then an error, not a bus error.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (len(wide), 1, size, size),
    }
    with spool.open("rb") as source, path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for is_wide in wide:
            file.write(_next_image(source, is_wide, size * size, dtype))
        file.flush()
        os.fsync(file.fileno())


def _next_image(source: BinaryIO, is_wide: bool, pixels: int, dtype: np.dtype[Any]) -> bytes:
    own = np.dtype(np.uint16 if is_wide else np.uint8)
    data = source.read(pixels * own.itemsize)
    if own == dtype:
        return data
    return (np.frombuffer(data, own).astype(np.uint16) * np.uint16(WIDEN)).tobytes()


def _csv_text(cells: Annotations) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(zip(cells.ids, cells.labels, cells.specimens, cells.pools, strict=True))
    return text.getvalue()
