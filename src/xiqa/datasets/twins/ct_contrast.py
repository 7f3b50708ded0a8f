"""Twin of the CT contrast set: thorax slices with and without contrast agent, as DICOM series with exact masks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import fft, ndimage

import xiqa
from xiqa.config import Twin
from xiqa.datasets.ct_contrast import CLASSES
from xiqa.datasets.twins.writing import (
    Planned,
    Progress,
    Redraw,
    by_patient,
    plan,
    twin_row,
    unchanged,
    write_twin_table,
)
from xiqa.files import atomic_path, write_table
from xiqa.seeds import stream_seed

SIZE = 224
LEVELS_MM = (-45.0, 85.0)
"""Levels that are drawn from, in mm below the bifurcation of the trachea: from above the aortic arch to the heart."""

_PHASES = (0.0, 0.2, 0.45, 0.75)
# Rise in HU at severity 1 against the phase: the agent passes right heart, lungs, left heart, then it mixes, as in
# most routine scans of the chest.
_RISE_HU = {
    "right": (250.0, 190.0, 130.0, 95.0),
    "pulmonary": (215.0, 205.0, 135.0, 95.0),
    "left": (30.0, 175.0, 170.0, 95.0),
}
# Name, rescale intercept, pixel representation, and what it writes outside the scanned circle.
_SCANNERS = (("A", -1024, 0, -1024), ("B", -1024, 1, -2000), ("C", 0, 1, -2000))
_BINS = 1440  # contours are radii over this many angles, from -π (right) over the front and left to the back
_ANGLES = ((np.arange(_BINS, dtype=np.float32) + 0.5) / _BINS * 2 - 1) * np.float32(math.pi)
_FRONT = -math.pi / 2
_DATE, _TIME = "20200101", "120000"  # fixed: a simulated image has no date, and equal images get equal bytes


@dataclass(frozen=True)
class Patient:
    """What one patient and one scan have, drawn from the patient's seed alone: never from label or severity.

    Attributes:
        age_years: bone density, calcium, emphysema and fat within muscles follow it.
        female: breasts, smaller frame.
        width, depth: size against the standard patient.
        fat_mm, muscle_mm: thickness under the skin, and of chest and back muscles.
        heart, aorta: size against the standard.
        blood_hu: blood without agent, by haematocrit.
        muscle_hu, bone_hu, lung_hu: muscle, marrow, lung at the middle of the chest.
        drift_hu: calibration error of the whole image.
        cupping_hu: what scatter and beam hardening leave in the middle of the chest.
        calcification: mean count of plaques, relative.
        phase: 0 the agent reaches the right heart, 0.3 the aorta, from 0.75 on it is mixed.
        dose: of the agent, relative.
        scanner: index of the scanner's conventions; kvp, fov_mm, thickness_mm, kernel: settings.
        noise_hu: noise of a pixel between heart and chest wall.
        arms_down, leads, circle: arms beside the chest, ECG leads, nothing outside the scanned circle.
    """

    age_years: float
    female: bool
    width: float
    depth: float
    fat_mm: float
    muscle_mm: float
    heart: float
    aorta: float
    blood_hu: float
    muscle_hu: float
    bone_hu: float
    lung_hu: float
    drift_hu: float
    cupping_hu: float
    calcification: float
    phase: float
    dose: float
    scanner: int
    kvp: int
    fov_mm: float
    thickness_mm: float
    kernel: str
    noise_hu: float
    arms_down: bool
    leads: bool
    circle: bool


@dataclass(frozen=True)
class Slice:
    """One rendered slice.

    Attributes:
        hu: (h, w) float32, the slice in Hounsfield units.
        mask: (h, w) bool, heart and vessels that are 3 pixels wide or more (the finest vessels of the lungs are left
            out): what the agent raises. The same with and without contrast.
        effect_hu: (h, w) float32, what the agent adds to `hu` at this severity, exact; all 0 without contrast.
        spacing_mm: pixel size.
    """

    hu: np.ndarray
    mask: np.ndarray
    effect_hu: np.ndarray
    spacing_mm: float


def draw_patient(seed: int) -> Patient:
    """Anatomy, blood, scanner and exposure of one patient; independent of label and severity."""
    rng = np.random.default_rng(stream_seed(seed, "ct patient"))
    age, female = rng.uniform(35, 85), bool(rng.random() < 0.5)
    size = rng.normal(0.94 if female else 1.02, 0.05)
    fat = float(np.clip(rng.gamma(4.0, 4.0), 4, 38))
    width, depth = size * rng.normal(1, 0.03), size * rng.normal(1, 0.05)
    sharp = bool(rng.random() < 0.3)
    # Larger patients let less through: noise grows with size and fat, as it does at a fixed tube current.
    noise = float(np.exp(rng.normal(np.log(11), 0.4)) * (1.7 if sharp else 1) * (1 + (fat - 16) / 60))
    body_mm = 2 * width * (150 + 0.9 * fat)
    return Patient(
        age_years=float(age),
        female=female,
        width=float(width),
        depth=float(depth),
        fat_mm=fat,
        muscle_mm=float(rng.normal(9 if female else 13, 2)),
        heart=float(np.clip(rng.normal(1.1, 0.09), 0.9, 1.4)),
        aorta=float(np.clip(rng.normal(0.95 + (age - 60) / 150, 0.09), 0.75, 1.5)),
        blood_hu=float(rng.uniform(30, 55)),
        muscle_hu=float(rng.uniform(40, 60) - (age - 35) / 10),
        bone_hu=float(np.clip(rng.normal(270 - 2 * age, 35), 50, 280)),
        lung_hu=float(rng.normal(-850, 30)),
        drift_hu=float(rng.uniform(-10, 10)),
        cupping_hu=float(rng.normal(0, 8)),
        calcification=float(np.clip(rng.normal((age - 50) / 30, 0.4), 0, 1.5)),
        phase=float(rng.random()),
        dose=float(rng.uniform(0.85, 1.0)),
        scanner=int(rng.integers(len(_SCANNERS))),
        kvp=int(rng.choice([100, 120, 120, 120, 130, 140])),
        fov_mm=float(np.clip(body_mm * rng.uniform(0.98, 1.2), 270, 500)),
        thickness_mm=float(rng.choice([1.25, 2.0, 2.5, 3.0, 5.0, 5.0])),
        kernel="sharp" if sharp else "soft",
        noise_hu=noise,
        arms_down=bool(rng.random() < 0.1),
        leads=bool(rng.random() < 0.2),
        circle=bool(rng.random() < 0.4),
    )


def render(
    patient_seed: int, image_seed: int, *, level_mm: float, contrast: bool, severity: float = 1.0, size: int = SIZE
) -> Slice:
    """One thorax slice; with the same seeds contrast and severity change nothing but the agent's effect.

    Args:
        patient_seed: seed of anatomy, blood, scanner and phase of the agent.
        image_seed: seed of noise, texture and the finer vessels of this slice.
        level_mm: level below the bifurcation of the trachea, within `LEVELS_MM`.
        contrast: True with contrast agent.
        severity: strength of the agent; at 1 it raises blood by 80 to 250 HU (by 26 HU in the left
            heart and aorta where it has not yet arrived).
        size: rows and columns.
    """
    patient, rng = draw_patient(patient_seed), np.random.default_rng(stream_seed(image_seed, "ct slice"))
    grid = _Grid(size, patient, patient_seed)
    level = (level_mm - grid.stream("level").normal(0, 6)) * grid.stream("stretch").normal(1, 0.05)
    texture = _texture(rng, size)
    cage = _chest_wall(grid, patient, level, texture)
    _lungs_and_mediastinum(grid, patient, level, cage, texture, rng)
    _skeleton(grid, patient, level, cage, texture)

    plain, share, rise = fft.irfft2(fft.rfft2(grid.canvas) * _transfer(size, patient.kernel), (size, size))
    shading = patient.drift_hu + patient.cupping_hu * np.exp(-((grid.r / 70) ** 2))
    effect = severity * patient.dose * (rise + _streaks(grid, rise)) * contrast
    hu = plain + shading + _noise(grid, patient, level, rng) + effect
    if patient.circle:
        centre = np.arange(size) - (size - 1) / 2
        outside = centre[:, None] ** 2 + centre**2 > (size / 2) ** 2
        hu[outside], effect[outside] = _SCANNERS[patient.scanner][3], 0
    return Slice(hu, ndimage.binary_opening(share >= 0.5), effect, patient.fov_mm / size)


class _Grid:
    """The canvas with coordinates: x to the patient's left, y to the back, in mm of a standard patient.

    `canvas` (3, h, w): HU without agent, share of heart and vessels, rise in HU by the agent at severity 1.
    """

    def __init__(self, size: int, patient: Patient, seed: int):
        self.canvas, self.bloody, self.seed = np.zeros((3, size, size), np.float32), False, seed
        spacing, body = patient.fov_mm / size, self.stream("place")
        step = ((np.arange(size) - size / 2) * spacing).astype(np.float32)
        self.x_mm, self.y_mm = step[None, :], step[:, None]
        angle, x_off, y_off = body.normal(0, 0.045), body.normal(0, 6), body.normal(-4, 8)
        x, y = self.x_mm - x_off, self.y_mm - y_off
        # A slow warp: no organ is an ellipse.
        waves = body.uniform(0, 2 * math.pi, 4).astype(np.float32)
        x_warp = 2.2 * np.sin(y / 23 + waves[0]) + 1.2 * np.sin(y / 11 + waves[1])
        y_warp = 2.2 * np.sin(x / 25 + waves[2]) + 1.2 * np.sin(x / 12 + waves[3])
        self.x = (math.cos(angle) * x + math.sin(angle) * y) / patient.width + x_warp
        self.y = (math.cos(angle) * y - math.sin(angle) * x) / patient.depth + y_warp
        self.r = np.hypot(self.x, self.y)
        self.bin = _bin(np.arctan2(self.y, self.x))
        self.px = spacing / math.sqrt(patient.width * patient.depth)

    def stream(self, stage: str) -> np.random.Generator:
        """Random numbers of a stage: equal in all slices of a patient, so that they fit together."""
        return np.random.default_rng(stream_seed(self.seed, "ct", stage))

    def cover(self, distance: np.ndarray, edge: float = 1.0) -> np.ndarray:
        """Share of a pixel inside a shape, from the signed distance (negative inside) in mm."""
        return np.clip(0.5 - distance / (self.px * edge), 0, 1)

    def window(self, x_min: float, y_min: float, x_max: float, y_max: float) -> tuple[slice, slice]:
        """Rows and columns that hold a box of standard mm."""
        inside = (self.x >= x_min) & (self.x <= x_max) & (self.y >= y_min) & (self.y <= y_max)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not len(rows):
            return slice(0, 0), slice(0, 0)
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def paint(self, cover: np.ndarray, hu, share: float = 0.0, rise: float = 0.0, where=...) -> None:
        """Lay a tissue over what is there; `where` is any index of the canvas, `cover` has its shape."""
        self.bloody |= share > 0
        for layer, value in zip(self.canvas[: 3 if self.bloody else 1], (hu, share, rise), strict=False):
            below = layer[where]
            layer[where] = below + cover * (value - below)


def _bin(angle):
    """Index of an angle, from -π to π, in the contours."""
    return ((angle + math.pi) * (_BINS / 2 / math.pi)).astype(np.int32) % _BINS


def _ellipse(x, y, x0: float, y0: float, a: float, b: float, turn: float = 0.0) -> np.ndarray:
    """Signed distance to an ellipse, to first order at its edge."""
    cos, sin = math.cos(turn), math.sin(turn)
    u, v = (cos * (x - x0) + sin * (y - y0)) / a, (cos * (y - y0) - sin * (x - x0)) / b
    norm = np.sqrt(u * u + v * v)
    return norm * (norm - 1) / np.maximum(np.sqrt((u / a) ** 2 + (v / b) ** 2), 1e-6)


def _capsule(x, y, x0: float, y0: float, x1: float, y1: float, radius: float) -> np.ndarray:
    """Signed distance to all points within `radius` of a segment."""
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy) - radius


def _bump(centre: float, width: float) -> np.ndarray:
    """A smooth bump over the angles, mirrored at the midline: `centre` is measured from the front."""
    from_front = np.abs((_ANGLES - _FRONT + math.pi) % (2 * math.pi) - math.pi)
    return np.exp(-(((from_front - centre) / width) ** 2))


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random field of standard deviation 1 with fine and coarse grains."""
    white = rng.standard_normal((size, size), np.float32)
    fine, coarse = (ndimage.gaussian_filter(white, blur, mode="wrap", truncate=2.5) for blur in (1, 3))
    return fine / fine.std() * 0.6 + coarse / coarse.std() * 0.8


