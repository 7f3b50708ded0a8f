"""Pages of the report are small and whole, and the run says how long it took in one place."""

import importlib.util
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xiqa.report import pages


def picture(path, side: int = 2400):
    """A PNG of noise, which hardly gets smaller by compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_findings_begin_with_the_first_sentence_and_its_picture(tmp_path):
    table = pd.DataFrame({"method": ["a|b"], "gain": ["0.10 (0.02 to 0.18)"], "note": [np.nan]})
    found = [("First", "It is so."), ("First", table), ("Second", "Not <here>.")]
    path = picture(tmp_path / "figures/trust.png")
    pages.write_findings("What is so", found, tmp_path / "findings.html", tmp_path / "findings.md", picture=path)
    text = (tmp_path / "findings.md").read_text()
    assert text.split("\n\n") == [
        "# What is so", "## First", "It is so.",
        "| method | gain | note |\n| --- | --- | --- |\n| a\\|b | 0.10 (0.02 to 0.18) |  |",
        "![What is so](figures/trust.png)", "## Second", "Not <here>.\n",
    ]  # fmt: skip
    page = (tmp_path / "findings.html").read_text()
    places = [page.index(part) for part in ("It is so.", "0.10 (0.02 to 0.18)", "data:image/webp", "Not &lt;here&gt;.")]
    assert places == sorted(places)


def test_copies_of_pictures_are_small_and_links_lead_to_the_files(tmp_path):
    path = picture(tmp_path / "mine/figures/small_resnet/roc.png")
    page = tmp_path / "mine/tables.html"
    tables = {"scores": ("Scores.", pd.DataFrame({"auc": np.linspace(0.5, 0.9, 47)}))}
    pages.write_page("mine (real images)", [path], {"roc": "A curve."}, tables, page)
    text = page.read_text()
    assert text.count("<tr>") == 40  # the row of the head has a style, and is written otherwise
    assert "7 more rows: tables/scores.csv" in text
    assert "A curve. Full size: figures/small_resnet/roc.png" in text
    # Noise is the worst case.
    assert len(text) < path.stat().st_size / 10


def test_styles_of_a_page_hold_within_it_alone(tmp_path):
    """The first page of the report contains the findings whole, beside what Snakemake draws."""
    pages.write_findings("A", [("B", "C.")], tmp_path / "a.html", tmp_path / "a.md")
    style = re.search("<style>(.*?)</style>", (tmp_path / "a.html").read_text())[1]
    selectors = [name for rule in re.findall(r"([^{}]+)\{", style) for name in rule.split(",")]
    assert all(name.strip().startswith(".xiqa") for name in selectors)


def test_a_run_says_how_long_it_took_and_tables_stay_on_their_page(root, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("say_where", root / "workflow/scripts/report/say_where.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tmp_path / "findings.md").write_text("# A\n\n## B\n\nIt is so.\n\n| x |\n| --- |\n| 1 |\n\n![A](a.png)\n")
    script.say_where(str(tmp_path), 78.0)
    said = capsys.readouterr().out
    assert "This run   took 1.3 minutes" in said
    assert "# A\n## B\nIt is so.\n" in said
    assert "| x |" not in said
    assert "a.png" not in said


def test_how_long_a_study_takes_is_stated_once(root):
    """In the table of config/README.md; everything else points to `make plan` and to what a run says itself."""
    texts = {path.name: path.read_text() for path in [root / "README.md", *(root / "config").glob("*.yaml")]}
    said = {
        name: [line for line in text.splitlines() if re.search(r"\bminutes\b", line) and "make test" not in line]
        for name, text in texts.items()
    }
    assert {name: lines for name, lines in said.items() if lines} == {}
    table = (root / "config/README.md").read_text()
    assert len(re.findall(r"^\| `quick.yaml` ", table, re.MULTILINE)) == 1


def test_long_paragraphs_and_items_are_wrapped_and_nothing_else_changes():
    words = "word " * 30
    text = f"# {words}\n\n{words}\nmore\n\n- {words}\n  more\n- short\n\n| {words} |\n|---|\n\n```\n{words}\n```\n"
    found = pages.wrapped(text, 80)
    lines = found.splitlines()
    kept = [line for line in lines if line.startswith(("#", "|"))] + [words]
    assert [line for line in lines if len(line) > 80] == [f"# {words}", f"| {words} |", words]
    assert all(line in text for line in kept)
    item = lines[lines.index(next(line for line in lines if line.startswith("- word"))) :]
    assert item[1].startswith("  word")
    assert "- short" in lines
    assert found.split() == text.split()
    assert pages.wrapped(found, 80) == found


@pytest.mark.parametrize(("fence", "indent"), [("```", "   "), ("~~~", "   "), ("```", "\t"), ("````", "  ")])
def test_code_within_an_item_keeps_its_lines(fence, indent):
    code = f"{indent}{fence}python\n{indent}one\n{indent}two\n{indent}{fence}\n"
    assert code in pages.wrapped(f"1. {'word ' * 30}\n{code}{indent}more\n")
