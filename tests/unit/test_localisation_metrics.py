"""Localisation metrics: closed forms, independent implementations, and mistakes of others that are not made here."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from skimage.filters import threshold_otsu
from sklearn.metrics import roc_auc_score

from xiqa import segmentation
from xiqa.metrics.maps import localisation, overlap, scored
from xiqa.metrics.maps.localisation import curves_of_maps, score_map, scores_of_maps
from xiqa.metrics.maps.overlap import froc, iou, otsu_threshold
from xiqa.metrics.maps.pointing_game import (
    chance_level,
    nearest,
    pointing_game,
    pointing_game_accuracy,
    pointing_game_mm,
    scaled_tolerance_px,
    smoothed,
)
from xiqa.metrics.maps.region_dice import region_dice
from xiqa.metrics.maps.relevance import relevance_mass, relevance_rank
from xiqa.metrics.maps.roc_auc import POINTS, mean_roc, roc_auc

SHAPE = (24, 40)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("golden_localisation.npz")) as arrays:
        return dict(arrays)


def disc(row, column, radius, shape=SHAPE):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def spot(row, column, shape=SHAPE):
    return disc(row, column, 0, shape)


def peak_at(row, column, shape=SHAPE):
    return spot(row, column, shape).astype(float)


def random_case(rng, ties=False):
    saliency = rng.integers(-3, 4, SHAPE).astype(float) if ties else rng.normal(size=SHAPE)
    return saliency, disc(rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), rng.uniform(1, 9))


# Whole images as two segments: the left half and the rest.
HALVES = [np.flatnonzero(COLUMNS < 20), np.flatnonzero(COLUMNS >= 20)]
SINGLE_MAP = {
    "pointing_game": pointing_game,
    "pointing_game_smooth": lambda saliency, mask: pointing_game(saliency, mask, smooth=True),
    "pointing_game_mm": lambda saliency, mask: pointing_game_mm(saliency, mask, 3, (0.5, 0.25)),
    "relevance_mass": relevance_mass,
    "relevance_rank": relevance_rank,
    "roc_auc": roc_auc,
    "iou": iou,
    "region_dice": lambda saliency, mask: region_dice(saliency, None, mask, HALVES),
}


# What is not scored


@pytest.mark.parametrize("metric", SINGLE_MAP.values(), ids=SINGLE_MAP)
def test_no_ground_truth_constant_and_broken_maps_are_neither_hit_nor_miss(metric):
    saliency, mask = random_case(np.random.default_rng(1))
    assert metric(saliency, mask) is not None
    assert metric(saliency, np.zeros(SHAPE, bool)) is None
    assert metric(np.full(SHAPE, 0.1), mask) is None
    for broken in (np.nan, np.inf, -np.inf):
        saliency[3, 30] = broken
        assert metric(saliency, mask) is None


@pytest.mark.parametrize("metric", SINGLE_MAP.values(), ids=SINGLE_MAP)
def test_a_mask_that_does_not_belong_to_the_map_is_refused(metric):
    with pytest.raises(ValueError, match=r"found \(24, 40\) and \(40, 24\)"):
        metric(np.zeros(SHAPE), np.zeros(SHAPE[::-1], bool))
    with pytest.raises(ValueError, match="of uint8, expected"):
        metric(np.zeros(SHAPE), np.zeros(SHAPE, np.uint8))


@pytest.mark.parametrize("metric", SINGLE_MAP.values(), ids=SINGLE_MAP)
def test_scale_memory_order_and_precision_do_not_matter(metric):
    saliency, mask = random_case(np.random.default_rng(2))
    saliency = saliency.astype(np.float16)
    expected = metric(saliency.astype(np.float64), mask)
    for same in (np.asfortranarray(saliency), saliency.astype(np.float32), saliency.astype(float) * 2.0**-500):
        np.testing.assert_allclose(metric(same, mask), expected, rtol=1e-13)


@pytest.mark.parametrize("name", sorted(set(SINGLE_MAP) - {"relevance_mass"}))
def test_shifts_do_not_matter_except_for_the_mass(name):
    saliency, mask = random_case(np.random.default_rng(3), ties=True)
    np.testing.assert_allclose(SINGLE_MAP[name](saliency + 64, mask), SINGLE_MAP[name](saliency, mask), rtol=1e-13)


@pytest.mark.parametrize("name", ["pointing_game", "pointing_game_mm", "relevance_rank", "roc_auc"])
def test_rising_transforms_do_not_matter_where_only_the_order_counts(name):
    saliency, mask = random_case(np.random.default_rng(4), ties=True)
    assert SINGLE_MAP[name](np.exp(saliency), mask) == SINGLE_MAP[name](saliency, mask)


def test_a_full_mask_is_a_hit_and_has_no_roc():
    saliency, full = np.random.default_rng(5).normal(size=SHAPE), np.ones(SHAPE, bool)
    assert pointing_game(saliency, full, 1)
    assert relevance_mass(saliency, full) == relevance_rank(saliency, full) == 1
    assert roc_auc(saliency, full) is None
    assert mean_roc([saliency], [full]) is None
    assert region_dice(saliency, None, full, HALVES)[-1] == 1


# Pointing Game


def plain_pointing_game(saliency, mask, tolerance):
    best = None
    for row, column in itertools.product(*map(range, mask.shape)):
        if best is None or saliency[row, column] > saliency[best]:
            best = row, column
    return any((row - best[0]) ** 2 + (column - best[1]) ** 2 < tolerance**2 for row, column in np.argwhere(mask))


@pytest.mark.parametrize("ties", [False, True])
def test_pointing_game_is_a_plain_search(ties):
    rng = np.random.default_rng(6)
    found = []
    for _ in range(60):
        saliency, mask = random_case(rng, ties)
        tolerance = rng.choice([1, 2.5, 6, 15])
        found.append(pointing_game(saliency, mask, tolerance))
        assert found[-1] == plain_pointing_game(saliency, mask, tolerance)
    assert 10 < sum(found) < 50


def test_pointing_game_is_that_of_torchray(golden):
    for tolerance, expected in zip(golden["tolerances"], golden["torchray_hits"], strict=True):
        hits = [pointing_game(*given, tolerance) for given in zip(golden["maps"], golden["masks"], strict=True)]
        assert hits[:-1] == expected[:-1].tolist()
        assert hits[-1] is None  # the empty mask: TorchRay has a miss


def test_an_empty_mask_is_not_the_hit_that_quantus_makes_of_it(golden):
    assert not golden["masks"][-1].any()
    assert golden["quantus_hits"][-1]
    assert pointing_game(golden["maps"][-1], golden["masks"][-1]) is None
    # Elsewhere it asks for the mask itself.
    hits = [pointing_game(*given, 1) for given in zip(golden["maps"][:-1], golden["masks"][:-1], strict=True)]
    assert hits == golden["quantus_hits"][:-1].tolist()


def test_fourteen_pixels_hit_and_fifteen_miss_in_every_direction():
    centre = peak_at(30, 30, (61, 61))
    for up, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        assert pointing_game(centre, spot(30 + 14 * up, 30 + 14 * right, (61, 61)))
        assert not pointing_game(centre, spot(30 + 15 * up, 30 + 15 * right, (61, 61)))
    assert not pointing_game(centre, spot(39, 42, (61, 61)))  # 9² + 12² = 15²
    assert pointing_game(centre, spot(39, 41, (61, 61)))


def test_rows_are_compared_with_rows():
    # The published code of Özer lays out distances transposed: it would swap both answers.
    saliency = peak_at(5, 50, (60, 60))
    assert pointing_game(saliency, spot(5, 50, (60, 60)))
    assert not pointing_game(saliency, spot(50, 5, (60, 60)))
    assert pointing_game(peak_at(2, 37), spot(2, 37), 1)  # a column beyond the number of rows


def test_the_shape_is_scored_and_not_its_bounding_box():
    # Published code takes an ellipse or a polygon for its box.
    rows, columns = np.mgrid[:200, :200]
    ellipse = ((rows - 100) / 60) ** 2 + ((columns - 100) / 90) ** 2 <= 1
    box = (abs(rows - 100) <= 60) & (abs(columns - 100) <= 90)
    in_the_corner = peak_at(41, 11, (200, 200))
    assert pointing_game(in_the_corner, box, 1)
    assert not pointing_game(in_the_corner, ellipse)


def test_of_equal_peaks_the_first_row_by_row_counts():
    saliency = peak_at(3, 30) + peak_at(20, 5) + peak_at(3, 35)
    assert pointing_game(saliency, spot(3, 30), 1)
    assert not pointing_game(saliency, spot(20, 5), 1)
    assert not pointing_game(saliency, spot(3, 35), 1)


def test_smoothing_is_a_gaussian_of_eleven_by_eleven_pixels_reflected_without_the_edge():
    rng = np.random.default_rng(7)
    saliency = rng.normal(size=SHAPE)
    profile = np.exp(-(np.arange(-5, 6.0) ** 2) / 2)
    kernel = np.outer(profile, profile) / profile.sum() ** 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(saliency, 5, "reflect"), (11, 11))
    np.testing.assert_allclose(smoothed(saliency), np.einsum("hwij,ij->hw", windows, kernel), rtol=0, atol=1e-14)


def test_smoothing_prefers_a_hill_to_a_single_high_pixel():
    saliency = 2 * peak_at(4, 4) + disc(15, 30, 4)
    assert pointing_game(saliency, spot(4, 4), 1)
    assert not pointing_game(saliency, spot(4, 4), 1, smooth=True)
    assert pointing_game(saliency, disc(15, 30, 4), 1, smooth=True)


def test_a_tolerance_in_mm_follows_the_spacing_of_rows_and_columns():
    saliency = peak_at(10, 10)
    given = {"tolerance_mm": 3, "spacing_mm": (1.5, 0.5)}
    assert pointing_game_mm(saliency, spot(11, 10), **given)
    assert not pointing_game_mm(saliency, spot(12, 10), **given)  # 3 mm
    assert pointing_game_mm(saliency, spot(10, 15), **given)
    assert not pointing_game_mm(saliency, spot(10, 16), **given)  # 3 mm
    assert pointing_game_mm(saliency, spot(11, 15), **given)  # 1.5² + 2.5² < 9
    rng = np.random.default_rng(8)
    for _ in range(20):
        saliency, mask = random_case(rng)
        assert pointing_game_mm(saliency, mask, 7.5, (0.5, 0.5)) == pointing_game(saliency, mask, 15)


@pytest.mark.parametrize("tolerance", [0, -1])
def test_a_tolerance_that_nothing_can_meet_is_refused(tolerance):
    with pytest.raises(ValueError, match="expected more than 0"):
        pointing_game(peak_at(1, 1), spot(1, 1), tolerance)


@pytest.mark.parametrize("tolerance", [1, 3, 4.3, 15])
def test_chance_is_the_share_of_peaks_that_hit(tolerance):
    shape, rng = (12, 17), np.random.default_rng(9)
    mask = rng.random(shape) < 0.02
    mask[7, 3] = True
    hits = [pointing_game(peak_at(*place, shape), mask, tolerance) for place in np.ndindex(shape)]
    assert chance_level(mask, tolerance) == np.mean(hits)


def test_chance_without_a_ground_truth_is_unknown_and_with_all_of_it_certain():
    assert chance_level(np.zeros(SHAPE, bool)) is None
    assert chance_level(np.ones(SHAPE, bool), 1) == 1
    assert chance_level(spot(3, 3), 1) == 1 / spot(3, 3).size


def test_nearest_pixel_of_a_mask_is_that_of_a_plain_search():
    mask = np.random.default_rng(10).random((9, 14)) < 0.05
    squared, places = nearest(mask)
    of_mask = np.argwhere(mask)
    for place in np.ndindex(mask.shape):
        distances = ((of_mask - place) ** 2).sum(1)
        assert squared[place] == distances.min()
        assert distances[(of_mask @ [14, 1]).tolist().index(places[place])] == distances.min()


def test_the_tolerance_scales_with_the_width():
    assert scaled_tolerance_px(224, 224) == 15
    assert scaled_tolerance_px(448, 224) == 30
    assert scaled_tolerance_px(10, 600) == 1


def test_accuracy_pooled_and_as_the_mean_over_classes():
    hits = [True, True, True, False, False, None, np.nan, 1.0]
    found = pointing_game_accuracy(hits, ["a", "a", "a", "a", "b", "b", "c", "a"])
    # TorchRay counts the class c, of which nothing is scored, as 0.
    assert found == {"pooled": 4 / 6, "class_mean": (4 / 5 + 0) / 2, "n": 6, "not_scored": 2}
    nothing = pointing_game_accuracy([None], ["a"])
    assert np.isnan(nothing["pooled"])
    assert np.isnan(nothing["class_mean"])
    assert nothing["n"] == 0
    with pytest.raises(ValueError, match="found 1, expected 2"):
        pointing_game_accuracy([True, False], ["a"])


# Relevance


def test_mass_and_rank_are_those_of_quantus(golden):
    for saliency, mask, mass, rank in zip(
        golden["maps"][:-1], golden["masks"], golden["quantus_mass"], golden["quantus_rank"], strict=False
    ):
        assert relevance_mass(saliency, mask) == pytest.approx(mass, rel=1e-14)
        assert relevance_rank(saliency, mask) == pytest.approx(rank, rel=1e-14)


def test_mass_by_hand_ignores_what_is_negative():
    saliency = np.array([[4.0, -9.0, 1.0], [3.0, -1.0, 0.0]])
    mask = np.array([[True, True, False], [False, False, True]])
    assert relevance_mass(saliency, mask) == 4 / 8
    assert relevance_mass(-np.abs(saliency), mask) is None  # nothing is positive


def test_mass_of_half_precision_does_not_overflow():
    assert relevance_mass(np.float16(6e4) * np.where(COLUMNS < 30, 1, 0.5).astype(np.float16), COLUMNS < 20) == (
        pytest.approx(20 / 35)
    )


def test_rank_with_ties_is_the_mean_over_all_orders():
    saliency = np.array([[2.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    mask = np.array([[False, True, False], [True, True, False]])
    shares = []
    for order in itertools.permutations(range(6)):
        by_value = sorted(order, key=lambda place: -saliency.ravel()[place])
        shares.append(mask.ravel()[by_value[:3]].mean())
    assert relevance_rank(saliency, mask) == pytest.approx(np.mean(shares), rel=1e-14)
    assert np.std(shares) > 0


def test_rank_of_a_map_that_is_the_mask_is_one_and_of_its_opposite_zero():
    mask = disc(10, 10, 5)
    assert relevance_rank(mask * 1.0, mask) == 1
    assert relevance_rank(mask * -1.0, mask) == 0


# ROC


@pytest.mark.parametrize("ties", [False, True])
def test_area_is_that_of_scikit_learn_also_within_some_pixels(ties):
    rng = np.random.default_rng(11)
    for _ in range(10):
        saliency, mask = random_case(rng, ties)
        assert roc_auc(saliency, mask) == pytest.approx(roc_auc_score(mask.ravel(), saliency.ravel()), rel=1e-12)
        assert roc_auc(saliency, mask) + roc_auc(-saliency, mask) == pytest.approx(1, rel=1e-14)
        within = rng.random(SHAPE) < 0.5
        expected = roc_auc_score(mask[within], saliency[within])
        assert roc_auc(saliency, mask, within) == pytest.approx(expected, rel=1e-12)


def test_area_of_a_mask_and_of_chance():
    mask = disc(10, 10, 5)
    assert roc_auc(mask * 1.0, mask) == 1
    assert roc_auc(ROWS * 1.0, COLUMNS < 7) == 0.5


def test_pixels_that_count_need_ground_truth_background_and_contrast():
    saliency, mask = random_case(np.random.default_rng(12))
    assert roc_auc(saliency, mask, mask) is None
    assert roc_auc(saliency, mask, ~mask) is None
    assert roc_auc(saliency, mask, np.zeros(SHAPE, bool)) is None
    assert roc_auc(np.where(COLUMNS < 20, 1.0, saliency), disc(10, 10, 3), COLUMNS < 20) is None


def several(rng, n=5):
    cases = [random_case(rng, ties=bool(number % 2)) for number in range(n)]
    return [saliency * rng.uniform(0.1, 9) for saliency, _ in cases], [mask for _, mask in cases]


def test_mean_curve_is_the_mean_of_rates_at_each_threshold():
    maps, masks = several(np.random.default_rng(13))
    thresholds = np.linspace(0, 1, 21)
    found = mean_roc(maps, masks, thresholds)
    tpr, fpr = np.ones((2, len(maps), 23))
    for number, (saliency, mask) in enumerate(zip(maps, masks, strict=True)):
        scaled = (saliency - saliency.min()) / np.ptp(saliency)
        tpr[number, 1:] = [(scaled[mask] > threshold).mean() for threshold in [*thresholds, 1]]
        fpr[number, 1:] = [(scaled[~mask] > threshold).mean() for threshold in [*thresholds, 1]]
    tpr, fpr = tpr.mean(0), fpr.mean(0)
    np.testing.assert_allclose(found.curve["tpr"], tpr[1:-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.curve["fpr"], fpr[1:-1], rtol=0, atol=1e-12)
    assert found.curve["threshold"].tolist() == thresholds.tolist()
    assert found.area == pytest.approx(((tpr[1:] + tpr[:-1]) / 2 * (fpr[:-1] - fpr[1:])).sum(), rel=1e-12)


def test_mean_area_over_all_thresholds_is_that_of_scikit_learn_with_images_weighted_equally():
    maps, masks = several(np.random.default_rng(14))
    # Another size, and images that cannot be scored.
    maps += [np.random.default_rng(15).normal(size=(9, 7)), np.zeros(SHAPE), maps[0], maps[1] * np.nan, maps[2]]
    masks += [disc(3, 3, 2, (9, 7)), masks[0], np.ones(SHAPE, bool), masks[1], np.zeros(SHAPE, bool)]
    found = mean_roc(iter(maps), iter(masks))
    assert found.n == 6
    assert found.not_scored == 4
    scaled = [(saliency - saliency.min()) / np.ptp(saliency) for saliency in maps[:6]]
    weights = [np.where(mask, 1 / mask.sum(), 1 / (~mask).sum()) for mask in masks[:6]]
    given = (np.concatenate([part.ravel() for part in parts]) for parts in (masks[:6], scaled, weights))
    labels, values, weights = given
    assert found.area == pytest.approx(roc_auc_score(labels, values, sample_weight=weights), rel=1e-12)
    assert len(found.curve) <= POINTS
    # What is left of the curve is still the curve.
    curve = found.curve
    assert curve[["fpr", "tpr"]].iloc[0].tolist() == [1, 1]
    assert curve[["fpr", "tpr"]].iloc[-1].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert -np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(found.area, abs=1e-3)


def test_mean_area_of_one_image_is_its_area():
    saliency, mask = random_case(np.random.default_rng(16), ties=True)
    assert mean_roc([saliency], [mask]).area == pytest.approx(roc_auc(saliency, mask), rel=1e-12)


# Dice of regions


def plain_region_dice(map_of_regions, mask):
    """Dice at 1 ... 100 %, pixel by pixel; pixels of equal value come in fractions."""
    order = np.argsort(-map_of_regions.ravel(), kind="stable")
    values, inside = map_of_regions.ravel()[order], mask.ravel()[order].astype(float)
    for value in np.unique(values):
        inside[values == value] = inside[values == value].mean()
    dice = []
    for percent in range(1, 101):
        kept = percent / 100 * mask.size
        whole = int(kept)
        hits = inside[:whole].sum() + (kept - whole) * (inside[whole] if whole < mask.size else 0)
        dice.append(2 * hits / (kept + mask.sum()))
    return dice


def test_dice_is_that_of_pairs_maps_cut_pixel_by_pixel():
    with np.load(Path(__file__).with_name("golden_pair_saliency.npz")) as arrays:
        pair = dict(arrays)
    shape = pair["x"].shape[2:]
    masks = np.unpackbits(pair["own_masks"], axis=1).astype(bool)
    segments = [np.flatnonzero(mask) for mask in masks]
    attribution = pair["blur_ig"][1].astype(np.float64).max(0)
    truth = disc(20, 30, 11, shape)
    expected = plain_region_dice(pair["xrai_own"][0], truth)
    np.testing.assert_allclose(region_dice(attribution, None, truth, segments), expected, rtol=0, atol=1e-12)


def test_dice_of_a_map_that_finds_its_region_is_one_at_the_share_of_its_area():
    truth = COLUMNS < 10  # a quarter
    segments = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    # One pixel of a hundred carries the map: its region does.
    saliency = ((ROWS * 40 + COLUMNS) % 100 == 3) & truth
    curve = region_dice(saliency * 1.0, None, truth, segments)
    assert curve.argmax() + 1 == 25
    assert curve.max() == pytest.approx(1, rel=1e-14)
    percent = np.arange(1, 101)
    np.testing.assert_allclose(curve, 2 * np.minimum(percent, 25) / (percent + 25), rtol=1e-13)


def test_regions_of_equal_mean_are_cut_as_one():
    quarters = [np.flatnonzero(number == COLUMNS // 10) for number in range(4)]
    truth, saliency = COLUMNS // 10 == 1, 1.0 * (COLUMNS // 10 == 3)
    curve = region_dice(saliency, None, truth, quarters)
    assert (curve[:25] == 0).all()
    # Of the remaining three quarters, which tie, a third is the ground truth, whatever their order.
    percent = np.arange(26, 101)
    np.testing.assert_allclose(curve[25:], 2 * (percent - 25) / 3 / (percent + 25), rtol=1e-13)


def test_all_of_the_area_has_the_dice_of_all_pixels():
    saliency, mask = random_case(np.random.default_rng(17))
    for segments in (HALVES, []):
        assert region_dice(saliency, None, mask, segments)[-1] == pytest.approx(
            2 * mask.sum() / (mask.size + mask.sum())
        )
    # Without segments the image is one region: any cut holds the same share of the ground truth.
    kept = np.arange(1, 101) / 100
    np.testing.assert_allclose(
        region_dice(saliency, None, mask, []), 2 * kept * mask.sum() / (kept * mask.size + mask.sum()), rtol=1e-13
    )


def test_regions_are_disjoint_and_add_up_to_the_map():
    rng = np.random.default_rng(18)
    image = np.where(disc(12, 12, 7), 2.0, 0) + rng.normal(0, 0.1, SHAPE)
    saliency, segments = rng.normal(size=SHAPE), segmentation.segment(image[None])
    for full in (True, False):
        region, means = segmentation.regions(saliency, segments, full)
        assert region.shape == SHAPE
        for number in np.unique(region):
            assert means[number] == pytest.approx(saliency[region == number].mean(), abs=1e-14)
        np.testing.assert_array_equal(segmentation.ranked(saliency, segments, full), means[region])


# IoU


def test_otsu_is_that_of_scikit_image_where_that_has_a_bin_for_each_value():
    rng = np.random.default_rng(19)
    for scale in (3, 20, 60):
        saliency = np.clip(rng.normal(100, scale, SHAPE) + 50 * disc(10, 10, 6), 0, 255).astype(np.uint8)
        assert otsu_threshold(saliency) == threshold_otsu(saliency)
        assert otsu_threshold(saliency / 256.0 - 3) == threshold_otsu(saliency) / 256 - 3


def test_otsu_has_the_largest_variance_between_classes():
    values = np.random.default_rng(20).exponential(size=(6, 9))
    best = otsu_threshold(values)

    def within(threshold):
        return sum(part.size * part.var() for part in (values[values <= threshold], values[values > threshold]))

    assert within(best) == pytest.approx(min(within(value) for value in np.sort(values.ravel())[:-1]), rel=1e-12)


def test_iou_by_hand():
    saliency = np.where(COLUMNS < 12, 5.0, 0) + 0.1 * np.random.default_rng(21).random(SHAPE)
    assert iou(saliency, COLUMNS < 12) == 1
    assert iou(saliency, COLUMNS >= 12) == 0
    assert iou(saliency, (COLUMNS >= 6) & (COLUMNS < 18)) == pytest.approx(6 / 18)
    assert iou(-saliency, COLUMNS < 12) == 0


# FROC


def hills(*places, shape=(60, 90)):
    """A map with one local maximum of this height at each (row, column, height), far apart."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    parts = [height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8) for row, column, height in places]
    return np.max(parts, axis=0)


