"""The page of results prints in its sentences what stands in its tables."""

import re
from io import StringIO

import pandas as pd
import pytest
from printed_numbers import assert_printed

PHRASES = ["0.03-2 µm", "12 diameters", "95 % would be right", "p below 0.05", "discs of 2 to 0.06 mm"]
TABLES = {
    "Shortcut": ["rmse_shortcut_um"],
    "Accuracy": ["rmse_shortcut_um"],
    "Uncertainty": ["rmse_shortcut_um"],
    "Modified image": ["lowered"],
    "Structures": ["enrichment"],
    "Precision of the maps": ["without_replacement"],
}


@pytest.fixture(scope="module")
def page(root) -> tuple[dict[str, str], list[pd.DataFrame]]:
    text = (root / "docs/record/results.md").read_text(encoding="utf-8")
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        plain = re.sub(r"^\|\s*|\s*\|$", "", block, flags=re.MULTILINE)
        rows = [line for line in plain.splitlines() if not re.fullmatch(r"[-| ]+", line)]
        tables.append(pd.read_csv(StringIO("\n".join(rows)), sep=r"\s*\|\s*", engine="python"))
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return dict(found.groups() for p in paragraphs if (found := re.fullmatch(r"\*\*(.+?)\.\*\* (.+)", p))), tables


@pytest.mark.parametrize("heading", TABLES)
def test_every_number_of_a_finding_stands_in_its_table(page, heading):
    findings, tables = page
    chosen = [table for table in tables if set(TABLES[heading]) <= set(table.columns)]
    assert chosen
    for table in chosen:
        if {"rmse_midpoint_um", "rmse_train_mean_um"} <= set(table.columns):
            table["rmse_over_train_mean"] = table["rmse_midpoint_um"] / table["rmse_train_mean_um"]
    assert_printed(findings[heading], *chosen, phrases=PHRASES)


def test_censored_thresholds_are_those_that_the_curves_mark(page):
    findings, tables = page
    marked = tables[0].drop(columns="diameter_mm").astype(str).apply(lambda column: column.str.endswith("*").sum())
    assert re.findall(r"(?:#\d|OOD|\)) (\d+)", findings["Censoring"]) == [str(count) for count in marked]