def _outside(grid: _Grid, patient: Patient, skin: np.ndarray) -> None:
    """Air, the table under the back, sometimes arms beside the chest."""
    body, grid.canvas[0] = grid.stream("outside"), -1000
    back = grid.y_mm[(grid.r < skin[grid.bin]).any(1)].max()
    x, edge = np.abs(grid.x_mm), grid.px * patient.width
    bend, half, foam, shell = (body.uniform(*r) for r in ((1500, 4000), (190, 230), (-960, -900), (-350, 150)))
    rows = slice(int(np.searchsorted(grid.y_mm[:, 0], back - 30)), None)
    below = grid.y_mm[rows] - (back + body.uniform(1, 8)) + x * x / bend
    inside = np.clip(0.5 + (half - x) / edge, 0, 1)
    thick = body.uniform(18, 40)
    for begin, end, hu in ((0, thick, foam), (0, 2.0, shell), (thick - 2, thick, shell)):
        grid.paint(np.clip(0.5 + np.minimum(below - begin, end - below) / edge, 0, 1) * inside, hu, where=rows)
    if patient.arms_down:
        for side in (-1, 1):
            x0, y0 = side * (float(skin.max()) + 30 + body.uniform(0, 8)), body.normal(15, 12)
            arm = _ellipse(grid.x, grid.y, x0, y0, 36, 42)
            bone = _ellipse(grid.x, grid.y, x0 + 3, y0, 12, 11)
            fat = 4 + patient.fat_mm / 5
            for distance, hu in ((arm, -100), (arm + fat, patient.muscle_hu), (bone, 900), (bone + 4.5, 30)):
                grid.paint(grid.cover(distance), hu)


