"""Pictures of the checks: modified images (figure 13), structure share, designs of the upsampling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.figures.prediction import Limits, draw_limits
from xiqa.names import group_name, method_name

FORM_NAMES = {
    "published": "as printed in the paper (÷ all draws)",
    "visit_normalised": "our form (÷ visits of the pixel)",
    "permuted": "our form, pixels shuffled",
}
LIES_THERE = {
    "more": (style.VERMILION, "more than by area"),
    "less": (style.BLUE, "less than by area"),
    "not told apart": (style.GREY, "not told apart from 1"),
}


@style.styled
def plot_modified_curves(
    curves: pd.DataFrame, method: str, limits: Limits | None = None, data: str = "simulated"
) -> Figure:
    """Predicted curves of original images (dashed), with the map in our form (solid) and as printed (dotted).

    Args:
        curves: one image per group: group, diameter_mm, before_um, after_um (our form) and after_published_um.
        method: the method whose map was added.
        limits: limiting curves, or None.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 13 of Amanova 2022.
    """
    figure = style.new_figure(4.9, 3.9)
    axes = figure.subplots()
    forms = {
        "before_um": ("original", "--", 1.2),
        "after_um": ("original + map, our form (÷ visits of the pixel)", "-", 1.2),
        "after_published_um": ("original + map as printed in the paper (÷ all draws)", ":", 2.2),
    }
    for group in style.groups_in_order(curves["group"]):
        rows, colour = curves[curves["group"] == group], style.group_look(group)["color"]
        change = 100 * (rows["after_um"].mean() / rows["before_um"].mean() - 1)
        for column, (_, line, width) in forms.items():
            axes.plot(rows["diameter_mm"], rows[column], color=colour, linestyle=line, linewidth=width)
        axes.plot([], [], color=colour, label=f"{group_name(group)}: midpoint {change:+.0f} % in our form")
        axes.fill_between(
            rows["diameter_mm"], rows["before_um"], rows["after_um"], color=colour, alpha=0.12, linewidth=0
        )
    for name, line, width in forms.values():
        axes.plot([], [], color=style.GREY, linestyle=line, linewidth=width, label=name)
    if limits:
        draw_limits(axes, limits)
    style.detail_axes(axes)
    axes.legend(loc="upper right", title=f"{method_name(method)} map added to one image per group")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_modified_midpoints(modified: pd.DataFrame, summary: pd.DataFrame, data: str = "simulated") -> Figure:
    """Midpoint of the predicted curve before and after the map was added to the image, for each form of the map.

    Left the pairs, right the relative change per image with its median; below zero the predicted quality rose. The
    share of lowered images is given with its Wilson interval (95 %).

    Args:
        modified: rows of modified_image.csv (image, group, method, form, midpoint_before_um, midpoint_after_um).
        summary: rows of modified_image_summary.csv, whose group `all` is printed.
        data: `simulated`, `recorded` or `mixed`.
    """
    summarised = summary[summary["group"] == "all"].set_index(["method", "form"])
    kinds = list(modified.groupby(["method", "form"], sort=False).groups)
    labels = [_form_label(method, form) for method, form in kinds]
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.6 * len(kinds) + 1.2)
    pairs, changes = figure.subplots(1, 2, sharey=True)
    marked: dict[str, object] = {}
    rng = np.random.default_rng(0)
    for place, (method, form) in enumerate(kinds):
        rows = modified[(modified["method"] == method) & (modified["form"] == form)]
        before, after = rows["midpoint_before_um"].to_numpy(), rows["midpoint_after_um"].to_numpy()
        change = 100 * (after / before - 1)
        jitter = rng.uniform(-0.16, 0.16, len(rows)) if len(rows) > 1 else np.zeros(len(rows))
        for index, group in enumerate(rows["group"]):
            look = style.group_look(group)
            ends = place + np.array([-0.28, 0.28])
            pairs.plot([before[index], after[index]], ends, linewidth=0.6, alpha=0.7, color=look["color"])
            pairs.plot(after[index], ends[1], markersize=2.5, markeredgewidth=0, **look)
            (dot,) = changes.plot(
                change[index],
                place + jitter[index],
                linestyle="none",
                markersize=3,
                alpha=0.8,
                markeredgewidth=0,
                **look,
            )
            marked.setdefault(group_name(group), dot)
        row = summarised.loc[(method, form)]
        changes.plot([row["median_change_percent"]] * 2, [place - 0.3, place + 0.3], color=style.BLACK, linewidth=1.6)
        note = (
            f"lowered {row['lowered']:.0f} of {row['n']:.0f}\n({100 * row['lowered_share_low']:.0f}-"
            f"{100 * row['lowered_share_high']:.0f} %)\nmedian {row['median_change_percent']:+.2g} %"
        )
        changes.text(1.01, place, note, transform=changes.get_yaxis_transform(), fontsize=6.5, va="center")
    pairs.set_yticks(range(len(kinds)), [label.replace(", ", ",\n") for label in labels])
    pairs.set_ylim(len(kinds) - 0.5, -0.5)
    pairs.set_xlabel("midpoint of the predicted curve (µm)")
    pairs.set_title("original (upper end) → modified (dot)")
    changes.axvline(0, color=style.GREY, linewidth=0.8)
    # Forms differ by two orders of magnitude: the printed one keeps 1/136 of the map.
    largest = float((100 * (modified["midpoint_after_um"] / modified["midpoint_before_um"] - 1)).abs().max())
    changes.set_xscale("symlog", linthresh=1.0 if largest > 1 else 0.01)
    style.plain_ticks(changes.xaxis, _symlog_ticks(largest))
    changes.set_xlim(-1.6 * max(largest, 0.01), 1.6 * max(largest, 0.01))
    changes.set_xlabel("change of the midpoint (%)")
    changes.set_title("change per image (bar: median)")
    figure.legend(marked.values(), marked.keys(), loc="outside upper center", ncols=4)
    style.note_data(figure, data)
    return figure


def _form_label(method: str, form: str) -> str:
    return f"{method_name(method)}, {FORM_NAMES.get(form, form.replace('_', ' '))}"


def _symlog_ticks(largest: float) -> list[float]:
    sizes = [size for size in (1, 3, 10, 30, 100, 300) if size <= 1.5 * largest]
    if largest <= 1:
        sizes = [size for size in (0.01, 0.1, 1) if size <= 1.5 * largest]
    return [-size for size in reversed(sizes)] + [0, *sizes]


@style.styled
def plot_structure_share(summary: pd.DataFrame, title: str = "", data: str = "simulated") -> Figure:
    """How much of a map lies on each structure of the phantom, over what its area alone would have.

    Left the enrichment, share of |map| over share of area in the same image (1: as by area); right the signed share
    over the share of |map|: +1 where a map is positive on all of a structure, -1 where it is negative, near 0 where it
    is noise. Dots are means over images; bars their 95 % intervals over images, where there are enough.

    Args:
        summary: rows of structure_share_summary.csv of one method and group (structure, diameter_mm, n, enrichment,
            balance and their intervals, lies_there); discs have structure `disc` and their diameter.
        title: written above, such as method and group.
        data: `simulated`, `recorded` or `mixed`.
    """
    rows = _structures(summary)
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.17 * len(rows) + 1.4)
    size, signed = figure.subplots(1, 2, sharey=True, width_ratios=(1.4, 1))
    for place, row in enumerate(rows.itertuples()):
        for axes, value, ends, colour in (
            (size, row.enrichment, (row.enrichment_low, row.enrichment_high), LIES_THERE[row.lies_there][0]),
            (signed, row.balance, (row.balance_low, row.balance_high), style.BLACK),
        ):
            axes.plot(ends, [place, place], color=colour, linewidth=1)
            axes.plot(value, place, "o", color=colour, markersize=3.5)
    size.set_xscale("log")
    ticks = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10]
    low, high = np.nanmin(rows[["enrichment", "enrichment_low"]]), np.nanmax(rows[["enrichment", "enrichment_high"]])
    size.set_xlim(min(low / 1.1, 0.65), max(high * 1.1, 1.6))
    style.plain_ticks(size.xaxis, ticks)
    size.axvline(1, color=style.BLACK, linewidth=0.8)
    size.set_yticks(range(len(rows)), [_structure_name(row) for row in rows.itertuples()])
    size.set_ylim(len(rows) - 0.5, -0.5)
    size.set_xlabel("share of |map| over share of area")
    size.set_title("less ← than by area → more")
    signed.axvline(0, color=style.BLACK, linewidth=0.8)
    signed.set_xlabel("signed share / share of |map|")
    signed.set_xlim(-1.05, 1.05)
    signed.set_title("negative ← map → positive")
    for axes in (size, signed):
        axes.grid(True, axis="both", linewidth=0.3, color="#DDDDDD")
    handles = [
        size.plot([], [], "o", color=colour, label=label)[0]
        for verdict, (colour, label) in LIES_THERE.items()
        if (rows["lies_there"] == verdict).any()
    ]
    images = int(rows["n"].max())
    title = f"{title + ': ' if title else ''}mean of n = {images} image{'s' if images > 1 else ''}"
    title += ", bar: 95 % interval" if rows["enrichment_low"].notna().any() else ", too few for an interval"
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=title, title_fontsize=8)
    style.note_data(figure, data)
    return figure


def _structures(summary: pd.DataFrame) -> pd.DataFrame:
    """Discs from 2.00 mm down, then grid, writing, background, as far as they occur."""
    order = {name: number for number, name in enumerate(("disc", "grid", "writing", "background"))}
    place = summary["structure"].map(order) * 100 - summary["diameter_mm"].fillna(0)
    return summary.loc[place.sort_values(kind="stable").index]


def _structure_name(row) -> str:
    return f"disc {row.diameter_mm:.2f} mm" if row.structure == "disc" else row.structure


@style.styled
def plot_upsampling_designs(designs: pd.DataFrame, data: str = "simulated") -> Figure:
    """Relative error of an upsampled map between repeats, drawn with and without replacement, at equal cost.

    Args:
        designs: rows of upsampling_designs.csv (method, draws, without_replacement, relative_error_between_repeats).
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(4.4, 2.8)
    axes = figure.subplots()
    looks = {
        False: ("with replacement", {"marker": "s", "color": style.VERMILION, "markerfacecolor": "white"}),
        True: ("without replacement", {"marker": "o", "color": style.BLUE}),
    }
    for way, (name, look) in looks.items():
        part = designs[designs["without_replacement"].astype(bool) == way]
        error = 100 * part["relative_error_between_repeats"]
        axes.plot(part["draws"], error, linestyle="none", markersize=5, label=name, **look)
        for draws, value in zip(part["draws"], error, strict=True):
            axes.annotate(
                f"{value:.0f} %", (draws, value), xytext=(6 if way else -6, 0), textcoords="offset points", va="center",
                ha="left" if way else "right", color=look["color"], fontsize=7,
            )  # fmt: skip
    axes.set(xscale="log", xlabel="draws", ylabel="relative error between repeats (%)")
    style.plain_ticks(axes.xaxis, sorted(designs["draws"].unique()))
    axes.margins(x=0.35, y=0.3)
    axes.set_ylim(bottom=0)
    method = method_name(designs["method"].iloc[0])
    axes.legend(title=f"{method}, two independent maps each", loc="lower left")
    style.note_data(figure, data)
    return figure
