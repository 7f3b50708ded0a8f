"""What all figures share: size, type, colours that colour-blind readers can tell apart, names, reduction of images."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from xiqa.figures.blocks import block_mean
from xiqa.names import GROUP_NAMES

SINGLE_COLUMN, DOUBLE_COLUMN = 3.5, 7.2
"""Widths of a journal's column and page in inches."""

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#777777"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)

COUNTS_MAP, SIGNED_MAP, AMOUNT_MAP = "gray", "RdBu_r", "cividis"
"""Colour maps of counts, of signed maps (red positive, blue negative, as in Amanova 2022) and of amounts."""

GROUP_COLOURS = {
    "scenario_1": BLUE,
    "scenario_2": SKY,
    "scenario_3": GREEN,
    "scenario_4": VERMILION,
    "scenario_1_3": GREY,
    "ood": PURPLE,
    "recorded_standin": ORANGE,
    "recorded": BLACK,
}
GROUP_MARKERS = dict(zip(GROUP_NAMES, "osD^hvXP", strict=True))
DATA_NOTES = {
    "simulated": "simulated images",
    "recorded": "recorded images",
    "real": "real images",
    "mixed": "simulated and real images",
}
_SETTINGS = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "svg.hashsalt": "xiqa",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a drawing function so that it draws in the house style, whatever the caller's settings are."""

    @functools.wraps(draw)
    def drawn(*args, **options) -> Figure:
        with rc_context({"axes.prop_cycle": "cycler('color', %r)" % list(CYCLE), **_SETTINGS}):  # noqa: UP031
            return draw(*args, **options)

    return drawn