def _chest_wall(grid: _Grid, patient: Patient, level: float, field: np.ndarray) -> np.ndarray:
    """Skin, fat, breasts, muscle layers; gives the (bins,) radius of the inner chest wall."""
    body = grid.stream("chest wall")
    sloped = float(np.interp(level, LEVELS_MM, (0, 1)))
    a, b, n = 106 + 22 * sloped, 80 + 10 * sloped, body.uniform(2.3, 2.8)
    cage = (np.abs(np.cos(_ANGLES) / a) ** n + np.abs(np.sin(_ANGLES) / b) ** n) ** (-1 / n)
    upper = 1 - sloped
    muscle = (
        cage
        + 12
        + patient.muscle_mm * (0.3 + 1.0 * upper) * _bump(0.75, 0.4)
        + patient.muscle_mm * (0.5 + 2.2 * upper) * _bump(1.95, 0.5)
        + (6 + patient.muscle_mm * 0.5) * _bump(2.85, 0.45)
        - 4 * _bump(math.pi, 0.12)
    )
    fat = patient.fat_mm * (0.45 + 0.5 * _bump(0.9, 0.5) + 0.7 * _bump(1.7, 0.45) * (0.4 + sloped))
    breast = np.zeros_like(cage)
    if patient.female:
        breast = (12 + 0.9 * patient.fat_mm) * max(0.0, 1 - abs(level - 40) / 85) * _bump(0.72, 0.27)
    skin = ndimage.gaussian_filter1d(muscle + fat + breast + 2, 12, mode="wrap")

    _outside(grid, patient, skin)
    depth = skin[grid.bin] - grid.r
    grid.paint(grid.cover(-depth), 0)
    grid.paint(grid.cover(1.8 - depth), -103 + 6 * field)
    if patient.female:
        gland = (breast / 25)[grid.bin] * np.clip(field + 0.9 - patient.age_years / 60, 0, 1)
        grid.paint(np.clip(gland, 0, 0.9) * (depth > 6), 25)
    if patient.leads:
        for at in body.integers(int(0.1 * _BINS), int(0.4 * _BINS), 2):
            out, turn = 1.03 * float(skin[at]), float(_ANGLES[at])
            x, y = out * math.cos(turn), out * math.sin(turn)
            where = grid.window(x - 6, y - 6, x + 6, y + 6)
            spot = _ellipse(grid.x[where], grid.y[where], x, y, 2.5, 2.5)
            grid.paint(grid.cover(spot), body.uniform(500, 2500), where=where)
    outer = muscle[grid.bin] - grid.r
    wasted = np.clip(0.75 * field - 1.6 + (patient.age_years - 30) / 60, 0, 0.8)
    grid.paint(grid.cover(-outer), patient.muscle_hu - 90 * wasted + 3 * field)
    # Fat between the muscle layers follows the wall at a wandering depth.
    wander = body.uniform(0, 2 * math.pi, 2).astype(np.float32)
    plane = 0.5 + 0.22 * np.sin(3 * _ANGLES + wander[0]) + 0.15 * np.sin(7 * _ANGLES + wander[1])
    thick = (muscle - cage - 12) * plane
    off = np.abs(outer - thick[grid.bin])
    grid.paint(grid.cover(off - 0.5 - patient.fat_mm / 25) * (thick > 3)[grid.bin] * 0.85, -80)
    return cage


