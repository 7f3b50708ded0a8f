"""Findings follow the numbers, whichever way they came out, and print no number that is not in their tables."""

import ast
import functools
import re

import numpy as np
import pandas as pd
import pytest
from printed_numbers import assert_printed, assert_short

from xiqa.cdmam.phantom import DIAMETERS_MM
from xiqa.metrics.calibration import calibrate
from xiqa.metrics.findings import describe_findings
from xiqa.metrics.modified_image import summarise_modified_images
from xiqa.metrics.prediction import diameter_scores, prediction_scores, predictions_table, uncertainty_dependence
from xiqa.metrics.structure_share import summarise_structure_share

GROUPS = ["scenario_1", "scenario_2", "scenario_3", "scenario_4", "ood", "recorded_standin"]
CDC_MM = DIAMETERS_MM[3:15]
PHRASES = ["0.03-2 µm", "95 % intervals", "12 diameters", "95 % would be right", "p below 0.05"]


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
        {("omig", "visit_normalised"): own, ("omig", "permuted"): permuted, ("gradient", "visit_normalised"): own}
    )
    table = summarise_modified_images(rows).set_index(["group", "method", "form"]).loc["all"]
    best = table.loc["omig", "visit_normalised"]
    assert (best["n"], best["lowered"]) == (20, 19)
    # The exact interval of 19 of 20: 20 of 20 have 2.5 % where the share is 0.9987, 19 or more where it is 0.7513.
    assert best["lowered_share_low"] == pytest.approx(0.7513, abs=2e-4)
    assert best["lowered_share_high"] == pytest.approx(0.9987, abs=2e-4)
    assert best["median_change_um"] == pytest.approx(np.median(own))
    assert best["median_change_percent"] == pytest.approx(np.median(own) / 0.5 * 100)
    # All 20 differences have one sign and none is tied: the exact one-sided probability is 1 in 2^20.
    assert table.loc["omig", "permuted"]["p_value"] == pytest.approx(2**-20)
    # Equal changes are no evidence, and the reference is not compared with itself.
    assert np.isnan(table.loc["gradient", "visit_normalised"]["p_value"])
    assert np.isnan(best["p_value"])


def predictions(ensemble_error: dict[str, float], shortcut_error: float, image_spread: float = 0.0, n: int = 9):
    """A table in which every error is set: all of a group's images err by about the same, in units of the truth."""
    rng = np.random.default_rng(3)
    truth = np.tile((0.08 / CDC_MM) ** 1.2, (len(GROUPS) * n, 1)) * np.repeat(1 + 0.31 * np.arange(6), n)[:, None]
    groups = np.repeat(GROUPS, n)
    error = np.array([ensemble_error.get(group, 0.05) for group in groups])[:, None] * (
        1 + 0.1 * rng.standard_normal((len(groups), 1))
    )
    spread = np.exp(image_spread * rng.standard_normal((len(groups), 1)))
    predicted = {
        "predicted_um": truth * (1 + error),
        "aleatoric_um": 0.3 * (0.08 / CDC_MM) * spread,
        "epistemic_um": 0.1 * (0.08 / CDC_MM) * spread,
    }
    names = [f"{group}-{number}" for number, group in enumerate(groups)]
    rows = predictions_table(names, list(groups), CDC_MM, truth, predicted, truth > 2, 0.437)
    return rows.assign(shortcut_um=truth.ravel() * (1 + shortcut_error))


def methods() -> pd.DataFrame:
    """Four ways to a curve on two systems; the shortcut gives no interval."""
    ways, error = ["graded signals", "ensemble", "shortcut", "counting"], [0.021, 0.083, 0.31, 0.059]
    return pd.DataFrame(
        {
            "group": np.repeat(["scenario_1", "ood"], 4),
            "method": ways * 2,
            "images": [1, 1, 1, 16] * 2,
            "relative_error": [*error, *(1.3 * np.array(error))],
            "coverage_95": [0.96, 0.88, np.nan, 0.917, 0.94, 0.42, np.nan, 1.0],
        }
    )


