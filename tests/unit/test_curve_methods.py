"""Ways to a curve beside one another: scores by hand, and a study's tables put together."""

import numpy as np
import pandas as pd
import pytest

from xiqa.cdmam.graded import GradedImage, counted_threshold_um
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, DIAMETERS_MM, GEOMETRIES
from xiqa.config import Detector, Exposure
from xiqa.metrics.curve_methods import analytic_curve_um, curve_methods, score_curves
from xiqa.metrics.statistics import interval

EXPOSURE = Exposure(tube_voltage_kv=26, exposure_mas=100, noise_level=20)


def test_scores_by_hand():
    truth = np.full(12, 0.5)
    found = np.tile([0.55, 0.45], (1, 6))
    row = score_curves("counting", truth, np.where(np.arange(12) < 6, found, np.nan), 0.46, 0.6)
    assert row["diameters"] == 0.5
    assert row["relative_error"] == pytest.approx(0.1)
    assert row["relative_bias"] == pytest.approx(0, abs=1e-12)
    assert row["coverage_95"] == 1.0
    assert np.isnan(score_curves("shortcut", truth, found)["coverage_95"])
    assert np.isnan(row["relative_error_low"])
    many = np.linspace(0.5, 0.6, 11)[:, None] * np.ones(12)
    row = score_curves("counting", truth, many, 0.95 * many, 1.06 * many)
    assert row["relative_error_low"] < row["relative_error"] < row["relative_error_high"]
    assert (row["relative_error_low"], row["relative_error_high"]) == pytest.approx(interval(abs(many[:, 0] / 0.5 - 1)))
    assert 0 <= row["coverage_95_low"] < row["coverage_95"] < row["coverage_95_high"] <= 1
    assert row["coverage_95"] == pytest.approx(3 / 11)
    assert score_curves("counting", truth, found, 0.51, np.inf)["coverage_95"] == 0.0


def test_each_way_is_scored_against_the_analytic_curve():
    truth = analytic_curve_um(EXPOSURE, Detector(), GEOMETRIES["standard_reader"], "thickness")
    assert (np.diff(truth) > 0).all()
    known = 0.006 + 0.009 / DIAMETERS_MM + 0.0025 / DIAMETERS_MM**2
    image = GradedImage(
        ln_threshold=np.log(known), covariance=0.01**2 * np.eye(16), amplitude_counts=1.0, attenuation_per_um=0.17,
        blur_px=0.8, magnification=1.0, correlation_mm=0.05, noise=known, ratio=np.ones(16), ratio_sd=np.ones(16),
        pattern=np.empty((0, 0)), warnings=(),
    )  # fmt: skip
    assert (counted_threshold_um(known, 0.17, 0.05) > known[3:15]).all()
    curves = pd.DataFrame(
        {
            "setting": "ood", "diameter_mm": CDC_DIAMETERS_MM, "images": 16, "standard_um": truth,
            "standard_low_um": 0.9 * truth, "standard_high_um": 1.1 * truth, "standard_censored": [True] + [False] * 11,
        }
    )  # fmt: skip
    predictions = pd.DataFrame(
        {
            "group": "ood", "predicted_um": 1.02 * truth, "shortcut_um": 1.2 * truth,
            "aleatoric_um": 0.03 * truth, "epistemic_um": 0.0,
        }
    )  # fmt: skip
    table = curve_methods({"ood": truth}, curves, {"ood": {"a": image}}, predictions, "thickness").set_index("method")
    assert table.index.tolist() == ["graded signals", "ensemble", "shortcut", "counting"]
    assert table["images"].tolist() == [1, 1, 1, 16]
    assert table.loc["ensemble", "relative_error"] == pytest.approx(0.02)
    assert table.loc["ensemble", "coverage_95"] == 1.0
    assert table.loc["shortcut", "relative_bias"] == pytest.approx(0.2)
    assert table.loc["counting", "diameters"] == pytest.approx(11 / 12)
    assert table.loc["counting", "relative_error"] == pytest.approx(0, abs=1e-12)
