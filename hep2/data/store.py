"""The store: cells decoded and resized once, in one memory map named by its content.

`<cache_dir>/<name>-<key>/` is a store; `<cache_dir>/index/<name>-<hash>.txt` leads from a source's
fingerprint, the image size and the channel to its key, so that a later run opens no image.
"""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np

from hep2.data.cells import Cells
from hep2.data.images import Pixels, check_channel
from hep2.data.store_folder import (
    FORMAT,
    Annotations,
    BrokenStoreError,
    read_folder,
    short_hash,
    write_folder,
)
from hep2.errors import HEp2Error
from hep2.files import write_atomic

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
