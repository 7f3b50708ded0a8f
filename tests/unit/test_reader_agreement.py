"""Coefficients of agreement against closed forms, published examples and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from xiqa.metrics.agreement import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha


def readings(table) -> tuple[np.ndarray, np.ndarray]:
    """Two readers with this table of answers."""
    pairs = [(i, j) for (i, j), n in np.ndenumerate(table) for _ in range(n)]
    return tuple(np.array(pairs).T)


def test_kappa_of_the_textbook():
    assert cohen_kappa(*readings(np.array([[20, 5], [10, 15]])), 2) == pytest.approx(0.4)


@pytest.mark.parametrize("quadratic", [False, True])
def test_kappa_is_scikit_learns_and_leaves_gaps_out(quadratic):
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 5, (2, 200)).astype(float)
    second = np.where(draw.random(200) < 0.6, first, second)
    theirs = cohen_kappa_score(first, second, weights="quadratic" if quadratic else None)
    assert cohen_kappa(first, second, 5, quadratic=quadratic) == pytest.approx(theirs, rel=1e-12)
    gaps = np.append(first, [np.nan, 3.0]), np.append(second, [1.0, np.nan])
    assert cohen_kappa(*gaps, 5, quadratic=quadratic) == pytest.approx(theirs, rel=1e-12)
    assert math.isnan(cohen_kappa([1, 1], [1, 1], 2))


def test_nine_of_ten_agree_where_nearly_all_are_of_one_kind():
    """90 % agreement at 95 % prevalence: κ says no better than chance, AC1 does not."""
    first, second = readings(np.array([[90, 5], [5, 0]]))
    assert cohen_kappa(first, second, 2) == pytest.approx(-0.0526, abs=1e-4)
    assert gwet_ac1(np.stack([first, second]), 2) == pytest.approx(0.89, abs=0.005)


def test_fleiss_of_his_own_form():
    """The example of ten items, fourteen readers and five categories in Fleiss' form: κ 0.210."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    items = np.array([np.repeat(np.arange(5), row) for row in counts]).T
    assert fleiss_kappa(items, 5) == pytest.approx(0.210, abs=5e-4)


def test_alpha_of_krippendorffs_example_with_gaps():
    """Four observers, twelve units, five values, gaps: α 0.743 nominal, 0.849 interval."""
    gap = np.nan
    observers = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
        [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
    ])  # fmt: skip
    assert krippendorff_alpha(observers) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(observers, "interval") == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_what_all_pairs_of_answers_give_one_by_one():
    draw = np.random.default_rng(1)
    found = draw.integers(0, 3, (4, 30)).astype(float)
    found[draw.random(found.shape) < 0.2] = np.nan
    answers = [column[np.isfinite(column)] for column in found.T]
    answers = [column for column in answers if len(column) > 1]
    observed = sum(
        np.mean([a != b for a, b in itertools.permutations(column, 2)]) * len(column) for column in answers
    ) / sum(map(len, answers))
    pooled = np.concatenate(answers)
    expected = np.mean([a != b for a, b in itertools.permutations(pooled, 2)])
    assert krippendorff_alpha(found) == pytest.approx(1 - observed / expected, rel=1e-12)


def test_chance_is_zero_and_full_agreement_one():
    draw = np.random.default_rng(2)
    random, same = draw.integers(0, 3, (5, 20_000)), np.tile(draw.integers(0, 3, 100), (5, 1))
    for coefficient in (lambda r: fleiss_kappa(r, 3), lambda r: gwet_ac1(r, 3), krippendorff_alpha):
        assert coefficient(random) == pytest.approx(0, abs=0.01)
        assert coefficient(same) == pytest.approx(1)
        assert math.isnan(coefficient(np.full((3, 4), np.nan)))
