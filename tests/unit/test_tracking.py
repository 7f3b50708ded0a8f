"""The MLflow mirror: the store equals the records, whatever was killed before, and holds nothing that it must not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import long
from playwright.sync_api import sync_playwright

from xiqa import files, tracking, tracking_ui
from xiqa.tracking import DatasetRecord, ModelRecord, RunRecord, StudyRecord, mirror, tracking_uri
from xiqa.tracking_classification import METHOD_TABLES, classification_runs


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory) -> Path:
    """A database with MLflow's schema and nothing in it: making one takes seconds."""
    store = tmp_path_factory.mktemp("schema")
    with tracking._mlflow(store) as mlflow:
        tracking._connect(mlflow, store)
    return store / tracking.DATABASE


@pytest.fixture
def store(tmp_path, empty_database, monkeypatch) -> Path:
    """A store folder, with the working directory elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = tmp_path / "results" / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder / tracking.DATABASE)
    return folder


def study_of(folder: Path, members: int = 3, rmse: float = 0.1, name: str = "mini", model: ModelRecord | None = None):
    """A small study: a run of its own, one per member, one test group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.csv").write_text("group,rmse_midpoint_um\nscenario_1,0.1\n")
    history = pd.DataFrame({"epoch": [1, 2, 3], "step": ["no_margin"] * 3, "nll": [1.0, 0.5, np.nan]})
    data = DatasetRecord("cdmam_training", "0123456789abcdef", "results/cdmam/training", "training")
    runs = [
        RunRecord("cdmam", name, "curves", params={"network": {"dropout": 0.2, "channels": [8, 16]}}, model=model),
        *(
            RunRecord(f"cdmam/models/{i}", f"member {i}", "curves", {"seed": i}, history=history, datasets=[data])
            for i in range(members)
        ),
        RunRecord(
            "cdmam/predictions", "prediction", "curves", metrics={"rmse_um": rmse, "none": None},
            artifacts={"tables": [folder / "scores.csv"]},
        ),
    ]  # fmt: skip
    return StudyRecord(name, "xiqa", "simulated", "c0de", "abc123", runs)


def runs_in(store: Path) -> dict[str, object]:
    """All runs that MLflow itself finds in the store, by key."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(store))
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len({run.data.tags["xiqa.key"] for run in found}) == len(found)
    return {run.data.tags["xiqa.key"]: run for run in found}


def content_of(store: Path) -> dict:
    """What a store holds, without the identifiers and times that every run has of its own."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(store))
    runs = runs_in(store)
    content = {}
    for key, run in runs.items():
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        content[key] = {
            "status": run.info.status,
            "experiment": client.get_experiment(run.info.experiment_id).name,
            "tags": tags,
            "params": run.data.params,
            "history": {
                name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
            "datasets": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
        }
    content["files"] = sorted(p.name for p in (store / "artifacts").rglob("*") if p.is_file())
    return content


def test_runs_are_flat_and_hold_parameters_metrics_per_epoch_data_sets_tables_and_tags(store, tmp_path):
    import mlflow

    listed = mirror(study_of(tmp_path / "r"), store)
    runs = runs_in(store)
    members = [f"cdmam/models/{i}" for i in range(3)]
    assert [run["key"] for run in listed["runs"]] == ["cdmam", *members, "cdmam/predictions"]
    member = runs["cdmam/models/1"]
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs.values()), "parents are shown collapsed"
    assert runs["cdmam"].data.params == {"network.dropout": "0.2", "network.channels": "[8, 16]"}
    client = mlflow.MlflowClient(tracking_uri(store))
    # A value that is not a number is left out, and so is the text column.
    assert [(m.step, m.value) for m in client.get_metric_history(member.info.run_id, "nll")] == [(1, 1.0), (2, 0.5)]
    assert member.inputs.dataset_inputs[0].dataset.digest == "0123456789abcdef"
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["data"] == "simulated"
        assert run.data.tags["git_commit"] == "abc123"
        assert run.data.tags["code_digest"] == "c0de"
    table = client.download_artifacts(runs["cdmam/predictions"].info.run_id, "tables/scores.csv")
    assert Path(table).read_bytes() == (tmp_path / "r" / "scores.csv").read_bytes()
    assert list(Path.cwd().iterdir()) == [], "nothing may be written into the working directory"


