"""How strongly a disc shows in each place: disc means above the background, the pose and sizes that they settle."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numba
import numpy as np

from xiqa.cdmam.grid import Pose, bilinear, nominal_offset, nominal_pitch_mm, vertex

GRID_CLEARANCE_MM = 0.75
"""Half the widest grid line (0.8 mm), its blur and the registration error."""
DISC_CLEARANCE_MM = 0.35
"""Blur and registration error around a disc that the background fit leaves out."""
_LEAST_PIXELS = 30
_STEP_MM = 0.05

_COARSE_REACH_MM = 1.7
"""How far around its place a disc is looked for: (0.4, 0.4) mm, 0.3° and 0.5 % move the farthest by 1.4 mm."""
_OFFSET_REACH_MM = 0.8
"""The same once the displacement is known coarsely: eccentric offsets of 0.24-0.33 of the cell instead of 0.285."""
_FINE_REACH_MM = 0.25
_COARSE_SNR, _OFFSET_SNR, _FINE_SNR = 8.0, 6.0, 5.0
"""From when on a disc counts as located: noise alone does not reach it in so many places."""
_SHIFT_SD_MM, _LINEAR_SD, _OFFSET_SD = 0.25, 0.003, 0.03
"""Spread of phantoms that the fit expects before it sees a disc: shift, rotation or stretch, eccentric offset."""
_LEAST_DISCS, _MOST_STANDARD_ERROR_MM = 8, 0.15
"""Where fewer are located, or the fit leaves some disc's place less certain, the grid is the better guide."""
_LEAST_LOCATION_SD_MM = 0.02
_RIM_SD_MM = 0.4
"""Standard error of a place times signal-to-noise ratio, of a disc of 1 mm: that of its blurred rim."""
_ROBUST_ROUNDS, _ROBUST_SD = 10, 3.0
"""Rounds of the robust fit, and the distance in standard errors from which on a place counts less and less."""

_LEAST_FREE = 0.3
"""Share of a disc that must lie clear of grid lines for its mean to be taken."""
_LEAST_POSE_DIAMETER_MM, _LEAST_SIZE_DIAMETER_MM = 0.3, 0.4
"""Discs from which on they take part in the choice of the pose, and in measuring the discs' size."""
_BEYOND_CHANCE_SD = 6
"""By how many standard deviations more discs than by chance must be where the corner table puts them."""
_MOST_SNR = 40.0
"""Signal-to-noise ratio beyond which thick discs weigh no more, so that a handful of them does not decide."""
_SIZE_STEP = 0.02
_SIZES = np.arange(0.90, 1.26, _SIZE_STEP)
"""Sizes of discs that are tried, over their nominal size."""
_MEDIAN_OF_NORMAL = 0.6745
"""Median distance from the mean of a normal distribution in standard deviations."""


# ---------------------------------------------------------------------------------------------------------------------
# Background and disc means


