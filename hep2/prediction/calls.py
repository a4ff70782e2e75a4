"""What is said of a specimen from what is said of its cells: the call, and the doubts about it.

A pure function of the cells' probabilities, so that another rule can take its place: it is called
in one place, `hep2.prediction.gathered.Specimen.call`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Where an eye is asked for. Rules of thumb: nothing here is calibrated.
FEW = 10  # cells with an opinion
STRANGE = 0.1  # share of them unlike the training cells; of cells like those it is one in a hundred
LOST = 0.5  # share of all cells that are without an opinion
SECOND = 0.2  # share of the cells that name another pattern
NARROW = 0.2  # lead of the first mean probability over the second


@dataclass(frozen=True)
class Call:
    """A specimen's call."""

    cells: int  # with an opinion
    main: int | None  # the pattern of the highest mean probability; None: there is no such cell
    majority: int | None  # the pattern that most cells name
    mean: Floats  # mean probabilities, (classes,)
    shares: Floats  # of the cells, that name each pattern, (classes,)
    doubts: tuple[str, ...]  # the gravest first; empty: none

    @property
    def urgency(self) -> tuple[float, ...]:
        """Ascends as the need of an eye falls: no call, the most doubts, the least probability."""
        return (self.main is not None, -len(self.doubts), float(self.mean.max()))


def call_of(
    probabilities: Floats, unlike: NDArray[np.bool_], without: int, classes: Sequence[str]
) -> Call:
    """The call by the mean probability, beside it the majority, and what speaks against them.

    Args:
        probabilities: of the cells with an opinion, (n, classes).
        unlike: whether each is unlike the cells that were learned from, (n,).
        without: how many cells are without an opinion.
        classes: the names of the patterns.
    """
    cells = len(probabilities)
    if not cells:
        nothing = np.zeros(len(classes))
        return Call(0, None, None, nothing, nothing, ("no cell could be named",))
    votes = np.bincount(probabilities.argmax(axis=1), minlength=len(classes))
    mean, shares = probabilities.sum(axis=0) / cells, votes / cells
    main = int(mean.argmax())
    majority = int(np.where(votes == votes.max(), mean, -1).argmax())
    others = np.where(np.arange(len(classes)) == main, -1, shares)
    second = int(others.argmax())
    lead = float(mean[main] - np.partition(mean, -2)[-2]) if len(mean) > 1 else 1.0
    strange, lost, other = unlike.mean(), without / (cells + without), shares[second]
    found = {
        f"most cells are called {classes[majority]}": majority != main,
        f"{100 * other:.0f} % of its cells are called {classes[second]}: a second pattern?": (
            majority == main and other >= SECOND
        ),
        f"{100 * strange:.0f} % of its cells are unlike the training cells": strange > STRANGE,
        f"the second pattern is only {100 * lead:.0f} points behind": lead < NARROW,
        f"only {cells} {'cell' if cells == 1 else 'cells'}": cells < FEW,
        f"{without} of {cells + without} cells are without a call": lost > LOST,
    }
    doubts = tuple(text for text, holds in found.items() if holds)
    return Call(cells, main, majority, mean, shares, doubts)
