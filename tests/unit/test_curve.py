"""The contrast-detail curve: closed forms, published numbers, an independent fit, and its statistics."""

from unittest import mock

import numpy as np
import pandas as pd
import pytest
from cases import ci, long
from scipy.optimize import least_squares

from xiqa.cdmam import curve, limits
from xiqa.cdmam.phantom import CELL_PRESENT, DIAMETERS_MM, THICKNESSES_UM

MU = 0.19
CONTRAST = np.log(1 - np.exp(-MU * THICKNESSES_UM))


def hit_rates(thresholds_um, slope):
    """Hit rates (16, 16) that follow the psychometric curve exactly."""
    position = np.log(1 - np.exp(-MU * np.asarray(thresholds_um)))[:, None]
    return 0.25 + 0.75 / (1 + np.exp(-slope * (CONTRAST - position)))


def plausible_thresholds(scale=1.0):
    """One threshold per diameter of the phantom (16,), well inside its range from 1.00 mm on."""
    return scale * (0.02 + 0.015 / DIAMETERS_MM + 0.006 / DIAMETERS_MM**2)


def draw(rates, images, seed):
    hits = np.random.default_rng(seed).random((images, 16, 16)) < rates
    return np.where(CELL_PRESENT, np.where(hits, 1, 2), -1).astype(np.int8)


def smooth_by_hand(rates, kernel):
    out = np.full((16, 16), np.nan)
    reach = len(kernel) // 2
    for i, j in zip(*np.nonzero(CELL_PRESENT), strict=True):
        total = weight = 0.0
        for a in range(-reach, reach + 1):
            for b in range(-reach, reach + 1):
                if 0 <= i + a < 16 and 0 <= j + b < 16 and CELL_PRESENT[i + a, j + b]:
                    total += kernel[a + reach] * kernel[b + reach] * rates[i + a, j + b]
                    weight += kernel[a + reach] * kernel[b + reach]
        out[i, j] = max(total / weight, 0.25)
    return out


def test_smoothing_is_the_published_kernel_over_existing_cells():
    rates = np.random.default_rng(0).random((16, 16))
    np.testing.assert_allclose(curve.smooth(rates), smooth_by_hand(rates, [0.5, 1, 0.5]), rtol=1e-12)
    gauss = np.exp(-0.5 * (np.arange(-3, 4) / 0.75) ** 2)
    np.testing.assert_allclose(curve.smooth(rates, "common_slope"), smooth_by_hand(rates, gauss), rtol=1e-12)
    assert np.nanmin(curve.smooth(np.zeros((16, 16)))) == 0.25
    np.testing.assert_allclose(curve.smooth(np.full((16, 16), 0.7))[CELL_PRESENT], 0.7)


@pytest.mark.parametrize("slope", [1.8, 3.0])
def test_a_curve_that_follows_the_model_is_recovered(monkeypatch, slope):
    # Without smoothing (which bends a curve) the fit must return exactly what was put in.
    monkeypatch.setattr(curve, "_smoothing_matrix", lambda fit, known: np.eye(256))
    truth = plausible_thresholds()
    for fit in ("held_slope", "common_slope"):
        found = curve.thresholds(hit_rates(truth, slope), fit)
        np.testing.assert_allclose(found.t_auto_um, truth[3:15], rtol=2e-3)
        assert found.slope == pytest.approx(slope, rel=3e-3)
        assert not found.side.any()


def test_the_threshold_is_where_the_fraction_correct_is_0_625():
    assert curve.THRESHOLD == (1 + 0.25) / 2
    assert hit_rates(plausible_thresholds(), 2.0)[6][0] < 1
    np.testing.assert_allclose(hit_rates(np.full(16, THICKNESSES_UM[7]), 2.0)[:, 7], 0.625)


