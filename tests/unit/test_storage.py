"""The disk space of a study, against networks that are built and files of a known size."""

import numpy as np
import pytest
import torch
import yaml
from cases import long

from xiqa.config import load_config
from xiqa.models.cdc_net import CDCNet
from xiqa.models.zoo import build
from xiqa.registry import ARCHITECTURES
from xiqa.storage import PARAMETERS, TWIN_IMAGE_BYTES, Storage, storage


def default(root, **changes):
    return load_config(yaml.safe_load((root / "config/config.yaml").read_text()) | changes)


QUICK = ("small_resnet", "small_vgg")


@pytest.mark.parametrize(
    "architecture",
    [*QUICK, *(long(name) for name in ARCHITECTURES if name not in QUICK)],
)
def test_numbers_of_weights_are_those_of_the_networks(architecture):
    with torch.device("meta"):
        net = build(architecture, channels=1, outputs=2, seed=0)
    assert PARAMETERS[architecture] == sum(tensor.numel() for tensor in net.state_dict().values())


def test_twins_of_all_formats_have_a_size(root):
    written = {path.stem for path in (root / "src/xiqa/datasets/twins").glob("*.py")}
    assert set(TWIN_IMAGE_BYTES) <= written


def test_parts_of_the_default_study(root):
    study = default(root)
    parts = {part.part: part for part in storage(study)}
    size = study.cdmam.sampling.size
    weights = sum(tensor.numel() for tensor in CDCNet(size, study.cdmam.network).state_dict().values())
    assert parts["CDMAM: networks"].kept == pytest.approx(3 * 4 * weights, rel=1e-3)
    # 10 settings of 24 + 18 + 12 images and 2 of 30, each sampled twice; 4 x 24 + 2 x 12 tested, 8 x 12 validated.
    assert parts["CDMAM: sampled images"].kept == (2 * 600 + 120 + 96) * (2 * size**2 + 8 * size)
    assert parts["covid_cxr: prepared images and masks"].kept == (1600 + 320) * 96**2 * (2 + 1 / 8)
    assert all(isinstance(part, Storage) and part.kept >= 0 <= part.temporary for part in parts.values())


def test_images_of_ones_own_count_as_many_as_they_are(root):
    own = {"mine": {"format": "folder", "path": "somewhere", "size": 64}}
    study = default(root, datasets=own)
    kept = [{part.part: part.kept for part in storage(study, {"mine": number})} for number in (100, 300)]
    name = "mine: prepared images and masks"
    assert np.array([part[name] for part in kept]).tolist() == [100 * 64**2 * (2 + 1 / 8), 300 * 64**2 * (2 + 1 / 8)]
