"""Temperature scaling."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from hep2.calls.temperature import HOTTEST, learned_temperature, tempered
from hep2.metrics import calibration_error


def drawn(cells: int, classes: int = 4, seed: int = 0, sharpness: float = 1.0):
    """Labels drawn from true probabilities, and a classifier that is too sure by `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (cells, classes))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (truth.cumsum(axis=1) < rng.random((cells, 1))).sum(axis=1)
    said = np.exp(logits * sharpness)
    return labels, said / said.sum(axis=1, keepdims=True), truth


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_it_finds_by_how_much_a_classifier_is_too_sure(sharpness: float) -> None:
    labels, said, truth = drawn(20_000, sharpness=sharpness)
    specimens = (np.arange(20_000) % 200).astype(str)
    temperature = learned_temperature(said, labels, specimens)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    scaled = tempered(said, temperature)
    assert np.allclose(scaled, truth, atol=0.02)
    assert calibration_error(labels, scaled.argmax(axis=1), scaled) < 0.02


def test_it_is_the_softmax_of_logits_divided() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (50, 5))

    def softmax(scores):
        shares = np.exp(scores)
        return shares / shares.sum(axis=1, keepdims=True)

    assert np.allclose(tempered(softmax(logits), 2.5), softmax(logits / 2.5), atol=1e-12)
    assert np.allclose(tempered(softmax(logits), 1), softmax(logits), atol=1e-12)


def test_certainty_is_bounded_and_the_first_pattern_stays() -> None:
    certain = np.array([[1.0, 0, 0], [0.2, 0.5, 0.3], [0, 0.4, 0.6]])
    for temperature in (1 / HOTTEST, 0.5, 1, 3, HOTTEST):
        scaled = tempered(certain, temperature)
        assert np.isfinite(np.log(np.clip(scaled, 1e-300, 1))).all()
        assert scaled.argmax(axis=1).tolist() == [0, 1, 2]
        assert np.allclose(scaled.sum(axis=1), 1)
    assert 0.5 < tempered(certain, HOTTEST)[0, 0] < 0.8


def test_specimens_count_alike_however_many_cells_they_have() -> None:
    labels, said, _ = drawn(400, sharpness=2.0)
    specimens = np.array([f"s{cell % 20}" for cell in range(400)])
    again = np.concatenate([np.arange(400), np.repeat(np.flatnonzero(specimens == "s3"), 50)])
    found = learned_temperature(said[again], labels[again], specimens[again])
    assert found == learned_temperature(said, labels, specimens) != 1


def test_what_is_always_right_or_wrong_is_held_within_bounds() -> None:
    said = np.tile([0.7, 0.2, 0.1], (30, 1))
    specimens = np.repeat(["a", "b", "c"], 10)
    right = learned_temperature(said, np.zeros(30, int), specimens)
    wrong = learned_temperature(said, np.full(30, 2), specimens)
    assert 1 / HOTTEST <= right < 0.06 and HOTTEST * 0.9 < wrong <= HOTTEST


def odd(specimens: int, sharpness: float, seed: int, cells: int = 20):
    """Cells of specimens that are each easy or hard as a whole, and which they are of."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 3, specimens), cells)
    ease = np.repeat(rng.normal(1.2, 1.2, specimens), cells)
    logits = rng.normal(0, 1, (len(labels), 3)) + ease[:, None] * np.eye(3)[labels]
    shares = np.exp(sharpness * logits)
    names = np.repeat([f"s{one:03d}" for one in range(specimens)], cells)
    return shares / shares.sum(axis=1, keepdims=True), labels, names


def jackknife(shares, labels, names):
    """Log of the best temperature, by scipy, and its variance over specimens."""

    def best(kept):
        def loss(log):
            of = -np.log(tempered(shares[kept], np.exp(log))[np.arange(kept.sum()), labels[kept]])
            return np.mean([of[names[kept] == name].mean() for name in np.unique(names[kept])])

        return minimize_scalar(loss, bounds=(-3, 3), method="bounded").x

    without = np.array([best(names != name) for name in np.unique(names)])
    return best(names == names), (len(without) - 1) * without.var()


@pytest.mark.parametrize("sharpness", [0.5, 0.85, 1.0, 2.5])
def test_it_is_drawn_towards_1_as_far_as_the_specimens_leave_it_open(sharpness: float) -> None:
    known = odd(20, sharpness, seed=3)
    best, variance = jackknife(*known)
    expected = np.exp(best * max(0, 1 - variance / best**2))
    assert learned_temperature(*known) == pytest.approx(expected, rel=0.03)


def test_specimens_that_cannot_tell_it_from_1_leave_1() -> None:
    """Of one draw after another, with the same truth: within an error of 1 it is 1, or far off."""
    found = np.array([learned_temperature(*odd(12, 0.9, seed)) for seed in range(20)])
    errors = [jackknife(*odd(12, 0.9, seed)) for seed in (0, 1)]
    assert 5 < (found == 1).sum() < 20
    for one, (best, variance) in zip(found, errors, strict=False):
        assert (one == 1) == (abs(best) <= np.sqrt(variance))
    few, many = (learned_temperature(*odd(count, 0.5, seed=0)) for count in (10, 300))
    assert few == 1 and 0.6 < many < 0.9, "hundreds of specimens tell"
