"""Probabilities that mean what they say: temperature scaling."""

import math

import numpy as np

from hep2.metrics import FloatArray, IntArray, StringArray

SMALLEST = 1e-9  # a probability below it counts as this: some classifiers are certain
HOTTEST = 20.0  # the greatest temperature that is looked for; the lowest is 1 over it
# Logs of those that are tried, one in fifty apart; that of 1 is in their middle.
LOGS = np.linspace(-np.log(HOTTEST), np.log(HOTTEST), 301)


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


def learned_temperature(
    probabilities: FloatArray, labels: IntArray, specimens: StringArray
) -> float:
    """The temperature that held-out cells teach: 1 where their specimens cannot tell it from 1.

    The log b of the temperature with the least cross-entropy becomes b max(0, 1 - v / b^2), its
    mean under a normal prior about 0 whose variance has the greatest marginal likelihood (Efron and
    Morris, JASA 68 (1973) 117-130; the positive-part rule of James and Stein). v is the jackknife
    variance of b over specimens (Efron and Stein, Ann. Stat. 9 (1981) 586-596): cells of a specimen
    err together, so a thousand cells of twenty specimens are twenty observations.

    Specimens count alike, whatever the number of their cells. Probabilities (N, C), labels and
    names of specimens (N,).
    """
    losses = _losses(probabilities, labels, specimens)
    whole = losses.sum(axis=1, keepdims=True)
    best = float(LOGS[whole.argmin()])
    without = LOGS[(whole - losses).argmin(axis=0)]  # each specimen once
    variance = (len(without) - 1) * float(without.var())
    return math.exp(best * max(0.0, 1 - variance / best**2)) if best else 1.0


def _losses(probabilities: FloatArray, labels: IntArray, specimens: StringArray) -> FloatArray:
    """Mean cross-entropy of the cells of each specimen, at each of LOGS: (temperatures, S)."""
    _, owner, sizes = np.unique(specimens, return_inverse=True, return_counts=True)
    logs = np.log(np.clip(probabilities, SMALLEST, 1))
    right = logs[np.arange(len(labels)), labels]
    sums = []
    for temperature in np.exp(LOGS):
        total = np.exp(logs / temperature).sum(axis=1)  # not 0: the greatest is 1 / C or more
        sums.append(np.bincount(owner, np.log(total) - right / temperature))
    return np.stack(sums) / sizes