def test_froc_by_hand():
    shape = (60, 90)
    lesions = disc(10, 10, 2, shape) | disc(45, 70, 3, shape)
    maps = [
        hills((10, 10, 0.9), (40, 20, 0.8), (45, 70, 0.3)),  # a lesion, a false positive, the other lesion
        hills((30, 30, 0.7)),  # no lesion in this image
        hills((10, 10, 0.6), (16, 10, 0.4), (45, 20, 0.2)),  # the same lesion twice, the other one never
    ]
    found = froc(maps, [lesions, np.zeros(shape, bool), lesions], 6)
    # By falling score: true, false, false, true, (again), true, false.
    peaks = [height * smoothed(hills((30, 30, 1.0))).max() for height in (0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2)]
    del peaks[4]  # a lesion found again changes nothing
    curve = found.curve
    np.testing.assert_allclose(curve["threshold"], peaks, rtol=1e-3)
    np.testing.assert_allclose(curve["false_positives"], np.array([0, 1, 2, 2, 2, 3]) / 3)
    np.testing.assert_allclose(curve["sensitivity"], np.array([1, 1, 1, 2, 3, 3]) / 4)
    np.testing.assert_allclose(found.sensitivities, np.array([1, 1, 1, 3, 3, 3, 3]) / 4)
    assert found.mean == pytest.approx(15 / 28)
    assert (found.n, found.lesions, found.not_scored) == (3, 4, 0)


