"""Synthetic cells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hep2.data.microscope import photograph
from hep2.data.patterns import PATTERNS, draw_traits
from hep2.errors import HEp2Error

VERSION = 1  # part of the cache's fingerprint: raise it with any change that moves a pixel
CLASSES = tuple(PATTERNS)  # in the order of the paper's confusion matrix
TRAIN_SHARE = 905 / 1884  # SNPHEp-2: 905 cells of the train pool, 979 of the test pool


@dataclass(frozen=True)
class SyntheticCells:
    """Simulated cells in the order of their IDs.

    Attributes:
        images: shape (N, H, W), uint8.
        ids: the N cell IDs (str), sorted, unique.
        labels: the N pattern names (str), of `CLASSES`.
        specimens: the N specimen names (str).
        pools: "train" or "test" for each cell (str); a specimen lies in one pool.
    """

    images: NDArray[np.uint8]
    ids: NDArray[np.str_]
    labels: NDArray[np.str_]
    specimens: NDArray[np.str_]
    pools: NDArray[np.str_]


def simulate(
    cells: int = 1884, specimens: int = 40, image_size: int = 64, seed: int = 0
) -> SyntheticCells:
    """Simulate.

    Raises:
        HEp2Error: no
    """
    _check(cells, specimens, image_size)
    each = specimens // len(CLASSES)
    pattern_of = np.repeat(np.arange(len(CLASSES)), each)
    rank_of = np.tile(np.arange(each), len(CLASSES))
    in_train = rank_of < each // 2
    counts = _cells_per_specimen(cells, in_train, np.random.default_rng([seed, 0]))
    images = []
    for pattern, rank, count in zip(pattern_of, rank_of, counts, strict=True):
        rng = np.random.default_rng([seed, 1, pattern, rank])
        images.append(photograph(draw_traits(CLASSES[pattern], count, rng), image_size, rng))
    names = [f"{CLASSES[p]}-{r + 1:02d}" for p, r in zip(pattern_of, rank_of, strict=True)]
    return SyntheticCells(
        images=np.concatenate(images),
        ids=np.array([f"synthetic-{number:05d}" for number in range(1, cells + 1)]),
        labels=np.repeat(np.array(CLASSES)[pattern_of], counts),
        specimens=np.repeat(np.array(names), counts),
        pools=np.repeat(np.where(in_train, "train", "test"), counts),
    )


def _check(cells: int, specimens: int, image_size: int) -> None:
    step = 2 * len(CLASSES)
    if specimens < step or specimens % step:
        raise HEp2Error("x")
    if cells < 3 * specimens:
        raise HEp2Error("x")


def _cells_per_specimen(
    cells: int, in_train: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    weights = rng.uniform(0.6, 1.4, len(in_train))
    counts = np.empty(len(in_train), np.int64)
    train = round(cells * TRAIN_SHARE)
    for pool, total in ((in_train, train), (~in_train, cells - train)):
        ends = np.rint(np.cumsum(weights[pool]) / weights[pool].sum() * total)
        counts[pool] = np.diff(ends, prepend=0)
    return counts
