"""What stands beside the code: licence, citation, changelog, references, and the licences of what xiqa depends on."""

import ast
import hashlib
import re
import tomllib
from importlib.metadata import metadata

import pytest
import yaml
from conftest import ROOT

import xiqa

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [
    *PROJECT["dependencies"],
    *(name for names in PROJECT["optional-dependencies"].values() for name in names),
]
PERMISSIVE = r"MIT|BSD|Apache|PSF|Python Software Foundation"
FILE_COPYLEFT = {"hypothesis"}
"""Tools of the tests under MPL-2.0, which asks for its own files only."""
YEAR = re.compile(r"\b(?:19|20)\d\d\b(?!\.\d)")  # 2003.11597 is an arXiv number
NAME = re.compile(r"[^\W\d_a-z]\w+")


def test_the_licence_is_apache_2_to_the_letter():
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # required by CFF 1.2.0
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (citation["version"], citation["license"]) == (xiqa.__version__, PROJECT["license"])
    assert citation["authors"] == PROJECT["authors"] == [{"name": "xiqa contributors"}]
    for work in citation["references"]:
        assert {"type", "title", "authors"} <= set(work)
        assert re.fullmatch(r"10\.\d{4,9}/\S+", work["doi"])


def test_the_changelog_is_kept_in_the_usual_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions[1:])
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_each_cited_work_has_its_row_in_the_references():
    rows = list(_rows())
    missing = [f"{path}: {cited}" for path, cited in _cited() if not any(_is(row, path, *cited) for row in rows)]
    assert not missing, "add to docs/references.md, with the module:\n" + "\n".join(missing)


def test_references_name_files_that_exist():
    for _, _, modules, pages in _rows():
        assert modules
        assert all((ROOT / "src/xiqa" / module).exists() for module in modules), modules
        assert pages
        assert all((ROOT / "docs" / page).is_file() for page in pages), pages


@pytest.mark.parametrize("requirement", DEPENDENCIES)
def test_each_dependency_has_a_permissive_licence(requirement):
    name = re.match(r"[\w-]+", requirement)[0]
    told = metadata(name)
    texts = [told["License-Expression"], (told["License"] or "").partition("\n")[0]]
    texts += [text for text in told.get_all("Classifier", []) if text.startswith("License")]
    licence = " | ".join(filter(None, texts))
    assert not re.search(r"GPL|General Public|non-?commercial|-NC\b|proprietary", licence, re.IGNORECASE)
    assert re.search(r"MPL-2\.0" if name in FILE_COPYLEFT else PERMISSIVE, licence), f"{name}: found '{licence}'"


def _cited():
    """(module, (capitalised words in front of a year, year)) of each `Reference:` in a docstring; Özer has no year."""
    package = ROOT / "src/xiqa"
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for part in (ast.get_docstring(node) or "").split("\n\n"):
                text = re.sub(r'"[^"]*"', "", part.partition("Reference:")[2])  # without titles
                module, start = path.relative_to(package).as_posix(), 0
                for year in YEAR.finditer(text):
                    yield module, (set(NAME.findall(text[start : year.start()])), year[0])
                    start = year.end()
                if "Özer" in text:
                    yield module, ({"Özer"}, "")


def _rows():
    """The tables of the page: the reference's text, its authors, modules and pages."""
    for line in (ROOT / "docs/references.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| Reference "):
            reference, _, modules, pages = line.strip("| ").split(" | ")
            authors = set(NAME.findall(YEAR.split(reference)[0]))
            yield reference, authors, re.findall("`(.+?)`", modules), re.findall(r"\]\((.+?)\)", pages)


def _is(row, module: str, names: set[str], year: str) -> bool:
    reference, authors, modules, _ = row
    return bool(authors & names) and year in reference and any(f"{module}/".startswith(f"{name}/") for name in modules)