def test_common_slope_fit_equals_a_plain_least_squares_fit():
    rates = draw(hit_rates(plausible_thresholds(), 2.3), 16, seed=1)
    smoothed = curve.smooth((rates == 1).mean(axis=0), "common_slope")
    rows = [r for r in range(16) if np.nanmax(smoothed[r]) > 0.625 > np.nanmin(smoothed[r])]

    def errors(x):
        model = 0.25 + 0.75 / (1 + np.exp(-x[-1] * (CONTRAST - x[:-1, None])))
        return (model - smoothed[rows])[CELL_PRESENT[rows]]

    start = np.append(np.log(1 - np.exp(-MU * plausible_thresholds()[rows])), 2.0)
    best = least_squares(errors, start, xtol=1e-12, ftol=1e-12, gtol=1e-12).x
    expected = dict(zip(rows, -np.log(1 - np.exp(best[:-1])) / MU, strict=True))
    found = curve.thresholds((rates == 1).mean(axis=0), "common_slope")
    assert found.slope == pytest.approx(best[-1], rel=2e-3)
    for row in range(3, 15):
        assert found.t_auto_um[row - 3] == pytest.approx(expected[row], rel=2e-3)


def test_limits_fit_as_published():
    for name, coefficients in limits.LIMIT_COEFFICIENTS.items():
        found = curve.third_order_coefficients(limits.LIMIT_DIAMETERS_MM, limits.LIMITS[name])
        np.testing.assert_allclose(found, coefficients, atol=6e-6)
        np.testing.assert_allclose(
            limits.limit_curve(name, limits.LIMIT_DIAMETERS_MM), limits.LIMITS[name], rtol=0.01, atol=0.001
        )
    assert (limits.limit_curve("achievable", DIAMETERS_MM) < limits.limit_curve("acceptable", DIAMETERS_MM)).all()


def test_third_order_fit_recovers_a_third_order_curve_and_stays_non_negative():
    truth = np.array([0.03, 0.02, 0.01, 0.0002])
    values = curve.third_order_curve(truth, curve.CDC_DIAMETERS_MM)
    np.testing.assert_allclose(curve.third_order_coefficients(curve.CDC_DIAMETERS_MM, values), truth, rtol=1e-6)
    assert (curve.third_order_coefficients(curve.CDC_DIAMETERS_MM, 1 / values) >= 0).all()


def test_human_factors_agree_with_the_independent_check():
    factor = dict(zip(curve.CDC_DIAMETERS_MM, curve.HUMAN_FACTORS, strict=True))
    assert abs(factor[0.10] - 1.50) <= 0.04
    assert abs(factor[0.25] - 1.82) <= 0.06


def test_human_equivalent_by_contrast_and_by_thickness():
    thin, thick = np.full(12, 1e-4), np.full(12, 1.5)
    np.testing.assert_allclose(
        curve.human_equivalent(thin, "contrast"), curve.human_equivalent(thin, "thickness"), rtol=1e-4
    )
    by_contrast = curve.human_equivalent(thick, "contrast")
    np.testing.assert_allclose(1 - np.exp(-MU * by_contrast), curve.HUMAN_FACTORS * (1 - np.exp(-MU * 1.5)))
    assert (by_contrast > 1.03 * curve.human_equivalent(thick, "thickness")).all()


def test_table_of_a_curve():
    detections = draw(hit_rates(plausible_thresholds(1.3), 2.3), 32, seed=2)
    table = curve.fit_curve(detections, bootstrap=200, seed=1)
    assert list(table.columns) == [
        "diameter_mm", "t_auto_um", "t_human_um", "cdc_um", "ci_low_um", "ci_high_um", "censored",
    ]  # fmt: skip
    assert table["diameter_mm"].tolist() == [1.0, 0.8, 0.63, 0.5, 0.4, 0.31, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08]
    np.testing.assert_allclose(table["t_human_um"], table["t_auto_um"] * curve.HUMAN_FACTORS)
    assert (table["ci_low_um"] < table["cdc_um"]).all()
    assert (table["cdc_um"] < table["ci_high_um"]).all()
    assert table["censored"].dtype == bool
    assert not table["censored"].any()
    pooled = curve.fit_curve(detections, bootstrap=0)
    assert np.isnan(pooled["ci_low_um"]).all()
    np.testing.assert_array_equal(pooled["cdc_um"], table["cdc_um"])


