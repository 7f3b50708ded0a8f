"""Mirrors result files into MLflow: the records of a study, and the one writer that makes the store equal to them.

The result files stay the truth; the MLflow store (`mlflow.db` and `artifacts/`) can be deleted at any time and is made
anew from them. Its artifacts are hard links to the results: they take no second room. Only this module and the model
file it logs (`tracking_model.py`) import mlflow.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch
from urllib.parse import urlparse
from urllib.request import url2pathname

import pandas as pd

from xiqa.files import read_json
from xiqa.provenance import SOURCE, file_digest
from xiqa.tracking_ui import DATABASE, PRIVATE, QUESTIONS, Question

MODEL_FILE = Path(__file__).with_name("tracking_model.py")
MEMBER_FILES = ("weights.safetensors", "model.json")
# What the model file and the modules below it import; MLflow adds itself, with what it needs.
MODEL_REQUIREMENTS = ("numpy", "pydantic", "safetensors", "torch")
KEY_TAG, DIGEST_TAG, STUDY_TAG = "xiqa.key", "xiqa.digest", "xiqa.study"
# Aggregated results and pictures of simulated or phantom images only: image formats of the clinic never enter.
ARTIFACT_SUFFIXES = {".csv", ".html", ".json", ".jsonl", ".md", ".parquet", ".pdf", ".png", ".svg", ".txt", ".yaml"}
PATIENT_WORDS = ("patient", "birth", "accession", "medical_record")

Data = Literal["simulated", "recorded", "mixed"]


@dataclass(frozen=True)
class DatasetRecord:
    """A data set that a run has used.

    Args:
        name: its name, such as `cdmam_training`.
        digest: digest of its content; MLflow keeps the first 36 characters.
        source: where it comes from, such as a path or the command that makes it. Not kept for recorded data, because
            folder names of a clinic may name people.
        context: what it was used for (`training`, `testing`, `explaining`).
        data: `simulated` or `recorded`.
    """

    name: str
    digest: str
    source: str
    context: str = ""
    data: Data = "simulated"


@dataclass(frozen=True)
class ModelRecord:
    """A deep ensemble that is logged as an MLflow model.

    Args:
        members: the folders of its members, each with weights.safetensors and model.json.
        size: rows and columns s of the network's input.
        name: name of the model in MLflow.
    """

    members: Sequence[Path]
    size: int
    name: str = "ensemble"


@dataclass(frozen=True)
class RunRecord:
    """What one MLflow run must hold.

    Args:
        key: the run's identity inside its study: the path of its result file or folder.
        name: the name shown in the UI.
        question: what the run answers, a key of `xiqa.tracking_ui.QUESTIONS`: each has an experiment of its own.
        params: parameters; nested mappings are flattened with dots.
        metrics: final values; None and non-finite values are left out.
        history: one row per epoch with a column `epoch`; its other numeric columns become metrics per epoch.
        artifacts: files to link, as folder in the run -> paths.
        datasets: the data sets that the run has used.
        tags: further tags.
        model: an ensemble to log, or None.
        data: `simulated` or `recorded`, or None for the study's own.
    """

    key: str
    name: str
    question: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    artifacts: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    datasets: Sequence[DatasetRecord] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    model: ModelRecord | None = None
    data: Data | None = None


@dataclass(frozen=True)
class StudyRecord:
    """The target state of one study in MLflow.

    Args:
        study: name of the study.
        experiment: what the names of its MLflow experiments begin with; several studies may share them.
        data: what the results rest on: `simulated`, `recorded`, or `mixed` (both).
        code_digest: digest of the code that made the results.
        git_commit: commit at which the runs are written. It is no part of a run's digest: an unchanged result keeps
            the commit at which it was first written.
        runs: the runs, in the order in which they are written.
    """

    study: str
    experiment: str
    data: Data
    code_digest: str
    git_commit: str
    runs: Sequence[RunRecord]


def tracking_uri(store: str | os.PathLike) -> str:
    """The MLflow tracking URI of a store folder, as `mlflow ui --backend-store-uri` takes it."""
    return f"sqlite:///{(Path(store).absolute() / DATABASE).as_posix()}"


def mirror(study: StudyRecord, store: str | os.PathLike) -> dict[str, Any]:
    """Make the MLflow store hold exactly the study's runs.

    A run whose content and files are unchanged and which was finished is kept; any other run of this study is deleted
    and written anew; runs of other studies stay. A killed call leaves runs that are not finished, which the next call
    replaces. MLflow's trash is emptied, so that a replaced run leaves nothing behind.

    Args:
        study: the target state.
        store: folder of the store, made where missing: `mlflow.db` and `artifacts/`. A store that was moved from
            another place is set aside as `<store>-moved-<n>`, because its paths no longer hold.

    Returns:
        What the store holds now, free of times and run identifiers, so that the same results give the same bytes:
        {"experiment", "study", "data", "runs": [{"key", "name", "question", "digest", "data", "status"}]}.

    Raises:
        ValueError: a record contradicts itself, a file is missing, or a file could carry patient data.
    """
    _check(study)
    digests = {run.key: _digest(run, study) for run in study.runs}
    store = Path(store).absolute()
    store.mkdir(parents=True, exist_ok=True)
    with _single_writer(store), _mlflow(store) as mlflow:
        asked = {run.question for run in study.runs}
        questions = {key: question for key, question in QUESTIONS.items() if key in asked}
        client, experiment_ids = _open(mlflow, study.experiment, questions, store)
        # Who deletes the artifacts by hand gets them again.
        complete = (store / "artifacts").is_dir()
        (store / "artifacts").mkdir(exist_ok=True)
        expected = {run.key: (digests[run.key], experiment_ids[run.question]) for run in study.runs if complete}
        kept = _keep_finished(mlflow, client, study, expected, store / "artifacts")
        runs = []
        for run in study.runs:
            written = kept.get(run.key)
            run_id = written or _write(mlflow, client, experiment_ids[run.question], study, run, digests[run.key])
            runs.append(
                {
                    "key": run.key,
                    "name": run.name,
                    "question": run.question,
                    "digest": digests[run.key],
                    "data": run.data or study.data,
                    "status": client.get_run(run_id).info.status,
                }
            )
    return {"experiment": study.experiment, "study": study.study, "data": study.data, "runs": runs}


def _check(study: StudyRecord) -> None:
    """Refuse records that contradict themselves, missing files and files that could carry patient data."""
    seen: set[str] = set()
    for run in study.runs:
        if run.key in seen:
            raise ValueError(f"run {run.key}: found twice, expected each key once; give each result its own key")
        if run.question not in QUESTIONS:
            raise ValueError(f"run {run.key}: found question '{run.question}', expected one of {', '.join(QUESTIONS)}")
        if run.history is not None and "epoch" not in run.history:
            raise ValueError(f"run {run.key}: history has columns {list(run.history)}, expected a column 'epoch'")
        seen.add(run.key)
        for path in _files(run):
            if not path.is_file():
                raise ValueError(f"run {run.key}: {path} not found, expected a result file; run its stage first")
        for paths in run.artifacts.values():
            for path in paths:
                refuse_patient_data(Path(path))


def refuse_patient_data(path: Path) -> None:
    """Refuse file types that hold images of patients and tables with identifying columns."""
    if path.suffix not in ARTIFACT_SUFFIXES:
        allowed = ", ".join(sorted(ARTIFACT_SUFFIXES))
        raise ValueError(f"{path}: found suffix '{path.suffix}', MLflow takes only {allowed}; log a figure or a table")
    columns: list[str] = []
    if path.suffix == ".csv":
        columns = pd.read_csv(path, nrows=0).columns.astype(str).tolist() if path.stat().st_size else []
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        columns = pyarrow.parquet.read_schema(path).names
    named = [c for c in columns if not c.endswith("_patients") and any(word in c.lower() for word in PATIENT_WORDS)]
    if named:
        raise ValueError(f"{path}: found columns {named}, expected none that may name a patient; log a table without")


def _files(run: RunRecord) -> list[Path]:
    """All files whose content belongs to a run."""
    members = [Path(member) / name for member in (run.model.members if run.model else ()) for name in MEMBER_FILES]
    return [Path(path) for paths in run.artifacts.values() for path in paths] + members


def _digest(run: RunRecord, study: StudyRecord) -> str:
    """Digest of everything a run holds except times and the commit."""
    content = {
        "name": run.name,
        "question": run.question,
        "study": study.study,
        "code": study.code_digest,
        "params": _flat(run.params),
        "metrics": _finite(run.metrics),
        "history": run.history.to_csv(index=False, lineterminator="\n") if run.history is not None else None,
        "datasets": [vars(dataset) for dataset in run.datasets],
        "tags": dict(run.tags),
        "data": run.data or study.data,
        "folders": {folder: [Path(path).name for path in paths] for folder, paths in run.artifacts.items()},
        "files": [file_digest(path) for path in _files(run)],
        "model": [run.model.name, run.model.size, file_digest(MODEL_FILE), *requirements()] if run.model else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as one level with dotted names and text values."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}


@contextlib.contextmanager
def _single_writer(store: Path) -> Iterator[None]:
    """Hold the store's lock: cold writers that meet on a fresh database break it. The lock dies with the process."""
    with open(store / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _mlflow(store: Path) -> Iterator[Any]:
    """Import mlflow with telemetry and pickle off and its store set to this one, never to the working directory."""
    os.environ.update(PRIVATE | {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    import mlflow

    # Importing mlflow sets its loggers up, so that they can be quietened only now.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri(store))
    mlflow.set_registry_uri(tracking_uri(store))
    try:
        yield mlflow
    finally:
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri(before)


def _open(mlflow, prefix: str, questions: Mapping[str, Question], store: Path) -> tuple[Any, dict[str, str]]:
    """Open the store, made where missing, and return its client and the identifier of each question's experiment."""
    artifacts = (store / "artifacts").as_uri()
    for left_over in store.glob(".new-*"):
        shutil.rmtree(left_over)
    names = {key: f"{prefix}: {question.title}" for key, question in questions.items()}
    _set_aside_if_moved(store, list(names.values()), artifacts)
    client = _connect(mlflow, store)
    found: dict[str, str] = {}
    for key, name in names.items():
        experiment = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        found[key] = experiment.experiment_id if experiment else client.create_experiment(name, artifacts)
        for tag, value in questions[key].tags().items():
            if experiment is None or experiment.tags.get(tag) != value:
                client.set_experiment_tag(found[key], tag, value)
    return client, found


def _connect(mlflow, store: Path):
    """Connect to the store's database.

    MLflow makes the schema of a new database in many steps and does not survive being killed between them: a new one
    is made under a temporary name and renamed when it is whole.
    """
    database = store / DATABASE
    if not database.exists():
        with tempfile.TemporaryDirectory(prefix=".new-", dir=store) as folder:
            mlflow.MlflowClient(f"sqlite:///{folder}/{DATABASE}").search_experiments(max_results=1)
            os.replace(Path(folder) / DATABASE, database)
    return mlflow.MlflowClient(tracking_uri(store))


def _set_aside_if_moved(store: Path, experiments: Sequence[str], artifacts: str) -> None:
    """Move a store whose paths no longer hold out of the way, losing nothing.

    The database is read without MLflow, which would keep it open under its old name.
    """
    if not (store / DATABASE).exists():
        return
    with contextlib.closing(sqlite3.connect(store / DATABASE)) as database:
        query = f"SELECT artifact_location FROM experiments WHERE name IN ({', '.join('?' * len(experiments))})"
        locations = [location for (location,) in database.execute(query, experiments)]
    if all(location == artifacts for location in locations):
        return
    number = 1
    while (aside := store.with_name(f"{store.name}-moved-{number}")).exists():
        number += 1
    aside.mkdir()
    for entry in (DATABASE, "artifacts"):
        if (store / entry).exists():
            os.replace(store / entry, aside / entry)


def _keep_finished(mlflow, client, study: StudyRecord, expected: Mapping[str, tuple], artifacts: Path) -> dict:
    """Delete this study's runs that are not (or no longer) right and return the identifiers of the others by key."""
    experiment_ids = [experiment.experiment_id for experiment in _pages(client.search_experiments)]
    quoted = study.study.replace("'", "")
    query = {"experiment_ids": experiment_ids, "filter_string": f"tags.`{STUDY_TAG}` = '{quoted}'"}
    kept: dict[str, str] = {}
    trash = len(client.search_runs(run_view_type=mlflow.entities.ViewType.DELETED_ONLY, max_results=1, **query)) > 0
    for run in _pages(client.search_runs, **query):
        key = run.data.tags.get(KEY_TAG)
        right = expected.get(key) == (run.data.tags.get(DIGEST_TAG), run.info.experiment_id)
        if right and run.info.status == "FINISHED" and key not in kept:
            kept[key] = run.info.run_id
            continue
        filter_model = f"source_run_id = '{run.info.run_id}'"
        for model in client.search_logged_models([run.info.experiment_id], filter_string=filter_model):
            client.delete_logged_model(model.model_id)
        client.delete_run(run.info.run_id)
        trash = True
    if trash:
        from mlflow.cli import gc

        arguments = ["--backend-store-uri", mlflow.get_tracking_uri(), "--tracking-uri", mlflow.get_tracking_uri()]
        with open(os.devnull, "w") as silent, contextlib.redirect_stdout(silent):
            gc.main(arguments, standalone_mode=False)
        # The folders that held them stay behind empty; rmdir leaves all others alone.
        for folder in [*artifacts.glob("models/*"), *artifacts.glob("*")]:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return kept


def _pages(search, **query) -> Iterator[Any]:
    """All results of a paged search, fetched before the first is handed out, because the caller deletes some."""
    found, token = [], None
    while True:
        page = search(page_token=token, **query)
        found.extend(page)
        token = page.token
        if not token:
            return iter(found)


def _write(mlflow, client, experiment_id: str, study: StudyRecord, run: RunRecord, digest: str) -> str:
    """Write a run and return its identifier."""
    tags = {
        **run.tags,
        "data": run.data or study.data,
        "code_digest": study.code_digest,
        "git_commit": study.git_commit,
        "mlflow.source.git.commit": study.git_commit,
        STUDY_TAG: study.study.replace("'", ""),
        KEY_TAG: run.key,
        DIGEST_TAG: digest,
    }
    created = client.create_run(experiment_id, tags=tags, run_name=run.name)
    run_id = created.info.run_id
    _log_numbers(mlflow, client, run_id, run, created.info.start_time)
    _log_datasets(mlflow, client, run_id, run)
    artifacts = _local(created.info.artifact_uri)
    for folder, paths in run.artifacts.items():
        for path in paths:
            _link(Path(path), artifacts / folder / Path(path).name)
    if run.model is not None:
        _log_model(mlflow, client, run_id, run.model)
    # Last of all: a run that is FINISHED is whole.
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _log_numbers(mlflow, client, run_id: str, run: RunRecord, timestamp: int) -> None:
    """Log parameters, final metrics and the history, in batches as large as MLflow takes them."""
    entities = mlflow.entities
    params = [entities.Param(name, value) for name, value in _flat(run.params).items()]
    metrics = [entities.Metric(name, value, timestamp, 0) for name, value in _finite(run.metrics).items()]
    if run.history is not None:
        epochs = run.history["epoch"].astype(int)
        for name, values in run.history.drop(columns="epoch").select_dtypes("number").items():
            rows = zip(epochs, values, strict=True)
            metrics += [entities.Metric(name, float(v), timestamp, int(e)) for e, v in rows if math.isfinite(v)]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def _log_datasets(mlflow, client, run_id: str, run: RunRecord) -> None:
    """Log name, digest and source of the data sets; of recorded data only name and digest."""
    if not run.datasets:
        return
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    inputs = []
    for record in run.datasets:
        origin = record.source if record.data == "simulated" else "recorded (source not kept)"
        source = CodeDatasetSource({"source": origin, "data": record.data})
        dataset = MetaDataset(source, name=record.name, digest=record.digest[:36])
        tags = [mlflow.entities.InputTag("mlflow.data.context", record.context)] if record.context else []
        inputs.append(mlflow.entities.DatasetInput(dataset._to_mlflow_entity(), tags))
    client.log_inputs(run_id, datasets=inputs)


def _log_model(mlflow, client, run_id: str, model: ModelRecord) -> None:
    """Log the ensemble as a pyfunc model made from a code file: weights as safetensors, nothing pickled.

    The package goes with it as code, because no index has it, and versions are named as an index knows them: without
    what a build adds locally, such as `+cpu`. MLflow copies what it is given twice, and an ensemble has gigabytes. It
    is given empty files of the same names, which hard links to the results then replace.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    outputs = ("predicted_um", "aleatoric_um", "epistemic_um")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, model.size, model.size))]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, 12), name=name) for name in outputs]),
    )
    described = read_json(Path(model.members[0]) / "model.json")
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _without_a_look_at_installed_packages(),
        mlflow.start_run(run_id=run_id),
    ):
        warnings.filterwarnings("ignore", message=".*An input example was not provided.*")
        for index, _ in enumerate(model.members):
            for name in MEMBER_FILES:
                placeholder = Path(folder) / "members" / f"member-{index:03d}" / name
                placeholder.parent.mkdir(parents=True, exist_ok=True)
                placeholder.touch()
        info = mlflow.pyfunc.log_model(
            name=model.name,
            python_model=str(MODEL_FILE),
            artifacts={"members": str(Path(folder) / "members")},
            code_paths=[str(SOURCE / "xiqa")],
            signature=signature,
            pip_requirements=requirements(),
            metadata={name: described[name] for name in ("input_mean", "input_sd")},
        )
        members = _local(client.get_logged_model(info.model_id).artifact_location) / "artifacts" / "members"
        for index, member in enumerate(model.members):
            for name in MEMBER_FILES:
                _link(Path(member) / name, members / f"member-{index:03d}" / name)


@contextlib.contextmanager
def _without_a_look_at_installed_packages() -> Iterator[None]:
    """Spare MLflow's warning of requirements that are not installed, for which it reads the files of all packages.

    That takes seconds, a third of the time of a small study's mirror, and says nothing: `requirements` names what is
    installed.
    """
    from mlflow.utils import environment

    with patch.object(environment, "warn_dependency_requirement_mismatches", lambda requirements: None):
        yield


def requirements() -> list[str]:
    """What the model needs, in the installed versions as an index has them: without their local part (PEP 440)."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in MODEL_REQUIREMENTS]


def _local(uri: str) -> Path:
    """The folder that a file URI names."""
    return Path(url2pathname(urlparse(uri).path))


def _link(source: Path, target: Path) -> None:
    """Put a result into the store: a hard link where the file system allows it, else a copy.

    Results are only ever replaced whole, so that what a link holds never changes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
