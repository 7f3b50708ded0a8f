"""The reader: from an image of the CDMAM phantom to the matrix of what was detected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xiqa.cdmam import signals
from xiqa.cdmam.grid import (
    Pose,
    block_sides,
    candidate_poses,
    check_inside,
    check_pitch,
    decimate,
    find_lattice,
    fit_lattice,
    flatten,
    in_frame,
    lattice_of_block,
    nearest_orientation,
    nominal_pitch_mm,
    orientation_axes,
)
from xiqa.cdmam.phantom import Phantom, phantom
from xiqa.cdmam.signals import Discs, choose_pose, observe, settle_discs
from xiqa.cdmam.upright import find_upright

HIT, MISS, NO_CELL = 1, 2, -1
SEARCH_MM = 0.225
"""How far from its expected place a disc is looked for. The search makes the reader as sensitive as the field's
standard reader, which searches too: docs/explanation/reader.md."""


@dataclass(frozen=True)
class Displacement:
    """Where the discs lie against the grid, which is printed apart from them: a common affine map of all cell centres.

    Attributes:
        shift_x_mm, shift_y_mm: shift at the matrix centre, right and down in the image, in mm on the detector.
        rotation_deg: turn about the matrix centre, clockwise on the screen.
        scale: distances of the discs from the matrix centre over those of their cells (geometric mean).
        skew: half the difference of the largest and the smallest such ratio in any direction over their mean.
        largest_mm: largest distance of a central disc from the centre of its cell.
        residual_mm: root mean square distance along an axis of single discs from this map.
        standard_error_mm: largest standard error of a disc's place by this map over all cells.
        discs: how many discs were located one by one, of 410.
    """

    shift_x_mm: float
    shift_y_mm: float
    rotation_deg: float
    scale: float
    skew: float
    largest_mm: float
    residual_mm: float
    standard_error_mm: float
    discs: int


@dataclass(frozen=True)
class Registration:
    """Where the phantom lies in an image.

    Attributes:
        origin_mm: (x, y) of the matrix centre from the image's upper left corner.
        angle_deg: tilt of the phantom against its nominal stand (CDMAM 3.4 on its corner), clockwise on the screen.
        scale: pitch of the grid on the detector over the nominal one (10 mm for CDMAM 3.4, 9 mm for 4.0).
        orientation: quarter turns counter-clockwise (0-3), plus 4 where the phantom was mirrored left-right before
            the turn; 0 is thick and large on the left, thick and small on top (CDMAM 4.0: large on top, thick right).
        residual_mm: root mean square distance of the grid lines' sides from the fitted lattice.
        pitch_mm: pitch of the grid on the detector.
        eccentric_offset: place of the eccentric discs as a fraction of the cell.
        magnification: size of the discs on the detector over their nominal size.
        discs_dark: whether the discs are darker than the background.
        discs_visible: whether enough discs were seen to settle orientation, displacement and offset from them.
        displacement: where the discs lie against the grid; None where too few are visible: they are taken to lie in
            their cells as the grid says.
        frame_px: (3, 2) float64: centre of cell (0, 0), step to the next smaller diameter, step to the next larger
            thickness; (x, y) in pixels of the image, pixel centres on integers.
        disc_frame_px: (3, 2) float64: the same of the central discs, by which all discs were looked for.
    """

    origin_mm: tuple[float, float]
    angle_deg: float
    scale: float
    orientation: int
    residual_mm: float
    pitch_mm: float
    eccentric_offset: float
    magnification: float
    discs_dark: bool
    discs_visible: bool
    displacement: Displacement | None
    frame_px: np.ndarray
    disc_frame_px: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What was read from one image.

    Attributes:
        name: name of the image.
        corner: (D, T) int8: eccentric disc found (1 hit, 2 miss, -1 no cell).
        centre: (D, T) int8: central disc found, likewise.
        choice: (D, T) int8: corner code chosen (1-4), 0 where there is no cell.
        scores: (4, D, T) float32: signal in the place of corner code k + 1: counts by which the disc-shaped area
            there stands out of the background, positive in the discs' direction; NaN where there is no cell.
        centre_scores: (D, T) float32: the same in the centre.
        registration: where the phantom lies.
        version: version of the phantom; it has D diameters and T thicknesses.
    """

    name: str
    corner: np.ndarray
    centre: np.ndarray
    choice: np.ndarray
    scores: np.ndarray
    centre_scores: np.ndarray
    registration: Registration
    version: str = "3.4"


