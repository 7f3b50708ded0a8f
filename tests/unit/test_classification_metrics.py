"""Scores of a classifier agree with their definitions and with scikit-learn, and say where they do not exist."""

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from xiqa.metrics.classification import (
    BIASED,
    BINS,
    RARE_CLASS,
    auc_by_severity,
    calibration_bins,
    check_predictions,
    confusion,
    drawn,
    roc_band,
    roc_curve_table,
    scores,
    weighted_auc,
)
from xiqa.metrics.statistics import TOO_FEW

TWO, THREE = ["good", "motion"], ["glioma", "meningioma", "pituitary"]


def table(probabilities, labels, patients=None) -> pd.DataFrame:
    probabilities = np.asarray(probabilities, float)
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], 1)
    n = len(labels)
    columns = {f"probability_{c}": probabilities[:, c] for c in range(probabilities.shape[1])}
    patients = np.arange(n) if patients is None else patients
    return pd.DataFrame(
        {"image": [f"i{i}" for i in range(n)], "patient": patients, "part": "test", "label": labels}
    ).assign(**columns)


def noisy(n: int, k: int, seed: int = 0, per_patient: int = 3, strength: float = 1.0) -> pd.DataFrame:
    """Softmax of noise plus the truth; the images of a patient share a part of the noise."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // per_patient
    labels = rng.integers(0, k, n)
    logits = rng.normal(0, 1, (n, k)) + rng.normal(0, 0.7, (n, k))[patients] + strength * np.eye(k)[labels]
    # Rounded, so that ties occur.
    weights = np.round(np.exp(logits), 1) + 0.1
    return table(weights / weights.sum(1, keepdims=True), labels, patients)


def value(found: pd.DataFrame, metric: str, class_name: str = "", column: str = "value"):
    (row,) = found.index[(found["metric"] == metric) & (found["class_name"] == class_name)]
    return found.loc[row, column]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=60)
def test_auc_is_the_mann_whitney_statistic_with_ties_counting_half(pairs):
    score, positive = np.array([s for s, _ in pairs], float), np.array([y for _, y in pairs])
    auc = weighted_auc(score, positive, np.ones((1, len(pairs))))[0]
    if positive.all() or not positive.any():
        assert np.isnan(auc)
    else:
        u = stats.mannwhitneyu(score[positive], score[~positive]).statistic
        assert auc == pytest.approx(u / (positive.sum() * (~positive).sum()), abs=1e-12)


def test_weighted_auc_is_that_of_the_resampled_images():
    predictions = noisy(120, 2)
    checked = check_predictions(predictions, TWO)
    weights = np.random.default_rng(3).multinomial(120, np.full(120, 1 / 120), 40)
    found = weighted_auc(checked.probabilities[:, 1], checked.labels == 1, weights.astype(float))
    for row, auc in zip(weights, found, strict=True):
        drawn_images = np.repeat(np.arange(120), row)
        expected = sk.roc_auc_score(checked.labels[drawn_images], checked.probabilities[drawn_images, 1])
        assert auc == pytest.approx(expected, abs=1e-12)


@pytest.mark.long
@pytest.mark.ci
def test_images_of_a_patient_weigh_the_same_and_each_class_has_one_patient_more():
    checked = check_predictions(noisy(90, 3, seed=2), THREE)
    worst, best = (drawn(checked, best=better, draws=4000) for better in (False, True))
    np.testing.assert_array_equal(worst.weights, best.weights)
    assert worst.labels[-3:].tolist() == [0, 1, 2]
    assert (best.probabilities.argmax(1) == best.labels)[-3:].all()
    assert not (worst.probabilities.argmax(1) == worst.labels)[-3:].any()
    for c in range(3):
        inside = checked.labels == c
        of_patient = pd.DataFrame(worst.weights[:, :-3][:, inside].T).groupby(checked.patients[inside])
        assert (of_patient.min() == of_patient.max()).all(axis=None)
        of_patients = np.column_stack([of_patient.first().to_numpy().T, worst.weights[:, -3 + c]])
        assert of_patients[:, :-1].mean() == pytest.approx(1 / (of_patient.ngroups + 1), rel=0.02)


@pytest.mark.parametrize("names", [TWO, THREE])
def test_scores_agree_with_scikit_learn(names):
    predictions = noisy(300, len(names), seed=1)
    labels, probabilities, _ = check_predictions(predictions, names)
    found = scores(predictions, names, draws=50)
    likeliest = probabilities.argmax(1)
    assert value(found, "accuracy") == pytest.approx(sk.accuracy_score(labels, likeliest))
    assert value(found, "balanced_accuracy") == pytest.approx(sk.balanced_accuracy_score(labels, likeliest))
    brier = sk.brier_score_loss(labels, probabilities, scale_by_half=True, labels=range(len(names)))
    assert value(found, "brier") == pytest.approx(brier)
    if len(names) == 2:
        assert value(found, "auc") == pytest.approx(sk.roc_auc_score(labels, probabilities[:, 1]))
    else:
        assert value(found, "auc") == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr"))
        for c, name in enumerate(names):
            assert value(found, "auc", name) == pytest.approx(sk.roc_auc_score(labels == c, probabilities[:, c]))
    assert (found["n_images"] == 300).all()
    assert (found["n_patients"] == 100).all()


@pytest.mark.parametrize(("patients", "apart"), [(6, 1), (6, 3), (20, 2)])
def test_intervals_of_ranked_scores_cover_the_truth_as_often_as_stated(patients, apart):
    # Normal scores some standard deviations apart: AUC = Φ(d / √2), recall of each class Φ(d / 2).
    truth = {"auc": stats.norm.cdf(apart / np.sqrt(2)), "balanced_accuracy": stats.norm.cdf(apart / 2)}
    rng, covered = np.random.default_rng(5), []
    for seed in range(120):
        labels = np.repeat([0, 1], patients)
        probability = stats.norm.cdf(rng.normal(apart * (labels - 0.5), 1))
        found = scores(table(probability, labels), TWO, draws=400, seed=seed).set_index("metric")
        covered.append(
            [found.loc[name, "ci_low"] <= true <= found.loc[name, "ci_high"] for name, true in truth.items()]
        )
    assert (np.mean(covered, axis=0) >= 0.93).all()


def test_balanced_accuracy_of_one_image_per_patient_has_exact_ends():
    labels = np.repeat([0, 1], 20)
    found = scores(table(labels * 0.8 + 0.1, labels), TWO, draws=20_000)
    # All right: the least of the mean of two independent recalls, each of which may have one more patient wrong.
    rng = np.random.default_rng(0)
    expected = np.quantile(1 - rng.beta(1, 20, (200_000, 2)).mean(1), 0.025)
    assert value(found, "balanced_accuracy", column="ci_low") == pytest.approx(expected, abs=0.003)
    assert value(found, "balanced_accuracy", column="ci_high") == 1


def test_images_of_one_patient_are_no_new_evidence():
    predictions = noisy(60, 2, seed=4, per_patient=1)
    repeated = pd.concat([predictions.assign(image=predictions["image"] + f"_{copy}") for copy in range(5)])
    once, many = (scores(t, TWO, draws=300).set_index("metric") for t in (predictions, repeated))
    for end in ("ci_low", "ci_high"):
        assert many.loc["auc", end] == pytest.approx(once.loc["auc", end])


def test_calibration_error_of_true_probabilities_is_chance_alone_and_vanishes_in_large_samples():
    rng = np.random.default_rng(6)

    def calibrated(n):
        true = rng.beta(0.7, 0.7, n)
        found = scores(table(true, (rng.random(n) < true).astype(int)), TWO, draws=2).set_index("metric")["value"]
        return found[["ece", "ece_if_calibrated"]].to_numpy()

    ece, chance = np.mean([calibrated(400) for _ in range(50)], axis=0)
    assert ece == pytest.approx(chance, rel=0.12)
    assert calibrated(40_000)[0] < 0.01


def test_calibration_error_of_a_boaster_is_what_he_boasts():
    # Always 0.9 sure, right 6 times in 10.
    labels = np.tile([1, 1, 1, 0, 0], 40)
    found = scores(table(np.full(200, 0.9), labels), TWO, draws=20).set_index("metric")["value"]
    assert found["ece"] == pytest.approx(0.3)
    (row,) = calibration_bins(table(np.full(200, 0.9), labels), TWO).itertuples()
    assert (row.low, row.high) == pytest.approx((13 / 15, 14 / 15))
    assert (row.confidence, row.accuracy, row.n_images) == (pytest.approx(0.9), pytest.approx(0.6), 200)
    assert row.ci_low < 0.6 < row.ci_high


def test_calibration_bins_give_the_calibration_error():
    predictions = noisy(300, 3, seed=7)
    bins = calibration_bins(predictions, THREE)
    ece = (bins["n_images"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / 300
    assert ece == pytest.approx(value(scores(predictions, THREE, draws=2), "ece"))
    assert bins["n_images"].sum() == 300
    assert len(bins) <= BINS
    assert ((bins["low"] < bins["confidence"]) & (bins["confidence"] <= bins["high"])).all()


def test_confusion_counts_and_shares():
    likeliest = np.eye(3)[[0, 0, 1, 1, 1]]
    found = confusion(table(likeliest, [0, 0, 0, 1, 1]), THREE)
    matrix = found.pivot(index="truth", columns="predicted", values="n").loc[THREE, THREE].to_numpy()
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    shares = found.groupby("truth")["share"].sum(min_count=1)
    assert shares["glioma"] == shares["meningioma"] == 1
    assert np.isnan(shares["pituitary"])


def test_roc_curve_encloses_the_auc_and_runs_within_its_band():
    predictions = noisy(150, 3, seed=8)
    curves = roc_curve_table(predictions, THREE)
    bands = roc_band(predictions, THREE, draws=300)
    found = scores(predictions, THREE, draws=2)
    for name in THREE:
        curve, band = (t[t["class_name"] == name] for t in (curves, bands))
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(value(found, "auc", name))
        assert (curve["threshold"].iloc[0], curve["fpr"].iloc[0], curve["tpr"].iloc[-1]) == (np.inf, 0, 1)
        inside = np.interp(band["fpr"], curve["fpr"], curve["tpr"])
        assert ((band["tpr_low"] - 1e-9 <= inside) & (inside <= band["tpr_high"] + 1e-9)).all()
        assert np.trapezoid(band["tpr_mean"], band["fpr"]) == pytest.approx(value(found, "auc", name), abs=0.01)


def test_severity_levels_are_scored_apart():
    levels = [noisy(90, 2, seed=9, strength=s).assign(severity=s) for s in (0.0, 3.0)]
    levels = [level.assign(image=level["image"] + f"_{number}") for number, level in enumerate(levels)]
    ungraded = levels[0].assign(image=levels[0]["image"] + "_ungraded", severity=np.nan)
    found = auc_by_severity(pd.concat([*levels[::-1], ungraded]), TWO, draws=300)
    assert found["severity"].tolist() == [0.0, 3.0]
    assert found["ci_low"][0] < 0.5 < found["ci_high"][0]
    assert found["value"][1] > 0.9
    assert (found["n_images"] == 90).all()
    assert (found["n_patients"] == 30).all()


def test_an_absent_class_gives_no_number_but_a_reason():
    two = noisy(60, 2, seed=10)
    found = scores(two[two["label"] == 0], TWO, draws=20)
    for metric in ("auc", "balanced_accuracy"):
        assert np.isnan([value(found, metric, column=c) for c in ("value", "ci_low", "ci_high")]).all()
        assert value(found, metric, column="reason") == "no image of motion"
    assert value(found, "accuracy") >= 0
    three = noisy(90, 3, seed=10)
    some = three[three["label"] != 1]
    found = scores(some, THREE, draws=20)
    assert np.isnan(value(found, "auc"))
    assert value(found, "auc", "meningioma", "reason") == "no image of meningioma"
    assert value(found, "auc", "glioma") > 0.5
    assert set(roc_curve_table(some, THREE)["class_name"]) == {"glioma", "pituitary"}
    assert roc_band(two[two["label"] == 0], TWO).empty
    alone = scores(three[three["label"] == 1], THREE, draws=20)
    assert value(alone, "auc", "meningioma", "reason") == "no image but of meningioma"


def test_intervals_that_cannot_be_had_are_not_given():
    predictions = noisy(30, 2, seed=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = scores(predictions.assign(patient="x"), TWO, draws=20)
        # One patient of ten has the second class.
        rare = scores(predictions.assign(label=(predictions["patient"] == 0).astype(int)), TWO, draws=400)
        perfect = scores(table(np.repeat([0.1, 0.9], 20), np.repeat([0, 1], 20)), TWO, draws=50)
    assert value(one, "auc") == value(scores(predictions, TWO, draws=2), "auc")
    assert one["ci_low"].isna().all()
    assert value(one, "accuracy", column="reason") == TOO_FEW
    assert np.isnan(value(rare, "auc", column="ci_low"))
    assert value(rare, "auc", column="reason") == RARE_CLASS
    assert value(rare, "accuracy", column="ci_low") < value(rare, "accuracy")
    assert value(perfect, "auc", column="ci_high") == value(perfect, "auc") == 1
    assert 0.7 < value(perfect, "auc", column="ci_low") < 0.9  # 20 of each class all told apart are no proof of 1
    assert value(perfect, "ece", column="reason") == BIASED
    assert np.isnan(value(perfect, "ece", column="ci_low"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability_1": np.nan}, "image 'i2' has probabilities that are NaN or outside"),
        ({"probability_1": 1.4}, "image 'i2' has probabilities that are NaN or outside"),
        ({"probability_0": 0.0, "probability_1": 0.2}, "image 'i2' has probabilities that do not add to 1"),
        ({"label": 2}, "image 'i2' has a label that is none of 0 to 1"),
        ({"image": "i1"}, "image 'i1' has a second row"),
        ({"patient": None}, "image 'i2' has no patient"),
        ({"part": "train"}, "expected one"),
    ],
)
def test_faulty_predictions_are_refused_with_the_image_named(change, message):
    predictions = table(np.linspace(0.1, 0.9, 5), [0, 1, 0, 1, 1], list("abcde"))
    for column, content in change.items():
        predictions.loc[2, column] = content
    with pytest.raises(ValueError, match=message):
        scores(predictions, TWO, draws=2)


def test_missing_columns_and_empty_tables_are_refused():
    predictions = noisy(6, 2)
    with pytest.raises(ValueError, match="probability_2"):
        scores(predictions, THREE)
    with pytest.raises(ValueError, match="found 0 rows"):
        scores(predictions.iloc[:0], TWO)


def test_equal_seeds_give_equal_tables_in_seconds():
    predictions = noisy(1000, 3, seed=12)
    start = time.process_time()
    scores(predictions, THREE)
    assert time.process_time() - start < 2
    again, other = (scores(predictions, THREE, draws=100, seed=seed)["ci_low"] for seed in (1, 2))
    pd.testing.assert_series_equal(again, scores(predictions, THREE, draws=100, seed=1)["ci_low"])
    assert (again.dropna() != other.dropna()).any()