class _Shape(NamedTuple):
    """A structure of the mediastinum; `tissue` is a key of `_RISE_HU` where it holds blood."""

    kind: str
    tissue: str
    distance: Callable[..., np.ndarray]
    geometry: tuple[float, ...]


def _lungs_and_mediastinum(grid: _Grid, patient: Patient, level: float, cage, field, rng) -> None:
    """Lungs with vessels and airways; mediastinal fat with heart, great vessels, oesophagus and nodes."""
    rise = {name: float(np.interp(patient.phase, _PHASES, values)) for name, values in _RISE_HU.items()}
    muscle = patient.muscle_hu + 2
    inner = cage[grid.bin] - grid.r
    grid.paint(grid.cover(-inner), -98 + 8 * field)
    where = grid.window(-100, -100, 110, 85)
    x, y = grid.x[where], grid.y[where]
    shapes = [(shape, shape.distance(x, y, *shape.geometry)) for shape in _shapes(grid, patient, level)]

    # The lungs end at a smooth hull around all that lies in the middle.
    margin = 2.5 + patient.fat_mm / 7
    hull = [distance - margin for shape, distance in shapes if shape.kind != "vein"]
    hull += [_capsule(x, y, 0, 60, 0, 28, 17), _capsule(x, y, 0, -90, 2, -40, 4 + margin)]
    middle = np.zeros_like(inner)
    middle[where] = np.maximum(grid.cover(_union(hull, 4), 1.5), grid.cover(_ellipse(x, y, 0, 60, 24, 20), 3))
    lung = grid.cover(2 - inner) * (1 - middle)
    emphysema = 60 * np.clip(field - 0.8, 0, 2) * max(0.0, (patient.age_years - 50) / 20)
    grid.paint(lung, patient.lung_hu + 0.55 * (grid.y + 20) + 22 * field - emphysema)
    dome = 1 - ((level - 150) / 80) ** 2
    if dome > 0:
        near = grid.window(-140, -70, 20, 85)
        liver = _ellipse(grid.x[near], grid.y[near], -60, 8, 70 * math.sqrt(dome), 66 * math.sqrt(dome))
        grid.paint(grid.cover(liver, 3) * lung[near], muscle + 5, where=near)
        lung[near] *= 1 - grid.cover(liver)
    # Fissures: thin sheets that a slice cuts as faint lines.
    for side in (-1, 1):
        near = grid.window(min(45 * side, 130 * side), -60, max(45 * side, 130 * side), 60)
        ends = side * 45, -10 + 0.2 * level, side * 130, 25 - 0.35 * level
        fissure = _capsule(grid.x[near], grid.y[near], *ends, 0.5)
        grid.paint(grid.cover(fissure) * lung[near] * 0.3, -600, where=near)
    vessels = np.clip(_lines(grid, *_lung_vessels(rng)), 0, 1) * lung
    grid.paint(vessels, patient.blood_hu, 1, (rise["pulmonary"] + rise["left"]) / 2)

    chambers = [distance for shape, distance in shapes if shape.kind == "chamber"]
    if chambers:
        grid.paint(grid.cover(_union(chambers, 3) - 2.5, 1.5), muscle, 1, 0.3 * rise["left"], where)
    plain = {"soft": muscle - 8, "air": -800, "fat": -95, "myocardium": muscle}
    for (kind, tissue, *_), distance in shapes:
        # The beating heart is smeared by a few mm; vessels hold still.
        cover = grid.cover(distance, 2.2 if kind == "chamber" else 1.3)
        if tissue in rise:
            grid.paint(cover, patient.blood_hu, 1, rise[tissue], where)
        elif tissue == "airway":
            grid.paint(grid.cover(distance - 1.3), 20, where=where)
            grid.paint(cover, -985, where=where)
        else:
            heart = tissue == "myocardium"
            grid.paint(cover, plain[tissue], float(heart), 0.3 * rise["left"] * heart, where)
    _calcifications(grid, patient, [shape for shape, _ in shapes], where)


