"""The second chain as a user runs it: a twin and the user's own folder, and reruns of what changed only."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from printed_numbers import assert_short
from workflow_runs import copy_project, planned, run

from xiqa.datasets.splits import upsampled_images
from xiqa.files import PackedMasks
from xiqa.tracking import refuse_patient_data

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.ci]
STUDY = ["classification", "--configfile", "config/test.yaml", "mine.yaml"]
RESULTS = Path("results/test")
NETWORK = "[{architecture: small_resnet, states: [trained, semi_random, fully_random]}]"
CONFIG = f"""
pseudonym_key: key outside the results
saliency:
  methods: [gradient, grad_cam, normgrad_conv1x1_multi, random, centre_prior]
  images: 8
  costly_methods: [smoothgrad, occlusion]
  costly_images: 4
  masking_images: 4
  severity_images: 2
  samples: 2
  fidelity_steps: 4
  cascade: [gradient]
datasets:
  chests:
    format: covid_cxr
    size: 64
    sampling: {{size: 32, samplings: 2, images: 1, draws: 6, shards: 2, batch: 4}}
    twin: {{patients: 24, images_per_patient: 1, severities: [1.0], patients_per_severity: 4}}
    split: {{validation: 0.15, test: 0.4}}
    nearest_cases: 3
    counterfactuals: {{epochs: 1, images: 6}}
    concepts: {{train_images: 60, test_images: 60, ladders: 2, permutations: 99}}
    networks: {NETWORK}
    training: {{epochs: 1, batch_size: 8}}
  quality:
    format: mri_quality
    task: regression
    size: 32
    intensity: percentiles
    members: 2
    explain: {{direction: lower, every_network: [occlusion]}}
    twin: {{patients: 24, images_per_patient: 1}}
    training: {{epochs: 1, batch_size: 8}}
  mine:
    format: folder
    path: images of Jane Doe
    size: 32
    split: {{validation: 0.25, test: 0.35}}
    training: {{epochs: 1, batch_size: 8}}
"""


def write_images(folder: Path) -> None:
    """Two images of each of twelve patients: smooth ones and noisy ones."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        noisy, patient = number % 4 < 2, number // 2
        field = rng.normal(size=(40, 48) if noisy else (4, 5))
        pixels = Image.fromarray((128 + 40 * field).clip(0, 255).astype(np.uint8)).resize((48, 40))
        pixels.save(folder / f"{number}.png")
        label = "noisy" if noisy else "smooth"
        rows.append({"image": f"{number}.png", "label": label, "patient": f"Doe^Jane {patient}", "keep_view": "PA"})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)


@pytest.fixture(scope="module")
def study(root, tmp_path_factory) -> Path:
    """A copy of the project in which both data sets were prepared, learnt and scored."""
    folder = copy_project(root, tmp_path_factory.mktemp("classification") / "xiqa")
    (folder / "mine.yaml").write_text(CONFIG)
    write_images(folder / "images of Jane Doe")
    run(folder, *STUDY)
    return folder


def test_tables_and_figures_are_there(study):
    results = study / RESULTS
    for dataset, data in (("chests", "simulated"), ("mine", "real")):
        table = pd.read_parquet(results / dataset / "prepared/table.parquet")
        assert {"image", "patient", "label", "label_name", "boxes", "has_mask", "source_digest"} <= set(table)
        assert set(table["data"]) == {data}
        scores = pd.read_csv(results / dataset / "tables/scores.csv")
        assert set(scores["data"]) == {data}
        assert "small_resnet" in set(scores["architecture"])
        assert scores["architecture"].str.startswith("shortcut").any()
        for figure in ("roc", "confusion", "calibration", "history", "embedding"):
            assert (results / dataset / "figures/small_resnet" / f"{figure}.png").stat().st_size > 1000
    assert set(pd.read_csv(results / "chests/tables/scores.csv")["weights"]) == {
        "trained", "semi_random", "fully_random",
    }  # fmt: skip
    assert (results / "classification/findings.md").read_text()


