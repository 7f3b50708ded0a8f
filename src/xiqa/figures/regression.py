"""Pictures of predicted numbers: against the truth, errors against uncertainty, and the shortcuts beside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.figures.classification import GRID, HOLLOW, NETWORK_COLOUR, SHORTCUT_LOOKS, nothing, plain_name
from xiqa.metrics.prediction import EXPANSION
from xiqa.metrics.regression import TRAINING_MEAN, total_uncertainty
from xiqa.names import method_name

OTHER_LOOKS = {
    "noise": {"color": style.SKY, "marker": "X"},
    TRAINING_MEAN: {"color": style.GREY, "marker": "*"},
}


def with_unit(target: str, unit: str) -> str:
    """A target as an axis prints it."""
    name = target.removeprefix("target_").replace("_", " ")
    return f"{name} ({unit})" if unit and unit != "1" else name


@style.styled
def plot_predictions(predictions: pd.DataFrame, units: Mapping[str, str], data: str = "simulated") -> Figure:
    """Test images: predicted against true value, and |error| against the total uncertainty that was predicted.

    Args:
        predictions: rows of one part: each target, predicted_*, aleatoric_* and, of an ensemble, epistemic_*.
        units: target -> its unit, "" where nobody has said.
        data: `simulated`, `real` or `mixed`.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.9 * len(units) + 0.2)
    grid = figure.subplots(len(units), 2, squeeze=False)
    dots = {"linestyle": "none", "marker": "o", "markersize": 2.5, "alpha": 0.6, "markeredgewidth": 0}
    for (left, right), (target, unit) in zip(grid, units.items(), strict=True):
        truth, predicted = (predictions[name].to_numpy(float) for name in (target, f"predicted_{target}"))
        uncertainty, name = total_uncertainty(predictions, target), with_unit(target, unit)
        bars = EXPANSION * uncertainty
        left.errorbar(truth, predicted, bars, fmt="none", ecolor=NETWORK_COLOUR, alpha=0.18, linewidth=0.6)
        left.plot(truth, predicted, color=NETWORK_COLOUR, **dots)
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        left.plot(ends, ends, color=style.BLACK, linewidth=0.8)
        left.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title="bars: ± 1.96 total uncertainty")
        right.plot(uncertainty, np.abs(predicted - truth), color=NETWORK_COLOUR, **dots)
        line = np.array([0.0, uncertainty.max()])
        right.plot(line, EXPANSION * line, color=style.BLACK, linewidth=0.8)
        covered = np.mean(np.abs(predicted - truth) <= bars)
        right.set_title(f"{100 * covered:.0f} % of {len(truth)} images below the line of 1.96 uncertainties")
        right.set(xlabel=f"total standard uncertainty of {name}", ylabel=f"|error| of {name}", ylim=(0, None))
        for axes in (left, right):
            axes.grid(True, **GRID)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_against_shortcuts(scores: pd.DataFrame, units: Mapping[str, str], data: str = "simulated") -> Figure:
    """Root mean square error of networks and shortcuts on the test part, with 95 % intervals.

    Args:
        scores: rows of `xiqa.metrics.regression.scores` with architecture, weights and seed.
        units: target -> its unit.
        data: `simulated`, `real` or `mixed`.
    """
    shown = scores[(scores["metric"] == "rmse") & (scores["weights"] == "trained")]
    figure = style.new_figure(5.2, 0.19 * len(shown) + 0.9 * len(units))
    grid = figure.subplots(len(units), 1, squeeze=False)[:, 0]
    for axes, (target, unit) in zip(grid, units.items(), strict=True):
        rows = shown[shown["target"] == target].reset_index(drop=True)
        labels = []
        for place, row in rows.iterrows():
            shortcut = row["architecture"].removeprefix("shortcut: ")
            if shortcut == row["architecture"]:
                look = {"color": NETWORK_COLOUR, "marker": "o"}
                seed = row["seed"] if row["seed"] == "ensemble" else f"seed {row['seed']}"
                labels.append(f"{plain_name(row['architecture'])}, {seed}")
            else:
                found = OTHER_LOOKS.get(shortcut) or SHORTCUT_LOOKS[shortcut]
                look = {key: found[key] for key in ("color", "marker")} | HOLLOW
                labels.append(f"shortcut: {shortcut}" if shortcut != TRAINING_MEAN else "mean of the training images")
            axes.plot([row["ci_low"], row["ci_high"]], [place, place], color=look["color"], linewidth=1.2)
            axes.plot(row["value"], place, linestyle="none", **look)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"root mean square error of {with_unit(target, unit)} on the test part")
        axes.grid(True, axis="x", **GRID)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_shares(summary: pd.DataFrame, structure: str, data: str = "simulated") -> Figure:
    """Share of each method's map on a structure over the share by area, with 95 % intervals; 1 is chance.

    Args:
        summary: rows of structure_share_summary.csv.
        structure: which one.
        data: `simulated`, `real` or `mixed`.
    """
    rows = summary[summary["structure"] == structure]
    if rows.empty:
        return nothing("no image that is explained has a mask", data)
    methods, groups = list(dict.fromkeys(rows["method"])), list(dict.fromkeys(rows["group"]))
    figure = style.new_figure(5.2, 0.3 * len(methods) + 1.1)
    axes = figure.subplots()
    for number, group in enumerate(groups):
        own = rows[rows["group"] == group]
        places = [methods.index(method) + 0.6 * ((number + 0.5) / len(groups) - 0.5) for method in own["method"]]
        look = {"color": style.CYCLE[number % len(style.CYCLE)], "marker": "osD^v"[number % 5]}
        for place, (_, row) in zip(places, own.iterrows(), strict=True):
            ends = [row["enrichment_low"], row["enrichment_high"]]
            axes.plot(ends, [place, place], color=look["color"], linewidth=1)
        axes.plot(own["enrichment"], places, linestyle="none", label=group, **look)
    axes.axvline(1, color=style.GREY, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(methods)), [method_name(method) for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlabel(f"share of the absolute map on the {structure} over its share of the area (dashed: by area)")
    axes.grid(True, axis="x", **GRID)
    if len(groups) > 1:
        figure.legend(loc="outside upper center", ncols=min(4, len(groups)))
    style.note_data(figure, data)
    return figure
