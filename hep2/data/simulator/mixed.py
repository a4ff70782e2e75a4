"""Simulated specimens of two patterns: part of their cells show one, the rest the other.

They come on top of the others, all in the test pool, and change no cell of those. Both kinds of
cells share what belongs to the specimen whatever its pattern: size of nuclei, focus, background,
exposure. In a real serum both patterns may also lie over each other in every cell; that is not
simulated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from hep2.data.simulator.microscope import photograph
from hep2.data.simulator.patterns import COMMON, PATTERNS, TRAITS, CellTraits, draw_cells
from hep2.errors import HEp2Error


@dataclass(frozen=True)
class Mixed:
    """A specimen whose last `second` cells show the second pattern."""

    patterns: tuple[str, str]
    share: float  # of the second one
    cells: int

    @property
    def name(self) -> str:
        """As its specimen is called."""
        first, second = self.patterns
        return f"{first}+{second}-{100 * self.share:g}"

    @property
    def second(self) -> int:
        """How many cells show the second pattern; at least one."""
        return max(1, round(self.share * self.cells))

    @property
    def labels(self) -> list[str]:
        """The pattern of each cell."""
        return [self.patterns[0]] * (self.cells - self.second) + [self.patterns[1]] * self.second


def mixed_specimens(shares: Sequence[float], cells: int) -> list[Mixed]:
    """For every share, each ordered pair of patterns once.

    Raises:
        HEp2Error: not a list, or a share is not above 0 and up to 0.5.
    """
    if not isinstance(shares, list | tuple):
        raise HEp2Error(f"synthetic cells: mixed={shares} must be a list of shares")
    if bad := [share for share in shares if type(share) is not float or not 0 < share <= 0.5]:
        raise HEp2Error(
            f"synthetic cells: mixed={bad[0]} is not a share of a second pattern: give shares "
            "above 0, up to 0.5, for example [0.1, 0.3]."
        )
    return [Mixed(pair, share, cells) for share in shares for pair in permutations(PATTERNS, 2)]


def mixed_photographs(
    every: Sequence[Mixed], image_size: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Their images, one specimen at a time, each of shape (cells, image_size, image_size)."""
    for number, one in enumerate(every):
        rng = np.random.default_rng([seed, 3, number])
        yield photograph(_traits(one, rng), image_size, rng)


def _traits(one: Mixed, rng: np.random.Generator) -> CellTraits:
    first, second = (draw_cells(pattern, one.cells, rng) for pattern in one.patterns)
    own = np.arange(one.cells) >= one.cells - one.second
    return CellTraits(
        **{
            name: getattr(first, name)
            if name in COMMON
            else np.where(own, getattr(second, name), getattr(first, name))
            for name in TRAITS
        }
    )
