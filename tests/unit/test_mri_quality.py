"""The twin of a regression: its local truth is exact, and what is read is what was simulated."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xiqa.config import Dataset, Twin
from xiqa.datasets import mri_quality as reader
from xiqa.datasets.prepare import FILES, prepare
from xiqa.datasets.twins import mri_quality as twin
from xiqa.datasets.twins.writing import start
from xiqa.files import PackedMasks


@pytest.mark.parametrize("defect", twin.STRENGTHS)
def test_a_defect_changes_the_image_where_its_mask_is_and_grows_with_its_severity(defect):
    slices = {severity: twin.render(1, 2, defect, severity, side=64) for severity in (0.0, 0.3, 1.0)}
    assert not slices[0.0].mask.any()
    np.testing.assert_allclose(slices[0.0].image, slices[0.0].intact, atol=1e-6)  # of a transform and back
    for severity in (0.3, 1.0):
        made = slices[severity]
        np.testing.assert_array_equal(made.intact, slices[0.0].intact)
        changed = np.abs(made.image - made.intact)
        assert changed[made.mask].mean() > 20 * changed[~made.mask].mean()
        # Clipping to the range of the image may only take from the change.
        assert (changed <= made.change + 1e-6).all()
    # A displacement beyond the size of the structures changes hardly more.
    assert slices[1.0].change.mean() > 1.3 * slices[0.3].change.mean()
    np.testing.assert_array_equal(slices[0.3].mask, slices[1.0].mask)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mri_quality")
    settings = Twin(patients=12, images_per_patient=2)
    start(folder / "raw")
    twin.write(folder / "raw", settings, 0, lambda *_: None)
    paths = {name: str(folder / file) for name, file in FILES.items()}
    dataset = Dataset(format="mri_quality", task="regression", twin=settings, intensity="percentiles")
    records = reader.read(folder / "raw", dataset)
    facts = pd.read_csv(folder / "raw/twin.csv")
    return prepare(records, dataset, facts=facts, key=b"0", paths=paths, progress=lambda *_: None), paths


def test_what_is_read_is_what_was_simulated(prepared):
    table, paths = prepared
    np.testing.assert_allclose(table["target_severity"], table["severity"], atol=1e-6)
    assert (table["target_severity"] == 0).sum() == 6
    assert table["patient"].nunique() == 12
    holds = [bool(mask.any()) for mask in PackedMasks(paths["masks"])]
    assert holds == (table["target_severity"] > 0).tolist()
    assert set(table["label_name"]) == {"quarter 1", "quarter 2", "quarter 3", "quarter 4"}
    means = table.groupby("label")["target_severity"].agg(["min", "max"])
    assert (means["min"].to_numpy()[1:] >= means["max"].to_numpy()[:-1]).all()


def test_brightness_says_nothing_of_the_severity(prepared):
    facts = pd.read_csv(Path(prepared[1]["images"]).with_name("raw") / "twin.csv")
    assert abs(facts["brightness"].corr(facts["severity"])) < 0.5
    assert facts["brightness"].between(0.6, 1).all()
