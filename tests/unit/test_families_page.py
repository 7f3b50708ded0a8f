"""The page of record of concepts, latent spaces, counterfactuals and prototypes."""

import pytest

from xiqa.report.families import page


def test_findings_of_all_families_are_joined_one_heading_deeper_without_pictures(tmp_path):
    for dataset, kind in (("lung", "prototypes"), ("lung", "concepts"), ("brain", "concepts"), ("lung", "findings")):
        (tmp_path / dataset).mkdir(exist_ok=True)
        text = f"# {kind} of {dataset}\n\n## What?\n\nThis.\n\n![A picture](figures/a.png)\n\n| a |\n| --- |\n| 1 |\n"
        (tmp_path / dataset / f"{kind}.md").write_text(text)
    found = page(tmp_path, "0a1b2c3", "a minute on one core")
    headings = [line for line in found.splitlines() if line.startswith("#")]
    assert headings[1:] == [
        "## concepts of brain", "### What?", "## concepts of lung", "### What?", "## prototypes of lung", "### What?",
    ]  # fmt: skip
    assert "figures/a.png" not in found
    assert "(a minute on one core) at commit `0a1b2c3`" in found


def test_a_study_without_any_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found no page of concepts, latent, counterfactuals, prototypes"):
        page(tmp_path, "0a1b2c3", "a minute")
