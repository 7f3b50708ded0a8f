"""How strongly a disc shows in each place: disc means above the background, the pose and sizes that they settle."""

from __future__ import annotations

import math

import numba
import numpy as np

from xiqa.cdmam.grid import NOMINAL_OFFSET, NOMINAL_PITCH_MM, Pose, vertex
from xiqa.cdmam.phantom import CELL_PRESENT, CORNER_CODES, CORNER_STEPS, DIAMETERS_MM

_GRID_CLEARANCE_MM = 0.75  # half the widest grid line (0.8 mm), its blur and the registration error
_DISC_CLEARANCE_MM = 0.35  # blur and registration error around a disc that the background fit leaves out
_VISIBLE_SNR = 5.0
_STEP_MM = 0.05


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
    image: np.ndarray, pose: Pose, pixel_mm: float, magnification: float, offset: float, present=CELL_PRESENT
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


def cell_planes(image: np.ndarray, pose: Pose, pixel_mm: float, magnification: float, offset: float) -> np.ndarray:
    """Background of each cell, grid lines and discs left out.

    Returns:
        (16, 16, 4): counts in the cell's centre, slopes along x and y, standard deviation of the pixels about it.
    """
    return _signals(image, pose, pixel_mm, magnification, offset)[1]


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


def observe(
    image: np.ndarray,
    pose: Pose,
    pixel_mm: float,
    magnification: float,
    offset: float,
    sign: int,
    search_mm: float,
) -> np.ndarray:
    """Signals as the reader judges them: the strongest within reach of each place.

    Args:
        image: (h, w) float32 counts.
        pose: the pose in pixels of the image.
        pixel_mm: pixel spacing in mm.
        magnification: size of the discs on the detector over their nominal size.
        offset: place of the eccentric discs as a fraction of the cell.
        sign: -1 dark discs, +1 bright discs.
        search_mm: how far from its expected place a disc is looked for, in mm.

    Returns:
        (5, 16, 16) [centre, corner codes 1-4] in counts, positive in the discs' direction; 0 where there is no cell.
    """
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


def choose_pose(
    small: np.ndarray, poses: list[Pose], pixel_mm: float, pitch_mm: float, line_sign: int
) -> tuple[Pose, int, bool]:
    """Choose the pose in which most discs are where the corner table puts them.

    Args:
        small: (h, w) decimated image.
        poses: candidates, the best fit of the outline first.
        pixel_mm: pixel spacing of the decimated image in mm.
        pitch_mm: pitch of the grid on the detector in mm.
        line_sign: -1 dark grid lines, +1 bright ones.

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


def settle_discs(
    image: np.ndarray, pose: Pose, pixel_mm: float, pitch_mm: float, sign: int, visible: bool
) -> tuple[Pose, float, float, bool]:
    """Settle from all plainly visible discs together: their shift against the grid, eccentric offset, and size.

    Args:
        image: (h, w) float32 counts.
        pose: the pose in pixels of the image.
        pixel_mm: pixel spacing in mm.
        pitch_mm: pitch of the grid on the detector in mm.
        sign: -1 dark discs, +1 bright discs.
        visible: whether enough discs were seen to settle the pose; if not, the nominal values are returned.

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

    shift = np.zeros(2)
    scan = np.arange(0.24, 0.3301, 0.01)
    strength = np.array(
        [
            _visible_strength(image, frame, pose.bend, radii, value, shift, steps, codes, weights, planes)
            for value in scan
        ]
    )
    best = int(strength.argmax())
    offset = scan[best] + 0.01 * vertex(strength, best)
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
            step = reach * vertex(np.array(trial), 1)
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
        magnification = float(sizes[best] + 0.02 * vertex(ratio, best))
    return Pose(settled, pose.bend), float(offset), magnification, True
