"""Whatever is in the tables of the registry keeps the contract, and other packages add to them by entry points."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from xiqa import registry
from xiqa.config import Dataset, Saliency
from xiqa.metrics.maps.localisation import score_of
from xiqa.models.zoo import TABLE
from xiqa.names import method_name
from xiqa.registry import ARCHITECTURES, LAYOUTS, METHODS
from xiqa.saliency import attribute, methods

EXPLAINED = [name for name, entry in METHODS.items() if entry.needs != "attention"]
QUICK = {"steps": 5, "evaluations": 40, "segments": 10, "masks": 30, "samples": 3, "seed": 0}
"""Options with which a method is quick, where it has them."""


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 2),
        ).eval()  # fmt: skip


def maps_of(net, x, method, **options):
    from xiqa.saliency.catalogue import options as known

    names = set(known(method)["option"])
    options |= {key: value for key, value in QUICK.items() if key in names}
    options |= {"references": x.new_zeros(2, *x.shape[1:])} if "references" in names else {}
    return attribute(net, x, 1, method, **options)


@pytest.mark.parametrize("method", EXPLAINED)
def test_a_method_keeps_the_contract(net, method):
    x = torch.rand(3, 1, 24, 32, generator=torch.Generator().manual_seed(1))
    maps = maps_of(net, x, method)
    assert (maps.shape, maps.dtype, maps.device) == ((3, 24, 32), x.dtype, x.device)
    assert maps.isfinite().all()
    # Equal images, options and seeds give equal maps, and an image's map does not depend on its batch.
    torch.testing.assert_close(maps_of(net, x, method), maps, rtol=0, atol=0)
    if not registry.METHODS[method].control:
        torch.testing.assert_close(maps_of(net, x[:1], method), maps[:1], rtol=1e-3, atol=1e-5)
    double = maps_of(net.double(), x.double(), method)
    net.float()
    assert double.dtype == torch.float64


def test_every_entry_is_documented(root):
    page = (root / "docs/reference/methods.md").read_text()
    assert [name for name in METHODS if f"`{name.removesuffix('_multi')}`" not in page] == []
    assert all(entry.what and entry.label for entry in METHODS.values())
    networks = (root / "docs/reference/networks.md").read_text()
    assert [name for name in ARCHITECTURES if f"`{name}`" not in networks] == []
    assert set(ARCHITECTURES) == set(TABLE)


PACKAGE = """
import torch
from xiqa.registry import Layout, Method, Score

SIGN = Method("foreign_xiqa.sign", "sign of the gradient", "sign of the change of the output with each pixel")
BLOBS = Layout(classes=2, module="foreign_xiqa.blobs")
CONTRAST = Score("foreign_xiqa.contrast", undefined="the background is constant", lower_is_better=False)
"""
CONTRAST = """
from xiqa.metrics.maps.scored import not_scored

def mask_contrast(saliency, mask):
    if not_scored(saliency, mask) or mask.all() or not saliency[~mask].std():
        return None
    return (saliency[mask].mean() - saliency[~mask].mean()) / saliency[~mask].std()
"""
SIGN = """
import torch

def explain(target, x, least=0.0):
    gradient = torch.cat([part.gradient for part in target.passes(x)])
    return gradient.sign() * (gradient.abs() > least)
"""
BLOBS = """
from functools import partial
from xiqa.datasets.base import Record
from xiqa.datasets.images import load_image