def test_bootstrap_is_reproducible_and_narrows_with_images():
    rates = hit_rates(plausible_thresholds(1.3), 2.3)
    few, many = draw(rates, 16, seed=3), draw(rates, 144, seed=3)
    first, second = (curve.fit_curve(few, bootstrap=100, seed=7) for _ in range(2))
    assert first.equals(second)
    assert not first["ci_low_um"].equals(curve.fit_curve(few, bootstrap=100, seed=8)["ci_low_um"])
    width = [np.log(t["ci_high_um"] / t["ci_low_um"]).mean() for t in (first, curve.fit_curve(many, bootstrap=100))]
    assert width[0] / width[1] == pytest.approx(3, rel=0.3)  # 9 times the images


@pytest.mark.parametrize(("trials", "bootstrap"), [ci(25, 100), long(40, 150)])
def test_bootstrap_interval_covers_the_curve_of_many_images(trials, bootstrap):
    rates = hit_rates(plausible_thresholds(1.3), 2.3)
    truth = curve.fit_curve(draw(rates, 4000, seed=0), bootstrap=0)["cdc_um"]
    inside = []
    for seed in range(trials):
        table = curve.fit_curve(draw(rates, 16, seed=100 + seed), bootstrap=bootstrap, seed=seed)
        inside.append((table["ci_low_um"] < truth) & (truth < table["ci_high_um"]))
    assert 0.86 < np.mean(inside) <= 1.0


def test_thresholds_outside_the_range_are_clamped_and_flagged():
    every = np.where(CELL_PRESENT, 1, -1).astype(np.int8)
    table = curve.fit_curve(np.stack([every] * 3), bootstrap=20)
    assert table["censored"].all()
    assert (limits.censored_side(table) == "below").all()
    assert (table["t_auto_um"] == 0.03).all()
    none = np.where(CELL_PRESENT, 2, -1).astype(np.int8)
    table = curve.fit_curve(np.stack([none] * 3), bootstrap=20)
    assert (limits.censored_side(table) == "above").all()
    assert (table["t_auto_um"] == 2.0).all()
    assert np.isfinite(table[["t_human_um", "cdc_um", "ci_low_um"]].to_numpy()).all()
    assert np.isinf(table["ci_high_um"]).all()  # nothing is known of a threshold above the range but its lower bound
    mixed = curve.fit_curve(draw(hit_rates(plausible_thresholds(0.5), 2.3), 16, seed=4), bootstrap=20)
    side = limits.censored_side(mixed)
    assert side[0] == "below"
    assert side[-1] == ""


def test_thresholds_below_the_thinnest_disc_do_not_bend_the_curve_of_the_others():
    # The five largest diameters lie below the thinnest disc; the measured ones keep their curve, which the clamped
    # values would lift by 20 to 90 % at the large end.
    truth = np.array([0.004, 0.008, 0.004, 0.00012])
    human = limits.third_order_curve(truth, curve.CDC_DIAMETERS_MM)
    bound = 0.03 * curve.HUMAN_FACTORS
    side = np.where(human < bound, -1, 0)
    assert (side < 0).sum() == 5
    found = curve.third_order_coefficients(curve.CDC_DIAMETERS_MM, np.maximum(human, bound), side)
    np.testing.assert_allclose(found, truth, rtol=1e-6)
    clamped = curve.third_order_coefficients(curve.CDC_DIAMETERS_MM, np.maximum(human, bound))
    assert limits.third_order_curve(clamped, np.array([1.0])) > 1.5 * human[0]
    # The same at the other end of the range.
    truth *= 25
    thick = limits.third_order_curve(truth, curve.CDC_DIAMETERS_MM)
    bound = 2 * curve.HUMAN_FACTORS
    side = np.where(thick > bound, 1, 0)
    assert 0 < (side > 0).sum() < 6
    found = curve.third_order_coefficients(curve.CDC_DIAMETERS_MM, np.minimum(thick, bound), side)
    np.testing.assert_allclose(found, truth, rtol=1e-6)


