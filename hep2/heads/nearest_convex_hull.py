"""Nearest Convex Hull classifier (Nalbantov, Groenen and Bioch 2006), used by the paper's [3]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.heads.estimator import Labels, Matrix, Probabilities, TrainingCells

Points = NDArray[np.float64]

START = 64  # nearest training cells that a search for the nearest point begins with
INSIDE = 1e-6  # distance below which a cell counts as inside, relative to the hull's size


class NearestConvexHull:
    """A cell belongs to the pattern whose training descriptors have the nearest convex hull.

    There is nothing to tune. Probabilities are proportional to 1 / d^2. A cell inside exactly one
    hull belongs to it. A cell inside several (overlapping) hulls goes to the nearest mean of those
    patterns: probabilities are then proportional to 1 / (distance to the mean)^2 among them.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, Any] = {}

    def fit(self, cells: TrainingCells) -> None:
        """Keep the training descriptors, by pattern."""
        self.classes = cells.classes
        self.present: Labels = np.unique(cells.labels)
        features = cells.features.astype(np.float64)
        self.hulls = [features[cells.labels == label] for label in self.present]

    def probabilities(self, features: Matrix) -> Probabilities:
        """From squared distances to the hulls."""
        queries = features.astype(np.float64)
        squares = np.full((len(queries), self.classes), np.inf)
        means = np.full((len(queries), self.classes), np.inf)
        for label, points in zip(self.present, self.hulls, strict=True):
            mean = points.mean(axis=0)
            size = ((points - mean) ** 2).sum(axis=1).mean()
            found = squared_distances(queries, points)
            squares[:, label] = np.where(found <= INSIDE**2 * size, 0, found)
            means[:, label] = ((queries - mean) ** 2).sum(axis=1)
        return shares_of(squares, means)


def shares_of(squares: Points, means: Points) -> Probabilities:
    """Probabilities by squared distances to hulls and to means, inf: absent; all (N, classes)."""
    inside = squares == 0
    several = inside.any(axis=1, keepdims=True)
    deciding = np.where(several, np.where(inside, means, np.inf), squares)
    nearest = deciding.min(axis=1, keepdims=True)
    # Relative to the nearest: no overflow, and 1 / 0 becomes a certainty.
    ratio = np.where(deciding == nearest, 1.0, nearest / np.where(deciding > 0, deciding, 1.0))
    return np.asarray(ratio / ratio.sum(axis=1, keepdims=True))


def squared_distances(queries: Points, points: Points) -> Points:
    """Squared distances, shape (N,), of queries, (N, D), to the convex hull of points, (P, D).

    Where there are more dimensions than points, both are first turned into the points' own span;
    what sticks out of it adds up.
    """
    shift = points.mean(axis=0)
    points, queries = points - shift, queries - shift
    outside = np.zeros(len(queries))
    if points.shape[1] > len(points):
        axes = np.linalg.qr(points.T)[0]  # (D, P), orthonormal columns
        inside = queries @ axes
        outside = np.maximum((queries**2).sum(axis=1) - (inside**2).sum(axis=1), 0)
        points, queries = points @ axes, inside
    return np.asarray(outside + [_squared_distance(points - query) for query in queries])


def _squared_distance(points: Points) -> float:
    """Squared distance of the origin to the convex hull of points, shape (P, D).

    The least |P'w|^2 with w >= 0 and sum(w) = 1 is found by non-negative least squares without a
    penalty: the u >= 0 that minimises |P'u|^2 + (sum(u) - 1)^2 is s * w for some scale s, because
    |P'u|^2 = s^2 |P'w|^2 is least, for any s, where |P'w| is (Lawson and Hanson 1974, chapter 23).
    Few points carry the nearest one, so the search starts with the cells nearby and adds those
    that violate the optimality condition p'y >= |y|^2, until none does: the answer is that of the
    whole problem at a fraction of its cost.
    """
    from scipy.optimize import nnls

    norms = (points**2).sum(axis=1)
    scale = float(np.sqrt(norms.min()))
    if scale == 0:
        return 0.0
    points = points / scale  # the row of ones then weighs as much as the coordinates
    chosen = np.argsort(norms)[:START]
    target = np.append(np.zeros(points.shape[1]), 1.0)
    least = np.inf
    while True:
        rows = np.vstack([points[chosen].T, np.ones(len(chosen))])
        weights, _ = nnls(rows, target, maxiter=30 * len(chosen))
        weights /= weights.sum()
        nearest = weights @ points[chosen]
        square = float(nearest @ nearest)
        gains = square - points @ nearest  # above 0: the point would bring the hull nearer
        violating = np.flatnonzero(gains > 1e-9 * max(1.0, square))
        if not len(violating) or square >= least * (1 - 1e-12):
            return scale**2 * square
        least = square
        worst = violating[np.argsort(-gains[violating])[:START]]
        chosen = np.unique(np.concatenate([chosen[weights > 0], worst]))
