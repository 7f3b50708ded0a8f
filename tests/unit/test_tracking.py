"""The MLflow mirror: the store equals the records, whatever was killed before, and holds nothing that it must not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xiqa import files, tracking
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
    """A small study: its own run, one per member, one prediction."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.csv").write_text("group,rmse_midpoint_um\nscenario_1,0.1\n")
    history = pd.DataFrame({"epoch": [1, 2, 3], "step": ["no_margin"] * 3, "nll": [1.0, 0.5, np.nan]})
    data = DatasetRecord("cdmam_training", "0123456789abcdef", "results/cdmam/training", "training")
    runs = [
        RunRecord("cdmam", name, params={"network": {"dropout": 0.2, "channels": [8, 16]}}, model=model),
        *(
            RunRecord(f"cdmam/models/{i}", f"member {i}", "cdmam", {"seed": i}, history=history, datasets=[data])
            for i in range(members)
        ),
        RunRecord(
            "cdmam/predictions", "prediction", "cdmam", metrics={"rmse_um": rmse, "none": None},
            artifacts={"tables": [folder / "scores.csv"]},
        ),
    ]  # fmt: skip
    return StudyRecord(name, "xiqa", "simulated", "c0de", "abc123", runs)


def runs_in(store: Path, experiment: str = "xiqa") -> dict[str, object]:
    """All runs that MLflow itself finds in the store, by key."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(store))
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert len({run.data.tags["xiqa.key"] for run in found}) == len(found)
    return {run.data.tags["xiqa.key"]: run for run in found}


def content_of(store: Path) -> dict:
    """What a store holds, without the identifiers and times that every run has of its own."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(store))
    runs = runs_in(store)
    keys = {run.info.run_id: key for key, run in runs.items()}
    content = {}
    for key, run in runs.items():
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        content[key] = {
            "status": run.info.status,
            "parent": keys.get(run.data.tags.get("mlflow.parentRunId")),
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


def test_runs_are_nested_and_hold_parameters_metrics_per_epoch_data_sets_tables_and_tags(store, tmp_path):
    import mlflow

    listed = mirror(study_of(tmp_path / "r"), store)
    runs = runs_in(store)
    members = [f"cdmam/models/{i}" for i in range(3)]
    assert [run["key"] for run in listed["runs"]] == ["cdmam", *members, "cdmam/predictions"]
    parent, member = runs["cdmam"], runs["cdmam/models/1"]
    assert member.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params == {"network.dropout": "0.2", "network.channels": "[8, 16]"}
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


def test_a_replaced_parent_takes_its_kept_children_along(store, tmp_path):
    study = study_of(tmp_path / "r")
    mirror(study, store)
    before = runs_in(store)
    mirror(replace(study, runs=[replace(study.runs[0], name="renamed"), *study.runs[1:]]), store)
    after = runs_in(store)
    assert after["cdmam"].info.run_id != before["cdmam"].info.run_id
    assert after["cdmam/models/0"].info.run_id == before["cdmam/models/0"].info.run_id
    assert after["cdmam/models/0"].data.tags["mlflow.parentRunId"] == after["cdmam"].info.run_id


def test_studies_share_an_experiment_without_touching_each_other(store, tmp_path):
    def renamed(study, suffix):
        key = {run.key: f"{run.key}{suffix}" for run in study.runs}
        return replace(study, runs=[replace(r, key=key[r.key], parent=key.get(r.parent)) for r in study.runs])

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
sys.path.insert(0, {str(Path(__file__).parent)!r})
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


@pytest.mark.parametrize("point", ["schema", "runs", "trash"])
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

    # A retrained member replaces the logged model, and the old one leaves nothing behind.
    make_member(members[0], seed=7)
    mirror(study_of(tmp_path / "r", model=ModelRecord(members, 20)), store)
    (again,) = client.search_logged_models([run.info.experiment_id])
    assert again.model_id != logged.model_id
    assert not folder.exists()
    assert (members[1] / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "content"), [("IM0001.dcm", "DICM"), ("image.npy", ""), ("scores.csv", "image,PatientID,value\n")]
)
def test_files_that_could_carry_patient_data_are_refused(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    study = StudyRecord("s", "x", "recorded", "c", "g", [RunRecord("k", "n", artifacts={"": [tmp_path / name]})])
    with pytest.raises(ValueError, match=name.split(".")[0]):
        mirror(study, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_folder_of_recorded_data_stays_out_of_the_store(store):
    data = DatasetRecord("recordings", "d1gest", "/clinic/Doe_Jane_1960", "testing", "recorded")
    run = RunRecord("k", "n", datasets=[data])
    mirror(StudyRecord("s", "x", "recorded", "c", "g", [run]), store)
    assert runs_in(store, "x")["k"].inputs.dataset_inputs[0].dataset.name == "recordings"
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
        check(RunRecord("a", "a"), RunRecord("a", "b"))
    with pytest.raises(ValueError, match="parent 'b' not found before it"):
        check(RunRecord("a", "a", "b"), RunRecord("b", "b"))
    with pytest.raises(ValueError, match=r"scores\.csv not found"):
        check(RunRecord("a", "a", artifacts={"tables": [tmp_path / "scores.csv"]}))
    with pytest.raises(ValueError, match="expected a column 'epoch'"):
        check(RunRecord("a", "a", history=pd.DataFrame({"nll": [1.0]})))


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


@pytest.mark.long
def test_methods_can_be_sorted_by_a_score_as_the_ui_does(store, tmp_path):
    runs = classification_runs("chests", {}, [], method_tables(tmp_path / "tables"), [])
    mirror(StudyRecord("mini", "xiqa", "simulated", "c0de", "abc", [RunRecord("study", "mini"), *runs]), store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    log = open(tmp_path / "server.log", "w")  # noqa: SIM115
    command += ["--backend-store-uri", tracking_uri(store)]
    given = {"stdout": log, "stderr": log, "env": environment, "start_new_session": True}
    with subprocess.Popen(command, **given) as server:
        try:
            asked = {"experiment_ids": ["1"], "order_by": ["metrics.pointing_game DESC"], "max_results": 2}
            found = ask(f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/runs/search", asked)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    named = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]}["method"] for run in found["runs"]]
    assert named == ["xrai", "gradient"]


def ask(address: str, body: dict) -> dict:
    """Post to a server that may still be starting, which takes minutes on a busy machine."""
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise TimeoutError(address)
