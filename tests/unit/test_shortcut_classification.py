"""The shortcut finds what a header betrays, finds nothing in noise, and the comparison with a network is paired."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from xiqa.metrics.classification import scores
from xiqa.metrics.shortcut_classification import (
    MISSING,
    auc_difference,
    compare,
    fit_predict,
    shortcut_features,
    shortcut_predictions,
    verdict,
)

TWO = ["plain", "contrast"]


def study(n_patients: int = 90, k: int = 2, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Table, noise images and header fields that know nothing of the label: two images of each patient."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), 2)
    labels = rng.integers(0, k, n_patients)[patients]
    table = pd.DataFrame({"image": [f"i{i}" for i in range(len(patients))], "patient": patients, "label": labels})
    table["part"] = np.where(patients < 0.6 * n_patients, "train", "test")
    headers = pd.DataFrame(
        {
            "header_kvp": rng.choice([100.0, 120.0, np.nan], n_patients)[patients],
            "header_scanner": rng.choice(["GE", "Siemens", None], n_patients)[patients],
            "header_series": [f"1.2.{patient}" for patient in patients],
        }
    )
    return table, rng.normal(0.5, 0.1, (len(patients), 12, 12)), headers


def test_features_are_the_moments_and_percentiles_of_each_image():
    image = np.arange(101.0).reshape(1, 101)
    features = shortcut_features(np.stack([image, 2 * image]))
    first = features.iloc[0]
    assert (first["intensity_mean"], first["intensity_sd"]) == (50, pytest.approx(np.sqrt((101**2 - 1) / 12)))
    assert first[[f"intensity_p{p:02d}" for p in (1, 5, 25, 50, 75, 95, 99)]].tolist() == [1, 5, 25, 50, 75, 95, 99]
    assert np.allclose(features.iloc[1], 2 * first)


def test_header_fields_are_numbers_only_if_every_entry_is():
    headers = pd.DataFrame(
        {
            "header_a": [1, "2.5", None],
            "header_b": ["x", 3, ""],
            "header_c": [None] * 3,
            "header_d": [True, False, True],
            "height": [512, 512, 600],
            "label": [0, 1, 0],
        },
        index=[5, 9, 2],
    )
    features = shortcut_features(np.zeros((3, 2, 2)), headers).filter(like="header")
    assert list(features) == ["header_a", "header_b", "header_c", "header_d", "header_height"]
    assert features["header_a"].tolist()[:2] == [1, 2.5]
    assert np.isnan(features["header_a"][2])
    assert features["header_b"].tolist() == ["x", "3", MISSING]
    assert features["header_c"].tolist() == [MISSING] * 3
    assert features["header_d"].tolist() == [1, 0, 1]


def test_images_with_nan_and_headers_of_other_images_are_refused():
    images = np.zeros((3, 2, 2))
    with pytest.raises(ValueError, match="found 2 rows, expected 3"):
        shortcut_features(images, pd.DataFrame({"a": [1, 2]}))
    images[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="number 1 holds NaN"):
        shortcut_features(images)


def test_nothing_is_found_in_noise():
    table, images, headers = study()
    found = shortcut_predictions(shortcut_features(images, headers), table, n_classes=2)
    assert list(found) == ["header", "intensity", "header and intensity", "borders"]
    for predictions in found.values():
        assert (predictions["part"] == "test").all()
        auc = scores(predictions, TWO, draws=300).set_index("metric").loc["auc"]
        assert auc["ci_low"] < 0.5 < auc["ci_high"]


@pytest.mark.parametrize("leak", ["number", "text", "missing"])
def test_a_leaking_header_field_is_found(leak):
    table, images, headers = study(60)
    label, rng = table["label"].to_numpy(), np.random.default_rng(1)
    headers["header_leak"] = {
        "number": label * 30 + rng.normal(0, 5, len(label)),
        "text": np.where(label, "WITH AGENT", "WITHOUT"),
        # Only whether the field is there tells: neither number is larger for one class.
        "missing": np.where(label, np.nan, rng.normal(0, 1, len(label))),
    }[leak]
    found = shortcut_predictions(shortcut_features(images, headers), table, n_classes=2)
    aucs = {name: roc_auc_score(t["label"], t["probability_1"]) for name, t in found.items()}
    assert aucs["header"] > 0.95
    assert aucs["header and intensity"] > 0.95
    assert aucs["intensity"] < 0.75


def test_brightness_that_betrays_the_class_is_found_without_any_header():
    table, images, _ = study(k=3)
    images = images + 0.05 * table["label"].to_numpy()[:, None, None]
    found = shortcut_predictions(shortcut_features(images), table, n_classes=3)
    assert list(found) == ["intensity", "borders"]
    assert scores(found["intensity"], ["a", "b", "c"], draws=2).set_index("metric")["value"]["accuracy"] > 0.9


def test_marks_at_the_edge_and_the_presence_of_a_mask_are_seen():
    table, images, headers = study()
    label = table["label"].to_numpy()
    images[label == 1, :1, :3] = 1.0
    headers["header_has_mask"] = 1.0 - label
    found = shortcut_predictions(shortcut_features(images, headers), table, n_classes=2)
    aucs = {name: roc_auc_score(t["label"], t["probability_1"]) for name, t in found.items()}
    assert aucs["borders"] > 0.95
    assert aucs["mask presence"] == 1
    inside = images.copy()
    inside[:, 1:-1, 1:-1] += 1
    before, after = (shortcut_features(x).filter(like="border") for x in (images, inside))
    assert before.equals(after), "the border is one pixel of twelve"


def test_test_images_change_nothing_in_the_fit():
    table, images, headers = study(40)
    features = shortcut_features(images, headers)
    train, test = features[table["part"] == "train"], features[table["part"] == "test"]
    fitted = table[table["part"] == "train"]
    alone = fit_predict(train, fitted["label"], fitted["patient"], test.iloc[:1], n_classes=2)
    assert np.allclose(alone, fit_predict(train, fitted["label"], fitted["patient"], test, n_classes=2)[:1])


def test_constant_unknown_and_scarce_values_do_not_stop_the_fit():
    train = pd.DataFrame({"header_a": [1.0] * 4, "header_b": list("xxyy"), "header_c": [np.nan] * 4})
    test = pd.DataFrame({"header_a": [2.0], "header_b": ["never seen"], "header_c": [3.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_predict(train, [0, 0, 2, 2], list("pprr"), test, n_classes=3)
    assert found[0].tolist() == pytest.approx([0.5, 0, 0.5])
    with pytest.raises(ValueError, match="at least two"):
        fit_predict(train, [1] * 4, list("pqrs"), test, n_classes=3)


def predicted(labels: np.ndarray, logit: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    probability = 1 / (1 + np.exp(-logit))
    return pd.DataFrame(
        {
            "image": [f"i{i}" for i in range(len(labels))],
            "patient": patients,
            "label": labels,
            "probability_0": 1 - probability,
            "probability_1": probability,
        }
    )


def pair(network: float, shortcut: float, common: float = 0.0, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of two classifiers of given strength; `common` is noise that they share."""
    rng = np.random.default_rng(seed)
    labels, patients = rng.integers(0, 2, 240), np.arange(240) // 2
    noise = common * rng.normal(0, 1, 240)
    return tuple(predicted(labels, s * labels + noise + rng.normal(0, 1, 240), patients) for s in (network, shortcut))


