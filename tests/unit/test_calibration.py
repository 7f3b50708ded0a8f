"""The calibrated uncertainty covers new settings as promised, and knows what it does not know."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from xiqa.metrics.calibration import calibrate, scale_of
from xiqa.metrics.prediction import diameter_scores, uncertainty_dependence

DIAMETERS_MM = np.geomspace(1, 0.08, 12)


def rows(errors: dict[str, np.ndarray], aleatoric=0.3, epistemic=0.4, censored=False) -> pd.DataFrame:
    """A group per key, with its errors (images, 12)."""
    return pd.concat(
        pd.DataFrame(
            {
                "image": np.repeat([f"{group}-{n}" for n in range(len(error))], 12),
                "group": group,
                "diameter_mm": np.tile(DIAMETERS_MM, len(error)),
                "truth_um": 1.0,
                "predicted_um": 1.0 + error.ravel(),
                "aleatoric_um": np.broadcast_to(aleatoric, error.shape).ravel(),
                "epistemic_um": np.broadcast_to(epistemic, error.shape).ravel(),
                "censored": censored,
            }
        )
        for group, error in errors.items()
    )


def test_the_scale_by_hand():
    # √(0.3² + 0.4²) = 0.5: ratios of 0.2 and 0.6, whatever the number of images.
    table = calibrate(rows({"a": np.full((3, 12), 0.1), "b": np.full((1, 12), -0.3)})).set_index("setting")
    assert table.loc["a", "error_over_uncertainty"] == pytest.approx(0.2)
    assert table.loc["a", "images"] == 3
    everything = table.loc["all"]
    assert everything["error_over_uncertainty"] == pytest.approx(np.sqrt((0.2**2 + 0.6**2) / 2))
    assert everything["allowance"] == pytest.approx(t.ppf(0.975, 2) / 1.96)
    assert scale_of(table.reset_index()) == pytest.approx(np.sqrt(0.2) * 4.302653 / 1.96)
    # Left out, each is judged by the other alone.
    assert table.loc["a", "scale"] == pytest.approx(0.6 * t.ppf(0.975, 1) / 1.96)
    assert table.loc["a", "coverage_95_calibrated"] == 1
    assert everything["coverage_95"] == 1


@pytest.mark.parametrize("settings", [2, 4, 8])
def test_a_new_setting_is_covered_even_where_all_its_errors_are_one(settings):
    """Every error of a setting is one draw; 0.5 is stated where the truth is 1.3 (too narrow) or 0.1 (too wide)."""
    rng = np.random.default_rng(settings)
    for truth in (0.1, 1.3):
        drawn = truth * rng.standard_normal((40_000, settings + 1))
        first = calibrate(rows({str(n): np.full((2, 12), error) for n, error in enumerate(drawn[0, :-1])})).iloc[-1]
        assert first["error_over_uncertainty"] == pytest.approx(np.sqrt(np.mean((drawn[0, :-1] / 0.5) ** 2)))
        ratio = np.sqrt(np.mean((drawn[:, :-1] / truth) ** 2, axis=1))
        ends = first[["error_over_uncertainty_low", "error_over_uncertainty_high"]] / first["error_over_uncertainty"]
        # The interval of error / uncertainty holds 1 in 95 % of the studies whose uncertainty is right.
        assert np.mean((ratio * ends.iloc[0] <= 1) & (ratio * ends.iloc[1] >= 1)) == pytest.approx(0.95, abs=0.005)
        half = 1.96 * first["allowance"] * np.sqrt(np.mean(drawn[:, :-1] ** 2, axis=1))
        assert np.mean(np.abs(drawn[:, -1]) <= half) == pytest.approx(0.95, abs=0.005)


def test_flagged_points_take_no_part():
    part = pd.concat([rows({"a": np.full((2, 12), 0.1), "b": np.full((2, 12), 0.2)}), rows({"c": np.ones((1, 12))})])
    flagged = part.assign(censored=part["group"] == "c")
    assert set(calibrate(flagged)["setting"]) == {"a", "b", "all"}
    assert scale_of(calibrate(flagged)) == pytest.approx(scale_of(calibrate(part[part["group"] != "c"])))


@pytest.mark.parametrize("nothing", [None, rows({"a": np.ones((2, 12))}, censored=True)])
def test_without_a_measured_point_nothing_is_calibrated(nothing):
    assert calibrate(nothing).empty
    assert np.isnan(scale_of(calibrate(nothing)))


def test_one_setting_has_nobody_to_judge_it():
    table = calibrate(rows({"a": np.full((2, 12), 0.1)}))
    assert np.isnan(table["coverage_95_calibrated"]).all()
    assert table["scale"].iloc[-1] == pytest.approx(0.2 * t.ppf(0.975, 1) / 1.96)


def test_what_the_uncertainty_depends_on_is_told_by_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    error = rng.standard_normal((50, 12))
    by_diameter = rows({"a": error}, aleatoric=np.geomspace(0.01, 1, 12), epistemic=0)
    first = uncertainty_dependence(by_diameter).iloc[0]
    assert first["image_share"] == pytest.approx(0, abs=1e-12)
    assert first["image_variation"] == pytest.approx(0, abs=1e-12)
    sizes = np.exp(rng.normal(0, 0.5, (50, 1)))
    table = uncertainty_dependence(rows({"a": sizes * error}, aleatoric=np.broadcast_to(sizes, (50, 12)), epistemic=0))
    assert table["image_share"].iloc[0] == pytest.approx(1)
    assert table["image_variation"].iloc[1:].to_numpy() == pytest.approx(sizes.std() / sizes.mean())
    assert table["rank_correlation"].iloc[0] > 0.2
    # Equal parts: the same spread between diameters as between images.
    both = np.exp(rng.normal(0, 1, (4000, 1))) * np.exp(np.linspace(-1, 1, 12) * np.sqrt(12 * 11 / 11 / 13 * 3))
    share = uncertainty_dependence(rows({"a": np.zeros((4000, 12))}, aleatoric=both, epistemic=0))["image_share"].iloc[
        0
    ]
    spread = np.log(both[0]).var()
    assert share == pytest.approx(1 / (1 + spread), abs=0.03)
    # One number for all: no variance to share out.
    assert np.isnan(uncertainty_dependence(rows({"a": error}))["image_share"].iloc[0])


def test_coverage_per_diameter_before_and_after():
    error = np.zeros((20, 12))
    error[:, 0] = np.repeat([0.3, 0.7, 1.5, 0.0], 5)
    part = rows({"ood": error})
    scores = diameter_scores(part.assign(calibrated_um=0.25)).iloc[0]
    assert (scores["coverage_95"], scores["coverage_95_calibrated"]) == (0.75, 0.5)
    # Exact (Clopper and Pearson's) intervals of 15 and 10 of 20.
    assert scores["coverage_95_low"] == pytest.approx(0.5090, abs=2e-4)
    assert scores["coverage_95_calibrated_high"] == pytest.approx(0.7280, abs=2e-4)
    expected = np.sqrt(np.mean(np.array([0.3, 0.7, 1.5, 0.0]) ** 2))
    assert scores["error_over_uncertainty"] == pytest.approx(expected / 0.5)
    assert scores["error_over_uncertainty_calibrated"] == pytest.approx(expected / 0.25)
    assert np.isnan(diameter_scores(part)["coverage_95_calibrated"]).all()
