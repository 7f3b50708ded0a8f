"""Pictures of the data sets: examples of each class with their ground truth, rising severity, and the split."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xiqa.datasets.base import DEFECT
from xiqa.figures import style
from xiqa.figures.classification import GRID, class_look

PARTS = ("train", "validation", "test", "severity", "unused")
SEVERAL = "several"
MASK_COLOUR, BOX_COLOUR = style.YELLOW, style.SKY


@style.styled
def plot_examples(
    images: np.ndarray,
    masks: np.ndarray | None,
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    per_class: int = 5,
    seed: int = 0,
    data: str = "simulated",
) -> Figure:
    """Contact sheet: images of each class drawn at random, each of another patient, with mask contours and boxes.

    Args:
        images: (n, h, w) prepared images within 0 to 1.
        masks: (n, h, w) bool, or None.
        table: n rows of the prepared table in the same order: patient, label, and where there are any has_mask, mask_of
            and boxes (JSON, in pixels of the prepared images).
        classes: names in the order of the labels.
        per_class: images of each class at most.
        seed: seed of the choice.
        data: `simulated`, `recorded` or `mixed`.
    """
    order = np.random.default_rng(seed).permutation(len(table))
    shown = [_one_per_patient(table, order[table["label"].to_numpy()[order] == c])[:per_class] for c in _found(table)]
    counts = table["label"].value_counts()
    labels = [f"{classes[c]}\n(n = {counts[c]})" for c in _found(table)]
    return _sheet(images, masks, table, shown, labels, [], data)


@style.styled
def plot_severity_strip(
    images: np.ndarray,
    masks: np.ndarray | None,
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    data: str = "simulated",
) -> Figure:
    """One image of each class at each severity, from weak to strong: as it is, and below with its ground truth.

    Every column shows another patient, since a patient has one severity; the titles say of how many.

    Args:
        images: (n, h, w) prepared images within 0 to 1.
        masks: (n, h, w) bool, or None.
        table: n rows of the prepared table in the same order, with the column `severity`; only rows of the part
            `severity` are shown.
        classes: names in the order of the labels.
        data: `simulated`, `recorded` or `mixed`.

    Raises:
        ValueError: the table has no dose-response part.
    """
    graded = table["part"].to_numpy() == "severity"
    if not graded.any():
        raise ValueError("severity strip: found no row of the part 'severity', expected a simulated twin's table")
    severity, label = table["severity"].to_numpy(float), table["label"].to_numpy()
    levels, present = np.unique(severity[graded]), np.unique(label[graded])
    shown = [
        [int(np.argmax(found)) if (found := graded & (severity == level) & (label == c)).any() else None
         for level in levels]
        for c in present
    ]  # fmt: skip
    patients = table[graded].groupby(severity[graded])["patient"].nunique()
    titles = [f"severity {level:g}\none of {patients[level]} patients" for level in levels]
    rows, labels, outlined = [], [], []
    for numbers, c in zip(shown, present, strict=True):
        found = [number for number in numbers if number is not None]
        marked = any(_has_ground_truth(masks, table.iloc[number], number) for number in found)
        # What a contour surrounds cannot be judged: whether a reader would see it shows the image above.
        rows += [numbers] * (1 + marked)
        labels += [classes[c], *([f"{classes[c]},\noutlined"] if marked else [])]
        outlined += [False, *([True] if marked else [])]
    return _sheet(images, masks, table, rows, labels, titles, data, outlined)


@style.styled
def plot_split(table: pd.DataFrame, classes: Sequence[str], data: str = "simulated") -> Figure:
    """Patients and images of each part and class; patients with images of several classes are a bar of their own.

    Args:
        table: one row per image: patient, part, label; grouping, where it may be "proxy".
        classes: names in the order of the labels.
        data: `simulated`, `recorded` or `mixed`.
    """
    found = set(table["part"])
    parts = [part for part in PARTS if part in found] + sorted(found - set(PARTS))
    unit = "patients" if set(table.get("grouping", ["patient"])) == {"patient"} else "proxy groups (no patient ids)"
    counts = _patients(table, len(classes)), table.pivot_table("patient", "part", "label", "size")
    kinds = [*range(len(classes)), SEVERAL] if SEVERAL in counts[0] else list(range(len(classes)))
    names = [*classes, f"{unit.split()[0]} with {'both' if len(classes) == 2 else 'several'} classes"][: len(kinds)]
    looks = [class_look(c)["color"] for c in range(len(classes))] + [style.GREY]
    thickness = 0.8 / len(kinds)
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.16 * len(parts) * len(kinds) + 0.12 * len(parts) + 1.0)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, label, counted in zip(panels, (unit, "images"), counts, strict=True):
        counted = counted.reindex(index=parts, columns=kinds).fillna(0)
        for place, (kind, name) in enumerate(zip(kinds, names, strict=True)):
            if kind not in range(len(classes)) and label == "images":
                continue
            places = np.arange(len(parts)) + (place - (len(kinds) - 1) / 2) * thickness
            bars = axes.barh(places, counted[kind], 0.9 * thickness, color=looks[place], label=name)
            axes.bar_label(bars, fmt="%d", fontsize=6.5, padding=2)
        axes.set(xlabel=label, xlim=(0, 1.12 * max(counted.to_numpy().max(), 1)))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(True, axis="x", **GRID)
        axes.set_axisbelow(True)
    whole = table.groupby("part")["patient"].nunique()
    ticks = [f"{part.replace('_', ' ')}\n(n = {whole[part]})" for part in parts]
    panels[0].set_yticks(range(len(parts)), ticks)
    panels[0].set_ylim(len(parts) - 0.5, -0.5)
    panels[0].set_ylabel("part")
    torn = int((table[table["part"] != "unused"].groupby("patient")["part"].nunique() > 1).sum())
    panels[0].set_title(f"{torn or 'no'} {unit.split(' (')[0]} in more than one part", fontsize=7, loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(kinds), 5))
    style.note_data(figure, data)
    return figure


def _patients(table: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Patients by part (rows) and label (columns), each once: those with images of several classes in a column."""
    held = table.groupby(["part", "patient"])["label"].agg(["nunique", "first"]).reset_index()
    kind = held["first"].where(held["nunique"] == 1, SEVERAL)
    return held.groupby(["part", kind.rename("kind")]).size().unstack(fill_value=0)


