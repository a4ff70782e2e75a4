"""The calls of specimens from the probabilities of their cells."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from hep2 import metrics
from hep2.calls import answer
from hep2.calls.answer import call, cells_needed, steadiness
from hep2.calls.calibration import Calibration, Limits, at_alpha
from hep2.calls.figures import calls, calls_record, curve_record
from hep2.calls.specimens import LearnedRule, Specimens, patterns_of, wilson
from hep2.errors import HEp2Error

LIMITS = Limits(0.1, np.array([0.5, 0.5, 0.5]), np.array([0.5, 0.5, 0.5]), np.zeros(3, bool))
KNOWN = Calibration(1.0, "in a test", 20, 400, (LIMITS,), second_share=0.25, fewest_cells=4)


def cells(*patterns: int, sure: float = 0.8, classes: int = 3):
    """A cell for each pattern, as sure of it."""
    shares = np.full((len(patterns), classes), (1 - sure) / (classes - 1))
    shares[np.arange(len(patterns)), list(patterns)] = sure
    return shares


def test_rules_agree_with_the_metrics_of_a_run() -> None:
    rng = np.random.default_rng(0)
    names = rng.choice([f"s{i}" for i in range(30)], 300)
    targets = rng.integers(0, 4, 300)
    shares = np.round(rng.dirichlet(np.ones(4), 300), 1) + 0.1  # ties
    shares /= shares.sum(axis=1, keepdims=True)
    known, truth = Specimens.of(names, shares), patterns_of(names, targets, 4)
    found = [(known.by_vote() == truth).mean(), (known.by_mean() == truth).mean()]
    outputs = shares.argmax(axis=1)
    assert found == pytest.approx(metrics.specimen_accuracy(names, targets, outputs, shares))
    assert known.cells.sum() == 300
    own = names == known.names[7]
    assert known.means[7] == pytest.approx(shares[own].mean(axis=0))
    assert known.spreads[7] == pytest.approx(shares[own].std(axis=0))


def test_the_learned_rule_sees_what_mean_and_vote_do_not() -> None:
    """Specimens of pattern 1 have a third of sure cells; the means alone name pattern 0."""
    rng = np.random.default_rng(0)
    rows, names, patterns = [], [], []
    for number in range(40):
        pattern = number % 2
        sure = cells(*[1] * 5, *[0] * 10, sure=0.97) if pattern else cells(*[0] * 15, sure=0.75)
        rows.append(np.clip(sure + rng.normal(0, 0.01, sure.shape), 0.001, 1))
        names += [f"s{number:02d}"] * 15
        patterns.append(pattern)
    known, truth = Specimens.of(np.array(names), np.concatenate(rows)), np.array(patterns)
    assert (known.by_mean() == truth).mean() == (known.by_vote() == truth).mean() == 0.5
    half = np.arange(600) < 300
    first, second = (
        Specimens.of(np.array(names)[own], np.concatenate(rows)[own]) for own in (half, ~half)
    )
    assert (LearnedRule(first, truth[:20])(second) == truth[20:]).all()
    assert LearnedRule(first, np.full(20, 2))(second).tolist() == [2] * 20


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (3, 10), (10, 10), (37, 60)])
def test_intervals_are_wilson_s(hits: int, count: int) -> None:
    low, high = wilson(np.array([hits / count]), count)
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert [low[0], high[0]] == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_one_pattern_that_is_sure_is_said() -> None:
    found = call(cells(0, 0, 0, 0, 0, 0, 0, 0, 0, 2), KNOWN)
    assert (found.pattern, found.second, found.members, found.reason) == (0, None, (0,), "")
    assert found.said and found.cells == 10
    assert found.shares == pytest.approx([0.9, 0, 0.1])
    assert found.probability == pytest.approx(0.9 * 0.8 + 0.1 * 0.1)
    assert found.lows[0] < 0.9 < found.highs[0] < 1


@pytest.mark.parametrize(
    ("shares", "unlike", "reason"),
    [
        (cells(0, 0, 0), 0, answer.TOO_FEW),
        (cells(*[0] * 9), 5, answer.UNLIKE),
        (cells(*[0] * 9), 4, ""),
        (cells(*[0] * 6, *[2] * 3, sure=0.99), 0, answer.MIXED),
        (cells(*[0] * 10, sure=0.45), 0, answer.UNSURE),  # an empty set
        (cells(*[0] * 3, *[2] * 2, sure=0.5), 5, answer.UNLIKE),  # the first that holds
    ],
)
def test_why_nothing_is_said(shares, unlike: int, reason: str) -> None:
    strange = np.arange(len(shares)) < unlike
    found = call(shares, KNOWN, strange, unusable=2)
    assert (found.reason, found.unusable, found.unlike) == (reason, 2, unlike)
    assert found.said == (not reason)


def test_two_patterns_in_the_set_are_unsure() -> None:
    wide = replace(LIMITS, specimens=np.array([0.5, 0.7, 0.5]))
    shares = np.tile([0.6, 0.35, 0.05], (8, 1))
    known = replace(KNOWN, limits=(LIMITS, replace(wide, alpha=0.05)))
    found = call(shares, at_alpha(known, 0.05))
    assert (found.members, found.reason) == ((0, 1), answer.UNSURE)
    assert call(shares, KNOWN).members == (0,)


def test_an_alpha_that_was_not_learned_is_one_sentence() -> None:
    assert at_alpha(KNOWN, None) is KNOWN and at_alpha(KNOWN, 0.1) == KNOWN
    with pytest.raises(
        HEp2Error, match=r"alpha=0\.2: .* limits of 0\.1; .*stage\.calibration\.alpha"
    ):
        at_alpha(KNOWN, 0.2)
    with pytest.raises(HEp2Error, match="none: it was not calibrated"):
        at_alpha(None, 0.1)


def test_what_nobody_can_tell_is_not_called_none() -> None:
    """Without an autoencoder the number of unlike cells is not 0 but unknown."""
    assert call(cells(0, 0, 0, 0), KNOWN).unlike is None
    assert call(cells(), KNOWN).unlike is None
    assert call(cells(0, 0, 0, 0), KNOWN, np.zeros(4, bool)).unlike == 0


def test_the_record_of_a_run_holds_intervals_parts_and_the_curve() -> None:
    shares = np.vstack([cells(0, 0, 0, 1), cells(2, 2, 2, sure=0.9), cells(1, 1, sure=0.6)])
    names, targets = np.array([*"aaaabbbcc"]), np.array([0] * 4 + [2] * 3 + [0] * 2)
    patterns = ("x", "y", "z")
    record = calls_record(names, targets, shares, None, patterns)
    low, high = wilson(np.array([0.75]), 4)
    assert record[0]["intervals"]["x"] == pytest.approx([low[0], high[0]], abs=1e-6)
    assert record[0]["same_pattern"] == steadiness(shares[:4])
    assert [one.pattern for one in calls(names, shares, None).values()] == [0, 2, 1]
    # b (0.9) and a (0.625) are right, c (0.6), the least sure, is not.
    np.testing.assert_allclose(
        curve_record(record), [[1 / 3, 0], [2 / 3, 0], [1, 1 / 3]], atol=1e-6
    )


def test_the_second_pattern_is_named_from_its_share_on() -> None:
    assert call(cells(0, 0, 0, 1), KNOWN).second == 1
    assert call(cells(0, 0, 0, 0, 1), KNOWN).second is None
    tied = call(np.vstack([cells(0, 0, 1), [[0, 1, 0]]]), KNOWN)
    assert (tied.pattern, tied.second) == (1, 0)


def test_without_a_calibration_the_first_pattern_is_said_and_no_set() -> None:
    found = call(cells(0, 1), None)
    assert (found.pattern, found.second, found.members, found.said) == (0, None, None, True)


def test_no_cell_is_no_answer() -> None:
    found = call(np.empty((0, 3)), KNOWN, np.empty(0, bool), unusable=3)
    assert (found.pattern, found.reason, found.unusable) == (None, answer.NO_CELLS, 3)
    assert found.highs.tolist() == [1, 1, 1]


def test_how_many_cells_were_needed() -> None:
    clear = cells(*[0] * 40)
    assert steadiness(clear) == {"half": 1, "quarter": 1, "tenth": 1}
    assert cells_needed(clear) == 4
    close = cells(*[0] * 22, *[1] * 18)
    assert cells_needed(close) == 40
    found = steadiness(close, seed=1)
    assert found == steadiness(close, seed=1) != steadiness(close, seed=2)

    exact = 1 - hypergeom.cdf(9, 40, 22, 20)
    assert found["half"] == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / 50))
    assert cells_needed(cells(0)) == 1