def plain_froc(maps, masks, tolerance, rates):
    """Sensitivities from a search through all thresholds; maps without plateaus."""
    false, lesions = [], []
    for saliency, mask in zip(maps, masks, strict=True):
        values = np.pad(smoothed(saliency), 1, constant_values=-np.inf)
        best = {}
        for row, column in np.ndindex(mask.shape):
            window = values[row : row + 3, column : column + 3]
            if (window < window[1, 1]).sum() < 8:
                continue
            places = np.argwhere(mask)
            distances = ((places - (row, column)) ** 2).sum(1) if len(places) else np.array([np.inf])
            if distances.min() >= tolerance**2:
                false.append(window[1, 1])
            else:  # masks of at most one lesion
                best[0] = max(best.get(0, -np.inf), window[1, 1])
        if mask.any():
            lesions.append(best.get(0, -np.inf))
    sensitivities = []
    for rate in rates:
        allowed = [t for t in [*false, *lesions, np.inf] if sum(f >= t for f in false) <= rate * len(maps)]
        sensitivities.append(np.mean(np.array(lesions) >= max(min(allowed), -1e300)))
    return sensitivities


def test_froc_is_a_plain_search():
    rng = np.random.default_rng(22)
    maps = [rng.normal(size=SHAPE) + (number % 2) * disc(10, 10, 2) for number in range(8)]
    masks = [disc(10, 10, 2) if number % 4 else np.zeros(SHAPE, bool) for number in range(8)]
    found = froc(maps, masks, 3)
    expected = plain_froc(maps, masks, 3, overlap.FALSE_POSITIVES)
    np.testing.assert_allclose(found.sensitivities, expected, rtol=1e-14)
    assert 0 < found.mean < 1
    assert (np.diff(found.sensitivities) >= 0).all()
    assert found.curve["false_positives"].max() <= 8


