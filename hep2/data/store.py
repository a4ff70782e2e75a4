"""The store: cells decoded and resized once, in one memory map.

`<cache_dir>/<name>-<hash>/` is the store of one fingerprint, image size and channel, so a later run
opens no image. It holds `images.npy`, `cells.csv` and, written last, `meta.json` with the
content key: what weights are bound to, wherever the images lie.
"""

import csv
import hashlib
import io
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Cells, Row, Source
from hep2.data.images import Pixels, check_channel
from hep2.errors import HEp2Error
from hep2.files import locked, watched, whole_file, write_atomic

FORMAT = 2  # raise it when decoding, resizing or the files' layout change
HEADER = ("id", "label", "specimen", "pool")
KEYED = ("classes", "image_size", "channel", "shape", "dtype", "cells_hash")
WIDEN = 257  # 255 * 257 = 65535: full scale stays full scale
BLOCK = 1 << 24  # bytes hashed at a time
IMAGE_SIZES = range(8, 1025)


class BrokenStoreError(Exception):
    """A store is incomplete, damaged or not what it says."""


def open_cells(source: Source, cache_dir: Path, image_size: int, channel: str) -> Cells:
    """The cells of a source, from the cache if it has them, else decoded into it.

    Of two processes that want the same cells, the second waits for the first.

    Args:
        source: where the cells come from.
        cache_dir: folder of all stores; made if need be.
        image_size: side of the stored images, pixels.
        channel: which channel of colour images: "green", "red", "blue" or "mean".

    Raises:
        HEp2Error: bad rows or images (all are named), a bad setting, or a cache that cannot be
            written.
    """
    _check_settings(source.name, image_size, channel)
    asked = _short_hash(repr((FORMAT, source.fingerprint(), image_size, channel)))
    folder = Path(cache_dir) / f"{source.name}-{asked}"
    with suppress(BrokenStoreError):
        return _read(folder, source)  # before the lock, which a cache that is read-only has not
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        with locked(lock, wait=True):
            try:
                return _read_or_build(folder, source, image_size, channel)
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise HEp2Error(
            f"the image cache cannot be written in {cache_dir}: {error};"
            " free some space or choose another folder with cache_dir=<folder>"
        ) from error


def _check_settings(name: str, image_size: int, channel: str) -> None:
    check_channel(channel)
    if not isinstance(image_size, int) or image_size not in IMAGE_SIZES:
        raise HEp2Error(f"data.image_size={image_size} must be a whole number from 8 to 1024")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise HEp2Error(f"data.name='{name}' may hold letters, digits, '_', '.' and '-' only")


def _read_or_build(folder: Path, source: Source, size: int, channel: str) -> Cells:
    """Under the lock: what another process has just built, or a store of our own."""
    try:
        return _read(folder, source)
    except BrokenStoreError as error:
        if folder.is_dir() and any(folder.iterdir()):
            warnings.warn(f"the image cache {folder} is built again: {error}", stacklevel=3)
    shutil.rmtree(folder, ignore_errors=True)  # also what a killed process had begun
    try:
        _write(folder, source, size, channel)
        return _read(folder, source)
    except BrokenStoreError as error:
        raise HEp2Error(
            f"the image cache in {folder.parent} is damaged as soon as it is written ({error}): "
            "check the disk, or choose another folder with cache_dir=<folder>"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(folder: Path, source: Source, size: int, channel: str) -> None:
    """Decode a source; where any image has 16 bits, all are stored so."""
    rows, dtype, pixels = source.rows, source.dtype(), folder / "images.npy"
    shape = (len(rows), 1, size, size)
    images = watched(source.images(size, channel), f"{source.name}: cells", len(rows))
    with whole_file(pixels) as file:
        _write_images(file, images, shape, dtype)
    table = _csv_text(rows)
    write_atomic(folder / "cells.csv", table)
    meta = {
        "store": folder.name,
        "classes": list(source.classes),
        "image_size": size,
        "channel": channel,
        "shape": list(shape),
        "dtype": dtype.name,
        "cells_hash": _short_hash(table),
        "images_mtime_ns": pixels.stat().st_mtime_ns,
    }
    meta["key"] = _content_key(meta, pixels)
    sealed = {**meta, "checksum": _short_hash(json.dumps(meta))}
    write_atomic(folder / "meta.json", json.dumps(sealed, indent=1) + "\n")


def _write_images(
    file: IO[bytes], images: Iterable[Pixels], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Write images.npy, image by image: no more than one is in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    length = file.tell() + dtype.itemsize * math.prod(shape)
    reserve(file, length)
    for image in images:
        if image.shape != shape[2:] or image.dtype not in (np.uint8, dtype):
            raise ValueError(f"a source gave an image {image.shape} {image.dtype}")
        widened = image if image.dtype == dtype else image.astype(dtype) * dtype.type(WIDEN)
        file.write(widened.tobytes())
    if file.tell() != length:
        raise ValueError(f"a source gave more or fewer images than its {shape[0]} cells")


def reserve(file: IO[bytes], length: int) -> None:
    """Make room for a file on the disk where the system can promise that: better now than later.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
    else:
        file.truncate(length)


def _csv_text(rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((row.id, row.label, row.specimen, row.pool) for row in rows)
    return text.getvalue()


def _read(folder: Path, source: Source) -> Cells:
    """Open a store; the images are a read-only memory map.

    Raises:
        BrokenStoreError: it is not there, not whole, or not what it says.
    """
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        checksum = meta.pop("checksum")
        if meta["store"] != folder.name or _short_hash(json.dumps(meta)) != checksum:
            raise BrokenStoreError("meta.json was changed")
        table = (folder / "cells.csv").read_bytes().decode()
        if _short_hash(table) != meta["cells_hash"]:
            raise BrokenStoreError("cells.csv was changed")
        images = map_npy(folder / "images.npy")
        if list(images.shape) != meta["shape"] or images.dtype.name != meta["dtype"]:
            raise BrokenStoreError(f"images.npy is {images.dtype.name} {images.shape}")
        _check_pixels(folder / "images.npy", meta)
        _, *records = csv.reader(io.StringIO(table, newline=""))
        ids, labels, specimens, pools = map(np.array, zip(*records, strict=True))
        rank = {label: position for position, label in enumerate(source.classes)}
        indices = np.array([rank[label] for label in labels.tolist()], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenStoreError(f"{type(error).__name__}: {error}") from error
    return Cells(
        images=images,
        ids=ids,
        labels=indices,
        specimens=specimens,
        pools=pools,
        classes=source.classes,
        name=source.name,
        key=meta["key"],
        synthetic=source.synthetic,
    )


def _check_pixels(file: Path, meta: dict[str, Any]) -> None:
    """Hash the pixels again, but only if the file was touched: copied, or written to."""
    if file.stat().st_mtime_ns == meta["images_mtime_ns"]:
        return
    if _content_key(meta, file) != meta["key"]:
        raise BrokenStoreError("images.npy was changed")


def _short_hash(text: str) -> str:
    """16 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _content_key(meta: dict[str, Any], images: Path) -> str:
    """16 hex digits of everything that makes a data set what it is, whatever its file times."""
    digest = hashlib.sha256(json.dumps([meta[name] for name in KEYED]).encode())
    with images.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()[:16]


def map_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file.

    `np.load` looks into the file to choose a reader, one of which is for zip archives; here the
    reader is fixed. It never unpickles, and a header that promises more than the file holds is an
    error before any memory is spent on it.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is not a whole .npy file of numbers.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python: its errors are of all kinds
        raise ValueError(f"{path.name} is not a .npy file ({type(error).__name__})") from error