def test_a_regression_has_scores_ensemble_maps_and_findings(study):
    results = study / RESULTS / "quality"
    scores = pd.read_csv(results / "tables/scores.csv")
    assert set(scores["seed"]) == {"0", "1", "ensemble"}
    assert {"rmse", "pearson", "coverage_95"} <= set(scores["metric"])
    predictions = pd.read_csv(results / "tables/predictions.csv")
    members = [pd.read_parquet(results / f"predictions/small_resnet/trained/seed-{seed}.parquet") for seed in (0, 1)]
    mean = (members[0]["predicted_target_severity"] + members[1]["predicted_target_severity"]) / 2
    np.testing.assert_allclose(predictions["predicted_target_severity"], mean, rtol=1e-6)
    assert (predictions["epistemic_target_severity"] >= 0).all()
    saliency = results / "saliency/small_resnet/trained"
    for method in ("gradient", "occlusion"):
        first, mean = (np.load(saliency / f"{folder}/{method}.npy") for folder in ("seed-0", "ensemble"))
        # Of two members each is off the mean by their standard deviation; the other's map is deleted when it is used.
        np.testing.assert_allclose(np.load(saliency / f"ensemble/spread/{method}.npy"), abs(first - mean), atol=1e-6)
        assert (first != mean).any()
        assert not (saliency / f"seed-1/{method}.npy").exists()
    shares = pd.read_csv(results / "tables/structure_share_summary.csv")
    assert {"seed 0", "ensemble"} == set(shares["group"])
    assert set(shares["structure"]) == {"defect"}
    for name in ("predictions", "shortcuts", "history", "structure_share", "ensemble_maps", "examples", "split"):
        assert (results / "figures" / f"{name}.png").stat().st_size > 1000
    text = (results / "findings.md").read_text()
    assert "Does the ensemble predict the severity?" in text
    assert "simulated images" in text


def test_maps_of_sampled_images_are_upsampled_and_scored_at_full_size(study):
    folder = study / RESULTS / "chests"
    (row,) = pd.read_csv(folder / "tables/upsampled.csv").to_dict("records")
    assert (row["method"], row["draws"], row["data"]) == ("gradient", 6, "simulated")
    assert row["mean_visits"] == pytest.approx(6 / 4)
    values = np.load(folder / "upsampled/gradient/0/map.npy")
    assert values.shape == (64, 64)
    assert np.load(folder / "prepared/images.npy").shape[1:] == (32, 32)
    masks = PackedMasks(folder / "prepared/original_masks.npy")
    mask = masks[upsampled_images(pd.read_parquet(folder / "explained/seed-0.parquet"), masks)[0]]
    share = np.abs(values)[mask].sum() / np.abs(values).sum()
    assert (row["share_on_mask"], row["area_of_mask"]) == pytest.approx((share, mask.mean()), nan_ok=not mask.any())
    assert (folder / "figures/upsampled_maps.png").stat().st_size > 10_000


def test_counterfactuals_stand_beside_those_that_are_rendered(study):
    folder = study / RESULTS / "chests"
    scores = pd.read_csv(folder / "tables/counterfactual_scores.csv")
    assert {"latent shift", "as published", "DeepFool", "random shift", "exact"} <= set(scores["method"])
    agreement = scores.loc[scores["metric"] == "agreement", "value"].iloc[0]
    exact = scores[(scores["method"] == "exact") & (scores["metric"] == "r_with_truth")]["value"].dropna()
    assert exact.to_numpy() == pytest.approx(1)
    text = (folder / "counterfactuals.md").read_text()
    assert ("So none is shown" in text) == (agreement < 0.9)
    assert (folder / "figures/counterfactuals.png").stat().st_size > 1000
    images = pd.read_csv(folder / "tables/counterfactuals.csv")
    assert images["image"].nunique() <= 6
    assert set(scores["data"]) == set(images["data"]) == {"simulated"}


def test_concepts_of_a_twin_have_effects_with_a_truth_beside_them(study):
    folder = study / RESULTS / "chests"
    designed = pd.read_parquet(folder / "concepts/designed/table.parquet")
    assert designed["part"].value_counts().to_dict() == {"train": 60, "test": 60, "ladder": 12}
    split = pd.read_csv(folder / "splits/seed-0.csv")
    patients = pd.read_parquet(folder / "prepared/table.parquet")["patient"]
    tested = designed.loc[designed["part"] != "train", "patient"]
    assert set(tested) <= set(patients[(split["part"] == "test").to_numpy()])
    effects = pd.read_csv(folder / "tables/concept_effects.csv")
    assert set(effects["weights"]) == {"trained", "semi_random", "fully_random"}
    assert set(effects["data"]) == {"simulated"}
    assert {"severity", "noise", "blur", "measured_noise"} <= set(effects["concept"])
    # Normal chests have no defect whose severity could matter.
    assert "severity" not in set(effects.loc[effects["class"] == "Normal", "concept"])
    agreement = pd.read_csv(folder / "tables/concept_agreement.csv")
    last = agreement[(agreement["layer"] == "stages.3") & (agreement["estimate"] == "pattern")]
    assert len(last) == 3
    assert last["r"].between(-1, 1).all()
    assert pd.read_csv(folder / "tables/concept_ladders.csv").groupby("weights")["ladder"].nunique().eq(2).all()
    assert "Which concepts does the output follow?" in (folder / "concepts.md").read_text()
    for figure in ("concept_effects", "concept_ladders", "bottleneck_curves"):
        assert (folder / f"figures/{figure}.png").stat().st_size > 1000


