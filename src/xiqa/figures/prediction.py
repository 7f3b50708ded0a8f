"""Pictures of the ensemble's predictions: curves with uncertainty, error against uncertainty, coverage, shortcut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.metrics.prediction import EXPANSION, STOOD_FOR, total_uncertainty
from xiqa.names import group_name

Limits = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Name of a limiting curve -> (diameters in mm, thicknesses in µm)."""


def draw_limits(axes, limits: Limits) -> None:
    """Draw limiting curves in black: the first with dashes and dots, as no prediction is drawn, the others dotted."""
    for index, (name, (diameters, thicknesses)) in enumerate(limits.items()):
        axes.plot(diameters, thicknesses, color=style.BLACK, linestyle="-." if index == 0 else ":", label=name)


@style.styled
def plot_predicted_curves(
    predictions: pd.DataFrame, titles: Mapping[str, str], limits: Limits, data: str = "simulated"
) -> Figure:
    """Predicted contrast-detail curves of chosen images with their expanded total uncertainty, raw and calibrated.

    Args:
        predictions: rows of predictions.csv (image, group, diameter_mm, truth_um, predicted_um, aleatoric_um,
            epistemic_um and, where known, censored and calibrated_um).
        titles: image -> legend entry; only these images are drawn.
        limits: limiting curves.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 2a of Amanova 2022.
    """
    figure = style.new_figure(4.6, 3.6)
    axes = figure.subplots()
    lowest, any_flagged = 0.015, False
    calibrated = "calibrated_um" in predictions and predictions["calibrated_um"].notna().any()
    for image, title in titles.items():
        rows = predictions[predictions["image"] == image].sort_values("diameter_mm")
        if rows.empty:
            raise ValueError(f"image '{image}': not found in the predictions, expected one of their column 'image'")
        colour = style.group_look(rows["group"].iloc[0])["color"]
        bands = [(total_uncertainty(rows), 0.12), *([(rows["calibrated_um"], 0.3)] if calibrated else [])]
        for uncertainty, alpha in bands:
            half = EXPANSION * uncertainty
            low, high = np.maximum(rows["predicted_um"] - half, lowest / 2), rows["predicted_um"] + half
            axes.fill_between(rows["diameter_mm"], low, high, color=colour, alpha=alpha, linewidth=0)
        axes.plot(rows["diameter_mm"], rows["predicted_um"], color=colour, label=title)
        flagged = _flagged(rows)
        for chosen, marker in ((~flagged, "o"), (flagged, "x")):
            truth = rows[chosen]
            axes.plot(
                truth["diameter_mm"], truth["truth_um"], marker, color=colour, markerfacecolor="white", markersize=3.5
            )
        any_flagged |= bool(flagged.any())
    draw_limits(axes, limits)
    axes.plot([], [], "o", color=style.GREY, markerfacecolor="white", label="truth (read out)")
    if any_flagged:
        axes.plot([], [], "x", color=style.GREY, label="truth outside the phantom's range")
    axes.fill_between([], [], color=style.GREY, alpha=0.12, label="± 1.96 total uncertainty as predicted")
    if calibrated:
        axes.fill_between([], [], color=style.GREY, alpha=0.42, label="± 1.96 calibrated")
    style.detail_axes(axes)
    axes.set_ylim(bottom=lowest)
    axes.legend(loc="upper right")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_error_against_uncertainty(predictions: pd.DataFrame, data: str = "simulated") -> Figure:
    """Absolute error of every predicted point against its total standard uncertainty, by test group.

    Points above the line err by more than their expanded uncertainty. Points whose truth is flagged as censored are
    left out, because their truth is not measured.

    Args:
        predictions: rows of predictions.csv.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 2b of Amanova 2022.
    """
    figure = style.new_figure(4.6, 3.9)
    axes = figure.subplots()
    n_flagged = int(_flagged(predictions).sum())
    predictions = predictions[~_flagged(predictions)]
    uncertainty = total_uncertainty(predictions).to_numpy()
    error = (predictions["predicted_um"] - predictions["truth_um"]).abs().to_numpy()
    if not len(predictions):
        axes.text(0.5, 0.5, "no point with a measured truth", ha="center", transform=axes.transAxes)
        style.note_data(figure, data)
        return figure
    # An error of nothing has no place on a logarithmic axis: it is drawn at its lower end.
    floor = 1e-3 * max(float(np.max(error, initial=0.0)), 1e-6)
    for group in style.groups_in_order(predictions["group"]):
        chosen = (predictions["group"] == group).to_numpy()
        axes.plot(
            uncertainty[chosen], np.maximum(error[chosen], floor), linestyle="none", markersize=2.5, alpha=0.5,
            markeredgewidth=0, label=group_name(group), rasterized=True, **style.group_look(group),
        )  # fmt: skip
    line = np.array([uncertainty.min() * 0.8, uncertainty.max() * 1.25])
    axes.plot(line, EXPANSION * line, color=style.BLACK, linewidth=1, label="1.96 total uncertainty")
    axes.set(xscale="log", yscale="log", ylim=(floor * 0.8, None))
    axes.set_xlabel("total standard uncertainty (µm)")
    if n_flagged:
        axes.set_title(f"{n_flagged} points outside the phantom's range left out", fontsize=7)
    axes.set_ylabel("|predicted - truth| (µm)")
    for axis in (axes.xaxis, axes.yaxis):
        style.plain_ticks(axis, (0.0001, 0.001, 0.01, 0.1, 1, 10))
    figure.legend(loc="outside upper center", markerscale=2, ncols=3)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_coverage(coverage: pd.DataFrame, data: str = "simulated") -> Figure:
    """Share of points whose error lies within ± 1.96 total uncertainty, as predicted and calibrated, per test group.

    Args:
        coverage: rows of prediction_scores.csv: group, n (images), coverage_95 and coverage_95_calibrated as shares,
            and their intervals (_low, _high). A group without any measured point (NaN) is left out.
        data: `simulated`, `recorded` or `mixed`.
    """
    rows = _by_group(coverage.dropna(subset=["coverage_95"]))
    figure = style.new_figure(style.SINGLE_COLUMN + 0.9, 0.34 * len(rows) + 1.4)
    axes = figure.subplots()
    for y, row in enumerate(rows.itertuples()):
        look = style.group_look(row.group)
        axes.axhspan(y - 0.5, y + 0.5, color="#F4F4F4" if y % 2 else "white", linewidth=0, zorder=0)
        for column, below, face in (("coverage_95", -0.16, "white"), ("coverage_95_calibrated", 0.16, look["color"])):
            share, ends = 100 * getattr(row, column), [100 * getattr(row, f"{column}_{end}") for end in ("low", "high")]
            axes.plot(ends, [y + below] * 2, color=look["color"], linewidth=1)
            axes.plot(share, y + below, markerfacecolor=face, **look)
    axes.axvline(95, color=style.GREY, linewidth=0.8, linestyle="--")
    axes.text(95, -0.75, "95 %", ha="center", va="bottom", fontsize=7, color=style.GREY)
    labels = [f"{group_name(row.group)} (n = {row.n})" for row in rows.itertuples()]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.8)
    lowest = rows[["coverage_95", "coverage_95_low", "coverage_95_calibrated", "coverage_95_calibrated_low"]].min(
        axis=None
    )
    axes.set_xlim(min(50, 100 * float(lowest) - 3), 102)
    axes.set_xlabel("points within ± 1.96 total uncertainty (%)")
    _before_and_after(figure, axes)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_error_over_uncertainty(scores: pd.DataFrame, data: str = "simulated") -> Figure:
    """Root mean square error over the standard uncertainty at each diameter, as predicted and calibrated.

    At 1 the uncertainty is right, below the bands are too wide, above too narrow. One curve per test group; groups
    that no validation setting stands for are dashed.

    Args:
        scores: rows of prediction_scores_by_diameter.csv: group, diameter_mm, error_over_uncertainty and
            error_over_uncertainty_calibrated (NaN where no truth is measured, or nothing is calibrated).
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 3.2)
    panels = figure.subplots(1, 2, sharey=True)
    columns = {"error_over_uncertainty": "as predicted", "error_over_uncertainty_calibrated": "calibrated"}
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
        for group in style.groups_in_order(scores["group"]):
            rows = scores[(scores["group"] == group) & scores[column].notna()]
            line = "-" if group in STOOD_FOR else (0, (3, 2))
            label = group_name(group) if axes is panels[0] else None
            axes.plot(rows["diameter_mm"], rows[column], linestyle=line, label=label, **style.group_look(group))
        axes.axhline(1, color=style.BLACK, linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="disc diameter (mm)", title=title)
        style.plain_ticks(axes.xaxis, (0.08, 0.13, 0.2, 0.31, 0.5, 0.8))
        axes.set_xlim(0.07, 1.15)
        axes.grid(True, which="major", linewidth=0.3, color="#DDDDDD")
    style.plain_ticks(panels[0].yaxis, (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10))
    panels[0].set_ylabel("RMS of error / standard uncertainty\n(below 1: too wide)")
    if scores["error_over_uncertainty_calibrated"].isna().all():
        panels[1].text(0.5, 0.5, "not calibrated: no validation setting", ha="center", transform=panels[1].transAxes)
    dashed = not set(scores["group"]) <= set(STOOD_FOR)
    title = "dashed: no validation setting stands for it" if dashed else None
    figure.legend(loc="outside upper center", ncols=4, title=title)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_shortcut(scores: pd.DataFrame, data: str = "simulated") -> Figure:
    """Root mean square error of the curve's midpoint: ensemble, shortcut, training mean.

    The shortcut knows nothing but mean and standard deviation of the background; an ensemble that does no better has
    not learned to see discs.

    Args:
        scores: rows of prediction_scores.csv (group, n, rmse_midpoint_um, rmse_train_mean_um, rmse_shortcut_um and,
            drawn as a bar, rmse_midpoint_low_um and rmse_midpoint_high_um).
        data: `simulated`, `recorded` or `mixed`.
    """
    rows = _by_group(scores)
    figure = style.new_figure(style.SINGLE_COLUMN + 1.0, 0.32 * len(rows) + 1.3)
    axes = figure.subplots()
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        "rmse_midpoint_um": ("ensemble", {"marker": "o", "color": style.BLUE}),
        "rmse_shortcut_um": ("shortcut: background mean and SD", {"marker": "D", "color": style.VERMILION}),
        "rmse_train_mean_um": ("training mean", {"marker": "|", "color": style.BLACK, "markersize": 8}),
    }
    places = np.arange(len(rows))
    for y, row in enumerate(rows.itertuples()):
        values = [getattr(row, column) for column in looks]
        axes.plot([np.nanmin(values), np.nanmax(values)], [y, y], color="#CCCCCC", linewidth=0.8, zorder=0)
    for column, (name, look) in looks.items():
        axes.plot(rows[column], places, linestyle="none", label=name, **look)
    if "rmse_midpoint_low_um" in rows:
        axes.hlines(
            places, rows["rmse_midpoint_low_um"], rows["rmse_midpoint_high_um"], color=style.BLUE, linewidth=1.6
        )
    axes.set_xscale("log")
    style.plain_ticks(axes.xaxis, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2))
    axes.set_yticks(places, [f"{group_name(row.group)} (n = {row.n})" for row in rows.itertuples()])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("RMSE of the curve's midpoint (µm)")
    axes.grid(True, axis="x", linewidth=0.3, color="#DDDDDD")
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3, columnspacing=1.0)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_curve_methods(table: pd.DataFrame, data: str = "simulated") -> Figure:
    """Relative error and coverage of curves from one image, or many, by each way to them, on each simulated system.

    Bars are 95 % intervals over the curves. A way without an interval of its own (shortcut) has no coverage.

    Args:
        table: rows of curve_methods.csv: group, method, images, relative_error and coverage_95 as shares, and their
            intervals (_low, _high; NaN where one curve or few were scored).
        data: `simulated`, `recorded` or `mixed`.
    """
    looks = {
        "graded signals": {"marker": "o", "color": style.BLUE},
        "ensemble": {"marker": "^", "color": style.GREEN},
        "shortcut": {"marker": "D", "color": style.VERMILION},
        "counting": {"marker": "s", "color": style.BLACK, "markerfacecolor": "white"},
    }
    groups = style.groups_in_order(table["group"])
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.42 * len(groups) + 1.3)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column in zip(panels, ("relative_error", "coverage_95"), strict=True):
        for y in range(1, len(groups), 2):
            axes.axhspan(y - 0.5, y + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
        for place, (method, look) in enumerate(looks.items()):
            rows = table[table["method"] == method].set_index("group").reindex(groups)
            y = np.arange(len(groups)) + 0.2 * (place - 1.5)
            axes.hlines(y, 100 * rows[f"{column}_low"], 100 * rows[f"{column}_high"], color=look["color"], linewidth=1)
            number = rows["images"].max()
            label = f"{method}, {number:.0f} image{'s' if number > 1 else ''}" if pd.notna(number) else method
            axes.plot(100 * rows[column], y, linestyle="none", label=label, **look)
    panels[0].set_xscale("log")
    style.plain_ticks(panels[0].xaxis, (0.5, 1, 2, 5, 10, 20, 50, 100, 200))
    panels[0].set_xlabel("mean error of a curve (% of the analytic curve)")
    panels[0].grid(True, axis="x", linewidth=0.3, color="#DDDDDD")
    panels[0].set_yticks(range(len(groups)), [group_name(group) for group in groups])
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    panels[1].axvline(95, color=style.GREY, linewidth=0.8, linestyle="--")
    panels[1].set_xlim(-3, 103)
    panels[1].set_xlabel("95 % intervals that hold the analytic curve (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    style.note_data(figure, data)
    return figure


def _before_and_after(figure: Figure, axes) -> None:
    """Legend of open and filled markers."""
    for face, label in (("white", "as predicted"), (style.GREY, "calibrated on validation settings")):
        axes.plot([], [], "o", color=style.GREY, markerfacecolor=face, label=label)
    figure.legend(loc="outside upper center", ncols=2)


def _flagged(predictions: pd.DataFrame) -> pd.Series:
    """Which points have a truth outside the phantom's range; none where the table does not say."""
    if "censored" not in predictions:
        return pd.Series(False, index=predictions.index)
    return predictions["censored"].astype(bool)


def _by_group(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the paper's groups."""
    return table.set_index("group", drop=False).loc[style.groups_in_order(table["group"])].reset_index(drop=True)
