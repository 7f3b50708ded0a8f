"""The tutorials: they run as they stand, in two minutes each, and what is stored in them is fit to be read."""

import os
import re
import resource
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

FOLDER = ROOT / "docs/tutorials"
TUTORIALS = ["ai-engineer", "physicist", "researcher"]
LONGEST_S = 120
"""On two cores with nothing else on them; asked as processor time, which does not depend on what runs beside."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("name", TUTORIALS)
def test_what_is_stored_is_whole_and_tells_nothing_of_the_machine(name):
    notebook = read(name)
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert not [
        output for output in outputs(notebook) if output.output_type == "error" or output.get("name") == "stderr"
    ]
    shown = "\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs(notebook))
    assert not re.search(r"!\[[^]]*\]\((?!data:|https:)", shown), "a picture in a file, which the page has not"
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    assert len(text) < 1_500_000
    links = re.findall(r"\]\((\.\./[^)#]+)", "\n".join(cell.source for cell in notebook.cells))
    assert links
    assert [link for link in links if not (FOLDER / link).is_file()] == []


def test_all_tutorials_are_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == TUTORIALS


@pytest.mark.long
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_in_two_minutes(name, tmp_path, monkeypatch):
    # Commands of a cell are those of the environment that the tests run in.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    NotebookClient(read(name), timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert taken_s < 2 * LONGEST_S
