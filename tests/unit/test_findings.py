"""Findings follow the numbers, whichever way they came out; modified images are counted and tested."""

import numpy as np
import pandas as pd
import pytest

from xiqa.metrics.findings import describe_findings
from xiqa.metrics.modified_image import summarise_modified_images


def modified_rows(changes: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame(
            {
                "image": [f"scenario_1-{n}" for n in range(len(change))],
                "group": "scenario_1",
                "method": method,
                "form": form,
                "midpoint_before_um": 0.5,
                "midpoint_after_um": 0.5 + change,
            }
        )
        for (method, form), change in changes.items()
    )


def test_counts_medians_and_tests_of_modified_images():
    rng = np.random.default_rng(0)
    own = -0.10 + 0.01 * rng.standard_normal(20)
    own[0] = 0.02
    permuted = own + 0.09 + 0.001 * np.arange(20)
    rows = modified_rows(
        {("omig", "visit_normalised"): own, ("omig", "permuted"): permuted, ("sensitivity", "visit_normalised"): own}
    )
    table = summarise_modified_images(rows).set_index(["group", "method", "form"]).loc["all"]
    best = table.loc["omig", "visit_normalised"]
    assert (best["n"], best["lowered"]) == (20, 19)
    # Wilson's interval of 19 of 20, from its formula by hand.
    assert best["lowered_share_low"] == pytest.approx(0.7639, abs=2e-4)
    assert best["lowered_share_high"] == pytest.approx(0.9911, abs=2e-4)
    assert best["median_change_um"] == pytest.approx(np.median(own))
    # All 20 differences have one sign and none is tied: the exact one-sided probability is 1 in 2^20.
    assert table.loc["omig", "permuted"]["p_value"] == pytest.approx(2**-20)
    # Equal changes are no evidence, and the reference is not compared with itself.
    assert np.isnan(table.loc["sensitivity", "visit_normalised"]["p_value"])
    assert np.isnan(best["p_value"])


def tables(shortcut_um: float) -> dict[str, pd.DataFrame]:
    scores = pd.DataFrame(
        {
            "group": ["scenario_1", "scenario_1_3"], "n": [4, 4], "rmse_midpoint_um": 0.02, "rmse_train_mean_um": 0.1,
            "rmse_shortcut_um": shortcut_um, "coverage_95": [0.9, 0.9], "rmse_midpoint_low_um": 0.01,
            "rmse_midpoint_high_um": 0.03,
        }
    )  # fmt: skip
    shares = pd.DataFrame(
        {
            "group": "all", "method": "omig", "structure": ["disc", "grid"], "diameter_mm": [2.0, np.nan],
            "enrichment": [1.5, 2.0], "enrichment_low": [1.2, np.nan], "enrichment_high": [1.8, np.nan],
        }
    )  # fmt: skip
    curves = pd.DataFrame({"setting": ["scenario_1"] * 3 + ["other"], "censored": [True, True, False, True]})
    modified = summarise_modified_images(modified_rows({("omig", "visit_normalised"): -np.ones(3) / 10}))
    return {"curves": curves, "scores": scores, "modified": modified, "shares": shares}


def test_the_shortcut_comes_first_and_its_verdict_follows_the_numbers():
    worse, better = describe_findings(**tables(0.04)), describe_findings(**tables(0.01))
    assert worse[0][0] == better[0][0] == "Shortcut"
    assert "no evidence that it looks at discs" in better[0][1]
    assert "0.50 times" in worse[0][1]
    assert "no evidence" not in worse[0][1]


def test_findings_give_the_numbers_of_their_tables():
    text = dict(describe_findings(**tables(0.04)))
    assert "0.20 times that of predicting the training mean" in text["Accuracy"]
    assert "scenario_1 2 of 12" in text["Censoring"]
    assert "lowered in 3 of 3 images" in text["Modified image"]
    assert "disc 2 mm 1.50 (1.20-1.80)" in text["Structures"]
    assert "grid 2.00 (one image)" in text["Structures"]
