"""Simulated frontal chest X-rays: anatomy of a patient, its projection along the rays, exposure and look-up.

Anatomical coordinates are mm: x to the right of the image (the patient's left), y down from the apex of the lungs,
z to the front. The image I = I0 exp(-∫ µ dt) takes µ at 60 keV, about the mean energy of a 100 kV beam behind a
patient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import fft, ndimage
from scipy.special import j1

# 1/mm at 60 keV. Reference: mass attenuation of the ICRP tissues and of the elements, NIST XCOM, by way of xraylib.
MU_SOFT = 0.0213
MU_LUNG = 0.0053
MU_CORTICAL = 0.0574
MU_TRABECULAR = 0.0285
MU_LEAD = 5.7

_MARGIN_PX = 24


@dataclass(frozen=True)
class Patient:
    """Anatomy that all images of one patient share, lengths in mm.

    Attributes:
        half_width: half of the greatest inner width of the rib cage.
        lung_height: apex to right dome of the diaphragm at full inspiration.
        thickness: of the chest, front to back.
        lung_depth: of the lungs, front to back.
        fat: thickness of the chest wall at the side.
        heart_ratio: width of the heart over the width of the chest.
        lung_density: of the lung tissue, 1 = 0.26 g/ml.
        bone: mineral content of the bones, 1 = young adult.
        breast: thickness of the breasts.
        vessels: calibre of the lung vessels, 1 = usual.
        nodularity: strength of the fine texture of the lungs.
        scoliosis: amplitude of the spine's sideways bow.
        stomach_gas: half axes of the gas bubble below the left dome; 0 without one.
        arm: tangent of the upper arm's angle.
        ribs: (n, 4) x, y, z and length of path per sample point, of all ribs' middle lines.
        rib_ends: (n,) True for points of the front part, where ribs are flat and wide.
        tree: (n, 4) x, y, length and radius per sample point, of all lung vessels.
    """

    half_width: float
    lung_height: float
    thickness: float
    lung_depth: float
    fat: float
    heart_ratio: float
    lung_density: float
    bone: float
    breast: float
    vessels: float
    nodularity: float
    scoliosis: float
    stomach_gas: tuple[float, float]
    arm: float
    ribs: np.ndarray
    rib_ends: np.ndarray
    tree: np.ndarray


@dataclass(frozen=True)
class View:
    """Positioning and exposure of one image; none of it may decide a label.

    Attributes:
        field_mm: side of the image in the patient.
        shift_mm: centre of the image from its usual place, x and y.
        roll_deg: turn of the patient in the image plane.
        rotation_deg: turn of the patient about the long axis.
        inspiration: height of the lungs over that at full inspiration.
        photons: per pixel in the lungs.
        scatter: scattered over primary radiation, mean of the image.
        blur_px: standard deviation of focal spot and detector together.
        level: logarithm by which the look-up's middle misses the usual place.
        contrast: slope of the look-up in its middle.
        equalisation: share of large structures that the processing takes out.
        gain: grey value of full white.
        offset: grey value of full black.
        shutter: (left, top, right, bottom) width that the collimator takes, as a share of the side.
        marker: letter of lead, "L" or "R".
        marker_at: its centre as a share of the side, x from the patient's side and y from the top.
        projection: "PA" or "AP"; AP enlarges the heart.
    """

    field_mm: float
    shift_mm: tuple[float, float]
    roll_deg: float
    rotation_deg: float
    inspiration: float
    photons: float
    scatter: float
    blur_px: float
    level: float
    contrast: float
    equalisation: float
    gain: float
    offset: float
    shutter: tuple[float, float, float, float]
    marker: str
    marker_at: tuple[float, float]
    projection: str

    def facts(self) -> dict[str, float | str]:
        """What goes into `twin.csv`."""
        return {
            "projection": self.projection,
            "marker": self.marker,
            "field_mm": self.field_mm,
            "inspiration": self.inspiration,
            "photons": self.photons,
            "gain": self.gain,
            "contrast": self.contrast,
            "level": self.level,
        }


@dataclass(frozen=True)
class Thorax:
    """The projection of one patient in one view, arrays (side, side).

    Attributes:
        optical_thickness: ∫ µ dt in front of each pixel, without scatter, blur and noise, float32.
        aerated: float32 from 0 to 1, how much of an opacity of the lung a ray can meet: 1 where the lung is thick and
            nothing else in front of it, 0 outside, and where heart or diaphragm take half of its path.
        lungs: bool, the visible lung fields: not behind the heart, not below the domes.
        between: bool, the lung fields and what lies between them.
        x_mm: anatomical x of each pixel, float32.
        y_mm: anatomical y of each pixel, float32.
        pixel_mm: size of a pixel in the patient.
    """

    optical_thickness: np.ndarray
    aerated: np.ndarray
    lungs: np.ndarray
    between: np.ndarray
    x_mm: np.ndarray
    y_mm: np.ndarray
    pixel_mm: float


@lru_cache(maxsize=4)
def draw_patient(seed: int) -> Patient:
    """The anatomy that a seed gives; images of one patient follow each other, hence the cache."""
    rng = np.random.default_rng(seed)
    size = rng.normal(1, 0.055)
    half_width = 132 * size * rng.uniform(0.93, 1.07)
    lung_height = 238 * size * rng.uniform(0.88, 1.1)
    thickness = 222 * size * rng.uniform(0.85, 1.25)
    rib_slope = rng.uniform(0.8, 1.25)
    ribs, rib_ends = _ribs(half_width, lung_height, rib_slope, rng)
    female = rng.random() < 0.5
    return Patient(
        half_width=half_width,
        lung_height=lung_height,
        thickness=thickness,
        lung_depth=min(thickness * rng.uniform(0.62, 0.76), thickness - 45),
        fat=rng.uniform(16, 46),
        heart_ratio=rng.uniform(0.41, 0.56),
        lung_density=rng.uniform(0.75, 1.45),
        bone=rng.uniform(0.7, 1.3),
        breast=rng.uniform(12, 45) if female else 0.0,
        vessels=rng.uniform(0.9, 1.4),
        nodularity=rng.uniform(0.5, 1.8),
        scoliosis=rng.normal(0, 3.5),
        stomach_gas=(rng.uniform(18, 38), rng.uniform(10, 24)) if rng.random() < 0.6 else (0.0, 0.0),
        arm=rng.uniform(0.1, 0.3),
        ribs=ribs,
        rib_ends=rib_ends,
        tree=_vessel_tree(half_width, lung_height, rng),
    )


def draw_view(seed: int, patient: Patient) -> View:
    """Positioning and exposure that a seed gives for a patient."""
    rng = np.random.default_rng(seed)
    shutter = rng.uniform(0, 0.07, 4) * (rng.random(4) < 0.35)
    right = rng.random() < 0.5
    return View(
        field_mm=2 * (patient.half_width + rng.uniform(28, 78)),
        shift_mm=(rng.normal(0, 7), rng.normal(0, 9)),
        roll_deg=rng.normal(0, 1.6),
        rotation_deg=rng.normal(0, 3.0),
        inspiration=rng.uniform(0.84, 1.0),
        photons=float(np.exp(rng.uniform(np.log(2e3), np.log(1e4)))),
        scatter=rng.uniform(0.3, 0.9),
        blur_px=rng.uniform(0.45, 0.85),
        level=rng.normal(0, 0.22),
        contrast=rng.uniform(1.6, 2.7),
        equalisation=rng.uniform(0.25, 0.55),
        gain=rng.uniform(205, 255),
        offset=rng.uniform(0, 28),
        shutter=(float(shutter[0]), float(shutter[1]), float(shutter[2]), float(shutter[3])),
        marker="R" if right else "L",
        marker_at=(rng.uniform(0.06, 0.16), rng.uniform(0.06, 0.2)),
        projection=str(rng.choice(["PA", "AP"])),
    )


def project(patient: Patient, view: View, side: int, texture_seed: int) -> Thorax:
    """Project a patient on a square image.

    Args:
        patient: from `draw_patient`.
        view: from `draw_view`.
        side: rows and columns of the image.
        texture_seed: seed of the fine texture of the lungs, which never repeats between two images.
    """
    pixel_mm = view.field_mm / side
    height = patient.lung_height * view.inspiration
    x, y = _grid(view, side, pixel_mm, height)
    turn = math.radians(view.rotation_deg)
    spine_x = patient.scoliosis * np.sin(y / 70) - 80 * math.sin(turn)
    levels = _Levels.of(y)
    lung_mm, aerated, lungs = _lungs(patient, view, x, y, levels, height, spine_x)
    body_mm = _body(patient, x, y, levels, height)
    lung_mm = np.minimum(lung_mm, np.maximum(body_mm - 10, 0))

    texture = power_law(side, texture_seed)
    lung_mu = MU_LUNG * patient.lung_density * (1 + 0.05 * patient.nodularity * texture)
    optical = MU_SOFT * body_mm - (MU_SOFT - lung_mu) * lung_mm
    optical += (MU_SOFT - MU_LUNG) * np.clip(lung_mm / 40, 0, 1) * _vessels(patient, view, side, pixel_mm, height)
    optical -= MU_SOFT * _air_mm(patient, x, y, height, spine_x)
    optical += _spine(patient, x, y, spine_x) + _bones(patient, view, side, pixel_mm, height)
    optical += _marker(view, side, pixel_mm)
    np.maximum(optical, 0, out=optical)
    # Nothing lies, and nothing is annotated, where the collimator hides the patient.
    exposed = _shutter(view, side) > 0.5
    lungs, aerated = lungs & exposed, aerated * exposed
    return Thorax(optical, aerated, lungs, _between(lungs), x, y, pixel_mm)


def expose(thorax: Thorax, view: View, seed: int, defect: np.ndarray | None = None, noise: bool = True) -> np.ndarray:
    """The grey values of one exposure.

    A defect attenuates primary radiation only. Blur, scatter, automatic exposure and look-up are those of the
    patient without it, so that nothing beyond its own pixels tells of it; edges of a defect carry their own blur.

    Args:
        thorax: from `project`.
        view: the same view.
        seed: seed of the quantum noise, the same field with and without a defect.
        defect: (side, side) ∫ µ dt of the defect.
        noise: False leaves the quantum noise out.

    Returns:
        (side, side) float32 from 0 to 255, attenuating = bright, not yet rounded.
    """
    side = thorax.lungs.shape[0]
    primary = ndimage.gaussian_filter(np.exp(-thorax.optical_thickness), view.blur_px)
    # Air scatters nothing, thick parts let little of it out.
    scattered = view.scatter * _wide_blur(primary * (1 - primary), 45 / thorax.pixel_mm)
    # Chambers of the automatic exposure lie over the lungs: their mean dose is what it keeps.
    reference = float((primary + scattered)[thorax.lungs].mean())
    wide = _wide_blur(np.maximum(-np.log((primary + scattered) / reference), -1), 45 / thorax.pixel_mm)
    if defect is not None:
        primary = primary * np.exp(-defect)
    quanta = (primary + scattered) * (view.photons / reference)
    if noise:
        field = np.random.default_rng(seed).standard_normal((side, side), np.float32)
        quanta += np.sqrt(quanta) * field
    logarithm = -np.log(np.maximum(quanta, 1) / view.photons)
    # Usual processing: large structures are pressed together, then a film's curve.
    logarithm -= view.equalisation * wide
    grey = 1 / (1 + np.exp(-view.contrast * (logarithm - 0.45 - view.level)))
    return (view.offset + (view.gain - view.offset) * grey) * _shutter(view, side)


def _grid(view: View, side: int, pixel_mm: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Anatomical x and y of each pixel centre."""
    steps = (np.arange(side, dtype=np.float32) + 0.5 - side / 2) * pixel_mm
    cosine, sine = math.cos(math.radians(view.roll_deg)), math.sin(math.radians(view.roll_deg))
    columns, rows = steps[None] + view.shift_mm[0], steps[:, None] + view.shift_mm[1]
    x = cosine * columns + sine * rows
    y = -sine * columns + cosine * rows + 0.53 * height + 5
    return x.astype(np.float32), y.astype(np.float32)