def test_a_repeat_keeps_every_run_and_a_change_replaces_only_its_own(store, tmp_path):
    first = mirror(study_of(tmp_path / "r"), store)
    ids = {key: run.info.run_id for key, run in runs_in(store).items()}
    assert mirror(study_of(tmp_path / "r"), store) == first
    assert {key: run.info.run_id for key, run in runs_in(store).items()} == ids

    mirror(replace(study_of(tmp_path / "r", members=2, rmse=0.2), git_commit="later"), store)
    after = runs_in(store)
    assert set(after) == set(ids) - {"cdmam/models/2"}, "a run that is no longer a target goes"
    assert {key for key, run in after.items() if run.info.run_id != ids[key]} == {"cdmam/predictions"}
    assert after["cdmam"].data.tags["git_commit"] == "abc123", "an unchanged result keeps its commit"
    folders = {path.name for path in (store / "artifacts").iterdir()}
    assert folders <= {run.info.run_id for run in after.values()}, "replaced runs leave no files"


def test_each_question_has_an_experiment_that_opens_on_its_runs(store, tmp_path):
    import mlflow

    mirror(study_of(tmp_path / "r"), store)
    run = RunRecord("net", "net", "classifiers", metrics={"auc": 0.9})
    mirror(StudyRecord("other", "xiqa", "simulated", "c", "g", [run]), store)
    client = mlflow.MlflowClient(tracking_uri(store))
    shown = tracking_ui.addresses(store, "http://127.0.0.1:5000")
    assert list(shown) == ["xiqa: curves and ensembles", "xiqa: classifiers"]
    for name, address in shown.items():
        experiment = client.get_experiment_by_name(name)
        view = {"viewStateShareKey": "xiqa", "workflowType": "machine_learning"}
        asked = "&".join(f"{key}={value}" for key, value in view.items())
        assert address == f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs?{asked}"
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        columns = json.loads(experiment.tags["mlflow.sharedViewState.xiqa"])["selectedColumns"]
        assert 5 <= sum(column.startswith("metrics.") for column in columns) <= 8


def test_a_run_that_answers_another_question_moves(store, tmp_path):
    study = study_of(tmp_path / "r")
    mirror(study, store)
    moved = replace(study.runs[-1], question="methods")
    mirror(replace(study, runs=[*study.runs[:-1], moved]), store)
    assert content_of(store)["cdmam/predictions"]["experiment"] == "xiqa: saliency methods"
    assert len(runs_in(store)) == len(study.runs)


def test_the_store_holds_links_and_no_second_copy(store, tmp_path):
    members = [make_member(tmp_path / "r" / f"seed-{seed}", seed) for seed in range(2)]
    mirror(study_of(tmp_path / "r", model=ModelRecord(members, 20)), store)
    copied = [path for path in (store / "artifacts").rglob("*") if path.is_file() and path.stat().st_nlink == 1]
    # What is left: the model's code and its description.
    assert not [path for path in copied if "models" not in path.parts]
    assert not [path for path in copied if path.name in (*tracking.MEMBER_FILES, "scores.csv")]
    assert sum(path.stat().st_size for path in copied) < 3e6


def test_studies_share_an_experiment_without_touching_each_other(store, tmp_path):
    def renamed(study, suffix):
        return replace(study, runs=[replace(run, key=f"{run.key}{suffix}") for run in study.runs])

    mirror(study_of(tmp_path / "r"), store)
    mirror(renamed(study_of(tmp_path / "r", name="other"), "-other"), store)
    mirror(study_of(tmp_path / "r", members=1), store)
    assert len(runs_in(store)) == 3 + 5


def test_half_made_runs_are_made_anew(store, tmp_path):
    import mlflow

    study = study_of(tmp_path / "r")
    expected = mirror(study, store)
    client = mlflow.MlflowClient(tracking_uri(store))
    runs = runs_in(store)
    client.set_terminated(runs["cdmam/models/1"].info.run_id, "FAILED")
    client.update_run(runs["cdmam/predictions"].info.run_id, status="RUNNING")
    client.delete_run(runs["cdmam/models/0"].info.run_id)
    assert mirror(study, store) == expected
    assert all(run.info.status == "FINISHED" for run in runs_in(store).values())


