"""Intervals cover what they say they cover, and agree with published and independent numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xiqa.metrics.paired import holm, paired_comparisons
from xiqa.metrics.statistics import bootstrap_ci, root_mean, wilson_interval


def test_bootstrap_interval_of_a_mean_is_the_normal_one_in_large_samples():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_ci(values, draws=4000)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_bootstrap_interval_covers_the_truth_as_often_as_stated():
    rng = np.random.default_rng(1)
    covered = []
    for seed in range(300):
        low, high = bootstrap_ci(rng.normal(0, 1, 40), draws=400, seed=seed)
        covered.append(low <= 0 <= high)
    assert 0.89 <= np.mean(covered) <= 0.985  # 95 % in the limit, a little less with 40 values


def test_values_of_one_group_are_drawn_together():
    rng = np.random.default_rng(2)
    patients = rng.normal(0, 1, 30)
    values, groups = np.repeat(patients, 20), np.repeat(np.arange(30), 20)
    alone, single = bootstrap_ci(patients), bootstrap_ci(values)
    grouped = bootstrap_ci(values, groups)
    assert grouped == pytest.approx(alone, abs=0.05)
    assert np.diff(single)[0] < 0.4 * np.diff(grouped)[0]


def test_any_statistic_can_be_resampled():
    errors = np.random.default_rng(3).normal(0, 0.5, 300)
    low, high = bootstrap_ci(errors**2, statistic=root_mean)
    assert low < np.sqrt(np.mean(errors**2)) < high
    # Standard error of a standard deviation: sd / sqrt(2 n).
    assert (high - low) / (2 * 1.96) == pytest.approx(0.5 / np.sqrt(600), rel=0.15)


def test_intervals_repeat_by_seed_and_need_two_values():
    values = np.arange(10.0)
    assert bootstrap_ci(values, seed=4) == bootstrap_ci(values, seed=4) != bootstrap_ci(values, seed=5)
    assert np.isnan(bootstrap_ci(np.array([1.0]))).all()
    assert np.isnan(bootstrap_ci(np.ones(4), groups=["a"] * 4)).all()


@pytest.mark.parametrize("values", [[1.0, np.nan], [[1.0, 2.0]]])
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="expected \\(n,\\) finite"):
        bootstrap_ci(np.array(values))


def test_groups_must_fit():
    with pytest.raises(ValueError, match="found 2 entries, expected 3"):
        bootstrap_ci(np.ones(3), groups=["a", "b"])


# Newcombe, Stat. Med. 17 (1998) 857, table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_is_symmetric_and_stays_inside():
    low, high = wilson_interval(7, 9)
    assert wilson_interval(2, 9) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(0, 5)[0] == 0
    assert wilson_interval(5, 5)[1] == 1
    assert wilson_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="6 successes of 5"):
        wilson_interval(6, 5)


def test_holm_by_hand():
    # 0.01·4, then 0.02·3, 0.03·2 and 0.04·1 pulled up to the one before.
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_pairs_are_compared_on_the_images_that_both_have():
    rng = np.random.default_rng(0)
    base = rng.normal(size=30)
    scores = pd.DataFrame({"a": base + 1, "b": base + rng.normal(0, 0.3, 30), "c": base + 1})
    scores.loc[:4, "b"] = np.nan
    table = paired_comparisons(scores).set_index(["first", "second"])
    assert table.loc[("a", "b"), "n"] == 25
    expected = stats.wilcoxon(scores["a"][5:], scores["b"][5:]).pvalue
    assert table.loc[("a", "b"), "p_value"] == pytest.approx(expected)
    assert table.loc[("a", "b"), "p_holm"] == pytest.approx(3 * expected)
    assert table.loc[("a", "c"), "p_holm"] == 1  # never any difference
    assert table.loc[("a", "b"), "median_difference"] == pytest.approx(1, abs=0.3)