def _pixels(view: View, side: int, pixel_mm: float, height: float, x, y) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of anatomical points: the inverse of `_grid`."""
    cosine, sine = math.cos(math.radians(view.roll_deg)), math.sin(math.radians(view.roll_deg))
    down = y - 0.53 * height - 5
    column = (cosine * x - sine * down - view.shift_mm[0]) / pixel_mm + side / 2 - 0.5
    row = (sine * x + cosine * down - view.shift_mm[1]) / pixel_mm + side / 2 - 0.5
    return column, row


@dataclass(frozen=True)
class _Levels:
    """A table over y: what depends on y alone is computed 1024 times, not once per pixel."""

    y: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray) -> _Levels:
        low, high = float(y.min()), float(y.max())
        return cls(np.linspace(low, high, 1024), ((y - low) * (1023 / (high - low))).astype(np.int32))

    def image(self, table: np.ndarray) -> np.ndarray:
        return table.astype(np.float32)[self.index]

    def curve(self, at, values) -> np.ndarray:
        """A smooth curve through points, as an image."""
        table = np.interp(self.y, at, values)
        return self.image(ndimage.gaussian_filter1d(table, 5 / (self.y[1] - self.y[0]), mode="nearest"))


def _lungs(
    patient: Patient, view: View, x, y, levels: _Levels, height: float, spine_x
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Path in the lungs in mm, share of an opacity that a ray can meet, and the visible lung fields."""
    half = patient.half_width
    aside = np.abs(x)
    # The cage: an ellipse in each cross-section, narrowing to the apex; its edge is where rays graze it.
    narrow = levels.image(1 / (half * _cage(levels.y, height) + 1e-3))
    lateral = np.maximum(1 - _power_5_2(aside * narrow), 0)
    top = 34 * ((aside - 0.42 * half) / (0.42 * half)) ** 2
    apex = np.clip((y - top) / 40, 0, 1)
    depth = levels.image(patient.lung_depth * (0.62 + 0.38 * np.clip(levels.y / (0.55 * height), 0, 1)))
    cage_path = depth * np.sqrt(lateral * apex)

    # The diaphragm: below its edge a ray crosses the dome, a sphere, before it reaches the recess behind.
    outward = (aside - 0.55 * half) / (0.45 * half)
    fall = np.where(outward > 0, 50 * _power_5_2(np.maximum(outward, 0)), 17 * outward**2)
    edge = height + fall + np.float32(11) * (x > 0)
    below = np.maximum(y - edge, 0)
    path = np.maximum(cage_path - 2.4 * np.sqrt(2 * 85 * below), 0)

    # Mediastinum and heart: two borders; behind them the lung ends with the chord of a rounded surface.
    enlarged = 1.12 if view.projection == "AP" else 1.0
    swing = 45 * math.sin(math.radians(view.rotation_deg))
    heart = 2 * half * patient.heart_ratio * enlarged
    right = [-24, -24, -26, -28, -29, -0.30 * heart, -0.36 * heart, -0.34 * heart, -0.30 * heart]
    left = [22, 25, 36, 42, 27, 0.36 * heart, 0.55 * heart, 0.65 * heart, 0.66 * heart]
    at_right = np.array([-0.1, 0.1, 0.25, 0.4, 0.5, 0.65, 0.8, 0.95, 1.15]) * height
    at_left = np.array([-0.1, 0.1, 0.22, 0.3, 0.38, 0.5, 0.74, 0.92, 1.15]) * height
    middle = x - swing * 0.5 - 0.8 * spine_x
    inside = np.minimum(middle - levels.curve(at_right, right), levels.curve(at_left, left) - middle)
    solid = np.clip(3.2 * np.sqrt(np.maximum(2 * 35 * inside, 0)) / patient.lung_depth, 0, 0.97)
    column = np.clip(1 - ((x - spine_x) / 24) ** 2, 0, None)
    path = path * (1 - np.maximum(solid, column))
    aerated = np.clip(path / np.maximum(cage_path, 1) / 0.3 - 0.5 / 0.3, 0, 1) * np.minimum(path / 50, 1)
    return path, aerated, (inside < 0) & (below == 0) & (path > 6) & (lateral > 0.04)