class NotebookFigure(Figure):
    """A figure that a notebook shows even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def new_figure(width: float = DOUBLE_COLUMN, height: float = 3.0) -> NotebookFigure:
    """A figure of its own (no global pyplot state), in inches."""
    return NotebookFigure(figsize=(width, height), layout="constrained")


def note_data(figure: Figure, data: str) -> None:
    """Say below the figure whether its images are simulated or real.

    Its place is that of `Figure.supxlabel`: a figure that has a label for all its panels puts it elsewhere.

    Args:
        figure: the figure, drawn.
        data: `simulated`, `recorded`, `real` or `mixed`.

    Raises:
        ValueError: data is none of them.
    """
    if data not in DATA_NOTES:
        raise ValueError(f"data: found '{data}', expected one of {sorted(DATA_NOTES)}")
    figure.supxlabel(DATA_NOTES[data], fontsize=6.5, color=GREY, x=0.995, ha="right")


def note_seed(figure: Figure, seed: int, number: int) -> None:
    """Add to the note of `note_data` which of several seeds or folds a figure shows."""
    if number > 1:
        text = f"{figure.get_supxlabel()}, seed or fold {seed}, the first of {number}"
        figure.supxlabel(text, fontsize=6.5, color=GREY, x=0.995, ha="right")


def group_look(group: str) -> dict:
    """Colour and marker of a test group."""
    return {"color": GROUP_COLOURS.get(group, GREY), "marker": GROUP_MARKERS.get(group, "o")}


SHOWN_GROUPS = ("recorded", "recorded_standin", "scenario_1", "ood")
"""The groups whose first images stand for all in figures 1 to 3."""


def data_of(rows: Sequence[str]) -> str:
    """What rows of the column `data` are together: `simulated`, `recorded`, or `mixed`."""
    kinds = set(rows)
    return kinds.pop() if len(kinds) == 1 else "mixed"


def groups_in_order(found: Sequence[str]) -> list[str]:
    """The groups that occur, in the order of the paper; unknown ones at the end."""
    unique = list(dict.fromkeys(found))
    return [g for g in GROUP_NAMES if g in unique] + [g for g in unique if g not in GROUP_NAMES]


def reduction(shape: Sequence[int], pixels: int = 900) -> int:
    """Factor by which an image is reduced so that its longer side has about `pixels` pixels."""
    return max(1, round(max(shape) / pixels))


def signed_limit(values: np.ndarray, percentile: float = 99.5) -> float:
    """Robust symmetric limit of a signed map: a percentile of |values|, so that a few outliers do not hide the rest.

    Falls back to the largest value where the percentile is 0 (sparse maps), and to 1 for a map of zeros.
    """
    size = np.abs(values[np.isfinite(values)])
    limit = float(np.percentile(size, percentile)) if size.size else 0.0
    return limit or (float(size.max()) if size.size else 0.0) or 1.0


def robust_limits(values: np.ndarray, low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """Percentiles of an image that serve as black and white; never equal."""
    bottom, top = np.nanpercentile(values, [low, high])
    return float(bottom), float(top) if top > bottom else float(bottom) + 1.0


def show_image(
    axes: Axes, image: np.ndarray, pixel_mm: float | None = None, *, colours: str = COUNTS_MAP,
    limits: tuple[float, float] | None = None, origin_mm: tuple[float, float] = (0.0, 0.0), pixels: int = 900,
) -> ScalarMappable:  # fmt: skip
    """Show an image, reduced by block means to what a page can show, with axes in mm or in pixels.

    Args:
        axes: where.
        image: (h, w).
        pixel_mm: pixel size; None leaves the axes in pixels of the image.
        colours: name of the colour map.
        limits: values of its ends, robust limits of the reduced image where None.
        origin_mm: x and y of the image's upper left corner in the axes' unit.
        pixels: the longer side is reduced to about this.

    Returns:
        What a colour bar needs.
    """
    factor = reduction(image.shape, pixels)
    reduced = block_mean(image, factor)
    size = pixel_mm or 1.0
    left, top = origin_mm
    right, bottom = left + reduced.shape[1] * factor * size, top + reduced.shape[0] * factor * size
    low, high = limits or robust_limits(reduced)
    axes.set_facecolor("#CCCCCC")
    shown = axes.imshow(
        reduced, cmap=colours, norm=Normalize(low, high), extent=(left, right, bottom, top), aspect="equal",
        interpolation="antialiased",
    )  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(True)
    unit = "pixel" if pixel_mm is None else "mm"
    axes.set(xlabel=f"x ({unit})", ylabel=f"y ({unit})")
    return shown


def colour_bar(axes: Axes | Sequence[Axes], shown: ScalarMappable, label: str, *, ticks: int = 5, **options) -> None:
    """A colour bar beside one or more axes of a figure; its ends are pointed, because most limits are robust.

    An upright one has `ticks` steps at most.
    """
    first = axes if isinstance(axes, Axes) else axes[0]
    options = {"shrink": 0.85, "pad": 0.02, "extend": "both"} | options
    bar = first.figure.colorbar(shown, ax=axes, label=label, **options)
    upright = bar.orientation == "vertical"
    bar.locator = MaxNLocator(ticks if upright else 3, steps=[1, 2, 5, 10])
    if upright:
        bar.formatter.set_powerlimits((-2, 4))
    else:
        # A power of ten beside a horizontal bar would lie on its label.
        bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.update_ticks()
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=6.5)


def detail_axes(axes: Axes, diameters_mm: Sequence[float] | None = None) -> None:
    """Logarithmic axes of a contrast-detail diagram: disc diameter (by default 0.08 ... 1.00 mm), threshold in µm."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = (0.08, 0.13, 0.2, 0.31, 0.5, 0.8, 1.0) if diameters_mm is None else diameters_mm
    plain_ticks(axes.xaxis, (0.08, 0.13, 0.2, 0.31, 0.5, 0.8) if diameters_mm is None else diameters_mm)
    plain_ticks(axes.yaxis, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5))
    axes.set_xlim(0.875 * min(shown), 1.15 * max(shown))
    axes.set_xlabel("disc diameter (mm)")
    axes.set_ylabel("threshold gold thickness (µm)")
    axes.grid(True, which="major", linewidth=0.3, color="#DDDDDD")


def plain_ticks(axis, ticks: Sequence[float]) -> None:
    """Ticks at given places, written as plain numbers."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
