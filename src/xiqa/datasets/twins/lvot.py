"""Simulated four-chamber cines: a beating heart in a chest, with the left ventricular outflow tract in some frames."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pandas as pd

from xiqa.config import Twin
from xiqa.datasets.twins import mri
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

CLASSES = ("good", "lvot")
SIDE = 144
"""Rows and columns of a frame."""

FAT, MUSCLE, LUNG = 0.75, 0.3, 0.06
"""Signals relative to blood, as balanced steady-state free precession shows them."""


@dataclass(frozen=True)
class Frame:
    """One simulated frame of a cine.

    Attributes:
        image: (h, w) float32, what the scanner shows.
        mask: (h, w) bool, the outflow tract with its wall.
        halo: (h, w) bool, the voxels around it that the tract fills by less than half.
        tissue: (h, w) float32 signal before coil, blur and noise; blood is about 1.
        spacing_mm: side of a pixel.
        facts: what the generator drew and must not decide the label.
    """

    image: np.ndarray
    mask: np.ndarray
    halo: np.ndarray
    tissue: np.ndarray
    spacing_mm: float
    facts: dict[str, float]


def render(patient_seed: int, image_seed: int, phase: float, severity: float, side: int = SIDE) -> Frame:
    """One frame of one patient.

    Chest, heart, gain and noise follow from seeds and phase alone: with another severity everything but the tract
    stays the same, noise included.

    Args:
        patient_seed: seed of chest, heart, tract and scan.
        image_seed: seed of the frame's breathing shift and noise.
        phase: time within the heartbeat, 0 to 1; 0 is the end of filling, 0.36 the end of contraction.
        severity: share of the slice's thickness that the tract fills; the signal changes in proportion to it. 0: the
            plane misses the tract. Above 1: as bright as inflowing blood makes it.
        side: rows and columns.
    """
    scan = np.random.default_rng(stream_seed(patient_seed, "scan"))
    gain, noise_sd = 600 * np.exp(scan.normal(0, 0.3)), scan.uniform(0.055, 0.09)
    resolution, ghost = scan.uniform(0.65, 0.9), scan.uniform(0, 0.02)
    coil = mri.coil_field(scan, (side, side), 0.2)
    plane, chest = _chest(patient_seed, side)
    spacing_mm = float(plane.right[0])

    draw = np.random.default_rng(stream_seed(image_seed, "frame"))
    shift_mm = draw.normal(0, [0.8, 1.6])
    tissue = chest.copy()
    tract, share = _beating_heart(tissue, plane, patient_seed, phase, shift_mm)
    tissue = np.maximum(tissue + np.float32(severity) * share * (tract - tissue), 0)
    image = mri.acquire(
        tissue * coil * draw.normal(1, 0.015),
        np.random.default_rng(stream_seed(image_seed, "noise")),
        noise_sd=noise_sd,
        resolution=resolution,
        ghost=ghost,
        ghost_px=int(scan.integers(side // 5, side // 2)),
    )
    facts = {"phase": phase, "spacing_mm": spacing_mm, "gain": gain, "noise_sd": noise_sd, "resolution": resolution,
             "shift_mm": float(np.hypot(*shift_mm))}  # fmt: skip
    mask = share > 0.5
    return Frame(image * np.float32(gain), mask, (share > 0) & ~mask, tissue, spacing_mm, facts)


@lru_cache(maxsize=2)
def _chest(seed: int, side: int) -> tuple[mri.Plane, np.ndarray]:
    """The plane of a patient's cine, and the signal (h, w) of everything but the heart, which is at rest.

    x runs to the patient's left, y to the back, in mm from the middle of the chest.
    """
    rng = np.random.default_rng(stream_seed(seed, "chest"))
    spacing_mm = rng.uniform(250, 310) / side
    plane = mri.Plane.centred((*rng.normal(0, 6, 2), 0), (0, 1, 0), (1, 0, 0), (side, side), spacing_mm)
    x, y = position = plane.coordinates()[:2]
    image = np.zeros(plane.shape, np.float32)

    def field(wavelength_mm: float) -> np.ndarray:
        return mri.Waves.draw(rng, wavelength_mm).on(plane)

    def paint(distance_mm: np.ndarray, value) -> None:
        mri.blend(image, mri.coverage(distance_mm, spacing_mm), value)

    def oval(centre, radii, value) -> None:
        paint(mri.ellipsoid(position, centre, radii) + 0.04 * min(radii) * bumps, value)

    bumps, fine = field(50), field(7)
    fat_mm, wall_mm = rng.uniform(6, 24), rng.uniform(14, 22)
    body = mri.ellipsoid(position, (0, 14), rng.uniform((150, 98), (175, 112)) + fat_mm / 2) + 2.5 * field(110)
    paint(body, FAT * (1 + 0.06 * fine))
    paint(body + fat_mm, np.where(field(14) > 1.1, 0.8 * FAT, MUSCLE * (1 + 0.1 * fine)))
    ribs = 4 * (0.25 - np.sin(np.arctan2(y - 14, x) * rng.integers(9, 13) + rng.uniform(0, 6)))
    middle = np.abs(body + fat_mm + 0.6 * wall_mm)
    paint(np.maximum(ribs, middle - 4.5), 0.12)
    paint(np.maximum(ribs + 1.5, middle - 3), 0.4)
    chest = body + fat_mm + wall_mm
    lung = LUNG + 0.45 * np.clip(field(9) + 0.5 * field(25) - 1.5, 0, 1) + 0.03 * field(40)
    paint(chest, np.maximum(lung, 0.02))
    if rng.random() < 0.7:
        size = rng.uniform(35, 60)
        liver = mri.ellipsoid(position, (-95, rng.uniform(-15, 40)), (size, 1.1 * size)) + bumps
        vessels = 0.35 * np.clip(field(16) - 1.2, 0, 1)
        paint(np.maximum(liver, chest + 2), rng.uniform(0.38, 0.5) * (1 + 0.05 * fine) + vessels)
    if rng.random() < 0.3:
        oval((95, 72), (30, 24), rng.uniform(0.2, 0.6))
    # The mediastinum behind the heart: spine, cord, muscles of the back, aorta, gullet, azygos vein.
    oval((-4, 62), (44, 34), 0.8 * FAT * (1 + 0.15 * fine))
    for side_of in (-1, 1):
        oval((side_of * 30 - 4, 106), (24, 13), MUSCLE * (1 + 0.12 * fine))
    oval((-4, 96), (26, 10), 0.2)
    oval((-4, 78), (20, 16), 0.15)
    oval((-4, 78), (18, 14.5), rng.uniform(0.35, 0.55) * (1 + 0.08 * fine))
    oval((-4, 98), (10, 7.5), 0.95)
    oval((-4, 98), (5.5, 4), 0.55)
    radius_mm, at = rng.uniform(9, 14), (rng.normal(20, 3), rng.normal(57, 3))
    oval(at, (radius_mm + 1.6,) * 2, 0.3)
    oval(at, (radius_mm,) * 2, rng.uniform(0.85, 1.1))
    oval((rng.normal(4, 2), 55), (6, 4), 0.35)
    oval((rng.normal(-8, 2), 58), (3.5, 3.5), 0.9)
    return plane, image


def _contraction(phase: float) -> float:
    """How far the ventricles are contracted, 0 to 1, periodic in the phase."""
    # Contraction takes a third of the beat, early filling is fast, the atria add the rest at the end.
    return float(
        np.interp(phase % 1, [0, 0.1, 0.25, 0.36, 0.45, 0.6, 0.85, 1], [0, 0.25, 0.85, 1, 0.85, 0.25, 0.15, 0])
    )


def _opening(phase: float) -> float:
    """How far the valves between atria and ventricles are open, 0 to 1; those of the arteries open when these close."""
    return float(np.interp(phase % 1, [0, 0.05, 0.42, 0.52, 0.65, 0.8, 0.9, 1], [0.3, 0, 0, 1, 0.5, 0.5, 0.9, 0.3]))


def _segment(u: np.ndarray, v: np.ndarray, start, end) -> np.ndarray:
    """Distance in mm from a line between two points (u, v)."""
    u0, v0, du, dv = map(float, (*start, *np.subtract(end, start)))
    along = np.clip(((u - u0) * du + (v - v0) * dv) / (du * du + dv * dv), 0, 1)
    return np.hypot(u - u0 - along * du, v - v0 - along * dv)


def _union(first: np.ndarray, second: np.ndarray, round_mm: float) -> np.ndarray:
    """Distance from two shapes with the corner between them rounded."""
    mixed = np.clip(0.5 + 0.5 * (second - first) / round_mm, 0, 1)
    return second + mixed * (first - second) - round_mm * mixed * (1 - mixed)


class _Brush(NamedTuple):
    """What paints in the heart's own frame: the image (h, w), places (2, h, w) in mm, and the edge in mm."""

    image: np.ndarray
    position: np.ndarray
    edge: float

    def paint(self, distance_mm: np.ndarray, value) -> None:
        """Blend a value into the image where a distance is negative."""
        mri.blend(self.image, mri.coverage(distance_mm, self.edge), value)

    def oval(self, centre, radii) -> np.ndarray:
        """Distance from an ellipse in mm."""
        return mri.ellipsoid(self.position, centre, radii)


