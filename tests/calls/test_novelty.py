"""Cells that an autoencoder cannot rebuild."""

import numpy as np
import pytest

from hep2.calls.unlike import is_unlike, novelty, unlike_of


def test_an_error_is_measured_by_those_of_the_other_specimens() -> None:
    errors = np.array([*np.linspace(0.01, 1.0, 100), *np.linspace(0.5, 3.0, 6), 0.7])
    names = np.array(["many"] * 100 + ["strange"] * 6 + ["one"])
    found = novelty(errors, names)
    assert found[100:106] == pytest.approx(
        errors[100:106] / np.percentile(errors[names != "strange"], 99)
    )
    assert found[106] == pytest.approx(0.7 / np.percentile(errors[:106], 99))
    assert is_unlike(found[names == "strange"]).sum() == 5, "all but 0.5, though it is their own"
    assert not is_unlike(found[names == "many"]).any()


def test_without_another_specimen_or_an_error_nothing_is_known() -> None:
    assert np.isnan(novelty(np.array([0.1, 0.2]), np.array(["a", "a"]))).all()
    assert np.isnan(novelty(np.zeros(2), np.array(["a", "b"]))).all()


def test_of_no_cells_none_is_unlike_and_of_cells_without_a_novelty_nobody_knows() -> None:
    assert unlike_of(np.array([])).tolist() == []
    assert unlike_of(np.array([np.nan, np.nan])) is None
    assert unlike_of(np.array([np.nan, 2.0, 1.0])).tolist() == [False, True, False]
