"""Scores of methods side by side: settings are counted, censored truths are not."""

import numpy as np
import pandas as pd
import pytest

from xiqa.figures.generalise import plot_generalise
from xiqa.files import read_table, write_table
from xiqa.metrics.generalise import bounds, findings, scores, shortcut_spread


def rows(method, group, setting, image, ratio, censored=False, half_width=0.2):
    truth = np.array([0.05, 0.5])
    predicted = truth * ratio
    return pd.DataFrame(
        {
            "method": method, "group": group, "setting": setting, "image": image, "diameter_mm": [1.0, 0.1],
            "truth_um": truth, "predicted_um": predicted, "low_um": predicted * (1 - half_width),
            "high_um": predicted * (1 + half_width), "censored": [False, censored],
        }
    )  # fmt: skip


@pytest.fixture
def table():
    return scores(
        pd.concat(
            [
                rows("cells", "drawn", "test_0", "test_0-0", 1.1),
                rows("cells", "drawn", "test_0", "test_0-1", 1.1),
                rows("cells", "drawn", "test_0", "test_0-2", 1.1),
                rows("cells", "drawn", "test_1", "test_1-0", 0.5, censored=True),
                rows("shortcut", "drawn", "test_0", "test_0-0", 1.4, half_width=np.nan),
                rows("counted", "drawn", "test_0", "", 1.0),
            ]
        )
    )


def test_each_setting_weighs_the_same_and_censored_points_nothing(table):
    by = table.set_index(["method", "diameter_mm"])
    assert by.loc[("cells", 1.0), "relative_error"] == pytest.approx((0.1 + 0.5) / 2)
    assert by.loc[("cells", 1.0), "coverage_95"] == pytest.approx(3 / 4)
    assert by.loc[("cells", 0.1), "relative_error"] == pytest.approx(0.1)
    assert by.loc[("cells", 0.1), "settings"] == 1
    whole = table[table["diameter_mm"].isna()].set_index("method")
    assert whole.loc["cells", "relative_error"] == pytest.approx((0.1 + 0.5) / 2)
    assert whole.loc["cells", "images"] == 4
    assert np.isnan(whole.loc["shortcut", "coverage_95"])
    assert whole.loc["shortcut", "ratio"] == pytest.approx(1.4)


@pytest.mark.parametrize(("own", "verdict"), [(1.1, "better"), (1.8, "worse"), (1.4, "not told apart")])
def test_a_verdict_compares_the_same_settings(own, verdict):
    noise = np.random.default_rng(0).normal(0, 0.03, (8, 2))
    parts = [
        rows(method, "drawn", f"test_{number}", f"test_{number}-0", ratio + noise[number, column])
        for number in range(8)
        for column, (method, ratio) in enumerate((("cells", own), ("shortcut", 1.4)))
    ]
    table = scores(pd.concat(parts)).set_index("method")
    assert set(table.loc["cells", "against_shortcut"]) == {verdict}
    assert set(table.loc["shortcut", "against_shortcut"]) == {""}


def test_the_spread_of_the_shortcut_is_that_of_measured_points():
    truth = np.ones((4, 3))
    predicted = np.exp([[0.1, 1, 0.2], [-0.1, 0.3, 0.2], [0.1, 0.3, 0.2], [-0.1, 0.3, 0.2]])
    censored = np.zeros((4, 3), bool)
    censored[0, 1] = True
    censored[:, 2] = True
    found = shortcut_spread(predicted, truth, censored)
    measured = np.log(predicted)[~censored]
    np.testing.assert_allclose(found, [0.1, 0.3, np.sqrt(np.mean(measured**2))])
    low, high = bounds(np.array([2.0]), np.array([0.1]), True)
    np.testing.assert_allclose(low * high, 4.0)
    np.testing.assert_allclose(bounds(np.array([2.0]), np.array([0.1]), False), [[1.804], [2.196]])


def test_findings_say_what_the_scores_say_and_the_figure_has_a_line_for_each_method(table, tmp_path):
    shares = pd.DataFrame(
        {
            "group": "all", "method": ["cells", "cells", "sampled"], "structure": ["disc", "background", "disc"],
            "share_abs": [0.3, 0.7, 0.02], "share_area": [0.02, 0.98, 0.02],
        }
    )  # fmt: skip
    write_table(tmp_path / "scores.csv", table)
    table = read_table(tmp_path / "scores.csv")
    told = findings(table, shares)
    sentences = [text for _, text in told if isinstance(text, str)]
    assert sentences[0] == (
        "At held-out drawn settings the mean relative error of the shortcut (background mean and SD) is 40.0%."
    )
    assert sentences[1].endswith("the network of the cells is 30.0%. It is not told apart from the shortcut.")
    assert "Of the map of the network of the cells 30.0% lies on discs, which have 2.0% of the image." in sentences
    assert len(plot_generalise(table).axes) == 1
