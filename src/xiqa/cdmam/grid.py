"""Where the matrix lies in an image: the grid's lattice of lines, and the ways in which the matrix may lie on it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numba
import numpy as np
import scipy.fft
import scipy.ndimage

from xiqa.cdmam.phantom import CELL_PRESENT, CORNER_STEPS, DIAMETER_AXIS, THICKNESS_AXIS, Phantom, phantom

PITCH_RANGE_MM = (9.0, 12.7)
"""Pitch of the grid on the detector that a CDMAM phantom can have: 9.5-10.5 mm × magnification 1.00-1.15 ± 5 %."""
NOMINAL_PITCH_MM = 10.0
"""Pitch in the phantom's own plane, from which the scale is counted."""
NOMINAL_OFFSET = 0.285
"""Eccentric offset (fraction of the cell) from which the search for the true one starts, and the fallback."""

BLOCK_CELLS = 8
"""Side, in cells, of the block whose corners are given where the grid is not found."""


def nominal_pitch_mm(version: Phantom) -> float:
    """Pitch in the phantom's own plane, from which the scale is counted."""
    return version.file.geometry.pitch_mm.value


def nominal_offset(version: Phantom) -> float:
    """Eccentric offset (fraction of the cell) from which the search for the true one starts, and the fallback."""
    return NOMINAL_OFFSET if version.version == "3.4" else version.file.geometry.eccentric_offset.value


# The search for a grid in the spectrum. Steps are so fine that the harmonics of the true lattice still add up in them.
MAX_TILT_DEG, TILT_STEP_DEG = 8.0, 0.2
COARSE_SIDE_PX = 450
"""Longest side of the reduced image whose spectrum is taken: enough for the lines, and quick."""
MOST_CELLS, FEWEST_CELLS, PITCH_STEPS = 60, 7, 450
"""Most and fewest cells along the longest side, with margins and in parts of a matrix, and pitches between them."""
LATTICE_OVER_TYPICAL = 3.5
"""Least strength of the best lattice over that of the median one: below it nothing stands out of the spectrum."""
SAME_LATTICE = 0.75
"""Share of the best strength from which a pitch counts as one whose half or third the best may be."""
SQUARE_TOLERANCE = 0.05
"""Relative difference of sides, and of an area from their square, up to which four given corners are a square."""

# Sides of cells that are fitted: those as strong as a grid line is, without what deviates like no line.
GRID_SIDE_PERCENTILE = 80
"""Percentile of the strengths of all sides that is a grid line's: a quarter of them or more belong to the matrix."""
SIDE_STRENGTHS = (0.5, 2.0)
"""Least and largest strength over that of a grid line: discs, writing and edges of the image lie outside."""
FEWEST_SIDES = 12
"""Sides of one direction with which a plane is fitted: four times its three unknowns."""
OUTLIER_SD = 4 * 1.4826
"""Median absolute deviations, four standard deviations of a normal distribution, from which a side is no part of it."""

ROUNDS = ((5.0, 0.2), (9.0, 0.12), (30.0, 0.12), (30.0, 0.06), (30.0, 0.05))
"""Rounds of the fit: distance from the middle up to which cells count, and how far a side may lie off, in cells."""

# The outline of the matrix among the cells.
LEAST_AGREEMENT, LEAST_WITHIN = 0.8, 0.5
"""Shares of the matrix's sides that must be found (of those in the image), and that must lie in the image."""
WHOLE_WITHIN, WHOLE_AGREEMENT = 0.97, 0.9
"""A matrix with fewer sides in the image, of which fewer are found, is cropped."""
MOST_BEYOND, FEWEST_AROUND = 0.6, 40
"""Share of sides around the outline that may look like grid lines, and from how many such sides on it is known."""
SAME_AGREEMENT = 0.95
"""Share of the best agreement from which an orientation is another possible one."""


# ---------------------------------------------------------------------------------------------------------------------
# The grid: a square lattice of lines, found in the spectrum, fitted to the sides of the cells