class _Ventricles(NamedTuple):
    """Distances (h, w) from the insides of both ventricles, and sizes of the left and the right one in mm."""

    cavity: np.ndarray
    right: np.ndarray
    inner_mm: float
    middle: float
    left_mm: float
    reach: float


def _inside_ventricles(brush: _Brush, rng: np.random.Generator, of: _Ventricles, muscle: float) -> None:
    """Paint papillary muscles, the moderator band, and the jet of filling or emptying."""
    u, v = brush.position
    for place in (rng.uniform(0.4, 0.5), rng.uniform(0.5, 0.62)):
        at = (place * of.inner_mm, of.middle + rng.uniform(0.35, 0.75) * of.left_mm)
        brush.paint(np.maximum(brush.oval(at, (rng.uniform(6, 10), rng.uniform(2, 4))), of.cavity), 1.1 * muscle)
    band = _segment(u, v, (0.6 * of.inner_mm, 0), (0.5 * of.inner_mm, -of.reach)) - rng.uniform(0.5, 1.6)
    brush.paint(np.maximum(band, of.right), 1.2 * muscle)
    jet = brush.oval((0.25 * of.inner_mm, of.middle + rng.normal(0, 4)), (0.25 * of.inner_mm, 4))
    mri.blend(brush.image, 0.25 * rng.random() * mri.coverage(np.maximum(jet, of.cavity), 4), 0.4)


