import time

import numpy as np
import pytest
from scipy import stats

from hep2 import metrics
from hep2.evaluation import statistics


def simulated(seed, specimens=40, classes=5, cells=47, accuracy=0.85, spread=0.2):
    """One confusion matrix a specimen; beta-binomial hits, misses go to the next class."""
    rng = np.random.default_rng(seed)
    pattern = np.arange(specimens) % classes
    scale = (1 - spread) / spread
    rate = rng.beta(accuracy * scale, (1 - accuracy) * scale, specimens)
    hits = rng.binomial(cells, rate)
    confusions = np.zeros((specimens, classes, classes))
    confusions[np.arange(specimens), pattern, pattern] = hits
    confusions[np.arange(specimens), (pattern + 1) % classes, pattern] = cells - hits
    return confusions


def stratified_error(values, strata):
    """Standard error of the mean of values whose stratum is their index modulo `strata`."""
    parts = [values[stratum::strata] for stratum in range(strata)]
    return np.sqrt(sum(np.var(part, ddof=1) * len(part) for part in parts)) / len(values)


def test_specimen_confusions_are_the_parts_of_the_whole():
    rng = np.random.default_rng(1)
    specimens = rng.choice(["b", "a", "c"], 200)
    targets, outputs = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    names, confusions = statistics.specimen_confusions(specimens, targets, outputs, 4)
    assert names.tolist() == ["a", "b", "c"]
    for name, confusion in zip(names, confusions, strict=True):
        here = specimens == name
        expected = metrics.confusion_counts(targets[here], outputs[here], 4)
        assert np.array_equal(confusion, expected)
    _, halves = statistics.specimen_confusions(specimens, targets, outputs, 4, np.full(200, 0.5))
    assert np.array_equal(halves * 2, confusions)
    _, (one,) = statistics.specimen_confusions(np.array(["a"]), np.array([0]), np.array([0]), 3)
    assert one.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_standard_error_of_aca_is_the_stratified_mean_s():
    """Equal cells a specimen: ACA is a stratified mean, whose error has a closed form."""
    confusions = simulated(3, specimens=20)
    shares = np.trace(confusions, axis1=1, axis2=2) / 47
    expected = stratified_error(shares, 5)
    drawn = statistics._resample([confusions], metrics.aca, 10, seed=0)
    assert drawn.error == pytest.approx(expected, rel=1e-6)
    mca = statistics._resample([confusions], metrics.mca, 10, seed=0)
    assert mca.error == pytest.approx(expected, rel=1e-6)  # equal classes: the same mean


def test_resamples_keep_the_number_of_specimens_a_pattern():
    confusions = simulated(0, specimens=23)
    patterns = statistics.specimen_patterns(confusions)
    weights = statistics._draw(patterns, 50, np.random.default_rng(0))
    for pattern in range(5):
        members = patterns == pattern
        assert (weights[:, members].sum(axis=1) == members.sum()).all()


def test_interval_of_normal_like_data_is_student_s():
    """Many equal specimens of one pattern, mid-range accuracy: the interval of the mean."""
    confusions = simulated(5, specimens=400, classes=2, cells=200, accuracy=0.5, spread=0.02)
    shares = np.trace(confusions, axis1=1, axis2=2) / 200
    error = stratified_error(shares, 2)
    interval = statistics.specimen_interval(confusions, metrics.aca, resamples=4000)
    assert interval.estimate == pytest.approx(shares.mean())
    assert interval.low == pytest.approx(stats.norm.ppf(0.025, shares.mean(), error), abs=6e-4)
    assert interval.high == pytest.approx(stats.norm.ppf(0.975, shares.mean(), error), abs=6e-4)


