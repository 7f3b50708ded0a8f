"""The configuration: every file is valid, documents match the code, faults are refused with their path."""

import copy
import inspect
import json
import math
import re

import pytest
import yaml

from xiqa import config
from xiqa.cli.simulate import SCENARIOS
from xiqa.registry import ARCHITECTURES

PAPERS = {  # how each paper is cited -> its study
    "Amanova 2022": "paper_amanova_2022",
    "Özer": "paper_ozer",
    "Brima 2023": "paper_brima_2023",
    "Brocki 2022": "paper_brocki_2022",
}


def read(root, name: str) -> dict:
    """A study as snakemake sees it: laid over the default."""

    def lay_over(base, top):
        return {
            **base,
            **{k: lay_over(base[k], v) if isinstance(v, dict) and k in base else v for k, v in top.items()},
        }

    default = yaml.safe_load((root / "config/config.yaml").read_text())
    return lay_over(default, yaml.safe_load((root / f"config/{name}.yaml").read_text()))


@pytest.mark.parametrize("name", ["config", "quick", "full", *PAPERS.values(), "test", "real_data"])
def test_each_study_is_valid(root, name, tmp_path, monkeypatch):
    monkeypatch.setenv("XIQA_REAL_DATA", str(tmp_path))
    assert config.load_config(read(root, name)).cdmam.margins_mm[0] == 0


def test_paper_study_has_the_papers_numbers(root):
    cdmam = config.load_config(read(root, "paper_amanova_2022")).cdmam
    images = cdmam.images
    per_setting = images.no_margin + images.small_margins + images.large_margins
    assert len(cdmam.training_settings) * per_setting == 52_800
    assert images.recorded_in_all == 4_800
    assert cdmam.recordings_split == {"train": 48, "test": 24}
    assert (images.test, images.ood, images.recorded_standin) == (1_200, 200, 24)
    assert (cdmam.training.members, sum(cdmam.training.epochs), cdmam.training.batch_size) == (10, 300, 50)
    assert math.isclose(cdmam.training.learning_rate, 1e-5)
    assert (cdmam.explain.omig.steps, cdmam.upsampling.draws) == (50, 5_000)
    assert len(cdmam.margins_mm) == 6


def test_scenarios_are_table_1_of_the_paper(root):
    scenarios = config.load_config(read(root, "config")).cdmam.scenarios
    found = {k: (s.tube_voltage_kv, s.exposure_mas, s.noise_level) for k, s in scenarios.items() if s.noise_level}
    assert found == {
        "scenario_1": (28, 115, 9.55),
        "scenario_2": (25, 110, 13.06),
        "scenario_3": (25, 110, 18.91),
        "scenario_4": (25, 110, 22.91),
        "ood": (23, 105, 6.04),
    }
    # The command line knows the same settings without a configuration file.
    assert set(SCENARIOS.values()) == {s for s in scenarios.values() if s.noise_level}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cdmam.sampling.siz", 250, "cdmam.sampling.siz: .*Extra inputs"),
        ("cdmam.detector", {"pixel_mm": 0.6}, "cdmam.detector.pixel_mm: found 0.6.*less than or equal to 0.1"),
        ("cdmam.sampling.size", "250", "cdmam.sampling.size: found '250'"),
        ("cdmam.geometry", "square", "cdmam.geometry: found 'square'.*'standard_reader' or 'ptb'"),
        ("cdmam.margins_mm", [6, 0], "cdmam: .*margins_mm"),
        ("cdmam.training.learning_rate", -1e-4, "cdmam.training.learning_rate: found -0.0001.*greater than 0"),
        ("cdmam.upsampling.groups", ["recorded"], "upsampling.groups"),
        (
            "cdmam.readout",
            {"labels": "standard", "labels_per": "image"},
            "labels_per: found image with labels: standard",
        ),
        ("cdmam.scenarios.scenario_1.noise_level", None, "published needs noise_level"),
        ("results", ".", "results: found '.'.*expected a folder that holds nothing else"),
        ("results", "/scratch/{me}", "results: found '/scratch/{me}'.*without any of"),
        ("results", "$NOT_SET_ANYWHERE/study", "whose variable is not set"),
        ("cdmam.recordings_split", {"train": 48}, "expected both train and test"),
        # What would else stop a job, after the images were prepared.
        ("datasets.lvot.split", {"sizes": {"train": 551, "test": 70}}, "found 621 in all, but the twin has 160"),
        ("datasets.lvot.split", {"sizes": {"train": 160}}, "expected 1 or more in train and in test"),
        ("datasets.lvot.split", {"sizes": {"train": 90, "test": 70}, "test": 0.1}, "sizes and the share test"),
        ("datasets.lvot.split", {"sizes": {"training": 90}}, "split.sizes.training"),
        ("datasets.lvot.split", {"official": True}, "format: lvot name no parts"),
        ("datasets.object_cxr.split", {"official": True, "folds": 5}, "found official and folds, expected one"),
        ("datasets.object_cxr.split", {"official": True, "seed": 0}, "found seed and official"),
        ("datasets.object_cxr.split", {"folds": 5, "seed": 0}, "found seed and folds"),
        ("datasets.lvot.seeds", [0, 1, 0], r"seeds: found \[0, 1, 0\], expected each once"),
        ("datasets.lvot.format", "brain_tumor_jpg", "format: brain_tumor_jpg needs path.*twins: object_cxr"),
        ("datasets.lvot.weights", "imagenet", "weights: there are none of ImageNet for small_resnet"),
        ("datasets.lvot.weights", "ImageNet", "weights: found 'ImageNet', expected none, imagenet, or the path"),
        ("datasets.lvot.weights", "$NOT_SET_ANYWHERE/mine.pth", "whose variable is not set"),
        ("datasets.lvot.channels", 2, "datasets.lvot.channels: found 2.*1 or 3"),
        ("datasets.lvot.networks", [{"architecture": "resnet34", "options": {"width": 8}}], "knows none"),
        ("datasets.lvot.networks", [{"architecture": "small_vgg", "options": {"blocks": 2}}], "knows .'width'"),
        ("datasets.lvot", {"format": "lvot", "size": 64, "networks": [{"architecture": "inception_v3"}]}, "75 px"),
        ("datasets.brain_tumor.classes", ["glioma", "meningioma"], "classes: found 2, expected 3"),
        ("datasets.covid_cxr.classes", ["Normal", "Normal"], "expected each once"),
        ("datasets.brain_tumor.training", {"one_output": True}, "needs two classes; found 3"),
        ("datasets.ct_contrast.classes", ["without", "with"], "masked_with: found .'no contrast', 'contrast'"),
    ],
)
def test_faults_are_refused_with_their_path(root, path, value, message):
    content = copy.deepcopy(read(root, "config"))
    *parents, key = path.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    section[key] = value
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        config.load_config(content)


