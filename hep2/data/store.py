"""The store: cells decoded and resized once, in one memory map.

`<cache_dir>/<name>-<hash>/` is the store of one fingerprint, image size and way to read the files:
a later run opens no image. It holds `images.npy`, `cells.csv` and, written last, `meta.json` with
the content key, what weights are bound to, wherever the images lie.
"""

import csv
import hashlib
import io
import json
import logging
import math
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Cells, Row, Source, short_hash, widened
from hep2.data.images import FULL_SCALE, Pixels, check_reading
from hep2.errors import HEp2Error
from hep2.files import locked, progress_bar, reserve, whole_file, write_atomic

log = logging.getLogger(__name__)

FORMAT = 3  # raise it when decoding, resizing or the files' layout change
KEYED = ("classes", "image_size", "channel", "shape", "dtype", "cells_hash")
BLOCK = 1 << 24  # bytes hashed at a time
IMAGE_SIZES = range(8, 1025)
OPTIONAL = ("source", "intensity")  # columns that are there where they say something


class BrokenStoreError(Exception):
    """A store is incomplete, damaged or not what it says."""


@dataclass(frozen=True)
class Reading:
    """How image files are read: as of `open_cells`."""

    size: int
    channel: str
    page: int | None
    full_scale: int | None


def open_cells(
    source: Source,
    cache_dir: Path,
    image_size: int,
    channel: str,
    page: int | None = None,
    full_scale: int | None = None,
) -> Cells:
    """The cells of a source, from the cache if it has them, else decoded into it.

    Of two processes that want the same cells, the second waits for the first. What is odd about
    the images is logged, each time.

    Args:
        source: what lists and decodes the cells.
        cache_dir: where stores are kept.
        image_size: side of the images, pixels.
        channel: as of `read_image`.
        page: as of `read_image`.
        full_scale: the value of white in images of 16 bits; None: it is found over all of them.

    Raises:
        HEp2Error: bad rows or images (all are named), a bad setting, or a cache that cannot be
            written.
    """
    if not isinstance(image_size, int) or image_size not in IMAGE_SIZES:
        raise HEp2Error(f"data.image_size={image_size} must be a whole number from 8 to 1024")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", str(source.name)):
        raise HEp2Error(
            f"data.name='{source.name}' may hold letters, digits, '_', '.' and '-' only"
        )
    how = Reading(image_size, channel, page, full_scale)
    asked = short_hash(repr((FORMAT, source.fingerprint(), *astuple(how))))
    folder = Path(cache_dir) / f"{source.name}-{asked}"
    with suppress(BrokenStoreError):
        return _read(folder, source)  # before the lock, which a cache that is read-only has not
    check_reading(channel, page, full_scale)  # what the cache holds was read by good ones
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        with locked(lock, wait=True):
            try:
                return _read_or_build(folder, source, how)
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise HEp2Error(
            f"the image cache cannot be written in {cache_dir}: {error};"
            " free some space or choose another folder with cache_dir=<folder>"
        ) from error