def _cage(y: np.ndarray | float, height: float) -> np.ndarray:
    """Width of the rib cage at y over its greatest width."""
    return np.sqrt(1 - (1 - np.clip(y / (height + 65), 0, 1)) ** 2.6)


def _power_5_2(x: np.ndarray) -> np.ndarray:
    """x to the power 5/2, several times faster than the general power."""
    return x * x * np.sqrt(x)


def _body(patient: Patient, x, y, levels: _Levels, height: float) -> np.ndarray:
    """Path in the body, lungs included, in mm."""
    half = patient.half_width + patient.fat
    widths = [62, 60, 75, half + 20, half + 42, half + 22, half - 4, half, half + 6]
    at = [-140, -75, -48, -22, 30, 95, 150, height, height + 120]
    thick = [0.55, 0.6, 0.72, 0.92, 1.0, 1.04]
    wide = levels.curve(at, widths)
    chest = patient.thickness * levels.curve([-120, -50, 0, 90, height, height + 100], thick)
    body = chest * np.sqrt(np.maximum(1 - _power_5_2(np.abs(x) / wide), 0))
    # Upper arms hang beside the chest.
    for sign in (-1, 1):
        axis = sign * (half + 24 + patient.arm * (y - 60))
        arm = 2 * np.sqrt(np.clip(46**2 - (x - axis) ** 2, 0, None)) * np.clip((y + 10) / 60, 0, 1)
        body = np.maximum(body, arm)
    if patient.breast:
        for sign in (-1, 1):
            down = (y - 0.82 * height) / np.where(y > 0.82 * height, 42, 95)
            out = (x - sign * 0.62 * patient.half_width) / 62
            body += patient.breast * np.maximum(1 - out**2 - down**2, 0) * (body > 0)
    return body


