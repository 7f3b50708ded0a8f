"""The real-data study, short: one or a few folds of each public set, a few epochs."""

from pathlib import Path

import pandas as pd
import pytest
from workflow_runs import copy_project, run

pytestmark = [pytest.mark.workflow, pytest.mark.long]
RESULTS = Path("results/real_data")
SHORT = """
pseudonym_key: key_outside_the_results
datasets:
  brain_blocks:
    seeds: [0, 1, 2, 3]  # 20 blocks: what the 10 of two folds show, 0.11, has an interval of -0.31 to 0.21
    networks: [{architecture: small_resnet, options: {first_pooling: false}, states: [trained, fully_random]}]
    training: {epochs: 20}
  brain_leaky: null
  ct_slices: {seeds: [2], training: {epochs: 10}}
  covid_masks: {seeds: [2], training: {epochs: 2}}
saliency:
  methods: [integrated_gradients, random, centre_prior, edges]
  images: 100
  costly_methods: []
  costly_images: 6
  masking_images: 6
  fidelity_steps: 10
  cascade: []
"""


@pytest.fixture(scope="module")
def results(root, real_data, tmp_path_factory) -> Path:
    """A copy of the project in which one or a few folds of each set were learnt and scored."""
    folder = copy_project(root, tmp_path_factory.mktemp("real_data") / "xiqa")
    (folder / "short.yaml").write_text(SHORT)
    run(folder, "classification", "--configfile", "config/real_data.yaml", "short.yaml")
    return folder / RESULTS


def auc(results: Path, dataset: str, name: str) -> float:
    scores = pd.read_csv(results / dataset / "tables/scores.csv")
    own = scores[(scores["architecture"] == name) & (scores["metric"] == "auc") & scores["class_name"].isna()]
    own = own[own["weights"].isin(["trained"]) | own["weights"].isna()]
    return own["value"].min()  # of the worst fold


def test_brain_tumours_are_learnt_without_the_neighbours_of_the_test_blocks(results):
    assert auc(results, "brain_blocks", "small_resnet") > 0.7
    assert set(pd.read_csv(results / "brain_blocks/tables/scores.csv")["grouping"]) == {"proxy"}
    blocks = pd.read_csv(results / "brain_blocks/splits/seed-0.csv")
    near = {block + step for block in blocks.loc[blocks["part"] == "test", "group"] for step in (-1, 0, 1)}
    assert not near & set(blocks.loc[blocks["part"].isin(["train", "validation"]), "group"])


def test_trained_networks_point_at_tumours_better_than_random_ones(results):
    table = pd.read_csv(results / "brain_blocks/tables/randomisation.csv")
    row = table.query("method == 'integrated_gradients' and metric == 'pointing_game' and form == 'absolute'")
    assert 0 < row["ci_low"].item() < row["difference"].item() < row["ci_high"].item()
    assert set(table["data"]) == {"real"}
    # A Gaussian in the middle of the slice is good at finding central tumours: the reason why controls are beside.
    auc = pd.read_csv(results / "brain_blocks/tables/roc_auc.csv").query(
        "method == 'centre_prior' and metric == 'roc_auc'"
    )
    assert auc["mean"].iloc[0] > 0.85


def test_a_threshold_tells_contrast_agent_on_real_slices(results):
    assert auc(results, "ct_slices", "shortcut: bright pixels") > 0.75


def test_presence_of_a_lung_mask_tells_covid(results):
    assert auc(results, "covid_masks", "shortcut: mask presence") > 0.65


def test_no_patient_id_is_in_the_results(results):
    for path in results.rglob("*"):
        if path.is_file() and path.suffix not in {".npy", ".png", ".safetensors"}:
            assert b"TCGA-" not in path.read_bytes(), path
