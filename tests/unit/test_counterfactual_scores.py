"""Scores of counterfactuals against closed forms and an independent computation."""

import numpy as np
import pytest
from scipy import linalg, stats

from xiqa.figures.counterfactuals import plot_counterfactuals
from xiqa.metrics.counterfactual import (
    correlation,
    frechet_distance,
    frechet_floor,
    im1,
    nearest_of_class,
    of_images,
    on_mask,
    passes_gate,
    sparsity,
    summary,
)

DRAW = np.random.default_rng(0)


def test_the_gate_is_nine_reconstructions_of_ten():
    decided = np.zeros(10, int)
    assert passes_gate(decided, np.array([1] + [0] * 9)) == (0.9, True)
    assert passes_gate(decided, np.array([1, 1] + [0] * 8)) == (0.8, False)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_even_change_needs_nine_pixels_of_ten_and_a_spike_one(kind):
    even, spike, none = np.full((1, 10, 10), -0.1, kind), np.zeros((1, 10, 10), kind), np.zeros((1, 10, 10), kind)
    spike[0, 3, 4] = 0.2
    np.testing.assert_allclose(sparsity(np.concatenate([even, spike, none])), [0.9, 0.01, np.nan])


def test_a_change_anywhere_lies_on_the_mask_as_its_area_does():
    masks = np.zeros((3, 8, 8), bool)
    masks[:2, :2] = True
    change = np.ones((3, 8, 8))
    change[1, 2:] = 0
    share, area = on_mask(change, masks)
    np.testing.assert_allclose(share, [0.25, 1, np.nan])
    np.testing.assert_allclose(area, [0.25, 0.25, np.nan])


def test_the_agreement_with_the_exact_change_is_pearsons_r_of_each_image():
    first, second = DRAW.standard_normal((2, 4, 6, 5))
    second[3] = 1
    expected = [*(stats.pearsonr(first[n].ravel(), second[n].ravel()).statistic for n in range(3)), np.nan]
    np.testing.assert_allclose(correlation(first, second), expected)


def test_the_frechet_distance_of_a_shift_and_a_scale_is_known():
    values = DRAW.standard_normal((4000, 3)) * [3, 2, 1]
    shift = np.array([0.5, -1, 2])
    assert frechet_distance(values, values) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(values + shift, values) == pytest.approx(shift @ shift)
    # Of one covariance a² times the other: Tr(Σ) (a - 1)².
    centred = values - values.mean(0)
    assert frechet_distance(3 * centred, centred) == pytest.approx(4 * np.trace(np.cov(centred, rowvar=False)))


def test_the_frechet_distance_agrees_with_scipys_root_of_a_matrix():
    first, second = DRAW.standard_normal((2, 60, 5)) @ DRAW.standard_normal((2, 5, 5))
    of_first, of_second = (np.cov(values, rowvar=False) for values in (first, second))
    gap = first.mean(0) - second.mean(0)
    expected = gap @ gap + np.trace(of_first + of_second - 2 * linalg.sqrtm(of_first @ of_second).real)
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_few_images_have_no_frechet_distance_and_halves_of_real_ones_are_its_floor():
    values = DRAW.standard_normal((64, 4))
    with pytest.raises(ValueError, match="found 31 images, expected 32 or more on each side"):
        frechet_distance(values[:31], values)
    assert 0 < frechet_floor(values, seed=0) < frechet_distance(values + 2, values)


def test_im1_is_below_one_where_the_asked_classes_autoencoder_draws_the_image_better():
    image = np.zeros((2, 2, 2))
    off = np.array([1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(im1(image, image + off, image + off[::-1]), [0.25, 4])


def test_the_nearest_image_is_of_the_class_asked_for():
    pool = DRAW.standard_normal((12, 3, 3))
    labels = np.arange(12) % 3
    asked = (labels + 1) % 3
    found = nearest_of_class(pool, asked, pool, labels)
    assert (labels[found] == asked).all()
    for row, of in enumerate(found):
        distances = np.linalg.norm((pool[labels == asked[row]] - pool[row]).reshape(4, -1), axis=1)
        assert np.linalg.norm(pool[of] - pool[row]) == pytest.approx(distances.min())
    with pytest.raises(ValueError, match="found no training image of class 7"):
        nearest_of_class(pool[:1], np.array([7]), pool, labels)


def test_invalid_counterfactuals_are_counted_and_have_no_size():
    change = np.full((8, 4, 4), 0.5)
    table = of_images(change, np.arange(8) < 6, transfer_valid=np.arange(8) < 3)
    assert table["mean_change"].notna().tolist() == [True] * 6 + [False] * 2
    rows = summary(table, np.arange(8)).set_index("metric")
    assert rows.loc["valid", "value"] == 0.75
    assert rows.loc["transfer_valid", "value"] == 0.375
    low, high = stats.binomtest(6, 8).proportion_ci()
    assert (rows.loc["valid", "ci_low"], rows.loc["valid", "ci_high"]) == pytest.approx((low, high))
    assert rows.loc["mean_change", "n_images"] == 6
    assert rows.loc["mean_change", "value"] == 0.5


def test_no_counterfactual_is_drawn_where_the_gate_fails_and_the_difference_is_drawn_where_it_holds():
    images, found, true = DRAW.uniform(0, 1, (3, 2, 8, 8))
    figure = plot_counterfactuals(images, found, true, ["a to b", "b to a"], agreement=0.9)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(drawn[:4], [images[0], found[0], found[0] - images[0], true[0]])
    for agreement in (0.89, float("nan")):
        with pytest.raises(ValueError, match=r"of reconstructions decided as their images, expected 0\.9 or more"):
            plot_counterfactuals(images, found, true, ["a to b", "b to a"], agreement=agreement)