def read_image(
    counts: np.ndarray,
    pixel_mm: float,
    name: str = "image",
    *,
    search_mm: float = SEARCH_MM,
    block_px: np.ndarray | None = None,
    orientation: int | None = None,
    version: str | None = None,
) -> Reading:
    """Find the phantom in an image and decide on each of its discs.

    The grid is found as the strongest square lattice of lines in the spectrum, then fitted to the measured sides of
    all cells; shape and discs of the matrix settle orientation, polarity, the displacement of the discs against the
    grid and the offset of the eccentric ones, for the image as a whole. In each cell the image is resampled to
    0.05 mm, a plane fitted to the background is taken off, and the signal of a place is the strongest mean under a disc
    of the true diameter within `search_mm` of it: the corner with the strongest signal is chosen (four-alternative
    forced choice). The central disc counts as seen where its signal exceeds those of the three corners that hold no
    disc.

    Args:
        counts: (h, w) pixel values, any real type; either polarity, any of the eight orientations.
        pixel_mm: pixel spacing in the detector plane in mm.
        name: name of the image, for errors.
        search_mm: how far from its expected place a disc is looked for. The default searches as the field's standard
            reader does; 0 is the observer who knows the place, whose thresholds are about a third lower.
        block_px: (4, 2) x, y in pixels of the corners of a block of 8 × 8 cells, where the grid is not found without.
        orientation: 0-7, as in `Registration`, where it is known; None: outline and discs settle it.
        version: version of the phantom; None: what the grid shows. Corners are those of CDMAM 3.4.

    Returns:
        What was detected, with the scores behind it and the registration.

    Raises:
        ValueError: the image is blank, shows no CDMAM phantom, shows only a part of it, or the pixel spacing
            contradicts the pitch of the grid.

    Reference:
        The four-alternative choice per cell as in CDCOM (Visser and Karssemeijer, CDCOM manual, 2008; Young et al.,
        Proc. SPIE 6142, 2006); the signal is that of an observer who knows place and size of the disc.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or min(counts.shape) < 100:
        raise ValueError(
            f"{name}: found an array of shape {counts.shape}, expected one image (h, w) of a CDMAM phantom"
        )
    if not (math.isfinite(pixel_mm) and pixel_mm > 0):
        raise ValueError(f"{name}: found pixel spacing {pixel_mm} mm, expected a positive number")
    image = np.ascontiguousarray(counts, dtype=np.float32)
    factor = max(1, round(max(image.shape) / 1000))
    small = decimate(image, factor)
    if not np.isfinite(small).all():
        raise ValueError(f"{name}: found values that are not finite, expected pixel values")
    flat = flatten(small, name)

    poses, line_sign, pitch_mm, residual_mm = _locate(flat, version, factor, pixel_mm, name, block_px)
    if orientation is not None:
        possible = [nearest_orientation(pose.frame, pose.phantom.axes) for pose in poses]
        if orientation not in possible:
            shown = " or ".join(map(str, sorted(possible)))
            raise ValueError(f"{name}: found orientation {orientation}, expected {shown}, which the outline allows")
        poses = [poses[possible.index(orientation)]]
    pose, disc_sign, visible = choose_pose(small, poses, pixel_mm * factor, pitch_mm, line_sign)
    pose = pose.enlarged(factor)
    check_inside(pose, pixel_mm, pitch_mm, image.shape, name)

    discs = settle_discs(image, pose, pixel_mm, pitch_mm, disc_sign, visible)
    signal = observe(image, discs.pose, pixel_mm, discs.magnification, discs.offset, disc_sign, search_mm)
    return _decide(name, signal, _registration(discs, pixel_mm, residual_mm, disc_sign), pose.phantom)


def _locate(
    flat: np.ndarray, version: str | None, factor: int, pixel_mm: float, name: str, block_px: np.ndarray | None
) -> tuple[list[Pose], int, float, float]:
    """Poses that the grid allows, sign of the lines, pitch and residual in mm.

    Where no version is given, an image that does not show CDMAM 3.4 may show 4.0, whose grid stands otherwise.
    """
    sides = None if block_px is None else block_sides((np.asarray(block_px, float) + 0.5) / factor - 0.5, name)
    if version is None and sides is not None:  # 3.4 stands on a corner, 4.0 upright
        version = "4.0" if abs(sides[0]) < math.pi / 8 else "3.4"
    if version is None:
        try:
            return _locate(flat, "3.4", factor, pixel_mm, name, None)
        except ValueError as error:
            try:
                return _locate(flat, "4.0", factor, pixel_mm, name, None)
            except ValueError as other:
                raise (error if "not a CDMAM 4.0" in str(other) else other) from None
    known = phantom(version)
    if known.version == "3.4":
        lattice, line_sign = find_lattice(flat, name) if sides is None else lattice_of_block(sides, flat)
        lattice, cells = fit_lattice(flat * line_sign, lattice, name)
        poses = candidate_poses(lattice, cells, name)
        pitch_mm = check_pitch(lattice, factor, pixel_mm, name)
        residual_px = cells.residual_px
    else:
        found = find_upright(flat, known, name, sides)
        poses = [Pose(frame, np.zeros((*known.present.shape, 2)), phantom=known) for frame in found.frames]
        nominal = nominal_pitch_mm(known)
        pitch_mm = check_pitch(found.frames[0], factor, pixel_mm, name, (0.9 * nominal, 1.2 * nominal))
        line_sign, residual_px = found.line_sign, found.residual_px
    residual_mm = residual_px * factor * pixel_mm
    if residual_mm > 0.3:
        raise ValueError(
            f"{name}: the grid lines lie {residual_mm:.2f} mm (root mean square) off a regular lattice, expected at "
            f"most 0.3 mm; is this a CDMAM {known.version} image without distortion?"
        )
    return poses, line_sign, pitch_mm, residual_mm


def is_compiled() -> bool:
    """Whether the reader's loops were compiled on this machine before; if not, the first image takes some seconds."""
    line = signals._means.py_func.__code__.co_firstlineno
    return any(Path(signals._means._cache.cache_path).glob(f"signals._means-{line}.*nbi"))