def _union(distances: list[np.ndarray], rounding_mm: float) -> np.ndarray:
    """Signed distance to a union of shapes whose notches are rounded off."""
    return -rounding_mm * np.log(sum(np.exp(-distance / rounding_mm) for distance in distances))


def _shapes(grid: _Grid, patient: Patient, level: float) -> list[_Shape]:
    """What the middle of the chest holds at a level, in the order of painting; x0, y0, ... in standard mm."""
    body, shapes = grid.stream("mediastinum"), []
    off = body.normal(0, 2.0, 21).tolist()
    turn, grow, aorta = body.normal(0, 0.12), patient.heart, patient.aorta
    cos, sin = grow * math.cos(turn), grow * math.sin(turn)

    def moved(x: float, y: float) -> tuple[float, float]:
        return 5 + cos * (x - 5) - sin * (y - 5), 5 + sin * (x - 5) + cos * (y - 5)

    def ball(tissue, x, y, z, a, b, c, degrees=0.0, kind="chamber"):
        """The cut through an ellipsoid."""
        part = 1 - ((level - z) / (c * grow)) ** 2
        if part > 0.03:
            part = math.sqrt(part) * grow
            geometry = (*moved(x, y), a * part, b * part, math.radians(degrees) + turn)
            shapes.append(_Shape(kind, tissue, _ellipse, geometry))

    def tube(tissue, top, bottom, start, end, radius, kind="vessel"):
        """A vessel between two levels; it fades in and out over a few mm."""
        fade = min(level - top, bottom - level) / 4
        if fade > 0:
            shapes.append(_Shape(kind, tissue, _capsule, (*start, *end, radius * min(1.0, 0.4 + fade))))

    def at(levels, xs, ys, x_off=0.0, y_off=0.0):
        """The place of a vessel that runs downwards obliquely."""
        return float(np.interp(level, levels, xs)) + x_off, float(np.interp(level, levels, ys)) + y_off

    ball("fat", 4, -14, 74, 46, 34, 40, -15, "fat")
    gullet = at(LEVELS_MM, (10, 6), (28, 29))
    shapes.append(_Shape("soft", "soft", _ellipse, (*gullet, 8, 5, 0.2)))
    if off[16] > 1:
        shapes.append(_Shape("soft", "air", _ellipse, (*gullet, 3, 1.8, 0.2)))
    for x, y, z in ((-22, 8, -20), (14, -6, 2), (-8, 22, 22), (-26, -28, 0), (8, -40, -30), (-40, 18, 14)):
        if abs(level - z) < 9:
            size = 3.0 + abs(off[17])
            shapes.append(_Shape("soft", "soft", _ellipse, (x + off[18], y + off[19], 1.4 * size, size, off[20])))
    # Great vessels.
    down = at(LEVELS_MM, (27, 17), (38, 34), off[0], off[1])
    up = at((-20, 10, 50), (-14, -17, 0), (-14, -24, -16), off[2], off[3])
    cava = at((-45, 45), (-33, -34), (-16, -4), off[4], off[5])
    tube("left", -14, 99, down, down, 12.5 * aorta)
    tube("left", -22, 46, up, up, 16.0 * aorta)
    arch = (8 + off[6], 6 + off[7])
    tube("left", -34, -12, up, arch, 13.0 * aorta)
    tube("left", -34, -12, arch, (down[0], down[1] - 2), 12.5 * aorta)
    tube("right", -99, 46, cava, cava, 8.5)
    for x, y, radius in ((-12, -14, 6.5), (6, -8, 4.5), (20, 4, 5.0)):
        branch = (x + off[8], y + off[9])
        tube("left", -99, -32, branch, branch, radius)
    tube("right", -50, -34, (34, -30 + off[10]), (-28, -24 + off[11]), 5.5)
    tube("right", -99, 30, (-4, 33), (-6, 34), 3.5)
    trunk = at((8, 48), (22, 18), (-30, -42))
    tube("pulmonary", 6, 46, trunk, (trunk[0] + 3, trunk[1] + 4), 14.0)
    tube("pulmonary", 4, 24, (16, -18 + off[12]), (-20, -1), 10.5)
    tube("pulmonary", 6, 26, (-20, -1), (-50, 6 + off[13]), 9.0)
    tube("pulmonary", -2, 16, (24, -20), (42, 10 + off[14]), 10.0)
    for side in (-1, 1):
        for z, x, y, radius in ((20, 50, 12, 7.0), (34, 46, 16, 6.5), (48, 52, 20, 5.5), (64, 54, 26, 4.5)):
            tube("pulmonary", z - 9, z + 9, (side * x, y), (side * (x + 10), y + 8), radius, "vein")
    # Airways.
    windpipe = (-1 + off[15], 10)
    tube("airway", -99, 4, windpipe, windpipe, 8.5)
    for side, reach, radius in ((-1, 40, 6.0), (1, 44, 5.3)):
        start, end = at((0, 26), (5 * side, 24 * side), (12, 16)), at((0, 20), (10 * side, reach * side), (14, 20))
        tube("airway", 2, 32, start, end, radius)
        tube("airway", 26, 60, (side * 40, 16), (side * 44, 17), 4.0)
    # The heart; muscle before the cavities that lie in it.
    ball("myocardium", 6, -14, 72, 22, 18, 22)
    ball("left", 0, 11, 54, 32, 17, 25)
    ball("right", -36, -12, 68, 19, 27, 34, 8)
    tube("right", 70, 130, (-28, 8), (-26, 10), 11.0)
    ball("right", 2, -42, 74, 37, 19, 38, -24)
    ball("right", 18, -42, 50, 17, 15, 16)
    ball("myocardium", 38, -15, 82, 42, 28, 40, -40)
    ball("left", 36, -13, 82, 30, 17, 30, -40)
    ball("left", 4, -15, 52, 17, 16, 14)
    for side, y, z in ((-1, 6, 46), (1, 12, 46), (-1, 16, 60), (1, 22, 60)):
        tube("left", z - 7, z + 7, moved(side * 24, y + 2), (side * 62, y + side * 3), 6.0, "vein")
    return shapes


