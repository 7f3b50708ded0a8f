"""Pictures of saliency maps: sampled (figures 3, 9, 14), upsampled with cutouts (4-7, 12), and their precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xiqa.figures import style
from xiqa.figures.blocks import block_mean
from xiqa.names import method_name

Box = tuple[float, float, float, float]
SHARED_LABEL = "map / its limit"


@dataclass(frozen=True)
class UpsampledView:
    """One row of a picture of upsampled maps.

    Args:
        title: what the row shows.
        map: (h, w) signed map at full resolution; NaN where a pixel was never visited.
        cutout_mm: (x_min, y_min, x_max, y_max) of the enlarged part, in mm from the upper left corner.
        image: (h, w) counts of the original image, or None.
        structure: (h, w) structure labels (1..16 discs), for outlines in the cutouts, or None.
    """

    title: str
    map: np.ndarray
    cutout_mm: Box
    image: np.ndarray | None = None
    structure: np.ndarray | None = None


@dataclass(frozen=True)
class UpsampledImage:
    """One row of a picture of upsampled maps of large images.

    Args:
        title: what is explained, and by which method.
        image: (h, w) prepared image.
        mask: (h, w) bool, outlined.
        map: (h, w) visit-normalised map.
        standard_error: (h', w') of the map over draws, means over blocks.
        visits: (h', w') draws that contained a pixel, means over blocks.
    """

    title: str
    image: np.ndarray
    mask: np.ndarray
    map: np.ndarray
    standard_error: np.ndarray
    visits: np.ndarray


def draw_map_row(
    axes: Sequence[Axes], image: np.ndarray | None, maps: Mapping[str, np.ndarray], label: str, titles: bool
) -> ScalarMappable:
    """Draw one image and its maps side by side, each map on the scale of its own robust limit.

    Args:
        axes: one for the image (where there is one) and one per map.
        image: (s, s) counts, or None.
        maps: method -> (s, s) signed map.
        label: written at the left.
        titles: write the methods' names above.

    Returns:
        What the shared colour bar from -1 to 1 needs.
    """
    panels = list(axes)
    if image is not None:
        style.show_image(panels[0], image)
        panels[0].set_title("sampled image" if titles else "", fontsize=7 if len(panels) < 7 else 5)
    for panel, (method, values) in zip(panels[image is not None :], maps.items(), strict=True):
        limit = style.signed_limit(values)
        style.show_image(panel, values / limit, colours=style.SIGNED_MAP, limits=(-1, 1))
        name = f"{fill(method_name(method), max(12, 80 // len(panels)), break_long_words=False)}\n" if titles else ""
        panel.set_title(f"{name}limit {limit:.2g}", fontsize=7 if len(panels) < 7 else 5)
    for panel in panels:
        panel.set(xticks=[], yticks=[], xlabel="", ylabel="")
    panels[0].set_ylabel(fill(label, 12, break_long_words=False), fontsize=7)
    return ScalarMappable(Normalize(-1, 1), style.SIGNED_MAP)


@style.styled
def plot_sampled_maps(
    maps: Mapping[str, Mapping[str, np.ndarray]],
    images: Mapping[str, np.ndarray] | None = None,
    data: str = "simulated",
) -> Figure:
    """Maps of sampled images, not upsampled: rows are images, columns are methods.

    Each map has its own scale, a robust limit that is written above it, because the methods' units differ.

    Args:
        maps: row title -> method -> (s, s) signed map.
        images: row title -> (s, s) counts, shown as the first column.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 3 of Amanova 2022.
    """
    columns = max(len(row) for row in maps.values()) + (images is not None)
    figure = style.new_figure(style.DOUBLE_COLUMN, len(maps) * style.DOUBLE_COLUMN / (columns + 0.4) * 1.08 + 0.25)
    grid = figure.subplots(len(maps), columns, squeeze=False)
    for index, (title, row) in enumerate(maps.items()):
        shared = draw_map_row(grid[index], images[title] if images else None, row, title, titles=index == 0)
    style.colour_bar(list(grid.ravel()), shared, SHARED_LABEL, shrink=0.5)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_upsampled_maps(
    views: Sequence[UpsampledView],
    pixel_mm: float,
    unit: str,
    columns: Sequence[str] = ("map", "cutout"),
    data: str = "simulated",
) -> Figure:
    """Upsampled maps: whole, with a rectangle that is shown enlarged beside it.

    For OMIG, red pixels are raised and blue ones lowered on the way to a better predicted curve. The colour bar
    belongs to the cutout; the whole view shows block means on a scale of its own, written above it.

    Args:
        views: one per row.
        pixel_mm: pixel size.
        unit: what the colour bar says, such as "Δx per visit (SD of the training images)".
        columns: some of `image` (original, whole), `map`, `cutout` (of the map), `image_cutout`, in order.
        data: `simulated`, `recorded` or `mixed`.

    Raises:
        ValueError: a cutout lies outside its map, or a column is asked for that a view has no image for.

    Reference: Figures 4-7 and 12 of Amanova 2022.
    """
    height, width = views[0].map.shape
    whole, part = width / height, _aspect(views[0].cutout_mm)
    ratios = [whole if column in ("image", "map") else part for column in columns]
    # What axis labels (0.55 inches per column) and the colour bar leave of the page is shared out.
    row_height = min(3.4, (style.DOUBLE_COLUMN - 0.55 * len(columns) - 0.8) / sum(ratios))
    figure = style.new_figure(style.DOUBLE_COLUMN, (row_height + 0.55) * len(views) + 0.15)
    grid = figure.subplots(len(views), len(columns), squeeze=False, width_ratios=ratios)
    for row, view in zip(grid, views, strict=True):
        limit = style.signed_limit(_cut(view.map, view.cutout_mm, pixel_mm)[0])
        for panel, column in zip(row, columns, strict=True):
            shown = _draw_view(panel, view, column, pixel_mm, limit)
            if column == "cutout":
                style.colour_bar(panel, shown, unit)
        row[0].set_title(f"{view.title}\n{row[0].get_title()}")
    style.note_data(figure, data)
    return figure


def _draw_view(panel: Axes, view: UpsampledView, column: str, pixel_mm: float, limit: float) -> ScalarMappable:
    """Draw one panel of a row of upsampled views."""
    is_map, is_whole = column in ("map", "cutout"), column in ("map", "image")
    source = view.map if is_map else view.image
    if source is None:
        raise ValueError(f"'{view.title}': found no image, expected one for the column '{column}'; give view.image")
    if is_whole:
        values, origin = source, (0.0, 0.0)
    else:
        values, origin = _cut(source, view.cutout_mm, pixel_mm)
    look: dict[str, Any] = {"colours": style.SIGNED_MAP, "limits": (-limit, limit)} if is_map else {}
    note = ""
    # A block mean of a map has less spread than its pixels: the whole view has its own limit, and says so.
    if is_map and is_whole:
        factor = style.reduction(values.shape)
        overview = style.signed_limit(block_mean(values, factor), 99.0)
        look["limits"] = (-overview, overview)
        note = f" (mean of {factor} × {factor} px,\nlimit {overview:.2g})" if factor > 1 else f" (limit {overview:.2g})"
    shown = style.show_image(panel, values, pixel_mm, origin_mm=origin, **look)
    if is_whole:
        x_min, y_min, x_max, y_max = view.cutout_mm
        edge = style.BLACK if is_map else style.ORANGE
        panel.add_patch(Rectangle((x_min, y_min), x_max - x_min, y_max - y_min, fill=False, edgecolor=edge))
    elif view.structure is not None:
        _outline_discs(panel, view.structure, view.cutout_mm, pixel_mm)
    names = {"image": "image", "map": "map", "cutout": "cutout of the map", "image_cutout": "cutout of the image"}
    panel.set_title(names[column] + note)
    return shown


def _outline_discs(panel: Axes, structure: np.ndarray, cutout_mm: Box, pixel_mm: float) -> None:
    """Draw thin outlines around the discs of a cutout."""
    labels, (left, top) = _cut(structure, cutout_mm, pixel_mm)
    discs = (labels >= 1) & (labels <= 16)
    if discs.any():
        x = left + (np.arange(discs.shape[1]) + 0.5) * pixel_mm
        y = top + (np.arange(discs.shape[0]) + 0.5) * pixel_mm
        panel.contour(x, y, discs, levels=[0.5], colors=style.BLACK, linewidths=0.4)


def _aspect(box: Box) -> float:
    return (box[2] - box[0]) / (box[3] - box[1])


def _cut(values: np.ndarray, box_mm: Box, pixel_mm: float) -> tuple[np.ndarray, tuple[float, float]]:
    """The part of an array inside a box in mm, and where its upper left corner lies in mm."""
    x_min, y_min, x_max, y_max = (round(side / pixel_mm) for side in box_mm)
    height, width = values.shape
    if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
        field = f"{width * pixel_mm:.1f} × {height * pixel_mm:.1f} mm"
        raise ValueError(f"cutout_mm: found {box_mm}, expected a box inside the image of {field}")
    return values[y_min:y_max, x_min:x_max], (x_min * pixel_mm, y_min * pixel_mm)


@style.styled
def plot_omig_settings(maps: Mapping[str, Mapping[tuple[float, int], np.ndarray]], data: str = "simulated") -> Figure:
    """OMIG maps of sampled images for several path lengths c and numbers of steps L.

    Args:
        maps: image title -> (c, L) -> (s, s) map; every image with the same settings.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 14 of Amanova 2022.
    """
    settings = next(iter(maps.values()))
    c_values, step_values = sorted({c for c, _ in settings}), sorted({steps for _, steps in settings})
    rows = [(title, steps) for title in maps for steps in step_values]
    side = min(1.9, style.DOUBLE_COLUMN * 0.82 / len(c_values))
    figure = style.new_figure(side * len(c_values) / 0.82, (side + 0.2) * len(rows) + 0.4)
    grid = figure.subplots(len(rows), len(c_values), squeeze=False)
    for index, (row, (title, steps)) in enumerate(zip(grid, rows, strict=True)):
        for panel, c in zip(row, c_values, strict=True):
            panel.set(xticks=[], yticks=[])
            head = f"c = {c:g}\n" if index == 0 else ""
            if (c, steps) not in maps[title]:
                panel.set_axis_off()
                panel.set_title(head.strip())
                continue
            values = maps[title][c, steps]
            limit = style.signed_limit(values)
            style.show_image(panel, values / limit, colours=style.SIGNED_MAP, limits=(-1, 1))
            panel.set(xticks=[], yticks=[], xlabel="", ylabel="")
            panel.set_title(f"{head}limit {limit:.2g}", fontsize=7)
        row[0].set_ylabel(f"{title}\nL = {steps}")
    shared = ScalarMappable(Normalize(-1, 1), style.SIGNED_MAP)
    style.colour_bar(list(grid.ravel()), shared, SHARED_LABEL, shrink=0.5)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_upsampling_quality(
    visits: np.ndarray,
    standard_error: np.ndarray,
    member_sd: np.ndarray,
    pixel_mm: float,
    unit: str,
    title: str = "",
    data: str = "simulated",
) -> Figure:
    """How well an upsampled map is known: visits, standard error over draws, disagreement of the members.

    Args:
        visits: (h, w) draws that contained each pixel.
        standard_error: (h, w) standard error of the visit-normalised map over draws.
        member_sd: (h, w) standard deviation of the members' maps.
        pixel_mm: pixel size.
        unit: unit of the last two.
        title: written above.
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 3.6)
    grid = figure.subplots(1, 3)
    labels = ("visits per pixel", f"standard error over draws\n({unit})", f"disagreement of members\n(SD, {unit})")
    for index, (panel, values, label) in enumerate(zip(grid, (visits, standard_error, member_sd), labels, strict=True)):
        reduced = block_mean(values, style.reduction(values.shape))
        limits = (0.0, float(np.nanpercentile(reduced, 99.5)) or 1.0)
        if index == 0:
            limits = style.robust_limits(values[:: style.reduction(values.shape)], 0.1, 99.9)
        shown = style.show_image(panel, values, pixel_mm, colours=style.AMOUNT_MAP, limits=limits)
        style.colour_bar(panel, shown, label, orientation="horizontal", pad=0.03)
    figure.suptitle(title, fontsize=8)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_upsampled_images(rows: Sequence[UpsampledImage], data: str = "simulated") -> Figure:
    """Upsampled maps of large images, the image and its mask at the left, how well the map is known at the right.

    Maps are drawn as means over blocks of pixels, each on the scale of its own robust limit, which is written above it.

    Args:
        rows: one per map.
        data: `simulated`, `real` or `mixed`.
    """
    side = style.DOUBLE_COLUMN / 4
    figure = style.new_figure(style.DOUBLE_COLUMN, (side + 0.3) * len(rows) + 0.3)
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for panels, row in zip(grid, rows, strict=True):
        style.show_image(panels[0], np.asarray(row.image, np.float32))
        if row.mask.any():
            panels[0].contour(row.mask, levels=[0.5], colors=style.ORANGE, linewidths=0.8)
        factor = max(2, style.reduction(row.map.shape))
        values = block_mean(row.map, factor)
        limit = style.signed_limit(values)
        shown = style.show_image(panels[1], values / limit, colours=style.SIGNED_MAP, limits=(-1, 1))
        style.colour_bar(panels[1], shown, SHARED_LABEL, shrink=0.75)
        for panel, amounts, label in (
            (panels[2], row.standard_error, "standard error over draws"), (panels[3], row.visits, "visits per pixel"),
        ):  # fmt: skip
            limits = (0.0, float(np.nanpercentile(amounts, 99.5)) or 1.0)
            style.colour_bar(
                panel, style.show_image(panel, amounts, colours=style.AMOUNT_MAP, limits=limits), label, shrink=0.75
            )
        titles = (fill(row.title, 24), f"map (mean of {factor} × {factor} px),\nlimit {limit:.2g}", "", "")
        for panel, title in zip(panels, titles, strict=True):
            panel.set(xticks=[], yticks=[], xlabel="", ylabel="")
            panel.set_title(title, fontsize=7)
    style.note_data(figure, data)
    return figure