def test_images_without_a_lesion_only_add_false_positives():
    saliency, mask = hills((10, 10, 0.5)), disc(10, 10, 3, (60, 90))
    empty = np.zeros((60, 90), bool)
    assert froc([saliency], [mask], 5).sensitivities.tolist() == [1] * 7
    found = froc([saliency, hills((30, 30, 0.9))], [mask, empty], 5)
    assert found.sensitivities.tolist() == [0, 0, 1, 1, 1, 1, 1]  # one false positive in two images comes first
    assert froc([saliency], [empty], 5) is None


def test_a_false_positive_that_ties_with_a_lesion_comes_with_it():
    maps, mask = [hills((10, 10, 0.5)), hills((30, 30, 0.5))], disc(10, 10, 3, (60, 90))
    found = froc([maps[0], maps[0]], [mask, np.zeros((60, 90), bool)], 5)
    assert found.sensitivities.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert len(found.curve) == 1


def test_a_candidate_finds_the_nearest_lesion_closer_than_the_tolerance():
    saliency, shape = hills((30, 30, 1.0)), (60, 90)
    assert froc([saliency], [spot(30, 36, shape)], 6).mean == 0
    assert froc([saliency], [spot(30, 36, shape)], 6.1).mean == 1
    found = froc([saliency], [spot(30, 33, shape) | spot(30, 26, shape)], 6)
    assert found.sensitivities.tolist() == [0.5] * 7
    assert froc([saliency], [spot(31, 33, shape) | spot(30, 32, shape)], 6).lesions == 1  # 8 neighbours