def shares(n: int) -> pd.DataFrame:
    kinds = [("disc", diameter, 3.0 if diameter < 0.5 else 1.0) for diameter in DIAMETERS_MM]
    kinds += [("grid", np.nan, 0.6), ("writing", np.nan, 1.0), ("background", np.nan, 0.9)]
    rows = [
        [f"i{image}", "omig", structure, diameter, 0.01 * times * (1 + 0.1 * (-1) ** image), 0.0037 * times, 0.01]
        for image in range(n)
        for structure, diameter, times in kinds
    ]
    columns = ["image", "method", "structure", "diameter_mm", "share_abs", "share_signed", "share_area"]
    return summarise_structure_share(pd.DataFrame(rows, columns=columns).assign(group="all"))


def tables(shortcut_error=0.01, ensemble_error=None, image_spread=0.0, images=3, settings=5) -> dict[str, pd.DataFrame]:
    rows = predictions(ensemble_error or {}, shortcut_error, image_spread)
    validation = rows[rows["group"].isin(GROUPS[:settings])]
    train_mean = rows.groupby("diameter_mm", sort=False)["truth_um"].mean().to_numpy()
    changes = {
        ("omig", "published"): -0.0007, ("omig", "visit_normalised"): -0.113, ("omig", "permuted"): 0.012,
        ("gradient", "visit_normalised"): -0.098,
    }  # fmt: skip
    steps = 1 + 0.01 * np.arange(images)
    designs = {"draws": [150, 150, 300, 300], "without_replacement": [False, True] * 2}
    return {
        "curves": pd.DataFrame({"setting": np.repeat([*GROUPS, "other"], 12), "censored": [True] * 3 + [False] * 81}),
        "scores": prediction_scores(rows, train_mean),
        "uncertainty": uncertainty_dependence(rows),
        "calibration": calibrate(validation if settings else None),
        "methods": methods(),
        "modified": summarise_modified_images(
            modified_rows({kind: change * steps for kind, change in changes.items()})
        ),
        "shares": shares(images),
        "designs": pd.DataFrame(
            {**designs, "method": "gradient", "relative_error_between_repeats": [0.931, 0.912, 0.862, 0.813]}
        ),
    }


@functools.cache
def made(options: str) -> dict[str, pd.DataFrame]:
    """Tables of one set of options, made once for all tests; the tests only read them."""
    return tables(**ast.literal_eval(options))


def sentences(heading: str, **options) -> str:
    return " ".join(sentence for name, sentence in describe_findings(**made(repr(options))) if name == heading)