def killed_at(point: str, results: Path, store: Path) -> None:
    """Mirror the study in another process that ends itself by SIGKILL at the given point."""
    script = f"""
import os, signal, sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from pathlib import Path
from test_tracking import study_of
from xiqa import tracking

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

calls = 0
def die_third(*args, original=tracking._log_datasets):
    global calls
    calls += 1
    die() if calls == 3 else original(*args)

if {point!r} == "schema":
    import alembic.op
    alembic.op.create_index = die
if {point!r} == "runs":
    tracking._log_datasets = die_third
if {point!r} == "trash":
    import mlflow.cli
    mlflow.cli.gc.main = die
members, rmse = (2, 0.2) if {point!r} == "trash" else (3, 0.1)
tracking.mirror(study_of(Path({str(results)!r}), members, rmse), {str(store)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=store.parent)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", [long("schema"), "runs", long("trash")])
def test_killed_and_run_again_gives_the_state_of_an_undisturbed_run(point, store, tmp_path, empty_database):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    shutil.copy(empty_database, undisturbed)
    study = study_of(tmp_path / "r")
    expected = mirror(study, undisturbed)
    if point == "schema":
        (store / tracking.DATABASE).unlink()
    if point == "trash":
        mirror(study, store)
    killed_at(point, tmp_path / "r", store)
    found = mirror(study, store)
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert content_of(store) == content_of(undisturbed)
    assert sorted(os.listdir(store)) == sorted(os.listdir(undisturbed))


def make_member(folder: Path, seed: int, size: int = 20) -> Path:
    """A tiny network with random weights, in the form that training writes."""
    import torch

    from xiqa.config import Network
    from xiqa.models.cdc_net import CDCNet

    network = {"channels": [2, 2, 2], "hidden": 4}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CDCNet(size, Network(**network))
    files.write_tensors(folder / "weights.safetensors", net.state_dict())
    model = {"size": size, "network": network, "input_mean": 400.0, "input_sd": 40.0, "training_data": "0"}
    files.write_json(folder / "model.json", model)
    return folder


@pytest.mark.long
@pytest.mark.ci
def test_the_logged_ensemble_loads_and_predicts_the_same(store, tmp_path):
    import mlflow

    from xiqa.models.ensemble import load_ensemble, predict

    members = [make_member(tmp_path / "r" / f"seed-{seed}", seed) for seed in range(2)]
    mirror(study_of(tmp_path / "r", model=ModelRecord(members, 20)), store)
    run = runs_in(store)["cdmam"]
    client = mlflow.MlflowClient(tracking_uri(store))
    (logged,) = client.search_logged_models([run.info.experiment_id])
    assert logged.source_run_id == run.info.run_id
    folder = Path(logged.artifact_location.removeprefix("file://"))
    assert folder.is_relative_to(store)
    assert not [p for p in folder.rglob("*") if p.suffix in (".pkl", ".pickle", ".pth", ".pt")]

    model = mlflow.pyfunc.load_model(str(folder))
    (signature,) = model.metadata.signature.inputs.inputs
    assert (signature.type, signature.shape) == (np.float32, (-1, 20, 20))
    x = np.random.default_rng(0).normal(size=(3, 20, 20)).astype(np.float32)
    found, expected = model.predict(x), predict(load_ensemble(members), x)
    for key in ("predicted_um", "aleatoric_um", "epistemic_um"):
        np.testing.assert_array_equal(found[key], expected[key])

    # Elsewhere there is no xiqa but the model's own code, and nothing that is not required.
    x_file, answer = tmp_path / "x.npy", tmp_path / "answer.npy"
    np.save(x_file, x)
    sites = [path for path in sys.path if "site-packages" in path]
    script = ELSEWHERE.format(folder=str(folder), x=str(x_file), answer=str(answer), sites=sites)
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True, cwd=tmp_path, timeout=1200)
    np.testing.assert_array_equal(np.load(answer), expected["predicted_um"])
    assert model.metadata.metadata == {"input_mean": 400.0, "input_sd": 40.0}

    # A retrained member replaces the logged model, and the old one leaves nothing behind.
    make_member(members[0], seed=7)
    mirror(study_of(tmp_path / "r", model=ModelRecord(members, 20)), store)
    (again,) = client.search_logged_models([run.info.experiment_id])
    assert again.model_id != logged.model_id
    assert not folder.exists()
    assert (members[1] / "weights.safetensors").is_file()


# Without site, no .pth file brings an editable installation of xiqa along.
ELSEWHERE = """
import re, sys
sys.path += {sites!r}
from importlib import metadata, util
assert util.find_spec("xiqa") is None, "no checkout and no installation"

