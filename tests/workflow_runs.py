"""A copy of the project, and Snakemake run in it as a user runs it."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

PARTS = ("Snakefile", "workflow", "src", "config", "envs", "profiles", "pyproject.toml", "requirements.lock")


def copy_project(root: Path, folder: Path) -> Path:
    """Copy what a run needs, with the compiled loops that lie beside their sources: compiling takes 20 s."""
    for part in PARTS:
        source = root / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    return folder


def command(*arguments: str, cores: int = 2) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]


def environment() -> dict[str, str]:
    # Stages start `python`: the one that runs the tests must come first.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


def run(folder: Path, *arguments: str) -> str:
    # Half an hour is far more than any run takes, also on a busy machine: what takes longer hangs.
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, env=environment(), timeout=1800
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    return output


# Loads Snakemake, and what it loads later, once; each plan is then made by a copy of that process (fork), which has
# seen nothing of the project or of other plans.
PLANNER = """
import json, os, sys
import pandas, pydantic, yaml
from snakemake.cli import main
for line in sys.stdin:
    folder, arguments, output = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    else:
        os.chdir(folder)
        os.dup2(os.open(output, os.O_WRONLY), 1)
        os.dup2(1, 2)
        main(arguments)
"""


@cache
def _planner() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PLANNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    atexit.register(process.communicate)
    return process


def dry_run(folder: Path, *arguments: str, cores: int = 2) -> tuple[int, str]:
    """Exit code and output of `snakemake --dry-run` with these arguments, without the seconds that its start takes."""
    planner = _planner()
    with tempfile.NamedTemporaryFile("r") as output:
        asked = (str(folder), ["--cores", str(cores), *arguments, "--dry-run"], output.name)
        print(json.dumps(asked), file=planner.stdin, flush=True)
        return int(planner.stdout.readline()), output.read()


def planned(folder: Path, *arguments: str) -> set[str]:
    """Names of the rules that the next run would start, as Snakemake's own dry run says."""
    code, output = dry_run(folder, *arguments)
    assert code == 0, output[-8000:]
    if "Nothing to be done" in output:
        return set()
    table = output.split("Job stats:")[1]
    return {m[1] for m in re.finditer(r"^(\w+)\s+\d+\s*$", table, re.MULTILINE)} - {"total", "all", "classification"}
