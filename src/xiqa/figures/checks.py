"""Pictures of the checks: modified images (figure 13), structure share, convergence of the upsampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.figures.prediction import Limits, draw_limits
from xiqa.metrics.statistics import bootstrap_ci, wilson_interval

FORM_NAMES = {
    "published": "published form",
    "visit_normalised": "visit-normalised",
    "permuted": "pixels permuted",
}
STRUCTURE_NAMES = {"grid": "grid", "writing": "writing", "background": "background"}


@style.styled
def plot_modified_curves(
    diameters_mm: Sequence[float],
    before_um: Mapping[str, np.ndarray],
    after_um: Mapping[str, np.ndarray],
    limits: Limits | None = None,
    data: str = "simulated",
) -> Figure:
    """Predicted curves of the original (dashed) and of the modified image (solid).

    Args:
        diameters_mm: (12,).
        before_um: image title -> (12,) prediction for the original.
        after_um: image title -> (12,) prediction for original + map.
        limits: limiting curves, or None.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 13 of paper 000.
    """
    figure = style.new_figure(4.6, 3.6)
    axes = figure.subplots()
    for colour, (title, before) in zip(style.CYCLE * len(before_um), before_um.items(), strict=False):
        axes.plot(diameters_mm, before, color=colour, linestyle="--")
        axes.plot(diameters_mm, after_um[title], color=colour, label=title)
        axes.fill_between(diameters_mm, before, after_um[title], color=colour, alpha=0.12, linewidth=0)
    axes.plot([], [], color=style.GREY, linestyle="--", label="original")
    axes.plot([], [], color=style.GREY, label="original + map")
    if limits:
        draw_limits(axes, limits)
    style.detail_axes(axes)
    axes.legend(loc="upper right")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_modified_midpoints(modified: pd.DataFrame, data: str = "simulated") -> Figure:
    """Midpoint of the predicted curve before and after the map was added to the image, for each form of the map.

    Left the pairs, right the relative change per image with its median; below zero the predicted quality rose. The
    share of lowered images is given with its Wilson interval (95 %).

    Args:
        modified: rows of modified_image.csv (image, group, method, form, midpoint_before_um, midpoint_after_um).
        data: `simulated`, `recorded` or `mixed`.
    """
    kinds = list(modified.groupby(["method", "form"], sort=False).groups)
    labels = [_form_label(method, form) for method, form in kinds]
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.55 * len(kinds) + 1.2)
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
            marked.setdefault(style.group_name(group), dot)
        changes.plot([np.median(change)] * 2, [place - 0.3, place + 0.3], color=style.BLACK, linewidth=1.6)
        lowered = int((change < 0).sum())
        low, high = (100 * end for end in wilson_interval(lowered, len(change)))
        note = f"lowered {lowered} of {len(change)}\n({low:.0f}-{high:.0f} %)"
        changes.text(1.01, place, note, transform=changes.get_yaxis_transform(), fontsize=6.5, va="center")
    pairs.set_yticks(range(len(kinds)), [label.replace(", ", ",\n") for label in labels])
    pairs.set_ylim(len(kinds) - 0.5, -0.5)
    pairs.set_xlabel("midpoint of the predicted curve (µm)")
    pairs.set_title("original (upper end) → modified (dot)")
    changes.axvline(0, color=style.GREY, linewidth=0.8)
    # Forms differ by two orders of magnitude: the published one keeps a 1/136 of the map.
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
    return f"{style.method_name(method)}, {FORM_NAMES.get(form, form.replace('_', ' '))}"


def _symlog_ticks(largest: float) -> list[float]:
    sizes = [size for size in (1, 3, 10, 30, 100, 300) if size <= 1.5 * largest]
    if largest <= 1:
        sizes = [size for size in (0.01, 0.1, 1) if size <= 1.5 * largest]
    return [-size for size in reversed(sizes)] + [0, *sizes]


@style.styled
def plot_structure_share(
    shares: pd.DataFrame, draws: int = 2000, seed: int = 0, title: str = "", data: str = "simulated"
) -> Figure:
    """How much of a map lies on each structure of the phantom, against the share expected from area alone.

    Left the share of |map| (filled) and the share of area (open); right the signed share divided by the share of |map|:
    +1 where a map is positive on all of a structure, -1 where it is negative, near 0 where it is noise. Dots are means
    over images; bars are 95 % bootstrap intervals over images, where there are at least two.

    Args:
        shares: rows of structure_share.csv of one method (image, structure, diameter_mm, share_abs, share_signed,
            share_area); discs have structure `disc` and their diameter.
        draws: bootstrap draws.
        seed: seed of the bootstrap.
        title: written above, such as method and group.
        data: `simulated`, `recorded` or `mixed`.
    """
    rows = _structures(shares.dropna(subset=["share_abs"]))
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.17 * len(rows) + 1.3)
    size, signed = figure.subplots(1, 2, sharey=True, width_ratios=(1.4, 1))
    for place, (_, table) in enumerate(rows):
        area, share = table["share_area"].mean(), table["share_abs"].to_numpy()
        low, high = bootstrap_ci(share, draws=draws, seed=seed)
        # Both comparisons are False where a single image leaves no interval (NaN).
        colour = style.VERMILION if low > area else style.BLUE if high < area else style.GREY
        _dot(size, place, share, (low, high), colour)
        size.plot(area, place, "o", color=style.BLACK, markerfacecolor="none", markersize=5.5, markeredgewidth=0.8)
        balance = (table["share_signed"] / table["share_abs"]).dropna().to_numpy()
        _dot(signed, place, balance, bootstrap_ci(balance, draws=draws, seed=seed), style.BLACK)
    size.set_xscale("log")
    size.set_yticks(range(len(rows)), [label for label, _ in rows])
    size.set_ylim(len(rows) - 0.5, -0.5)
    size.set_xlabel("share of |map|, share of area")
    size.grid(True, axis="both", linewidth=0.3, color="#DDDDDD")
    signed.axvline(0, color=style.GREY, linewidth=0.8)
    signed.set_xlabel("signed share / share of |map|")
    signed.grid(True, axis="both", linewidth=0.3, color="#DDDDDD")
    signed.set_xlim(-1.05, 1.05)
    signed.set_title("negative ← map → positive")
    handles = [
        size.plot([], [], "o", color=style.VERMILION, label="more than its area")[0],
        size.plot([], [], "o", color=style.BLUE, label="less than its area")[0],
        size.plot([], [], "o", color=style.GREY, label="not told apart")[0],
        size.plot([], [], "o", color=style.BLACK, markerfacecolor="none", label="share of area")[0],
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, title=title, title_fontsize=8)
    style.note_data(figure, data)
    return figure


def _structures(shares: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(label, rows) of the discs from 2.00 mm down, then grid, writing, background, as far as they occur."""
    discs = shares[shares["structure"] == "disc"]
    found = [
        (f"disc {diameter:.2f} mm", discs[discs["diameter_mm"] == diameter])
        for diameter in sorted(discs["diameter_mm"].unique(), reverse=True)
    ]
    for structure, name in STRUCTURE_NAMES.items():
        table = shares[shares["structure"] == structure]
        if len(table):
            found.append((name, table))
    return found


