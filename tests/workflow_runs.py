"""A copy of the project, and Snakemake run in it as a user runs it."""

import os
import re
import shutil
import subprocess
import sys
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


def planned(folder: Path, *arguments: str) -> set[str]:
    """Names of the rules that the next run would start, as Snakemake's own dry run says."""
    output = run(folder, *arguments, "--dry-run")
    if "Nothing to be done" in output:
        return set()
    table = output.split("Job stats:")[1]
    return {m[1] for m in re.finditer(r"^(\w+)\s+\d+\s*$", table, re.MULTILINE)} - {"total", "all", "classification"}
