"""Figures of quality assurance: psychometric fits, two curves side by side, a system over months."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image

from xiqa.cdmam.curve import GOLD_ATTENUATION_PER_UM, THRESHOLD
from xiqa.figures import style
from xiqa.qc.record import Record
from xiqa.qc.trend import OVERALL, Chart, Trend


@style.styled
def plot_psychometric(record: Record) -> Figure:
    """The psychometric fit of each diameter over the fraction of corner discs found.

    Points are the fraction of images in which the disc of a cell was found, open ones the same smoothed over
    neighbouring cells, to which the line is fitted; the dashed line is the threshold at 62.5 % correct.
    """
    columns = 4
    rows = -(-len(record.curve) // columns)
    height = 0.9 + 1.43 * rows
    figure = style.new_figure(style.DOUBLE_COLUMN, height)
    figure.set_layout_engine("none")  # twelve panels take a second to lay out
    panels = figure.subplots(
        rows, columns, sharex=True, sharey=True,
        gridspec_kw={
            "left": 0.07, "right": 0.99, "bottom": 0.46 / height, "top": 1 - 0.52 / height, "hspace": 0.3,
            "wspace": 0.08,
        },
    )  # fmt: skip
    for axes in panels.ravel()[len(record.curve) :]:
        axes.set_visible(False)
    for axes in panels.ravel()[max(0, len(record.curve) - columns) : len(record.curve)]:
        axes.tick_params(labelbottom=True)  # nothing is below it
    low = min(0.03, *(fit.thickness_um[0] for fit in record.psychometric)) / 1.2
    high = max(2.0, *(fit.thickness_um[-1] for fit in record.psychometric)) * 1.2
    fine = np.geomspace(low, high, 200)
    contrast = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * fine))
    for axes, fit, point in zip(panels.ravel(), record.psychometric, record.curve, strict=False):
        at = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * fit.threshold_um))
        line = "-" if not point.censored else ":"
        axes.plot(fine, 0.25 + 0.75 / (1 + np.exp(-fit.slope * (contrast - at))), color=style.BLUE, linestyle=line)
        axes.plot(fit.thickness_um, fit.smoothed, "o", color=style.BLUE, markerfacecolor="white", markersize=3.5)
        axes.plot(fit.thickness_um, fit.hit_rate, ".", color=style.BLACK, markersize=3.5)
        axes.axhline(0.25, color=style.GREY, linewidth=0.5, linestyle=":")
        if not point.censored:
            axes.plot([fit.threshold_um] * 2, [0, THRESHOLD], color=style.VERMILION, linestyle="--", linewidth=0.8)
        words = f"{fit.threshold_um:.3g} µm" if not point.censored else f"{point.side} the discs"
        axes.set_title(f"{fit.diameter_mm:.2f} mm: {words}", fontsize=7.5)
        axes.set_xscale("log")
        style.plain_ticks(axes.xaxis, (0.03, 0.1, 0.3, 1))
        axes.minorticks_off()
        axes.set(xlim=(low, high), ylim=(0, 1.04))
    figure.supxlabel("gold thickness (µm)", fontsize=8, y=0.01)
    figure.supylabel("corner discs found (fraction of images)", fontsize=8, x=0.005)
    handles = [
        panels[0, 0].plot([], [], ".", color=style.BLACK, label="cell")[0],
        panels[0, 0].plot([], [], "o", color=style.BLUE, markerfacecolor="white", markersize=3.5, label="smoothed")[0],
        panels[0, 0].plot([], [], color=style.BLUE, label="fit (dotted: threshold outside the discs)")[0],
        panels[0, 0].plot([], [], "--", color=style.VERMILION, linewidth=0.8, label="threshold, 62.5 % correct")[0],
        panels[0, 0].plot([], [], ":", color=style.GREY, linewidth=0.5, label="chance")[0],
    ]
    figure.legend(handles=handles, loc="upper center", ncols=5)
    return figure


@style.styled
def plot_pictures(pictures: Sequence[Image.Image], title: str) -> Figure:
    """Pictures of `xiqa.qc.overlay` side by side."""
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.56 * style.DOUBLE_COLUMN)
    for axes, picture in zip(figure.subplots(1, len(pictures)), pictures, strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.axis("off")
    figure.suptitle(title)
    return figure


@style.styled
def plot_ratios(first: Record, second: Record, table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Two curves, and below them their ratio with its 95 % interval.

    Args:
        first, second: the records.
        table: of `xiqa.qc.compare.ratios`.
        names: what the two are called.
    """
    figure = style.new_figure(5.4, 5.4)
    above, below = figure.subplots(2, 1, height_ratios=(2, 1.2), sharex=True)
    for record, name, colour, marker in zip((first, second), names, (style.BLUE, style.VERMILION), "os", strict=True):
        curve = pd.DataFrame([point.model_dump() for point in record.curve])
        known = ~curve["censored"]
        above.plot(curve["diameter_mm"], curve["cdc_um"], color=colour)
        above.plot(curve["diameter_mm"][known], curve["t_human_um"][known], marker, color=colour, markeredgewidth=0)
        above.plot([], [], color=colour, marker=marker, markeredgewidth=0, label=name)
        low, high = curve["ci_low_um"].astype(float), curve["ci_high_um"].astype(float)
        above.fill_between(curve["diameter_mm"], low, high, color=colour, alpha=0.18, linewidth=0)
    style.detail_axes(above, table["diameter_mm"])
    above.set_xlabel("")
    above.legend(loc="upper right")
    below.axhline(1, color=style.BLACK, linewidth=0.6)
    shown = table.dropna(subset="ratio")
    bars = np.abs(shown[["ci_low", "ci_high"]].to_numpy().T - shown["ratio"].to_numpy())
    below.errorbar(
        shown["diameter_mm"], shown["ratio"], np.nan_to_num(bars), fmt="o", color=style.BLACK, elinewidth=0.9
    )
    below.set_xscale("log")
    below.set_yscale("log")
    style.plain_ticks(below.xaxis, table["diameter_mm"])
    style.plain_ticks(below.yaxis, (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4))
    low, high = shown[["ci_low", "ratio"]].min().min(), shown[["ci_high", "ratio"]].max().max()
    if len(shown):
        below.set_ylim(min(low, 0.9) * 0.95, max(high, 1.1) * 1.05)
    below.set(xlabel="disc diameter (mm)", ylabel="ratio A / B")
    for axes in (above, below):
        axes.minorticks_off()
        axes.grid(True, which="major", linewidth=0.3, color="#DDDDDD")
    return figure


