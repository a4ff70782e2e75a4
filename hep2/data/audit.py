"""Leakage audit: what the two sides of a split share that they should not.

It looks at specimens' names, at pixels, and at a perceptual hash of the images, so that a cell
that was cut or saved twice is found whatever its name and specimen say.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Cells, Indices
from hep2.data.opencv import cv2
from hep2.data.views import ORIENTATIONS, oriented

SIDE = 32  # pixels: images are shrunk to this before they are compared
FREQUENCIES = 8  # in each direction; the constant one is left out: 63 bits
# Measured with a fifth of the cells against the rest. I3A (10,644 cells): 40 of 2,130 where cells
# were dealt out at random, 1 of 2,111 where specimens were. Simulated cells, of which none is a
# copy: 1 to 3 of 380. So a handful says nothing; look-alikes are a question to the eye.
NEAR_BITS = 4
NEAR_CORRELATION = 0.985
LISTED = 10  # pairs that are named
_PAIRS = 1 << 20  # hashes compared at a time; like CELLS it bounds memory
CELLS = 1024  # shrunk at a time

Hashes = NDArray[np.uint64]
Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Audit:
    """What the test cells of a split share with the cells that the split learns from."""

    shared_specimens: int | None  # with cells on both sides; None where specimens are unknown
    cells_of_shared_specimens: int | None  # in the test part; None likewise
    identical_cells: int  # test cells whose pixels are those of a training or validation cell
    near_duplicate_cells: int  # other test cells that look like one, in any of eight orientations
    pairs: list[list[str]]  # the closest of both kinds: test ID, other ID, "identical" or "near"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for result.json."""
        return asdict(self)


def audit_split(cells: Cells, learning: Indices, test: Indices) -> Audit:
    """Compare the test cells of a split with the cells that it learns from and validates with.

    What it cannot find: copies that were cropped, scaled or turned by another angle, and two
    specimens of one patient.
    """
    same, near = look_alikes(cells, learning, test)
    kinds = [(*pair, "identical") for pair in same] + [(*pair, "near") for pair in near]
    pairs = [[str(cells.ids[a]), str(cells.ids[b]), kind] for a, b, kind in kinds[:LISTED]]
    shared = shared_specimens(cells, learning, test)
    specimens = None if shared is None else len(shared)
    of_them = None if shared is None else int(np.isin(cells.specimens[test], shared).sum())
    return Audit(specimens, of_them, len(same), len(near), pairs)


def look_alikes(
    cells: Cells, learning: Indices, test: Indices, threshold: float = NEAR_CORRELATION
) -> tuple[Pairs, Pairs]:
    """Pairs (test cell, other cell): of identical pixels, then near ones, the closest first."""
    learning = np.sort(learning)
    same = _identical(cells, learning, test)
    rest = np.setdiff1d(test, [cell for cell, _ in same])
    best, other = closest(cells, rest, learning)
    order = np.argsort(-best, kind="stable")
    near = [(int(rest[row]), int(other[row])) for row in order if best[row] >= threshold]
    return same, near


def shared_specimens(cells: Cells, learning: Indices, test: Indices) -> NDArray[np.str_] | None:
    """Names of the specimens with cells on both sides; None where specimens are unknown."""
    if np.any(cells.specimens == ""):
        return None
    return np.intersect1d(cells.specimens[learning], cells.specimens[test])


def _identical(cells: Cells, learning: Indices, test: Indices) -> Pairs:
    """Pairs (test cell, the first other cell of the same pixels)."""

    def digest(cell: int) -> bytes:
        return hashlib.blake2b(cells.images[cell].tobytes(), digest_size=16).digest()

    first = {digest(cell): cell for cell in reversed(learning.tolist())}
    matches = ((cell, first.get(digest(cell))) for cell in test.tolist())
    return [(cell, other) for cell, other in matches if other is not None]


def closest(
    cells: Cells, these: Indices, those: Indices, strangers: bool = False
) -> tuple[NDArray[np.float64], Indices]:
    """For each of `these` its look-alike among `those`: their correlation, and its position.

    The best of all orientations, among those whose hashes differ in NEAR_BITS or less; 0 where
    there is none. With `strangers`, only cells of other specimens are looked at.
    """
    parts = [perceptual_hashes(shrunk(cells, block)) for block in _blocks(those)]
    hashes = np.concatenate([np.empty(0, np.uint64), *parts])
    best, other = np.zeros(len(these)), np.zeros(len(these), dtype=np.int64)
    for start, block in zip(range(0, len(these), CELLS), _blocks(these), strict=True):
        ours = shrunk(cells, block)
        for turn in range(ORIENTATIONS):
            turned = oriented(ours, turn)
            rows, columns = close_pairs(perceptual_hashes(turned), hashes, NEAR_BITS)
            if strangers:
                apart = cells.specimens[block[rows]] != cells.specimens[those[columns]]
                rows, columns = rows[apart], columns[apart]
            for row, column in zip(_blocks(rows), _blocks(columns), strict=True):
                theirs = those[column]
                products = turned[row] * shrunk(cells, theirs)
                correlations = products.sum(axis=(1, 2), dtype=np.float64)
                for here, there, value in zip(start + row, theirs, correlations, strict=True):
                    if value > best[here]:
                        best[here], other[here] = value, there
    return best, other


def _blocks(positions: Indices) -> Iterator[Indices]:
    """Parts of an array; memory does not grow with the data set."""
    return (positions[start : start + CELLS] for start in range(0, len(positions), CELLS))


def shrunk(cells: Cells, positions: Indices) -> NDArray[np.float32]:
    """Some cells at SIDE x SIDE pixels, mean 0 and norm 1, so that products are correlations.

    Shape: (N,) -> (N, SIDE, SIDE)
    """
    small = np.zeros((len(positions), SIDE, SIDE), dtype=np.float32)
    for row, cell in enumerate(positions):
        small[row] = cv2.resize(cells.images[cell, 0], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small -= small.mean(axis=(1, 2), keepdims=True)
    norms = np.linalg.norm(small, axis=(1, 2), keepdims=True)
    small /= np.where(norms > 0, norms, 1)
    return small


def perceptual_hashes(images: NDArray[np.float32]) -> Hashes:
    """Signs of an image's lowest DCT coefficients about their median, the constant one left out.

    The hash "pHash" of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions
    (2010), section 3.2.1, without its seven-by-seven mean filter: the images are shrunk already.

    Shape: (N, SIDE, SIDE) -> (N,), 63 bits of a uint64 each
    """
    steps = np.arange(SIDE) + 0.5
    basis = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * steps / SIDE).astype(np.float32)
    basis[0] /= np.sqrt(2)  # orthogonal up to a common factor, which no sign depends on
    waves = (basis @ images @ basis.T).reshape(len(images), FREQUENCIES**2)
    bits = np.zeros(waves.shape, dtype=np.bool_)
    bits[:, 1:] = waves[:, 1:] > np.median(waves[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def close_pairs(ours: Hashes, theirs: Hashes, bits: int) -> tuple[Indices, Indices]:
    """Positions of all pairs of hashes that differ in at most this many bits (Hamming distance)."""
    step = max(1, _PAIRS // max(1, len(theirs)))
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(ours), step):
        distance = np.bitwise_count(ours[start : start + step, None] ^ theirs[None])
        row, column = np.nonzero(distance <= bits)
        rows.append(row + start)
        columns.append(column)
    return np.concatenate(rows), np.concatenate(columns)
