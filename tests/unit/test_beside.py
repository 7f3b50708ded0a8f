"""Every number of the papers stands beside the result that it belongs to, and nowhere else."""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest

from xiqa.metrics.maps.beside import with_published
from xiqa.metrics.maps.claims import published

PUBLISHED = published()
STUDIES = ("lvot", "object_cxr", "brain_tumor", "covid_cxr", "ct_contrast", "cdmam")
ARCHITECTURES = ("small_resnet", "resnet34", "resnet50", "efficientnet_b0", "densenet121", "inception_resnet_v2")
STATES = ("trained", "semi_random", "fully_random")
AXES = {
    "architecture": ARCHITECTURES, "weights": STATES, "form": ("signed", "absolute", "published"),
    "smoothing": ("none", "gaussian"), "scoring": ("ours", "published"), "truth": ("mask", "box"),
    "compared_with": STATES[1:], "kind": ("roc", "roc_heights", "region_dice", "froc", "fidelity"),
    "metric": ("pointing_game_smooth", "roc_auc"), "seed": (3, 4), "classes": (2, 3, 4), "first": ARCHITECTURES,
    "second": ARCHITECTURES, "group": ("scenario_1", "scenario_4", "scenario_1_3", "ood", "recorded"),
}  # fmt: skip
TABLES = {
    "pointing_game": ["architecture", "weights", "method", "form", "scoring", "truth", "smoothing"],
    "smoothing": ["architecture", "weights", "method", "scoring", "truth", "form"],
    "randomisation": ["metric", "architecture", "method", "form", "scoring", "truth", "compared_with"],
    "difference_of_means": ["metric", "method", "form", "scoring", "truth", "first", "second"],
    "averaged": ["architecture", "weights", "method", "form", "kind"],
    "classifier": ["architecture", "weights", "classes", "seed"],
    "prediction_scores": ["group"],
    "roc_auc": ["architecture", "weights", "method", "form", "metric"],
    "fidelity": ["architecture", "weights", "method", "form", "metric"],
}


@cache
def everything(study: str) -> dict[str, pd.DataFrame]:
    """Tables with every row that a study could have, beside the papers' numbers."""
    named = PUBLISHED.loc[PUBLISHED["study"] == ("lvot" if study == "folder" else study), "method"].unique()
    axes = AXES | {"method": ("rise", "random", *(name for name in named if name not in ("", "random")))}
    full = {
        name: pd.DataFrame(list(product(*(axes[key] for key in keys))), columns=keys) for name, keys in TABLES.items()
    }
    return with_published(full, study)


def belongs(number) -> list[tuple[str, str, dict]]:
    """Table, column and row of one of the papers' numbers, from the headings of the papers' tables."""
    network = {"architecture": number.architecture}
    if number.paper == "Amanova 2022":
        return [("prediction_scores", "published_coverage_95", {"group": number.row})]
    if number.paper == "Brima 2023" or number.section == "4.1":
        name = "size_mb" if number.metric == "size" else number.metric
        classes = 3 if number.paper == "Brima 2023" else 2
        return [("classifier", f"published_{name}", network | {"weights": "trained", "seed": 3, "classes": classes})]
    one = {"method": number.method, "form": "absolute", "scoring": "published", "truth": "box"}
    if number.metric == "difference_of_means":
        pair = number.architecture.split(" and ")
        row = one | {"metric": "pointing_game_smooth"}
        return [("difference_of_means", "published", row | {"first": a, "second": b}) for a, b in (pair, pair[::-1])]
    if number.paper == "Özer" and number.table == 2:
        found = [("smoothing", f"published_{number.row}", network | one | {"weights": "trained"})]
        plain = network | one | {"weights": "trained", "smoothing": "none"}
        return found + ([("pointing_game", "published", plain)] if number.row == "unsmoothed" else [])
    if number.paper == "Özer":
        state = number.row if number.row in STATES else "trained"
        return [("pointing_game", "published", network | one | {"weights": state, "smoothing": "gaussian"})]
    kind = {1: "fidelity", 2: "roc_heights", 3: "region_dice"}[number.table]
    row = network | {"method": number.method, "weights": "trained", "kind": kind}
    row["form"] = {"signed": "published", "absolute": "absolute"}[number.row]
    return [("averaged", "published", row)]


FACTORS = {"parameters": 1e6}
DERIVED = {("smoothing", "published"), ("randomisation", "published")}


@pytest.mark.parametrize("study", STUDIES)
def test_every_number_stands_beside_the_result_it_belongs_to_and_nowhere_else(study):
    papers = PUBLISHED.loc[PUBLISHED["study"] == study, "paper"].unique()
    own = PUBLISHED["study"].isin([study, ""]) & PUBLISHED["paper"].isin(papers) & PUBLISHED["value"].notna()
    numbers, tables = PUBLISHED[own], everything(study)
    wanted = {}
    for number in numbers.itertuples():
        for table, column, row in belongs(number):
            if set(row.get(key) for key in ("architecture", "first", "second")) - {None} <= set(ARCHITECTURES):
                key = (table, column, tuple(row[name] for name in TABLES[table]))
                wanted.setdefault(key, set()).add(number.value * FACTORS.get(number.metric, 1))
    found = {}
    for table, rows in tables.items():
        assert not rows.duplicated(TABLES[table]).any()
        for column in [c for c in rows if c.startswith("published") and c not in ("published_in", "published_sd")]:
            if (table, column) not in DERIVED:
                for row in rows[rows[column].notna()].to_dict("records"):
                    found[table, column, tuple(row[name] for name in TABLES[table])] = {row[column]}
    in_scope = {key: value for key, value in wanted.items() if key[2][-1] in AXES[TABLES[key[0]][-1]]}
    assert found == {key: pytest.approx(value) if len(value) > 1 else value for key, value in in_scope.items()}
    assert found


