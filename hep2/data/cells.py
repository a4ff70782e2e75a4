"""What is known of a cell, from the source that lists it to the data set in memory."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

WIDEN = 257  # 255 * 257 = 65535: white stays white beside 16 bits, whatever their files' scale

Indices = NDArray[np.int64]  # positions of cells in their data set
NOBODY: Indices = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Row:
    """One cell."""

    id: str  # unique in its data set
    label: str
    specimen: str  # which it was cut from, or ""
    pool: str  # "train", "val", "test" or ""
    file: Path = Path()  # its image; a simulated cell has none
    origin: str = ""  # where the user finds the row: "manifest.csv row 7", or "" without a CSV
    mask: Path = Path()  # an image of where the cell is; Path() where there is none
    intensity: str = ""  # of the fluorescence: "positive", "intermediate", or ""
    source: str = ""  # the laboratory or data set that it comes from, or ""

    def __str__(self) -> str:
        return f"{self.origin} ({self.id})" if self.origin else self.id


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

    @property
    def rows(self) -> Sequence[Row]:
        """Its cells, sorted by unique ID."""

    def fingerprint(self) -> str:
        """Cheap to compute; changes when any row or image changes."""

    def full_scale(self, channel: str, page: int | None, asked: int | None) -> int | None:
        """The value of white in its images of 16 bits; None where all have 8."""

    def images(
        self, size: int, channel: str, page: int | None, full_scale: int, notes: list[str]
    ) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
        """An image for each row, (size, size), uint8 or uint16; what is odd is added to `notes`."""

    def masks(self, size: int) -> Iterator[NDArray[np.uint8]] | None:
        """A mask for each row, (size, size), 255 in the cell, or all 0; None: no row has one."""


def _nothing() -> NDArray[np.str_]:
    return np.empty(0, np.str_)


@dataclass(frozen=True)
class Cells:
    """All N cells of a data set, in the order of their IDs; one-dimensional arrays are (N,)."""

    images: NDArray[np.uint8] | NDArray[np.uint16]  # read-only memory map, (N, 1, H, W)
    ids: NDArray[np.str_]  # sorted, unique
    labels: NDArray[np.int64]  # indices into `classes`
    specimens: NDArray[np.str_]  # all empty where the data set names none
    pools: NDArray[np.str_]  # each "train", "val" or "test", or all empty where there are none
    classes: tuple[str, ...]  # pattern names, in the order used by every table and matrix
    name: str  # of the data set, e.g. "i3a"
    key: str  # 16 hex digits that change when any pixel, ID, label or specimen changes
    synthetic: bool = False  # whether cells are simulated; every table and picture must then say so
    file_scale: int | None = None  # the value of white in 16-bit image files; None: all have 8 bits
    sources: NDArray[np.str_] = field(default_factory=_nothing)  # where each comes from, or empty
    intensities: NDArray[np.str_] = field(default_factory=_nothing)  # of fluorescence, or empty
    # Memory map, (N, 1, H, W): 255 inside the cell, all 0 where it has no mask. None: no cell has.
    masks: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        for name in ("sources", "intensities"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.ids), ""))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def full_scale(self) -> int:
        """The pixel value that means 1.0: 255 or 65535."""
        return int(np.iinfo(self.images.dtype).max)


class Grouped(Protocol):
    """What a protocol may look at: one entry a cell, never a pixel."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Indices of patterns, shape (N,)."""

    @property
    def specimens(self) -> NDArray[np.str_]:
        """Names of specimens, shape (N,); all empty where they are unknown."""

    @property
    def pools(self) -> NDArray[np.str_]:
        """Each "train", "val", "test" or "", shape (N,)."""

    @property
    def sources(self) -> NDArray[np.str_]:
        """Where each cell was taken, shape (N,); all empty where that is not told."""


def short_hash(content: bytes | memoryview | str) -> str:
    """16 hex digits of bytes, a buffer of them, or a text: what tells contents apart here."""
    made = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(made).hexdigest()[:16]


def spread(count: int, most: int) -> Indices:
    """Of so many positions at most `most`, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def widened(images: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The same images; those of 8 bits get 16 where `dtype` asks for it, and white stays white."""
    return images if images.dtype == dtype else images.astype(dtype) * np.dtype(dtype).type(WIDEN)


def joined(cells: Cells, more: Cells) -> Cells:
    """A data set with more cells behind its own; they have the label -1 and no pool."""
    dtype: Any = np.promote_types(cells.images.dtype, more.images.dtype)

    def behind(own: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([own, others])

    empty = np.full(len(more), "")
    return replace(
        cells,
        images=behind(widened(cells.images, dtype), widened(more.images, dtype)),
        ids=behind(cells.ids, np.array([f"unlabelled/{name}" for name in more.ids])),
        labels=behind(cells.labels, np.full(len(more), -1)),
        specimens=behind(cells.specimens, more.specimens),
        pools=behind(cells.pools, empty),
        sources=behind(cells.sources, empty),
        intensities=behind(cells.intensities, empty),
        masks=None,
    )


def numbered(specimens: NDArray[np.str_]) -> Indices:
    """A number a cell, (N,): equal within a specimen; a cell of an unknown one has its own."""
    numbers = np.unique(specimens, return_inverse=True)[1].astype(np.int64)
    unknown = np.flatnonzero(specimens == "")
    numbers[unknown] = len(specimens) + unknown
    return numbers
