"""Prediction sets keep their promise over specimens, on simulated ones of which all is known."""

import math

import numpy as np
import pytest

from hep2.calls.conformal import fewest_specimens, prediction_sets, threshold, thresholds

CLASSES = 4


def simulated(rng: np.random.Generator, count: int):
    """Cells of specimens, of uneven numbers: what is odd about a specimen all its cells share."""
    labels, sizes = rng.integers(0, CLASSES, count), rng.integers(1, 30, count)
    owner = np.repeat(np.arange(count), sizes)
    odd = rng.normal(0, 1.5, (count, CLASSES))
    logits = 2 * np.eye(CLASSES)[labels[owner]] + odd[owner]
    shares = np.exp(logits + rng.normal(0, 1, logits.shape))
    return owner.astype(str), labels[owner], shares / shares.sum(axis=1, keepdims=True)


def covered(count: int, alpha: float, repeats: int, place: int | None = None):
    """How often the set of a new specimen's cell holds its pattern; and by cells counted alike."""
    rng, hits, naive = np.random.default_rng(0), [], []
    for _ in range(repeats):
        owner, labels, shares = simulated(rng, count + 1)
        new = owner == str(count)
        if place is not None and labels[new][0] != place:
            continue
        limits, own = thresholds(shares[~new], labels[~new], owner[~new], alpha)
        if place is not None and not own[place]:
            continue
        scores = 1 - shares[np.arange(len(labels)), labels]
        if place is None:  # the one that all patterns share
            limits = np.full(CLASSES, threshold(scores[~new], owner[~new], alpha))
        inside = prediction_sets(shares[new], limits)
        hits.append(inside[np.arange(new.sum()), labels[new]].mean())
        known = np.sort(scores[~new])
        naive.append((scores[new] <= known[math.ceil((len(known) + 1) * (1 - alpha)) - 1]).mean())
    return np.mean(hits), np.mean(naive), np.std(hits) / np.sqrt(len(hits))


@pytest.mark.parametrize(("count", "alpha"), [(19, 0.1), (30, 0.2)])
def test_the_promise_is_kept_over_specimens(count: int, alpha: float) -> None:
    share, naive, error = covered(count, alpha, 700)
    assert 1 - alpha - 2 * error < share < 1 - alpha + 2 / (count + 1) + 2 * error
    assert naive < share - 0.01, "cells counted alike promise too much"


def test_the_promise_is_kept_for_a_pattern_with_enough_specimens() -> None:
    share, _, error = covered(50, 0.2, 1200, place=1)
    assert 0.8 - 2 * error < share < 0.8 + 0.25


def test_with_one_score_a_specimen_it_is_split_conformal_prediction() -> None:
    scores, names = np.arange(1, 20) / 20, np.arange(19).astype(str)
    assert threshold(scores, names, 0.1) == pytest.approx(18 / 20)
    assert threshold(scores, names, 0.05) == pytest.approx(19 / 20)
    assert threshold(scores, names, 0.04) == math.inf
    assert threshold(scores, names, 0.5) == pytest.approx(10 / 20)


def test_a_specimen_weighs_the_same_however_many_cells_it_has() -> None:
    scores = np.array([0.9] * 100 + [0.1] * 9)
    names = np.array(["many"] * 100 + [f"one{i}" for i in range(9)])
    assert threshold(scores, names, 0.2) == 0.1
    assert threshold(scores, names, 0.1) == 0.9


@pytest.mark.parametrize(("alpha", "count"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.15, 6)])
def test_how_many_specimens_it_takes(alpha: float, count: int) -> None:
    assert fewest_specimens(alpha) == count
    names = np.arange(count).astype(str)
    assert threshold(np.ones(count), names, alpha) == 1
    assert threshold(np.ones(count - 1), names[1:], alpha) == math.inf


def test_patterns_with_too_few_specimens_share_the_threshold_of_all() -> None:
    names = np.array([f"s{i}" for i in range(12)])
    labels = np.array([0] * 9 + [1] * 3)
    shares = np.tile([0.6, 0.4], (12, 1))
    shares[9:] = [0.9, 0.1]  # the scarce pattern is missed
    limits, own = thresholds(shares, labels, names, 0.1)
    assert own.tolist() == [True, False]
    assert limits == pytest.approx([0.4, 0.9])
    inside = prediction_sets(np.array([[0.65, 0.35], [0.05, 0.95], [0.4, 0.4]]), limits)
    assert inside.tolist() == [[True, True], [False, True], [False, True]]
    assert not prediction_sets(np.array([[0.3, 0.05]]), limits).any(), "a set may be empty"
