"""What the simulator draws for synthetic cells: the traits of a specimen, then those of its cells.

A specimen takes one value of every trait, uniform over the trait's range on a logarithmic scale;
its cells scatter around it. The ranges are choices, made with montages of simulated and real cells
side by side; only the counts (40 to 60 dots, 1 to 6 nucleoli) are what the patterns' names mean.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True)
class CellTraits:
    """The traits of n cells of one specimen, each of shape (n,).

    Lengths are in 64ths of the field's width (one pixel of a 64 x 64 image), light in units of a
    bright nucleus; the camera's exposure then scales all of it alike.
    """

    radius: Floats  # mean radius of the nucleus
    elongation: Floats  # ratio of its long to its short axis
    wobble: Floats  # relative size of the outline's departure from an ellipse
    dome: Floats  # 0 for a flat nucleus, 1 for one as thick as a sphere
    diffuse: Floats  # light of the even stain of the nucleus
    grain: Floats  # relative root mean square of its texture
    grain_size: Floats  # standard deviation of the Gaussian that smooths the texture
    spots: Floats  # number of speckles or dots
    spot_size: Floats  # standard deviation of a spot
    spot_light: Floats  # light of a spot's centre
    nucleoli: Floats  # number of nucleoli
    nucleolus_size: Floats  # radius of a nucleolus
    dark: Floats  # part of the light that a nucleolus takes away
    bright: Floats  # light of a nucleolus
    background: Floats  # light outside the cells
    cytoplasm: Floats  # light of the cell's body around the nucleus
    neighbour: Floats  # probability that a neighbouring nucleus reaches into the field
    blur: Floats  # standard deviation of the point spread
    haze: Floats  # part of the light that comes from far out of focus
    exposure: Floats  # what the specimen's brightest structures reach, as a part of full scale
    strength: Floats  # brightness of this cell relative to its specimen
    photons: Floats  # photons that fill a pixel to full scale
    read_noise: Floats  # standard deviation of the camera's noise, as a part of full scale


# What any specimen may be, whatever its pattern: (low, high).
COMMON: dict[str, Range] = {
    "radius": (19.0, 24.0),
    "elongation": (1.05, 1.25),
    "wobble": (0.006, 0.018),
    "dome": (0.1, 0.6),
    "background": (0.05, 0.25),
    "cytoplasm": (0.03, 0.1),
    "neighbour": (0.1, 0.6),
    "blur": (0.7, 1.5),
    "haze": (0.12, 0.32),
    "exposure": (0.62, 0.95),
    "strength": (1.0, 1.0),
    "photons": (60.0, 500.0),
    "read_noise": (0.004, 0.014),
}

# What makes the five patterns, in the order of the paper's confusion matrix: (low, high).
PATTERNS: dict[str, dict[str, Range]] = {
    "homogeneous": {
        "diffuse": (0.9, 1.1),
        "grain": (0.07, 0.16),
        "grain_size": (1.0, 2.2),
        "spots": (1, 20),
        "spot_size": (0.8, 1.8),
        "spot_light": (0.02, 0.12),
        "nucleoli": (1, 4),
        "nucleolus_size": (2.0, 4.0),
        "dark": (0.03, 0.3),
        "bright": (0.0, 0.0),
    },
    "coarse_speckled": {
        "diffuse": (0.5, 0.7),
        "grain": (0.1, 0.25),
        "grain_size": (1.0, 2.2),
        "spots": (12, 18),
        "spot_size": (1.8, 2.6),
        "spot_light": (0.4, 0.7),
        "nucleoli": (1, 4),
        "nucleolus_size": (2.5, 4.5),
        "dark": (0.3, 0.9),
        "bright": (0.0, 0.0),
    },
    "fine_speckled": {
        "diffuse": (0.4, 0.6),
        "grain": (0.1, 0.25),
        "grain_size": (0.6, 1.4),
        "spots": (90, 180),
        "spot_size": (0.6, 0.9),
        "spot_light": (0.5, 0.7),
        "nucleoli": (1, 4),
        "nucleolus_size": (2.5, 4.5),
        "dark": (0.3, 0.9),
        "bright": (0.0, 0.0),
    },
    "nucleolar": {
        "diffuse": (0.06, 0.18),
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
        "diffuse": (0.08, 0.22),
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
    "background": 0.2,
    "cytoplasm": 0.3,
    "blur": 0.08,
    "haze": 0.2,
    "strength": 0.05,
}

DOTS = (40, 60)  # of a centromere cell, the least and the most
NUCLEOLI = (1, 6)  # of any cell, the least and the most
STRAY = 0.09  # part of the cells that lie out of focus and show their pattern faintly
TRAITS = tuple(field.name for field in fields(CellTraits))


def draw_cells(pattern: str, cells: int, rng: np.random.Generator) -> CellTraits:
    """Draw one specimen of `pattern` (one of `PATTERNS`) and `cells` cells around it."""
    ranges = COMMON | PATTERNS[pattern]
    traits = {}
    for name in TRAITS:
        low, high = ranges[name]
        typical = low * (high / low) ** rng.uniform() if low else 0.0
        traits[name] = typical * np.exp(SCATTER.get(name, 0) * rng.standard_normal(cells))
    dots = DOTS if pattern == "centromere" else (0, np.inf)
    traits["spots"] = np.clip(np.rint(traits["spots"]), *dots)
    traits["nucleoli"] = np.clip(np.rint(traits["nucleoli"]), *NUCLEOLI)
    traits["dark"] = np.minimum(traits["dark"], 0.95)
    stray = rng.uniform(size=cells) < STRAY
    traits["blur"] *= np.where(stray, rng.uniform(1.5, 3, cells), 1)
    faint = np.where(stray, rng.uniform(0.1, 0.6, cells), 1)
    traits |= {name: traits[name] * faint for name in ("spot_light", "bright", "dark")}
    return CellTraits(**traits)
