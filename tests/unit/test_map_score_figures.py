"""Figures of the scores of maps draw and print the numbers of their tables, and say what these rest on."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from printed_numbers import assert_drawn, assert_printed, texts_of

from xiqa.figures import map_scores
from xiqa.files import write_figure
from xiqa.metrics.maps.fidelity import fidelity_area, masking_curves
from xiqa.metrics.maps.leaderboard import AT_CEILING
from xiqa.metrics.maps.score_tables import in_both_forms, methods_table, pointing_game_table
from xiqa.metrics.maps.trust import form_of

METHODS = ["xrai", "gradient", "occlusion", "random", "centre_prior", "edges"]
UNSIGNED = ("xrai", "random", "centre_prior", "edges")
IMAGES, STEPS = 11, 20


def draw(figure: Figure, name: str) -> Figure:
    """Render a figure (into the folder XIQA_FIGURES, to look at it)."""
    if folder := os.environ.get("XIQA_FIGURES"):
        write_figure(Path(folder) / f"{name}.png", figure)
    return figure


def masked(seed: int, patients: int = 9) -> tuple[pd.DataFrame, pd.DataFrame]:
    """fidelity.csv and masking_curves.csv of one network; six images of one class, five of the other."""
    rng = np.random.default_rng(seed)
    whose = np.arange(IMAGES) % patients
    known = {"image": [f"i{k}" for k in range(IMAGES)], "patient": whose, "label_name": ["a"] * 6 + ["b"] * 5}
    scores, curves = [], []
    for number, method in enumerate(METHODS):
        for form in ("signed", "absolute")[method in UNSIGNED :]:
            falls = rng.uniform(0, 1 / (1 + number), (2, IMAGES, 1)) * [[[0.6]], [[1.4]]]
            correct = (np.linspace(0, 1, STEPS + 1) <= falls + 0.1).astype(float)
            if method == "gradient":
                correct[:, 3] = np.nan  # a map that is constant
            told = {"method": method, "form": form}
            scores.append(pd.DataFrame(known).assign(**told, metric="fidelity", value=fidelity_area(correct)))
            curves.append(masking_curves(correct, np.repeat([0, 1], (6, 5)), whose).assign(**told))
    scores = pd.concat(scores).assign(architecture="net", weights="trained", seed=0)
    table = methods_table(in_both_forms(scores), "fidelity").assign(metric="fidelity")
    return table, pd.concat(curves, ignore_index=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_one_fidelity_stands_in_table_curves_legend_and_picture(seed):
    table, curves = masked(seed)
    means = table.set_index(["method", "form"])["mean"]
    for (method, form), own in curves.groupby(["method", "form"]):
        assert own["area"].unique() == pytest.approx([means[method, form]], abs=1e-12)
        lines = own.set_index(["order", "x"])["y"].unstack("order")
        assert np.trapezoid(lines["LiF"] - lines["MiF"], lines.index) == pytest.approx(means[method, form], abs=1e-12)
    figure = draw(map_scores.plot_masking(table, curves, "net", "simulated"), "fidelity")
    assert_drawn(figure, table[["mean", "ci_low", "ci_high"]], along="x")
    rows = table[table["form"] == table["method"].map(form_of)]
    best = rows.loc[rows[~rows["method"].isin(UNSIGNED[1:])]["mean"].idxmax()]
    control = rows.loc[rows[rows["method"].isin(UNSIGNED[1:])]["mean"].idxmax()]
    assert_printed(texts_of(figure), [best["mean"], control["mean"], 10, 11, 8, 9])
    assert "n = 10 to 11 images of 8 to 9 patients" in " ".join(texts_of(figure))


def test_every_class_counts_the_same_in_a_column_of_its_own():
    table, curves = masked(1)
    row = table.set_index(["method", "form"]).loc["xrai", "absolute"]
    assert row["mean"] != pytest.approx(row["mean_over_classes"])
    assert curves.query("method == 'xrai'")["area_over_classes"].unique() == pytest.approx([row["mean_over_classes"]])


def test_a_band_around_accuracy_is_as_wide_as_few_patients_make_it():
    correct = np.ones((2, IMAGES, 3))
    for patients, low in ((11, 0.715), (3, 0.292)):
        curve = masking_curves(correct, np.zeros(IMAGES), np.arange(IMAGES) % patients)
        # Exact, 11 of 11 and 3 of 3 (0.025^(1/n)): never a band of no width where all answers were right.
        assert curve["ci_low"].unique() == pytest.approx([low], abs=1e-3)
        assert (curve["y"] == 1).all()
        assert (curve["n"].unique(), curve["n_patients"].unique()) == ([IMAGES], [patients])
    empty = masking_curves(np.full((2, 2, 3), np.nan), np.zeros(2), [0, 1])
    assert empty["y"].isna().all()
    assert (empty["n"] == 0).all()


def located(seed: int) -> pd.DataFrame:
    rng, parts = np.random.default_rng(seed), []
    for method in METHODS:
        for metric in ("pointing_game", "pointing_game_smooth", "roc_auc", "roc_auc_within", "chance"):
            values = rng.uniform(0, 1, IMAGES)
            values = (values < 0.7).astype(float) if metric.startswith("pointing") else values
            parts.append(pd.DataFrame({
                "image": [f"i{k}" for k in range(IMAGES)], "patient": np.arange(IMAGES) % 9, "label_name": "a",
                "method": method, "metric": metric, "value": values,
            }))  # fmt: skip
    known = {"architecture": "net", "weights": "trained", "seed": 0, "form": "absolute", "tolerance_px": 4.37}
    return in_both_forms(pd.concat(parts, ignore_index=True).assign(**known))


@pytest.mark.parametrize("truth", ["defect", "lungs"])
def test_localisation_draws_its_tables_and_says_what_the_masks_show(truth):
    scores = located(3)
    pointing = pointing_game_table(scores).assign(mask_of=truth)
    auc = pd.concat([methods_table(scores, name).assign(metric=name) for name in ("roc_auc", "roc_auc_within")])
    figure = draw(map_scores.plot_localisation(pointing, auc, "net", "simulated"), "localisation")
    drawn = pointing.query("smoothing == 'none'")[["accuracy", "ci_low", "ci_high"]]
    assert_drawn(figure, drawn, along="x", axes=0)
    for number, metric in enumerate(("roc_auc", "roc_auc_within"), 1):
        own = auc[auc["metric"] == metric]
        assert_drawn(figure, own[["mean", "ci_low", "ci_high"]], along="x", axes=number)
    assert_printed(texts_of(figure), [4.37, 11, 9])
    assert f"maps against the {truth}, n = 11 images of 9 patients; |method|" in " ".join(texts_of(figure))
    held = pointing.assign(verdict=AT_CEILING, control="centre_prior")
    held = texts_of(map_scores.plot_localisation(held, auc, "net", "real"))
    assert "centre prior at the ceiling:\ncannot be beaten here" in held


def test_a_set_without_masks_is_drawn_empty_and_says_that_no_image_counts():
    scores = located(3).assign(value=np.nan)
    pointing = pointing_game_table(scores).assign(mask_of="defect")
    auc = pd.concat([methods_table(scores, name).assign(metric=name) for name in ("roc_auc", "roc_auc_within")])
    figure = draw(map_scores.plot_localisation(pointing, auc, "net", "real"), "localisation_none")
    assert "n = 0 images of 0 patients" in " ".join(texts_of(figure))
    curves = pd.DataFrame(columns=["method", "form", "x", "y", "area", "n"])
    figure = map_scores.plot_curves(curves, "x", "y", "area under the averaged curve", "real")
    assert "area under the averaged curve, n = 0 images" in texts_of(figure)


def test_legends_of_averaged_curves_say_which_area_and_of_how_many_images():
    x = np.linspace(0, 1, 5)
    curves = pd.concat([
        pd.DataFrame({"method": method, "form": "absolute", "x": x, "y": x**power, "area": 1 / (1 + power), "n": n})
        for method, power, n in (("xrai", 0.317, 11), ("random", 1.0, 11), ("gradient", 0.713, 10))
    ])  # fmt: skip
    figure = map_scores.plot_curves(curves, "x", "y", "area under the averaged curve", "real")
    assert_printed(texts_of(figure), curves[["area", "n"]].drop_duplicates())
    assert "area under the averaged curve, n = 10 to 11 images" in texts_of(figure)


def test_the_cascade_says_what_is_randomised_and_of_how_many_images():
    rows = [
        {"method": "gradient", "measure": measure, "blocks": blocks, "block": f"block{blocks}", "mean": 0.9 / blocks,
         "ci_low": 0.8 / blocks, "ci_high": 1 / blocks, "n": 23, "n_patients": 17}
        for measure in ("rank_correlation", "rank_correlation_absolute", "structural_similarity")
        for blocks in (1, 2, 3)
    ]  # fmt: skip
    figure = draw(map_scores.plot_cascade(pd.DataFrame(rows), "simulated"), "cascade")
    assert figure.axes[1].get_xlabel() == "randomised from the output down to\nn = 23 images of 17 patients"
    assert_drawn(figure, pd.DataFrame(rows)[["mean"]])


@pytest.mark.parametrize("methods", [1, 3])
def test_the_colour_bar_of_few_methods_has_room(methods):
    table = trusted(0)
    table = table[table["method"].isin(["xrai", "gradient", "occlusion"][:methods])]
    figure = draw(map_scores.plot_trust(table, "mixed"), f"trust_of_{methods}")
    figure.draw_without_rendering()
    bar = figure.axes[1]
    label, own = bar.yaxis.label.get_window_extent(), bar.get_window_extent()
    assert label.height <= own.height * 1.05
    ends = [tick.get_window_extent() for tick in bar.get_yticklabels() if tick.get_text()]
    ends = [extent for extent in ends if own.y0 - 1 <= (extent.y0 + extent.y1) / 2 <= own.y1 + 1]
    assert all(low.y1 < high.y0 for low, high in itertools.pairwise(ends))


def trusted(seed: int) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    marks = ("passed", "failed", "not tested", "not testable")
    for dataset, truth in (("brain_tumor", "defect"), ("covid_real", "lungs")):
        for method in ("xrai", "gradient", "occlusion"):
            row = {"dataset": dataset, "mask_of": truth, "method": method, "roc_auc": rng.uniform()}
            row |= {"form": "absolute" if method == "gradient" else "signed", "trusted": rng.choice(["yes", "no"])}
            for check in map_scores.CHECKS:
                row |= {check: rng.choice(marks), f"{check}_images": rng.integers(11, 99)}
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_check_has_one_of_four_marks_and_every_number_is_the_tables(seed):
    table = trusted(seed)
    table.loc[0, ["roc_auc", "localises", "localises_images"]] = [np.nan, "not tested", 0]
    figure = draw(map_scores.plot_trust(table, "mixed"), f"trust_{seed}")
    axes, datasets = figure.axes[0], table["dataset"].unique().tolist()
    methods = table.groupby("method")["roc_auc"].mean().sort_values(ascending=False).index.tolist()
    looks = {look["marker"] + str(look.get("markerfacecolor")): mark for mark, look in map_scores.MARKS.items()}
    found = {}
    for line in (line for line in axes.lines if len(line.get_xdata())):
        (x,), (y,) = line.get_xdata(), line.get_ydata()
        face = "none" if line.get_markerfacecolor() == "none" else "None"
        found[datasets[round(x - 0.2)], methods[y], round(x - round(x - 0.2), 2)] = looks[line.get_marker() + face]
    expected = {
        (row["dataset"], row["method"], place): row[check]
        for _, row in table.iterrows()
        for place, check in zip((0.02, 0.2, 0.38), map_scores.CHECKS, strict=True)
    }
    assert found == expected
    printed = {(round(text.get_position()[0] + 0.44), text.get_position()[1]): text.get_text() for text in axes.texts}
    for row in table.itertuples():
        score = printed[datasets.index(row.dataset), methods.index(row.method)]
        assert score == ("not scored" if np.isnan(row.roc_auc) else f"{row.roc_auc:.2f}")
    assert_printed(texts_of(figure), table)
    told = " ".join(texts_of(figure))
    assert "covid real\nlungs\nL: n = " in told
    assert {"|gradient|", "occlusion"} <= set(texts_of(figure))
    assert "finds the defect" not in told
