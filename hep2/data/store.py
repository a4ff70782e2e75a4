"""The store: cells decoded and resized once, in one memory map named by its content.

`<cache_dir>/<name>-<key>/` is a store; `<cache_dir>/index/<name>-<hash>.txt` leads from a source's
fingerprint, the image size and the channel to its key, so that a later run opens no image.
"""

import csv
import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Cells
from hep2.data.images import Pixels, check_channel
from hep2.errors import HEp2Error
from hep2.files import write_atomic


def map_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file.

    `np.load` looks into the file to choose a reader, one of which is for zip archives; here the
    reader is fixed. It never unpickles, and a header that promises more than the file holds is an
    error before any memory is spent on it.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no whole .npy file of numbers.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python: its errors are of all kinds
        raise ValueError(f"{path.name} is no .npy file ({type(error).__name__})") from error


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


IMAGE_SIZES = range(8, 1025)


class Source(Protocol):
    """Where cells come from: image files or a simulator."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def synthetic(self) -> bool:
        """Whether its cells are simulated."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Pattern names, in the order of every table."""

    def fingerprint(self) -> str:
        """Cheap to compute; changes when any row or image changes."""

    def read(self, size: int, channel: str) -> tuple[Annotations, Iterable[Pixels]]:
        """Annotations sorted by unique ID, and for each an image (size, size), uint8 or uint16."""


def open_cells(source: Source, cache_dir: Path, image_size: int, channel: str) -> Cells:
    """The cells of a source, from the cache if it has them, else decoded into it.

    Two processes may do this at the same time: each writes a folder of its own and renames it.

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
    cache_dir = Path(cache_dir)
    wanted = short_hash(repr((FORMAT, source.fingerprint(), image_size, channel)))
    index = cache_dir / "index" / f"{source.name}-{wanted}.txt"
    if index.is_file():
        key = index.read_text(encoding="ascii", errors="replace").strip()
        try:
            return _load(cache_dir, key, source)
        except BrokenStoreError as error:
            folder = cache_dir / f"{source.name}-{key}"
            warnings.warn(f"the image cache {folder} is built again: {error}", stacklevel=2)
    try:
        key = _build(source, cache_dir, image_size, channel)
    except OSError as error:
        raise HEp2Error(
            f"the image cache cannot be written in {cache_dir}: {error};"
            " free some space or choose another folder with cache_dir=<folder>"
        ) from error
    write_atomic(index, f"{key}\n")
    try:
        return _load(cache_dir, key, source)
    except BrokenStoreError as error:
        raise HEp2Error(
            f"the image cache in {cache_dir} is damaged as soon as it is written ({error}): "
            "check the disk, or choose another folder with cache_dir=<folder>"
        ) from error


def _check_settings(name: str, image_size: int, channel: str) -> None:
    check_channel(channel)
    if not isinstance(image_size, int) or image_size not in IMAGE_SIZES:
        raise HEp2Error(f"data.image_size={image_size} must be a whole number from 8 to 1024")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise HEp2Error(f"data.name='{name}' may hold letters, digits, '_', '.' and '-' only")


def _build(source: Source, cache_dir: Path, size: int, channel: str) -> str:
    """Decode a source into a new folder, give it its name, and return its key."""
    from tqdm import tqdm

    cache_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(
        dir=cache_dir, prefix=f".{source.name}-", ignore_cleanup_errors=True
    ) as temporary:
        draft = Path(temporary) / "store"
        draft.mkdir()
        cells, images = source.read(size, channel)
        progress = tqdm(
            images,
            total=len(cells.ids),
            desc=f"{source.name}: cells",
            unit="cell",
            delay=2,
            disable=None,
        )
        settings = {"classes": list(source.classes), "image_size": size, "channel": channel}
        key = write_folder(draft, cells, progress, Path(temporary) / "pixels", settings)
        _publish(draft, cache_dir / f"{source.name}-{key}", key)
    return key


def _publish(draft: Path, final: Path, key: str) -> None:
    """Rename a finished store; if another process was first and its store is good, keep that."""
    for attempt in range(3):
        try:
            os.rename(draft, final)
            return
        except OSError:
            if attempt == 2 or not final.exists():
                raise
        try:
            read_folder(final, key)
            return
        except BrokenStoreError:  # moved into the temporary folder, which is removed
            os.rename(final, draft.with_name(f"broken{attempt}"))


def _load(cache_dir: Path, key: str, source: Source) -> Cells:
    cells, images = read_folder(cache_dir / f"{source.name}-{key}", key)
    rank = {label: position for position, label in enumerate(source.classes)}
    if not rank.keys() >= set(cells.labels):
        raise BrokenStoreError("cells.csv has other classes than the source")
    return Cells(
        images=images,
        ids=np.array(cells.ids),
        labels=np.array([rank[label] for label in cells.labels], dtype=np.int64),
        specimens=np.array(cells.specimens),
        pools=np.array(cells.pools),
        classes=source.classes,
        name=source.name,
        key=key,
        synthetic=source.synthetic,
    )
