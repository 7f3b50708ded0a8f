"""The workflow as a user runs it: end to end, reruns of what changed only, and the same bytes after kill -9."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from printed_numbers import assert_printed, assert_short
from workflow_runs import command, copy_project, dry_run, environment, planned, run

pytestmark = pytest.mark.workflow
STUDY = ["--configfile", "config/test.yaml"]
RESULTS = Path("results/test")
# Measured times differ between runs; everything else must not.
MEASURED = ("logs/", "benchmarks/", "mlflow/", "cdmam/tables/upsampling.csv")


def digests(folder: Path) -> dict[str, str]:
    root = folder / RESULTS
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = {str(path.relative_to(root)): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(MEASURED)
    }


@pytest.fixture(scope="module")
def study(root, tmp_path_factory) -> Path:
    """A copy of the project in which the smallest study was run once, undisturbed."""
    folder = copy_project(root, tmp_path_factory.mktemp("study") / "xiqa")
    run(folder, *STUDY)
    return folder


def test_every_table_and_figure_is_there(study):
    tables = study / RESULTS / "cdmam/tables"
    columns = {
        "cdc": ["setting", "diameter_mm", "t_auto_um", "t_human_um", "cdc_um", "ci_low_um", "ci_high_um", "censored"],
        "prediction_scores": [
            "group", "n", "rmse_midpoint_um", "rmse_train_mean_um", "rmse_shortcut_um", "relative_error", "coverage_95",
        ],
        "predictions": [
            "image", "group", "diameter_mm", "truth_um", "predicted_um", "aleatoric_um", "epistemic_um",
        ],
        "modified_image": ["image", "group", "method", "form", "midpoint_before_um", "midpoint_after_um"],
        "structure_share": [
            "image", "group", "method", "structure", "diameter_mm", "share_abs", "share_signed", "share_area",
        ],
        "upsampling": ["method", "draws", "seconds", "mean_visits", "relative_standard_error"],
    }  # fmt: skip
    for name, expected in columns.items():
        table = pd.read_csv(tables / f"{name}.csv")
        assert list(table.columns[: len(expected)]) == expected, name
        assert len(table), name
    scores = pd.read_csv(tables / "prediction_scores.csv")
    assert "scenario_1_3" in set(scores["group"])
    shares = pd.read_csv(tables / "structure_share.csv")
    totals = shares.groupby(["image", "method"])[["share_abs", "share_area"]].sum()
    assert ((totals - 1).abs() < 1e-5).all(axis=None)
    assert len(list((study / RESULTS / "cdmam/figures").glob("*.png"))) >= 14


def test_findings_print_what_their_tables_say(study):
    """The file that a user reads, against the tables beside it."""
    check_findings(study / RESULTS / "cdmam")


def check_findings(folder: Path) -> None:
    sections = re.split(r"^## (.+)$", (folder / "findings.md").read_text(), flags=re.MULTILINE)[1:]
    found = dict(zip(sections[::2], sections[1::2], strict=True))
    tables = {path.stem: pd.read_csv(path) for path in (folder / "tables").glob("*.csv")}
    scores = tables["prediction_scores"]
    sources = {
        "Shortcut": [scores.filter(like="rmse")],
        "Accuracy": [scores.filter(like="rmse")],
        "Uncertainty": [
            tables["uncertainty_dependence"].head(1), tables["uncertainty_calibration"], scores.filter(like="coverage"),
        ],
        "Ways to a curve": [tables["curve_methods"]],
        "Censoring": [tables["cdc"].groupby("setting")["censored"].sum()],
        "Modified image": [tables["modified_image_summary"].query("group == 'all'")],
        "Structures": [tables["structure_share_summary"].query("group == 'all'")],
        "Precision of the maps": [tables["upsampling_designs"]],
    }  # fmt: skip
    assert set(found) == set(sources)
    for heading, text in found.items():
        text = re.sub(r"^!\[.*$", "", text, flags=re.MULTILINE)  # the picture below the first heading
        assert_short(text.splitlines())
        phrases = ["0.03-2 µm", "95 % intervals", "12 diameters", "95 % would be right", "p below 0.05"]
        assert_printed(text, *sources[heading], phrases=phrases)


def test_a_second_run_has_nothing_to_do(study):
    assert "Nothing to be done" in run(study, *STUDY)


def test_runs_are_in_mlflow(study):
    runs = json.loads((study / RESULTS / "tracking/runs.json").read_text())["runs"]
    assert {run["data"] for run in runs} == {"simulated"}
    assert {run["status"] for run in runs} == {"FINISHED"}
    keys = {run["key"] for run in runs}
    assert {"study", "models/member-0", "models/member-1", "predictions", "explanations/omig"} <= keys


@pytest.fixture
def edit(study):
    """Replace text in a file of the copy, and undo it after the test."""
    originals = {}

    def replace(name: str, old: str, new: str) -> None:
        path = study / name
        text = path.read_text()
        originals.setdefault(path, (text, path.stat()))
        assert old in text, f"{name} no longer has {old!r}"
        path.write_text(text.replace(old, new, 1))

    yield replace
    for path, (text, status) in originals.items():
        path.write_text(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


FUTURE = "from __future__ import annotations"
LATER = {"draw_checks", "write_findings", "track"}


def test_an_edited_method_reruns_its_family_only(study, edit):
    edit("src/xiqa/saliency/omig.py", FUTURE, f"{FUTURE}\n\n_EDITED = 1")
    rules = planned(study, *STUDY)
    assert {"explain_omig", "upsample_omig", "compare_omig_parameters"} <= rules
    assert not rules & {"explain_one_pass", "upsample_gradient", "train", "predict", "sample"}


def test_a_learning_rate_reruns_training_and_later_only(study, edit):
    edit("config/test.yaml", "batch_size: 4,", "batch_size: 4, learning_rate: 1.0e-4,")
    rules = planned(study, *STUDY)
    assert {"train", "predict", "explain_omig", "upsample_omig", "track"} <= rules
    assert not rules & {"read_out", "sample", "fit_curves", "original"}


def test_another_test_setting_retrains_nothing(study, edit):
    edit("config/test.yaml", "scenarios: {", "scenarios: {scenario_1: {exposure_mas: 90}, ")
    rules = planned(study, *STUDY)
    assert {"read_out", "fit_curves", "predict"} <= rules
    assert not rules & {"fit_training_curves", "train"}


def test_comments_and_docstrings_rerun_nothing(study, edit):
    edit("src/xiqa/saliency/omig.py", '"""', '"""Edited. ')
    edit("src/xiqa/cdmam/reader.py", FUTURE, f"# A comment.\n{FUTURE}")
    assert planned(study, *STUDY) == set()


def test_two_values_that_swap_are_seen(study, edit):
    edit("config/test.yaml", "no_margin: 4, small_margins: 2", "no_margin: 2, small_margins: 4")
    assert "sample" in planned(study, *STUDY)


def test_a_fault_in_the_configuration_stops_before_any_job(study, edit):
    edit("config/test.yaml", "batch_size: 4", "batch_sise: 4")
    code, output = dry_run(study, *STUDY)
    assert code != 0
    assert "cdmam.training.batch_sise" in output


# The tests below run the copy again, the ones above only plan.


@pytest.mark.long
def test_an_edited_metric_reruns_scoring_and_later_only(study, edit):
    edit("src/xiqa/metrics/structure_share.py", FUTURE, f"{FUTURE}\n\n_EDITED = 1")
    assert planned(study, *STUDY) == {"score_explanations"} | LATER
    stats = run(study, *STUDY)
    assert re.search(r"^train\s", stats, re.MULTILINE) is None
    assert "Nothing to be done" in run(study, *STUDY)


# What shows that a stage is at work, and how long it is then left to work, in seconds.
KILLED_AT = {
    "simulate": ("logs/sample/scenario_1.log", 0.2),
    "train": ("logs/train/member-0.log", 0.2),
    "upsample": ("logs/upsample/omig/scenario_1-0/shard-0.log", 0.2),
    "tracking": ("mlflow/mlflow.db", 1.0),
}


@pytest.mark.long
def test_kill_9_then_run_again_gives_the_same_bytes(root, study, tmp_path):
    folder = copy_project(root, tmp_path / "xiqa")
    for stage, (sign, seconds) in KILLED_AT.items():
        process = subprocess.Popen(
            command(*STUDY, "--rerun-incomplete"), cwd=folder, env=environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 600
        while not (folder / RESULTS / sign).exists():
            assert process.poll() is None, f"{stage}: the run ended before it could be killed"
            assert time.monotonic() < deadline, f"{stage}: never began"
            time.sleep(0.05)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        subprocess.run(command(*STUDY, "--unlock"), cwd=folder, capture_output=True, env=environment(), check=True)
    run(folder, *STUDY, "--rerun-incomplete")
    expected, found = digests(study), digests(folder)
    assert {name for name in expected if expected[name] != found.get(name)} == set()
    assert set(found) == set(expected)


@pytest.mark.long
def test_recordings_are_read_used_for_fine_tuning_and_explained(study, real_data):
    folder = real_data / "cdmam_reference" / "images"
    (study / "recordings.yaml").write_text(f"cdmam:\n  recordings: [{folder}]\n")
    run(study, "--configfile", "config/test.yaml", "recordings.yaml")
    tables = study / RESULTS / "cdmam/tables"
    curve = pd.read_csv(tables / "cdc.csv").query("setting == 'recording_1'")
    assert set(curve["data"]) == {"recorded"}
    assert set(curve["images"]) == {16}
    predictions = pd.read_csv(tables / "predictions.csv").query("group == 'recorded'")
    assert predictions["image"].nunique() == 8, "a single setting is split by image, half for fine-tuning"
    modified = pd.read_csv(tables / "modified_image.csv")
    assert set(modified.query("group == 'recorded'")["data"]) == {"recorded"}
    runs = (study / RESULTS / "tracking/runs.json").read_text()
    assert str(folder) not in runs
    # What was recorded is named by its setting and number in every table; file names stay outside.
    for table in tables.glob("*.csv"):
        assert "cdmam_0" not in table.read_text(), table.name
