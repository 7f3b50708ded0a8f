"""Intervals cover what they say they cover, and agree with published and independent numbers."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from xiqa.metrics.paired import corrected_p, smallest_p
from xiqa.metrics.statistics import (
    difference_interval,
    interval,
    interval_of_estimate,
    jackknife,
    median_interval,
    proportion_interval,
    rmse_interval,
)


def test_interval_of_a_mean_is_the_normal_one_in_large_samples():
    values = np.random.default_rng(0).normal(3, 2, 400)
    half = 1.96 * values.std() / 20
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_interval_is_students_widened_on_the_side_of_the_longer_tail():
    values = np.array([0.0, 1, 1, 2, 3, 9, 12])
    low, high = interval(values)
    t_low, t_high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    few = 1 + 2.5 / 7
    assert values.mean() - low == pytest.approx(few * (values.mean() - t_low))
    skewness = stats.skew(values, bias=False)
    assert high - values.mean() == pytest.approx(
        few * (1 + (0.74 + 30 / 7) * skewness / np.sqrt(7)) * (t_high - values.mean())
    )
    assert interval(-values) == pytest.approx((-high, -low))


# Further distributions and numbers of patients: tests/benchmarks/interval_coverage.py.
DISTRIBUTIONS = {
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0, None),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1, None),
    "log-normal": (lambda rng, n: rng.lognormal(0, 1, n), np.exp(0.5), None),
    "near 1": (lambda rng, n: rng.beta(8, 1, n), 8 / 9, (0, 1)),
    "near 0": (lambda rng, n: rng.beta(0.5, 3, n), 1 / 7, (0, 1)),
    "hits, rare": (lambda rng, n: rng.binomial(1, 0.05, n), 0.05, None),
    "hits, frequent": (lambda rng, n: rng.binomial(1, 0.8, n), 0.8, None),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("patients", [6, 11])
def test_interval_covers_the_truth_as_often_as_stated(name, patients):
    rng, (draw, truth, bounds) = np.random.default_rng(1), DISTRIBUTIONS[name]
    found = [interval(draw(rng, patients), bounds=bounds) for _ in range(500)]
    assert np.mean([low <= truth <= high for low, high in found]) >= 0.93


@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(1, 1, n), lambda rng, n: rng.exponential(1, n)])
def test_interval_covers_where_patients_have_unequal_numbers_of_images(draw):
    rng, covered = np.random.default_rng(2), []
    for _ in range(400):
        patients = np.repeat(np.arange(7), rng.integers(1, 11, 7))
        low, high = interval(draw(rng, 7)[patients] + rng.normal(0, 0.3, len(patients)), patients)
        covered.append(low <= 1 <= high)
    assert np.mean(covered) >= 0.93


def test_values_of_one_group_count_as_one_patient():
    rng = np.random.default_rng(2)
    patients = rng.normal(0, 1, 30)
    values, groups = np.repeat(patients, 20), np.repeat(np.arange(30), 20)
    alone, single = interval(patients), interval(values)
    grouped = interval(values, groups)
    assert grouped == pytest.approx(alone)
    assert np.diff(single)[0] < 0.4 * np.diff(grouped)[0]


def test_interval_of_an_rmse():
    errors = np.random.default_rng(3).normal(0, 0.5, 300)
    low, high = rmse_interval(errors**2)
    assert low < np.sqrt(np.mean(errors**2)) < high
    # Standard error of a standard deviation: sd / sqrt(2 n).
    assert (high - low) / (2 * 1.96) == pytest.approx(0.5 / np.sqrt(600), rel=0.15)


def test_fewer_than_six_patients_have_no_interval():
    for few in (0, 1, 2, 5):
        assert np.isnan(interval(np.arange(float(few)))).all()
        assert np.isnan(median_interval(np.arange(float(few)))).all()
        assert np.isnan(interval_of_estimate(0.0, np.arange(float(few)))).all()
    assert np.isnan(interval(np.arange(40.0), np.arange(40) % 5)).all()
    assert np.isfinite(interval(np.arange(40.0), np.arange(40) % 6)).all()


@pytest.mark.parametrize("values", [[1.0, np.nan], [[1.0, 2.0]]])
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="expected \\(n,\\) finite"):
        interval(np.array(values))


def test_groups_must_fit():
    with pytest.raises(ValueError, match="found 2 entries, expected 3"):
        interval(np.ones(3), groups=["a", "b"])


def test_jackknife_of_a_mean_gives_the_patients_means():
    values, patients = np.random.default_rng(4).normal(0, 1, (8, 3)), np.repeat(np.arange(8), 3)
    whole, pseudo = jackknife(lambda w: (w @ values.ravel() / w.sum(1))[:, None], patients)
    assert whole[0] == pytest.approx(values.mean())
    np.testing.assert_allclose(pseudo[:, 0], values.mean(1))
    assert interval_of_estimate(whole[0], pseudo[:, 0]) == pytest.approx(interval(values.ravel(), patients))


def test_hits_of_single_images_have_the_exact_interval():
    for hits, n in ((0, 6), (6, 6), (9, 11), (1, 20)):
        exact = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert interval(np.arange(n) < hits) == pytest.approx((exact.low, exact.high))
        assert interval(np.arange(n) < hits, np.arange(n), bounds=(0, 1)) == pytest.approx((exact.low, exact.high))
    assert interval(np.arange(12) < 9) == pytest.approx((0.428, 0.945), abs=1e-3)  # not nearly all from 0 to 1
    assert interval(np.ones(6)) == pytest.approx((stats.beta.ppf(0.025, 6, 1), 1))


def test_interval_of_a_median_is_exact():
    assert median_interval([6.0, 5, 4, 3, 2, 1]) == (1, 6)  # the median lies outside with probability 2 / 2^6
    for n in range(6, 60):
        low, high = median_interval(np.arange(1.0, n + 1))
        outside = stats.binom.cdf(low - 1, n, 0.5)
        assert outside <= 0.025 < stats.binom.cdf(low, n, 0.5)
        assert low + high == n + 1


def test_interval_of_a_difference_of_equal_normal_means():
    assert difference_interval((5, 4, 6), (2, 1, 3)) == pytest.approx((3 - np.sqrt(2), 3 + np.sqrt(2)))


# Newcombe, Stat. Med. 17 (1998) 857, table I, method 5.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_proportion_interval_as_published(successes, n, low, high):
    assert proportion_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_proportion_interval_is_symmetric_and_stays_inside():
    low, high = proportion_interval(7, 9)
    assert proportion_interval(2, 9) == pytest.approx((1 - high, 1 - low))
    assert proportion_interval(0, 5)[0] == 0
    assert proportion_interval(5, 5)[1] == 1
    assert proportion_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="6 successes of 5"):
        proportion_interval(6, 5)


# The corrected test


def test_one_hypothesis_is_fishers_test_of_signs():
    differences = np.array([0.5, 1.5, -0.2, 2.0, 0.7, 0.1, 0.9])
    signs = np.array(list(product((1, -1), repeat=7)))
    expected = np.mean(signs @ differences >= differences.sum() - 1e-12)
    assert corrected_p(differences[:, None])[0] == pytest.approx(expected)
    assert corrected_p(-differences[:, None])[0] == pytest.approx(np.mean(signs @ differences >= -differences.sum()))
    assert corrected_p(np.ones((7, 1)))[0] == smallest_p(7) == 1 / 2**7


def test_correction_by_plain_loops_over_all_signs():
    rng = np.random.default_rng(5)
    differences = rng.normal(0.6, 1, (7, 4))
    scaled = differences / np.sqrt((differences**2).sum(0))
    observed, order = scaled.sum(0), np.argsort(-scaled.sum(0))
    expected, least = np.empty(4), 0.0
    for place, hypothesis in enumerate(order):
        rest = order[place:]
        exceed = [max(signs @ scaled[:, rest]) >= observed[hypothesis] - 1e-12 for signs in product((1, -1), repeat=7)]
        least = max(least, np.mean(exceed))
        expected[hypothesis] = least
    np.testing.assert_allclose(corrected_p(differences), expected)


def test_equal_hypotheses_cost_nothing_and_missing_patients_say_nothing():
    differences = np.random.default_rng(6).normal(0.8, 1, (9, 1))
    np.testing.assert_allclose(corrected_p(np.tile(differences, 5)), corrected_p(differences)[0])
    gaps = np.vstack([differences, np.full((3, 1), np.nan)])
    np.testing.assert_allclose(corrected_p(gaps), corrected_p(differences))
    few = np.column_stack([np.r_[np.ones(6), np.full(14, np.nan)], np.ones(20)])
    np.testing.assert_allclose(corrected_p(few), [2 / 2**6, 2e-4])  # two families, each p-value times two
    assert corrected_p(np.zeros((8, 2))).tolist() == [1, 1]


@pytest.mark.parametrize("patients", [6, 11])
def test_false_positives_of_many_hypotheses_stay_below_five_percent(patients):
    rng, some = np.random.default_rng(7), []
    for _ in range(150):
        differences = rng.normal(0, 1, (patients, 1)) + rng.standard_t(3, (patients, 12))
        differences[:, :3] += 3  # true differences: a partial null
        some.append((corrected_p(differences)[3:] < 0.05).any())
    assert np.mean(some) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)