def _lung_vessels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vessels that branch from the roots of the lungs to the pleura, and those that cross the slice.

    Returns:
        (n, 4) ends x0, y0, x1, y1 and (n,) widths in standard mm.
    """
    lines = []
    for side in (-1, 1):
        for root in np.linspace(-1.35, 1.35, 6) + rng.normal(0, 0.15, 6):
            stack = [(side * 46.0, 12.0, root, rng.uniform(1.8, 3.2), 0)]
            while stack:
                x, y, angle, width, generation = stack.pop()
                length, bend = rng.uniform(14, 34) * 0.85**generation, angle + rng.normal(0, 0.25)
                x1, y1 = x + side * length * math.cos(bend), y + length * math.sin(bend)
                if rng.random() < 0.65:  # the others leave the slice
                    lines.append((x, y, x1, y1, width))
                if generation < 3:
                    for fork in (rng.uniform(0.2, 0.7), -rng.uniform(0.2, 0.7)):
                        stack.append((x1, y1, bend + fork, width * rng.uniform(0.5, 0.75), generation + 1))
    n = 130
    turn, reach, sides = rng.uniform(0, 2 * math.pi, n), np.sqrt(rng.random(n)), rng.choice([-1, 1], n)
    across, down = sides * 75 + 55 * reach * np.cos(turn), 80 * reach * np.sin(turn)
    crossing = np.stack([across, down, across + 1.5, down + 1.5, np.exp(rng.normal(0.3, 0.4, n))], 1)
    found = np.concatenate([lines, crossing])
    return found[:, :4], found[:, 4]


def _lines(grid: _Grid, ends: np.ndarray, widths: np.ndarray, steps: int = 40) -> np.ndarray:
    """Share of each pixel that thin straight lines cover: their area is laid down in steps along them."""
    size = grid.r.shape[0]
    # Standard mm to pixels by the middle of the grid: the warp is left out, these need no exact place.
    columns = np.interp(ends[:, ::2], grid.x[size // 2], np.arange(size))
    rows = np.interp(ends[:, 1::2], grid.y[:, size // 2], np.arange(size))
    along = (np.arange(steps) + 0.5) / steps
    column, row = (((v[:, :1] + (v[:, 1:] - v[:, :1]) * along).ravel()).clip(0, size - 1.001) for v in (columns, rows))
    length = np.hypot(np.diff(columns)[:, 0], np.diff(rows)[:, 0])
    area = np.repeat(widths / grid.px * np.maximum(length, 1) / steps, steps)
    first = row.astype(int) * size + column.astype(int)
    right, down = column % 1, row % 1
    corners = (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (size, down * (1 - right)),
        (size + 1, down * right),
    )
    cover = np.bincount(
        np.concatenate([first + step for step, _ in corners]),
        np.concatenate([area * part for _, part in corners]),
        size * size,
    )
    return cover.reshape(size, size).astype(np.float32)


def _calcifications(grid: _Grid, patient: Patient, shapes: list[_Shape], where) -> None:
    """Calcium in the walls of the aorta and its branches; it grows with age."""
    body = grid.stream("calcium")
    for shape in shapes:
        if (shape.kind, shape.tissue) == ("vessel", "left"):
            x0, y0, *_, radius = shape.geometry
            for _ in range(body.poisson(1.2 * patient.calcification)):
                turn = body.uniform(0, 2 * math.pi)
                spot = x0 + radius * math.cos(turn), y0 + radius * math.sin(turn)
                plaque = _ellipse(grid.x[where], grid.y[where], *spot, 1.2, body.uniform(1.5, 4.5), turn)
                grid.paint(grid.cover(plaque), body.uniform(300, 900), where=where)


def _skeleton(grid: _Grid, patient: Patient, level: float, cage: np.ndarray, field: np.ndarray) -> None:
    """Vertebra, ribs, breast bone and shoulder blades, each a dense shell around marrow."""
    body = grid.stream("skeleton")
    shell, marrow = 480 + 1.3 * patient.bone_hu, patient.bone_hu + 45 * field

    def bone(distance, where, thick_mm=1.6):
        grid.paint(grid.cover(distance), shell, where=where)
        grid.paint(grid.cover(distance + thick_mm), marrow[where], where=where)

    # Ribs run downwards to the front: a slice cuts each over a few cm, further on with each level. Per bin: the way
    # along the wall from the nearest rib's middle, half its length, its tilt, and whether it is cartilage there.
    rib = np.zeros((4, _BINS), np.float32)
    step = np.hypot(np.diff(cage, append=cage[:1]), cage * (2 * math.pi / _BINS))
    for side in (-1, 1):
        bins = (3 * _BINS // 4 - side * np.arange(_BINS // 2 + 1)) % _BINS
        along, gap = np.cumsum(step[bins]), body.uniform(50, 60)
        begin = (40 + 1.7 * level + body.uniform(0, gap)) % gap - gap / 3
        order = np.clip(np.round((along - begin) / gap), 0, 8).astype(int)
        rib[0, bins] = along - begin - order * gap
        rib[1, bins], rib[2, bins] = body.uniform(11, 23, 9)[order], body.uniform(-0.1, 0.2, 9)[order]
        rib[3, bins] = along > 0.86 * along[-1]
    outward = grid.r - cage[grid.bin] - 6.5
    where: Any = np.nonzero(np.abs(outward) < 12)
    beside, half, tilt, gristle = rib[:, grid.bin[where]]
    across = (outward[where] - tilt * beside) / 4.6
    distance = (np.sqrt((beside / half) ** 2 + across**2) - 1) * 4.6
    bone(distance + 50 * gristle, where, 1.8)
    grid.paint(grid.cover(distance + 50 * (1 - gristle)), 100 + 60 * patient.calcification, where=where)
    grid.paint(grid.cover(distance + 50 * (1 - gristle) + 1.5), 90, where=where)

    front = float(cage[_BINS // 4]) + 6.5
    wide = float(np.interp(level, (-45, -20, 10, 85), (24, 16, 13, 10)))
    where = grid.window(-60, -130, 60, -50)
    bone(_capsule(grid.x[where], grid.y[where], -wide, -front, wide, -front, 5.0), where, 1.5)

    where = grid.window(-60, 25, 60, 135)
    x, y = grid.x[where], grid.y[where]
    phase = (level + body.uniform(0, 22)) % 22
    if phase < 4:
        grid.paint(grid.cover(_ellipse(x, y, 0, 56, 19, 15)), 85, where=where)
    else:
        bone(_ellipse(x, y, 0, 56, 18.5 + abs(phase - 13) / 9, 15), where)
    tip = float(cage[3 * _BINS // 4]) + 4 + phase / 3
    arch = [_capsule(x, y, 0, 92, 0, tip, 2.8)]
    for side in (-1, 1):
        arch.append(_capsule(x, y, side * 12, 84, 0, 92, 3.0))
        if phase > 10:
            arch.append(_capsule(x, y, side * 12, 66, side * 12, 84, 3.8))
            arch.append(_capsule(x, y, side * 14, 82, side * 36, 89, 4.2))
            arch.append(_capsule(x, y, side * 22, 64, side * 42, 84, 3.6))
    bone(np.minimum.reduce(arch), where)
    grid.paint(grid.cover(_ellipse(x, y, 0, 77, 9.5, 8)), -40, where=where)
    grid.paint(grid.cover(_ellipse(x, y, 0, 77, 6.5, 5.2)), 35, where=where)

    reach = float(np.interp(level, (-45, 55), (1, 0)))
    if reach > 0.1:
        for side in (-1, 1):
            ends: list[float] = []
            for angle in (2.4, 2.4 - 0.65 * reach):
                turn = _FRONT + side * angle
                out = float(cage[_bin(np.array(turn))]) + 17 + 8 * (2.4 - angle)
                ends += [out * math.cos(turn), out * math.sin(turn)]
            where = grid.window(min(ends[::2]) - 9, min(ends[1::2]) - 9, max(ends[::2]) + 9, max(ends[1::2]) + 9)
            x, y = grid.x[where], grid.y[where]
            x0, y0, x1, y1 = ends
            bone(np.minimum(_capsule(x, y, x0, y0, x1, y1, 1.8), _ellipse(x, y, x1, y1, 5.5, 4.5)), where, 1.5)


def _transfer(size: int, kernel: str) -> np.ndarray:
    """Modulation transfer (size, size // 2 + 1) of a kernel; 1 at frequency 0."""
    square = fft.fftfreq(size).astype(np.float32)[:, None] ** 2 + fft.rfftfreq(size).astype(np.float32) ** 2
    blur_px, boost = {"soft": (0.7, 0.0), "sharp": (0.6, 6.0)}[kernel]
    return np.exp(-2 * math.pi**2 * blur_px**2 * square) * (1 + boost * square)


def _noise(grid: _Grid, patient: Patient, level: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with the ramp spectrum of filtered back-projection, strongest in the middle; streaks at the shoulders."""
    size = grid.r.shape[0]
    ramp = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)).astype(np.float32)
    spectrum = np.sqrt(ramp) * _transfer(size, patient.kernel)
    fine = fft.irfft2(fft.rfft2(rng.standard_normal((size, size), np.float32)) * spectrum, (size, size))
    local = 0.45 + 0.7 * np.exp(-((grid.r / 95) ** 2))
    noise = fine / fine.std() * local
    shoulders = max(0.0, -level / 45, 1.0 if patient.arms_down else 0.0)
    long = ndimage.uniform_filter1d(rng.standard_normal((size, size), np.float32), size // 5, axis=1, mode="wrap")
    noise += shoulders * long / long.std() * local
    return patient.noise_hu * noise


def _streaks(grid: _Grid, rise: np.ndarray) -> np.ndarray:
    """Dark and bright rays around the densest agent, by beam hardening; in HU at severity 1."""
    densest, streaks = float(rise.max()), np.zeros_like(rise)
    if densest > 180:
        rows, columns = np.nonzero(rise > 0.9 * densest)
        x0, y0 = float(grid.x[rows, columns].mean()), float(grid.y[rows, columns].mean())
        where = grid.window(x0 - 80, y0 - 80, x0 + 80, y0 + 80)
        dx, dy = grid.x[where] - x0, grid.y[where] - y0
        distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        rays = np.cos(2 * angle) + 0.6 * np.cos(7 * angle + 1)
        streaks[where] = 0.08 * densest * rays * np.exp(-distance / 25) * np.clip(distance / 12 - 0.8, 0, 1)
    return streaks


def write(folder: Path, twin: Twin, seed: int, progress: Progress, redraw: Redraw = unchanged) -> None:
    """Write the twin: one DICOM series per patient, `labels.csv`, masks, and `twin.csv` last of all.

    Slices are numbered from the lowest level up, as a reader orders them by position; equal arguments give equal bytes.

    Args:
        folder: where to; made where it is missing.
        twin: how many patients, slices and levels of severity.
        seed: the study's seed.
        progress: called with slices done, slices in all and what is being done.
        redraw: changes what is made of whom before it is made.
    """
    planned = redraw(plan("ct_contrast", twin, seed, CLASSES, label_per="patient", negative=CLASSES[0]))
    # A reader numbers the series in the order of their files.
    numbers = {name: number for number, name in enumerate(sorted({image.patient for image in planned}), 1)}
    rows, labels = [], []
    for series in by_patient(planned):
        patient = draw_patient(series[0].patient_seed)
        facts = {name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(patient).items()}
        start = np.random.default_rng(stream_seed(series[0].patient_seed, "ct levels")).random()
        gap_mm = (LEVELS_MM[1] - LEVELS_MM[0]) / len(series)
        for image in series:
            level_mm = LEVELS_MM[1] - (image.number + start) * gap_mm
            contrast = image.label == 1
            drawn = render(
                image.patient_seed,
                image.image_seed,
                level_mm=level_mm,
                contrast=contrast,
                severity=image.severity if contrast else 0.0,
            )
            name, file = f"series-{numbers[image.patient]:04d}-{image.number:04d}", _file(image)
            _write_dicom(folder / file, drawn, patient, image, level_mm, gap_mm)
            with atomic_path(folder / "masks" / f"{name}.png") as path:
                Image.fromarray(drawn.mask.astype(np.uint8) * 255).save(path)
            rows.append(twin_row(replace(image, image=name), file=file, level_mm=round(level_mm, 2), **facts))
            labels.append({"file": file, "contrast": image.label, "patient": image.patient})
            progress(len(rows), len(planned), "writing CT slices")
    write_table(folder / "labels.csv", pd.DataFrame(labels))
    write_twin_table(folder, rows)


def _file(image: Planned) -> str:
    return f"{image.patient}/thorax/{image.number + 1:03d}.dcm"


def _write_dicom(path: Path, drawn: Slice, patient: Patient, image: Planned, level_mm: float, gap_mm: float) -> None:
    """Write one slice; nothing in its header but the pixels depends on the label."""
    scanner, intercept, signed, outside = _SCANNERS[patient.scanner]
    floor = min(outside, -1024)
    stored = np.clip(np.rint(drawn.hu) - intercept, floor - intercept, 3071 - intercept)
    pixels = stored.astype("<i2" if signed else "<u2").tobytes()
    size = len(drawn.hu)

    def uid(*names: object) -> str:
        return generate_uid(entropy_srcs=["xiqa ct twin", *(str(name) for name in names)])

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid(image.patient_seed, image.image, hashlib.sha256(pixels).hexdigest())
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["xiqa implementation"])
    meta.ImplementationVersionName = f"XIQA {xiqa.__version__}"[:16]

    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = _DATE
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = _TIME
    data.AccessionNumber = data.ReferringPhysicianName = data.StudyID = data.PatientBirthDate = ""
    data.Modality, data.BodyPartExamined, data.PatientPosition = "CT", "CHEST", "HFS"
    data.Manufacturer, data.ManufacturerModelName = f"xiqa simulator {scanner}", "thorax twin"
    data.PatientName, data.PatientID = f"SIMULATED^{image.patient}", image.patient
    data.PatientSex, data.PatientAge = "F" if patient.female else "M", f"{round(patient.age_years):03d}Y"
    data.KVP, data.SliceThickness = str(patient.kvp), f"{patient.thickness_mm:g}"
    data.ReconstructionDiameter, data.ConvolutionKernel = f"{patient.fov_mm:.1f}", patient.kernel.upper()
    data.SpacingBetweenSlices = f"{gap_mm:.4f}"
    # By name too: a designed set renders the same anatomy several times, each a series of its own.
    own = image.patient_seed, image.patient
    data.StudyInstanceUID, data.SeriesInstanceUID = (uid(part, *own) for part in ("study", "series"))
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = uid("frame", *own), ""
    data.SeriesNumber, data.AcquisitionNumber, data.InstanceNumber = 1, 1, image.number + 1
    corner = f"{-drawn.spacing_mm * (size - 1) / 2:.4f}"
    data.ImagePositionPatient = [corner, corner, f"{-level_mm:.4f}"]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.SliceLocation = f"{-level_mm:.4f}"
    data.PixelSpacing = [f"{drawn.spacing_mm:.6f}"] * 2
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = drawn.hu.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, signed
    if outside < -1024:
        data.PixelPaddingValue = outside - intercept
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = str(intercept), "1", "HU"
    data.WindowCenter, data.WindowWidth = "50", "500"
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    data.PixelData = pixels
    with atomic_path(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)
