"""The MLflow UI on a study's runs: how each experiment is shown, and the server that shows them (`make ui`).

MLflow opens an experiment on its page for language models. The addresses here open the runs instead, in a view that
is kept with the experiment: one row per run, few scores as columns, sorted by one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATABASE = "mlflow.db"
VIEW = "xiqa"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
PRIVATE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}


@dataclass(frozen=True)
class Question:
    """What the runs of one experiment answer, and how MLflow shows them.

    Attributes:
        title: the question in few words; the experiment's name ends with it.
        note: what the rows and columns are, in Markdown; MLflow shows it above the runs.
        metrics: metrics shown as columns, the first of which sorts the rows.
        params: parameters shown as columns.
        ascending: whether the smallest value of the first metric comes first.
    """

    title: str
    note: str
    metrics: tuple[str, ...]
    params: tuple[str, ...]
    ascending: bool = False

    def tags(self) -> dict[str, str]:
        """The tags of the experiment that make MLflow show it so."""
        columns = {f"metrics.`{name}`": name for name in self.metrics}
        columns |= {f"params.`{name}`": name for name in self.params} | {"tags.`data`": "data"}
        widths = {column: 40 + 8 * max(6, len(name)) for column, name in columns.items()}
        view = {
            "selectedColumns": list(columns),
            "columnOrder": ["attributes.`Run Name`", *columns, "duration"],
            "columnWidths": {"attributes.`Run Name`": 330, **widths},
            "orderByKey": next(iter(columns)),
            "orderByAsc": self.ascending,
        }
        return {
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.note.content": self.note,
            VIEW_TAG: json.dumps(view),
        }


QUESTIONS = {
    "curves": Question(
        "curves and ensembles",
        "One row per test group (`rmse_um` and the baselines), measured curve (`cdc_um`), member, and the ensemble.",
        (
            "rmse_um", "rmse_train_mean_um", "rmse_shortcut_um", "coverage_95", "cdc_um_1.00_mm", "cdc_um_0.25_mm",
            "cdc_um_0.10_mm", "final_rmse_um",
        ),
        ("kind",),
        ascending=True,
    ),
    "classifiers": Question(
        "classifiers",
        "One row per network and per shortcut of each data set, with its scores on the test patients.",
        ("auc", "balanced_accuracy", "accuracy", "brier", "ece"),
        ("dataset", "architecture", "weights", "seed"),
    ),
    "methods": Question(
        "saliency methods",
        "One row per method and network: mean scores of its maps; for the ensemble `valid_share`, `lowered_share`.",
        ("pointing_game", "roc_auc", "region_dice", "relevance_mass", "fidelity", "valid_share", "lowered_share"),
        ("dataset", "architecture", "weights", "method"),
    ),
}  # fmt: skip
"""What is asked of a study: each question is one MLflow experiment, its runs side by side."""


def addresses(store: str | os.PathLike, server: str) -> dict[str, str]:
    """Where the runs of a store are shown: name of each experiment -> address.

    Args:
        store: folder with mlflow.db.
        server: address of the server, such as http://127.0.0.1:5000.

    Raises:
        ValueError: the folder holds no store, or one without runs of xiqa.
    """
    database = Path(store).absolute() / DATABASE
    if not database.is_file():
        raise ValueError(f"{database}: found no MLflow store, expected one; run the study first (make results)")
    query = (
        "SELECT experiment_id, name FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = ? AND lifecycle_stage = 'active' ORDER BY experiment_id"
    )
    # Read without MLflow: importing it takes seconds.
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as opened:
        found = opened.execute(query, (VIEW_TAG,)).fetchall()
    if not found:
        raise ValueError(f"{database}: found no runs of xiqa, expected some; run the study again (make results)")
    path = f"runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
    return {name: f"{server}/#/experiments/{number}/{path}" for number, name in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a study's store on this machine only, print the addresses of its runs and open the first in a browser.

    Args:
        arguments: words after the program's name; those of the process where None.

    Returns:
        The exit code of the server, or 1 after an error that was said on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m xiqa.tracking_ui", description="The MLflow UI on a study's runs.")
    parser.add_argument("results", nargs="?", default="results", type=Path, help="results folder (default: results)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 5000)")
    parser.add_argument("--no-browser", action="store_true", help="print the addresses and open none")
    options = parser.parse_args(arguments)
    store = options.results / "mlflow"
    port = options.port or _free_port()
    server = f"http://127.0.0.1:{port}"
    try:
        shown = addresses(store, server)
    except ValueError as error:
        print(f"xiqa: error: {error}", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{(store.absolute() / DATABASE).as_posix()}"]
    # Whoever ends this program, by Ctrl-C or by a signal, ends the server too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What MLflow says about itself would push the addresses off the screen; its errors stay.
    command += ["--uvicorn-opts", "--log-level warning"]
    quiet = {"MLFLOW_LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, env=os.environ | PRIVATE | quiet, stdout=subprocess.DEVNULL) as running:
        try:
            _wait(server, running)
            for name, address in shown.items():
                print(f"{name}\n    {address}", flush=True)
            print("Ctrl-C ends it.", flush=True)
            if not options.no_browser:
                webbrowser.open(next(iter(shown.values())))
            return running.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            running.terminate()


def _free_port(first: int = 5000) -> int:
    """The first port from `first` at which nobody listens."""
    for port in range(first, first + 100):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError(f"found no free port from {first} to {first + 99}; name one with --port")


def _wait(server: str, running: subprocess.Popen) -> None:
    """Wait until the server answers or has ended."""
    while running.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{server}/health", timeout=60)
            return
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