@style.styled
def plot_agreement(table: pd.DataFrame, limits: pd.DataFrame) -> Figure:
    """Curves of single images against the curve of many (Bland-Altman, as ratios), coloured by diameter.

    Args:
        table: of `xiqa.qc.compare.one_against_many`.
        limits: of `xiqa.qc.compare.agreement`; its last row is drawn.
    """
    figure = style.new_figure(5.4, 3.6)
    axes = figure.subplots()
    shown = axes.scatter(
        np.sqrt(table["one_um"] * table["many_um"]), table["ratio"], c=table["diameter_mm"], norm=LogNorm(0.08, 1),
        cmap=style.AMOUNT_MAP, s=10, linewidths=0,
    )  # fmt: skip
    overall = limits.iloc[-1]
    for name, line in (("bias", "-"), ("lower", "--"), ("upper", "--")):
        axes.axhline(overall[name], color=style.VERMILION, linestyle=line, linewidth=0.9)
        axes.annotate(f"{overall[name]:.2f}", (1.005, overall[name]), xycoords=("axes fraction", "data"), fontsize=7)
    axes.axhline(1, color=style.BLACK, linewidth=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    style.plain_ticks(axes.xaxis, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5))
    style.plain_ticks(axes.yaxis, (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4))
    axes.set(xlabel="geometric mean of both thresholds (µm)", ylabel="one image / all images")
    bar = figure.colorbar(shown, ax=axes, label="disc diameter (mm)", pad=0.08, ticks=(0.08, 0.13, 0.2, 0.31, 0.5, 1))
    bar.ax.set_yticklabels(["0.08", "0.13", "0.20", "0.31", "0.50", "1.00"])
    bar.ax.minorticks_off()
    axes.set_title(
        f"{limits['images'].iloc[-1]} single images of A against all of B; lines: bias and 95 % limits of agreement",
        loc="left",
    )
    return figure


@style.styled
def plot_trend(trend: Trend) -> Figure:
    """Control charts of a setting, with alarms.

    Each panel shows the moving average of the deviations from the records before (line) within the limits beyond which
    it alarms (grey); alarms are red. The title gives the newest value, and how far it has moved with the 95 % interval.
    """
    charts, columns = trend.charts, 3
    rows = -(-len(charts) // columns)
    height = 0.95 + 1.3 * rows
    figure = style.new_figure(style.DOUBLE_COLUMN, height)
    figure.set_layout_engine("none")  # so many panels take seconds to lay out
    grid = {
        "left": 0.085, "right": 0.985, "bottom": 0.7 / height, "top": 1 - 0.6 / height, "hspace": 0.55, "wspace": 0.2,
    }  # fmt: skip
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False, gridspec_kw=grid).ravel()
    steps = np.arange(len(trend.dates))
    for axes, chart in zip(panels, charts, strict=False):
        average, low, high = (100 * np.expm1(values) for values in (chart.average, -chart.limit, chart.limit))
        axes.fill_between(steps, low, high, color="#DDDDDD", linewidth=0)
        axes.axhline(0, color=style.GREY, linewidth=0.5)
        axes.plot(steps, average, ".-", color=style.BLUE)
        axes.plot(steps[chart.alarm], average[chart.alarm], "o", color=style.VERMILION, markersize=5)
        axes.set_title(_newest(chart), fontsize=7)
        # The first limits are wide and leave the panel.
        bound = 1.2 * max(np.nanmax(np.abs(average), initial=0), np.nanmin(high, initial=100), 1)
        axes.set_ylim(-bound, bound)
    for axes in panels[len(charts) :]:
        axes.axis("off")
    panels[0].set_xlim(-0.3, max(len(steps) - 0.7, 0.3))
    shown = steps[:: max(1, -(-len(steps) // 6))]
    for axes in panels[max(0, len(charts) - columns) : len(charts)]:
        axes.tick_params(labelbottom=True)
        axes.set_xticks(shown, [trend.dates[k] for k in shown], rotation=60, ha="right", fontsize=6)
    figure.supylabel("moving average of deviations from the records before (%)", fontsize=8, x=0.005)
    figure.suptitle(
        f"{trend.name}, newest record; grey: chance, red: alarm; change since it began (95 % interval)", fontsize=8
    )
    return figure


def _newest(chart: Chart) -> str:
    """What a chart measures, its newest value, and how far it has moved."""
    unit = "" if chart.name in OVERALL else " µm"
    change, low, high = 100 * (chart.changes[-1] - 1)
    moved = f"\n{change:+.1f} % ({low:+.1f} to {high:+.1f} %)" if np.isfinite(change) else ""
    return f"{chart.title}: {chart.values[-1]:.3g}{unit}{moved}"
