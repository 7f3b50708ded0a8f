"""The reader: from an image of the CDMAM 3.4 phantom to the matrix of what was detected."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numba
import numpy as np
import scipy.fft
import scipy.ndimage

from xiqa.cdmam.phantom import (
    CELL_PRESENT,
    CORNER_CODES,
    CORNER_STEPS,
    DIAMETER_AXIS,
    DIAMETERS_MM,
    THICKNESS_AXIS,
)

HIT, MISS, NO_CELL = 1, 2, -1
PITCH_RANGE_MM = (9.0, 12.7)
"""Pitch of the grid on the detector that a CDMAM phantom can have: 9.5-10.5 mm × magnification 1.00-1.15 ± 5 %."""
NOMINAL_PITCH_MM = 10.0
"""Pitch in the phantom's own plane, from which the scale is counted."""
NOMINAL_OFFSET = 0.285
"""Eccentric offset (fraction of the cell) from which the search for the true one starts, and the fallback."""
SEARCH_MM = 0.15 * math.sqrt(2)
"""How far from its expected place a disc is looked for: a round region about ±0.15 mm along both axes, the tolerance of
registration. The search makes the reader as sensitive as the field's standard reader, which searches too."""

_MAX_TILT_DEG = 8.0
_GRID_CLEARANCE_MM = 0.75  # half the widest grid line (0.8 mm), its blur and the registration error
_DISC_CLEARANCE_MM = 0.35  # blur and registration error around a disc that the background fit leaves out
_VISIBLE_SNR = 5.0
_STEP_MM = 0.05


@dataclass(frozen=True)
class Registration:
    """Where the phantom lies in an image.

    Attributes:
        origin_mm: (x, y) of the matrix centre from the image's upper left corner.
        angle_deg: tilt of the phantom against its nominal 45° stand, clockwise on the screen.
        scale: pitch of the grid on the detector over the nominal 10 mm.
        orientation: quarter turns counter-clockwise (0-3), plus 4 where the phantom was mirrored left-right before
            the turn; 0 is thick and large on the left, thick and small on top.
        residual_mm: root mean square distance of the grid lines' sides from the fitted lattice.
        pitch_mm: pitch of the grid on the detector.
        eccentric_offset: place of the eccentric discs as a fraction of the cell.
        magnification: size of the discs on the detector over their nominal size.
        discs_dark: whether the discs are darker than the background.
        discs_visible: whether enough discs were seen to settle orientation and offset from them.
        frame_px: (3, 2) float64: centre of cell (0, 0), step to the next smaller diameter, step to the next larger
            thickness; (x, y) in pixels of the image, pixel centres on integers.
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
    frame_px: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What was read from one image.

    Attributes:
        name: name of the image.
        corner: (16, 16) int8: eccentric disc found (1 hit, 2 miss, -1 no cell).
        centre: (16, 16) int8: central disc found, likewise.
        choice: (16, 16) int8: corner code chosen (1-4), 0 where there is no cell.
        scores: (4, 16, 16) float32: signal in the place of corner code k + 1: counts by which the disc-shaped area
            there stands out of the background, positive in the discs' direction; NaN where there is no cell.
        centre_scores: (16, 16) float32: the same in the centre.
        registration: where the phantom lies.
    """

    name: str
    corner: np.ndarray
    centre: np.ndarray
    choice: np.ndarray
    scores: np.ndarray
    centre_scores: np.ndarray
    registration: Registration