@numba.njit(cache=True)
def decimate(image, factor):
    """Average an image over blocks of pixels.

    Args:
        image: (h, w).
        factor: side of a block in pixels.

    Returns:
        (h // factor, w // factor) float32.
    """
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


def flatten(small: np.ndarray, name: str) -> np.ndarray:
    """Remove the slow background and clip what stands out of it, so that neither plate edges nor writing dominate.

    Args:
        small: (h, w) decimated image.
        name: name of the image, for errors.

    Returns:
        (h, w) deviations from the background.

    Raises:
        ValueError: the image is blank.
    """
    size = max(small.shape) // 25
    flat = small - scipy.ndimage.uniform_filter(small, size, mode="nearest")
    spread = float(np.std(flat))
    scale = float(np.abs(small).max())
    if spread <= 1e-6 * scale or spread == 0:
        raise ValueError(f"{name}: the image is blank (all values about {small.mean():g}), expected a CDMAM phantom")
    limit = 6 * float(np.median(np.abs(flat))) or spread
    return np.clip(flat, -limit, limit)


@numba.njit(inline="always")
def bilinear(upper_left, upper_right, lower_left, lower_right, u, v):
    """Value between four neighbours, by how far right (u) and down (v) of the upper left one the place lies."""
    return (1 - v) * ((1 - u) * upper_left + u * upper_right) + v * ((1 - u) * lower_left + u * lower_right)


@numba.njit(cache=True)
def line_strength(magnitude, height, width, direction, spacing, harmonics):
    """Sum of a spectrum's magnitudes at the first harmonics of one family of parallel lines.

    The spectrum is laid out with columns >= 0, of an image (height, width), spacing in its pixels.
    """
    rows, columns = magnitude.shape
    fx, fy = np.cos(direction) / spacing, np.sin(direction) / spacing
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
        above, below = magnitude[upper], magnitude[lower]
        total += bilinear(above[x], above[x + 1], below[x], below[x + 1], u, v)
    return total


@numba.njit(cache=True)
def _lattice_power(magnitude, height, width, angles, pitches, harmonics):
    """Strength (angles, pitches) of a square lattice of lines in a spectrum laid out (rows from -, columns >= 0).

    For each of both line families the magnitudes at the first harmonics are summed; the geometric mean of both sums
    keeps a single family (stripes, plate edges) from winning.
    """
    power = np.empty((angles.size, pitches.size))
    for a in range(angles.size):
        for p in range(pitches.size):
            product = 1.0
            for family in range(2):
                direction = angles[a] + family * np.pi / 2
                product *= line_strength(magnitude, height, width, direction, pitches[p], harmonics)
            power[a, p] = np.sqrt(product)
    return power