@pytest.mark.parametrize("circling", [False, True])
def test_a_curve_whose_active_set_circles_is_the_least_squares_one(monkeypatch, circling):
    # Both stopped scipy's nnls ("Maximum number of iterations reached") as long as the columns had their own lengths.
    smooth = [0.0633, 0.06316367, 0.08401934, 0.1070226, 0.13005912, 0.17055902, 0.21688967, 0.27718375, 0.34474483,
              0.42047114, 0.51989678, 0.66127075]  # fmt: skip
    rough = [0.0633, 0.09247773, 0.07307874, 0.09036092, 0.28730843, 0.29389292, 0.31918831, 0.20980224, 0.51748845,
             0.46229765, 0.49812248, 0.75758925]  # fmt: skip
    if circling:
        monkeypatch.setattr("scipy.optimize.nnls", mock.Mock(side_effect=RuntimeError))
    side = np.array([-1] + [0] * 11)
    for thresholds in (smooth, rough):
        found = curve.third_order_coefficients(curve.CDC_DIAMETERS_MM, thresholds, side)
        design = curve.CDC_DIAMETERS_MM[:, None] ** -np.arange(4.0) / np.array(thresholds)[:, None]
        residual = design @ found - 1
        residual[0] = max(residual[0], 0)  # a bound that is respected does not count
        length = np.linalg.norm(design, axis=0)
        slope = design.T @ residual / length
        assert (found >= 0).all()
        assert slope.min() > -1e-9
        assert np.abs(slope * found * length).max() < 1e-9


def test_a_bound_that_the_measured_points_would_cross_holds_the_curve():
    diameter = curve.CDC_DIAMETERS_MM
    rising = 0.05 + 0.02 / diameter
    side = np.where(diameter > 0.6, -1, 0)
    free = curve.third_order_coefficients(diameter, rising, np.zeros(12, int))
    held = curve.third_order_coefficients(diameter, np.where(side < 0, 0.04, rising), side)
    at = np.array([1.0])
    assert limits.third_order_curve(held, at) < limits.third_order_curve(free, at)


def test_the_interval_of_a_censored_threshold_holds_the_truth():
    truth = plausible_thresholds(0.5)
    result = curve.standard_curve(draw(hit_rates(truth, 2.3), 16, seed=4), bootstrap=100)
    table, censored = result.table, result.table["censored"].to_numpy()
    assert result.side[:3].tolist() == ["below"] * 3
    assert (result.extrapolated == censored).all()
    human = truth[3:15] * curve.HUMAN_FACTORS
    assert (table["ci_low_um"][censored] == 0).all()
    assert (human[censored] < table["ci_high_um"][censored]).all()
    assert (table["cdc_um"] <= table["ci_high_um"]).all()
    np.testing.assert_allclose(table["cdc_um"][~censored], human[~censored], rtol=0.12)


def curve_table(cdc, low, high):
    values = {"cdc_um": cdc, "ci_low_um": low, "ci_high_um": high}
    columns = {name: np.full(12, float(value)) for name, value in values.items()}
    return pd.DataFrame({"diameter_mm": curve.CDC_DIAMETERS_MM, **columns})


def test_verdicts_are_given_where_limits_exist_and_take_the_interval_into_account():
    found = limits.verdicts(curve_table(0.09, 0.08, 0.1))
    assert found["diameter_mm"].tolist() == [1.0, 0.5, 0.25, 0.1] * 2
    acceptable = found[found["limit"] == "acceptable"]
    assert acceptable["limit_um"].tolist() == [0.091, 0.150, 0.352, 1.68]
    assert acceptable["verdict"].tolist() == ["not determined", "met", "met", "met"]
    assert limits.overall_verdict(acceptable["verdict"]) == "not determined"
    achievable = found[found["limit"] == "achievable"]
    assert achievable["verdict"].tolist() == ["exceeded", "met", "met", "met"]
    assert limits.overall_verdict(achievable["verdict"]) == "exceeded"
    assert limits.overall_verdict(acceptable["verdict"][1:]) == "met"
    assert limits.overall_verdict(acceptable["verdict"][:0]) == "not determined"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0, 0.0633, "met"),  # a bound below the limit is enough
        (0, 0.2, "not determined"),
        (0.07, np.inf, "not determined"),
        (0.1, np.inf, "exceeded"),
        (0.05, 0.091, "met"),
        (np.nan, np.nan, "not determined"),
    ],
)
def test_a_bound_gives_a_verdict_where_it_can(low, high, verdict):
    found = limits.verdicts(curve_table(0.06, low, high), {"local": {1.0: 0.091}})
    assert found["verdict"].tolist() == [verdict]


