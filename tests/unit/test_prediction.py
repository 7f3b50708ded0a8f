"""Prediction scores by hand on small tables, and by closed forms on large ones."""

import numpy as np
import pandas as pd
import pytest

from xiqa.metrics.prediction import (
    diameter_scores,
    error_against_uncertainty,
    prediction_scores,
    predictions_table,
)

DIAMETERS_MM = np.array([1.00, 0.80, 0.63, 0.50, 0.40, 0.31, 0.25, 0.20, 0.16, 0.13, 0.10, 0.08])


def table(groups, truth_um, predicted_um, aleatoric_um=0.1, epistemic_um=0.0, censored=False) -> pd.DataFrame:
    shape = (len(groups), 12)
    predicted = {"predicted_um": predicted_um, "aleatoric_um": aleatoric_um, "epistemic_um": epistemic_um}
    return predictions_table(
        [f"image-{n}" for n in range(len(groups))],
        groups,
        DIAMETERS_MM,
        np.broadcast_to(truth_um, shape),
        {name: np.broadcast_to(values, shape) for name, values in predicted.items()},
        np.broadcast_to(censored, shape),
    )


def test_predictions_table_keeps_image_and_diameter_together():
    truth = np.arange(24.0).reshape(2, 12)
    rows = table(["scenario_1", "ood"], truth, truth + 1)
    assert list(rows.columns) == [
        *["image", "group", "diameter_mm", "truth_um", "predicted_um", "aleatoric_um", "epistemic_um"],
        "censored",
    ]
    row = rows[(rows["image"] == "image-1") & (rows["diameter_mm"] == 0.08)].iloc[0]
    assert (row["group"], row["truth_um"], row["predicted_um"]) == ("ood", 23, 24)


def test_scores_by_hand():
    # Errors of +0.1 in six and -0.3 in six diameters: midpoint error -0.1; in the second image twice that.
    error = np.array([1.0] * 6 + [-3.0] * 6) * 0.1
    truth = np.full(12, 1.0)
    rows = table(["scenario_1"] * 2, truth, truth + np.stack([error, 2 * error]), aleatoric_um=0.12, epistemic_um=0.05)
    rows["shortcut_um"] = 1.2
    score = prediction_scores(rows, np.full(12, 1.5)).set_index("group").loc["scenario_1"]
    assert score["n"] == 2
    assert score["rmse_midpoint_um"] == pytest.approx(np.sqrt((0.1**2 + 0.2**2) / 2))
    assert score["rmse_train_mean_um"] == pytest.approx(0.5)
    assert score["rmse_shortcut_um"] == pytest.approx(0.2)
    assert score["relative_error"] == pytest.approx((0.2 + 0.4) / 2)
    # 1.96 · hypot(0.12, 0.05) = 0.2548 covers 0.1 and 0.2 but neither 0.3 nor 0.6.
    assert score["coverage_95"] == pytest.approx(0.5)


def test_required_columns_come_first_and_the_pooled_row_last():
    groups = ["scenario_1", "scenario_2", "scenario_3", "scenario_4", "ood"]
    scores = prediction_scores(table(groups, 1.0, np.arange(5.0)[:, None]), np.ones(12))
    assert list(scores.columns[:7]) == [
        *["group", "n", "rmse_midpoint_um", "rmse_train_mean_um", "rmse_shortcut_um", "relative_error", "coverage_95"]
    ]
    assert list(scores["group"]) == [*groups, "scenario_1_3"]
    pooled = scores.iloc[-1]
    assert pooled["n"] == 3
    assert pooled["rmse_midpoint_um"] == pytest.approx(np.sqrt((1 + 0 + 1) / 3))
    assert scores["rmse_shortcut_um"].isna().all()


def test_flagged_points_stay_in_the_midpoint_and_leave_all_else():
    truth = np.where(np.arange(12) < 3, 0.03, 0.5)
    predicted = np.where(np.arange(12) < 3, 0.63, 0.6)
    rows = table(["scenario_1"] * 3, truth, predicted, aleatoric_um=0.2, censored=np.arange(12) < 3)
    score = prediction_scores(rows, truth).iloc[0]
    assert score["rmse_midpoint_um"] == pytest.approx((3 * 0.6 + 9 * 0.1) / 12)
    assert score["rmse_midpoint_unflagged_um"] == pytest.approx(0.1)
    assert score["relative_error"] == pytest.approx(0.2)
    assert score["coverage_95"] == 1
    assert score["censored_share"] == pytest.approx(0.25)
    by_diameter = diameter_scores(rows).set_index("diameter_mm")
    assert by_diameter.loc[1.0, "censored"] == 3
    assert np.isnan(by_diameter.loc[1.0, ["rmse_um", "relative_error", "coverage_95"]].astype(float)).all()
    assert by_diameter.loc[0.08, "rmse_um"] == pytest.approx(0.1)


def test_a_group_with_flags_everywhere_is_not_scored():
    score = prediction_scores(table(["scenario_1"] * 2, 0.03, 0.1, censored=True), np.ones(12)).iloc[0]
    assert np.isnan(score[["relative_error", "coverage_95", "rmse_midpoint_unflagged_um"]].astype(float)).all()
    assert score["rmse_midpoint_um"] == pytest.approx(0.07)


def test_honest_uncertainties_cover_95_percent_and_rank_the_errors():
    rng = np.random.default_rng(0)
    aleatoric, epistemic = rng.uniform(0.01, 0.2, (2, 400, 12))
    errors = rng.normal(0, np.hypot(aleatoric, epistemic))
    rows = table(["scenario_2"] * 400, 1.0, 1 + errors, aleatoric, epistemic)
    score = prediction_scores(rows, np.ones(12)).iloc[0]
    assert score["coverage_95"] == pytest.approx(0.95, abs=0.012)
    assert score["coverage_95_low"] < 0.95 < score["coverage_95_high"]
    # The error of a midpoint of 12 independent errors: their root mean square over the root of 12.
    expected = np.sqrt(np.mean(aleatoric**2 + epistemic**2) / 12)
    assert score["rmse_midpoint_low_um"] < expected < score["rmse_midpoint_high_um"]
    binned = error_against_uncertainty(rows, bins=5)
    np.testing.assert_allclose(binned["rmse_um"], binned["total_um"], rtol=0.12)
    assert list(binned["n"]) == [960] * 5
    assert binned["rank_correlation"].iloc[0] > 0.2


def test_uncertainty_is_binned_within_each_group_and_without_flagged_points():
    uncertainty = np.linspace(0.1, 0.2, 24).reshape(2, 12)
    rows = table(["a", "b"], 1.0, 1 + uncertainty, uncertainty, censored=np.arange(12) < 2)
    binned = error_against_uncertainty(rows, bins=3)
    assert list(binned["group"]) == ["a"] * 3 + ["b"] * 3
    assert binned.groupby("group")["n"].sum().tolist() == [10, 10]
    assert binned["total_um"].is_monotonic_increasing
    assert list(binned["rank_correlation"]) == pytest.approx([1] * 6)


def test_images_that_lack_diameters_are_refused():
    rows = table(["scenario_1"] * 2, 1.0, 1.0)
    with pytest.raises(ValueError, match="12 diameters"):
        prediction_scores(rows.iloc[:-1], np.ones(12))
    with pytest.raises(ValueError, match="train_mean_um: found shape \\(3,\\)"):
        prediction_scores(rows, np.ones(3))