def find_lattice(flat: np.ndarray, name: str) -> tuple[np.ndarray, int]:
    """Find the lattice of grid lines and whether they are dark.

    Args:
        flat: (h, w) flattened image.
        name: name of the image, for errors.

    Returns:
        (3, 2) origin (a crossing), step a (right-down), step b (right-up, across a) in pixels; and the factor (-1
        dark lines, +1 bright lines) that makes lines positive.

    Raises:
        ValueError: no square lattice stands out of the spectrum.
    """
    coarse_factor = max(1, round(max(flat.shape) / COARSE_SIDE_PX))
    coarse = decimate(flat, coarse_factor)
    window = np.outer(np.hanning(coarse.shape[0]), np.hanning(coarse.shape[1])).astype(np.float32)
    longest = max(coarse.shape)
    size = scipy.fft.next_fast_len(2 * longest, real=True)
    magnitude = np.abs(scipy.fft.rfft2(coarse * window, s=(size, size)))

    angles = np.deg2rad(np.arange(45 - MAX_TILT_DEG, 45 + MAX_TILT_DEG + TILT_STEP_DEG / 2, TILT_STEP_DEG))
    pitches = np.geomspace(longest / MOST_CELLS, longest / FEWEST_CELLS, PITCH_STEPS)
    power = _lattice_power(magnitude, size, size, angles, pitches, 4)
    typical = float(np.median(power))
    best = float(power.max())
    if not best > LATTICE_OVER_TYPICAL * typical:
        raise ValueError(
            f"{name}: not a CDMAM image: no square grid of lines was found (strongest lattice {best / typical:.1f} "
            f"times the typical spectrum, expected more than {LATTICE_OVER_TYPICAL})"
        )
    # A lattice with half or a third of the true pitch has the same peaks under its harmonics: the largest pitch wins.
    per_pitch = power.max(axis=0)
    eligible = np.flatnonzero(per_pitch > SAME_LATTICE * best)
    last = eligible[-1]
    while per_pitch[last - 1] > per_pitch[last]:
        last -= 1
    angle_index = int(power[:, last].argmax())
    angle = angles[angle_index] + (angles[1] - angles[0]) * vertex(power[:, last], angle_index)
    ratio = pitches[1] / pitches[0]
    pitch = pitches[last] * ratio ** vertex(power[angle_index], last) * coarse_factor

    return place_lattice(flat, angle, pitch)


def block_sides(corners: np.ndarray, name: str) -> tuple[float, float]:
    """How the sides of a block of cells that somebody saw run, and how large its cells are.

    Args:
        corners: (4, 2) x, y of the corners of a block of `BLOCK_CELLS` × `BLOCK_CELLS` cells, in any order, in pixels.
        name: name of the image, for errors.

    Returns:
        The angle of a side, clockwise from the right, from -45° to 45° in radians, and the pitch in pixels.

    Raises:
        ValueError: the corners are not those of a square.
    """
    centre = corners.mean(axis=0)
    order = np.argsort(np.arctan2(*(corners - centre).T[::-1]))
    sides = np.roll(corners[order], -1, axis=0) - corners[order]
    lengths = np.hypot(*sides.T)
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    pitch = math.sqrt(abs(turns).mean()) / BLOCK_CELLS
    even = lengths.min() > 0 and lengths.max() < (1 + SQUARE_TOLERANCE) * lengths.min()
    if not (even and turns.min() > (1 - SQUARE_TOLERANCE) * lengths.mean() ** 2):
        shown = ", ".join(f"{length:.0f}" for length in lengths)
        raise ValueError(
            f"{name}: found corners of a block with sides of {shown} pixels, expected a square: the corners of a block "
            f"of {BLOCK_CELLS} × {BLOCK_CELLS} cells on crossings of grid lines"
        )
    # All sides tell the angle, each after its quarter turns.
    angle = float(np.angle(np.mean([complex(*side) * (-1j) ** k for k, side in enumerate(sides)])))
    return angle - math.pi / 2 * round(angle / (math.pi / 2)), pitch


def lattice_of_block(sides: tuple[float, float], flat: np.ndarray) -> tuple[np.ndarray, int]:
    """The lattice of grid lines from `block_sides` and a flattened image (h, w); returns as `find_lattice`."""
    angle, pitch = sides
    return place_lattice(flat, angle % (math.pi / 2), pitch)  # the family of lines that runs right-down is meant


