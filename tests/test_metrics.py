import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from hep2 import metrics


def draw(seed, cells, classes, present=None):
    """Random targets over the first `present` classes, outputs over all, and probabilities."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, present or classes, cells)
    probabilities = rng.dirichlet(np.ones(classes), cells)
    probabilities = np.round(probabilities, 2)  # ties
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return targets, probabilities.argmax(axis=1), probabilities


cases = st.builds(
    draw,
    seed=st.integers(0, 2**32 - 1),
    cells=st.integers(1, 60),
    classes=st.just(6),
    present=st.integers(1, 6),
)


@settings(max_examples=150, deadline=None)
@given(cases)
def test_counts_agree_with_scikit_learn(case):
    targets, outputs, _ = case
    confusion = metrics.confusion_counts(targets, outputs, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes absent from the targets
        assert np.array_equal(
            confusion.T, reference.confusion_matrix(targets, outputs, labels=range(6))
        )
        expected = {
            "aca": reference.accuracy_score(targets, outputs),
            "mca": reference.balanced_accuracy_score(targets, outputs),
            "macro_f1": reference.f1_score(targets, outputs, average="macro"),
            "kappa": reference.cohen_kappa_score(targets, outputs),
        }
    for name, value in expected.items():
        assert float(getattr(metrics, name)(confusion)) == pytest.approx(value, nan_ok=True), name
    recalls = metrics.recalls(confusion)
    for c in range(6):
        here = targets == c
        expected_recall = (outputs[here] == c).mean() if here.any() else np.nan
        assert recalls[c] == pytest.approx(expected_recall, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(cases)
def test_auroc_agrees_with_scikit_learn(case):
    targets, _, probabilities = case
    areas = [
        reference.roc_auc_score(targets == c, probabilities[:, c])
        for c in range(6)
        if 0 < (targets == c).sum() < len(targets)
    ]
    expected = np.mean(areas) if areas else np.nan
    assert metrics.auroc(targets, probabilities) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(cases)
def test_calibration_error_is_guos_sum_over_bins(case):
    targets, outputs, probabilities = case
    confidence = probabilities.max(axis=1)
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = (outputs == targets)[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert metrics.calibration_error(targets, outputs, probabilities) == pytest.approx(expected)


def test_calibration_of_a_certain_classifier_is_its_error_rate():
    targets, outputs = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    assert metrics.calibration_error(targets, outputs, np.eye(2)[outputs]) == pytest.approx(0.25)
    half = np.full((4, 2), 0.5)
    assert metrics.calibration_error(targets, outputs, half) == pytest.approx(0.25)


def test_confusion_rows_are_outputs_and_columns_targets():
    confusion = metrics.confusion_counts(np.array([0, 0, 1]), np.array([0, 2, 1]), 3)
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_leading_dimensions_are_independent_matrices():
    stack = np.random.default_rng(0).integers(0, 9, (4, 3, 5, 5)).astype(float)
    for statistic in (metrics.aca, metrics.mca, metrics.macro_f1, metrics.kappa):
        every = statistic(stack)
        assert every.shape == (4, 3)
        assert every[2, 1] == pytest.approx(float(statistic(stack[2, 1])))


def test_a_class_absent_from_the_targets_is_no_part_of_the_mean():
    confusion = metrics.confusion_counts(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 3)
    assert metrics.mca(confusion) == pytest.approx(0.75)
    assert metrics.macro_f1(confusion) == pytest.approx((2 / 3 + 1 + 0) / 3)  # output 2 counts
    assert np.isnan(metrics.recalls(confusion)[2])


def test_a_single_class_and_no_cells_are_not_a_number_where_nothing_is_defined():
    one = metrics.summarise(np.array([1]), np.array([1]), np.array([[0.1, 0.9]]), 2)
    assert (one["aca"], one["mca"], one["macro_f1"]) == (1, 1, 1)
    assert np.isnan(one["kappa"]) and np.isnan(one["auroc"])
    assert one["ece"] == pytest.approx(0.1)
    none = np.array([], dtype=np.int64)
    empty = metrics.summarise(none, none, np.empty((0, 3)), 3)
    assert all(np.isnan(value) for value in empty.values())


def test_calibration_bins_are_open_below_and_closed_above():
    """Of four bins; what rounding has put above 1 is of the last one."""
    confidence = np.array([0.0, 0.25, 0.3, 0.75, 0.8, 1.0, 1 + 1e-7])
    hits = np.array([True, True, False, True, True, True, False])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    outputs = np.zeros(7, np.int64)
    error = metrics.calibration_error(np.where(hits, 0, 1), outputs, probabilities, bins=4)
    # Signs alternate, so that no two bins can be taken together.
    gaps = [(0.0 - 1) + (0.25 - 1), 0.3, 0.75 - 1, (0.8 - 1) + (1.0 - 1) + 1.0]
    assert error == pytest.approx(np.abs(gaps).sum() / 7)


def test_specimen_calls_by_majority_and_by_mean_probability_by_hand():
    specimens = np.array(["a", "a", "a", "b", "b", "c", "c"])
    targets = np.array([0, 0, 0, 1, 1, 1, 1])
    probabilities = np.array(
        [
            [0.6, 0.4],  # a: two of three votes for 0; mean probability 0.43: class 1
            [0.6, 0.4],
            [0.1, 0.9],
            [0.6, 0.4],  # b: one vote each; mean probability 0.35: class 1 by both
            [0.1, 0.9],
            [0.9, 0.1],  # c: wrong by both
            [0.8, 0.2],
        ]
    )
    outputs = probabilities.argmax(axis=1)
    majority, mean = metrics.specimen_accuracy(specimens, targets, outputs, probabilities)
    assert majority == pytest.approx(2 / 3)
    assert mean == pytest.approx(1 / 3)
    figures = metrics.summarise(targets, outputs, probabilities, 2, specimens)
    assert figures["specimen_majority"] == majority
    assert figures["specimen_mean_probability"] == mean
    of_cells = metrics.summarise(targets, outputs, probabilities, 2)
    assert figures == of_cells | {"specimen_majority": majority, "specimen_mean_probability": mean}


def test_a_mixed_specimen_counts_as_its_most_frequent_target():
    majority, _ = metrics.specimen_accuracy(
        np.array(["a"] * 3), np.array([1, 1, 0]), np.array([1, 1, 1]), np.eye(2)[[1, 1, 1]]
    )
    assert majority == 1


def test_every_specimen_has_a_target_of_its_own():
    targets = np.array([0, 0, 1, 1])
    specimens = np.array(["a", "a", "b", "b"])
    assert metrics.specimen_accuracy(specimens, targets, targets, np.eye(2)[targets]) == (1, 1)


def test_figures_of_groups_are_those_of_their_cells_alone():
    groups = np.array(["positive", "", "intermediate", "positive", "intermediate", "positive"])
    targets, outputs = np.array([0, 1, 1, 0, 0, 1]), np.array([0, 0, 1, 1, 0, 1])
    assert metrics.by_group(groups, targets, outputs, 3) == {
        "intermediate": {"cells": 2, "aca": 1.0, "mca": 1.0},
        "positive": {"cells": 3, "aca": 2 / 3, "mca": 0.75},
    }
    assert metrics.by_group(np.full(6, ""), targets, outputs, 3) == {}
