"""What a page says of a specimen: the answer of `hep2.calls`, and in words why to doubt it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hep2.calls.answer import SUBSETS, Call, call, needed_by, steadiness
from hep2.calls.calibration import Calibration
from hep2.calls.specimens import Specimens

Floats = NDArray[np.float64]

# Where an eye is asked for beside what `hep2.calls` says. Rules of thumb.
STRANGE = 0.1  # share of the cells unlike training; of cells like those it is one in a hundred
LOST = 0.5  # share of all cells that are without an opinion
# And where the run was not calibrated:
FEW = 10  # cells with an opinion
SECOND = 0.2  # share of the cells that name another pattern
NARROW = 0.2  # lead of the first mean probability over the second


@dataclass(frozen=True)
class Opinion:
    """What is said of a specimen."""

    call: Call
    majority: int | None  # the pattern that most cells name
    mean: Floats  # mean probabilities, (classes,)
    needed: int  # cells that would have given the same pattern
    same: Mapping[str, float]  # how often a part of them gives it, as of `steadiness`
    doubts: tuple[str, ...]  # the gravest first; empty: none

    @property
    def urgency(self) -> tuple[float, ...]:
        """Ascends as the need of an eye falls: nothing said, most doubts, least probability."""
        return (self.call.pattern is not None, self.call.said, -len(self.doubts),
                self.call.probability)  # fmt: skip


def opinion(
    probabilities: Floats,
    unlike: NDArray[np.bool_] | None,
    without: int,
    classes: Sequence[str],
    calibration: Calibration | None,
) -> Opinion:
    """The answer for one specimen, beside it the majority, and what speaks against them.

    Args:
        probabilities: of the cells with an opinion, (n, classes), calibrated where the run is.
        unlike: whether each is unlike the cells that were learned from, (n,); None: not known.
        without: how many cells are without an opinion.
        classes: the names of the patterns.
        calibration: of the runs; None: doubts are rules of thumb.
    """
    answer = call(probabilities, calibration, unlike, without)
    if answer.pattern is None:
        none = dict.fromkeys(SUBSETS, np.nan)
        return Opinion(answer, None, np.zeros(len(classes)), 0, none, ("no cell could be named",))
    whole = Specimens.of(np.full(answer.cells, ""), probabilities)
    mean, majority = whole.means[0], int(whole.by_vote()[0])
    cells, strange = answer.cells, (answer.unlike or 0) / answer.cells
    found = {
        f"most cells are called {classes[majority]}": majority != answer.pattern,
        **_doubts(answer, mean, classes, calibration),
        f"{100 * strange:.0f} % of its cells are unlike the training cells": strange > STRANGE,
        f"{without} of {cells + without} cells are without a call": (
            without > LOST * (cells + without)
        ),
    }
    doubts = tuple(text for text, holds in found.items() if holds)
    same = steadiness(probabilities)
    return Opinion(answer, majority, mean, needed_by(same, cells), same, doubts)


def _doubts(
    answer: Call, mean: Floats, classes: Sequence[str], calibration: Calibration | None
) -> dict[str, bool]:
    """Of a second pattern, of how sure the first one is, and of too few cells."""
    others = np.where(np.arange(len(classes)) == answer.pattern, -1, answer.shares)
    second, cells = int(others.argmax()), answer.cells
    share = f"{100 * others[second]:.0f} % of its cells are called {classes[second]}"
    few = f"only {cells} {'cell' if cells == 1 else 'cells'}"
    if calibration is None or answer.members is None:
        lead = float(mean[answer.pattern] - np.partition(mean, -2)[-2]) if len(mean) > 1 else 1.0
        return {
            f"{share}: a second pattern?": others[second] >= SECOND,
            f"the second pattern is only {100 * lead:.0f} points behind": lead < NARROW,
            few: cells < FEW,
        }
    rest = [classes[one] for one in answer.members if one != answer.pattern]
    unsure = f"it may be {' or '.join(rest)} as well" if rest else "no pattern is sure enough"
    return {
        f"mixed: {share}": answer.second is not None,
        f"unsure: {unsure}": answer.members != (answer.pattern,),
        few: cells < calibration.fewest_cells,
    }
