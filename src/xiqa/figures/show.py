"""`show`: saliency maps beside their images, for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xiqa.arrays import as_array
from xiqa.figures import style
from xiqa.names import method_name

PANEL_INCH = 1.7
LINES = ((style.BLACK, 1.8), ("white", 0.8))
"""Outlines are white on black: seen on every colour map and on every image."""


@style.styled
def show(
    maps: Any,
    images: Any,
    *,
    masks: Any = None,
    boxes: Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    opacity: float = 1.0,
    colour_map: str | Colormap | None = None,
    percentile: float = 99.5,
) -> Figure:
    """Draw images and their saliency maps: a row per image, a column per method, a colour bar below each.

    All maps of a method have one scale. Where some are negative it is symmetric around 0, red above and blue below;
    else it begins at 0, or at the smallest values where these are more than half of the largest. It ends at a
    percentile of |values|; the bar is pointed where values lie beyond. Pixels that are not finite are hatched, and a
    map of one value is called constant.

    Args:
        maps: (n, h, w), or method -> (n, h, w): arrays or tensors; or a single map (h, w).
        images: (n, h, w), (n, c, h, w) or (n, h, w, 3), of any range; with a single map without n. Three channels are
            shown in colour, other numbers of channels by their mean; what lies beyond the 0.5th and the 99.5th
            percentile of an image is clipped, but colours in 0 to 1 (integers: 0 to 255) are shown as they are.
        masks: (n, h, w), outlined where they are not 0.
        boxes: n times (k, 4): x_min, y_min, x_max, y_max in pixels, end-exclusive, outlined.
        titles: n texts beside the rows.
        opacity: of the maps, 0 to 1; below 1 they lie on the image in grey, and the colours no longer those of the bar.
        colour_map: of all maps; None: "RdBu_r" for signed maps, "cividis" for the others, both for all eyes.
        percentile: of |values| of a method, where its scale ends; 100: the largest.

    Returns:
        A figure of its own: pyplot and the settings of matplotlib stay as they are, and no display is needed.

    Raises:
        ValueError: shapes that do not belong together; opacity or percentile out of range.
    """
    if not 0 <= opacity <= 1 or not 0 < percentile <= 100:
        raise ValueError(
            f"found opacity {opacity} and percentile {percentile}, expected 0 to 1, and above 0 to at most 100"
        )
    named = _named_maps(maps)
    single = next(iter(named.values())).ndim == 2
    named = {name: one[None] if single else one for name, one in named.items()}
    shape = next(iter(named.values())).shape
    shown = [_display(one) for one in _channels_last(images, shape, single)]
    outlined = np.zeros(shape, bool) if masks is None else np.asarray(as_array(masks)) != 0
    outlined = outlined[None] if single and outlined.ndim == 2 else outlined
    for what, found in (*((f"maps of {name}", one.shape) for name, one in named.items()), ("masks", outlined.shape)):
        if found != shape:
            raise ValueError(f"{what}: found {found}, expected {shape}, as the first maps")
    places = [_corners(one) for one in _one_each("boxes", boxes, shape[0], np.empty(0))]
    titles = _one_each("titles", titles, shape[0], "")

    aspect = min(2.5, max(0.4, shape[1] / shape[2]))
    height = shape[0] * (PANEL_INCH * aspect + 0.1) + 0.9
    figure = style.new_figure((1 + len(named)) * PANEL_INCH + 0.3, height)
    heights = {"height_ratios": [*[1] * shape[0], 0.08 / aspect]}
    grid = figure.subplots(shape[0] + 1, 1 + len(named), squeeze=False, gridspec_kw=heights)
    panels, bars = grid[:-1], grid[-1, 1:]
    grid[-1, 0].set_axis_off()
    panels[0, 0].set_title("image")
    for panel, picture, title in zip(panels[:, 0], shown, titles, strict=True):
        _draw_image(panel, picture)
        panel.set_ylabel(fill(title, 24))
    for column, bar, (name, of_method) in zip(panels.T[1:], bars, named.items(), strict=True):
        column[0].set_title(fill(method_name(name), 22) if name else "map")
        _draw_column(column, bar, shown, of_method, _scale(of_method, percentile, colour_map), opacity)
    for row, mask, corners in zip(panels, outlined, places, strict=True):
        for panel in row:
            _outline(panel, mask, corners)
            panel.set(xticks=[], yticks=[], xlim=(-0.5, shape[2] - 0.5), ylim=(shape[1] - 0.5, -0.5))
            panel.spines[:].set_visible(True)
    return figure


def _draw_column(
    column: np.ndarray, bar: Axes, shown: list[np.ndarray], maps: np.ndarray, scale: ScalarMappable, opacity: float
) -> None:
    """The maps of one method (n, h, w) on their images, and the bar of their scale below."""
    for panel, picture, one in zip(column, shown, maps, strict=True):
        if opacity < 1:
            _draw_image(panel, picture if picture.ndim == 2 else picture.mean(-1))
        _draw_map(panel, one, scale, opacity)
    low, high = scale.get_clim()
    finite = maps[np.isfinite(maps)]
    beyond = (bool((finite < low).any()), bool((finite > high).any()))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    style.colour_bar(bar, scale, "value of the map", cax=bar, orientation="horizontal", extend=extend)


def _named_maps(maps: Any) -> dict[str, np.ndarray]:
    """Maps as float64 by method; without a method the name is empty."""
    named = maps if isinstance(maps, Mapping) else {"": maps}
    if not named:
        raise ValueError("maps: found none, expected (n, h, w) or method -> (n, h, w)")
    found = {name: np.asarray(as_array(one)) for name, one in named.items()}
    for name, one in found.items():
        if one.ndim not in (2, 3) or not one.size or one.dtype.kind not in "biuf":
            hint = "; sum over channels first" if one.ndim == 4 else ""
            raise ValueError(f"maps {name}: found {one.shape} of {one.dtype}, expected numbers (n, h, w){hint}")
    return {name: one.astype(np.float64) for name, one in found.items()}


def _one_each(what: str, given: Sequence[Any] | None, images: int, default: Any) -> Sequence[Any]:
    if given is None:
        return [default] * images
    if isinstance(given, str) or len(given) != images:
        found = f"'{given}'" if isinstance(given, str) else len(given)
        raise ValueError(f"{what}: found {found}, expected a list of {images}, one for each image")
    return given


def _corners(boxes: Any) -> np.ndarray:
    """The boxes of an image, (k, 4)."""
    found = np.asarray(as_array(boxes), np.float64)
    if found.size and (found.ndim > 2 or found.shape[-1] != 4):
        raise ValueError(f"boxes: found {found.shape} for an image, expected (k, 4): x_min, y_min, x_max, y_max")
    return found.reshape(-1, 4)


def _channels_last(images: Any, shape: tuple[int, ...], single: bool) -> np.ndarray:
    """Images as (n, h, w, c) for maps of a shape (n, h, w)."""
    found = np.asarray(as_array(images))
    laid = found[None] if single and found.ndim < 4 else found
    if laid.ndim == 4 and laid.shape[2:] == shape[1:]:
        laid = np.moveaxis(laid, 1, -1)
    elif laid.ndim == 3:
        laid = laid[..., None]
    if laid.ndim != 4 or laid.shape[:3] != shape or laid.shape[3] < 1 or laid.dtype.kind not in "biuf":
        raise ValueError(
            f"images: found {found.shape} of {found.dtype}, expected as many and as large ones as the maps {shape}: "
            "(n, h, w), (n, c, h, w) or (n, h, w, 3)"
        )
    return laid


def _display(image: np.ndarray) -> np.ndarray:
    """What matplotlib shows of an image (h, w, c), 0 to 1: grey (h, w) or colours (h, w, 3)."""
    values = image.astype(np.float64)
    if image.shape[-1] == 3 and np.isfinite(values).any():
        largest = 255 if image.dtype.kind in "iu" else 1
        if np.nanmin(values) >= 0 and np.nanmax(values) <= largest:
            return np.nan_to_num(values / largest)
    else:
        values = values.mean(-1)
    values[~np.isfinite(values)] = np.nan
    low, high = style.robust_limits(values) if np.isfinite(values).any() else (0, 1)
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return np.nan_to_num(scaled) if scaled.ndim == 3 else scaled


def _scale(maps: np.ndarray, percentile: float, colour_map: str | Colormap | None) -> ScalarMappable:
    """Colours and limits of the maps of a method."""
    limit = style.signed_limit(maps, percentile)
    finite = maps[np.isfinite(maps)]
    # Rounding below 0 does not make a map signed.
    signed = bool((finite < -1e-6 * limit).any())
    low = -limit if signed else float(np.percentile(finite, 100 - percentile)) if finite.size else 0.0
    low = low if signed or limit / 2 < low < limit else 0.0
    colours = colour_map or (style.SIGNED_MAP if signed else style.AMOUNT_MAP)
    colours = colormaps[colours] if isinstance(colours, str) else colours
    return ScalarMappable(Normalize(low, limit), colours.with_extremes(bad="#DDDDDD"))


def _draw_image(panel: Axes, image: np.ndarray) -> None:
    panel.imshow(image, cmap=style.COUNTS_MAP, vmin=0, vmax=1, interpolation="antialiased")


def _draw_map(panel: Axes, one: np.ndarray, scale: ScalarMappable, opacity: float) -> None:
    """A map (h, w), with what keeps it from being one: values that are not finite, or that do not differ."""
    lost = ~np.isfinite(one)
    values = np.ma.masked_array(one, lost)
    panel.imshow(values, cmap=scale.cmap, norm=scale.norm, alpha=opacity, interpolation="antialiased")
    if lost.any():
        # Contours rather than one rectangle per pixel, which would be finer than any hatch.
        hatched = panel.contourf(*_padded(lost, mode="edge"), [0.5, 1.5], colors="none", hatches=["////"])
        hatched.set(edgecolor=style.GREY, linewidth=0)
        _label(panel, "not finite" if lost.all() else f"not finite: {lost.sum()} pixels")
    elif one.min() == one.max():
        _label(panel, "constant")


def _label(panel: Axes, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": style.GREY, "linewidth": 0.5}
    panel.text(0.5, 0.06, text, transform=panel.transAxes, ha="center", va="bottom", fontsize=7, bbox=box)


def _padded(mask: np.ndarray, mode: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, rows and values of a mask (h, w) and one pixel more on each side: its contours reach the border."""
    height, width = mask.shape
    return np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(mask, 1, mode).astype(float)


def _outline(panel: Axes, mask: np.ndarray, boxes: np.ndarray) -> None:
    """Outline a mask (h, w) and boxes (k, 4)."""
    for colour, width in LINES:
        if mask.any():
            panel.contour(*_padded(mask, "constant"), [0.5], colors=colour, linewidths=width)
        for left, top, right, bottom in boxes:
            place = (left - 0.5, top - 0.5), right - left, bottom - top
            panel.add_patch(Rectangle(*place, fill=False, edgecolor=colour, linewidth=width))