def test_the_difference_is_paired_by_image_and_by_patient():
    network, shortcut = pair(2.0, 1.0, common=3.0)
    found = auc_difference(network, shortcut.sample(frac=1, random_state=0), TWO)
    expected = [roc_auc_score(t["label"], t["probability_1"]) for t in (network, shortcut)]
    assert [found["network_auc"], found["shortcut_auc"]] == pytest.approx(expected)
    assert found["difference"] == pytest.approx(expected[0] - expected[1])
    assert found["ci_low"] < found["difference"] < found["ci_high"]
    # Shared noise leaves the difference: were the intervals unpaired, its width would be the root of their squares.
    apart = np.hypot(found["network_high"] - found["network_low"], found["shortcut_high"] - found["shortcut_low"])
    assert found["ci_high"] - found["ci_low"] < 0.8 * apart
    assert (found["n_images"], found["n_patients"]) == (240, 120)


def test_two_equal_classifiers_differ_by_nothing():
    network, _ = pair(1.0, 1.0)
    found = auc_difference(network, network, TWO, draws=50)
    assert (found["difference"], found["ci_low"], found["ci_high"]) == (0, 0, 0)


def test_interval_of_the_difference_holds_zero_for_equally_good_classifiers():
    held = []
    for seed in range(60):
        found = auc_difference(*pair(1.0, 1.0, seed=seed), TWO, draws=120, seed=seed)
        held.append(found["ci_low"] <= 0 <= found["ci_high"])
    assert np.mean(held) >= 0.87


def test_the_verdict_says_whether_every_shortcut_is_beaten():
    network, weak = pair(3.0, 0.3)
    won, sentence = verdict(compare(network, {"intensity": weak}, TWO, draws=300), "small_resnet")
    assert won
    assert sentence.startswith("small_resnet beats every shortcut: AUC 0.9")
    _, equal = pair(3.0, 3.0)
    both = compare(network, {"intensity": weak, "header": equal}, TWO, draws=300)
    won, sentence = verdict(both, "small_resnet")
    assert not won
    assert sentence.startswith("A shortcut (header) may be as good as small_resnet: AUC 0.9")
    assert "better than the network" in verdict(compare(weak, {"header": equal}, TWO, draws=300))[1]
    alone = compare(network.assign(patient=0), {"header": equal.assign(patient=0)}, TWO)
    assert (
        verdict(alone)[1]
        == "Whether the network beats a shortcut (header) cannot be said: too few patients of a class: fewer than 6."
    )


def test_other_images_or_labels_cannot_be_compared():
    network, shortcut = pair(1.0, 1.0)
    with pytest.raises(ValueError, match="found 239 images, expected the network's 240"):
        auc_difference(network, shortcut.iloc[1:], TWO)
    shortcut.loc[3, "label"] = 1 - shortcut.loc[3, "label"]
    with pytest.raises(ValueError, match="'i3' has another label"):
        auc_difference(network, shortcut, TWO)


def test_share_above_100_hu_tells_contrast_on_real_slices(real_data):
    """Five-fold patient-grouped accuracy of the one-feature baseline on the 100 real CT slices is about 0.84."""
    import pydicom
    from sklearn.model_selection import GroupKFold

    folder = real_data / "ct_contrast_dicom"
    table = pd.read_csv(folder / "labels.csv")
    shares = []
    for name in table.iloc[:, 0]:
        slice_ = pydicom.dcmread(folder / "dicom_dir" / name)
        hu = slice_.pixel_array * float(slice_.RescaleSlope) + float(slice_.RescaleIntercept)
        shares.append((hu > 100).mean())
    shares, labels, patients = np.array(shares), table["contrast"].to_numpy(int), table["patient_id"].to_numpy()
    right = 0
    for train, test in GroupKFold(5).split(shares, labels, patients):
        given = pd.DataFrame({"bright_share": shares})
        found = fit_predict(given.iloc[train], labels[train], patients[train], given.iloc[test], n_classes=2)
        right += (found.argmax(1) == labels[test]).sum()
    assert right / 100 == pytest.approx(0.84, abs=0.06)
