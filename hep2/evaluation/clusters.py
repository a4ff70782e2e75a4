"""How well clusters, which have no names, agree with patterns."""

from typing import NamedTuple

import numpy as np

from hep2.evaluation.metrics import IntArray


class Matching(NamedTuple):
    """Pattern of each cluster, shape (clusters,), and the share of cells that it is right for."""

    patterns: IntArray
    accuracy: float


def match(targets: IntArray, clusters: IntArray, count: int) -> Matching:
    """Give every cluster a pattern of its own, so that most cells are right (Hungarian method).

    Its accuracy is the clustering accuracy of the literature (Yang et al. 2010). It looks at the
    labels that it is measured on: it is no accuracy of a classifier.

    Args:
        targets: indices of patterns, shape (N,).
        clusters: indices of clusters, shape (N,).
        count: of patterns, and of clusters.
    """
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((count, count), dtype=np.int64)  # (cluster, pattern)
    np.add.at(together, (clusters, targets), 1)
    rows, patterns = linear_sum_assignment(together, maximize=True)
    return Matching(patterns.astype(np.int64), float(together[rows, patterns].sum() / len(targets)))


def agreement(targets: IntArray, clusters: IntArray) -> dict[str, float]:
    """Normalised mutual information and adjusted Rand index, which need no matching."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "nmi": float(normalized_mutual_info_score(targets, clusters)),
        "ari": float(adjusted_rand_score(targets, clusters)),
    }
