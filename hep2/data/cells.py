"""What is known of a cell, from the source that lists it to the data set in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Row:
    """One cell.

    Attributes:
        id: unique name of the cell in its data set.
        label: its pattern.
        specimen: the specimen it was cut from, or "".
        pool: "train", "val", "test" or "".
        file: its image; a simulated cell has none.
        origin: where the user finds the row: "manifest.csv row 7", or nothing where no CSV is.
    """

    id: str
    label: str
    specimen: str
    pool: str
    file: Path = Path()
    origin: str = ""

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

    def dtype(self) -> np.dtype[Any]:
        """uint8, or uint16 where any image is; cheaper to tell than to decode them all."""

    def images(self, size: int, channel: str) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
        """An image for each row, (size, size), uint8 or uint16."""


@dataclass(frozen=True)
class Cells:
    """All cells of a data set, in the order of their IDs.

    Attributes:
        images: read-only memory map, shape (N, 1, H, W), uint8 or uint16 (full range = 1.0).
        ids: the N cell IDs (str), sorted, unique.
        labels: indices into `classes`, shape (N,), int64.
        specimens: the N specimen names (str); all empty where the data set names none.
        pools: "train", "val", "test" or "" for each cell (str); all empty where there are none.
        classes: pattern names, in the order used by every table and matrix.
        name: the data set's name, e.g. "i3a".
        key: content key: 16 hex digits that change when any pixel, ID, label or specimen changes.
        synthetic: whether the cells were simulated; every table and picture must then say so.
    """

    images: NDArray[np.uint8] | NDArray[np.uint16]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    specimens: NDArray[np.str_]
    pools: NDArray[np.str_]
    classes: tuple[str, ...]
    name: str
    key: str
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def full_scale(self) -> int:
        """The pixel value that means 1.0: 255 or 65535."""
        return int(np.iinfo(self.images.dtype).max)