def normal(name):
    return re.sub("[-_.]+", "-", re.split("[^A-Za-z0-9._-]", name.strip())[0]).lower()

folder, required = {folder!r}, set()
waiting = [normal(line) for line in open(folder + "/requirements.txt")]
while waiting:
    name = waiting.pop()
    if name not in required:
        required.add(name)
        try:
            waiting += [normal(need) for need in metadata.requires(name) or [] if "extra ==" not in need]
        except metadata.PackageNotFoundError:
            pass  # for another system
owners = metadata.packages_distributions()

class OnlyWhatIsRequired:
    def find_spec(self, name, path=None, target=None):
        found = [normal(owner) for owner in owners.get(name.partition(".")[0], ()) if owner != "xiqa"]
        if found and not set(found) & required:
            raise ModuleNotFoundError("not required: " + name, name=name)

sys.meta_path.insert(0, OnlyWhatIsRequired())
import mlflow, numpy
model = mlflow.pyfunc.load_model(folder)
numpy.save({answer!r}, model.predict(numpy.load({x!r}))["predicted_um"])
import xiqa
assert xiqa.__file__.startswith(folder), xiqa.__file__
"""


def test_requirements_of_the_model_are_on_the_index(root):
    """PyPI knows neither xiqa 0.1.0 nor torch 2.13.0+cpu; what make installs from it is in requirements.lock."""
    assert "xiqa" not in tracking.MODEL_REQUIREMENTS
    assert set(tracking.requirements()) <= set((root / "requirements.lock").read_text().splitlines())


@pytest.mark.long
def test_the_index_offers_what_the_model_requires():
    for requirement in tracking.requirements():
        name, version = requirement.split("==")
        command = [sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if asked.returncode:
            pytest.skip(f"no package index: {asked.stderr[-200:]}")
        assert re.search(rf"\b{re.escape(version)}\b", asked.stdout), requirement


@pytest.mark.parametrize(
    ("name", "content"), [("IM0001.dcm", "DICM"), ("image.npy", ""), ("scores.csv", "image,PatientID,value\n")]
)
def test_files_that_could_carry_patient_data_are_refused(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    study = StudyRecord(
        "s", "x", "recorded", "c", "g", [RunRecord("k", "n", "curves", artifacts={"": [tmp_path / name]})]
    )
    with pytest.raises(ValueError, match=name.split(".")[0]):
        mirror(study, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_folder_of_recorded_data_stays_out_of_the_store(store):
    data = DatasetRecord("recordings", "d1gest", "/clinic/Doe_Jane_1960", "testing", "recorded")
    run = RunRecord("k", "n", "curves", datasets=[data])
    mirror(StudyRecord("s", "x", "recorded", "c", "g", [run]), store)
    assert runs_in(store)["k"].inputs.dataset_inputs[0].dataset.name == "recordings"
    assert b"Doe_Jane" not in (store / tracking.DATABASE).read_bytes()


def test_a_moved_store_is_set_aside_and_made_anew(store, tmp_path):
    study = study_of(tmp_path / "r")
    expected = mirror(study, store)
    moved = tmp_path / "copy" / "mlflow"
    shutil.copytree(store, moved)
    assert mirror(study, moved) == expected
    assert (tmp_path / "copy" / "mlflow-moved-1" / tracking.DATABASE).is_file()
    assert all(run.info.artifact_uri.startswith(moved.as_uri()) for run in runs_in(moved).values())
    assert content_of(store) == content_of(moved)


def test_records_that_contradict_themselves_are_refused(tmp_path):
    def check(*runs):
        mirror(StudyRecord("s", "x", "simulated", "c", "g", runs), tmp_path / "store")

    with pytest.raises(ValueError, match="found twice"):
        check(RunRecord("a", "a", "curves"), RunRecord("a", "b", "curves"))
    with pytest.raises(ValueError, match="found question 'b', expected one of curves"):
        check(RunRecord("a", "a", "b"))
    with pytest.raises(ValueError, match=r"scores\.csv not found"):
        check(RunRecord("a", "a", "curves", artifacts={"tables": [tmp_path / "scores.csv"]}))
    with pytest.raises(ValueError, match="expected a column 'epoch'"):
        check(RunRecord("a", "a", "curves", history=pd.DataFrame({"nll": [1.0]})))


def method_tables(folder: Path) -> list[str]:
    """Tables of a data set with three methods: scores.csv, and those that the runs of methods are made of."""
    folder.mkdir(parents=True)
    known = {"architecture": "net", "weights": "trained", "data": "simulated"}
    methods = {"method": ["gradient", "xrai", "random"], "form": "absolute"}
    score = {"seed": 0, "metric": "auc", "class_name": "", "value": 0.9}
    tables = {"scores": pd.DataFrame([known | score, known | score | {"architecture": "shortcut: header"}])}
    for name in METHOD_TABLES:
        tables[name] = pd.DataFrame(methods | known | {"metric": name, "mean": [0.2, 0.5, 0.1]})
    pointing = tables["pointing_game"].rename(columns={"mean": "accuracy"}).drop(columns="metric")
    tables["pointing_game"] = pd.concat([pointing.assign(smoothing=kind) for kind in ("none", "gaussian")])
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return [str(folder / f"{name}.csv") for name in tables]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_make_ui_opens_on_the_runs_with_their_scores_as_columns(store, tmp_path):
    """Where MLflow itself opens its page for language models and says "No data"."""
    runs = classification_runs("chests", {}, [], method_tables(tmp_path / "tables"), [])
    groups = [RunRecord(f"g{i}", f"predict {i}", "curves", metrics={"rmse_um": 0.3 - 0.1 * i}) for i in range(3)]
    mirror(StudyRecord("mini", "xiqa", "simulated", "c0de", "abc", [*groups, *runs]), store)
    shown = {}
    with served(store.parent, tmp_path / "ui.log") as addresses, sync_playwright() as browsers:
        assert list(addresses) == ["xiqa: curves and ensembles", "xiqa: classifiers", "xiqa: saliency methods"]
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, address in addresses.items():
            page = browser.new_page(viewport={"width": 2000, "height": 900})
            page.goto(address, timeout=300_000)
            page.get_by_text("matching runs").wait_for(timeout=300_000)
            page.locator("[role=row] a[href*='/runs/']").first.wait_for(timeout=300_000)
            page.screenshot(path=tmp_path / f"{name}.png")
            rows = page.locator("[role=row] a[href*='/runs/']").all_inner_texts()
            headers = page.locator("[data-testid^=sort-header-], [role=columnheader]").all_inner_texts()
            assert page.get_by_text("No data").count() == 0
            shown[name] = (rows, {header.strip() for header in headers})
            page.close()
        browser.close()
    rows, headers = shown["xiqa: curves and ensembles"]
    assert rows == ["predict 2", "predict 1", "predict 0"], "sorted by the error, the smallest first"
    assert {"rmse_um"} <= headers
    rows, headers = shown["xiqa: saliency methods"]
    assert [row.split()[0] for row in rows] == ["xrai", "gradient", "random"], "sorted by the pointing game"
    assert {"pointing_game", "roc_auc", "fidelity"} <= headers
    assert [row for row in shown["xiqa: classifiers"][0] if "shortcut" in row]


@contextlib.contextmanager
def served(results: Path, log: Path):
    """What `make ui` starts, on a free port: the addresses that it prints, by the experiment's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "xiqa.tracking_ui", str(results), "--port", str(port), "--no-browser"]
    given = {"stdout": subprocess.PIPE, "stderr": open(log, "w"), "text": True}  # noqa: SIM115
    with subprocess.Popen(command, **given) as ui:
        try:
            printed = []
            for line in ui.stdout:
                if line.startswith("Ctrl-C"):
                    break
                printed.append(line.strip())
            yield dict(zip(printed[::2], printed[1::2], strict=True))
        finally:
            ui.terminate()
    with socket.socket() as left, pytest.raises(ConnectionRefusedError):
        left.connect(("127.0.0.1", port))


def test_a_folder_without_runs_is_refused(tmp_path, empty_database, capsys):
    assert tracking_ui.main([str(tmp_path)]) == 1
    assert "found no MLflow store" in capsys.readouterr().err
    (tmp_path / "mlflow").mkdir()
    shutil.copy(empty_database, tmp_path / "mlflow")
    assert tracking_ui.main([str(tmp_path)]) == 1
    assert "found no runs of xiqa" in capsys.readouterr().err


def test_a_port_in_use_is_passed_over():
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        first = used.getsockname()[1]
        assert tracking_ui._free_port(first) > first