def _air_mm(patient: Patient, x, y, height: float, spine_x) -> np.ndarray:
    """Air outside the lungs: trachea, main bronchi, stomach."""
    carina = 0.36 * height
    air = np.sqrt(np.clip(8.5**2 - (x - 0.5 * spine_x) ** 2, 0, None)) * np.clip((carina - y) / 8, 0, 1)
    air *= 1.3 * np.clip((y + 110) / 30, 0, 1)
    for sign, slope in ((-1, 0.85), (1, 1.25)):
        run = y - carina + 4
        bronchus = np.clip(6.0**2 - ((x - 0.5 * spine_x) - sign * slope * run) ** 2, 0, None)
        air += np.sqrt(bronchus) * np.clip(run / 6, 0, 1) * np.clip((34 - run) / 14, 0, 1)
    wide, tall = patient.stomach_gas
    if wide:
        centre_x, top = 0.5 * patient.half_width, height + 11 + 10
        down = y - top - tall
        gas = np.clip(1 - ((x - centre_x) / wide) ** 2 - (down / tall) ** 2, 0, None)
        air += 1.1 * wide * np.sqrt(gas)
    return air


def _spine(patient: Patient, x, y, spine_x) -> np.ndarray:
    """∫ µ dt of the vertebral bodies above that of soft tissue."""
    aside = (x - spine_x) / (15 + 0.012 * np.clip(y + 100, 0, 500))
    phase = (y / (21 + 0.02 * np.clip(y, -100, 400))) % 1
    disc = np.clip((np.abs(phase - 0.5) - 0.40) / 0.05, 0, 1)
    endplate = np.exp(-(((np.abs(phase - 0.5) - 0.37) / 0.035) ** 2))
    bone_mm = np.sqrt(np.clip(1 - aside**2, 0, None)) * (30 * (1 - 0.55 * disc) + 9 * endplate)
    pedicle = np.hypot((np.abs(aside) - 0.62) / 0.26, (phase - 0.36) / 0.2)
    bone_mm += 16 * np.exp(-(((pedicle - 1) / 0.3) ** 2))
    spinous = np.hypot(aside / 0.2, (phase - 0.75) / 0.2)
    bone_mm += 14 * np.exp(-(((spinous - 0.8) / 0.4) ** 2))
    return (MU_TRABECULAR - MU_SOFT) * 1.1 * patient.bone * bone_mm


