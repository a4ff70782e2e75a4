"""What a run learns from specimens that were held out in training: how sure its answers are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hep2.calls.conformal import Sets, threshold, thresholds
from hep2.calls.specimens import Specimens, patterns_of
from hep2.calls.temperature import learned_temperature, tempered
from hep2.errors import HEp2Error
from hep2.metrics import FloatArray, IntArray, StringArray

FEWEST = 9  # specimens: of five a temperature made simulated cells worse, .03 to .09 or .21 ECE


@dataclass(frozen=True)
class HeldOut:
    """Cells of training specimens, named by a classifier that had not learned from them."""

    ids: StringArray  # (N,)
    specimens: StringArray  # (N,)
    labels: IntArray  # (N,)
    probabilities: FloatArray  # (N, C)
    how: str  # who held them out, in words


@dataclass(frozen=True)
class Limits:
    """Up to which score a pattern belongs to a prediction set, for one alpha."""

    alpha: float
    cells: FloatArray  # (C,); infinite: always
    specimens: FloatArray  # (C,), of the mean probabilities of a specimen
    own: Sets  # (C,): whether the promise holds for the pattern by itself


@dataclass(frozen=True)
class Calibration:
    """How the probabilities of one run become answers."""

    temperature: float
    how: str  # where it was got, in words
    specimens: int  # held out, that it was learned from
    cells: int  # of them
    limits: tuple[Limits, ...]  # the first is the one that calls go by
    second_share: float  # of the cells, from which a second pattern is named
    fewest_cells: int  # of a specimen, for a call

    def scaled(self, probabilities: FloatArray) -> FloatArray:
        """Probabilities at the temperature, (N, C)."""
        return tempered(probabilities, self.temperature)


def calibrated(held: HeldOut, alphas: Sequence[float], fewest_cells: int) -> Calibration | str:
    """What held-out specimens teach; a sentence where there are too few.

    The temperature is fitted first, then the thresholds of the sets on the scaled probabilities, on
    the same specimens: one number, fitted to all of them, hardly knows any.

    The second pattern of a specimen is named from the share that at most alpha (the first one) of
    the held-out specimens, which have one pattern, give to any pattern but their first.
    """
    specimens, classes = held.specimens, held.probabilities.shape[1]
    if (count := len(np.unique(specimens))) < FEWEST:
        return f"{count} specimens were held out: too few to calibrate with, it takes {FEWEST}"
    temperature = learned_temperature(held.probabilities, held.labels, specimens)
    scaled = tempered(held.probabilities, temperature)
    known = Specimens.of(specimens, scaled)
    patterns = patterns_of(specimens, held.labels, classes)
    limits = []
    for alpha in alphas:
        cells, own = thresholds(scaled, held.labels, specimens, alpha)
        whole, _ = thresholds(known.means, patterns, known.names, alpha)
        limits.append(Limits(alpha, cells, whole, own))
    second = np.sort(known.shares, axis=1)[:, -2] if classes > 1 else np.zeros(count)
    return Calibration(
        temperature=temperature,
        how=held.how,
        specimens=count,
        cells=len(held.ids),
        limits=tuple(limits),
        second_share=min(0.5, np.nextafter(threshold(second, known.names, alphas[0]), 1.0)),
        fewest_cells=fewest_cells,
    )


def at_alpha(known: Calibration | None, alpha: float | None) -> Calibration | None:
    """The same, whose sets and calls go by this alpha; None: by the first that was asked for.

    Raises:
        HEp2Error: nothing was learned for it.
    """
    if alpha is None:
        return known
    limits = known.limits if known else ()
    if known and (found := tuple(one for one in limits if one.alpha == alpha)):
        return replace(known, limits=found)
    kept = ", ".join(f"{one.alpha:g}" for one in limits) or "none: it was not calibrated"
    raise HEp2Error(
        f"alpha={alpha}: the run has learned the limits of {kept}; what else is wanted is asked "
        "for in training, by stage.calibration.alpha"
    )


def together(several: Sequence[Calibration]) -> Calibration:
    """For the mean of several runs' scaled probabilities: the widest of their limits.

    Each has its own temperature, and is scaled before the mean; that of the whole is then 1. The
    promise of each is for its own probabilities; of their mean nothing is proved.
    """
    first = several[0]
    limits = [
        Limits(
            alpha=same[0].alpha,
            cells=np.max([one.cells for one in same], axis=0),
            specimens=np.max([one.specimens for one in same], axis=0),
            own=np.all([one.own for one in same], axis=0),
        )
        for same in zip(*(one.limits for one in several), strict=True)
    ]
    return Calibration(
        temperature=first.temperature if len(several) == 1 else 1.0,
        how=first.how if len(several) == 1 else f"the widest limits of {len(several)} runs",
        specimens=min(one.specimens for one in several),
        cells=min(one.cells for one in several),
        limits=tuple(limits),
        second_share=max(one.second_share for one in several),
        fewest_cells=max(one.fewest_cells for one in several),
    )
