"""The contrast-detail diagram: threshold gold thickness against disc diameter, with the limits it is held against."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xiqa.cdmam.limits import EUROPEAN_LIMITS_UM, RANGE_UM, censored_side, limit_curve
from xiqa.figures import style

_LINES = ("-", (0, (4, 2)), ":", "-.")
_MARKERS = "osD^vPXh"
_ARROWS = {"below": "v", "above": "^"}


_LIMIT_LOOK = {"color": style.BLACK, "linewidth": 0.9}


@style.styled
def plot_cdc(
    curves: Mapping[str, pd.DataFrame],
    data: str | None = None,
    limits_um: Mapping[str, Mapping[float, float]] = EUROPEAN_LIMITS_UM,
) -> Figure:
    """Draw contrast-detail curves with their 95 % bands and limits.

    A point is a measured threshold (human-equivalent), the line through them the smooth curve, the band its 95 %
    interval. Thresholds outside the phantom's range are drawn as open arrows at the end of the range: they point to
    where the threshold lies, and the band is open on that side.

    Args:
        curves: label -> the table of `xiqa.cdmam.curve.fit_curve`.
        data: `simulated`, `recorded` or `mixed`, noted below the figure; None where it is not known.
        limits_um: limit -> diameter in mm -> limit in µm: dots where a limit holds, joined by the third-order fits that
            the field uses of the European limits, by straight lines of others.

    Returns:
        The figure.

    Raises:
        ValueError: no curves.

    Reference:
        European guidelines for quality assurance in breast cancer screening and diagnosis, 4th edition (2006).
    """
    if not curves:
        raise ValueError("curves: found none, expected at least one table of fit_curve")
    figure = style.new_figure(5.4, 4.2)
    axes = figure.subplots()
    measured_at = next(iter(curves.values()))["diameter_mm"].to_numpy(float)
    european = limits_um == EUROPEAN_LIMITS_UM
    _draw_limits(axes, limits_um, measured_at, european)
    arrows, bands = set(), False
    groups = {name: group for group, name in style.GROUP_NAMES.items()}
    for k, (label, curve) in enumerate(curves.items()):
        # A test group keeps its colour from figure to figure.
        group = groups.get(label)
        colour = style.GROUP_COLOURS[group] if group else style.CYCLE[k % len(style.CYCLE)]
        diameter = curve["diameter_mm"].to_numpy(dtype=float)
        low, high = curve["ci_low_um"].to_numpy(dtype=float), curve["ci_high_um"].to_numpy(dtype=float)
        if not np.isnan(low).any():
            # What reaches to 0 or to infinity ends at the frame.
            axes.fill_between(
                diameter, np.maximum(low, 1e-9), np.minimum(high, 1e9), color=colour, alpha=0.18, linewidth=0
            )
            bands = True
        marker = style.GROUP_MARKERS[group] if group else _MARKERS[k % len(_MARKERS)]
        axes.plot(diameter, curve["cdc_um"], color=colour)
        side = censored_side(curve)
        measured = side == ""
        axes.plot(diameter[measured], curve["t_human_um"][measured], marker, color=colour, markeredgewidth=0)
        axes.plot([], [], color=colour, marker=marker, markeredgewidth=0, label=label)
        for where, arrow in _ARROWS.items():
            chosen = side == where
            if chosen.any():
                arrows.add(where)
                axes.plot(
                    diameter[chosen], curve["t_human_um"][chosen], arrow, color=colour, markerfacecolor="white",
                    markeredgewidth=0.9, markersize=4.5,
                )  # fmt: skip
    for line, limit in zip(itertools.cycle(_LINES), limits_um):
        axes.plot([], [], linestyle=line, label=f"{'European' if european else 'local'} limit: {limit}", **_LIMIT_LOOK)
    if bands:
        axes.fill(np.nan, np.nan, color=style.GREY, alpha=0.25, linewidth=0, label="95 % interval")
    _explain_arrows(axes, arrows, measured_at)
    style.detail_axes(axes, measured_at if len(measured_at) <= 12 else measured_at[::2])
    axes.minorticks_off()
    columns = ["t_human_um", "cdc_um", "ci_low_um", "ci_high_um"]
    drawn = np.concatenate([curve[columns].to_numpy(float).ravel() for curve in curves.values()])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    shown = [line.get_ydata() for line in axes.lines[: 2 * len(limits_um)]]
    shown = np.concatenate([drawn, *shown])
    axes.set_ylim(shown.min() * 0.75, shown.max() * 1.25)
    axes.legend(loc="upper right")
    if data is not None:
        style.note_data(figure, data)
    return figure


def _draw_limits(axes: Axes, limits_um: Mapping, measured_at: np.ndarray, european: bool) -> None:
    """Each limit as dots where it holds and a line through them."""
    for line, (limit, at) in zip(itertools.cycle(_LINES), limits_um.items()):
        sizes = np.array(sorted(at))
        fine = np.geomspace(measured_at[-1], measured_at[0], 100) if european else sizes
        values = limit_curve(limit, fine) if european else [at[d] for d in sizes]
        axes.plot(fine, values, linestyle=line, **_LIMIT_LOOK)
        axes.plot(sizes, [at[d] for d in sizes], ".", markersize=3.5, **_LIMIT_LOOK)


def _explain_arrows(axes: Axes, arrows: set[str], measured_at: np.ndarray) -> None:
    """What open arrows say, for the legend."""
    ends = {"below": "threshold below the thinnest disc", "above": "threshold above the thickest disc"}
    if len(measured_at) <= 12:  # CDMAM 3.4, whose thicknesses are the same for all diameters
        ends = {where: f"{words} ({end:g} µm × r)" for (where, words), end in zip(ends.items(), RANGE_UM, strict=True)}
    for where in sorted(arrows, reverse=True):
        axes.plot(
            [], [], _ARROWS[where], color=style.GREY, markerfacecolor="white", markeredgewidth=0.9, markersize=4.5,
            label=ends[where],
        )  # fmt: skip
    if arrows and len(measured_at) <= 12:
        axes.plot([], [], linestyle="none", label="r: human over automatic threshold")
