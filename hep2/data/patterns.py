"""What the simulator draws for synthetic cells: the traits of a specimen, then those of its cells.

A specimen takes one value of every trait, uniform over the trait's range on a logarithmic scale;
its cells scatter around that value. Every range is a choice made by eye, by putting montages of
simulated cells and of real ones of the I3A contest side by side; none is a published measurement,
except the counts: 40 to 60 discrete dots for centromere, 1 to 6 nucleoli for nucleolar.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True)
class CellTraits:
    """The traits of n cells of one specimen, each of shape (n,).

    Lengths are in 64ths of the field's width (one pixel of a 64 x 64 image), light in units of the
    full scale of the camera before exposure.

    Attributes:
        radius: mean radius of the nucleus.
        elongation: ratio of its long to its short axis.
        wobble: relative size of the outline's departure from an ellipse.
        dome: 0 for a flat nucleus, 1 for one as thick as a sphere.
        diffuse: light of the even stain of the nucleus.
        grain: relative root mean square of its texture.
        grain_size: standard deviation of the Gaussian that smooths the texture.
        spots: number of speckles or dots.
        spot_size: standard deviation of a spot.
        spot_light: light of a spot's centre.
        nucleoli: number of nucleoli.
        nucleolus_size: radius of a nucleolus.
        dark: part of the light that a nucleolus takes away.
        bright: light of a nucleolus.
        background: light outside the cells.
        cytoplasm: light of the cell's body around the nucleus.
        neighbour: probability that a neighbouring nucleus reaches into the field.
        blur: standard deviation of the point spread.
        haze: part of the light that comes from far out of focus.
        exposure: what the specimen's brightest structures reach, as a part of full scale.
        strength: staining of this cell relative to its specimen.
        photons: photons that fill a pixel to full scale.
        read_noise: standard deviation of the camera's noise, as a part of full scale.
    """

    radius: Floats
    elongation: Floats
    wobble: Floats
    dome: Floats
    diffuse: Floats
    grain: Floats
    grain_size: Floats
    spots: Floats
    spot_size: Floats
    spot_light: Floats
    nucleoli: Floats
    nucleolus_size: Floats
    dark: Floats
    bright: Floats
    background: Floats
    cytoplasm: Floats
    neighbour: Floats
    blur: Floats
    haze: Floats
    exposure: Floats
    strength: Floats
    photons: Floats
    read_noise: Floats


COMMON: dict[str, Range] = {
    "radius": (19.0, 24.0),
    "elongation": (1.05, 1.25),
    "wobble": (0.01, 0.03),
    "dome": (0.1, 0.6),
    "background": (0.04, 0.28),
    "cytoplasm": (0.02, 0.12),
    "neighbour": (0.1, 0.6),
    "blur": (0.7, 1.6),
    "haze": (0.12, 0.32),
    "exposure": (0.75, 0.92),
    "strength": (1.0, 1.0),
    "photons": (60.0, 300.0),
    "read_noise": (0.01, 0.03),
}

PATTERNS: dict[str, dict[str, Range]] = {
    "homogeneous": {
        "diffuse": (0.8, 1.0),
        "grain": (0.06, 0.2),
        "grain_size": (1.0, 2.2),
        "spots": (1, 20),
        "spot_size": (0.8, 1.8),
        "spot_light": (0.03, 0.2),
        "nucleoli": (1, 4),
        "nucleolus_size": (2.0, 4.0),
        "dark": (0.03, 0.5),
        "bright": (0.0, 0.0),
    },
    "coarse_speckled": {
        "diffuse": (0.35, 0.5),
        "grain": (0.1, 0.25),
        "grain_size": (1.0, 2.2),
        "spots": (14, 24),
        "spot_size": (1.8, 2.6),
        "spot_light": (0.4, 0.7),
        "nucleoli": (1, 4),
        "nucleolus_size": (2.5, 4.5),
        "dark": (0.3, 0.9),
        "bright": (0.0, 0.0),
    },
    "fine_speckled": {
        "diffuse": (0.35, 0.55),
        "grain": (0.1, 0.25),
        "grain_size": (0.6, 1.4),
        "spots": (100, 200),
        "spot_size": (0.6, 1.1),
        "spot_light": (0.35, 0.6),
        "nucleoli": (1, 4),
        "nucleolus_size": (2.5, 4.5),
        "dark": (0.3, 0.9),
        "bright": (0.0, 0.0),
    },
    "nucleolar": {
        "diffuse": (0.1, 0.32),
        "grain": (0.05, 0.25),
        "grain_size": (1.0, 2.2),
        "spots": (3, 12),
        "spot_size": (0.6, 1.2),
        "spot_light": (0.04, 0.15),
        "nucleoli": (1.5, 5),
        "nucleolus_size": (2.0, 3.5),
        "dark": (0.0, 0.0),
        "bright": (0.75, 1.0),
    },
    "centromere": {
        "diffuse": (0.1, 0.28),
        "grain": (0.05, 0.25),
        "grain_size": (1.0, 2.2),
        "spots": (43, 57),
        "spot_size": (0.6, 0.85),
        "spot_light": (0.9, 1.2),
        "nucleoli": (1, 3),
        "nucleolus_size": (2.0, 3.5),
        "dark": (0.1, 0.5),
        "bright": (0.0, 0.0),
    },
}

# How far cells scatter around their specimen: standard deviation of the trait's logarithm.
SCATTER: dict[str, float] = {
    "radius": 0.04,
    "elongation": 0.06,
    "wobble": 0.3,
    "diffuse": 0.06,
    "grain": 0.12,
    "spots": 0.08,
    "spot_size": 0.08,
    "spot_light": 0.08,
    "nucleoli": 0.3,
    "nucleolus_size": 0.1,
    "dark": 0.12,
    "bright": 0.12,
    "background": 0.1,
    "cytoplasm": 0.2,
    "blur": 0.1,
    "haze": 0.12,
    "strength": 0.06,
}

STRAY = 0.1
DOTS: Range = (40, 60)  # of centromere: discrete dots, one a chromosome pair or single centromere


def draw_traits(pattern: str, cells: int, rng: np.random.Generator) -> CellTraits:
    """Draw one specimen of `pattern`, then `cells` cells around it."""
    ranges = COMMON | PATTERNS[pattern]
    traits = {name: _scattered(name, ranges[name], cells, rng) for name in sorted(ranges)}
    traits["spots"] = np.clip(traits["spots"].round(), *(DOTS if pattern == "centromere" else (0, 400)))
    traits["nucleoli"] = np.clip(traits["nucleoli"].round(), 1, 6)
    stray = rng.uniform(size=cells) < STRAY  # a cell out of focus, as every slide has some
    traits["blur"] *= np.where(stray, rng.uniform(1.5, 3, cells), 1)
    traits["dark"] = np.minimum(traits["dark"], 0.95)
    return CellTraits(**traits)


def _scattered(name: str, limits: Range, cells: int, rng: np.random.Generator) -> Floats:
    """One trait of one specimen, and its cells around it. Shape: (cells,)."""
    low, high = limits
    position, deviates = rng.uniform(), rng.standard_normal(cells)
    if high == 0:
        return np.zeros(cells)
    typical = np.exp(np.log(low) + position * np.log(high / low))
    return np.asarray(typical * np.exp(SCATTER.get(name, 0.0) * deviates))
