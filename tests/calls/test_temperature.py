"""Temperature scaling."""

import numpy as np
import pytest

from hep2.calls.temperature import HOTTEST, best_temperature, tempered
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
    specimens = np.arange(20_000).astype(str)
    temperature = best_temperature(said, labels, specimens)
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
    found = best_temperature(said[again], labels[again], specimens[again])
    assert found == pytest.approx(best_temperature(said, labels, specimens), rel=1e-6)


def test_what_is_always_right_or_wrong_is_held_within_bounds() -> None:
    said = np.tile([0.7, 0.2, 0.1], (30, 1))
    specimens = np.repeat(["a", "b", "c"], 10)
    right = best_temperature(said, np.zeros(30, int), specimens)
    wrong = best_temperature(said, np.full(30, 2), specimens)
    assert 1 / HOTTEST <= right < 0.06 and HOTTEST * 0.9 < wrong <= HOTTEST