@numba.njit(cache=True, fastmath=True)
def _cell_sums(image, centres, places, step_i, step_j, radii, clearance, sums):
    """Fill `sums` (n, 10) with what the least-squares plane of each cell needs, grid lines and discs left out.

    Pixels of a row are taken as runs: sums over their places are closed forms, the loop over values has no branch.

    Args:
        image: (h, w).
        centres: (n, 2) of the cells; places: (n, k, 2) where discs may lie; radii: (n,) how much to leave out there.
        step_i, step_j: (2,) sides of a cell; clearance: how much to leave out along them.
        sums: of 1, x, y, x², xy, y², and of the value, its products with x and y, and its square.
    """
    height, width = image.shape
    determinant = step_i[0] * step_j[1] - step_i[1] * step_j[0]
    gi_x, gi_y = step_j[1] / determinant, -step_j[0] / determinant
    gj_x, gj_y = -step_i[1] / determinant, step_i[0] / determinant
    pitch = np.sqrt(abs(determinant))
    limit = 0.5 - clearance / pitch
    reach_x = abs(step_i[0]) * 0.5 + abs(step_j[0]) * 0.5
    reach_y = abs(step_i[1]) * 0.5 + abs(step_j[1]) * 0.5
    discs = places.shape[1]
    begins, ends = np.empty(discs + 1, np.int64), np.empty(discs + 1, np.int64)
    for n in range(centres.shape[0]):
        centre_x, centre_y = centres[n, 0], centres[n, 1]
        squared = radii[n] * radii[n]
        y0, y1 = max(int(centre_y - reach_y), 0), min(int(centre_y + reach_y) + 1, height - 1)
        for row in range(y0, y1 + 1):
            dy = row - centre_y
            # The cell's extent in this row, from both pairs of sides.
            low, high = -reach_x, reach_x
            for k in range(2):
                gx = gi_x if k == 0 else gj_x
                gy = gi_y if k == 0 else gj_y
                if abs(gx) < 1e-12:  # the row runs along this pair of sides
                    if abs(gy * dy) > limit:
                        low, high = 1.0, 0.0
                    continue
                first, second = (-limit - gy * dy) / gx, (limit - gy * dy) / gx
                low = max(low, min(first, second))
                high = min(high, max(first, second))
            x0, x1 = max(int(np.ceil(centre_x + low)), 0), min(int(np.floor(centre_x + high)), width - 1)
            # The columns that discs take in this row, in order; the row's end is the last of them.
            count = 0
            for p in range(discs):
                py = row - places[n, p, 1]
                rest = squared - py * py
                if rest > 0:
                    half = np.sqrt(rest)
                    begin, end = int(np.floor(places[n, p, 0] - half)) + 1, int(np.ceil(places[n, p, 0] + half))
                    k = count
                    while k > 0 and begins[k - 1] > begin:
                        begins[k], ends[k] = begins[k - 1], ends[k - 1]
                        k -= 1
                    begins[k], ends[k] = begin, end
                    count += 1
            begins[count], ends[count] = x1 + 1, x1 + 1
            start = x0
            for k in range(count + 1):
                stop = min(begins[k], x1 + 1)
                if stop > start:
                    length, left = float(stop - start), start - centre_x
                    total, moment, square, dx = 0.0, 0.0, 0.0, left
                    for pixel in image[row, start:stop]:
                        value = np.float64(pixel)
                        total += value
                        moment += value * dx
                        square += value * value
                        dx += 1.0
                    steps = 0.5 * length * (length - 1)
                    x_sum = length * left + steps
                    sums[n, 0] += length
                    sums[n, 1] += x_sum
                    sums[n, 2] += length * dy
                    sums[n, 3] += length * left * left + 2 * left * steps + steps * (2 * length - 1) / 3
                    sums[n, 4] += x_sum * dy
                    sums[n, 5] += length * dy * dy
                    sums[n, 6] += total
                    sums[n, 7] += moment
                    sums[n, 8] += total * dy
                    sums[n, 9] += square
                start = max(start, ends[k])


def cell_planes(image: np.ndarray, pose: Pose, pixel_mm: float, magnification: float, offset: float) -> np.ndarray:
    """Background of each cell, grid lines and discs left out.

    Args:
        image: (h, w) float32 counts.
        pose: the pose in pixels of the image.
        pixel_mm: pixel spacing in mm.
        magnification: size of the discs on the detector over their nominal size.
        offset: place of the eccentric discs as a fraction of the cell.

    Returns:
        (D, T, 4): counts in the cell's centre, slopes along x and y, standard deviation of the pixels about that;
        NaN where there is no cell.
    """
    known = pose.phantom
    radii = (known.diameters_mm * magnification / 2 + DISC_CLEARANCE_MM) / pixel_mm
    places = np.ascontiguousarray(np.moveaxis(pose.places(offset), 0, 2)[known.present])
    sums = np.zeros((len(places), 10))
    rows = np.nonzero(known.present)[0]
    clearance = GRID_CLEARANCE_MM / pixel_mm
    _cell_sums(image, pose.centres[known.present], places, pose.frame[1], pose.frame[2], radii[rows], clearance, sums)
    enough = sums[:, 0] >= _LEAST_PIXELS
    matrices = sums[:, [[0, 1, 2], [1, 3, 4], [2, 4, 5]]]
    found = np.full((len(places), 4), np.nan)
    found[enough, :3] = np.linalg.solve(matrices[enough], sums[enough, 6:9, None])[..., 0]
    rest = sums[:, 9] - (found[:, :3] * sums[:, 6:9]).sum(axis=1)
    found[:, 3] = np.sqrt(np.maximum(rest, 0) / np.maximum(sums[:, 0], 1))
    planes = np.full((*known.present.shape, 4), np.nan)
    planes[known.present] = found
    return planes


