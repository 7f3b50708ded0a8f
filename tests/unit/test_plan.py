"""What a study will cost is counted from its configuration, and told in one line per stage."""

import re

import pytest
import yaml

from xiqa import plan
from xiqa.config import laid_over, load_config, own_images_alone

OWN = {"format": "folder", "path": "/data/mine", "size": 64}
NO_TWINS = dict.fromkeys(("object_cxr", "lvot", "brain_tumor", "covid_cxr", "ct_contrast", "mri_quality"))


def study(root, top: dict):
    """A study laid over the default as the workflow does it."""
    read = lambda name: yaml.safe_load((root / f"config/{name}.yaml").read_text())  # noqa: E731
    base = read("config")
    if own_images_alone(laid_over(base, top)):
        base = laid_over(base, read("own_images"))
    return load_config(laid_over(base, top))


def work(config, name: str, images: int) -> dict[str, float]:
    """Stage -> units, of one data set."""
    found: dict[str, float] = {}
    for part in plan.image_work(config, name, images):
        found[part.stage] = found.get(part.stage, 0) + part.units
    return found


def test_own_images_have_a_short_list_of_methods_and_twins_the_full_one(root):
    full, own = study(root, {}), study(root, {"datasets": {"mine": OWN, **NO_TWINS}})
    methods = {*own.saliency.methods, *own.saliency.costly_methods}
    assert len(methods) == 9
    assert {"random", "centre_prior", "edges"} < methods < {*full.saliency.methods, *full.saliency.costly_methods}
    # None that takes thousands of passes, and few enough that the whole plan is short.
    assert not methods & {"rise", "score_cam", "xrai", "blur_ig", "guided_ig", "kernel_shap", "lime"}
    # One's own folder beside a twin changes nothing for the twin; a list that a study names is its own.
    beside = study(root, {"datasets": {"mine": OWN}})
    assert beside.saliency == full.saliency
    named = study(root, {"datasets": {"mine": OWN, **NO_TWINS}, "saliency": {"methods": ["gradient"], "cascade": []}})
    assert named.saliency.methods == ("gradient",)
    assert named.saliency.costly_methods == own.saliency.costly_methods


def test_work_of_own_images_follows_from_their_number(root):
    config = study(root, {"datasets": {"mine": OWN | {"training": {"epochs": 10}}, **NO_TWINS}})
    found = work(config, "mine", 400)
    assert found["prepare"] == 400
    # 60 % are trained on; the 15 % of validation are seen without a gradient, a third of the work.
    assert found["train_network"] == pytest.approx(10 * (240 + 60 / 3))
    # 72 of the 100 test images by the methods of few passes and the controls, 22 by each of three costly families.
    assert found["explain: methods of few passes"] == 2 * 72
    assert found["explain: costly methods"] == 3 * 22
    assert found["score_localisation"] == 6 * 72 + 3 * 22
    assert found["score_fidelity"] == 9 * 11
    # A set of which there are but 40 images has 10 to test.
    assert work(config, "mine", 40)["score_fidelity"] == 9 * 10


def test_a_regression_has_no_jobs_of_classifications(root):
    mine = OWN | {"task": "regression", "members": 2}
    config = study(root, {"datasets": {"mine": mine, **NO_TWINS}})
    found = plan.work_of(config, {"mine": 40}, chains=["images"])
    assert sum(part.jobs for part in found) == 22  # as Snakemake counted them
    assert not {"score_localisation", "comparison of sets and methods"} & {part.stage for part in found}


def test_work_of_the_cdmam_chain_is_that_of_the_paper(root):
    config = study(root, yaml.safe_load((root / "config/paper_amanova_2022.yaml").read_text()))
    found = {part.stage: part for part in plan.cdmam_work(config) if part.rate != ("gradient",) or part.jobs}
    # docs/how-to/cost.md has these numbers.
    assert found["train"].units == pytest.approx(10 * 12.2e6, rel=0.01)
    assert found["read_out"].units == 20 * 16 + 6 * 64
    assert found["sample"].units == 57_600 + 96 + 5_024
    assert found["upsample omig"].units == 5 * 5_000 * 50 * 10
    assert found["upsample gradient"].units == 4 * 5_000 * 10
    assert (found["train"].jobs, found["upsample omig"].jobs, found["upsample gradient"].jobs) == (10, 100, 80)


def test_labels_of_their_own_cost_a_reading_of_each_training_image(root):
    config = study(root, {"cdmam": {"readout": {"labels_per": "image"}}})
    found = [part for part in plan.cdmam_work(config) if part.stage == "sample: own labels"]
    assert [part.units for part in found] == [10 * (24 + 18 + 12) + 2 * 30]


def test_time_is_units_times_rates_and_starts_of_jobs():
    work = [
        plan.Work("images", "train", 2, 100.0, "passes", ("train", "a")),
        plan.Work("images", "draw", 3),
        plan.Work("images", "train", 1, 50.0, "passes", ("train", "b")),
    ]
    train, draw = plan.stages(work, {("train", "a"): 0.5, ("train", "b"): 2.0}, start_s=4.0)
    assert (train.jobs, train.what, train.seconds) == (3, "150 passes", 3 * 4 + 100 * 0.5 + 50 * 2)
    assert (draw.jobs, draw.what, draw.seconds) == (3, "", 12.0)
    text = plan.told([train, draw], title="What it costs", cores=2, rates_from="Measured.")
    lines = text.splitlines()
    assert [line.split()[0] for line in lines if line][2:5] == ["train", "draw", "total"]
    # 174 processor seconds; on two cores half of that.
    assert "total      6  2.9 (1.9 to 4.3)" in text
    assert "On 2 cores of this machine, with nothing else on them: about 1.4 (1.0 to 2.2) minutes." in lines


def test_the_longest_stage_is_named_with_what_shortens_it():
    long = plan.Stage("images", "score_fidelity", 1, "", 7200.0)
    short = plan.Stage("images", "train_network", 1, "", 600.0)
    assert re.search("score_fidelity.*name fewer saliency.methods", plan.longest_advice([short, long]))
    assert plan.longest_advice([short]) == ""