def test_nearest_cases_are_training_images_of_other_patients(study):
    folder = study / RESULTS / "chests"
    cases = pd.read_csv(folder / "tables/nearest_cases.csv")
    part = pd.read_csv(folder / "splits/seed-0.csv")["part"].to_numpy()
    names = pd.read_parquet(folder / "prepared/table.parquet")["image"].to_numpy()
    assert cases["image"].tolist() == names[part == "test"].tolist()
    assert set(cases[["case_1", "case_2", "case_3"]].to_numpy().ravel()) <= set(names[part == "train"])
    scores = pd.read_csv(folder / "tables/nearest_scores.csv").set_index(["metric", "of"])
    assert {("purity", "features"), ("purity", "pixels"), ("accuracy", "network")} <= set(scores.index)
    assert scores["ci_low"].le(scores["value"]).all()
    assert (folder / "figures/nearest_cases.png").stat().st_size > 1000


def test_a_set_without_masks_has_an_empty_table_of_shares(study):
    for name in ("structure_share", "structure_share_summary"):
        assert pd.read_csv(study / RESULTS / f"mine/tables/{name}.csv").empty


def test_maps_of_every_network_and_their_checks_are_there(study):
    chosen = pd.read_parquet(study / RESULTS / "chests/explained/seed-0.parquet")
    tested, costly = (chosen["part"] == "test").sum(), chosen["costly"].sum()
    assert 4 == costly < tested < len(chosen)
    for state in ("trained", "semi_random", "fully_random"):
        folder = study / RESULTS / f"chests/saliency/small_resnet/{state}/seed-0"
        # Maps of randomised networks and rising severity are deleted when they are scored; checks tell their number.
        assert len(pd.read_csv(folder / "one_pass_checks.csv").query("method == 'gradient'")) == (
            len(chosen) if state == "trained" else tested
        )
        for method in ("gradient", "grad_cam", "normgrad_conv1x1_multi"):
            assert (folder / f"{method}.npy").exists() == (state == "trained")
            if state != "trained":
                continue
            maps = np.load(folder / f"{method}.npy")
            assert maps.shape == (tested, 32, 32)
            assert maps.dtype == np.float32
            assert not (folder / "severity" / f"{method}.npy").exists()
        assert (folder / "smoothgrad.npy").exists() == (state == "trained")
        checks = pd.concat([pd.read_csv(path) for path in folder.glob("*_checks.csv")])
        assert {"image", "constant", "non_finite", "completeness_error", "valid", "method"} <= set(checks)
    assert len(np.load(folder.parents[1] / "trained/seed-0/smoothgrad.npy")) == costly
    assert (study / RESULTS / "chests/figures/small_resnet/saliency.png").stat().st_size > 1000