def test_a_plateau_counts_once_and_constant_or_broken_maps_are_left_out():
    shape = (60, 90)
    saliency = disc(20, 20, 12, shape) * 1.0  # smoothed, it is a plateau still
    found = froc([saliency, np.ones(shape), saliency * np.nan], [disc(50, 80, 2, shape)] * 3, 3)
    assert (found.n, found.lesions, found.not_scored) == (1, 1, 2)
    assert found.curve["false_positives"].tolist() == [1]


# All at once


def test_all_scores_of_a_map_are_those_of_the_single_functions():
    saliency, mask = random_case(np.random.default_rng(23))
    within = COLUMNS < 35
    scores = score_map(saliency.astype(np.float32), mask, tolerance_px=6, segments=HALVES, within=within)
    saliency = saliency.astype(np.float32)
    assert scores == {
        "pointing_game": pointing_game(saliency, mask, 6),
        "pointing_game_smooth": pointing_game(saliency, mask, 6, smooth=True),
        "chance": chance_level(mask, 6),
        "relevance_mass": relevance_mass(saliency, mask),
        "relevance_rank": relevance_rank(saliency, mask),
        "roc_auc": roc_auc(saliency, mask),
        "roc_auc_within": roc_auc(saliency, mask, within),
        "region_dice": region_dice(saliency, None, mask, HALVES).max(),
        "iou": iou(saliency, mask),
    }
    assert {type(value) for value in scores.values()} == {float}
    assert set(score_map(saliency, mask, tolerance_px=6)) == set(scores) - {"roc_auc_within", "region_dice"}