def place_lattice(flat: np.ndarray, angle: float, pitch: float) -> tuple[np.ndarray, int]:
    """Find where a lattice of known angle and pitch lies, and whether its lines are dark.

    Args:
        flat: (h, w) flattened image.
        angle: of the step that runs right-down, clockwise on the screen, in radians.
        pitch: in pixels.

    Returns:
        As `find_lattice`.
    """
    sign = 0.0
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
        phases.append((peak + 0.5 + vertex(sign * np.roll(profile, bins // 2 - peak), bins // 2)) / bins)
    # The lines of family k are where (direction_k · r) / pitch - phase_k is an integer.
    steps = across * pitch
    origin = phases[0] * steps[0] + phases[1] * steps[1]
    nearest = np.round((centre - origin) @ across.T / pitch)
    return np.vstack([origin + nearest @ steps, steps]), sign


def vertex(values: np.ndarray, index: int) -> float:
    """Sub-sample position of a maximum: vertex of the parabola through it and its two neighbours.

    Args:
        values: (n,) equally spaced samples.
        index: place of the maximum.

    Returns:
        Its distance from `index` in samples, -0.5 to 0.5; 0 at either end or where the samples have no maximum.
    """
    if not 0 < index < len(values) - 1:
        return 0.0
    before, here, after = (float(values[index + k]) for k in (-1, 0, 1))
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def check_pitch(
    lattice: np.ndarray, factor: int, pixel_mm: float, name: str, expected_mm: tuple[float, float] = PITCH_RANGE_MM
) -> float:
    """Pitch of the grid on the detector, checked against those that a CDMAM phantom can have.

    Args:
        lattice: (3, 2) in pixels of the decimated image.
        factor: factor of the decimation.
        pixel_mm: pixel spacing of the image itself in mm.
        name: name of the image, for errors.
        expected_mm: least and largest pitch.

    Returns:
        The pitch in mm.

    Raises:
        ValueError: the pitch lies outside.
    """
    pitch_px = math.sqrt(abs(lattice[1, 0] * lattice[2, 1] - lattice[1, 1] * lattice[2, 0])) * factor
    pitch_mm = pitch_px * pixel_mm
    low, high = expected_mm
    if not low <= pitch_mm <= high:
        raise ValueError(
            f"{name}: wrong pixel spacing: the grid has a pitch of {pitch_px:.1f} pixels, with {pixel_mm:g} mm per "
            f"pixel {pitch_mm:.2f} mm; expected {low:g}-{high:g} mm on the detector, that is a pixel spacing of "
            f"{low / pitch_px:.4f}-{high / pitch_px:.4f} mm; check ImagerPixelSpacing"
        )
    return pitch_mm


@numba.njit(cache=True, fastmath={"reassoc", "contract"})  # not-a-number means something here
def _profiles(flat, origin, along, across, first, samples, shifts, profiles):
    """Fill `profiles` (n, n, k) [line, segment] with means along the cell sides of one family, moved by `shifts`.

    Args:
        flat: (h, w) image.
        origin: a crossing; along: step along the lines; across: step from line to line.
        first: index of the first line and segment.
        samples: how many places along a side are averaged.
        shifts: (k,) fractions of the step across.
        profiles: NaN from the first shift by which more than half of the samples lie outside the image.
    """
    height, width = flat.shape
    step_x, step_y = 0.8 / samples * along[0], 0.8 / samples * along[1]
    for a in range(profiles.shape[0]):
        for b in range(profiles.shape[1]):
            t = first + b + 0.1 + 0.4 / samples
            for k in range(shifts.size):
                s = first + a + shifts[k]
                x = origin[0] + t * along[0] + s * across[0]
                y = origin[1] + t * along[1] + s * across[1]
                far_x, far_y = x + (samples - 1) * step_x, y + (samples - 1) * step_y
                total, n = 0.0, 0
                if min(x, far_x) > 0 and max(x, far_x) < width - 1 and min(y, far_y) > 0 and max(y, far_y) < height - 1:
                    for m in range(samples):
                        px, py = x + m * step_x, y + m * step_y
                        i, j = np.uint32(py), np.uint32(px)
                        below, right = i + np.uint32(1), j + np.uint32(1)
                        v, u = py - i, px - j
                        total += bilinear(flat[i, j], flat[i, right], flat[below, j], flat[below, right], u, v)
                    n = samples
                else:
                    for m in range(samples):
                        px, py = x + m * step_x, y + m * step_y
                        i, j = int(np.floor(py)), int(np.floor(px))
                        if i < 0 or j < 0 or i + 1 >= height or j + 1 >= width:
                            continue
                        v, u = py - i, px - j
                        total += bilinear(flat[i, j], flat[i, j + 1], flat[i + 1, j], flat[i + 1, j + 1], u, v)
                        n += 1
                if n < max(samples // 2, 1):
                    profiles[a, b, k:] = np.nan
                    break
                profiles[a, b, k] = total / n


def measure_edges(
    flat: np.ndarray, origin: np.ndarray, along: np.ndarray, across: np.ndarray, first: int, last: int, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    breadth = math.hypot(*across)
    half, width, spread = (math.ceil(0.28 * breadth / 0.5), int(reach * breadth / 0.5), math.ceil(0.08 * breadth / 0.5))
    bins = np.arange(-half, half + 1)
    profiles = np.empty((last - first + 1, last - first + 1, len(bins)))
    samples = int(0.8 * math.hypot(*along))
    steps = (np.ascontiguousarray(step) for step in (origin, along, across))
    _profiles(flat, *steps, first, samples, 0.5 * bins / breadth, profiles)
    inside = np.asarray(np.isfinite(profiles).all(axis=-1))
    found = profiles[inside]
    found = found - np.median(found, axis=-1, keepdims=True)
    smooth = scipy.ndimage.uniform_filter1d(found, 3, axis=-1, mode="nearest")
    near = np.abs(bins) <= width
    peak = bins[near][smooth[:, near].argmax(axis=-1)][:, None]
    around = np.where(np.abs(bins - peak) <= spread, found, 0)
    weight = around.sum(axis=-1)
    strength, offset = np.zeros(inside.shape), np.zeros(inside.shape)
    strength[inside] = np.take_along_axis(smooth, peak + half, axis=-1)[:, 0]
    offset[inside] = np.where(weight > 0, 0.5 * (around @ bins) / np.where(weight > 0, weight, 1) / breadth, 0)
    return strength, offset, inside


@dataclass(frozen=True)
class Sides:
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


def fit_lattice(lines: np.ndarray, lattice: np.ndarray, name: str) -> tuple[np.ndarray, Sides]:
    """Fit the lattice (affine) to the measured sides of the cells, from the middle of the image outwards.

    Args:
        lines: flattened image in which grid lines are positive.
        lattice: (3, 2) start.
        name: name of the image, for errors.

    Returns:
        The fitted lattice (3, 2) and the sides measured with it.

    Raises:
        ValueError: too few sides of cells stand out.
    """
    height, width = lines.shape
    for distance, reach in ROUNDS:
        origin, step_a, step_b = lattice
        inverse = np.linalg.inv(np.column_stack([step_a, step_b]))
        outline = (np.array([[0, 0], [width, 0], [0, height], [width, height]]) - origin) @ inverse.T
        span = int(min(math.ceil(np.abs(outline).max()), distance + 1))
        families, deviations = [], []
        solution = []
        squares = []
        for across, along in ((step_a, step_b), (step_b, step_a)):
            strength, offset, inside = measure_edges(lines, origin, along, across, -span, span, reach)
            families.append((strength, inside))
            measured = strength[inside]
            typical = float(np.percentile(measured, GRID_SIDE_PERCENTILE)) if measured.size else 0.0
            use = inside & (strength > SIDE_STRENGTHS[0] * typical) & (strength < SIDE_STRENGTHS[1] * typical)
            line, segment = np.nonzero(use)
            if line.size < FEWEST_SIDES:
                raise ValueError(f"{name}: not a CDMAM image: only {line.size} sides of grid cells were found")
            line, segment = line - span, segment - span
            places = origin + (segment + 0.5)[:, None] * along + (line + offset[use])[:, None] * across
            design = np.column_stack([places, np.ones(line.size)])
            keep = np.ones(line.size, bool)
            for _ in range(3):
                plane, *_ = np.linalg.lstsq(design[keep], line[keep].astype(float), rcond=None)
                error = design @ plane - line
                keep = np.abs(error) < OUTLIER_SD * np.median(np.abs(error[keep])) + 1e-6
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
    least = [SIDE_STRENGTHS[0] * np.percentile(s[i], GRID_SIDE_PERCENTILE) for s, i in families]
    typical = [float(np.median(s[i & (s > weakest)])) for (s, i), weakest in zip(families, least, strict=True)]
    strength = [np.clip(s / t, 0, 1) for (s, _), t in zip(families, typical, strict=True)]
    return lattice, Sides(strength, [i for _, i in families], deviations, -span, residual)


# ---------------------------------------------------------------------------------------------------------------------
# The matrix: which lattice cell is which cell of the phantom


def _side_templates(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sides that a matrix (n, n) of cells has, [line, segment] (n + 1, n): lines between rows, between columns."""
    padded = np.pad(present, 1)
    return (padded[1:] | padded[:-1])[:, 1:-1], (padded[:, 1:] | padded[:, :-1])[1:-1].T


@dataclass(frozen=True)
class Pose:
    """A way in which the matrix may lie on the lattice.

    Attributes:
        frame: (3, 2) centre of cell (0, 0), diameter step, thickness step, in pixels.
        bend: (D, T, 2) measured deviation of each cell from that frame in pixels.
        displaced: (3, 2) what the discs' frame differs by: they are printed apart from the grid.
        phantom: what lies there, with D diameters and T thicknesses.
    """

    frame: np.ndarray
    bend: np.ndarray
    displaced: np.ndarray = field(default_factory=lambda: np.zeros((3, 2)))
    phantom: Phantom = field(default_factory=lambda: phantom("3.4"))

    @property
    def discs(self) -> np.ndarray:
        """(3, 2) the discs' own frame: central disc of cell (0, 0), and the steps from disc to disc."""
        return self.frame + self.displaced

    @property
    def centres(self) -> np.ndarray:
        """(D, T, 2) centres of the cells."""
        return in_frame(self.frame, *self.phantom.cell_places) + self.bend

    def places(self, offset: float) -> np.ndarray:
        """(5, D, T, 2) places in which discs may lie: the centre, then the corner codes 1-4."""
        rows, columns = self.phantom.cell_places
        steps = offset * CORNER_STEPS[:, :, None, None]
        return in_frame(self.discs, rows + steps[:, 0], columns + steps[:, 1]) + self.bend

    def enlarged(self, factor: int) -> Pose:
        """The same in the pixels of an image that was averaged over blocks of `factor` pixels."""
        frame = self.frame * factor
        frame[0] += (factor - 1) / 2
        return replace(self, frame=frame, bend=self.bend * factor, displaced=self.displaced * factor)


def in_frame(frame: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Places (..., 2) in pixels of (fractional) cell indices in a frame (3, 2)."""
    return frame[0] + np.multiply.outer(rows, frame[1]) + np.multiply.outer(columns, frame[2])


def candidate_poses(lattice: np.ndarray, sides: Sides, name: str) -> list[Pose]:
    """Poses in which the matrix's sides agree with the measured ones.

    Args:
        lattice: (3, 2) fitted lattice.
        sides: the sides measured with it.
        name: name of the image, for errors.

    Returns:
        All that reach 95 % of the best agreement, best first, the standing orientation first among equals.

    Raises:
        ValueError: the outline is not that of CDMAM 3.4, or a part of the matrix lies outside the image.
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
        pose = Pose(frame, turned.transpose(1, 0, 2) if swap else turned)
        within, matched = float(inside[best]), float(score[best])
        around = sum(float(i.sum()) for i in sides.inside) - within
        beyond = (sum(float((s * i).sum()) for s, i in zip(sides.strength, sides.inside, strict=True)) - matched) / max(
            around, 1.0
        )
        found.append((matched / total, within / total, beyond if around > FEWEST_AROUND else 0.0, pose))
    found.sort(key=lambda entry: (-round(entry[0], 3), nearest_orientation(entry[3].frame)))
    agreement, within, beyond, _ = found[0]
    if agreement < LEAST_AGREEMENT * within or within < LEAST_WITHIN:
        raise ValueError(
            f"{name}: not a CDMAM 3.4 image, or only a part of one (cropped grid): {100 * agreement:.0f} % of the "
            "sides of the matrix's 205 cells were found; image the whole phantom"
        )
    if within < WHOLE_WITHIN and agreement < WHOLE_AGREEMENT:
        raise ValueError(
            f"{name}: cropped grid: {100 * (1 - within):.0f} % of the sides of the matrix's 205 cells lie outside the "
            "image, expected the whole matrix; image the whole phantom"
        )
    if beyond > MOST_BEYOND:
        raise ValueError(
            f"{name}: not a CDMAM 3.4 image: the grid goes on beyond the outline of the matrix's 205 cells"
        )
    return [pose for score, *_, pose in found if score >= SAME_AGREEMENT * agreement]


def _bends(lattice: np.ndarray, sides: Sides) -> np.ndarray:
    """Deviation (n - 1, n - 1, 2) of each lattice cell in pixels: mean over the cell's sides and their neighbours."""
    bends: Any = 0.0
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


def _sums_under(field: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Sum of a field under a boolean template at every shift that keeps the template inside."""
    return np.tensordot(np.lib.stride_tricks.sliding_window_view(field, template.shape), template.astype(float), 2)


_AXES = np.array([DIAMETER_AXIS, THICKNESS_AXIS])


def orientation_axes(orientation: int, nominal: np.ndarray = _AXES) -> np.ndarray:
    """Directions in which the matrix runs in an orientation.

    Args:
        orientation: 0-7, as in `Registration` of the reader.
        nominal: (2, 2) those of orientation 0; without it those of CDMAM 3.4.

    Returns:
        (2, 2) unit steps of diameter and thickness index; x right, y down.
    """
    axes = nominal.copy()
    if orientation >= 4:
        axes[:, 0] *= -1
    for _ in range(orientation % 4):  # a quarter turn counter-clockwise on the screen: (x, y) -> (y, -x)
        axes = np.column_stack([axes[:, 1], -axes[:, 0]])
    return axes


def nearest_orientation(frame: np.ndarray, nominal: np.ndarray = _AXES) -> int:
    """Orientation whose axes lie closest to those of a frame.

    Args:
        frame: (3, 2) as in `Pose`.
        nominal: see `orientation_axes`.

    Returns:
        The orientation, 0-7.
    """
    steps = frame[1:] / np.linalg.norm(frame[1:], axis=1, keepdims=True)
    return int(np.argmax([(steps * orientation_axes(k, nominal)).sum() for k in range(8)]))


def check_inside(pose: Pose, pixel_mm: float, pitch_mm: float, shape: tuple[int, int], name: str) -> None:
    """Make sure that every place that may hold a disc lies inside the image.

    Args:
        pose: the pose in pixels of the image.
        pixel_mm: pixel spacing in mm.
        pitch_mm: pitch of the grid on the detector in mm.
        shape: (height, width) of the image in pixels.
        name: name of the image, for errors.

    Raises:
        ValueError: such a place lies outside.
    """
    known = pose.phantom
    radius = (known.diameters_mm * pitch_mm / nominal_pitch_mm(known) / 2 / pixel_mm)[:, None, None]
    places = pose.places(nominal_offset(known))
    cut = ((places < radius - 0.5) | (places > np.array(shape[::-1]) - 0.5 - radius)).any(axis=(0, 3)) & known.present
    if cut.any():
        raise ValueError(
            f"{name}: cropped grid: {int(cut.sum())} of the matrix's {int(known.present.sum())} cells lie wholly or "
            "partly outside the image, expected all of them inside; image the whole phantom"
        )
