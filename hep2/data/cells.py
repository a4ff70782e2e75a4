"""The cells of one data set in memory: the interface between the store and everything behind it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
