"""The designed set: patients rendered anew, with factors that are independent of each other."""

import importlib

import numpy as np
import pandas as pd
import pytest

from xiqa.config import Dataset, Twin
from xiqa.datasets.designed import (
    FACTORS,
    LADDER,
    NOISES,
    SEVERITIES,
    _rendered,
    design,
    exact_counterfactuals,
    redrawn,
)
from xiqa.datasets.twins.writing import plan

PATIENTS = 12
TWIN = Twin(patients=PATIENTS, images_per_patient=2, patients_per_severity=0, severities=())


def prepared(name: str, classes: tuple[str, ...], label_per: str, negative: str | None):
    """Plan, and the columns of table and split that a design needs: a third of the patients is tested."""
    planned = plan(name, TWIN, 3, classes, label_per=label_per, negative=negative)
    named = [(image.patient, image.patient_seed) for image in planned]
    table = pd.DataFrame(named, columns=["patient", "patient_seed"])
    split = pd.DataFrame({"part": ["test" if image.patient[-1] in "147" else "train" for image in planned]})
    return planned, table, split


@pytest.fixture(scope="module")
def brain():
    _, table, split = prepared("brain_tumor", ("meningioma", "glioma", "pituitary"), "patient", None)
    dataset = Dataset(format="brain_tumor", size=48, intensity="percentiles", twin=TWIN)
    numbers = {"train": 6, "test": 4, "ladder": 1}
    return table, split, design(dataset, table, split, numbers, 3, lambda *_: None)


def test_parts_are_those_of_the_split_and_patients_are_apart(brain):
    table, _, (images, masks, made) = brain
    assert set(made["patient"]) <= set(table["patient"])
    assert made["part"].tolist() == ["train"] * 6 + ["test"] * 4 + ["ladder"] * len(LADDER)
    assert images.shape == masks.shape == (len(made), 48, 48)
    assert 0 <= images.min() < images.max() <= 1
    assert not set(made.query("part == 'train'")["patient"]) & set(made.query("part == 'test'")["patient"])
    assert (made["data"] == "simulated").all()


def test_along_a_ladder_nothing_changes_but_the_defect(brain):
    _, _, (images, masks, made) = brain
    ladder = (made["part"] == "ladder").to_numpy()
    assert made.loc[ladder, "severity"].tolist() == list(LADDER)
    assert made.loc[ladder, ["noise", "blur"]].to_numpy().sum() == 0
    assert made.loc[ladder, "ladder"].tolist() == [0] * len(LADDER)
    assert made.loc[~ladder, "ladder"].unique().tolist() == [-1]
    steps, mask = images[ladder], masks[ladder][0]
    assert np.array_equal(masks[ladder], np.broadcast_to(mask, steps.shape))
    change = np.abs(steps[-1] - steps[0])
    assert change[mask].mean() > 5 * change[~mask].mean()


@pytest.mark.parametrize(("label_per", "classes"), [("image", ("none", "defect")), ("patient", ("none", "defect"))])
def test_label_severity_and_the_twin_s_own_label_are_independent(label_per, classes):
    twin = Twin(patients=600, images_per_patient=2, patients_per_severity=0, severities=())
    planned = plan("any", twin, 0, classes, label_per=label_per, negative="none")
    parts = {image.patient_seed: ("train", "test")[int(image.patient[-4:]) % 2] for image in planned}
    found = redrawn(planned, parts, {"train": 500, "test": 500, "ladder": 3}, 0)
    own = {(image.patient_seed, image.image_seed): image for image in planned}
    more = redrawn(planned, parts, {"train": 1300, "test": 4, "ladder": 0}, 0)
    again = pd.Series([image.image_seed for image in more]).value_counts()
    assert (len(more), again.max(), len({image.image for image in more})) == (1304, 3, 1304)
    main = [image for image in found if image.part == "main"]
    assert len(main) == 1000
    assert len(found) == 1000 + 3 * len(LADDER)
    labels = np.array([image.label for image in main])
    before = np.array([own[image.patient_seed, image.image_seed].label for image in main])
    assert abs(np.corrcoef(labels, before)[0, 1]) < 0.1
    severity = np.array([image.severity for image in main])
    assert (severity[labels == 0] == 0).all()
    assert SEVERITIES[0] <= severity[labels == 1].min() < 0.05
    assert severity[labels == 1].max() == pytest.approx(SEVERITIES[1], abs=0.05)
    if label_per == "patient":
        assert pd.Series(labels).groupby([image.patient for image in main]).nunique().max() == 1
    # A smaller set is a part of the larger one.
    fewer = redrawn(planned, parts, {"train": 100, "test": 50, "ladder": 0}, 0)
    assert {image.image for image in fewer} <= {image.image for image in main}


def test_every_twin_of_a_classification_can_be_designed():
    for name in NOISES:
        assert "redraw" in importlib.import_module(f"xiqa.datasets.twins.{name}").write.__annotations__


def test_what_cannot_be_designed_is_refused(brain):
    table, split, _ = brain
    real = Dataset(format="brain_tumor", path="somewhere", size=48)
    with pytest.raises(ValueError, match="found brain_tumor with a folder, expected a simulated twin of brain_tumor"):
        design(real, table, split, {"train": 4, "test": 4}, 0, print)
    simulated = Dataset(format="brain_tumor", size=48, twin=TWIN)
    with pytest.raises(ValueError, match="found no patient in the test part, expected some"):
        design(simulated, table, split.assign(part="train"), {"train": 4, "test": 9}, 3, lambda *_: None)
    assert set(FACTORS) == {"severity", "noise", "blur"}


def test_an_exact_counterfactual_differs_from_its_image_where_the_defect_is_and_hardly_elsewhere():
    """The contrast medium of a CT slice: the same patient at the same level, with the noise that he had."""
    planned, *_ = prepared("ct_contrast", ("no_contrast", "contrast"), "patient", "no_contrast")
    table = pd.DataFrame([vars(image) for image in planned])
    dataset = Dataset(format="ct_contrast", size=48, intensity="window", window_hu=(40, 400), twin=TWIN)
    rows = np.array([np.flatnonzero(table["label"] == label)[0] for label in (1, 0)])
    rows[1] += 1  # not the first slice of its patient
    own, other, masks = exact_counterfactuals(dataset, table, rows, np.array([0, 1]), 3)
    of_twin, _, made = _rendered(dataset, lambda planned: planned, 3, lambda *_: None)
    seeds = made["image_seed"].tolist()
    np.testing.assert_array_equal(own, of_twin[[seeds.index(key) for key in table["image_seed"].to_numpy()[rows]]])
    assert own.shape == other.shape == masks.shape == (2, 48, 48)
    change = other - own
    assert masks.any((1, 2)).all()
    assert change[0][masks[0]].mean() < -0.05
    assert change[1][masks[1]].mean() > 0.05
    assert np.abs(change[masks]).mean() > 3 * np.abs(change[~masks]).mean()
    with pytest.raises(ValueError, match="rows: found an image that is not in the twin's main part"):
        exact_counterfactuals(dataset, table.assign(image_seed=-1), rows[:1], np.array([0]), 3)