VARIANTS = [
    {},
    {"shortcut_error": 0.2},
    {"shortcut_error": 0.05, "ensemble_error": {"ood": 0.4, "recorded_standin": 0.7}},
    {"image_spread": 0.8, "images": 1},
    {"images": 8, "settings": 0},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_every_number_printed_is_in_its_table(options):
    parts = made(repr(options))
    # Percentages and counts that stand in a table as a sum or a share.
    censored = parts["curves"].groupby("setting")["censored"].sum()
    sources = {
        "Shortcut": [parts["scores"]],
        "Accuracy": [parts["scores"]],
        "Uncertainty": [parts["uncertainty"].head(1), parts["calibration"], parts["scores"].filter(like="coverage")],
        "Ways to a curve": [parts["methods"]],
        "Censoring": [list(censored)],
        "Modified image": [parts["modified"].query("group == 'all'")],
        "Structures": [parts["shares"]],
        "Precision of the maps": [parts["designs"].query("draws == 300")],
    }
    for heading, sentence in describe_findings(**parts):
        assert_printed(sentence, *sources[heading], phrases=PHRASES)


@pytest.mark.parametrize("options", VARIANTS)
def test_sentences_are_whole_and_short(options):
    for _, text in describe_findings(**made(repr(options))):
        for sentence in re.split(r"(?<=\.) (?=[A-Z0-9])", text):
            assert re.fullmatch(r"[A-Z0-9].*\.", sentence), sentence
        assert_short([text])


def test_the_shortcut_comes_first_and_every_group_that_does_not_beat_it_is_named():
    assert describe_findings(**made("{}"))[0][0] == "Shortcut"
    text = sentences("Shortcut", shortcut_error=0.1, ensemble_error={"ood": 0.4, "scenario_2": 0.3})
    assert "On scenario #2 and OOD background mean and SD alone predict better" in text
    assert "On scenarios #1, #3, #4 and stand-in (simulated) the ensemble predicts better" in text
    text = sentences("Shortcut", shortcut_error=0.2)
    assert "On scenarios #1-#3, #4, OOD and stand-in (simulated) the ensemble predicts better" in text
    assert "no evidence" not in text


def test_a_group_on_which_the_training_mean_is_better_is_named():
    near_the_mean = {"scenario_3": 0.4, "scenario_4": 0.4}
    text = sentences("Accuracy", ensemble_error=near_the_mean)
    assert re.search(r"On scenarios #3 and #4 the training mean, which sees no image, predicts better", text), text
    assert "On scenarios #1, #2, OOD" in text


def test_an_uncertainty_that_does_not_depend_on_the_image_says_so_first():
    first = next(sentence for name, sentence in describe_findings(**made("{}")) if name == "Uncertainty")
    assert "varies by only 0 % over the 54 test images" in first
    assert "depends on the diameter, hardly on the image" in first
    text = sentences("Uncertainty", image_spread=0.8)
    assert "it depends on the image too" in text
    assert "hardly" not in text


def test_coverage_is_given_before_and_after_and_apart_for_groups_that_validation_does_not_stand_for():
    text = sentences("Uncertainty", ensemble_error={"recorded_standin": 0.7}, settings=4)
    assert "On 4 validation settings errors are" in text
    assert "the bands are too wide" in text
    assert "No validation setting stands for OOD and stand-in (simulated)" in text
    assert "They are not calibrated" in sentences("Uncertainty", settings=0)


def test_ways_to_a_curve_are_named_with_their_error_and_coverage():
    text = sentences("Ways to a curve")
    assert "from one image by graded signals are off by 2 to 3 % of the analytic curve; their 95 % intervals" in text
    assert "by shortcut are off by 31 to 40 % of the analytic curve." in text
    assert "from 16 images by counting are off by 6 to 8 %" in text
    assert "intervals hold it at 92 to 100 % of the diameters" in text
    without = describe_findings(**{**made("{}"), "methods": methods().iloc[:0]})
    assert any("No way to a curve is scored" in sentence for _, sentence in without)


def test_modified_images_say_which_form_and_that_three_prove_little():
    text = sentences("Modified image")
    assert "in our form (divided by the visits of each pixel) lowered the midpoint in all 3 images" in text
    assert "In the form printed in the paper (divided by all draws)" in text
    assert "median -0.000707 µm, -0.14 %" in text
    assert "the OMIG map shuffled lowered it in 0 of 3 images (median +0.0121 µm)" in text
    assert "3 images prove little" in text
    text = sentences("Modified image", images=8)
    assert "by more than the OMIG map shuffled and the map of gradient at equal norm (Wilcoxon" in text
    assert "prove little" not in text


def test_structures_are_named_as_the_table_decides():
    table = shares(8)
    text = sentences("Structures", images=8)
    assert "On discs of 0.4 to 0.06 mm lies more of the OMIG map than by area" in text
    more = table[table["lies_there"] == "more"]
    assert set(more["diameter_mm"]) == {d for d in DIAMETERS_MM if d < 0.5}
    assert "grid" in re.search(r"On ([^.]*) lies less", text)[1]
    assert "not testable with one image" in sentences("Structures", images=1)


def test_the_error_of_a_map_is_the_one_between_repeats():
    assert "from 300 draws has a relative error of 81 % between repeats" in sentences("Precision of the maps")
    assert "86 % drawn with" in sentences("Precision of the maps")


def test_a_study_of_one_recorded_image_tells_nothing_apart():
    rows = predictions({}, 0.2, n=1)
    rows = rows[rows["group"] == "recorded_standin"].assign(group="recorded")
    parts = {**tables(images=1, settings=0), "scores": prediction_scores(rows, np.ones(12))}
    parts["curves"] = pd.DataFrame({"setting": "recording_1", "censored": [True] * 5 + [False] * 7})
    parts["uncertainty"] = uncertainty_dependence(rows)
    text = " ".join(sentence for _, sentence in describe_findings(**parts))
    assert "On recorded the ensemble is not shown to predict better than background mean and SD alone" in text
    assert "On recorded the ensemble is not shown to predict better than the training mean" in text
    assert "depends on the image is not testable with one test image" in text
    assert "of 12 diameters: recording 1 5" in text
    assert "nan" not in text


def test_diameter_scores_carry_both_coverages():
    assert {"coverage_95", "coverage_95_calibrated"} <= set(diameter_scores(predictions({}, 0.1)).columns)