def test_several_folders_of_recordings_are_not_divided_by_sizes(root):
    content = read(root, "paper_amanova_2022")
    content["cdmam"]["recordings"] = ["a", "b"]
    with pytest.raises(ValueError, match="found 2 folders of recordings, which are divided by folder"):
        config.load_config(content)


def test_networks_take_weights_and_channels_of_their_data_set_unless_they_name_their_own(root):
    content = read(root, "config")
    content["datasets"]["lvot"] |= {
        "channels": 3, "weights": "imagenet", "networks": [{"architecture": "resnet34"}, {"architecture": "small_vgg",
        "weights": "none"}, {"architecture": "vgg16", "channels": 1, "weights": "mine.pth"}],
    }  # fmt: skip
    networks = config.load_config(content).datasets["lvot"].networks
    assert [(n.weights, n.channels) for n in networks] == [("imagenet", 3), ("none", 3), ("mine.pth", 1)]
    del content["datasets"]["lvot"]["weights"]
    del content["datasets"]["lvot"]["networks"]
    assert config.load_config(content).datasets["lvot"].networks == (config.NetworkPlan(channels=3),)


def test_what_the_configuration_says_of_architectures_is_what_they_are():
    zoo = pytest.importorskip("xiqa.models.zoo")
    own = {name for name, entry in ARCHITECTURES.items() if entry.options}
    assert set(zoo.TABLE) == set(ARCHITECTURES)
    assert {name for name, entry in zoo.TABLE.items() if not entry.source} == own == set(zoo.OWN)
    for name in own:
        known = {*ARCHITECTURES[name].options, "channels", "outputs"}
        assert set(inspect.signature(zoo.OWN[name]).parameters) == known


def test_a_test_setting_in_the_training_grid_is_refused(root):
    content = read(root, "config")
    content["cdmam"]["training_settings"][0] = dict(content["cdmam"]["scenarios"]["scenario_2"])
    with pytest.raises(ValueError, match="both in training and in a test group"):
        config.load_config(content)


def test_schema_equals_the_code(root):
    stored = (root / "workflow/schemas/config.schema.json").read_text(encoding="utf-8")
    assert stored == config.json_schema(), "run `make schema`"
    assert json.loads(stored)["additionalProperties"] is False


def test_readme_documents_every_key(root):
    assert (root / "config/README.md").read_text(encoding="utf-8").endswith(config.key_table()), "run `make schema`"
    assert "| |\n" not in config.key_table().replace("| | |", ""), "a key has no description"


def test_environment_versions_equal_the_lock(root):
    lock = set((root / "requirements.lock").read_text().split())
    environment = yaml.safe_load((root / "envs/xiqa.yaml").read_text())
    pins = environment["dependencies"][-1]["pip"]
    assert pins
    assert set(pins) <= lock


def test_the_secret_of_pseudonyms_lies_in_the_home_folder_unless_named(root, monkeypatch):
    """Never in a folder called ~ where the study was started, which might be shared."""
    monkeypatch.setenv("HOME", "/home/somebody")
    study = config.load_config(read(root, "config"))
    assert study.pseudonym_key == "/home/somebody/.config/xiqa/pseudonym_key"
