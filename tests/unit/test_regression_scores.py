"""Scores of predicted numbers: against scipy and closed forms, with intervals that cover, beside shortcuts."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from xiqa.metrics import regression
from xiqa.metrics.regression_findings import describe_regression
from xiqa.metrics.shortcut_classification import shortcut_features


def predictions(patients=20, per_patient=3, error=0.5, seed=0):
    rng = np.random.default_rng(seed)
    n = patients * per_patient
    truth, uncertainty = rng.normal(size=n), np.full(n, error)
    return pd.DataFrame(
        {
            "image": [f"i{k}" for k in range(n)],
            "patient": np.repeat(np.arange(patients), per_patient),
            "target": truth,
            "predicted_target": truth + error * rng.normal(size=n),
            "aleatoric_target": 0.6 * uncertainty,
            "epistemic_target": 0.8 * uncertainty,
        }
    )


def test_scores_are_those_of_independent_implementations():
    rows = predictions()
    found = regression.scores(rows, "target").set_index("metric")["value"]
    error = rows["predicted_target"] - rows["target"]
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert found["mae"] == pytest.approx(error.abs().mean())
    assert found["bias"] == pytest.approx(error.mean())
    assert found["pearson"] == pytest.approx(pearsonr(rows["target"], rows["predicted_target"])[0])
    assert found["spearman"] == pytest.approx(spearmanr(rows["target"], rows["predicted_target"])[0])
    assert found["coverage_95"] == pytest.approx((error.abs() <= 1.96 * 0.5).mean())
    assert found["error_over_uncertainty"] == pytest.approx(np.sqrt((error**2).mean()) / 0.5)


def test_intervals_of_correlations_cover():
    rng, covered = np.random.default_rng(1), []
    rho = 0.8 * np.sqrt(2) / np.sqrt(0.64 * 2 + 0.45)
    for _ in range(150):
        patients = np.repeat(np.arange(10), 2)
        x = rng.normal(size=20) + rng.normal(size=10)[patients]
        y = 0.8 * x + 0.6 * rng.normal(size=20) + 0.3 * rng.normal(size=10)[patients]
        _, low, high = regression.correlation(x, y, patients)
        covered.append(low <= rho <= high)
    assert np.mean(covered) >= 0.93


def test_few_patients_and_constant_predictions_have_no_interval_and_say_why():
    few = regression.scores(predictions(patients=4), "target")
    assert few["ci_low"].isna().all()
    assert few["reason"].str.contains("too few patients: 4, expected 6").all()
    constant = regression.scores(predictions().assign(predicted_target=1.0), "target").set_index("metric")
    assert np.isnan(constant.loc["pearson", "value"])
    assert constant.loc["pearson", "reason"] == "all values are equal"


@pytest.mark.parametrize(
    "change", [{"predicted_target": np.nan}, {"aleatoric_target": 0.0, "epistemic_target": 0.0}, {"image": "same"}]
)
def test_predictions_that_are_none_are_refused(change):
    with pytest.raises(ValueError, match="predictions"):
        regression.scores(predictions().assign(**change), "target")


def test_a_header_that_gives_the_target_away_is_found_and_beats_the_network():
    rng = np.random.default_rng(0)
    n = 120
    images, target = rng.random((n, 16, 16)), rng.normal(size=n)
    table = pd.DataFrame(
        {"image": [f"i{k}" for k in range(n)], "patient": np.arange(n) // 2, "target": target,
         "part": np.where(np.arange(n) < 80, "train", "test"), "header_dose": 3 * target + 0.1 * rng.normal(size=n)}
    )  # fmt: skip
    found = regression.shortcut_predictions(shortcut_features(images, table), table, "target")
    assert {"header", "intensity", "noise", "borders", regression.TRAINING_MEAN} <= set(found)
    test = table[table["part"] == "test"]
    network = test.assign(predicted_target=test["target"] + 0.5, aleatoric_target=0.5)
    compared = regression.compare(network, found, "target").set_index("shortcut")
    assert compared.loc["header", "verdict"] == "worse"
    assert compared.loc["header", "shortcut_rmse"] < 0.1
    assert compared.loc[regression.TRAINING_MEAN, "verdict"] == "better"
    assert compared.loc["header", "network_rmse"] == pytest.approx(0.5)


def test_the_noise_of_an_image_is_estimated_in_spite_of_its_edges():
    image = np.zeros((128, 128))
    image[:, 60:] = 5
    noisy = image + np.random.default_rng(0).normal(0, 0.2, image.shape)
    assert shortcut_features(noisy[None])["noise_sd"][0] == pytest.approx(0.2, rel=0.05)


def findings_of(worst: str, patients: int = 20) -> str:
    network = {"architecture": "small_resnet", "weights": "trained", "seed": "ensemble"}
    scores = regression.scores(predictions(patients), "target").assign(**network)
    compared = pd.DataFrame(
        [{"target": "target", "shortcut": "header", "network_rmse": 0.5, "shortcut_rmse": 0.6, "ci_low": -1.0,
          "verdict": worst, "n_patients": 20, **network}]
    )  # fmt: skip
    shares = pd.DataFrame(
        {"group": "ensemble", "method": ["omig", "random"], "structure": "defect", "n": 9, "enrichment": [2.5, 1.0],
         "enrichment_low": [2.0, 0.9], "enrichment_high": [3.0, 1.1], "lies_there": ["more", "not told apart"]}
    )  # fmt: skip
    told = describe_regression(scores, compared, shares, {"target": "mGy"})
    return " ".join(text for _, text in told if isinstance(text, str))


def test_findings_say_what_the_tables_say():
    text = findings_of("better")
    rmse = regression.scores(predictions(), "target").iloc[0]
    assert f"{rmse['value']:.3g} (95 % interval {rmse['ci_low']:.3g} to {rmse['ci_high']:.3g}) mGy" in text
    assert "On 60 test images of 20 patients" in text
    assert "The ensemble is better than the shortcut that sees header (RMSE 0.5 against 0.6)" in text
    assert "Maps of 1 of 1 methods lie on the defect more than by its area alone: OMIG 2.5 (2.0 to 3.0)." in text
    assert "Maps of 0 of 1 controls" in text
    assert "The ensemble is worse than the shortcut" in findings_of("worse")
    assert "is not told apart from the shortcut" in findings_of("not told apart")


def test_findings_of_few_patients_say_that_nothing_can_be_said():
    text = findings_of("not told apart", patients=4)
    assert "nan" not in text
    assert "too few patients: 4, expected 6" in text
    assert "whether that differs from the 95 % it should be cannot be said" in text
    assert "not told apart from the 95 %" not in text