def _found(table: pd.DataFrame) -> np.ndarray:
    return np.unique(table["label"])


def _one_per_patient(table: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    return rows[~table["patient"].iloc[rows].duplicated().to_numpy()]


def _sheet(
    images: np.ndarray,
    masks: np.ndarray | None,
    table: pd.DataFrame,
    shown: Sequence[Sequence[int | None] | np.ndarray],
    labels: Sequence[str],
    titles: Sequence[str],
    data: str,
    outlined: Sequence[bool] | None = None,
) -> Figure:
    """Images in rows (with a label each) and columns (with a title each), all on the same grey scale.

    `outlined` says of each row whether its ground truth is drawn; None: of all.
    """
    numbers = [number for row in shown for number in row if number is not None]
    black, white = style.robust_limits(np.stack([images[number] for number in numbers]).astype(np.float32))
    columns = max(len(row) for row in shown)
    width = min(style.DOUBLE_COLUMN, 1.45 * columns + 0.4)
    side = (width - 0.4) / columns * images.shape[1] / images.shape[2]
    figure = style.new_figure(width, side * len(shown) + (0.75 if titles else 0.45))
    grid = figure.subplots(len(shown), columns, squeeze=False)
    drawn: dict[str, Rectangle] = {}
    for axes, label, row, marked in zip(grid, labels, shown, outlined or [True] * len(shown), strict=True):
        axes[0].set_ylabel(label)
        for panel, number in zip(axes, [*row, *[None] * (columns - len(row))], strict=True):
            panel.set(xticks=[], yticks=[])
            if number is None:
                panel.spines[:].set_visible(False)
                continue
            panel.spines[:].set_visible(True)
            panel.imshow(np.asarray(images[number], np.float32), cmap=style.COUNTS_MAP, vmin=black, vmax=white)
            if marked:
                drawn |= _ground_truth(panel, masks, table.iloc[number], number)
    for panel, title in zip(grid[0], titles, strict=False):
        panel.set_title(title)
    if drawn:
        figure.legend(drawn.values(), drawn.keys(), loc="outside lower left", ncols=2)
    style.note_data(figure, data)
    return figure


def _has_ground_truth(masks: np.ndarray | None, row: pd.Series, number: int) -> bool:
    """Whether `_ground_truth` draws anything for an image."""
    has_mask = masks is not None and row.get("has_mask", True) and masks[number].any()
    return bool(has_mask) or bool(json.loads(row.get("boxes") or "[]"))


def _ground_truth(axes: Axes, masks: np.ndarray | None, row: pd.Series, number: int) -> dict:
    """Draw the mask's contour and the boxes of an image; what was drawn, for the legend."""
    drawn = {}
    if masks is not None and row.get("has_mask", True) and masks[number].any():
        axes.contour(masks[number].astype(float), [0.5], colors=MASK_COLOUR, linewidths=0.8)
        name = f"contour of the {row.get('mask_of', DEFECT)}"
        drawn[name] = Rectangle((0, 0), 1, 1, fill=False, edgecolor=MASK_COLOUR)
    for x_min, y_min, x_max, y_max in json.loads(row.get("boxes") or "[]"):
        # Pixel 0 reaches from -0.5 to 0.5 on the axes.
        box = Rectangle(
            (x_min - 0.5, y_min - 0.5), x_max - x_min, y_max - y_min, fill=False, edgecolor=BOX_COLOUR, linewidth=0.8
        )
        drawn["box"] = axes.add_patch(box)
    return drawn
