"""Pictures of CDMAM images: sampled test images (figure 1), the phantom (figure 8), an image with margin (figure 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from xiqa.cdmam.phantom import (
    CELL_PRESENT,
    CORNER_CODES,
    DIAMETERS_MM,
    THICKNESSES_UM,
    Geometry,
    cell_centres_mm,
    disc_centres_mm,
    matrix_box_mm,
)
from xiqa.figures import style
from xiqa.figures.saliency_maps import SHARED_LABEL, draw_map_row


@style.styled
def plot_sampled_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    fields_mm: Sequence[tuple[float, float]] | None = None,
    data: str = "simulated",
) -> Figure:
    """Sampled test images side by side, as the network sees them.

    Args:
        images: (s, s) counts before normalisation.
        titles: one per image.
        fields_mm: height and width in mm of the original images, which a sampled image shows not to scale.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 1 of Amanova 2022.
    """
    n = len(images)
    figure = style.new_figure(min(style.DOUBLE_COLUMN, 2.6 * n), 2.9)
    for index, (axes, image, title) in enumerate(zip(_row(figure, n), images, titles, strict=True)):
        shown = style.show_image(axes, image)
        style.colour_bar(axes, shown, "counts", orientation="horizontal", pad=0.04)
        field = f"\noriginal {fields_mm[index][1]:.0f} × {fields_mm[index][0]:.0f} mm" if fields_mm else ""
        axes.set_title(f"({chr(97 + index)}) {title}{field}")
        axes.set_xlabel("sampled column")
        axes.set_ylabel("sampled row" if index == 0 else "")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_phantom(
    counts: np.ndarray,
    pixel_mm: float,
    geometry: Geometry,
    margin_mm: float = 0.0,
    cell: tuple[int, int] = (3, 10),
    data: str = "simulated",
) -> Figure:
    """The phantom with its diameters and thicknesses, and one cell enlarged with its two discs.

    Args:
        counts: (h, w) of an image without tilt.
        pixel_mm: pixel size.
        geometry: where cells and discs lie.
        margin_mm: margin on each side of the matrix's bounding box.
        cell: diameter and thickness index of the enlarged cell.
        data: `simulated`, `recorded` or `mixed`.

    Raises:
        ValueError: the phantom has no such cell.

    Reference: Figure 8 of Amanova 2022.
    """
    if not CELL_PRESENT[cell]:
        raise ValueError(f"cell: found {cell}, expected indices of one of the phantom's 205 cells")
    x_min, y_min, _, _ = matrix_box_mm(geometry)
    centre_mm = (margin_mm - x_min, margin_mm - y_min)
    figure = style.new_figure(style.DOUBLE_COLUMN, 5.2)
    whole, zoom = figure.subplots(1, 2, width_ratios=(1.15, 1))
    shown = style.show_image(whole, counts, pixel_mm, pixels=1200)
    style.colour_bar(whole, shown, "counts", orientation="horizontal", shrink=0.6)
    # Without a margin the labels of the outermost cells lie outside the image.
    beyond = 1.75 * geometry.detector_pitch_mm
    whole.set(xlim=(-beyond, counts.shape[1] * pixel_mm + beyond), ylim=(counts.shape[0] * pixel_mm + beyond, -beyond))
    whole.set_facecolor("white")
    centres = cell_centres_mm(geometry) + np.asarray(centre_mm)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
    text = {"fontsize": 6, "ha": "center", "va": "center", "bbox": box}
    # A diameter is written beside the thinnest cell of its row, a thickness beside the largest disc of its column, far
    # enough out to leave the phantom's own writing free. Both lack their first cell in common: it counts here.
    first = CELL_PRESENT.copy()
    first[0, 0] = True
    for i, diameter in enumerate(DIAMETERS_MM):
        j = int(np.argmax(first[i]))
        place = centres[i, j] - 1.3 * (centres[0, 1] - centres[0, 0])
        whole.text(*place, f"{diameter:.2f}", color=style.BLUE, rotation=-45, **text)
    for j, thickness in enumerate(THICKNESSES_UM):
        i = int(np.argmax(first[:, j]))
        place = centres[i, j] - 1.3 * (centres[1, 0] - centres[0, 0])
        whole.text(*place, f"{thickness:.2f}", color=style.VERMILION, rotation=45, **text)
    whole.set_title("blue: disc diameter (mm)\nred: gold thickness (µm)")
    _enlarge(whole, zoom, counts, pixel_mm, centre_mm, geometry, cell)
    style.note_data(figure, data)
    return figure


def _enlarge(whole, zoom, counts, pixel_mm, centre_mm, geometry: Geometry, cell: tuple[int, int]) -> None:
    """Show one cell enlarged, with circles around its two discs and lines to the four places of the eccentric one."""
    height, width = counts.shape
    half = 0.78 * geometry.detector_pitch_mm
    x, y = cell_centres_mm(geometry)[cell] + np.asarray(centre_mm)
    left, right = (int(np.clip(round((x + side) / pixel_mm), 0, width)) for side in (-half, half))
    top, bottom = (int(np.clip(round((y + side) / pixel_mm), 0, height)) for side in (-half, half))
    cutout = counts[top:bottom, left:right]
    style.show_image(zoom, cutout, pixel_mm, origin_mm=(left * pixel_mm, top * pixel_mm))
    frame = (left * pixel_mm, top * pixel_mm), (right - left) * pixel_mm, (bottom - top) * pixel_mm
    whole.add_patch(Rectangle(*frame, fill=False, edgecolor=style.ORANGE, linewidth=1.2))
    radius = 0.5 * DIAMETERS_MM[cell[0]] * geometry.magnification + 0.25
    for place, colour, name in zip(
        disc_centres_mm(geometry)[:, cell[0], cell[1]], (style.SKY, style.ORANGE), ("central", "eccentric"), strict=True
    ):
        where = place + np.asarray(centre_mm)
        zoom.add_patch(Circle(where, radius, fill=False, edgecolor=colour, linewidth=1.2, label=f"{name} disc"))
    zoom.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    zoom.set_title(
        f"cell {DIAMETERS_MM[cell[0]]:g} mm, {THICKNESSES_UM[cell[1]]:g} µm: "
        f"eccentric disc in corner {CORNER_CODES[cell]}"
    )


@style.styled
def plot_margin_image(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    margin_mm: float,
    data: str = "simulated",
) -> Figure:
    """A sampled image with a margin around the phantom, and its maps by several methods.

    Args:
        image: (s, s) counts.
        maps: method -> (s, s) signed map.
        margin_mm: margin around the phantom's matrix.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 9 of Amanova 2022.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.2 + style.DOUBLE_COLUMN / (len(maps) + 1.6))
    axes = _row(figure, len(maps) + 1)
    shared = draw_map_row(axes, image, maps, f"margin {margin_mm:g} mm", titles=True)
    style.colour_bar(axes, shared, SHARED_LABEL, shrink=0.7)
    style.note_data(figure, data)
    return figure


def _row(figure: Figure, n: int) -> list:
    return list(figure.subplots(1, n, squeeze=False)[0])
