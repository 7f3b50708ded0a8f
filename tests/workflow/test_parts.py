"""The wheel in an empty environment: it reads and simulates phantoms without torch, and says which part is missing."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from workflow_runs import copy_project

pytestmark = [pytest.mark.workflow, pytest.mark.long]
LARGEST_MB = 600


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory) -> Path:
    """The folder of an environment into which the wheel alone was installed, in the tested versions."""
    folder = tmp_path_factory.mktemp("parts")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source, wheels = copy_project(root, folder / "source"), folder / "wheels"  # building writes beside the sources
    for name in ("README.md", "LICENSE"):
        shutil.copy2(root / name, source)
    # What PYTHONPATH names would count as installed.
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source], check=True, env=alone
    )
    venv.create(folder / "environment", with_pip=False)
    (wheel,) = wheels.glob("xiqa-*.whl")
    into = ["--python", folder / "environment", "install", "--no-compile", "--constraint", root / "requirements.lock"]
    done = subprocess.run([*pip, *into, wheel], capture_output=True, text=True, check=False, env=alone)
    if "No matching distribution" in done.stderr and "connection" in done.stderr.lower():
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr
    return folder / "environment"


def run(installed: Path, *words: str, code: int = 0, cwd: Path) -> str:
    done = subprocess.run(
        [installed / "bin" / words[0], *words[1:]], cwd=cwd, capture_output=True, text=True, check=False,
        env={"PATH": str(installed / "bin")},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_small_and_has_neither_torch_nor_the_pipeline(installed):
    packages = {path.name.partition("-")[0].lower() for path in installed.glob("lib/python*/site-packages/*.dist-info")}
    assert "xiqa" in packages
    assert not packages & {"torch", "torchvision", "timm", "mlflow", "snakemake", "simpleitk", "pytest", "ruff", "mypy"}
    size = sum(path.lstat().st_size for path in installed.rglob("*") if path.is_file())
    assert size / 1e6 < LARGEST_MB


def test_it_simulates_images_and_reads_them(installed, tmp_path):
    run(installed, "python", "-m", "xiqa.compile", cwd=tmp_path)
    run(installed, "xiqa", "simulate", "--scenario", "1", "--images", "2", "--out", "images", cwd=tmp_path)
    run(installed, "xiqa", "read", "images", "--out", "read", cwd=tmp_path)
    assert list(tmp_path.glob("read/**/results.json"))
    assert list(tmp_path.glob("read/**/*.pdf"))


def test_what_is_missing_is_named_with_its_part(installed, tmp_path):
    told = run(installed, "python", "-c", "from xiqa.saliency import attribute", code=1, cwd=tmp_path)
    assert "torch: not installed, and this needs it; pip install 'xiqa[learn]'" in told