def test_table_of_scores_has_both_forms_and_says_why_a_score_is_missing():
    rng = np.random.default_rng(24)
    saliency, mask = random_case(rng)
    signs = np.where(mask, 1.0, -1.0)
    maps = np.stack([saliency, saliency, saliency * np.nan, signs, -np.abs(saliency), saliency])
    masks = np.stack([mask, np.zeros(SHAPE, bool), mask, mask, mask, np.ones(SHAPE, bool)])
    given = {"tolerance_px": 4, "segments": [HALVES] * 6, "within": [COLUMNS < 40] * 5 + [COLUMNS < 9]}
    table = scores_of_maps(maps, masks, **given)
    assert table.columns.tolist() == ["image", "form", "metric", "value", "valid", "reason"]
    assert len(table) == 6 * 2 * 9
    assert (table["valid"] == table["value"].notna()).all()
    assert (table["valid"] == (table["reason"] == "")).all()
    cell = table.set_index(["image", "form", "metric"]).sort_index()
    for form, values in (("signed", saliency), ("absolute", np.abs(saliency))):
        for metric, value in score_map(values, mask, tolerance_px=4, segments=HALVES, within=COLUMNS < 40).items():
            assert cell.loc[(0, form, metric), "value"] == value
    assert set(cell.loc[1, "reason"]) == {"no ground truth"}
    assert set(cell.loc[2, "reason"]) == {"non-finite map"}
    assert set(cell.loc[(3, "signed"), "reason"]) == {""}
    assert set(cell.loc[(3, "absolute"), "reason"]) == {"constant map"}
    missing = cell[~cell["valid"]]
    assert missing.loc[(4, "signed"), "reason"].to_dict() == {"relevance_mass": "no positive value"}
    assert missing.loc[(5, "absolute"), "reason"]["roc_auc"] == "no background"
    assert "within" in missing.loc[(5, "absolute"), "reason"]["roc_auc_within"]
    assert len(missing.loc[5]) == 4


