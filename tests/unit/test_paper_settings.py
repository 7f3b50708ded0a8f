"""The studies of the papers against the table of what the papers print, both ways."""

import importlib
import inspect
import json

import pandas as pd
import pytest
import yaml
from test_config import PAPERS, read

from xiqa.config import load_config
from xiqa.report.paper_settings import page

# What a study has beside settings: its name, its formats, how jobs are cut, and names of what the rows list one by one.
NOT_SETTINGS = {"study", "results", "format", "shards", "preset"}


@pytest.fixture(scope="module")
def settings(root) -> pd.DataFrame:
    return pd.read_csv(root / "docs/reference/paper_settings.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def studies(root) -> dict:
    return {paper: load_config(read(root, study)).model_dump(mode="json") for paper, study in PAPERS.items()}


def of_study(content, key: str):
    """The value at a path such as datasets.x.networks.*.channels; a star collects over a list."""
    head, _, rest = key.partition(".")
    found = list(content) if head == "*" else content[head]
    if not rest:
        return found
    return [of_study(item, rest) for item in found] if head == "*" else of_study(found, rest)


def of_code(key: str):
    """The value at module:CONSTANT, or the default at module:function.parameter; a function stands for itself."""
    module, _, name = key.partition(":")
    name, _, parameter = name.partition(".")
    found = getattr(importlib.import_module(module), name)
    return inspect.signature(found).parameters[parameter].default if parameter else found


def test_every_row_is_what_the_studies_carry(settings, studies):
    wrong = []
    for number, row in enumerate(settings.to_dict("records"), 2):
        key = row["key"]
        if not key:
            continue
        found = of_code(key) if ":" in key else of_study(studies[row["paper"]], key)
        if row["value"] and json.loads(json.dumps(found)) != json.loads(row["value"]):
            wrong.append(f"row {number}, {key}: found {found}, printed {row['value']}")
    assert not wrong, "\n".join(wrong)


def test_every_row_says_what_becomes_of_it(settings):
    assert set(settings["status"]) == {"printed", "code", "not carried", "ours"}
    printed = settings[settings["status"] == "printed"]
    assert printed[["section", "setting", "printed", "key", "value"]].ne("").all(axis=None)
    assert (
        settings[settings["status"] == "not carried"][["section", "setting", "printed", "note"]].ne("").all(axis=None)
    )
    for status in ("code", "ours"):
        rows = settings[settings["status"] == status]
        assert (rows["key"].ne("") | rows["note"].ne("")).all()
    assert not settings.duplicated(["paper", "section", "setting"]).any()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_key_of_a_study_is_in_the_table(root, settings, studies, paper):
    known = set(settings[settings["paper"] == paper]["key"].str.replace(".*", ""))

    def unknown(content, path: str):
        for name, value in content.items():
            shared = name in ("weights", "channels") and not path.endswith("networks.")
            key = f"{path}networks.{name}" if shared else f"{path}{name}"
            if name in NOT_SETTINGS or value is None or key in known:
                continue
            if isinstance(value, dict):
                yield from unknown(value, f"{key}.")
            elif isinstance(value, list) and all(isinstance(item, dict) for item in value) and value:
                yield from unknown(value[0], f"{key}.")
            else:
                yield key

    written = yaml.safe_load((root / f"config/{PAPERS[paper]}.yaml").read_text(encoding="utf-8"))
    assert not list(unknown(written, ""))


def test_the_page_is_made_from_the_table(root, settings):
    stored = (root / "docs/reference/paper-settings.md").read_text(encoding="utf-8")
    assert stored == page(settings), "run make schema"