def test_interval_is_the_symmetric_bootstrap_t_on_the_logit_scale():
    """Written out resample by resample, with the closed form of the error of a stratified mean."""
    confusions = simulated(9, specimens=20, accuracy=0.8, spread=0.15)
    shares = np.trace(confusions, axis1=1, axis2=2) / 47
    patterns = statistics.specimen_patterns(confusions)
    weights = statistics._draw(patterns, 100, np.random.default_rng(4)).astype(int)
    here, scale = np.log(shares.mean() / (1 - shares.mean())), []
    for drawn in weights:
        parts = [np.repeat(shares[c::5], drawn[c::5]) for c in range(5)]
        mean = np.concatenate(parts).mean()
        error = np.sqrt(sum(np.var(part, ddof=1) * len(part) for part in parts)) / 20
        scale.append(abs(np.log(mean / (1 - mean)) - here) / (error / (mean * (1 - mean))))
    error = stratified_error(shares, 5) / (shares.mean() * (1 - shares.mean()))
    reach = np.sort(scale)[95] * error  # the smallest of 100 with at least 95 % at or below it
    interval = statistics.specimen_interval(confusions, metrics.aca, resamples=100, seed=4)
    assert interval.low == pytest.approx(1 / (1 + np.exp(reach - here)), rel=1e-5)
    assert interval.high == pytest.approx(1 / (1 + np.exp(-reach - here)), rel=1e-5)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(150):
        interval = statistics.specimen_interval(simulated(seed), metrics.mca, resamples=300)
        hits += interval.low <= 0.85 <= interval.high
    assert 0.90 <= hits / 150 <= 0.99  # binomial scatter; benchmarks/ has the exact figure


def test_interval_is_repeatable_and_quick():
    confusions = simulated(2, specimens=83, classes=6)
    start = time.perf_counter()
    first = statistics.specimen_interval(confusions, metrics.mca)
    assert time.perf_counter() - start < 5  # 0.1 s alone; other processes may share the machine
    assert first == statistics.specimen_interval(confusions, metrics.mca)
    assert first != statistics.specimen_interval(confusions, metrics.mca, seed=1)
    assert first.low < first.estimate < first.high


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_no_interval_without_any_error_or_any_hit(accuracy):
    confusions = np.zeros((10, 2, 2))
    confusions[:, 0 if accuracy else 1, 0] = 9
    interval = statistics.specimen_interval(confusions, metrics.aca)
    assert interval.estimate == accuracy
    assert np.isnan(interval.low) and np.isnan(interval.high)


def test_no_interval_where_all_specimens_are_alike():
    """Their spread is rounding, in which nothing can be read."""
    confusions = np.zeros((9, 3, 3))
    for pattern in range(3):
        confusions[pattern::3, pattern, pattern] = 7 / 3
        confusions[pattern::3, (pattern + 1) % 3, pattern] = 1 / 3
    for statistic in (metrics.aca, metrics.mca, metrics.macro_f1):
        interval = statistics.specimen_interval(confusions, statistic)
        assert 0 < interval.estimate < 1
        assert np.isnan(interval.low) and np.isnan(interval.high)


def test_interval_stands_resamples_without_any_error():
    """One specimen of ten has errors, and is in two of three resamples; hits mirror errors."""
    confusions = np.zeros((10, 2, 2))
    confusions[:, 0, 0] = 9
    confusions[0, :, 0] = 6, 3
    hits = statistics.specimen_interval(confusions, metrics.aca, level=0.5)
    errors = statistics.specimen_interval(confusions, lambda c: 1 - metrics.aca(c), level=0.5)
    assert hits.estimate == pytest.approx(87 / 90)
    assert 0 < hits.low < hits.estimate < hits.high < 1
    assert errors == pytest.approx((1 - hits.estimate, 1 - hits.high, 1 - hits.low))
    whole = statistics.specimen_interval(confusions, metrics.aca)  # too few tell of a spread
    assert (whole.low, whole.high) == (0, 1)


def test_an_endless_reach_ends_at_the_bounds():
    assert statistics._expit(np.array(-1e4)) == 0
    assert statistics._expit(np.array(1e4)) == 1


def test_no_interval_where_a_pattern_has_a_single_specimen():
    confusions = simulated(0, specimens=11)[[0, 5, 10, 1]]  # three of pattern 0, one of pattern 1
    interval = statistics.specimen_interval(confusions, metrics.mca)
    assert 0 < interval.estimate < 1
    assert np.isnan(interval.low) and np.isnan(interval.high)


def test_interval_stands_classes_that_no_specimen_has():
    confusions = simulated(4)
    padded = np.zeros((40, 7, 7))
    padded[:, :5, :5] = confusions
    for statistic in (metrics.mca, metrics.aca, metrics.macro_f1):
        assert statistics.specimen_interval(padded, statistic, 200) == pytest.approx(
            statistics.specimen_interval(confusions, statistic, 200)
        )