def _ribs(half_width: float, lung_height: float, slope: float, rng) -> tuple[np.ndarray, np.ndarray]:
    """Middle lines of ten pairs of ribs, each from the spine around the side to its cartilage."""
    points, ends = [], []
    theta = np.radians(np.linspace(4, 152, 260))
    for side in (-1, 1):
        for rib in range(10):
            start = 5 + 0.094 * lung_height * rib + rng.normal(0, 1.5)
            fall = slope * (34 + 9.5 * rib if rib else 40) * lung_height / 238
            width: Any = _cage(start + 0.45 * fall, lung_height)
            reach = half_width * max(width, 0.5) + 3
            x = 14 + (reach - 14) * np.sin(theta) ** 0.85
            hump = (0.10 * fall if rib else 0) * np.sin(2 * theta) * (theta < np.pi / 2)
            y = start + fall * (1 - np.cos(theta)) / 2 - hump
            z = -(0.68 if rib else 0.25) * half_width * np.cos(theta)
            # The front end stops at the cartilage, which X-rays hardly show, further from the midline below.
            keep = (theta < np.pi / 2) | (x > (0.2 + 0.035 * rib) * half_width)
            path = np.stack([side * x, y, z])
            length = np.linalg.norm(np.gradient(path, axis=1), axis=0)
            points.append(np.vstack([path, length])[:, keep].T)
            ends.append((theta > np.pi / 2)[keep])
    return np.concatenate(points).astype(np.float32), np.concatenate(ends)


