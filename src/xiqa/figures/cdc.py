"""The contrast-detail diagram: threshold gold thickness against disc diameter, with the European limits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xiqa.cdmam.limits import LIMITS, RANGE_UM, censored_side, limit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.figures import style

_LIMIT_LINES = {"acceptable": "-", "achievable": (0, (4, 2))}
_MARKERS = "osD^vPXh"
_ARROWS = {"below": "v", "above": "^"}


@style.styled
def plot_cdc(curves: Mapping[str, pd.DataFrame], data: str | None = None) -> Figure:
    """Draw contrast-detail curves with their 95 % bands and the European limits.

    A point is a measured threshold (human-equivalent), the line through them the smooth curve, the band its 95 %
    interval. Thresholds outside the phantom's range are drawn as open arrows at the end of the range: they point to
    where the threshold lies, and the band is open on that side.

    Args:
        curves: label -> the table of `xiqa.cdmam.curve.fit_curve`.
        data: `simulated`, `recorded` or `mixed`, noted below the figure; None where it is not known.

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
    for limit, line in _LIMIT_LINES.items():
        fine = np.geomspace(CDC_DIAMETERS_MM[-1], CDC_DIAMETERS_MM[0], 100)
        axes.plot(fine, limit_curve(limit, fine), color=style.BLACK, linestyle=line, linewidth=0.9)
    arrows = set()
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
    for limit, line in _LIMIT_LINES.items():
        axes.plot([], [], color=style.BLACK, linestyle=line, linewidth=0.9, label=f"European limit: {limit}")
    ends = {"below": f"threshold below the thinnest disc ({RANGE_UM[0]:g} µm × r)"}
    ends["above"] = f"threshold above the thickest disc ({RANGE_UM[1]:g} µm × r)"
    for where in sorted(arrows, reverse=True):
        axes.plot(
            [], [], _ARROWS[where], color=style.GREY, markerfacecolor="white", markeredgewidth=0.9, markersize=4.5,
            label=ends[where],
        )  # fmt: skip
    if arrows:
        axes.plot([], [], linestyle="none", label="r: human over automatic threshold")
    style.detail_axes(axes, CDC_DIAMETERS_MM)
    axes.minorticks_off()
    columns = ["t_human_um", "cdc_um", "ci_low_um", "ci_high_um"]
    drawn = np.concatenate([curve[columns].to_numpy(float).ravel() for curve in curves.values()])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    lowest, highest = drawn.min(), drawn.max()
    limits = limit_curve("acceptable", CDC_DIAMETERS_MM).max(), LIMITS["achievable"].min()
    axes.set_ylim(min(lowest, limits[1]) * 0.75, max(highest, limits[0]) * 1.25)
    axes.legend(loc="upper right")
    if data is not None:
        style.note_data(figure, data)
    return figure
