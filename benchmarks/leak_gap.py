"""How much a random split of cells flatters a classifier, measured on the synthetic cells.

    python benchmarks/leak_gap.py [--cells 1884] [--specimens 40] [--splits 5] [--seed 0]

Classifies the same cells under two five-fold protocols: `random` (folds over cells; leaky, since
cells of one specimen fall on both sides) and `specimen` (folds over whole specimens). Prints the
mean class accuracy (MCA) of both, mean and standard deviation over several seeds of the split, for
two classifiers: an RBF support vector machine on texture features, and logistic regression on the
principal components of the pixels. Needs numpy and scikit-learn; about ten seconds on one core.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hep2.data.simulator.cells import SyntheticCells, simulate

Matrix = NDArray[np.float64]
PROTOCOLS = {"random": StratifiedKFold, "specimen": StratifiedGroupKFold}
# The eight neighbours of a pixel, in order around it.
AROUND = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]


def texture_features(images: NDArray[np.uint8]) -> Matrix:
    """Grey-level histogram, local binary patterns, radial power spectrum. Shape: (N, 94)."""
    patterns = [binary_patterns(images, reach) for reach in (1, 2, 3)]
    return np.asarray(np.hstack([histograms(images // 8, 32), *patterns, radial_spectrum(images)]))


def histograms(values: NDArray[np.integer], bins: int) -> Matrix:
    """The relative frequency of 0..bins-1 in each image. Shape: (N, bins)."""
    flat = values.reshape(len(values), -1).astype(np.int64)
    flat += np.arange(len(flat))[:, None] * bins
    counts = np.bincount(flat.ravel(), minlength=len(flat) * bins).reshape(len(flat), bins)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def binary_patterns(images: NDArray[np.uint8], reach: int) -> Matrix:
    """Rotation-invariant uniform local binary patterns of eight neighbours. Shape: (N, 10).

    Ojala, Pietikainen, Maenpaa, IEEE TPAMI 24(7), 2002; here with neighbours on a square.
    """
    size = images.shape[1]
    middle = images[:, reach:-reach, reach:-reach]
    bits = []
    for down, right in AROUND:
        top, left = reach * (1 + down), reach * (1 + right)
        shifted = images[:, top : top + size - 2 * reach, left : left + size - 2 * reach]
        bits.append(shifted >= middle)
    changes = sum((bits[i] != bits[i - 1]).astype(np.int64) for i in range(8))
    ones = sum(bit.astype(np.int64) for bit in bits)
    return histograms(np.where(changes <= 2, ones, 9), 10)


def radial_spectrum(images: NDArray[np.uint8]) -> Matrix:
    """Logarithm of the mean power at each of 32 distances from frequency zero. Shape: (N, 32)."""
    power = np.abs(np.fft.fft2(images.astype(np.float64))) ** 2
    frequency = np.fft.fftfreq(images.shape[1]) * 64
    ring = np.hypot(frequency[:, None], frequency[None, :]).astype(np.int64)
    rings = [power[:, ring == index].mean(axis=1) for index in range(32)]
    return np.asarray(np.log(np.stack(rings, axis=1) + 1))


def accuracies(
    model: Pipeline, features: Matrix, cells: SyntheticCells, protocol: str, splits: int
) -> Iterator[float]:
    """The MCA of five pooled folds, once for each seed of the split."""
    for seed in range(splits):
        folds = PROTOCOLS[protocol](5, shuffle=True, random_state=seed)
        groups = cells.specimens if protocol == "specimen" else None
        output = np.empty_like(cells.labels)
        for train, test in folds.split(features, cells.labels, groups):
            output[test] = model.fit(features[train], cells.labels[train]).predict(features[test])
        yield 100 * balanced_accuracy_score(cells.labels, output)


def main() -> None:
    """Print the gap of both classifiers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("cells", 1884), ("specimens", 40), ("splits", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    start = time.perf_counter()
    cells = simulate(asked.cells, asked.specimens, seed=asked.seed)
    print(
        f"{asked.cells} synthetic cells, {asked.specimens} specimens, seed {asked.seed}: ", end=""
    )
    print(f"simulated in {time.perf_counter() - start:.1f} s")
    texture = texture_features(cells.images)
    pixels = cells.images.reshape(len(cells.images), -1) / 255.0
    pixels = PCA(50, svd_solver="randomized", random_state=0).fit_transform(pixels)
    models = {
        "SVM on texture": (make_pipeline(StandardScaler(), SVC(C=10)), texture),
        "logistic regression on 50 components": (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
            pixels,
        ),
    }
    for title, (model, features) in models.items():
        found = {
            protocol: np.array(list(accuracies(model, features, cells, protocol, asked.splits)))
            for protocol in PROTOCOLS
        }
        random, specimen = found["random"], found["specimen"]
        print(f"{title}: MCA (%), mean and standard deviation over {asked.splits} splits")
        print(f"  random (leaky)     {random.mean():5.1f} +- {random.std():.1f}")
        print(f"  specimen-disjoint  {specimen.mean():5.1f} +- {specimen.std():.1f}")
        print(f"  gap                {random.mean() - specimen.mean():5.1f} points")


if __name__ == "__main__":
    main()
