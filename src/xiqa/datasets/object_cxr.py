"""Reader of Object-CXR: chest X-rays (JPEG) with foreign objects outlined in CSV tables."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xiqa.config import Dataset
from xiqa.datasets.base import Box, DataError, Loaded, Record, Records
from xiqa.datasets.folder import read_rows, records
from xiqa.datasets.images import load_image
from xiqa.datasets.limits import with_rules
from xiqa.datasets.paths import inside

PARTS = {"train": "train", "dev": "validation", "test": "test"}
CLASSES = ("no object", "object")
RECTANGLE, ELLIPSE, POLYGON = KINDS = ("0", "1", "2")
SLACK_PX = 1.0
"""Annotations may overshoot the edge by this much: outlines are rounded, and count from 0 or from 1."""


class Outline(NamedTuple):
    """One annotated object: RECTANGLE or ELLIPSE with its two corners, or POLYGON; points (n, 2) as x, y."""

    kind: str
    points: np.ndarray


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List the images of `train.csv`, `dev.csv` (validation) and `test.csv`, as many of them as are there.

    Images lie in `train/`, `dev/`, `test/`, in `images/`, in `images/train/` and so on, or beside the tables. The set
    has no patient ids: each image is a group of its own ("proxy"). Its name is that of the table and of the file.

    Args:
        folder: the data folder.
        dataset: two `classes` rename "no object" and "object".

    Raises:
        DataError: no table is there, or one lacks its columns (image_name, annotation).

    Reference: the set's README, github.com/hlk-1135/object-CXR.
    """
    classes = dataset.classes or CLASSES
    tables = [folder / f"{part}.csv" for part in PARTS if (folder / f"{part}.csv").is_file()]
    if not tables:
        raise DataError(folder, "holds none of train.csv, dev.csv and test.csv; set `path` to the folder of the tables")
    listed: set[str] = set()
    for table in tables:
        rows = read_rows(table, ("image_name or image_path", "annotation"))
        yield from records(rows, partial(_record, folder, table, classes, listed))


def parse_annotation(text: str, image: str | Path) -> tuple[Outline, ...]:
    """Read an annotation: objects separated by `;`, each `T x1 y1 x2 y2 ...`.

    Args:
        text: the annotation; empty if nothing was found in the image.
        image: the image, for messages.

    Raises:
        DataError: an object is not of a known kind, has a wrong number of coordinates, or corners in wrong order.
    """
    outlines = []
    for part in filter(None, map(str.strip, text.split(";"))):
        kind, *rest = part.split()
        try:
            numbers = np.array(rest, float)
        except ValueError:
            numbers = np.array([np.nan])
        right_number = len(numbers) >= 6 and len(numbers) % 2 == 0 if kind == POLYGON else len(numbers) == 4
        if kind not in KINDS or not right_number or not np.isfinite(numbers).all():
            expected = "'0 x1 y1 x2 y2' (rectangle), '1 x1 y1 x2 y2' (ellipse) or '2 x1 y1 x2 y2 x3 y3 ...' (polygon)"
            raise DataError(image, f"found annotation '{part}', expected {expected}")
        points = numbers.reshape(-1, 2)
        if kind != POLYGON and not (points[0] < points[1]).all():
            raise DataError(image, f"found annotation '{part}' without area, expected x1 < x2 and y1 < y2")
        outlines.append(Outline(kind, points))
    return tuple(outlines)


def rasterise(outline: Outline, height: int, width: int) -> np.ndarray:
    """The pixels whose centre lies inside an outline; the centre of pixel (row, column) is (column + ½, row + ½).

    A polygon that crosses itself is filled by the even-odd rule.

    Returns:
        (height, width) bool.
    """
    from skimage.measure import grid_points_in_poly

    mask = np.zeros((height, width), bool)
    (left, top), (right, bottom) = _clipped(outline, height, width)
    columns = slice(int(left), int(np.ceil(right)))
    rows = slice(int(top), int(np.ceil(bottom)))
    x, y = np.arange(width)[columns] + 0.5, np.arange(height)[rows, None] + 0.5
    if not x.size or not y.size:
        return mask
    if outline.kind == POLYGON:
        vertices = outline.points[:, ::-1] - (y[0, 0], x[0])
        # 1 is inside; a vertex or an edge that passes through a centre has another number.
        mask[rows, columns] = grid_points_in_poly((len(y), len(x)), vertices, binarize=False) == 1
        return mask
    # Both are where a norm of the distance from the middle, in half axes, is below 1.
    (middle_x, middle_y), (half_x, half_y) = outline.points.mean(0), np.diff(outline.points, axis=0)[0] / 2
    across, down = np.abs(x - middle_x) / half_x, np.abs(y - middle_y) / half_y
    mask[rows, columns] = (np.hypot(across, down) if outline.kind == ELLIPSE else np.maximum(across, down)) < 1
    return mask


def _clipped(outline: Outline, height: int, width: int) -> np.ndarray:
    """The corners (2, 2) of the box around an outline, as x, y, cut at the edges of the image."""
    corners = np.array([outline.points.min(0), outline.points.max(0)])
    return np.clip(corners, 0, (width, height))


def _record(
    folder: Path, table: Path, classes: tuple[str, ...], listed: set[str], number: int, row: dict[str, str]
) -> Record:
    name = row.get("image_name") or row.get("image_path", "")
    if not name:
        raise DataError(table, f"row {number}: the image's name is empty, expected a file name")
    places = [f"{place}/{name}" for place in (table.stem, "images", f"images/{table.stem}", ".")]
    path = inside(folder, next((place for place in places if (folder / place).is_file()), places[0]), table)
    image = re.sub(r"[^\w.-]", "_", f"{table.stem}-{path.stem}")
    if image in listed:
        raise DataError(table, f"row {number}: '{name}' is listed again, expected one row for each image")
    listed.add(image)
    outlines = parse_annotation(row["annotation"], path)
    label = int(bool(outlines))
    return Record(
        image=image,
        patient=image,
        label=label,
        label_name=classes[label],
        files=(path,),
        load=partial(_load, path, outlines),
        grouping="proxy",
        part=PARTS[table.stem],
    )


def _load(path: Path, outlines: tuple[Outline, ...]) -> Loaded:
    loaded = load_image(path)
    height, width = loaded.pixels.shape
    mask = np.zeros((height, width), bool)
    boxes: list[Box] = []
    for number, outline in enumerate(outlines, 1):
        if (outline.points < -SLACK_PX).any() or (outline.points > np.array([width, height]) + SLACK_PX).any():
            (x_min, y_min), (x_max, y_max) = outline.points.min(0), outline.points.max(0)
            found = f"object {number} spans x {x_min:g} to {x_max:g} and y {y_min:g} to {y_max:g}"
            raise DataError(path, f"{found}, expected inside the image of {width} columns and {height} rows")
        drawn = rasterise(outline, height, width)
        if not drawn.any():
            raise DataError(path, f"object {number} covers no pixel; correct its annotation or take the row out")
        mask |= drawn
        boxes.append(tuple(_clipped(outline, height, width).ravel().tolist()))
    return replace(loaded, mask=mask, boxes=tuple(boxes))