def test_maps_without_negative_values_have_one_form():
    rng = np.random.default_rng(25)
    maps, masks = rng.random((2, *SHAPE)), np.stack([disc(9, 9, 4)] * 2)
    assert set(scores_of_maps(maps, masks, tolerance_px=4)["form"]) == {"absolute"}
    assert set(curves_of_maps(maps, masks, tolerance_px=4)["form"]) == {"absolute"}
    # The forms belong to the method: one negative value, and all of its images have both.
    maps[1, 0, 0] = -0.1
    assert scores_of_maps(maps, masks, tolerance_px=4).groupby("image")["form"].nunique().tolist() == [2, 2]
    with pytest.raises(ValueError, match=r"found \(2, 24, 40\) and \(24, 40\)"):
        scores_of_maps(maps, masks[0], tolerance_px=4)


def test_curves_are_those_of_the_single_functions():
    rng = np.random.default_rng(26)
    maps, masks = (np.stack(part) for part in several(rng))
    maps[4] = 0
    table = curves_of_maps(maps, masks, tolerance_px=4, segments=[HALVES] * 5)
    for form, formed in (("signed", maps), ("absolute", np.abs(maps))):
        rows = dict(list(table[table["form"] == form].groupby("kind")))
        assert set(rows) == {"roc", "roc_heights", "region_dice", "froc"}
        assert all((part["n"] == 4).all() for part in rows.values())
        roc = mean_roc(formed, masks)
        assert rows["roc"]["area"].iloc[0] == roc.area
        assert rows["roc_heights"]["area"].tolist() == [roc.mean_height]
        assert rows["roc"][["x", "y"]].to_numpy().tolist() == roc.curve[["fpr", "tpr"]].to_numpy().tolist()
        # One share of the area for all images: the maximum of the mean, not the mean of maxima.
        dice = np.mean(
            [region_dice(one, None, mask, HALVES) for one, mask in zip(formed[:4], masks[:4], strict=True)], axis=0
        )
        np.testing.assert_allclose(rows["region_dice"]["y"], dice, rtol=1e-14)
        assert rows["region_dice"]["x"].tolist() == list(range(1, 101))
        assert rows["region_dice"]["area"].iloc[0] == dice.max()
        assert rows["froc"]["area"].iloc[0] == froc(formed, masks, 4).mean
    nothing = curves_of_maps(maps, np.zeros_like(masks), tolerance_px=4, segments=[HALVES] * 5)
    assert nothing.columns.tolist() == table.columns.tolist()
    assert not len(nothing)


