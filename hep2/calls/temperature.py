"""Probabilities that mean what they say: temperature scaling."""

import numpy as np

from hep2.metrics import FloatArray, IntArray, StringArray

SMALLEST = 1e-9  # a probability below it counts as this: some classifiers are certain
HOTTEST = 20.0  # the greatest temperature that is looked for; the lowest is 1 over it


def tempered(probabilities: FloatArray, temperature: float) -> FloatArray:
    """softmax(log p / T): above 1 the temperature takes confidence away, below it adds some.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2. Of a network log p
    differs from its logits by one constant a cell, which the softmax does not see; so any
    classifier that gives probabilities can be scaled. Which pattern is first does not change.

    Shape:
        (N, C) -> (N, C)
    """
    scores = np.log(np.clip(probabilities, SMALLEST, 1)) / temperature
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def best_temperature(probabilities: FloatArray, labels: IntArray, specimens: StringArray) -> float:
    """The temperature with the least cross-entropy on cells that were not learned from.

    Specimens count alike, whatever the number of their cells. Probabilities (N, C), labels and
    names of specimens (N,).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    _, owner, sizes = np.unique(specimens, return_inverse=True, return_counts=True)
    weights, rows = 1 / sizes[owner], np.arange(len(labels))
    logs = np.log(np.clip(probabilities, SMALLEST, 1))

    def cross_entropy(log_temperature: float) -> float:
        scores = logs / np.exp(log_temperature)
        return float(np.average(logsumexp(scores, axis=1) - scores[rows, labels], weights=weights))

    reach = float(np.log(HOTTEST))
    found = minimize_scalar(cross_entropy, bounds=(-reach, reach), method="bounded")
    return float(np.exp(found.x))