def _vessel_tree(half_width: float, lung_height: float, rng) -> np.ndarray:
    """Lung vessels as sample points: each branch divides in two, radii by Murray's law."""
    groups = []
    share = np.linspace(0, 1, 14, dtype=np.float32)[:, None]
    for side in (-1, 1):
        mains = 14
        # From the hilum to all sides, most to the lower lobe.
        angle = np.radians(np.linspace(-82, 88, mains) + rng.normal(0, 7, mains))
        x = (0.29 + 0.04 * (side > 0)) * half_width + rng.normal(0, 4, mains)
        y = np.full(mains, (0.46 - 0.03 * (side > 0)) * lung_height) + np.linspace(-14, 18, mains)
        length = lung_height * (0.15 + 0.05 * np.sin(angle)) * rng.uniform(0.8, 1.2, mains)
        radius = 4.6 * rng.uniform(0.5, 1.15, mains)
        for _ in range(6):
            bend = rng.normal(0, 0.35, len(angle))
            direction = angle + bend * share
            step = length / len(share)
            path_x = x + np.cumsum(np.cos(direction) * step, axis=0)
            path_y = y + np.cumsum(np.sin(direction) * step, axis=0)
            taper = radius * (1 - 0.2 * share)
            each = np.stack([side * path_x, path_y, np.broadcast_to(step, path_x.shape), taper], axis=-1)
            groups.append(each.reshape(-1, 4))
            spread = np.radians(rng.uniform(12, 34, (2, len(angle)))) * np.array([[1], [-1]])
            angle = (angle + bend + spread).ravel()
            x, y = np.tile(path_x[-1], 2), np.tile(path_y[-1], 2)
            length = (np.tile(length, (2, 1)) * rng.uniform(0.62, 0.92, spread.shape)).ravel()
            radius = np.tile(0.8 * radius, 2) * rng.uniform(0.85, 1.1, spread.size)
    return np.concatenate(groups).astype(np.float32)


def _grid_size(side: int) -> int:
    """Side of the grid for tubes: larger, so that the Fourier transform does not carry one edge to the other."""
    return fft.next_fast_len(side + 2 * _MARGIN_PX, real=True)


def _splat(column, row, weight, side: int) -> np.ndarray:
    """Points shared among their four neighbours, on the grid with margin; the sum of weights per pixel."""
    size = _grid_size(side)
    column, row = column + _MARGIN_PX, row + _MARGIN_PX
    kept = (column >= 0) & (row >= 0) & (column < size - 1) & (row < size - 1)
    column, row, weight = column[kept], row[kept], weight[kept]
    left, top = column.astype(np.int64), row.astype(np.int64)
    along, down = column - left, row - top
    place = top * size + left
    places = np.concatenate([place, place + 1, place + size, place + size + 1])
    shares = np.concatenate(
        [(1 - along) * (1 - down), along * (1 - down), (1 - along) * down, along * down]
    ) * np.tile(weight, 4)  # fmt: skip
    return np.bincount(places, shares, size * size).reshape(size, size).astype(np.float32)


@lru_cache(maxsize=4)
def _frequency(rows: int, columns: int) -> np.ndarray:
    """Frequency in cycles per pixel of each term of the real Fourier transform."""
    return np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None]).astype(np.float32)