def test_scores_tell_a_map_of_the_ground_truth_from_noise():
    rng = np.random.default_rng(27)
    masks = np.stack([disc(rng.uniform(6, 18), rng.uniform(6, 34), 4) for _ in range(30)])
    noise = rng.normal(size=masks.shape)
    good, bad = (
        scores_of_maps(maps, masks, tolerance_px=1).groupby(["metric", "form"])["value"].mean().loc[:, "signed"]
        for maps in (noise + 3 * masks, noise)
    )
    assert (good.drop("chance") > bad.drop("chance") + 0.05).all()
    # Noise is at the level of chance.
    area = masks.mean()
    assert bad["roc_auc"] == pytest.approx(0.5, abs=0.03)
    assert bad["relevance_mass"] == pytest.approx(area, abs=0.02)
    assert bad["relevance_rank"] == pytest.approx(area, abs=0.02)
    assert bad["chance"] == pytest.approx(area)
    assert stats.binomtest(round(30 * bad["pointing_game"]), 30, area).pvalue > 1e-3


def test_a_reason_is_the_first_that_applies():
    mask = disc(9, 9, 3)
    assert scored.not_scored(np.zeros(SHAPE), np.zeros(SHAPE, bool)) == "no ground truth"
    assert scored.not_scored(np.full(SHAPE, np.inf), mask) == "non-finite map"
    assert scored.not_scored(np.zeros(SHAPE), mask) == "constant map"
    assert scored.not_scored(1.0 * mask, mask) == ""


# What a map of the study may look like, so that some score is undefined.
ODD_MAPS = {
    "negative": -1.0 - ROWS.astype(float),
    "constant": np.ones(SHAPE),
    "constant in the mask": np.where(disc(12, 20, 5), 1.0, ROWS),
    "not finite": np.where(disc(12, 20, 5), np.nan, 1.0),
}


@pytest.mark.parametrize("saliency", ODD_MAPS.values(), ids=ODD_MAPS)
@pytest.mark.parametrize(
    "mask", [disc(12, 20, 5), np.ones(SHAPE, bool), np.zeros(SHAPE, bool)], ids=["disc", "all", "none"]
)
def test_every_score_may_be_undefined_and_then_says_why(saliency, mask):
    given = {"tolerance_px": 2.0, "segments": [HALVES], "within": [mask]}
    table = scores_of_maps(saliency[None], mask[None], **given)
    assert set(table["metric"]) == set(score_map(saliency, mask, tolerance_px=2.0, segments=HALVES, within=mask))
    assert (table["valid"] == table["value"].notna()).all()
    assert (table["valid"] == (table["reason"] == "")).all()


def test_a_new_score_that_may_be_undefined_stands_in_the_table(monkeypatch):
    """It was a KeyError in the score tables as long as nobody had listed why it may be undefined."""
    scores = localisation.score_map
    monkeypatch.setattr(localisation, "score_map", lambda *args, **known: scores(*args, **known) | {"new": None})
    row = (
        scores_of_maps(peak_at(12, 20)[None], disc(12, 20, 5)[None], tolerance_px=2.0).query("metric == 'new'").iloc[0]
    )
    assert (np.isnan(row["value"]), row["valid"], row["reason"]) == (True, False, "not defined for this map")
