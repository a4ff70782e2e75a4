"""Which of the cells that a fold learns from choose between epochs. Pure functions."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
NOBODY: Indices = np.empty(0, dtype=np.int64)


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


def choose_validation(
    cells: Grouped, learning: Indices, share: float, leaky: bool, entropy: list[int]
) -> tuple[Indices, str]:
    """Set a share of the `learning` cells aside: whole specimens, or cells where it is leaky.

    Returns:
        Positions of the validation cells, sorted, and why they must not choose between epochs
        ("" if they may).
    """
    if share == 0:
        return NOBODY, "no validation cells: a fixed number of epochs"
    rng = np.random.default_rng(entropy)
    if leaky:
        return np.sort(rng.permutation(learning)[: round(share * len(learning))]), ""
    names, owner = np.unique(cells.specimens[learning], return_inverse=True)
    pattern = pattern_of_specimens(cells.labels[learning], owner, len(names))
    chosen, short = list[int](), 0
    for label in np.unique(pattern):
        members = rng.permutation(np.flatnonzero(pattern == label))
        # Two specimens must be left to learn from: one alone teaches its staining, not a pattern.
        if len(members) < 3:
            short += 1
        else:
            chosen.extend(members[: max(1, min(round(share * len(members)), len(members) - 2))])
    note = f"{short} pattern(s) with fewer than three training specimens have no validation cell"
    note = f"{note}: a fixed number of epochs" if short else ""
    return learning[np.isin(owner, chosen)], note


def pattern_of_specimens(labels: NDArray[np.int64], owner: Indices, count: int) -> Indices:
    """The commonest pattern of each specimen (some specimens are mixed); ties: the first."""
    table = np.zeros((count, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (owner, labels), 1)
    return np.asarray(table.argmax(axis=1), dtype=np.int64)