def _valve(brush: _Brush, of: _Ventricles, hinge: float, other: float, base: float, opening: float) -> None:
    """Paint the two leaves of a valve between atrium and ventricle, hinged at both ends of its rim."""
    u, v = brush.position
    leaf_mm = 0.52 * abs(other - hinge)
    for start, sign in ((hinge, np.sign(other - hinge)), (other, np.sign(hinge - other))):
        turn = np.deg2rad(-8 + 70 * opening)
        tip = (base + leaf_mm * np.sin(turn), start + sign * leaf_mm * np.cos(turn))
        leaf = np.maximum(_segment(u, v, (base, start), tip) - 0.6, np.minimum(of.cavity - 4, of.right - 4))
        mri.blend(brush.image, 0.8 * mri.coverage(leaf, brush.edge), 0.5)


def _beating_heart(
    image: np.ndarray, plane: mri.Plane, seed: int, phase: float, shift_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the heart into `image`; give signal and share (h, w) of its outflow tract, which is not painted.

    In the heart's own frame u runs from the valves to the apex and v from the septum to the left side wall.
    """
    rng = np.random.default_rng(stream_seed(seed, "heart"))
    squeeze, opening = _contraction(phase), _opening(phase)
    angle = np.deg2rad(rng.normal(38, 9))
    size = rng.normal(1, 0.08)
    length_mm, wall_mm = size * rng.uniform(78, 92), rng.uniform(7.5, 11) * (1 + 0.45 * squeeze)
    left_mm = size * rng.uniform(20, 26) * (1 - rng.uniform(0.25, 0.38) * squeeze)
    right_mm = size * rng.uniform(16, 24) * (1 - rng.uniform(0.15, 0.3) * squeeze)
    atria_mm = size * rng.uniform(17, 25, 4) * (1 + rng.uniform(0.1, 0.2) * squeeze)
    down_mm = rng.uniform(9, 15) * squeeze
    crux = np.array([rng.normal(-14, 4), rng.normal(6, 4)]) + shift_mm
    muscle, blood, fat = rng.uniform(0.33, 0.45), rng.uniform(0.92, 1.05), FAT * rng.uniform(0.85, 1.1)

    axes = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    valves = np.append(crux, 0) + down_mm * axes[0]
    own = mri.Plane(axes @ (plane.origin - valves), axes @ plane.down, axes @ plane.right, plane.shape)
    u, v = own.coordinates()[:2]
    edge = float(plane.right[0])
    inner_mm = length_mm - down_mm
    # The septum bulges to the right.
    v = v + rng.uniform(2, 6) * 4 * np.clip(u / inner_mm, 0, 1) * (1 - np.clip(u / inner_mm, 0, 1))
    brush = _Brush(image, np.stack([u, v]), edge)
    paint, oval = brush.paint, brush.oval

    def field(wavelength_mm: float) -> np.ndarray:
        return mri.Waves.draw(rng, wavelength_mm).on(own)

    rough, fine, bumps = field(9), field(5), field(35)
    pool = blood * (1 + 0.03 * field(18) + 0.02 * fine)
    septum_mm = 0.9 * wall_mm
    middle = septum_mm / 2 + left_mm
    cavity = np.maximum(oval((0.12 * inner_mm, middle), (0.88 * inner_mm, left_mm)) + 0.5 * rough, -u)
    outside = np.maximum(oval((0.12 * inner_mm, middle), (0.88 * inner_mm + 0.8 * wall_mm, left_mm + wall_mm)), -u - 4)
    reach = 2 * right_mm + septum_mm / 2
    right = np.maximum(oval((0.02 * inner_mm, 0), (0.9 * inner_mm, reach)), v - 2)
    right_outside = right - rng.uniform(3, 4.5)
    right = np.maximum.reduce([right + 0.9 * rough, -outside + 0.3, 3 - u])
    left_atrium = oval((-0.9 * atria_mm[0], 3 + atria_mm[1]), atria_mm[:2]) + 1.5 * bumps
    right_atrium = oval((4 - 0.9 * atria_mm[2], -3 - atria_mm[3]), atria_mm[2:]) + 1.5 * bumps
    whole = _union(_union(outside, np.maximum(right_outside, -u - 2), 6), _union(left_atrium, right_atrium, 8), 10)

    # Fat around the heart and in the grooves, then walls, then blood.
    pad_mm = rng.uniform(1, 5) + 2 * field(45)
    paint(whole - 2 - np.maximum(pad_mm, 0), fat * (1 + 0.08 * fine))
    for at in ((-1, septum_mm + 2 * left_mm + 3), (2, -reach - 1)):
        groove = oval(at, rng.uniform(6, 10, 2))
        paint(groove, fat)
        paint(oval(np.add(at, rng.normal(0, 2, 2)), (2.2, 2.2)), rng.choice([0.15, 0.95]))
    paint(whole - 1.8, 0.15)
    paint(np.minimum(outside, np.maximum(right_outside, -u)), muscle * (1 + 0.05 * fine))
    paint(np.minimum(left_atrium, right_atrium) - 1.6, 0.9 * muscle)
    paint(left_atrium, pool)
    paint(right_atrium, pool * rng.uniform(0.92, 1.03))
    paint(right, pool * rng.uniform(0.9, 1.05))
    paint(cavity, pool)
    shape = _Ventricles(cavity, right, inner_mm, middle, left_mm, reach)
    _inside_ventricles(brush, rng, shape, muscle)
    for hinge, other, base in ((septum_mm / 2, septum_mm / 2 + 2 * left_mm, 0), (-4, -reach + 3, 4)):
        _valve(brush, shape, hinge, other, base, opening)
    # What lies at the crux without a tract, and varies from heart to heart: fat, a thick or thin septum, the coronary
    # sinus with its blood. Brightness at this place alone tells nothing.
    waist_mm = rng.uniform(1.5, 4.5)
    paint(_segment(u, v, (0, 0), (-1.6 * atria_mm[0], rng.normal(0, 3))) - waist_mm, muscle * rng.uniform(0.9, 1.3))
    if rng.random() < 0.6:
        paint(oval((rng.uniform(-12, -2), rng.normal(0, 2)), rng.uniform(3, 9, 2)), fat)
    paint(oval((-1, 0), rng.uniform(3, 7, 2)), muscle)
    if rng.random() < 0.5:
        at, radius_mm = (rng.uniform(-14, -3), rng.choice([-1, 1]) * rng.uniform(2, 9)), rng.uniform(3, 6.5)
        paint(oval(at, (radius_mm + 1, radius_mm + 1.3)), muscle)
        paint(oval(at, (radius_mm, radius_mm)), blood * rng.uniform(0.8, 1.0))
    return _tract(own, cavity, seed, blood, muscle, septum_mm, opening)


def _tract(
    own: mri.Plane, cavity: np.ndarray, seed: int, blood: float, muscle: float, septum_mm: float, opening: float
) -> tuple[np.ndarray, np.ndarray]:
    """Signal and share (h, w) of the outflow tract: from the left ventricle to the root of the aorta."""
    rng = np.random.default_rng(stream_seed(seed, "tract"))
    u, v = own.coordinates()[:2]
    edge = float(np.linalg.norm(own.right))
    half_mm, length_mm = rng.uniform(8, 11.5), rng.uniform(14, 24)
    start, end = (8, septum_mm / 2 + half_mm), (-length_mm, rng.uniform(-5, 3))
    channel = _segment(u, v, start, end) - half_mm
    root = mri.ellipsoid(np.stack([u, v]), end, (half_mm * rng.uniform(1, 1.2), half_mm * rng.uniform(1.15, 1.5)))
    distance = _union(channel, root, 5) + 0.5 * mri.Waves.draw(rng, 14).on(own)
    wall_mm = rng.uniform(1.5, 2.5)
    signal = blood * rng.uniform(0.85, 1.05) * (1 + 0.03 * mri.Waves.draw(rng, 9).on(own))
    # The leaves of the aortic valve close the root while the ventricle fills.
    turn = np.deg2rad(10 + 65 * (1 - min(1, 3 * opening)))
    for side in (-1, 1):
        hinge = 0.6 * end[0], 0.6 * end[1] + side * half_mm
        tip = hinge[0] - half_mm * np.sin(turn), hinge[1] - side * half_mm * np.cos(turn)
        mri.blend(signal, 0.6 * mri.coverage(_segment(u, v, hinge, tip) - 0.6, edge), 0.4)
    mri.blend(signal, mri.coverage(-distance - wall_mm, edge), 1.1 * muscle)
    return signal, mri.coverage(np.maximum(distance, -cavity), edge)


def write(folder: Path, twin: Twin, seed: int, progress: Progress, redraw: Redraw = unchanged) -> None:
    """Write the twin: `cine/<patient>.nii.gz` (x, y, t) int16, `masks/` uint8, `labels.csv`, then `twin.csv`.

    Args:
        folder: where the files go.
        twin: how many patients, frames of each and levels of severity.
        seed: the study's seed.
        progress: called with frames done, frames in all, and the patient.
        redraw: changes what is made of whom before it is made.
    """
    planned = redraw(plan("lvot", twin, seed, CLASSES, label_per="image", negative="good"))
    labels, rows = [], []
    for images in by_patient(planned):
        patient, cine, masks = images[0].patient, [], []
        for number, (image, phase) in enumerate(_in_time(images)):
            frame = render(image.patient_seed, image.image_seed, phase, image.severity if image.label else 0.0)
            cine.append(np.rint(frame.image.T).astype(np.int16))
            masks.append(frame.mask.T.astype(np.uint8) * image.label)
            labels.append({"patient": patient, "frame": number, "label": image.label})
            rows.append(twin_row(image, **{"image": f"{patient}-{number:03d}"} | frame.facts))
        for name, stack in (("cine", cine), ("masks", masks)):
            _write_nifti(folder / name / f"{patient}.nii.gz", np.stack(stack, -1), frame.spacing_mm)
        progress(len(rows), len(planned), patient)
    write_table(folder / "labels.csv", pd.DataFrame(labels))
    write_twin_table(folder, rows)


def _in_time(images: list[Planned]) -> list[tuple[Planned, float]]:
    """A patient's planned frames in the order of the heartbeat, with their phases.

    The plane drifts into the tract and out of it once: frames with it follow each other (the last is before the
    first), at any phase.
    """
    rng = np.random.default_rng(stream_seed(images[0].patient_seed, "cine"))
    shown = sorted((image for image in images if image.label), key=lambda image: image.severity)
    order = shown[::2] + shown[1::2][::-1] + [image for image in images if not image.label]
    first, start = rng.integers(len(order)), rng.random()
    return [(order[(first + n) % len(order)], (n + start) / len(order)) for n in range(len(order))]


def _write_nifti(path: Path, stack: np.ndarray, spacing_mm: float) -> None:
    image = nibabel.Nifti1Image(stack, np.diag([-spacing_mm, -spacing_mm, 8.0, 1.0]))
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        # A fixed time in the header of gzip: the same seed gives the same bytes.
        temporary.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))