def _read_or_build(folder: Path, source: Source, how: Reading) -> Cells:
    """Under the lock: what another process has just built, or a store of our own."""
    try:
        return _read(folder, source)
    except BrokenStoreError as error:
        if folder.is_dir() and any(folder.iterdir()):
            log.warning("the image cache %s is built again: %s", folder, error)
    shutil.rmtree(folder, ignore_errors=True)  # also what a killed process had begun
    try:
        _write(folder, source, how)
        return _read(folder, source)
    except BrokenStoreError as error:
        raise HEp2Error(
            f"the image cache in {folder.parent} is damaged as soon as it is written ({error}): "
            "check the disk, or choose another folder with cache_dir=<folder>"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(folder: Path, source: Source, how: Reading) -> None:
    """Decode a source; where any image has 16 bits, all are stored so."""
    rows, pixels, notes = source.rows, folder / "images.npy", list[str]()
    scale = source.full_scale(how.channel, how.page, how.full_scale)
    dtype: np.dtype[Any] = np.dtype(np.uint8 if scale is None else np.uint16)
    shape = (len(rows), 1, how.size, how.size)
    images = source.images(how.size, how.channel, how.page, scale or FULL_SCALE, notes)
    with whole_file(pixels) as file:
        shown = progress_bar(images, f"{source.name}: cells", len(rows))
        _write_images(file, shown, shape, dtype)
    masks, brought = folder / "masks.npy", source.masks(how.size)
    if brought is not None:  # no part of the content key: the cells are the same without them
        with whole_file(masks) as file:
            _write_images(file, brought, shape, np.dtype(np.uint8))
    table = _table(rows)
    write_atomic(folder / "cells.csv", table)
    meta = {
        "store": folder.name,
        "classes": list(source.classes),
        "image_size": how.size,
        "channel": how.channel,
        "shape": list(shape),
        "dtype": dtype.name,
        "cells_hash": short_hash(table),
        "images_mtime_ns": pixels.stat().st_mtime_ns,
        "file_scale": scale,
        "notes": notes,
    }
    if brought is not None:
        meta["masks_hash"] = short_hash(masks.read_bytes())
    meta["key"] = _content_key(meta, pixels)
    sealed = {**meta, "checksum": short_hash(json.dumps(meta))}
    write_atomic(folder / "meta.json", json.dumps(sealed, indent=1) + "\n")


def _table(rows: Sequence[Row]) -> str:
    """cells.csv; columns that say nothing are left out, as the content key depends on it."""
    columns = ["id", "label", "specimen", "pool"]
    columns += [name for name in OPTIONAL if any(getattr(row, name) for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(row, name) for name in columns] for row in rows)
    return text.getvalue()


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
        file.write(widened(image, dtype).tobytes())
    if file.tell() != length:
        raise ValueError(f"a source gave more or fewer images than its {shape[0]} cells")


def _read(folder: Path, source: Source) -> Cells:
    """Open a store, or raise BrokenStoreError: it is not there, not whole, or not what it says."""
    pixels = folder / "images.npy"
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        checksum = meta.pop("checksum")
        if meta["store"] != folder.name or short_hash(json.dumps(meta)) != checksum:
            raise BrokenStoreError("meta.json was changed")
        table = (folder / "cells.csv").read_bytes().decode()
        if short_hash(table) != meta["cells_hash"]:
            raise BrokenStoreError("cells.csv was changed")
        images = map_npy(pixels)
        if list(images.shape) != meta["shape"] or images.dtype.name != meta["dtype"]:
            raise BrokenStoreError(f"images.npy is {images.dtype.name} {images.shape}")
        # Pixels are hashed again only if the file was touched: copied, or written to.
        touched = pixels.stat().st_mtime_ns != meta["images_mtime_ns"]
        if touched and _content_key(meta, pixels) != meta["key"]:
            raise BrokenStoreError("images.npy was changed")
        masks = None
        if "masks_hash" in meta:
            masks = map_npy(folder / "masks.npy")
            if short_hash((folder / "masks.npy").read_bytes()) != meta["masks_hash"]:
                raise BrokenStoreError("masks.npy was changed")
        (_, _, _, _, *more), *records = csv.reader(io.StringIO(table, newline=""))
        ids, labels, specimens, pools, *extra = map(np.array, zip(*records, strict=True))
        known = dict(zip(more, extra, strict=True))
        sources, intensities = (known.get(name, np.full(len(ids), "")) for name in OPTIONAL)
        rank = {label: position for position, label in enumerate(source.classes)}
        indices = np.array([rank[label] for label in labels.tolist()], dtype=np.int64)
        of_source = (source.classes, source.name, meta["key"], source.synthetic, meta["file_scale"])
        notes = list(meta["notes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenStoreError(f"{type(error).__name__}: {error}") from error
    for note in notes:
        log.warning("%s", note)
    return Cells(images, ids, indices, specimens, pools, *of_source, sources, intensities, masks)


def _content_key(meta: dict[str, Any], images: Path) -> str:
    """16 hex digits of everything that makes a data set what it is, whatever its file times."""
    digest = hashlib.sha256(json.dumps([meta[name] for name in KEYED]).encode())
    with images.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()[:16]


def map_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file; never unpickles, nor reads other formats, as `np.load` does.

    A header that promises more than the file holds is an error before memory is spent on it.

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
