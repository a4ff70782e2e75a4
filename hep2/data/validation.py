"""Validation inside a fold: which training specimens choose between epochs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Grouping:
    """What a protocol may look at: one entry a cell, never a pixel.

    Attributes:
        labels: indices of patterns, shape (N,).
        specimens: names of specimens, shape (N,); all empty where they are unknown.
        pools: "train", "val", "test" or "", shape (N,).
    """

    labels: NDArray[np.int64]
    specimens: NDArray[np.str_]
    pools: NDArray[np.str_]


def choose_validation(
    cells: Grouping, learning: Indices, share: float, leaky: bool, entropy: list[int]
) -> tuple[Indices, str]:
    """Set validation cells aside: whole specimens, or single cells where the protocol is leaky.

    Args:
        cells: labels and specimens.
        learning: positions of the cells that the fold may learn from.
        share: of a pattern's training specimens (or of the cells), in [0, 1).
        leaky: whether the protocol splits specimens anyway.
        entropy: seeds of the choice.

    Returns:
        Positions of the validation cells, sorted, and why they must not choose between epochs
        ("" if they may).
    """
    if share == 0:
        return np.empty(0, dtype=np.int64), "no validation cells: a fixed number of epochs"
    rng = np.random.default_rng(entropy)
    if leaky:
        return np.sort(rng.permutation(learning)[: round(share * len(learning))]), ""
    names, owner = np.unique(cells.specimens[learning], return_inverse=True)
    pattern = pattern_of_specimens(cells.labels[learning], owner, len(names))
    chosen: list[int] = []
    short: list[int] = []
    for label in np.unique(pattern):
        members = rng.permutation(np.flatnonzero(pattern == label))
        # Two specimens must be left to learn from: one alone teaches its staining, not a pattern.
        if len(members) < 3:
            short.append(int(label))
            continue
        chosen.extend(members[: max(1, min(round(share * len(members)), len(members) - 2))])
    note = (
        f"{len(short)} pattern(s) with fewer than three training specimens have no validation "
        "cell: a fixed number of epochs"
        if short
        else ""
    )
    return learning[np.isin(owner, chosen)], note


def pattern_of_specimens(labels: NDArray[np.int64], owner: Indices, count: int) -> Indices:
    """The commonest pattern of each specimen (some specimens are mixed); ties: the first."""
    table = np.zeros((count, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (owner, labels), 1)
    return np.asarray(table.argmax(axis=1), dtype=np.int64)
