"""Twin of Object-CXR: simulated chest X-rays with foreign objects in the lung fields, in the set's own files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from xiqa.config import Twin
from xiqa.datasets.twins import thorax, writing
from xiqa.files import write_table
from xiqa.seeds import stream_seed

NAME = "object_cxr"
SIDE_PX = 288
"""Rows and columns of an image, unless a study asks for a finer detector."""
CLASSES = ("no object", "object")
RECTANGLE, ELLIPSE, POLYGON = 0, 1, 2
MOST_OBJECTS = 4
MOST_DISTRACTORS = 3
OPTICAL_THICKNESS = {
    "button": (0.6, 1.2),
    "coin": (0.9, 1.6),
    "clip": (1.1, 1.8),
    "hook": (1.1, 1.8),
    "chain": (1.2, 2.1),
    "wire": (1.5, 2.4),
}
"""∫ µ dt at severity 1, least and most: 1.4 is 1.5 mm of steel or 1 mm of copper at 60 keV."""
_SUBPIXELS = 4


@dataclass(frozen=True)
class Placed:
    """One object in an image.

    Attributes:
        kind: key of OPTICAL_THICKNESS.
        shape: RECTANGLE, ELLIPSE or POLYGON.
        points: (n, 2) x, y of its outline in pixels: two corners, or the vertices of a polygon.
        optical: (side, side) float32, its ∫ µ dt averaged over the area of each pixel.
    """

    kind: str
    shape: int
    points: np.ndarray
    optical: np.ndarray

    @property
    def annotation(self) -> str:
        """The outline as Object-CXR writes it."""
        return " ".join([str(self.shape), *(f"{value:.2f}" for value in self.points.ravel())])


@dataclass(frozen=True)
class Rendered:
    """One simulated image, arrays (side, side).

    Attributes:
        grey: float32 within 0-255, before rounding.
        defect: float32, ∫ µ dt of the objects that count; in proportion to the severity.
        mask: bool, where `defect` is not 0.
        lungs: bool, the visible lung fields.
        objects: the objects that count.
        distractors: the objects beside the lung fields, which do not.
        facts: what must not decide the label, for `twin.csv`.
    """

    grey: np.ndarray
    defect: np.ndarray
    mask: np.ndarray
    lungs: np.ndarray
    objects: tuple[Placed, ...]
    distractors: tuple[Placed, ...]
    facts: dict[str, float | str]

    @property
    def pixels(self) -> np.ndarray:
        """What is written: uint8."""
        return np.rint(self.grey).astype(np.uint8)


def render(patient_seed: int, image_seed: int, severity: float, *, noise: bool = True, side: int = SIDE_PX) -> Rendered:
    """One image; equal seeds with another severity give the same patient, view, noise and places of objects.

    Objects within the lung fields count. Others beside them (neck, arms, chest wall, abdomen) are drawn in images of
    both classes, always at their full strength.

    Args:
        patient_seed: seed of the anatomy.
        image_seed: seed of view, objects and noise.
        severity: factor of the objects' optical thickness; 0 leaves them out.
        noise: False leaves the quantum noise out.
        side: rows and columns; more are those of a detector with smaller pixels of equal noise and blur in pixels.
    """
    patient = thorax.draw_patient(patient_seed)
    view = thorax.draw_view(stream_seed(image_seed, "view"), patient)
    bare = thorax.project(patient, view, side, stream_seed(image_seed, "texture"))

    rng = np.random.default_rng(stream_seed(image_seed, "distractors"))
    beside = ~ndimage.maximum_filter(bare.between.astype(np.uint8), round(13 * side / SIDE_PX)).astype(bool)
    strength = rng.uniform(*writing.MAIN_SEVERITY)
    distractors = _place(rng, int(rng.integers(0, MOST_DISTRACTORS + 1)), beside, bare.pixel_mm)
    surroundings = sum((placed.optical for placed in distractors), np.zeros_like(bare.aerated)) * np.float32(strength)

    rng = np.random.default_rng(stream_seed(image_seed, "objects"))
    number = int(rng.integers(1, MOST_OBJECTS + 1)) if severity else 0
    objects = _place(rng, number, bare.lungs, bare.pixel_mm)
    defect = sum((placed.optical for placed in objects), np.zeros_like(bare.aerated)) * np.float32(severity)

    return Rendered(
        grey=thorax.expose(bare, view, stream_seed(image_seed, "noise"), surroundings + defect, noise),
        defect=defect,
        mask=defect > 0,
        lungs=bare.lungs,
        objects=objects,
        distractors=distractors,
        facts=view.facts() | {"objects": len(objects), "distractors": len(distractors)},
    )


def write(
    folder: Path, twin: Twin, seed: int, progress: writing.Progress, redraw: writing.Redraw = writing.unchanged
) -> None:
    """Write the twin: train/, dev/ and test/ with JPEG images, their tables, twin_masks/, and last twin.csv.

    Of ten patients of the main part eight go to train, one to dev and one to test; the severity part is in test. The
    label belongs to the image, as in the set: a patient has images with and without objects.

    Args:
        folder: an empty folder.
        twin: numbers of patients and levels, side of the images.
        seed: the study's seed.
        progress: told how many images are done.
        redraw: changes what is made of whom before it is made.
    """
    planned = redraw(writing.plan(NAME, twin, seed, CLASSES, label_per="image", negative=CLASSES[0]))
    rows: list[dict] = []
    listed: dict[str, list[dict[str, str]]] = {"train": [], "dev": [], "test": []}
    for table in (*listed, "twin_masks"):
        (folder / table).mkdir(parents=True)
    for index, images in enumerate(writing.by_patient(planned)):
        table = {8: "dev", 9: "test"}.get(index % 10, "train") if images[0].part == "main" else "test"
        for image in images:
            severity = image.severity if image.label else 0.0
            rendered = render(image.patient_seed, image.image_seed, severity, side=twin.side_px or SIDE_PX)
            name, identifier = f"{image.image}.jpg", f"{table}-{image.image}"
            Image.fromarray(rendered.pixels).save(folder / table / name, quality=95)
            Image.fromarray(rendered.mask).save(folder / "twin_masks" / f"{identifier}.png")
            annotation = ";".join(placed.annotation for placed in rendered.objects)
            listed[table].append({"image_name": name, "annotation": annotation})
            rows.append(writing.twin_row(image, image=identifier, **rendered.facts))
            progress(len(rows), len(planned), "chest X-rays")
    for table, entries in listed.items():
        write_table(folder / f"{table}.csv", pd.DataFrame(entries, columns=["image_name", "annotation"]))
    writing.write_twin_table(folder, rows)


def _place(rng: np.random.Generator, number: int, region: np.ndarray, pixel_mm: float) -> tuple[Placed, ...]:
    """Draw objects whose outlines lie within a region (side, side) bool and do not touch each other."""
    placed: list[Placed] = []
    side = len(region)
    free = region.copy()
    for _ in range(number):
        kind = str(rng.choice(list(OPTICAL_THICKNESS)))
        low, high = OPTICAL_THICKNESS[kind]
        optical_thickness = rng.uniform(low, high)
        candidates = np.flatnonzero(free)
        size = 1.0
        for _ in range(200):
            if not len(candidates):
                break
            row, column = divmod(int(rng.choice(candidates)), side)
            shape, points, thickness = _DRAWN[kind](rng, column + 0.5, row + 0.5, size / pixel_mm)
            around = _around(shape, points)
            inside = ((around >= 1) & (around < side - 1)).all()
            if inside and free[tuple(around[:, ::-1].astype(int).T)].all():
                optical, patch = _rasterise(thickness, points, side)
                free[patch] = False
                placed.append(Placed(kind, shape, points, optical * np.float32(optical_thickness)))
                break
            size = max(0.95 * size, 0.4)
    return tuple(placed)


def _around(shape: int, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) along an outline."""
    if shape == POLYGON:
        return points
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    reach = 1.0 if shape == ELLIPSE else math.sqrt(2)
    circle = np.clip(reach * np.stack([np.cos(angle), np.sin(angle)], axis=1), -1, 1)
    return points.mean(0) + circle * np.diff(points, axis=0) / 2