def _decide(name: str, signal: np.ndarray, registration: Registration, known: Phantom) -> Reading:
    """Turn signals (5, D, T) [centre, corner codes 1-4] into decisions."""
    corners = np.where(known.present, signal[1:], -np.inf)
    choice = np.where(known.present, corners.argmax(axis=0) + 1, 0).astype(np.int8)
    best_empty = np.where(known.empty_corners, corners, -np.inf).max(axis=0)

    def matrix(hit: np.ndarray) -> np.ndarray:
        return np.where(known.present, np.where(hit, HIT, MISS), NO_CELL).astype(np.int8)

    absent = np.where(known.present, 0.0, np.nan)
    return Reading(
        name=name,
        corner=matrix(choice == known.corner_codes),
        centre=matrix(signal[0] > best_empty),
        choice=choice,
        scores=(signal[1:] + absent).astype(np.float32),
        centre_scores=(signal[0] + absent).astype(np.float32),
        registration=registration,
        version=known.version,
    )


def _registration(discs: Discs, pixel_mm: float, residual_mm: float, disc_sign: int) -> Registration:
    """Describe where grid and discs lie in the field's terms."""
    frame, known = discs.pose.frame, discs.pose.phantom
    orientation = nearest_orientation(frame, known.axes)
    axes = orientation_axes(orientation, known.axes)
    steps = frame[1:]
    turn = sum(a[0] * s[1] - a[1] * s[0] for a, s in zip(axes, steps, strict=True))
    along = float((axes * steps).sum())
    pitch_mm = math.sqrt(abs(np.linalg.det(steps))) * pixel_mm
    x_mm, y_mm = (float(v) for v in (_middle(known) @ frame + 0.5) * pixel_mm)
    return Registration(
        origin_mm=(x_mm, y_mm),
        angle_deg=math.degrees(math.atan2(turn, along)),
        scale=pitch_mm / nominal_pitch_mm(known),
        orientation=orientation,
        residual_mm=residual_mm,
        pitch_mm=pitch_mm,
        eccentric_offset=discs.offset,
        magnification=discs.magnification,
        discs_dark=disc_sign < 0,
        discs_visible=discs.located > 0,
        displacement=_displacement(discs, pixel_mm) if discs.located else None,
        frame_px=frame,
        disc_frame_px=discs.pose.discs,
    )


def _middle(known: Phantom) -> np.ndarray:
    """Place of the matrix centre in a frame."""
    return np.array([1.0, *known.middle])


def _displacement(discs: Discs, pixel_mm: float) -> Displacement:
    """Describe the affine map from cells to discs by its polar decomposition."""
    frame, displaced, known = discs.pose.frame, discs.pose.displaced, discs.pose.phantom
    linear = np.linalg.solve(frame[1:], discs.pose.discs[1:]).T
    larger, smaller = np.linalg.svd(linear, compute_uv=False)
    moves = in_frame(displaced, *known.cell_places[:, known.present]) * pixel_mm
    shift = _middle(known) @ displaced * pixel_mm
    return Displacement(
        shift_x_mm=float(shift[0]),
        shift_y_mm=float(shift[1]),
        rotation_deg=math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])),
        scale=math.sqrt(larger * smaller),
        skew=float((larger - smaller) / (larger + smaller)),
        largest_mm=float(np.hypot(*moves.T).max()),
        residual_mm=discs.residual_px * pixel_mm,
        standard_error_mm=discs.standard_error_px * pixel_mm,
        discs=discs.located,
    )