def test_nothing_is_published_of_another_study_or_network():
    for study in ("folder", "brain_tumor_jpg"):
        of_maps = {name: rows for name, rows in everything(study).items() if name != "classifier"}
        assert not any(rows.filter(like="published").notna().any(axis=None) for rows in of_maps.values())
    for study in STUDIES:
        for name, rows in everything(study).items():
            if "architecture" in rows:
                others = rows[rows["architecture"] == "small_resnet"].filter(like="published")
                assert not others.drop(columns="published_in", errors="ignore").notna().any(axis=None), name


def row_of(study: str, table: str, **values):
    rows = everything(study)[table]
    if "scoring" in rows:
        values = {"scoring": "published", "truth": "box"} | values
    return rows[(rows[list(values)] == pd.Series(values)).all(axis=1)].squeeze()


def test_efficientnet_shows_its_own_numbers_and_not_those_of_resnet():
    smoothed = {"weights": "trained", "method": "normgrad_scaling", "form": "absolute", "smoothing": "gaussian"}
    for network, value, sd, place in (
        ("resnet50", 0.497, "0.140", "Özer, tables 3 and 5"),
        ("efficientnet_b0", 0.778, "0.020", "Özer, table 5"),
    ):
        row = row_of("lvot", "pointing_game", architecture=network, **smoothed)
        assert (row["published"], row["published_sd"], row["published_in"]) == (value, sd, place)
    efficientnet = smoothed | {"architecture": "efficientnet_b0"}
    assert np.isnan(row_of("lvot", "pointing_game", **efficientnet | {"weights": "semi_random"})["published"])
    # Neither our scoring nor another ground truth is the paper's.
    for other in ({"scoring": "ours"}, {"truth": "mask"}):
        assert np.isnan(row_of("lvot", "pointing_game", **efficientnet | other)["published"])
    # Tables 4 and 6 print two deviations of one mean.
    row = row_of("object_cxr", "pointing_game", architecture="resnet34", **smoothed | {"method": "grad_cam"})
    assert (row["published"], row["published_sd"]) == (0.545, "0.018 or 0.020")


def test_difference_of_means_is_that_of_the_papers_pair():
    row = {"metric": "pointing_game_smooth", "method": "grad_cam", "form": "absolute"}
    for pair in (("resnet50", "efficientnet_b0"), ("efficientnet_b0", "resnet50")):
        found = row_of("lvot", "difference_of_means", **row, first=pair[0], second=pair[1])
        assert (found["published"], found["published_in"]) == (0.022, "Özer, table 5")
    assert np.isnan(row_of("lvot", "difference_of_means", **row, first="resnet34", second="resnet50")["published"])


def test_smoothing_and_randomisation_say_what_follows_from_the_papers_numbers():
    row = row_of("lvot", "smoothing", architecture="resnet50", weights="trained", method="grad_cam", form="absolute")
    assert row["published"] == pytest.approx(0.582 - 0.554)
    assert (row["published_unsmoothed"], row["published_smoothed"]) == (0.582, 0.554)
    rows = everything("lvot")["smoothing"]
    assert rows[rows["weights"] != "trained"].filter(like="published").isna().all(axis=None)
    given = {"architecture": "resnet50", "method": "grad_cam", "form": "absolute", "metric": "pointing_game_smooth"}
    assert row_of("lvot", "randomisation", **given, compared_with="fully_random")["published"] == pytest.approx(
        0.547 - 0.008
    )


def test_paper_brocki_2022_stands_beside_averaged_curves_and_not_beside_means_of_images():
    tables = everything("ct_contrast")
    given = {"architecture": "resnet50", "weights": "trained", "method": "random", "form": "absolute"}
    row = row_of("ct_contrast", "averaged", **given, kind="region_dice")
    assert (row["published"], row["published_in"]) == (0.09, "Brocki 2022, table 3")
    assert not any("published" in tables[name] for name in ("roc_auc", "fidelity"))


def test_the_simplest_form_of_a_set_has_its_studys_numbers():
    rows = everything("brain_tumor_jpg")["classifier"].set_index(["architecture", "weights", "classes", "seed"])
    assert rows.loc[("densenet121", "trained", 3, 3), "published_accuracy"] == 0.981013
    assert rows.loc[("densenet121", "trained", 3, 3), "published_parameters"] == 8.1e6
    assert rows.loc[("densenet121", "trained", 3, 4)].filter(like="published").isna().all()