def test_maps_are_scored_into_the_tables_of_the_papers(study):
    results = study / RESULTS
    names = ("pointing_game", "smoothing", "randomisation", "difference_of_means", "roc_auc", "region_dice", "fidelity",
             "relevance", "dose_response", "averaged", "agreement", "cascade", "alignment", "classifier")  # fmt: skip
    tables = {name: pd.read_csv(results / f"chests/tables/{name}.csv") for name in names}
    assert all(set(table["data"]) <= {"simulated"} for table in tables.values())
    methods = {"gradient", "grad_cam", "normgrad_conv1x1_multi", "random", "centre_prior", "smoothgrad", "occlusion"}
    assert set(tables["pointing_game"]["method"]) == methods
    assert set(tables["pointing_game"]["smoothing"]) == {"none", "gaussian"}
    assert set(tables["randomisation"]["compared_with"]) == {"semi_random", "fully_random"}
    assert set(tables["fidelity"]["metric"]) == {"fidelity", "insertion", "deletion", "road"}
    assert tables["difference_of_means"].empty  # one architecture
    # The user's own images have no masks: nothing is scored against them, and this is told, but masking works.
    mine = pd.read_csv(results / "mine/tables/pointing_game.csv")
    assert (mine["n"] == 0).all()
    assert (mine["not_scored"] > 0).all()
    assert pd.read_csv(results / "mine/tables/fidelity.csv").query("metric == 'fidelity'")["n"].gt(0).all()
    board = pd.read_csv(results / "tables/leaderboard.csv")
    assert {"dataset", "method", "form", "metric", "rank", "mean_rank", "mean", "ci_low", "ci_high", "n", "not_scored",
            "seconds_per_map", "beats_best_control", "data"} <= set(board)  # fmt: skip
    assert set(pd.read_csv(results / "tables/claims.csv")["holds"]) <= {"yes", "no", "not testable"}
    assert (results / "findings.md").read_text().startswith("# Which saliency methods can be trusted")
    for figure in ("localisation", "map_roc", "region_dice", "fidelity", "cascade", "alignment"):
        assert (results / f"chests/figures/{figure}.png").stat().st_size > 1000
    assert (results / "figures/trust.png").stat().st_size > 1000


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_report_opens_on_findings_and_pictures_in_a_browser(study):
    run(study, *STUDY, "--report", "report.html")
    assert (study / "report.html").stat().st_size < 15e6
    errors = []
    widths = "images => Promise.all(images.map(image => image.decode().then(() => image.naturalWidth)))"
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((study / "report.html").as_uri())
        first = page.locator(".xiqa h2").first
        assert first.inner_text() == "Does the network beat the shortcuts?"
        assert first.bounding_box()["y"] < 300
        assert page.locator(".xiqa h1").all_inner_texts() == [
            "What the classification studies show", "Which saliency methods can be trusted",
            "What the regression shows: quality (simulated images)",
        ]  # fmt: skip
        assert min(page.locator(".xiqa img").evaluate_all(widths)) > 300
        # The graph of the rules comes last.
        assert page.locator("#app #rulegraph").bounding_box()["y"] > page.locator(".xiqa").last.bounding_box()["y"]
        page.get_by_text("chests", exact=True).first.click()
        page.locator("table a[iconname=eye]").first.click()
        shown = page.frame_locator("iframe")
        shown.locator("h1").wait_for()
        assert shown.locator("img").count() >= 6
        assert min(shown.locator("img").evaluate_all(widths)) > 300
        browser.close()
    assert not errors


def test_findings_begin_with_the_shortcuts_and_are_short(study):
    for page in ("findings.md", "classification/findings.md"):
        lines = [line for line in (study / RESULTS / page).read_text().splitlines() if line]
        assert lines[1] == "## Does the network beat the shortcuts?"
        assert lines[2].split(":")[0] in ("chests", "mine")
        assert_short(line for line in lines if not line.startswith(("#", "|", "!")))


def test_no_name_of_a_patient_leaves_the_folder(study):
    for path in (study / RESULTS).rglob("*"):
        if path.is_file():
            assert b"Doe^Jane" not in path.read_bytes(), path
    assert set(pd.read_parquet(study / RESULTS / "mine/prepared/table.parquet")["keep_view"]) == {"PA"}


def test_every_table_of_a_study_may_be_tracked(study):
    tables = [path for path in (study / RESULTS).rglob("*.csv") if path.parent.name == "tables"]
    assert {"structure_share.csv", "upsampled.csv", "scores.csv"} <= {path.name for path in tables}
    for path in tables:
        if path.name != "predictions.csv":  # a row per image with its patient's pseudonym: it is no part of the mirror
            refuse_patient_data(path)


def test_initial_weights_are_told(study):
    models = study / RESULTS / "chests/models/small_resnet"
    told = {path.parent.parent.name: json.loads(path.read_text()) for path in models.glob("*/seed-0/model.json")}
    assert {name: model["state"] for name, model in told.items()} == {name: name for name in told}
    assert told["trained"]["weights_source"] == "all weights random"
    assert told["semi_random"]["weights_source"].startswith("backbone from the trained network")


def test_reruns_of_what_changed_only(study):
    assert planned(study, *STUDY) == set()
    config = (study / "mine.yaml").read_text()
    (study / "mine.yaml").write_text(f"{config[:-2]}, learning_rate: 0.001}}\n")
    rules = planned(study, *STUDY)
    assert {"train_network", "predict_network", "score_classifiers", "summarise_classification"} <= rules
    assert not rules & {"write_twin", "prepare", "split", "draw_dataset", "randomise_network"}
    (study / "mine.yaml").write_text(config.replace("samples: 2", "samples: 3"))
    rules = planned(study, *STUDY)
    assert {"explain_network_smoothgrad", "draw_saliency"} <= rules
    assert not rules & {"train_network", "predict_network"}
    (study / "mine.yaml").write_text(config)


def test_a_new_image_is_seen(study):
    table = study / "images of Jane Doe/images.csv"
    text = table.read_text()
    table.write_text(text.replace("0.png,noisy", "0.png,smooth", 1))
    assert {"prepare", "split", "train_network"} <= planned(study, *STUDY)
    table.write_text(text)
