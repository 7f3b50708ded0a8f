"""Where a study may lie and run: results in any folder, started from anywhere, temporary files gone, and clusters."""

import subprocess
import sys
from pathlib import Path

import pytest
from workflow_runs import command, copy_project, environment

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.ci]
DATASET = """
datasets:
  chests:
    format: covid_cxr
    size: 32
    twin: {patients: 12, images_per_patient: 1, severities: []}
"""


@pytest.fixture(scope="module")
def places(root, tmp_path_factory) -> tuple[Path, Path, Path]:
    """The project, the folder in which Snakemake is started, and results that lie in neither of them."""
    folder = tmp_path_factory.mktemp("places")
    project, started, results = copy_project(root, folder / "xiqa"), folder / "started", folder / "my scratch/study"
    started.mkdir()
    (started / "mine.yaml").write_text(f"results: {results}\n{DATASET}")
    return project, started, results


def start(places, *arguments: str) -> str:
    """What Snakemake says, started beside the project for the split of one data set."""
    project, started, results = places
    files = [str(project / "config/test.yaml"), "mine.yaml"]
    target = str(results / "chests/splits/seed-0.csv")
    line = [*command("--snakefile", str(project / "Snakefile")), *arguments, "--configfile", *files, "--", target]
    done = subprocess.run(line, cwd=started, capture_output=True, text=True, env=environment(), timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_results_lie_in_any_folder_and_a_second_run_has_nothing_to_do(places):
    project, started, results = places
    before = {path.relative_to(project) for path in project.rglob("*") if "__pycache__" not in path.parts}
    start(places)
    assert (results / "chests/splits/seed-0.csv").exists()
    assert (results / "logs/split").is_dir()
    assert {path.relative_to(project) for path in project.rglob("*") if "__pycache__" not in path.parts} == before
    assert {path.name for path in started.iterdir()} == {"mine.yaml", ".snakemake"}
    assert "Nothing to be done" in start(places)


def test_simulated_files_are_deleted_and_written_again_for_what_needs_them(places):
    project, _, results = places
    start(places)
    assert not (results / "chests/raw").exists()
    reader = project / "src/xiqa/datasets/covid_cxr.py"
    reader.write_text(f"{reader.read_text()}\n_EDITED = 1\n")
    planned = start(places, "--dry-run")
    assert all(f"rule {name}:" in planned for name in ("write_twin", "prepare", "split"))


SCOPES = """
import sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

with SnakemakeApi() as api:
    config = ConfigSettings(configfiles=[Path("config/test.yaml")])
    scopes = api.workflow(ResourceSettings(cores=1), config, snakefile=Path("Snakefile"))._workflow.resource_scopes
    print({name: scopes.is_local(name) for name in ("gpu", "mlflow_writer")})
"""


def test_the_limit_of_gpus_counts_on_this_machine_only(root):
    """With profiles/default, `gpu: 1` let a whole cluster run one GPU job at a time."""
    done = subprocess.run([sys.executable, "-c", SCOPES], cwd=root, capture_output=True, text=True, env=environment())
    assert "{'gpu': True, 'mlflow_writer': False}" in done.stdout, done.stderr[-2000:]
