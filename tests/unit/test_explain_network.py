"""What the stage that explains classifiers gives to the methods: the baseline of the papers, and references."""

import importlib

import numpy as np
import pandas as pd
import pytest
import torch

from xiqa.files import write_array, write_table
from xiqa.models.model import Model, load_model, write_model
from xiqa.models.task import Classification
from xiqa.models.zoo import build
from xiqa.saliency import attribute


@pytest.fixture
def explained(root, tmp_path, monkeypatch):
    """Explain three of forty images, none of which has a black pixel, with a small network."""
    monkeypatch.syspath_prepend(str(root / "workflow/scripts/explain"))
    explain = importlib.import_module("explain_network").explain
    rng = np.random.default_rng(0)
    images = rng.uniform(0.3, 0.6, (40, 32, 32)).astype(np.float16)
    images[20:] += np.float16(0.3)
    net = build("small_resnet", channels=1, outputs=2, seed=0)
    classifier = Model(net, "small_resnet", {}, Classification(("a", "b")), 1, 32, 0.5, 0.2)
    write_model(tmp_path / "model", classifier, {})
    label = np.repeat([0, 1], 20)
    part = np.where(np.arange(40) % 20 < 2, "test", "train")
    write_array(tmp_path / "images.npy", images)
    write_table(tmp_path / "table.parquet", pd.DataFrame({"label": label}))
    write_table(tmp_path / "split.csv", pd.DataFrame({"part": part, "group": np.arange(40)}))
    write_table(tmp_path / "chosen.parquet", pd.DataFrame({"row": [0, 1, 20], "image": ["x", "y", "z"]}))
    names = {"images": "images.npy", "table": "table.parquet", "split": "split.csv", "chosen": "chosen.parquet",
             "weights": "model/weights.safetensors"}  # fmt: skip

    def run(method: str, **options):
        explain(
            {name: str(tmp_path / file) for name, file in names.items()}, [method], [], "row >= 0", False,
            {"seed": 0, **options}, {"explained_class": "true_class"}, None, str(tmp_path),
            str(tmp_path / "checks.csv"), str(tmp_path / "cost.csv"),
        )  # fmt: skip
        return np.load(tmp_path / f"{method}.npy"), pd.read_csv(tmp_path / "checks.csv")

    return run, images[[0, 1, 20]], label[[0, 1, 20]], load_model(tmp_path / "model", build)


@pytest.mark.parametrize("method", ["integrated_gradients", "guided_ig"])
def test_black_is_zero_where_the_paper_says_so(explained, method):
    run, images, label, classifier = explained
    x, target = classifier.inputs(images), torch.tensor(label)
    blacks = {
        "zero": np.zeros_like(images),
        "minimum": np.broadcast_to(images.min((1, 2), keepdims=True), images.shape),
    }
    found = {}
    for name, black in blacks.items():
        found[name], checks = run(method, baseline=name, steps=20)
        expected = attribute(classifier.net, x, target, method, baseline=classifier.inputs(black), steps=20)
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
        # The check asks for what this baseline promises.
        with torch.no_grad():
            outputs = [classifier.net(classifier.inputs(i)).numpy()[np.arange(3), label] for i in (images, black)]
        error = found[name].sum((1, 2)) - (outputs[0] - outputs[1])
        np.testing.assert_allclose(checks["completeness_error"], error, atol=1e-3)
    assert np.abs(found["zero"] - found["minimum"]).max() > 1e-3


def test_references_are_drawn_over_both_classes(explained, monkeypatch):
    run, *_ = explained
    stage, given = importlib.import_module("explain_network"), {}
    plain = stage.attribute_many
    monkeypatch.setattr(stage, "REFERENCES", 10)
    monkeypatch.setattr(stage, "attribute_many", lambda *a, **options: given.update(options) or plain(*a, **options))
    run("expected_gradients", samples=1)
    # Images of the second class are brighter.
    assert (given["references"].mean((1, 2, 3)) > 0.5).tolist().count(True) == 5