def test_difference_of_a_method_and_a_better_copy():
    first = simulated(6)
    second = first.copy()
    patterns = statistics.specimen_patterns(first)
    for specimen, pattern in enumerate(patterns):  # two to four hits fewer, where there are any
        lost = min(2 + specimen % 3, first[specimen, pattern, pattern])
        second[specimen, pattern, pattern] -= lost
        second[specimen, (pattern + 1) % 5, pattern] += lost
    difference = statistics.paired_difference(first, second, metrics.aca)
    assert difference.estimate == pytest.approx(
        float(metrics.aca(first.sum(0)) - metrics.aca(second.sum(0)))
    )
    assert 0 < difference.low < difference.estimate < difference.high
    alone = statistics.specimen_interval(first, metrics.aca)
    assert difference.high - difference.low < (alone.high - alone.low) / 10  # pairing pays
    swapped = statistics.paired_difference(second, first, metrics.aca)
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low))


def test_a_difference_ends_at_one():
    first, second = np.zeros((4, 2, 2)), np.zeros((4, 2, 2))
    for specimen, hits in enumerate([0, 1, 2, 9]):
        first[specimen, 0, 0] = 10
        second[specimen, :, 0] = hits, 10 - hits
    assert statistics.paired_difference(first, second, metrics.aca).high == 1
    assert statistics.paired_difference(second, first, metrics.aca).low == -1


def test_standard_error_of_a_difference_is_that_of_the_paired_shares():
    first, second = simulated(7), simulated(8)
    gain = (np.trace(first, axis1=1, axis2=2) - np.trace(second, axis1=1, axis2=2)) / 47
    expected = stratified_error(gain, 5)
    drawn = statistics._resample([first, second], metrics.aca, 10, seed=0)
    assert drawn.error == pytest.approx(expected, rel=1e-6)


def test_no_interval_of_a_difference_without_spread():
    first = simulated(6)
    same = statistics.paired_difference(first, first, metrics.mca)
    assert same.estimate == 0
    assert np.isnan(same.low) and np.isnan(same.high)


def test_pairs_must_be_on_the_same_cells():
    first = simulated(0)
    for other in (first[:-1], first * 2):
        with pytest.raises(ValueError, match="same target cells"):
            statistics.paired_difference(first, other, metrics.aca)
        with pytest.raises(ValueError, match="same target cells"):
            statistics.sign_test(first, other)


def test_sign_test_counts_specimens_and_drops_ties():
    first, second = np.zeros((9, 2, 2)), np.zeros((9, 2, 2))
    for specimen, (a, b) in enumerate([(9, 5)] * 7 + [(2, 8)] + [(4, 4)]):
        first[specimen, :, 0] = a, 10 - a
        second[specimen, :, 0] = b, 10 - b
    result = statistics.sign_test(first, second)
    assert (result.better, result.worse, result.equal) == (7, 1, 1)
    assert result.p == pytest.approx(2 * (1 + 8) / 2**8)
    assert statistics.sign_test(second, first).p == pytest.approx(result.p)
    assert statistics.sign_test(first, first) == (0, 0, 9, 1.0)
    nearly = first + 1e-12  # as averages over seeds may be
    nearly[0, 0, 0] += 1
    nearly[0, 1, 0] -= 1
    assert statistics.sign_test(nearly, first)[:3] == (1, 0, 8)
    halves = first.copy()  # one of two seeds named one cell more
    halves[:3, :, 0] += 0.5, -0.5
    assert statistics.sign_test(halves, first)[:3] == (3, 0, 6)
    assert statistics.sign_test(first, halves)[:3] == (0, 3, 6)


def test_draws_are_those_of_seed_0_unless_another_is_asked_for():
    first = simulated(0)
    for interval, given in (
        (statistics.specimen_interval, (first,)),
        (
            statistics.paired_difference,
            (first, first * 0.9 + 0.1 * first.sum(1, keepdims=True) / 5),
        ),
    ):
        drawn = [
            interval(*given, metrics.aca, resamples=50, **seed)
            for seed in ({}, {"seed": 0}, {"seed": 1})
        ]
        assert drawn[0] == drawn[1] != drawn[2]


def test_holm_by_hand_and_against_its_definition():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []
    p = np.random.default_rng(0).uniform(0, 0.3, 7)
    for level in (0.01, 0.05, 0.2):  # rejected by stepping down = adjusted p at most the level
        ordered, rejected = np.sort(p), 0
        while rejected < 7 and ordered[rejected] <= level / (7 - rejected):
            rejected += 1
        assert sum(a <= level for a in statistics.holm(p)) == rejected
