"""What is said of one specimen, or that nothing can be said, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hep2.calls.calibration import Calibration
from hep2.calls.conformal import prediction_sets
from hep2.calls.specimens import Specimens, wilson
from hep2.metrics import FloatArray

# Why nothing is said, the first that holds.
NO_CELLS = "no usable cell"
TOO_FEW = "too few cells"
UNLIKE = "unlike the training cells"
MIXED = "mixed"
UNSURE = "unsure"
REASONS = (NO_CELLS, TOO_FEW, UNLIKE, MIXED, UNSURE)

SUBSETS = {"half": 2, "quarter": 4, "tenth": 10}  # of a specimen's cells that are looked at again
DRAWS = 50  # of each
STEADY = 0.95  # share of the draws that give the same pattern where it takes no more cells


@dataclass(frozen=True)
class Call:
    """The answer for one specimen; patterns are indices."""

    cells: int  # usable ones
    unlike: int | None  # of them, cells unlike those of the training; None: nobody can tell
    unusable: int  # cells that could not be read, beside them
    pattern: int | None  # the first; None without a usable cell
    probability: float  # of it, the mean of the cells
    shares: FloatArray  # of the cells whose first pattern it is, (C,)
    lows: FloatArray  # the ends of Wilson's 95 % interval over cells, (C,)
    highs: FloatArray
    second: int | None  # the pattern of a further part of the cells
    members: tuple[int, ...] | None  # of the prediction set; None where nothing was calibrated
    reason: str  # one of REASONS why nothing is said, or empty

    @property
    def said(self) -> bool:
        """Whether the pattern is the answer."""
        return not self.reason


def call(
    probabilities: FloatArray,
    calibration: Calibration | None,
    unlike: NDArray[np.bool_] | None = None,
    unusable: int = 0,
) -> Call:
    """The answer for one specimen.

    Args:
        probabilities: of its usable cells, (n, C), at the temperature of the calibration.
        calibration: of the run, or several `together`; None: there is no set and no second pattern,
            and the first one is said. The first of its limits counts.
        unlike: whether each is unlike the training cells, (n,), where that is known.
        unusable: how many cells of it could not be read.
    """
    count, classes = probabilities.shape
    strange = None if unlike is None else int(unlike.sum())
    if not count:
        nothing = np.zeros(classes)
        empty = (nothing, nothing, nothing + 1, None, None, NO_CELLS)
        return Call(0, strange, unusable, None, 0.0, *empty)
    known = Specimens.of(np.full(count, ""), probabilities)
    shares, mean, pattern = known.shares[0], known.means[0], int(known.by_mean()[0])
    second, members = None, None
    if calibration:
        rest = np.where(np.arange(classes) == pattern, -1.0, shares)
        named = rest.max() >= calibration.second_share
        second = int(rest.argmax()) if named else None
        inside = prediction_sets(known.means, calibration.limits[0].specimens)[0]
        members = tuple(np.flatnonzero(inside).tolist())
    reasons = {
        TOO_FEW: calibration is not None and count < calibration.fewest_cells,
        UNLIKE: strange is not None and 2 * strange > count,
        MIXED: second is not None,
        UNSURE: members is not None and members != (pattern,),
    }
    return Call(
        count,
        strange,
        unusable,
        pattern,
        float(mean[pattern]),
        shares,
        *wilson(shares, count),
        second,
        members,
        next((reason for reason, holds in reasons.items() if holds), ""),
    )


def steadiness(probabilities: FloatArray, seed: int = 0) -> dict[str, float]:
    """How often a part of the cells, drawn at random, gives the pattern that all of them give.

    Probabilities of the cells of one specimen, (n, C) -> share of DRAWS by the names of SUBSETS.
    """
    rng, count = np.random.default_rng(seed), len(probabilities)
    everyone = probabilities.mean(axis=0).argmax()
    found = {}
    for name, divisor in SUBSETS.items():
        size = -(-count // divisor)
        drawn = rng.random((DRAWS, count)).argsort(axis=1)[:, :size]
        same = probabilities[drawn].mean(axis=1).argmax(axis=1) == everyone
        found[name] = float(same.mean())
    return found


def cells_needed(probabilities: FloatArray) -> int:
    """The size of the smallest part of the cells that is STEADY, as all greater ones are.

    All of them where no part is. Probabilities of the cells of one specimen, (n, C).
    """
    return needed_by(steadiness(probabilities), len(probabilities))


def needed_by(same: Mapping[str, float], count: int) -> int:
    """The same of a specimen of so many cells, by its `steadiness`."""
    needed = count
    for name, steady in same.items():
        if steady < STEADY:
            break
        needed = -(-count // SUBSETS[name])
    return needed
