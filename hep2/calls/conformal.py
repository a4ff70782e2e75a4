"""Sets of patterns that hold the right one as often as was asked, whatever the classifier.

Split conformal prediction with 1 - p of a pattern as its score (Sadinle, Lei, Wasserman, JASA 114
(2019) 223-234). What is exchangeable is specimens, not cells: cells of one specimen share stain,
focus and pattern. Thresholds are therefore those of hierarchical conformal prediction (Lee, Barber,
Willett, arXiv 2306.06342; Dunn, Wasserman, Ramdas, arXiv 1809.07441): every calibrating specimen
weighs as much as the new one, and its cells share its weight.

The promise, P(right pattern in the set) >= 1 - alpha, is for a new specimen of the kind of the
calibrating ones, or a cell of it drawn at random, and for a classifier that has seen none of them.
Where the scores come from inner folds (`hep2.stages.held_out`), the classifier that is used has
learned from more specimens than those that were scored. It is then usually better, and the sets
hold the right pattern more often than promised; but that is experience, not a theorem.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hep2.metrics import FloatArray, IntArray, StringArray

Sets = NDArray[np.bool_]  # (N, C): whether the set of a cell, or a specimen, holds a pattern
_ROUNDING = 1e-9


def fewest_specimens(alpha: float) -> int:
    """How many calibrating specimens it takes to promise 1 - alpha with less than all patterns."""
    return math.ceil(1 / alpha - _ROUNDING) - 1


def threshold(scores: FloatArray, specimens: StringArray, alpha: float) -> float:
    """The score up to which a pattern belongs to the set; infinite for too few specimens.

    The 1 - alpha quantile of the calibrating scores (N,), of which those of one specimen weigh
    1 / (K + 1) together, K being the number of specimens; the last (K + 1)th, the new specimen's,
    lies at infinity. With one score a specimen it is that of split conformal prediction.
    """
    _, owner, sizes = np.unique(specimens, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / sizes[owner][order]) / (len(sizes) + 1)
    place = int(np.searchsorted(reached, 1 - alpha - _ROUNDING))
    return float(scores[order][place]) if place < len(scores) else math.inf


def thresholds(
    probabilities: FloatArray, labels: IntArray, specimens: StringArray, alpha: float
) -> tuple[FloatArray, Sets]:
    """A threshold for each pattern, (C,), and which patterns have one of their own, (C,).

    A pattern with `fewest_specimens` has its own, by its own cells: the promise then holds for its
    specimens by themselves. The others share that of all specimens together, and nothing is
    promised of each of them alone.

    Args:
        probabilities: of calibrating cells, or one row a specimen, shape (N, C).
        labels: the right pattern of each, shape (N,).
        specimens: the specimen of each, shape (N,).
        alpha: how often the set may lack the right pattern.
    """
    scores = 1 - probabilities[np.arange(len(labels)), labels]
    classes = probabilities.shape[1]
    found = np.full(classes, threshold(scores, specimens, alpha))
    own = np.zeros(classes, dtype=np.bool_)
    for pattern in range(classes):
        members = labels == pattern
        own[pattern] = len(np.unique(specimens[members])) >= fewest_specimens(alpha)
        if own[pattern]:
            found[pattern] = threshold(scores[members], specimens[members], alpha)
    return found, own


def prediction_sets(probabilities: FloatArray, limits: FloatArray) -> Sets:
    """The patterns whose score is within their threshold: (N, C), (C,) -> (N, C).

    A set may be empty: then no pattern looks as it did in the calibrating specimens.
    """
    return np.asarray(1 - probabilities <= limits + _ROUNDING)