@numba.njit(cache=True)
def _cover(radii, templates, halves, gaps):
    """Fill what `_disc_templates` returns, the templates with numbers of places that are covered."""
    for s in range(radii.shape[0]):
        for d in range(radii.shape[1]):
            half, square = int(radii[s, d] + 0.5), radii[s, d] * radii[s, d]
            halves[s, d] = half
            for row in range(half + 1):  # a quarter of it; the others are its mirror images
                for column in range(half + 1):
                    inside = 0
                    for v in range(16):
                        y = row + (v + 0.5) / 16 - 0.5 - half
                        for u in range(16):
                            x = column + (u + 0.5) / 16 - 0.5 - half
                            inside += 1 if y * y + x * x < square else 0
                    for i in (row, 2 * half - row):
                        for j in (column, 2 * half - column):
                            templates[s, d, i, j] = inside
                        if inside == 0:
                            gaps[s, d, i] = column + 1


def _disc_templates(radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised discs, area coverage of each cell of a grid centred on them, by 16 × 16 places in the cell.

    Args:
        radii: (sizes, D) in cells.

    Returns:
        (sizes, D, k, k), each in the upper left part of a square that holds the largest; (sizes, D) cells from its
        middle to the rim; (sizes, D, k) how many cells of each row the disc leaves free on either side.
    """
    side = 2 * int(radii.max() + 0.5) + 1
    templates = np.zeros((*radii.shape, side, side))
    halves, gaps = np.zeros(radii.shape, np.intp), np.zeros((*radii.shape, side), np.intp)
    _cover(radii, templates, halves, gaps)
    return templates / templates.sum(axis=(2, 3), keepdims=True), halves, gaps


@numba.njit(cache=True, fastmath=True)
def _four_sums(patch, template, gaps, side, top, left):
    """Sums of a patch under a template at (top, left) and the three places right of it.

    Rows of a disc are too short for the processor's vectors; four places side by side fill one.
    """
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for row in range(side):
        gap = gaps[row]
        weights = template[row, gap : side - gap]
        values = patch[top + row, left + gap : left + side - gap + 3]
        for column in range(len(weights)):
            weight = weights[column]
            first += weight * values[column]
            second += weight * values[column + 1]
            third += weight * values[column + 2]
            fourth += weight * values[column + 3]
    return first, second, third, fourth


class _Cells(NamedTuple):
    """The cells of a pose, and what lies behind their discs.

    Attributes:
        present: (D, T) where there is a cell.
        centres: (D, T, 2) in pixels.
        planes: (D, T, 4) background about them, see `cell_planes`.
        gradients: (2, 2) of both lattice coordinates by x and y.
        limit: how far from a cell's centre, in either of them, grid lines begin, which take no part.
    """

    present: np.ndarray
    centres: np.ndarray
    planes: np.ndarray
    gradients: np.ndarray
    limit: float


@numba.njit(cache=True, fastmath=True)
def _means(image, rows, places, step, discs, reach, cells, found):
    """Means under a template at and around places, in an image resampled about each of them.

    Args:
        image: (h, w).
        rows: indices of the diameters that are asked for.
        places: (n, D, T, 2) the places in pixels.
        step: step of the resampled grid in pixels.
        discs: templates, halves and gaps of each size and diameter, see `_disc_templates`.
        reach: how many steps around a place the template is moved to.
        cells: `_Cells`.
        found: (sizes, n, D, T, 2 reach + 1, 2 reach + 1) is filled with the means above the background, [row, column].
    """
    templates, halves, gaps = discs
    present, centres, planes, gradients, limit = cells
    height, width = image.shape
    largest = templates.shape[-1] + 2 * reach
    patch, free = np.zeros((largest, largest + 3)), np.zeros((largest, largest + 3))
    lefts, parts, moves = np.empty(largest, np.uint32), np.empty(largest), np.empty(largest)
    for i in rows:
        half = 0
        for s in range(len(halves)):  # the image is resampled once, for the largest size
            half = max(half, halves[s, i])
        size = 2 * (half + reach) + 1
        for t in range(present.shape[1]):
            if not present[i, t]:
                continue
            centre_x, centre_y = centres[i, t, 0], centres[i, t, 1]
            level, slope_x, slope_y = planes[i, t, 0], planes[i, t, 1], planes[i, t, 2]
            for n in range(places.shape[0]):
                clear = True
                # What all rows share; unsigned, so that no index is asked whether it counts from the end.
                for column in range(size):
                    px = places[n, i, t, 0] + (column - half - reach) * step
                    moves[column] = px - centre_x
                    px = min(max(px, 0.0), width - 1.0)
                    lefts[column] = np.uint32(min(px, width - 2.0))
                    parts[column] = px - lefts[column]
                for row in range(size):
                    py = places[n, i, t, 1] + (row - half - reach) * step
                    dy = py - centre_y
                    py = min(max(py, 0.0), height - 1.0)
                    upper = np.uint32(min(py, height - 2.0))
                    v = py - upper
                    above, below = image[upper], image[upper + np.uint32(1)]
                    for column in range(size):
                        left, u, dx = lefts[column], parts[column], moves[column]
                        right = left + np.uint32(1)
                        value = bilinear(above[left], above[right], below[left], below[right], u, v)
                        along = abs(gradients[0, 0] * dx + gradients[0, 1] * dy)
                        across = abs(gradients[1, 0] * dx + gradients[1, 1] * dy)
                        inside = along < limit and across < limit
                        clear = clear and inside
                        free[row, column] = 1.0 if inside else 0.0
                        patch[row, column] = value - (level + slope_x * dx + slope_y * dy) if inside else 0.0
                for s in range(len(halves)):
                    side = 2 * halves[s, i] + 1
                    rim = half - halves[s, i]
                    for top in range(2 * reach + 1):
                        for left in range(0, 2 * reach + 1, 4):
                            around = templates[s, i], gaps[s, i], side, rim + top, rim + left
                            totals = _four_sums(patch, *around)
                            weights = (1.0, 1.0, 1.0, 1.0) if clear else _four_sums(free, *around)
                            for k in range(min(4, 2 * reach + 1 - left)):
                                found[s, n, i, t, top, left + k] = (
                                    totals[k] / weights[k] if weights[k] > _LEAST_FREE else 0.0
                                )


def means_near(
    image: np.ndarray,
    pose: Pose,
    pixel_mm: float,
    magnification: float | np.ndarray,
    planes: np.ndarray,
    places: np.ndarray,
    reach_mm: float,
    step_mm: float,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Disc means above the background at and around places.

    Args:
        image: (h, w) float32 counts.
        pose: the pose in pixels of the image.
        pixel_mm: pixel spacing in mm.
        magnification: size of the discs on the detector over their nominal size, or several such sizes.
        planes: (D, T, 4) as from `cell_planes`.
        places: (n, D, T, 2) places in pixels; each has the disc's size of its row.
        reach_mm: how far around a place the disc is moved, along both axes.
        step_mm: in which steps.
        rows: indices of the diameters that are asked for; None: all.

    Returns:
        (n, D, T, k, k) counts; [..., row, column] of the disc's place; 0 where there is no cell, or not asked for.
        Several sizes come first.
    """
    known, sizes = pose.phantom, np.atleast_1d(magnification)
    reach = int(reach_mm / step_mm + 1e-9)
    found = np.zeros((len(sizes), *places.shape[:-1], 2 * reach + 1, 2 * reach + 1))
    gradients = np.linalg.inv(pose.frame[1:].T)
    pitch = 1 / math.sqrt(abs(np.linalg.det(gradients)))
    limit = 0.5 - GRID_CLEARANCE_MM / pixel_mm / pitch
    radii = sizes[:, None] * known.diameters_mm / 2 / step_mm
    templates = _disc_templates(radii)
    rows = np.arange(len(known.diameters_mm)) if rows is None else rows
    step = step_mm / pixel_mm
    places = np.ascontiguousarray(places)
    cells = _Cells(known.present, pose.centres, planes, gradients, limit)
    _means(image, rows, places, step, templates, reach, cells, found)
    return found if np.ndim(magnification) else found[0]


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
        (5, D, T) [centre, corner codes 1-4] in counts, positive in the discs' direction; 0 where there is no cell.
    """
    planes = cell_planes(image, pose, pixel_mm, magnification, offset)
    means = means_near(image, pose, pixel_mm, magnification, planes, pose.places(offset), search_mm, _STEP_MM)
    span = (np.arange(means.shape[-1]) - means.shape[-1] // 2) * _STEP_MM
    near = np.hypot(span[:, None], span) <= search_mm + 1e-9
    return (sign * means[..., near]).max(axis=-1)


# ---------------------------------------------------------------------------------------------------------------------
# Where the discs lie


def _located(means: np.ndarray, noise: np.ndarray, least_snr: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (..., 2) of the strongest mean in steps from the middle, and how far it stands out of the noise.

    What does not stand out, or lies at the rim, has a signal-to-noise ratio of 0.
    """
    k = means.shape[-1]
    flat = means.reshape(*means.shape[:-2], -1)
    best = flat.argmax(axis=-1)
    row, column = np.divmod(best, k)
    rim = (np.minimum(row, column) == 0) | (np.maximum(row, column) == k - 1)
    index = np.indices(best.shape)
    inner_row, inner_column = np.clip(row, 1, k - 2), np.clip(column, 1, k - 2)
    steps = []
    for axis, there in ((1, inner_column), (0, inner_row)):
        move = (axis == 0, axis == 1)
        before, here, after = (means[(*index, inner_row + n * move[0], inner_column + n * move[1])] for n in (-1, 0, 1))
        bend = before - 2 * here + after
        part = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
        steps.append(there + np.clip(part, -0.5, 0.5) - k // 2)
    snr = np.where(rim, 0, np.take_along_axis(flat, best[..., None], -1)[..., 0] / noise)
    return np.stack(steps, axis=-1), np.where(snr >= least_snr, snr, 0)


def _fit(
    pose: Pose, offset: float, corners: np.ndarray, moves: np.ndarray, snr: np.ndarray, pixel_mm: float
) -> tuple[Pose, float, float, float]:
    """Fit the discs' frame and their eccentric offset to where discs were located, all at once.

    Args:
        pose, offset: where they were looked for.
        corners: (n, D, T, 2) directions (in diameter and thickness index) of the discs from the cell's centre.
        moves: (n, D, T, 2) distances from where they were looked for in pixels.
        snr: (n, D, T) their signal-to-noise ratios, 0 where none was located.
        pixel_mm: pixel spacing in mm.

    Returns:
        Pose and offset of the fit, the weighted root mean square distance along an axis of the discs from it, and the
        largest standard error of a disc's place over all cells, both in pixels.
    """
    known, used = pose.phantom, snr > 0
    # A disc is the better located the sharper its rim and the more it stands out (Cramér-Rao bound for a blurred rim).
    spread = _RIM_SD_MM * np.sqrt(known.diameters_mm)[:, None] / np.where(used, snr, np.inf)
    weight = (pixel_mm / np.hypot(spread, _LEAST_LOCATION_SD_MM)[used]) ** 2
    middle = np.array([1.0, *known.middle])
    rows, columns = known.cell_places - middle[1:, None, None]
    basis = np.stack([np.ones(snr.shape), rows + offset * corners[..., 0], columns + offset * corners[..., 1]], axis=-1)
    # Unknowns: by how much the frame about the matrix centre differs along x, then along y; the offset's difference.
    design = np.zeros((len(weight), 2, 7))
    design[:, 0, :3] = design[:, 1, 3:6] = basis[used]
    design[:, :, 6] = (corners @ pose.frame[1:])[used]
    linear = _LINEAR_SD * math.sqrt(abs(np.linalg.det(pose.frame[1:])))
    expected = np.diag(np.array([*[_SHIFT_SD_MM / pixel_mm, linear, linear] * 2, _OFFSET_SD]) ** -2.0)
    about_centre = np.vstack([middle @ pose.displaced, pose.displaced[1:]])
    start = np.array([*about_centre.T.ravel(), offset - nominal_offset(known)])
    target = moves[used] + design @ start
    robust = np.ones(len(weight))
    for _ in range(_ROBUST_ROUNDS):
        each = weight * robust
        weighted = (each[:, None, None] * design).reshape(-1, 7).T
        normal = weighted @ design.reshape(-1, 7) + expected
        solution = np.linalg.solve(normal, weighted @ target.ravel())
        square = ((target - design @ solution) ** 2).sum(axis=1)
        robust = 1 / (1 + weight * square / _ROBUST_SD**2)  # Cauchy: a false place hardly counts
    about_centre = solution[:6].reshape(2, 3).T
    displaced = np.vstack([about_centre[0] - (middle[1:] @ about_centre[1:]), about_centre[1:]])
    residual = math.sqrt((each * square).sum() / each.sum() / 2)
    cells = basis[0][known.present]
    standard = math.sqrt(np.einsum("np,pq,nq->n", cells, np.linalg.inv(normal)[:3, :3], cells).max())
    return replace(pose, displaced=displaced), float(nominal_offset(known) + solution[6]), residual, standard


def choose_pose(
    small: np.ndarray, poses: list[Pose], pixel_mm: float, pitch_mm: float, line_sign: int
) -> tuple[Pose, int, bool]:
    """Choose the pose in which most discs are where the corner table puts them, and displace its discs coarsely.

    The central discs show how all discs are displaced against the grid, whatever the pose.

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
    known = poses[0].phantom
    magnification, start = pitch_mm / nominal_pitch_mm(known), nominal_offset(known)
    used = known.present & (known.diameters_mm >= _LEAST_POSE_DIAMETER_MM)[:, None]
    n, rows = int(used.sum()), np.flatnonzero(used.any(axis=1))
    area_px = np.maximum(np.pi * (known.diameters_mm * magnification / 2 / pixel_mm) ** 2, 1.0)[:, None]
    scored = []
    for order, pose in enumerate(poses):
        around = small, pose, pixel_mm, magnification
        planes = cell_planes(*around, start)
        means = means_near(*around, planes, pose.places(0)[:1], _COARSE_REACH_MM, pixel_mm, rows)
        noise = np.where(used & (planes[..., 3] > 0), planes[..., 3] / np.sqrt(area_px), np.inf)
        for sign in (line_sign, -line_sign):
            moves, snr = _located(sign * means, noise, _COARSE_SNR)
            moved = pose
            if np.count_nonzero(snr) >= _LEAST_DISCS:
                moved, *_ = _fit(pose, start, known.own_corners[:1], moves, snr, pixel_mm)
            around = small, moved, pixel_mm, magnification
            planes = cell_planes(*around, start)
            signal = means_near(*around, planes, moved.places(start), 0, pixel_mm / 2, rows)[..., 0, 0]
            own = np.where(known.empty_corners, -np.inf, sign * signal[1:]).max(axis=0)
            hits = int((own > np.where(known.empty_corners, sign * signal[1:], -np.inf).max(axis=0))[used].sum())
            scored.append(((hits, -order, sign == line_sign), moved, sign))
    (hits, *_), pose, sign = max(scored, key=lambda entry: entry[0])
    significant = hits > n / 4 + _BEYOND_CHANCE_SD * math.sqrt(n * 3 / 16)  # one corner of four, by chance
    return (pose, sign, True) if significant else (poses[0], line_sign, False)


@dataclass(frozen=True)
class Discs:
    """Where the discs lie and how large they are, as all visible ones together say.

    Attributes:
        pose: the pose with its discs displaced.
        offset: place of the eccentric discs as a fraction of the cell.
        magnification: size of the discs on the detector over their nominal size.
        located: how many discs the fit rests on; with 0 everything above is nominal.
        residual_px: root mean square distance along an axis of these discs from the fit, in pixels.
        standard_error_px: largest standard error of a disc's fitted place over all cells, in pixels.
    """

    pose: Pose
    offset: float
    magnification: float
    located: int = 0
    residual_px: float = 0.0
    standard_error_px: float = 0.0


def settle_discs(image: np.ndarray, pose: Pose, pixel_mm: float, pitch_mm: float, sign: int, visible: bool) -> Discs:
    """Settle from all visible discs together: their displacement against the grid, eccentric offset, and size.

    Each disc that stands out is located where its mean is strongest; one robust fit makes an affine displacement and
    the offset of them. Where few stand out the fit stays near the nominal places; where fewer than eight do, or the fit
    is less certain than `_MOST_STANDARD_ERROR_MM`, it keeps them.

    Args:
        image: (h, w) float32 counts.
        pose: the pose in pixels of the image, its discs displaced coarsely.
        pixel_mm: pixel spacing in mm.
        pitch_mm: pitch of the grid on the detector in mm.
        sign: -1 dark discs, +1 bright discs.
        visible: whether enough discs were seen to settle the pose; if not, the nominal values are returned.

    Returns:
        Where the discs lie.
    """
    known = pose.phantom
    magnification, offset = pitch_mm / nominal_pitch_mm(known), nominal_offset(known)
    codes = known.corner_codes.astype(np.intp)[None, ..., None]
    nominal = Discs(replace(pose, displaced=np.zeros((3, 2))), offset, magnification)
    if not visible:
        return nominal
    for reach_mm, step_mm, least_snr in (
        (_OFFSET_REACH_MM, 2 * _STEP_MM, _OFFSET_SNR),
        (_FINE_REACH_MM, _STEP_MM, _FINE_SNR),
    ):
        around = image, pose, pixel_mm, magnification
        planes, places = cell_planes(*around, offset), pose.places(offset)
        empty = means_near(*around, planes, places[1:], 0, _STEP_MM)[..., 0, 0]
        noise = np.array(
            [
                np.median(np.abs(row[free])) / _MEDIAN_OF_NORMAL
                for row, free in zip(empty.transpose(1, 0, 2), known.empty_corners.transpose(1, 0, 2), strict=True)
            ]
        )
        own = np.stack([places[0], np.take_along_axis(places, codes, axis=0)[0]])
        means = sign * means_near(*around, planes, own, reach_mm, step_mm)
        moves, snr = _located(means, np.maximum(noise, 1e-12)[:, None], least_snr)
        located = int(np.count_nonzero(snr))
        if located < _LEAST_DISCS:
            return nominal
        moves *= step_mm / pixel_mm
        pose, offset, residual, standard_error = _fit(pose, offset, known.own_corners, moves, snr, pixel_mm)
        if standard_error * pixel_mm > _MOST_STANDARD_ERROR_MM:
            return nominal

    # The size: mean × √area is the signal-to-noise ratio, largest where the template ends at the disc's half level.
    large = np.where((known.diameters_mm >= _LEAST_SIZE_DIAMETER_MM)[:, None], np.minimum(snr, _MOST_SNR), 0.0)
    if np.count_nonzero(large) >= _LEAST_DISCS:
        weight = np.divide(large, means.max(axis=(-1, -2)), out=np.zeros_like(large), where=large > 0)
        places = pose.places(offset)
        own = np.stack([places[0], np.take_along_axis(places, codes, axis=0)[0]])
        rows = np.flatnonzero(large.any(axis=(0, 2)))
        signal = means_near(image, pose, pixel_mm, _SIZES, planes, own, 0, _STEP_MM, rows)[..., 0, 0]
        ratio = _SIZES * sign * (weight * signal).sum(axis=(1, 2, 3))
        best = int(np.argmax(ratio))
        magnification = float(_SIZES[best] + _SIZE_STEP * vertex(ratio, best))
    return Discs(pose, offset, magnification, located, residual, standard_error)