def read(folder, dataset):
    for path in sorted(folder.glob("*.png")):
        label = int(path.stem[0])
        yield Record(path.stem, path.stem, label, ("dark", "bright")[label], (path,), partial(load_image, path))
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A package that somebody else has installed."""
    package = tmp_path / "foreign_xiqa"
    package.mkdir()
    for name, text in {"__init__": PACKAGE, "sign": SIGN, "blobs": BLOBS, "contrast": CONTRAST}.items():
        (package / f"{name}.py").write_text(text)
    told = tmp_path / "foreign_xiqa-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign_xiqa\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(
        "[xiqa.methods]\ngradient_sign = foreign_xiqa:SIGN\n\n[xiqa.readers]\nblobs = foreign_xiqa:BLOBS\n\n"
        "[xiqa.scores]\nmask_contrast = foreign_xiqa:CONTRAST\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.added.cache_clear()
    yield tmp_path
    registry.added.cache_clear()


def test_a_method_of_another_package_is_one_of_ours(foreign, net):
    x = torch.rand(2, 1, 16, 16)
    maps = attribute(net, x, 1, "gradient_sign")
    torch.testing.assert_close(maps, attribute(net, x, 1, "gradient").sign())
    assert attribute(net, x, 1, "gradient_sign", least=1e9).abs().sum() == 0
    assert "gradient_sign" in methods()["method"].tolist()
    assert method_name("gradient_sign") == "sign of the gradient"
    study = Saliency(methods=("gradient", "gradient_sign", "random"))
    assert study.families["foreign_xiqa_sign"] == ["gradient_sign"]


def test_a_reader_of_another_package_is_one_of_ours(foreign, tmp_path):
    import importlib

    from xiqa.datasets.prepare import FILES, prepare

    folder = tmp_path / "images"
    folder.mkdir()
    for name, level in (("0_a", 40), ("1_b", 200)):
        pixels = np.random.default_rng(0).integers(level, level + 20, (16, 16))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    dataset = Dataset(format="blobs", path=str(folder), size=32)
    reader = importlib.import_module(registry.reader_module("blobs"))
    paths = {name: str(tmp_path / file) for name, file in FILES.items()}
    table = prepare(reader.read(folder, dataset), dataset, facts=None, key=b"0", paths=paths, progress=lambda *_: None)
    assert table["label_name"].tolist() == ["dark", "bright"]
    assert pd.read_parquet(paths["table"])["data"].unique().tolist() == ["real"]


def test_what_nobody_adds_is_refused_by_name(net):
    with pytest.raises(ValueError, match="found 'gradient_sign'"):
        attribute(net, torch.rand(1, 1, 8, 8), 1, "gradient_sign")
    with pytest.raises(ValueError, match="format"):
        Dataset(format="blobs", path="/data")
    assert set(LAYOUTS) >= {"folder", "mri_quality"}


def test_a_score_of_another_package_is_one_of_ours(foreign):
    from xiqa import metrics
    from xiqa.metrics.maps.localisation import scores_of_maps

    maps, masks = np.random.default_rng(0).normal(size=(2, 12, 15)), np.zeros((2, 12, 15), bool)
    masks[0, 3:6, 4:9] = masks[1] = True
    table = scores_of_maps(maps, masks, tolerance_px=1).query("form == 'signed'").set_index(["image", "metric"])
    inside, outside = maps[0][masks[0]], maps[0][~masks[0]]
    expected = (inside.mean() - outside.mean()) / outside.std()
    assert table.loc[(0, "mask_contrast"), "value"] == pytest.approx(expected)
    assert table.loc[(1, "mask_contrast"), "reason"] == "the background is constant"
    assert metrics.mask_contrast(maps[0], masks[0]) == pytest.approx(expected)
    assert registry.score_module("mask_contrast") == "foreign_xiqa.contrast"


def test_every_score_keeps_the_contract(root):
    page = (root / "docs/reference/metrics.md").read_text()
    maps, mask = np.random.default_rng(1).normal(size=(9, 13)), np.zeros((9, 13), bool)
    mask[2:5, 3:8] = True
    for name in registry.SCORES:
        score = score_of(name)
        assert np.isfinite(score(maps, mask)), name
        assert score(maps, mask) == pytest.approx(score(np.asfortranarray(maps), mask), rel=1e-12), name
        # What cannot be scored has no value, never 0.
        assert score(maps, np.zeros_like(mask)) is None, name
        assert score(np.full_like(maps, 0.1), mask) is None, name
        assert score(maps * np.nan, mask) is None, name
        assert score.__doc__, name
        assert name in page.lower(), name
