"""What stands beside the code: licence, citation, changelog, references, and the licences of what xiqa depends on."""

import ast
import hashlib
import re
import shlex
import subprocess
import tomllib
from importlib.metadata import metadata

import pytest
import yaml
from conftest import ROOT
from snakemake.cli import get_argument_parser

import xiqa
from xiqa.cli import main
from xiqa.report.pages import wrapped

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [
    *PROJECT["dependencies"],
    *(name for names in PROJECT["optional-dependencies"].values() for name in names),
]
PERMISSIVE = r"MIT|BSD|Apache|PSF|Python Software Foundation"
WRITTEN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "config").glob("*.yaml")),
]
"""Files that tell people what to type."""
RULES = {
    name
    for path in (ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk"))
    for name in re.findall(r"^(?:rule|checkpoint) (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
}
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
    assert not missing, "add to docs/reference/references.md, with the module:\n" + "\n".join(missing)


def test_references_name_files_that_exist():
    for _, _, modules, pages in _rows():
        assert modules
        assert all((ROOT / "src/xiqa" / module).exists() for module in modules), modules
        assert pages
        assert all((ROOT / "docs/reference" / page).is_file() for page in pages), pages


@pytest.mark.parametrize("requirement", DEPENDENCIES)
def test_each_dependency_has_a_permissive_licence(requirement):
    name = re.match(r"[\w-]+", requirement)[0]
    told = metadata(name)
    texts = [told["License-Expression"], (told["License"] or "").partition("\n")[0]]
    texts += [text for text in told.get_all("Classifier", []) if text.startswith("License")]
    licence = " | ".join(filter(None, texts))
    assert not re.search(r"GPL|General Public|non-?commercial|-NC\b|proprietary", licence, re.IGNORECASE)
    assert re.search(r"MPL-2\.0" if name in FILE_COPYLEFT else PERMISSIVE, licence), f"{name}: found '{licence}'"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_that_are_written_down_can_be_given(path, capsys):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()
    for program, *words in _commands(path.read_text(encoding="utf-8")):
        if program == "make":
            assert {word for word in words if "=" not in word} <= set(targets)
        elif program == "snakemake":
            _check_snakemake(words)
        else:
            verb = words[: 1 + (words[0] == "reader-study")]
            with pytest.raises(SystemExit, match="0"):
                main([*verb, "--help"])
            told = re.findall(r"--[\w-]+", capsys.readouterr().out)
            assert {word for word in words if word.startswith("--")} <= {*told, "--version"}


def test_nothing_that_is_made_is_kept():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: nothing says what is kept")
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    folders = {path.split("/")[0] for path in kept if "/" in path}
    assert folders == {".ci", "config", "docs", "envs", "profiles", "results", "src", "tests", "workflow"}
    assert [path for path in kept if path.startswith("results/")] == ["results/README.md"]


def test_every_page_of_the_docs_has_its_place():
    def pages(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(inner)

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]  # a notebook becomes a page
    found = [path.relative_to(ROOT / "docs").with_suffix(".md").as_posix() for path in written]
    assert sorted(listed) == sorted(found)


def test_a_broken_link_stops_the_pages():
    (command,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert "--strict" in command.split()
    assert not {"--quiet", "-q"} & set(command.split()), "mkdocs drops warnings then, before strict counts them"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_within_the_project_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert "://" in link or (path.parent / link).exists(), link
    for name in re.findall(r"(?<![\w/.])docs/[\w/-]+\.(?:md|csv|json|png)", text):
        assert (ROOT / name).exists(), name


def _check_snakemake(words: list[str]) -> None:
    """`--configfile` swallows every word up to the next option: a target after it is taken for a file."""
    plugin = {"slurm": "local"}  # executors of clusters are installed by who needs them
    given = get_argument_parser().parse_args([plugin.get(word, word) for word in words])
    for config in given.configfile or ():
        assert config.suffix == ".yaml", f"{words}: {config} is taken for a configuration"
        assert config.parts[0] != "config" or (ROOT / config).is_file(), f"{words}: no {config}"
    for target in given.targets:
        assert target in RULES or target.startswith("results/"), f"{words}: {target} is no rule"


def _commands(text: str):
    """The words of each command of ours in a block of code, a code span or a comment of a configuration."""
    blocks = re.findall(r"^ *```.*?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    pieces = [
        *"\n".join(blocks).splitlines(),
        *re.findall(r"`([^`\n]+)`", text),
        *re.findall(r"^# .*: (.+)$", text, re.M),
    ]
    for piece in pieces:
        for command in piece.partition(" #")[0].split(";"):
            if words := re.match(r"\s*(?:\.venv/bin/)?((?:make|snakemake|xiqa) .+)", command):
                yield shlex.split(words[1])


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
    for line in (ROOT / "docs/reference/references.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| Reference "):
            reference, _, modules, pages = line.strip("| ").split(" | ")
            authors = set(NAME.findall(YEAR.split(reference)[0]))
            yield reference, authors, re.findall("`(.+?)`", modules), re.findall(r"\]\((.+?)\)", pages)


def _is(row, module: str, names: set[str], year: str) -> bool:
    reference, authors, modules, _ = row
    return bool(authors & names) and year in reference and any(f"{module}/".startswith(f"{name}/") for name in modules)


def test_no_name_of_the_rules_is_given_twice(root):
    """All rules share their names: a second file that gives one takes it from those that come before."""
    places: dict[str, set[str]] = {}
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        for name in re.findall(r"^(?:    )?([A-Z][A-Z_]+) = |^def (\w+)\(", path.read_text(), re.MULTILINE):
            places.setdefault("".join(name), set()).add(path.name)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_line_of_a_page_is_too_long_to_read(root):
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), root / "config/README.md", root / "results/README.md"]
    assert [path.name for path in pages if wrapped(path.read_text()) != path.read_text()] == []