def _rasterise(thickness: Callable, points: np.ndarray, side: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Average a thickness (function of x, y in pixels) over the area of each pixel; the patch is what it covers."""
    low = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + 1, side)
    columns, rows = high - low
    x = low[0] + (np.arange(columns * _SUBPIXELS) + 0.5) / _SUBPIXELS
    y = low[1] + (np.arange(rows * _SUBPIXELS)[:, None] + 0.5) / _SUBPIXELS
    fine = np.broadcast_to(thickness(x, y), (rows * _SUBPIXELS, columns * _SUBPIXELS))
    optical = np.zeros((side, side), np.float32)
    patch = np.s_[low[1] : high[1], low[0] : high[0]]
    optical[patch] = fine.reshape(rows, _SUBPIXELS, columns, _SUBPIXELS).mean((1, 3))
    return optical, patch


# Each kind takes a generator, its centre and pixels per mm, and gives shape, outline, and thickness at (x, y), at
# most about 1.


def _disc(rng, x, y, scale, diameter_mm, tilt):
    half = np.array([1.0, rng.uniform(*tilt)]) * rng.uniform(*diameter_mm) * scale / 2
    half = half[::-1] if rng.random() < 0.5 else half
    middle = np.array([x, y])
    corners = np.stack([middle - half, middle + half])
    return corners, lambda u, v: np.hypot((u - x) / half[0], (v - y) / half[1]), half


def _coin(rng, x, y, scale):
    corners, radius, _ = _disc(rng, x, y, scale, (15, 23), (0.75, 1))
    return ELLIPSE, corners, lambda u, v: np.where(radius(u, v) < 0.88, 0.9, 1.0) * (radius(u, v) < 1)


def _button(rng, x, y, scale):
    corners, radius, half = _disc(rng, x, y, scale, (10, 17), (0.8, 1))
    turn, holes = rng.uniform(0, np.pi), int(rng.choice([2, 4]))
    angles = turn + np.arange(holes) * 2 * np.pi / holes

    def thickness(u, v):
        disc = np.where(radius(u, v) < 0.72, 0.75, 1.0) * (radius(u, v) < 1)
        for angle in angles:
            hole = np.hypot((u - x) / half[0] - 0.3 * np.cos(angle), (v - y) / half[1] - 0.3 * np.sin(angle))
            disc = disc * (hole > 0.14)
        return disc

    return ELLIPSE, corners, thickness


def _frame(rng, half, bar):
    """A bent wire: a rectangle with up to two bars across."""
    bars = np.linspace(-1, 1, int(rng.integers(2, 5)))

    def thickness(along, across):
        inside = (np.abs(along) < half[0]) & (np.abs(across) < half[1])
        rim = (np.abs(along) > half[0] - bar) | (np.abs(across) > half[1] - bar)
        for at in bars[1:-1]:
            rim = rim | (np.abs(along - at * half[0]) < bar / 2)
        return (inside & rim).astype(np.float32)

    return thickness


def _clip(rng, x, y, scale):
    half = np.array([rng.uniform(6, 13), rng.uniform(4, 8)]) * scale
    half = half[::-1] if rng.random() < 0.5 else half
    frame = _frame(rng, half, rng.uniform(1.6, 2.6) * scale)
    middle = np.array([x, y])
    return RECTANGLE, np.stack([middle - half, middle + half]), lambda u, v: frame(u - x, v - y)


def _hook(rng, x, y, scale):
    half = np.array([rng.uniform(7, 14), rng.uniform(3.5, 7)]) * scale
    frame = _frame(rng, half, rng.uniform(1.6, 2.6) * scale)
    angle = rng.uniform(0.2, np.pi - 0.2)
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    outline = corners @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]

    def thickness(u, v):
        return frame((u - x) * cosine + (v - y) * sine, (v - y) * cosine - (u - x) * sine)

    return POLYGON, outline, thickness


def _arc(rng, x, y, scale, length_mm, half_width_mm):
    """A band along a circle's arc: its outline, and distance along and across it in units of its half width."""
    radius, length = rng.uniform(25, 90) * scale, rng.uniform(*length_mm) * scale
    half_width = rng.uniform(*half_width_mm) * scale
    middle, half_angle = rng.uniform(0, 2 * np.pi), min(length / radius / 2, 2.5)
    centre_x, centre_y = x - radius * math.cos(middle), y - radius * math.sin(middle)
    angle = middle + np.linspace(-half_angle, half_angle, 25)
    outline = np.concatenate(
        [
            np.stack([centre_x + r * np.cos(turned), centre_y + r * np.sin(turned)], axis=1)
            for r, turned in ((radius + half_width, angle), (radius - half_width, angle[::-1]))
        ]
    )

    def place(u, v):
        turned = (np.arctan2(v - centre_y, u - centre_x) - middle + np.pi) % (2 * np.pi) - np.pi
        across = (np.hypot(u - centre_x, v - centre_y) - radius) / half_width
        return turned * radius / half_width, across, np.abs(turned) < half_angle

    return outline, place


def _chain(rng, x, y, scale):
    outline, place = _arc(rng, x, y, scale, (35, 95), (1.6, 2.6))

    def thickness(u, v):
        along, across, within = place(u, v)
        bead = np.clip(1 - (along % 2.6 - 1.3) ** 2 - across**2, 0, None)
        link = 0.35 * (np.abs(across) < 0.3)
        return np.maximum(np.sqrt(bead), link) * within

    return POLYGON, outline, thickness


def _wire(rng, x, y, scale):
    outline, place = _arc(rng, x, y, scale, (45, 120), (0.8, 1.4))

    def thickness(u, v):
        _, across, within = place(u, v)
        return np.sqrt(np.clip(1 - across**2, 0, None)) * within

    return POLYGON, outline, thickness


_DRAWN = {"button": _button, "coin": _coin, "clip": _clip, "hook": _hook, "chain": _chain, "wire": _wire}