def test_limits_of_ones_own_are_held_at_the_curves_diameters_only():
    table = curve_table(0.09, 0.08, 0.1)
    assert limits.verdicts(table, {"local": {0.08: 3, 0.31: 0.05}})["verdict"].tolist() == ["met", "exceeded"]
    with pytest.raises(ValueError, match="found a limit at 2 mm, expected one of the curve's diameters"):
        limits.verdicts(table, {"local": {2.0: 0.069}})
    with pytest.raises(ValueError, match="expected a thickness"):
        limits.verdicts(table, {"local": {1.0: -1}})


def test_chance_alone_is_above_the_range():
    table = curve.fit_curve(draw(np.full((16, 16), 0.25), 64, seed=5), bootstrap=0)
    assert (limits.censored_side(table) == "above").all()


def test_one_image_has_a_curve_but_no_interval():
    table = curve.fit_curve(draw(hit_rates(plausible_thresholds(1.3), 2.3), 1, seed=6))
    assert np.isfinite(table["cdc_um"]).all()
    assert table[["ci_low_um", "ci_high_um"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("detections", "words"),
    [
        (np.zeros((0, 16, 16), np.int8), "at least one image"),
        (np.ones((16, 16), np.int8), "expected \\(images, 16, 16\\)"),
        (np.ones((2, 16, 16), np.int8), "do not fit CDMAM 3.4"),
        (np.where(CELL_PRESENT, 0, -1)[None], "do not fit CDMAM 3.4"),
    ],
)
def test_what_are_no_detection_matrices_is_refused(detections, words):
    with pytest.raises(ValueError, match=words):
        curve.fit_curve(detections)


def test_unknown_options_are_refused():
    detections = draw(np.full((16, 16), 0.8), 2, seed=7)
    with pytest.raises(ValueError, match="expected 'thickness' or 'contrast'"):
        curve.fit_curve(detections, human="both")
    with pytest.raises(ValueError, match="expected 'held_slope' or 'common_slope'"):
        curve.fit_curve(detections, fit="free")
    with pytest.raises(ValueError, match="expected one of"):
        limits.limit_curve("good", curve.CDC_DIAMETERS_MM)


def test_coefficient_of_variation_is_that_of_fresh_sets_of_images():
    rates = hit_rates(plausible_thresholds(1.3), 2.3)
    resampled = curve.coefficient_of_variation(draw(rates, 256, seed=8), n=16, draws=300)
    fresh = np.array(
        [curve.thresholds((draw(rates, 16, seed=1000 + k) == 1).mean(axis=0)).t_auto_um for k in range(150)]
    )
    expected = fresh.std(axis=0, ddof=1) / fresh.mean(axis=0)
    ratio = resampled["coefficient_of_variation_t_auto"].to_numpy() / expected
    assert 0.8 < np.exp(np.log(ratio).mean()) < 1.25
    assert (resampled["coefficient_of_variation"] < 0.08)[:-2].all()  # the last two lie near the thickest disc
    assert (resampled["coefficient_of_variation"] < resampled["coefficient_of_variation_t_auto"]).mean() > 0.8
    with pytest.raises(ValueError, match="at least 64"):
        curve.coefficient_of_variation(draw(rates, 63, seed=9), n=16)


def test_the_standard_readers_own_thresholds_are_reproduced(real_data):
    folder = real_data / "cdmam_reference" / "standard_reader"
    matrices = np.stack([np.loadtxt(path, dtype=int) for path in sorted(folder.glob("*.corner.txt"))])
    found = curve.thresholds((matrices == 1).mean(axis=0), "common_slope")
    published = [0.0365, 0.0492, 0.0710, 0.0985, 0.1279, 0.1921, 0.2742, 0.4171, 0.6793]  # 0.50 ... 0.08 mm
    np.testing.assert_allclose(found.t_auto_um[3:], published, rtol=3e-3)
    assert (found.side[:3] == -1).all()
    assert found.slope == pytest.approx(2.32, rel=0.02)