@lru_cache(maxsize=4)
def _frequency_place(size: int) -> np.ndarray:
    return (_frequency(size, size) * 1023 / math.sqrt(0.5)).astype(np.int32)


def _tubes(groups: Sequence[tuple], side: int) -> np.ndarray:
    """The projection of tubes along lines, in pixels times the weights of their discs.

    The chord of a tube, 2 √(R²-d²), is the line integral of a disc of radius R, and that of its wall the one of a ring:
    lines convolved with discs are tubes. A Gaussian of 0.35 pixels stands for the area of a pixel.

    Args:
        groups: column, row and length in pixels of sample points, and pairs of a radius in pixels and a weight.
        side: rows and columns of the image.
    """
    size = _grid_size(side)
    frequency = np.linspace(1e-6, math.sqrt(0.5), 1024)
    spectrum = np.zeros((size, size // 2 + 1), np.complex64)
    for column, row, length, discs in groups:
        transform = sum(weight * radius * j1(2 * np.pi * radius * frequency) / frequency for radius, weight in discs)
        transform *= np.exp(-2 * (np.pi * 0.35 * frequency) ** 2)
        drawn = fft.rfft2(_splat(column, row, length, side))
        spectrum += drawn * transform.astype(np.float32)[_frequency_place(size)]
    inner = slice(_MARGIN_PX, _MARGIN_PX + side)
    return fft.irfft2(spectrum, (size, size))[inner, inner]


def _vessels(patient: Patient, view: View, side: int, pixel_mm: float, height: float) -> np.ndarray:
    """Thickness of the lung vessels in mm."""
    x, y, length, radius = patient.tree.T
    column, row = _pixels(view, side, pixel_mm, height, x, y * view.inspiration)
    groups = []
    for low, high in pairwise((0, 0.9, 1.4, 2.2, np.inf)):
        chosen = (radius >= low) & (radius < high)
        mean = float(radius[chosen].mean()) * patient.vessels if chosen.any() else 0.0
        groups.append((column[chosen], row[chosen], length[chosen] / pixel_mm, [(mean / pixel_mm, 1.0)]))
    return _tubes(groups, side) * pixel_mm


def _bones(patient: Patient, view: View, side: int, pixel_mm: float, height: float) -> np.ndarray:
    """∫ µ dt above soft tissue of ribs, clavicles, shoulder blades and upper arms: compact bone around marrow."""
    turn, stretch = math.radians(view.rotation_deg), view.inspiration
    x, y, z, length = patient.ribs.T
    front = patient.rib_ends
    x = x * math.cos(turn) + z * math.sin(turn) + patient.scoliosis * np.sin(y / 70) * ~front
    # Ribs rise with inspiration, more at the front.
    y = y * np.where(front, 0.5 + 0.5 / stretch, 1.0) * (0.55 + 0.45 * stretch)
    lines = [
        (x[~front], y[~front], length[~front], 6.0, 4.8),
        (x[front], y[front], 0.75 * length[front], 6.8, 5.9),
    ]
    t, reach, swing = np.linspace(0, 1, 220), patient.half_width, 60 * math.sin(turn)
    pairs = [
        # Clavicle: an S from the sternum up to the shoulder.
        (12 + 1.1 * reach * t, 46 - 52 * t + 7 * np.sin(2 * np.pi * t), 1.1, swing, 6.4, 4.6),
        # Shoulder blade: its outer border and its spine.
        (reach + 24 - 18 * t**2, 8 + 0.55 * height * t, 0.7, 0, 3.0, 1.9),
        (reach * (0.62 + 0.55 * t), 12 - 26 * t, 0.6, 0, 3.2, 2.1),
        # Upper arm.
        (reach + patient.fat + 18 + patient.arm * 300 * t, 22 + 300 * t, 0.8, 0, 11.5, 8.2),
    ]
    for aside, down, weight, shift, outer, inner in pairs:
        step = weight * np.hypot(np.gradient(aside), np.gradient(down))
        both = np.concatenate([aside, -aside]) + shift
        lines.append((both, np.tile(down, 2), np.tile(step, 2), outer, inner))
    groups = []
    for x, y, length, outer, inner in lines:
        column, row = _pixels(view, side, pixel_mm, height, x, y)
        # Marrow lies between thin plates of bone.
        discs = [(outer / pixel_mm, MU_CORTICAL - MU_SOFT), (inner / pixel_mm, MU_TRABECULAR - MU_CORTICAL)]
        groups.append((column, row, length / pixel_mm, discs))
    return _tubes(groups, side) * (pixel_mm * patient.bone)


@lru_cache(maxsize=4)
def _power_law_filter(side: int, exponent: float) -> np.ndarray:
    frequency = _frequency(side, side)
    amplitude = np.where(frequency > 5 / side, np.maximum(frequency, 1 / side) ** -exponent, 0)
    return (amplitude / np.sqrt(2 * (amplitude**2).mean())).astype(np.float32)


def power_law(side: int, seed: int, exponent: float = 1.1) -> np.ndarray:
    """Mottle (side, side) float32 with amplitude frequency^-exponent, mean 0 and standard deviation about 1."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((2, side, side // 2 + 1), np.float32)
    return fft.irfft2((white[0] + 1j * white[1]) * _power_law_filter(side, exponent), (side, side)) * side


def _marker(view: View, side: int, pixel_mm: float) -> np.ndarray:
    """∫ µ dt of the letter of lead, 0.3 mm thick."""
    strokes: dict[str, list[Any]] = {
        "L": [((0, 0), (0, 1)), ((0, 1), (0.6, 1))],
        "R": [((0, 0), (0, 1)), ((0, 0), (0.5, 0)), ((0.5, 0), (0.5, 0.5)), ((0, 0.5), (0.5, 0.5)),
              ((0.2, 0.5), (0.6, 1))],
    }  # fmt: skip
    tall = 15 / pixel_mm
    centre_x = view.marker_at[0] if view.marker == "R" else 1 - view.marker_at[0]
    left, top = int(centre_x * side - 0.5 * tall), int((view.marker_at[1]) * side - 0.7 * tall)
    window = np.s_[max(top, 0) : top + int(1.4 * tall), max(left, 0) : left + int(1.2 * tall)]
    rows, columns = (np.arange(side)[part] for part in window)
    column = (columns - centre_x * side) / tall + 0.3
    row = ((rows - view.marker_at[1] * side) / tall + 0.5)[:, None]
    distance = np.full((len(rows), len(columns)), np.inf)
    for (x0, y0), (x1, y1) in strokes[view.marker]:
        along_x, along_y = x1 - x0, y1 - y0
        at = np.clip(((column - x0) * along_x + (row - y0) * along_y) / (along_x**2 + along_y**2), 0, 1)
        distance = np.minimum(distance, np.hypot(column - x0 - at * along_x, row - y0 - at * along_y))
    letter = np.zeros((side, side), np.float32)
    letter[window] = 0.3 * MU_LEAD * np.clip(0.09 * tall - distance * tall + 0.5, 0, 1)
    return letter


def _wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian far wider than a pixel, computed on every eighth: scatter has no detail."""
    side = len(image)
    padded = np.pad(image, (0, -side % 8), mode="edge")
    coarse = padded.reshape(len(padded) // 8, 8, -1, 8).mean((1, 3))
    coarse = ndimage.gaussian_filter(coarse, sigma / 8, mode="nearest")
    at = (np.arange(side) + 0.5) / 8 - 0.5
    low = np.clip(at.astype(int), 0, len(coarse) - 2)
    share = (at - low).astype(np.float32)
    rows = coarse[low] * (1 - share)[:, None] + coarse[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def _shutter(view: View, side: int) -> np.ndarray:
    """1 inside the collimated field, 0 outside, with a soft edge."""
    left, top, right, bottom = (share * side for share in view.shutter)
    at = np.arange(side) + 0.5
    across = np.clip(at - left + 0.5, 0, 1) * np.clip(side - right - at + 0.5, 0, 1)
    down = np.clip(at - top + 0.5, 0, 1) * np.clip(side - bottom - at + 0.5, 0, 1)
    return (down[:, None] * across[None]).astype(np.float32)


def _between(lungs: np.ndarray) -> np.ndarray:
    """Each row filled from its first to its last lung pixel."""
    return np.maximum.accumulate(lungs, 1) & np.maximum.accumulate(lungs[:, ::-1], 1)[:, ::-1]