def read_image(counts: np.ndarray, pixel_mm: float, name: str = "image", *, search_mm: float = SEARCH_MM) -> Reading:
    """Find the phantom in an image and decide on each of its discs.

    The grid is found as the strongest square lattice of lines in the spectrum, then fitted to the measured sides of
    all cells; shape and discs of the matrix settle orientation, polarity and the offset of the eccentric discs, for
    the image as a whole. In each cell the image is resampled to 0.05 mm, a plane fitted to the background is taken
    off, and the signal of a place is the strongest mean under a disc of the true diameter within `search_mm` of it: the
    corner with the strongest signal is chosen (four-alternative forced choice). The central disc counts as seen where
    its signal exceeds those of the three corners that hold no disc.

    Args:
        counts: (h, w) pixel values, any real type; either polarity, any of the eight orientations.
        pixel_mm: pixel spacing in the detector plane in mm.
        name: name of the image, for errors.
        search_mm: how far from its expected place a disc is looked for. The default searches as the field's standard
            reader does; 0 is the observer who knows the place, whose thresholds are about a third lower.

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
    small = _decimate(image, factor)
    if not np.isfinite(small).all():
        raise ValueError(f"{name}: found values that are not finite, expected pixel values")
    flat = _flatten(small, name)

    lattice, line_sign = _find_lattice(flat, name)
    lattice, sides = _fit_lattice(flat * line_sign, lattice, name)
    poses = _candidate_poses(lattice, sides, name)
    pitch_mm = _check_pitch(lattice, factor, pixel_mm, name)
    residual_mm = sides.residual_px * factor * pixel_mm
    if residual_mm > 0.3:
        raise ValueError(
            f"{name}: the grid lines lie {residual_mm:.2f} mm (root mean square) off a regular lattice, expected at "
            "most 0.3 mm; is this a CDMAM 3.4 image without distortion?"
        )
    pose, disc_sign, visible = _choose_pose(small, poses, pixel_mm * factor, pitch_mm, line_sign)
    pose = _Pose(pose.frame * factor, pose.bend * factor)
    pose.frame[0] += (factor - 1) / 2
    _check_inside(pose, pixel_mm, pitch_mm, image.shape, name)

    pose, offset, magnification, visible = _settle_discs(image, pose, pixel_mm, pitch_mm, disc_sign, visible)
    signal = _observe(image, pose, pixel_mm, magnification, offset, disc_sign, search_mm)
    return _decide(
        name, signal, _registration(pose.frame, pixel_mm, residual_mm, offset, magnification, disc_sign, visible)
    )


def _decide(name: str, signal: np.ndarray, registration: Registration) -> Reading:
    """Turn signals (5, 16, 16) [centre, corner codes 1-4] into decisions."""
    corners = np.where(CELL_PRESENT, signal[1:], -np.inf)
    choice = np.where(CELL_PRESENT, corners.argmax(axis=0) + 1, 0).astype(np.int8)
    empty = np.arange(1, 5)[:, None, None] != CORNER_CODES
    best_empty = np.where(empty, corners, -np.inf).max(axis=0)

    def matrix(hit: np.ndarray) -> np.ndarray:
        return np.where(CELL_PRESENT, np.where(hit, HIT, MISS), NO_CELL).astype(np.int8)

    absent = np.where(CELL_PRESENT, 0.0, np.nan)
    return Reading(
        name=name,
        corner=matrix(choice == CORNER_CODES),
        centre=matrix(signal[0] > best_empty),
        choice=choice,
        scores=(signal[1:] + absent).astype(np.float32),
        centre_scores=(signal[0] + absent).astype(np.float32),
        registration=registration,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The grid: a square lattice of lines, found in the spectrum, fitted to the sides of the cells


@numba.njit(cache=True)
def _decimate(image, factor):
    """Means over factor × factor blocks, (h // factor, w // factor) float32."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    small = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            total = 0.0
            for v in range(factor):
                for u in range(factor):
                    total += image[y * factor + v, x * factor + u]
            small[y, x] = total / (factor * factor)
    return small


def _flatten(small: np.ndarray, name: str) -> np.ndarray:
    """Remove the slow background and clip what stands out of it, so that neither plate edges nor writing dominate."""
    size = max(small.shape) // 25
    flat = small - scipy.ndimage.uniform_filter(small, size, mode="nearest")
    spread = float(np.std(flat))
    scale = float(np.abs(small).max())
    if spread <= 1e-6 * scale or spread == 0:
        raise ValueError(f"{name}: the image is blank (all values about {small.mean():g}), expected a CDMAM phantom")
    limit = 6 * float(np.median(np.abs(flat))) or spread
    return np.clip(flat, -limit, limit)


@numba.njit(cache=True)
def _lattice_power(magnitude, height, width, angles, pitches, harmonics):
    """Strength (angles, pitches) of a square lattice of lines in a spectrum laid out (rows from -, columns >= 0).

    For each of both line families the magnitudes at the first harmonics are summed; the geometric mean of both sums
    keeps a single family (stripes, plate edges) from winning.
    """
    power = np.empty((angles.size, pitches.size))
    rows, columns = magnitude.shape
    for a in range(angles.size):
        for p in range(pitches.size):
            product = 1.0
            for family in range(2):
                direction = angles[a] + family * np.pi / 2
                fx, fy = np.cos(direction) / pitches[p], np.sin(direction) / pitches[p]
                if fx < 0:
                    fx, fy = -fx, -fy
                total = 0.0
                for k in range(1, harmonics + 1):
                    column, row = k * fx * width, k * fy * height
                    x, y = int(np.floor(column)), int(np.floor(row))
                    if x + 1 >= columns or abs(row) >= rows // 2 - 1:
                        break
                    u, v = column - x, row - y
                    upper, lower = y % rows, (y + 1) % rows
                    total += (1 - v) * ((1 - u) * magnitude[upper, x] + u * magnitude[upper, x + 1]) + v * (
                        (1 - u) * magnitude[lower, x] + u * magnitude[lower, x + 1]
                    )
                product *= total
            power[a, p] = np.sqrt(product)
    return power


def _find_lattice(flat: np.ndarray, name: str) -> tuple[np.ndarray, int]:
    """Find the lattice of grid lines and whether they are dark.

    Returns:
        (3, 2) origin (a crossing), step a (right-down), step b (right-up... across a) in pixels; and the factor (-1
        dark lines, +1 bright lines) that makes lines positive.
    """
    coarse_factor = max(1, round(max(flat.shape) / 450))
    coarse = _decimate(flat, coarse_factor)
    window = np.outer(np.hanning(coarse.shape[0]), np.hanning(coarse.shape[1])).astype(np.float32)
    longest = max(coarse.shape)
    size = scipy.fft.next_fast_len(2 * longest, real=True)
    magnitude = np.abs(scipy.fft.rfft2(coarse * window, s=(size, size)))

    angles = np.deg2rad(np.arange(45 - _MAX_TILT_DEG, 45 + _MAX_TILT_DEG + 0.1, 0.2))
    pitches = np.geomspace(longest / 60, longest / 7, 450)
    power = _lattice_power(magnitude, size, size, angles, pitches, 4)
    typical = float(np.median(power))
    best = float(power.max())
    if not best > 3.5 * typical:
        raise ValueError(
            f"{name}: not a CDMAM image: no square grid of lines was found (strongest lattice {best / typical:.1f} "
            "times the typical spectrum, expected more than 3.5)"
        )
    # A lattice with half or a third of the true pitch has the same peaks under its harmonics: the largest pitch wins.
    per_pitch = power.max(axis=0)
    eligible = np.flatnonzero(per_pitch > 0.75 * best)
    last = eligible[-1]
    while per_pitch[last - 1] > per_pitch[last]:
        last -= 1
    angle_index = int(power[:, last].argmax())
    angle = angles[angle_index] + (angles[1] - angles[0]) * _vertex(power[:, last], angle_index)
    ratio = pitches[1] / pitches[0]
    pitch = pitches[last] * ratio ** _vertex(power[angle_index], last) * coarse_factor

    sign, origin = 0.0, np.zeros(2)
    across = np.array([[math.cos(angle), math.sin(angle)], [math.sin(angle), -math.cos(angle)]])
    centre = (np.array(flat.shape[::-1]) - 1) / 2
    reach = int(max(4.5 * pitch, 1))
    x0, y0 = np.maximum(np.round(centre).astype(int) - reach, 0)
    inner = flat[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1]
    xs = np.arange(inner.shape[1]) + x0
    ys = np.arange(inner.shape[0]) + y0
    profiles = []
    bins = 64
    for direction in across:
        phase = (xs[None, :] * direction[0] + ys[:, None] * direction[1]) / pitch
        index = ((phase - np.floor(phase)) * bins).astype(np.intp).ravel() % bins
        total = np.bincount(index, weights=inner.ravel(), minlength=bins)
        profile = total / np.maximum(np.bincount(index, minlength=bins), 1)
        profile -= np.median(profile)
        profiles.append(profile)
        sign += profile.max() + profile.min()
    sign = 1 if sign > 0 else -1
    phases = []
    for profile in profiles:
        peak = int((sign * profile).argmax())
        phases.append((peak + 0.5 + _vertex(sign * np.roll(profile, bins // 2 - peak), bins // 2)) / bins)
    # The lines of family k are where (direction_k · r) / pitch - phase_k is an integer.
    steps = across * pitch
    origin = phases[0] * steps[0] + phases[1] * steps[1]
    nearest = np.round((centre - origin) @ across.T / pitch)
    return np.vstack([origin + nearest @ steps, steps]), sign


def _vertex(values: np.ndarray, index: int) -> float:
    """Sub-sample position of a maximum: vertex of the parabola through it and its neighbours, in (-0.5, 0.5)."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, here, after = (float(values[index + k]) for k in (-1, 0, 1))
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _check_pitch(lattice: np.ndarray, factor: int, pixel_mm: float, name: str) -> float:
    """Pitch in mm; an error where it is none of a CDMAM phantom."""
    pitch_px = math.sqrt(abs(lattice[1, 0] * lattice[2, 1] - lattice[1, 1] * lattice[2, 0])) * factor
    pitch_mm = pitch_px * pixel_mm
    low, high = PITCH_RANGE_MM
    if not low <= pitch_mm <= high:
        raise ValueError(
            f"{name}: wrong pixel spacing: the grid has a pitch of {pitch_px:.1f} pixels, with {pixel_mm:g} mm per "
            f"pixel {pitch_mm:.2f} mm; expected {low:g}-{high:g} mm on the detector, that is a pixel spacing of "
            f"{low / pitch_px:.4f}-{high / pitch_px:.4f} mm; check ImagerPixelSpacing"
        )
    return pitch_mm


@numba.njit(cache=True)
def _measure_edges(flat, origin, along, across, first, last, reach):
    """Measure each cell side of one family of lines.

    Args:
        flat: image in which lines are positive.
        origin: a crossing; along: step along the lines; across: step from line to line.
        first, last: range of indices (line, segment), both families alike.
        reach: how far across (fraction of the step) a line may lie from its expected place.

    Returns:
        (n, n) strength over the surroundings, offset from the expected place (fraction of the step across), and
        whether the whole side lies inside the image.
    """
    count = last - first + 1
    strength = np.zeros((count, count))
    offset = np.zeros((count, count))
    inside = np.zeros((count, count), np.bool_)
    height, width = flat.shape
    length = np.sqrt(along[0] ** 2 + along[1] ** 2)
    breadth = np.sqrt(across[0] ** 2 + across[1] ** 2)
    samples = int(0.8 * length)
    half = int(np.ceil(0.28 * breadth / 0.5))
    profile = np.empty(2 * half + 1)
    smooth = np.empty(2 * half + 1)
    for line in range(first, last + 1):
        for segment in range(first, last + 1):
            good = 0
            for k in range(2 * half + 1):
                shift = 0.5 * (k - half) / breadth
                total, n = 0.0, 0
                for m in range(samples):
                    t = segment + 0.1 + 0.8 * (m + 0.5) / samples
                    x = origin[0] + t * along[0] + (line + shift) * across[0]
                    y = origin[1] + t * along[1] + (line + shift) * across[1]
                    i, j = int(np.floor(y)), int(np.floor(x))
                    if i < 0 or j < 0 or i + 1 >= height or j + 1 >= width:
                        continue
                    v, u = y - i, x - j
                    total += (1 - v) * ((1 - u) * flat[i, j] + u * flat[i, j + 1]) + v * (
                        (1 - u) * flat[i + 1, j] + u * flat[i + 1, j + 1]
                    )
                    n += 1
                if n >= samples // 2:
                    good += 1
                    profile[k] = total / n
                else:
                    profile[k] = np.nan
            if good < 2 * half + 1:
                continue
            a, b = line - first, segment - first
            inside[a, b] = True
            base = np.median(profile)
            for k in range(2 * half + 1):
                left, right = max(k - 1, 0), min(k + 1, 2 * half)
                smooth[k] = (profile[left] + profile[k] + profile[right]) / 3 - base
            width_bins = int(reach * breadth / 0.5)
            peak = half
            for k in range(half - width_bins, half + width_bins + 1):
                if smooth[k] > smooth[peak]:
                    peak = k
            strength[a, b] = smooth[peak]
            weight, moment = 0.0, 0.0
            spread = int(np.ceil(0.08 * breadth / 0.5))
            for k in range(max(peak - spread, 0), min(peak + spread, 2 * half) + 1):
                value = profile[k] - base
                weight += value
                moment += value * (k - half)
            if weight > 0:
                offset[a, b] = 0.5 * moment / weight / breadth
    return strength, offset, inside


@dataclass(frozen=True)
class _Sides:
    """Measured sides of lattice cells, per family of lines [line, segment].

    Attributes:
        strength: relative to a typical grid line, 0-1.
        inside: whether the side lies inside the image.
        deviation: distance from the fitted lattice as a fraction of the step across, NaN where not measured.
        first: lattice index of row and column 0.
        residual_px: root mean square deviation in pixels.
    """

    strength: list[np.ndarray]
    inside: list[np.ndarray]
    deviation: list[np.ndarray]
    first: int
    residual_px: float


def _fit_lattice(lines: np.ndarray, lattice: np.ndarray, name: str) -> tuple[np.ndarray, _Sides]:
    """Fit the lattice (affine) to the measured sides of the cells, from the middle of the image outwards.

    Args:
        lines: flattened image in which grid lines are positive.
        lattice: (3, 2) start.
        name: name of the image, for errors.

    Returns:
        The fitted lattice (3, 2) and the sides measured with it.
    """
    height, width = lines.shape
    residual = math.inf
    for distance, reach in ((5.0, 0.2), (9.0, 0.12), (30.0, 0.12), (30.0, 0.06), (30.0, 0.05)):
        origin, step_a, step_b = lattice
        inverse = np.linalg.inv(np.column_stack([step_a, step_b]))
        outline = (np.array([[0, 0], [width, 0], [0, height], [width, height]]) - origin) @ inverse.T
        span = int(min(math.ceil(np.abs(outline).max()), distance + 1))
        families, deviations = [], []
        solution = []
        squares = []
        for across, along in ((step_a, step_b), (step_b, step_a)):
            strength, offset, inside = _measure_edges(lines, origin, along, across, -span, span, reach)
            families.append((strength, inside))
            # A quarter of all sides or more belong to the matrix, also in a frame with wide margins.
            measured = strength[inside]
            typical = float(np.percentile(measured, 80)) if measured.size else 0.0
            use = inside & (strength > 0.5 * typical) & (strength < 2 * typical)
            line, segment = np.nonzero(use)
            if line.size < 12:
                raise ValueError(f"{name}: not a CDMAM image: only {line.size} sides of grid cells were found")
            line, segment = line - span, segment - span
            places = origin + (segment + 0.5)[:, None] * along + (line + offset[use])[:, None] * across
            design = np.column_stack([places, np.ones(line.size)])
            keep = np.ones(line.size, bool)
            for _ in range(3):
                plane, *_ = np.linalg.lstsq(design[keep], line[keep].astype(float), rcond=None)
                error = design @ plane - line
                keep = np.abs(error) < 4 * 1.4826 * np.median(np.abs(error[keep])) + 1e-6
            deviation = np.full(strength.shape, np.nan)
            deviation[line[keep] + span, segment[keep] + span] = error[keep]
            deviations.append(deviation)
            solution.append(plane)
            squares.append(np.mean(error[keep] ** 2) * float(across @ across))
        # Rows of `solution` give lattice coordinates: (line_a, line_b) = gradient · r + constant.
        gradient = np.array([plane[:2] for plane in solution])
        constant = np.array([plane[2] for plane in solution])
        steps = np.linalg.inv(gradient)
        lattice = np.vstack([-steps @ constant, steps.T])
        residual = math.sqrt(np.mean(squares))
    typical = [float(np.median(s[i & (s > 0.5 * np.percentile(s[i], 80))])) for s, i in families]
    strength = [np.clip(s / t, 0, 1) for (s, _), t in zip(families, typical, strict=True)]
    return lattice, _Sides(strength, [i for _, i in families], deviations, -span, residual)


# ---------------------------------------------------------------------------------------------------------------------
# The matrix: which lattice cell is which cell of the phantom


def _side_templates(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sides that a matrix (n, n) of cells has, [line, segment] (n + 1, n): lines between rows, between columns."""
    padded = np.pad(present, 1)
    return (padded[1:] | padded[:-1])[:, 1:-1], (padded[:, 1:] | padded[:, :-1])[1:-1].T


@dataclass(frozen=True)
class _Pose:
    """A way in which the matrix may lie on the lattice.

    Attributes:
        frame: (3, 2) centre of cell (0, 0), diameter step, thickness step, in pixels.
        bend: (16, 16, 2) measured deviation of each cell from that frame in pixels.
    """

    frame: np.ndarray
    bend: np.ndarray


def _candidate_poses(lattice: np.ndarray, sides: _Sides, name: str) -> list[_Pose]:
    """Poses in which the matrix's sides agree with the measured ones.

    Returns:
        All that reach 95 % of the best agreement, best first, the standing orientation first among equals.
    """
    bends = _bends(lattice, sides)
    origin, *steps = lattice
    pad = 12
    found = []
    for swap, flip_a, flip_b in itertools.product((False, True), repeat=3):
        present = (CELL_PRESENT.T if swap else CELL_PRESENT)[:: -1 if flip_a else 1, :: -1 if flip_b else 1]
        templates = _side_templates(present)
        total = sum(int(template.sum()) for template in templates)
        score = _match(sides.strength, templates, pad)
        inside = _match(sides.inside, templates, pad)
        best = np.unravel_index(int(score.argmax()), score.shape)
        corner = np.array(best) - pad  # lattice cell of the matrix's first corner, counted from `first`
        turned = _take(bends, corner)[:: -1 if flip_a else 1, :: -1 if flip_b else 1]
        flips = np.array([flip_a, flip_b])
        start = corner + sides.first + 0.5 + 15 * flips
        signs = np.where(flips, -1, 1)
        order = [1, 0] if swap else [0, 1]
        frame = np.vstack([origin + start[0] * steps[0] + start[1] * steps[1], *(signs[k] * steps[k] for k in order)])
        pose = _Pose(frame, turned.transpose(1, 0, 2) if swap else turned)
        within, matched = float(inside[best]), float(score[best])
        around = sum(float(i.sum()) for i in sides.inside) - within
        beyond = (sum(float((s * i).sum()) for s, i in zip(sides.strength, sides.inside, strict=True)) - matched) / max(
            around, 1.0
        )
        found.append((matched / total, within / total, beyond if around > 40 else 0.0, pose))
    found.sort(key=lambda entry: (-round(entry[0], 3), _orientation(entry[3].frame)))
    agreement, within, beyond, _ = found[0]
    if agreement < 0.8 * within or within < 0.5:
        raise ValueError(
            f"{name}: not a CDMAM 3.4 image, or only a part of one (cropped grid): {100 * agreement:.0f} % of the "
            "sides of the matrix's 205 cells were found; image the whole phantom"
        )
    if within < 0.97 and agreement < 0.9:
        raise ValueError(
            f"{name}: cropped grid: {100 * (1 - within):.0f} % of the sides of the matrix's 205 cells lie outside the "
            "image, expected the whole matrix; image the whole phantom"
        )
    if beyond > 0.6:
        raise ValueError(
            f"{name}: not a CDMAM 3.4 image: the grid goes on beyond the outline of the matrix's 205 cells"
        )
    return [pose for score, *_, pose in found if score >= 0.95 * agreement]


def _bends(lattice: np.ndarray, sides: _Sides) -> np.ndarray:
    """Deviation (n - 1, n - 1, 2) of each lattice cell in pixels: mean over the cell's sides and their neighbours."""
    bends = 0.0
    for family, deviation in enumerate(sides.deviation):
        padded = np.pad(deviation, ((0, 0), (1, 1)), constant_values=np.nan)
        near = [padded[a : a + len(deviation) - 1, k : k + len(deviation)] for a in (0, 1) for k in (0, 1, 2)]
        known = np.isfinite(near)
        mean = np.where(known, near, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        mean = mean[:, :-1] if family == 0 else mean[:, :-1].T
        bends = bends + mean[..., None] * lattice[1 + family]
    return bends


def _take(field: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The (16, 16) part of a field that begins at `corner`, zero where it leaves the field."""
    padded = np.pad(field, ((32, 32), (32, 32), (0, 0)))
    row, column = corner + 32
    return padded[row : row + 16, column : column + 16]


def _match(families: list[np.ndarray], templates: tuple[np.ndarray, np.ndarray], pad: int) -> np.ndarray:
    """Sums of both families' sides under the templates, for every shift (a, b) of the matrix over the lattice."""
    lines_a, lines_b = (
        _sums_under(np.pad(sides.astype(float), pad), template)
        for sides, template in zip(families, templates, strict=True)
    )
    lines_b = lines_b.T  # stored [line b, segment a]
    rows, columns = lines_a.shape[0], lines_b.shape[1]  # a template has one line more than it has segments
    return lines_a[:rows, :columns] + lines_b[:rows, :columns]


@numba.njit(cache=True)
def _sums_under(field, template):
    """Sum of a field under a boolean template at every shift that keeps the template inside."""
    rows, columns = template.shape
    sums = np.zeros((field.shape[0] - rows + 1, field.shape[1] - columns + 1))
    for row in range(rows):
        for column in range(columns):
            if template[row, column]:
                sums += field[row : row + sums.shape[0], column : column + sums.shape[1]]
    return sums


_AXES = np.array([DIAMETER_AXIS, THICKNESS_AXIS])


def _orientation_axes(orientation: int) -> np.ndarray:
    """(2, 2) unit steps of diameter and thickness index in an orientation (0-7); x right, y down."""
    axes = _AXES.copy()
    if orientation >= 4:
        axes[:, 0] *= -1
    for _ in range(orientation % 4):  # a quarter turn counter-clockwise on the screen: (x, y) -> (y, -x)
        axes = np.column_stack([axes[:, 1], -axes[:, 0]])
    return axes


def _orientation(frame: np.ndarray) -> int:
    """The orientation (0-7) whose axes lie closest to those of a frame."""
    steps = frame[1:] / np.linalg.norm(frame[1:], axis=1, keepdims=True)
    return int(np.argmax([(steps * _orientation_axes(k)).sum() for k in range(8)]))


# ---------------------------------------------------------------------------------------------------------------------
# The signals


@numba.njit(cache=True, fastmath=True)
def _disc_mean(image, x, y, radius, plane, centre_x, centre_y):
    """Mean of image minus plane under a disc (area coverage of each pixel, 8 × 8 subsamples at the rim).

    Args:
        image: (h, w).
        x, y, radius: the disc in pixels.
        plane: value, slope x, slope y of the background about (centre_x, centre_y).

    Returns:
        The mean.
    """
    height, width = image.shape
    x0, x1 = max(int(np.floor(x - radius + 0.5)), 0), min(int(np.floor(x + radius + 0.5)), width - 1)
    y0, y1 = max(int(np.floor(y - radius + 0.5)), 0), min(int(np.floor(y + radius + 0.5)), height - 1)
    total, area = 0.0, 0.0
    for row in range(y0, y1 + 1):
        for column in range(x0, x1 + 1):
            dx, dy = column - x, row - y
            distance = np.sqrt(dx * dx + dy * dy)
            if distance <= radius - 0.7072:
                weight = 1.0
            elif distance >= radius + 0.7072:
                continue
            else:
                inside = 0
                for v in range(8):
                    sy = dy + (v - 3.5) / 8
                    for u in range(8):
                        sx = dx + (u - 3.5) / 8
                        if sx * sx + sy * sy < radius * radius:
                            inside += 1
                weight = inside / 64
            background = plane[0] + plane[1] * (column - centre_x) + plane[2] * (row - centre_y)
            total += weight * (image[row, column] - background)
            area += weight
    return total / area if area > 0 else 0.0


@numba.njit(cache=True, fastmath=True)
def _cell_plane(image, centre, step_i, step_j, places, radius, clearance):
    """Least-squares plane through a cell, grid lines and discs left out.

    Returns:
        (4,): value at the centre, slope x, slope y, standard deviation of the residuals.
    """
    height, width = image.shape
    determinant = step_i[0] * step_j[1] - step_i[1] * step_j[0]
    gi_x, gi_y = step_j[1] / determinant, -step_j[0] / determinant
    gj_x, gj_y = -step_i[1] / determinant, step_i[0] / determinant
    pitch = np.sqrt(abs(determinant))
    limit = 0.5 - clearance / pitch
    reach_x = abs(step_i[0]) * 0.5 + abs(step_j[0]) * 0.5
    reach_y = abs(step_i[1]) * 0.5 + abs(step_j[1]) * 0.5
    sums = np.zeros(10)
    squared = radius * radius
    y0, y1 = max(int(centre[1] - reach_y), 0), min(int(centre[1] + reach_y) + 1, height - 1)
    for row in range(y0, y1 + 1):
        dy = row - centre[1]
        # The cell's extent in this row, from both pairs of sides.
        low, high = -reach_x, reach_x
        for k in range(2):
            gx = gi_x if k == 0 else gj_x
            gy = gi_y if k == 0 else gj_y
            if abs(gx) < 1e-12:
                continue
            first, second = (-limit - gy * dy) / gx, (limit - gy * dy) / gx
            low = max(low, min(first, second))
            high = min(high, max(first, second))
        x0, x1 = max(int(np.ceil(centre[0] + low)), 0), min(int(np.floor(centre[0] + high)), width - 1)
        for column in range(x0, x1 + 1):
            dx = column - centre[0]
            free = True
            for p in range(places.shape[0]):
                px, py = column - places[p, 0], row - places[p, 1]
                if px * px + py * py < squared:
                    free = False
                    break
            if not free:
                continue
            value = image[row, column]
            sums[0] += 1
            sums[1] += dx
            sums[2] += dy
            sums[3] += dx * dx
            sums[4] += dx * dy
            sums[5] += dy * dy
            sums[6] += value
            sums[7] += value * dx
            sums[8] += value * dy
            sums[9] += value * value
    result = np.zeros(4)
    if sums[0] < 30:
        result[0] = np.nan
        return result
    matrix = np.array([[sums[0], sums[1], sums[2]], [sums[1], sums[3], sums[4]], [sums[2], sums[4], sums[5]]])
    right = np.array([sums[6], sums[7], sums[8]])
    solution = np.linalg.solve(matrix, right)
    result[:3] = solution
    rest = sums[9] - solution[0] * sums[6] - solution[1] * sums[7] - solution[2] * sums[8]
    result[3] = np.sqrt(max(rest, 0.0) / sums[0])
    return result


@numba.njit(cache=True)
def _all_signals(image, frame, bend, radii, offset, steps, grid_clearance, disc_clearance, present):
    """Signals (5, 16, 16) in the centre and the four corners of each cell, and the planes (16, 16, 4) beneath."""
    signal = np.zeros((5, 16, 16))
    planes = np.zeros((16, 16, 4))
    places = np.empty((5, 2))
    for i in range(16):
        for j in range(16):
            if not present[i, j]:
                continue
            centre = frame[0] + i * frame[1] + j * frame[2] + bend[i, j]
            for k in range(5):
                places[k] = centre + offset * (steps[k, 0] * frame[1] + steps[k, 1] * frame[2])
            plane = _cell_plane(image, centre, frame[1], frame[2], places, radii[i] + disc_clearance, grid_clearance)
            planes[i, j] = plane
            for k in range(5):
                signal[k, i, j] = _disc_mean(image, places[k, 0], places[k, 1], radii[i], plane, centre[0], centre[1])
    return signal, planes


def _signals(
    image: np.ndarray, pose: _Pose, pixel_mm: float, magnification: float, offset: float, present=CELL_PRESENT
) -> tuple[np.ndarray, np.ndarray]:
    """Signals (5, 16, 16) [centre, corner codes 1-4] and planes (16, 16, 4), in counts and pixels."""
    radii = DIAMETERS_MM * magnification / 2 / pixel_mm
    return _all_signals(
        image,
        pose.frame,
        pose.bend,
        radii,
        offset,
        CORNER_STEPS.astype(float),
        _GRID_CLEARANCE_MM / pixel_mm,
        _DISC_CLEARANCE_MM / pixel_mm,
        np.asarray(present),
    )


def _disc_template(radius: float) -> np.ndarray:
    """Normalised disc, area coverage of each cell of a grid centred on it; radius in cells."""
    half = int(radius + 0.5)
    subsamples = (np.arange((2 * half + 1) * 16) + 0.5) / 16 - 0.5 - half
    inside = subsamples[:, None] ** 2 + subsamples**2 < radius**2
    template = inside.reshape(2 * half + 1, 16, 2 * half + 1, 16).mean(axis=(1, 3))
    return template / template.sum()


@numba.njit(cache=True, fastmath=True)
def _strongest(image, x, y, step, template, search, plane, centre_x, centre_y, sign):
    """Largest signal (times `sign`) of a template near a place, in an image resampled about that place.

    Args:
        image: (h, w).
        x, y: the place in pixels.
        step: step of the resampled grid in pixels.
        template: (k, k) normalised, k odd.
        search: (n, 2) displacements (x, y) in steps.
        plane: value, slope x, slope y of the background about (centre_x, centre_y).

    Returns:
        Mean under the template above the background, times `sign`.
    """
    height, width = image.shape
    half = template.shape[0] // 2
    reach = half
    for m in range(search.shape[0]):
        reach = max(reach, half + max(abs(search[m, 0]), abs(search[m, 1])))
    size = 2 * reach + 1
    patch = np.empty((size, size))
    for row in range(size):
        py = min(max(y + (row - reach) * step, 0.0), height - 1.0)
        i = min(int(py), height - 2)
        v = py - i
        for column in range(size):
            px = min(max(x + (column - reach) * step, 0.0), width - 1.0)
            j = min(int(px), width - 2)
            u = px - j
            value = (1 - v) * ((1 - u) * image[i, j] + u * image[i, j + 1]) + v * (
                (1 - u) * image[i + 1, j] + u * image[i + 1, j + 1]
            )
            patch[row, column] = value - (plane[0] + plane[1] * (px - centre_x) + plane[2] * (py - centre_y))
    best = -np.inf
    for m in range(search.shape[0]):
        top, left = reach - half + search[m, 1], reach - half + search[m, 0]
        total = 0.0
        for row in range(template.shape[0]):
            for column in range(template.shape[1]):
                total += template[row, column] * patch[top + row, left + column]
        best = max(best, sign * total)
    return best


def _observe(
    image: np.ndarray,
    pose: _Pose,
    pixel_mm: float,
    magnification: float,
    offset: float,
    sign: int,
    search_mm: float,
) -> np.ndarray:
    """Signals (5, 16, 16) [centre, corner codes 1-4] as the reader judges them, positive in the discs' direction."""
    radii = DIAMETERS_MM * magnification / 2
    _, planes = _signals(image, pose, pixel_mm, magnification, offset)
    frame = pose.frame
    reach = int(search_mm / _STEP_MM + 1e-9)
    span = np.arange(-reach, reach + 1)
    search = np.array([(x, y) for y in span for x in span if math.hypot(x, y) * _STEP_MM <= search_mm + 1e-9])
    signal = np.zeros((5, 16, 16))
    for i in range(16):
        template = _disc_template(radii[i] / _STEP_MM)
        for j in np.flatnonzero(CELL_PRESENT[i]):
            centre = frame[0] + i * frame[1] + j * frame[2] + pose.bend[i, j]
            for k, (di, dj) in enumerate(offset * CORNER_STEPS):
                x, y = centre + di * frame[1] + dj * frame[2]
                signal[k, i, j] = _strongest(
                    image, x, y, _STEP_MM / pixel_mm, template, search, planes[i, j], centre[0], centre[1], sign
                )
    return signal


def _margins(signal: np.ndarray) -> np.ndarray:
    """Signal of the true corner minus the largest of the other three, (16, 16), signed signals given."""
    true = np.arange(1, 5)[:, None, None] == CORNER_CODES
    own = np.where(true, signal[1:], 0).sum(axis=0)
    others = np.where(true, -np.inf, signal[1:]).max(axis=0)
    return np.where(CELL_PRESENT, own - others, 0)


def _choose_pose(
    small: np.ndarray, poses: list[_Pose], pixel_mm: float, pitch_mm: float, line_sign: int
) -> tuple[_Pose, int, bool]:
    """Choose the pose in which most discs are where the corner table puts them.

    Returns:
        The pose, the discs' sign (-1 dark, +1 bright), and whether the discs settled it. With too few discs visible
        the pose whose outline fits best is kept and the discs are taken to be as dark or bright as the lines: a choice
        by chance agreement would make hits out of noise.
    """
    magnification = pitch_mm / NOMINAL_PITCH_MM
    used = CELL_PRESENT & (DIAMETERS_MM >= 0.3)[:, None]
    n = int(used.sum())
    scored = []
    for order, pose in enumerate(poses):
        signal, _ = _signals(small, pose, pixel_mm, magnification, NOMINAL_OFFSET, used)
        for sign in (line_sign, -line_sign):
            hits = int((_margins(sign * signal)[used] > 0).sum())
            scored.append((hits, -order, sign))
    hits, order, sign = max(scored, key=lambda entry: (entry[0], entry[1], entry[2] == line_sign))
    significant = hits > 0.25 * n + 6 * math.sqrt(n * 0.25 * 0.75)
    return (poses[-order], sign, True) if significant else (poses[0], line_sign, False)


def _check_inside(pose: _Pose, pixel_mm: float, pitch_mm: float, shape: tuple[int, int], name: str) -> None:
    """An error where a place that may hold a disc lies outside the image."""
    rows, columns = np.nonzero(CELL_PRESENT)
    frame = pose.frame
    radius = DIAMETERS_MM[rows] * pitch_mm / NOMINAL_PITCH_MM / 2 / pixel_mm
    cut = np.zeros(rows.size, bool)
    for di, dj in NOMINAL_OFFSET * CORNER_STEPS[1:]:
        place = frame[0] + (rows + di)[:, None] * frame[1] + (columns + dj)[:, None] * frame[2]
        cut |= ((place < radius[:, None] - 0.5) | (place > np.array(shape[::-1]) - 0.5 - radius[:, None])).any(axis=1)
    if cut.any():
        raise ValueError(
            f"{name}: cropped grid: {int(cut.sum())} of the matrix's 205 cells lie wholly or partly outside the image, "
            "expected all of them inside; image the whole phantom"
        )


@numba.njit(cache=True)
def _visible_strength(image, frame, bend, radii, offset, shift, steps, codes, weights, planes):
    """Weighted sum of the signals of the known discs (centre and true corner), for a shift in lattice units."""
    total = 0.0
    for i in range(16):
        for j in range(16):
            if weights[i, j] == 0:
                continue
            centre = frame[0] + i * frame[1] + j * frame[2] + bend[i, j]
            code = codes[i, j]
            for k in range(2):
                di = shift[0] + k * offset * steps[code, 0]
                dj = shift[1] + k * offset * steps[code, 1]
                mean = _disc_mean(
                    image,
                    centre[0] + di * frame[1, 0] + dj * frame[2, 0],
                    centre[1] + di * frame[1, 1] + dj * frame[2, 1],
                    radii[i],
                    planes[i, j],
                    centre[0],
                    centre[1],
                )
                total += weights[i, j] * mean
    return total


def _settle_discs(
    image: np.ndarray, pose: _Pose, pixel_mm: float, pitch_mm: float, sign: int, visible: bool
) -> tuple[_Pose, float, float, bool]:
    """Settle from all plainly visible discs together: their shift against the grid, eccentric offset, and size.

    Returns:
        Pose, offset, magnification of the discs, and whether they could be settled; else the nominal values.
    """
    magnification = pitch_mm / NOMINAL_PITCH_MM
    if not visible:
        return pose, NOMINAL_OFFSET, magnification, False
    frame = pose.frame
    steps = CORNER_STEPS.astype(float)
    codes = CORNER_CODES.astype(np.int64)
    radii = DIAMETERS_MM * magnification / 2 / pixel_mm
    signal, planes = _signals(image, pose, pixel_mm, magnification, NOMINAL_OFFSET)
    # Judged without the true corner, so that luck there does not choose: the central disc over the noise.
    noise = planes[..., 3] / np.sqrt(np.maximum(np.pi * radii**2, 1.0))[:, None]
    snr = np.where(CELL_PRESENT & (noise > 0), sign * signal[0] / np.maximum(noise, 1e-12), 0)
    plain = CELL_PRESENT & (snr > 2 * _VISIBLE_SNR) & (DIAMETERS_MM >= 0.2)[:, None]
    if plain.sum() < 8:
        return pose, NOMINAL_OFFSET, magnification, False
    # A cap keeps a handful of thick discs from deciding alone.
    weights = np.where(plain, np.minimum(snr, 40.0) / np.where(plain, np.abs(signal[0]), 1.0), 0.0) * sign

    shift, offset = np.zeros(2), NOMINAL_OFFSET
    scan = np.arange(0.24, 0.3301, 0.01)
    strength = np.array(
        [
            _visible_strength(image, frame, pose.bend, radii, value, shift, steps, codes, weights, planes)
            for value in scan
        ]
    )
    best = int(strength.argmax())
    offset = scan[best] + 0.01 * _vertex(strength, best)
    for reach in (0.02, 0.012, 0.012):
        for axis in range(3):
            trial = []
            for delta in (-reach, 0.0, reach):
                move = shift.copy()
                if axis < 2:
                    move[axis] += delta
                extra = delta if axis == 2 else 0.0
                trial.append(
                    _visible_strength(
                        image, frame, pose.bend, radii, offset + extra, move, steps, codes, weights, planes
                    )
                )
            step = reach * _vertex(np.array(trial), 1)
            if axis < 2:
                shift[axis] += step
            else:
                offset += step
    settled = np.vstack([frame[0] + shift[0] * frame[1] + shift[1] * frame[2], frame[1:]])

    # The size: mean × √area is the signal-to-noise ratio, largest where the template ends at the disc's half level.
    large = weights * (DIAMETERS_MM >= 0.4)[:, None]
    if np.count_nonzero(large) >= 8:
        sizes = np.arange(0.90, 1.26, 0.02)
        ratio = np.array(
            [
                s
                * _visible_strength(
                    image,
                    settled,
                    pose.bend,
                    radii * s / magnification,
                    offset,
                    np.zeros(2),
                    steps,
                    codes,
                    large,
                    planes,
                )
                for s in sizes
            ]
        )
        best = int(ratio.argmax())
        magnification = float(sizes[best] + 0.02 * _vertex(ratio, best))
    return _Pose(settled, pose.bend), float(offset), magnification, True


def _registration(
    frame: np.ndarray,
    pixel_mm: float,
    residual_mm: float,
    offset: float,
    magnification: float,
    disc_sign: int,
    visible: bool,
) -> Registration:
    """Describe a frame in the field's terms."""
    orientation = _orientation(frame)
    axes = _orientation_axes(orientation)
    steps = frame[1:]
    turn = sum(a[0] * s[1] - a[1] * s[0] for a, s in zip(axes, steps, strict=True))
    along = float((axes * steps).sum())
    centre = frame[0] + 7.5 * (frame[1] + frame[2])
    pitch_mm = math.sqrt(abs(steps[0, 0] * steps[1, 1] - steps[0, 1] * steps[1, 0])) * pixel_mm
    return Registration(
        origin_mm=tuple(float(v) for v in (centre + 0.5) * pixel_mm),
        angle_deg=math.degrees(math.atan2(turn, along)),
        scale=pitch_mm / NOMINAL_PITCH_MM,
        orientation=orientation,
        residual_mm=residual_mm,
        pitch_mm=pitch_mm,
        eccentric_offset=offset,
        magnification=magnification,
        discs_dark=disc_sign < 0,
        discs_visible=visible,
        frame_px=frame,
    )
