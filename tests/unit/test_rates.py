"""Every kind of work that a plan counts can be measured, on a study that is small enough for a test."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from xiqa.config import laid_over, load_config
from xiqa.plan import work_of
from xiqa.rates import ENOUGH_S, Rates, images_in

OWN = {
    "cdmam": {"sampling": {"size": 40}, "detector": {"pixel_mm": 0.1}, "training": {"batch_size": 4}},
    "saliency": {"methods": ["gradient", "random"], "costly_methods": ["occlusion"], "cascade": ["gradient"]},
}
NO_TWINS = dict.fromkeys(("object_cxr", "lvot", "brain_tumor", "covid_cxr", "ct_contrast", "mri_quality"))


@pytest.fixture
def config(root, tmp_path):
    """The test study with six images of one's own."""
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 40)).astype(np.uint8)).save(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(6)]
    pd.DataFrame({"image": names, "label": list("ab" * 3), "patient": range(6)}).to_csv(tmp_path / "images.csv")
    mine = {"mine": {"format": "folder", "path": str(tmp_path), "size": 32, "training": {"batch_size": 4}}}
    read = lambda name: yaml.safe_load((root / f"config/{name}.yaml").read_text())  # noqa: E731
    study = laid_over(laid_over(read("config"), read("test")), OWN | {"datasets": mine | NO_TWINS})
    return load_config(study)


def test_every_rate_of_a_plan_is_measured_and_positive(config, monkeypatch):
    monkeypatch.setattr("xiqa.rates.ENOUGH_S", ENOUGH_S / 30)
    assert images_in(config) == {"mine": 6}
    keys = {part.rate for part in work_of(config, images_in(config)) if part.rate}
    assert {key[0] for key in keys} == {
        "read_out", "sample", "fit_curves", "train", "gradient", "prepare", "train_network", "explain",
        "score_localisation", "score_fidelity", "cascade",
    }  # fmt: skip
    measured = []
    rates = Rates(config, measured.append).of(keys)
    assert all(np.isfinite(rates[key]) and rates[key] > 0 for key in keys)
    assert len(measured) == len(keys)
