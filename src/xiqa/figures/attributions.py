"""Panels of saliency maps of classified images: rows are images, columns are methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.metrics.maps.trust import form_of
from xiqa.names import method_name

PER_BLOCK = 8
MASK_COLOUR = style.YELLOW


@style.styled
def plot_attributions(
    images: np.ndarray,
    masks: np.ndarray,
    maps: Mapping[str, np.ndarray],
    titles: Sequence[str],
    data: str = "simulated",
) -> Figure:
    """Images and their maps; ground truth outlined, a cross where the map points in the form in which it is judged.

    A method has one scale for all images: its robust limit, written above it. Maps with a sign are red where a
    brighter pixel speaks for the class; maps without one begin at 0.

    Args:
        images: (k, h, w).
        masks: (k, h, w) ground truth; without any pixel where there is none.
        maps: method -> (k, h, w).
        titles: (k,) written beside the images.
        data: `simulated`, `recorded` or `mixed`.

    Reference: figures 2-6 of Özer; figures 8 and 9 of Brima 2023.
    """
    names = list(maps)
    blocks = [names[start : start + PER_BLOCK] for start in range(0, len(names), PER_BLOCK)]
    columns = 1 + max(map(len, blocks))
    side = style.DOUBLE_COLUMN * 0.9 / columns
    figure = style.new_figure(style.DOUBLE_COLUMN, len(blocks) * (len(images) * side * 1.0 + 0.3) + 0.7)
    grid = figure.subplots(len(blocks) * len(images), columns, squeeze=False)
    grey = style.robust_limits(np.asarray(images, np.float32))
    for number, block in enumerate(blocks):
        for row, (image, mask, title) in enumerate(zip(images, masks, titles, strict=True)):
            panels = grid[number * len(images) + row]
            panels[0].imshow(np.asarray(image, np.float32), cmap=style.COUNTS_MAP, vmin=grey[0], vmax=grey[1])
            panels[0].set_ylabel(title, fontsize=5.5)
            for panel, name in zip(panels[1:], block, strict=False):
                signed = bool((maps[name] < 0).any())
                limit = style.signed_limit(maps[name])
                colours, low = (style.SIGNED_MAP, -1) if signed else (style.AMOUNT_MAP, 0)
                panel.imshow(maps[name][row] / limit, cmap=colours, vmin=low, vmax=1)
                y, x = np.unravel_index(np.argmax(_judged(name, maps[name][row])), image.shape)
                panel.plot(x, y, "+", color=style.BLACK if signed else style.VERMILION, markersize=5)
                if row == 0:
                    text = fill(method_name(name), 15, break_long_words=False)
                    panel.set_title(f"{text}\nlimit {limit:.2g}", fontsize=5)
            for panel in panels[: 1 + len(block)]:
                panel.set(xticks=[], yticks=[])
                if mask.any():
                    panel.contour(np.asarray(mask, float), [0.5], colors=MASK_COLOUR, linewidths=0.6)
            for panel in panels[1 + len(block) :]:
                panel.set_axis_off()
    bars = {"signed": (-1, style.SIGNED_MAP), "not signed": (0, style.AMOUNT_MAP)}
    for half, (kind, (low, colours)) in zip(np.array_split(grid[-1], 2), bars.items(), strict=True):
        shown = ScalarMappable(Normalize(low, 1), colours)
        style.colour_bar(list(half), shown, f"map / its limit ({kind})", orientation="horizontal", shrink=0.7, pad=0.08)
    style.note_data(figure, data)
    return figure


def _judged(name: str, values: np.ndarray) -> np.ndarray:
    return np.abs(values) if form_of(name) == "absolute" else values
