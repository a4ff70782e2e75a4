"""How often the 95 % interval of each bootstrap contains the truth, on data with known truth.

    python benchmarks/bootstrap_coverage.py

40 specimens of five patterns; the share of hits varies between specimens as a beta distribution
whose mean is the pattern's true recall (beta-binomial cells), about 47 cells a specimen as in
SNPHEp-2. Prints the coverage of three intervals of the MCA: the project's (specimens, studentised),
the plain percentile interval over specimens, and the naive one that resamples cells one by one.
Exit code 1 unless the project's covers within 92-97 % and the naive one below 80 %.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hep2.evaluation.statistics import specimen_interval, specimen_patterns
from hep2.metrics import FloatArray, IntArray, mca

SPECIMENS, CLASSES, DATA_SETS, RESAMPLES = 40, 5, 1000, 1000
RECALLS = {"mid": [0.62, 0.69, 0.75, 0.81, 0.88], "high": [0.82, 0.85, 0.88, 0.91, 0.94]}
CORRELATIONS = (0.1, 0.3)  # of two cells of one specimen


def simulate(recalls: FloatArray, correlation: float, rng: np.random.Generator) -> FloatArray:
    """One confusion matrix a specimen, shape (SPECIMENS, CLASSES, CLASSES)."""
    pattern: IntArray = np.arange(SPECIMENS) % CLASSES
    scale = (1 - correlation) / correlation
    rate = rng.beta(recalls[pattern] * scale, (1 - recalls[pattern]) * scale)
    cells = 5 + rng.negative_binomial(8, 8 / (8 + 42), SPECIMENS)  # mean 47, at least 5
    hits = rng.binomial(cells, rate)
    confusions = np.zeros((SPECIMENS, CLASSES, CLASSES))
    confusions[np.arange(SPECIMENS), pattern, pattern] = hits
    confusions[np.arange(SPECIMENS), (pattern + 1) % CLASSES, pattern] = cells - hits
    return confusions


def over_cells(confusions: FloatArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """The naive percentile interval: every cell drawn on its own."""
    pooled = confusions.sum(axis=0)
    cells = int(pooled.sum())
    drawn = rng.multinomial(cells, pooled.ravel() / cells, RESAMPLES).astype(np.float64)
    return np.asarray(np.quantile(mca(drawn.reshape(-1, CLASSES, CLASSES)), [0.025, 0.975]))


def over_specimens(confusions: FloatArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """The plain percentile interval: whole specimens drawn within each pattern."""
    patterns = specimen_patterns(confusions)
    pooled = np.zeros((RESAMPLES, CLASSES, CLASSES))
    for pattern in range(CLASSES):
        members = confusions[patterns == pattern]
        share = np.full(len(members), 1 / len(members))
        weights = rng.multinomial(len(members), share, RESAMPLES)
        pooled += np.tensordot(weights, members, axes=1)
    return np.asarray(np.quantile(mca(pooled), [0.025, 0.975]))


def coverage(recalls: FloatArray, correlation: float) -> dict[str, float]:
    """Share of simulated data sets whose interval contains the true MCA."""
    truth, rng = float(recalls.mean()), np.random.default_rng(0)
    held = {"specimens, studentised": 0, "specimens, percentile": 0, "cells (naive)": 0}
    for seed in tqdm(range(DATA_SETS), leave=False):
        confusions = simulate(recalls, correlation, rng)
        _, low, high = specimen_interval(confusions, mca, RESAMPLES, seed=seed)
        plain_low, plain_high = over_specimens(confusions, rng)
        naive_low, naive_high = over_cells(confusions, rng)
        held["specimens, studentised"] += int(low <= truth <= high)
        held["specimens, percentile"] += int(plain_low <= truth <= plain_high)
        held["cells (naive)"] += int(naive_low <= truth <= naive_high)
    return {name: count / DATA_SETS for name, count in held.items()}


def main() -> int:
    """Print the coverages and say by the exit code whether they are what the project claims."""
    good = True
    for level, recalls in RECALLS.items():
        for correlation in CORRELATIONS:
            found = coverage(np.array(recalls), correlation)
            print(
                f"true MCA {np.mean(recalls):.2f} ({level}), correlation {correlation}: "
                + ", ".join(f"{name} {share:.1%}" for name, share in found.items())
            )
            good &= 0.92 <= found["specimens, studentised"] <= 0.97
            good &= found["cells (naive)"] < 0.80
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