def _dot(axes: Axes, place: int, values: np.ndarray, interval: tuple[float, float], colour: str) -> None:
    """The mean over images as a dot, its interval as a bar; nothing where there is no value."""
    if len(values):
        axes.plot(interval, [place, place], color=colour, linewidth=1)
        axes.plot(values.mean(), place, "o", color=colour, markersize=3.5)


@style.styled
def plot_upsampling_convergence(convergence: pd.DataFrame, data: str = "simulated") -> Figure:
    """Relative standard error of an upsampled map against the number of draws.

    Args:
        convergence: rows of upsampling.csv (method, draws, relative_standard_error) and, where both ways were run,
            the column `without_replacement` (bool).
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(4.4, 3.0)
    axes = figure.subplots()
    table = convergence if "without_replacement" in convergence else convergence.assign(without_replacement=False)
    both = table["without_replacement"].nunique() > 1
    for colour, (method, rows) in zip(style.CYCLE * 3, table.groupby("method", sort=False), strict=False):
        for without, part in rows.groupby("without_replacement"):
            part = part.sort_values("draws")
            way = (", without replacement" if without else ", with replacement") if both else ""
            look = {"linestyle": "-", "marker": "o"} if without or not both else {"linestyle": "--", "marker": "s"}
            axes.plot(
                part["draws"], 100 * part["relative_standard_error"], color=colour, markersize=3,
                label=style.method_name(method) + way, **look,
            )  # fmt: skip
    first = table.sort_values("draws").iloc[0]
    draws = np.geomspace(table["draws"].min(), table["draws"].max(), 20)
    # Drawn below the data: only its slope matters.
    reference = 60 * first["relative_standard_error"] * np.sqrt(first["draws"] / draws)
    axes.plot(draws, reference, color=style.GREY, linewidth=0.8, linestyle=":", label="∝ 1/√draws")
    axes.set(xscale="log", yscale="log", xlabel="draws", ylabel="relative standard error of the map (%)")
    style.plain_ticks(axes.xaxis, sorted(table["draws"].unique()))
    style.plain_ticks(axes.yaxis, (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 500))
    axes.legend()
    style.note_data(figure, data)
    return figure
