"""The study in which the shortcut cannot win, at its smallest: every stage runs, no number means anything."""

import pandas as pd
import pytest
import yaml
from workflow_runs import copy_project, run

from xiqa.metrics.generalise import METHODS

pytestmark = [pytest.mark.workflow, pytest.mark.long]
SMALLEST = {
    "generalise": {
        "training_settings": 2, "validation_settings": 2, "test_settings": 1, "images": 2, "label_images": 2,
        "members": 1, "explained": 1, "samplings": 2,
        "sampled": {"channels": [4, 4, 8], "hidden": 16}, "sampled_training": {"epochs": [1, 0, 0, 0]},
        "cells": {"patch_px": 8, "channels": [2, 2], "features": 4, "templates": 2, "hidden": 4},
        "cells_training": {"epochs": [1, 0, 0, 0]},
    }
}  # fmt: skip


def test_all_methods_are_scored_on_the_same_points(root, tmp_path):
    folder = copy_project(root, tmp_path / "xiqa")
    (folder / "smallest.yaml").write_text(yaml.safe_dump(SMALLEST))
    run(folder, "--configfile", "config/test.yaml", "smallest.yaml", "--", "generalise")
    tables = folder / "results/test/generalise/tables"
    points = pd.read_csv(tables / "generalise.csv")
    assert set(points["group"]) == {"drawn", "recorded_standin", "ood"} & set(points["group"])
    assert {"shortcut", "sampled", "cells", "counted"} <= set(points["method"]) <= set(METHODS)
    truths = points.groupby(["setting", "diameter_mm"])[["truth_um", "censored"]].nunique()
    assert (truths == 1).all(axis=None)
    shares = pd.read_csv(tables / "shares.csv").groupby(["image", "method"])[["share_abs", "share_area"]].sum()
    assert ((shares - 1).abs() < 1e-5).all(axis=None)
    assert {method for _, method in shares.index} == {"sampled", "cells"}
    assert "At held-out drawn settings the mean relative error of" in (tables.parent / "findings.md").read_text()
