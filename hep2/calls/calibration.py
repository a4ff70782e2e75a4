"""What a run learns from specimens that were held out in training: how sure its answers are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hep2.calls.conformal import Sets, threshold, thresholds
from hep2.calls.specimens import Specimens, patterns_of
from hep2.calls.temperature import HOTTEST, best_temperature, tempered
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

    @property
    def known(self) -> Specimens:
        """Their specimens, by the probabilities as they are."""
        return Specimens.of(self.specimens, self.probabilities)


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
    temperature = best_temperature(held.probabilities, held.labels, specimens)
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


# --- as result.json keeps it


def as_record(found: Calibration | str, classes: Sequence[str]) -> dict[str, Any]:
    """What result.json holds under `calibration`; an infinite limit is null."""
    if isinstance(found, str):
        return {"method": "none", "how": found}

    def named(values: FloatArray) -> dict[str, float | None]:
        finite = [float(value) if math.isfinite(value) else None for value in values]
        return dict(zip(classes, finite, strict=True))

    return {
        "method": "temperature",
        "temperature": found.temperature,
        "how": found.how,
        "specimens": found.specimens,
        "cells": found.cells,
        "second_share": float(found.second_share),
        "fewest_cells": found.fewest_cells,
        "sets": [
            {
                "alpha": one.alpha,
                "cells": named(one.cells),
                "specimens": named(one.specimens),
                "own": [name for name, own in zip(classes, one.own, strict=True) if own],
            }
            for one in found.limits
        ],
    }


def from_record(record: Any, classes: Sequence[str]) -> Calibration | None:
    """Read it back; None where the run is of an earlier version, or was not calibrated.

    Raises:
        HEp2Error: it is no such record; the message says what is wrong with it.
    """
    if record is None or (isinstance(record, Mapping) and record.get("method") == "none"):
        return None
    try:
        return _read(record, classes)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise HEp2Error(f"key calibration is none ({type(error).__name__}: {error})") from error


def _read(record: Any, classes: Sequence[str]) -> Calibration:
    def limits(values: Mapping[str, Any]) -> FloatArray:
        found = [math.inf if values[name] is None else float(values[name]) for name in classes]
        return np.array(found)

    found = Calibration(
        temperature=float(record["temperature"]),
        how=str(record["how"]),
        specimens=int(record["specimens"]),
        cells=int(record["cells"]),
        limits=tuple(
            Limits(
                float(one["alpha"]),
                limits(one["cells"]),
                limits(one["specimens"]),
                np.isin(classes, list(map(str, one["own"]))),
            )
            for one in record["sets"]
        ),
        second_share=float(record["second_share"]),
        fewest_cells=int(record["fewest_cells"]),
    )
    if not 0.5 / HOTTEST <= found.temperature <= 2 * HOTTEST:
        raise ValueError(f"a temperature of {found.temperature:.4g}")
    if not found.limits or not all(0 < one.alpha < 1 for one in found.limits):
        raise ValueError("no alpha between 0 and 1")
    if any(np.isnan([one.cells, one.specimens]).any() for one in found.limits):
        raise ValueError("a limit is no number")
    if not 0 <= found.second_share <= 1:
        raise ValueError(f"a second share of {found.second_share:.4g}")
    return found
