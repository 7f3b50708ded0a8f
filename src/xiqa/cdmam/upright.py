"""Where an upright matrix lies in an image: blocks of square cells with gaps between them, as CDMAM 4.0 has."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numba
import numpy as np
import scipy.fft

from xiqa.cdmam import grid
from xiqa.cdmam.grid import decimate, line_strength, measure_edges, vertex
from xiqa.cdmam.phantom import Phantom, block_rows

LEAST_LINES = 1.2
"""Sum of the shares of both kinds of lines (2: all) from which the strongest start is a matrix."""
SAME_START = 0.2
"""By how much of that sum a start may be worse than the best one and is fitted too."""
LEAST_SIDES = 0.85
"""Share of the cells' sides that the fit must find; with fewer a part of the matrix is not in the image."""
LEAST_COVERED = 0.3
"""Share of the pixels of the fullest place of a profile that a place needs: with fewer, at corners, it is noise."""
REACHES = (0.2, 0.12, 0.06, 0.05)
"""How far from its expected place a side is looked for, in cells, in the rounds of the fit."""
_BINS = 16  # of a profile per cell


@dataclass(frozen=True)
class Upright:
    """An upright matrix found in an image, in pixels of the decimated image.

    Attributes:
        frames: (3, 2) each: centre of cell (0, 0), steps to the next smaller diameter and to the next larger thickness;
            the ways in which the matrix may lie on the grid, the one that needs no mirror first.
        line_sign: -1 dark lines, +1 bright ones.
        residual_px: root mean square deviation of the cells' sides from the fitted grid.
    """

    frames: list[np.ndarray]
    line_sign: int
    residual_px: float


@numba.njit(cache=True)
def _family_power(magnitude, size, angles, spacings, harmonics):
    """Sum (angles, spacings) of a spectrum's magnitudes at the first harmonics of one family of parallel lines."""
    power = np.empty((angles.size, spacings.size))
    for a in range(angles.size):
        for s in range(spacings.size):
            power[a, s] = line_strength(magnitude, size, size, angles[a], spacings[s], harmonics)
    return power


def _strongest_grids(flat: np.ndarray) -> list[tuple[float, float]]:
    """Direction of the thickness axis and pitch in pixels of the best grid upright and of the best one turned.

    The lines between columns are one lattice. Those between rows are shifted by half a pitch from block to block, so
    that only every second harmonic of theirs adds up.
    """
    factor = max(1, round(max(flat.shape) / grid.COARSE_SIDE_PX))
    coarse = decimate(flat, factor)
    window = np.outer(np.hanning(coarse.shape[0]), np.hanning(coarse.shape[1])).astype(np.float32)
    longest = max(coarse.shape)
    size = scipy.fft.next_fast_len(2 * longest, real=True)
    magnitude = np.abs(scipy.fft.rfft2(coarse * window, s=(size, size)))
    turns = np.deg2rad(np.arange(-grid.MAX_TILT_DEG, grid.MAX_TILT_DEG + grid.TILT_STEP_DEG / 2, grid.TILT_STEP_DEG))
    pitches = np.geomspace(longest / grid.MOST_CELLS, longest / grid.FEWEST_CELLS, grid.PITCH_STEPS)
    found = []
    for quarter in (0.0, np.pi / 2):
        columns = _family_power(magnitude, size, turns + quarter, pitches, 4)
        rows = _family_power(magnitude, size, turns + quarter + np.pi / 2, pitches / 2, 2)
        power = np.sqrt(columns * rows)
        strongest = power.max()
        # A grid of half or a third of the pitch has the same peaks under its harmonics: the largest pitch wins.
        per_pitch = power.max(axis=0)
        last = int(np.flatnonzero(per_pitch > grid.SAME_LATTICE * strongest)[-1])
        while last > 0 and per_pitch[last - 1] > per_pitch[last]:
            last -= 1
        turn = int(power[:, last].argmax())
        angle = turns[turn] + (turns[1] - turns[0]) * vertex(power[:, last], turn) + quarter
        pitch = pitches[last] * (pitches[1] / pitches[0]) ** vertex(power[turn], last) * factor
        found.append((float(angle), float(pitch)))
    return found


@numba.njit(cache=True)
def _sums(image, direction, across, span, first, totals, counts):
    """Add up the pixels of an image in bins of their place along a direction (see `_profile`)."""
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            beside = column * across[0] + row * across[1]
            if span[0] <= beside <= span[1]:
                place = int((column * direction[0] + row * direction[1] - first) * _BINS)
                totals[place] += image[row, column]
                counts[place] += 1


def _profile(flat: np.ndarray, direction: np.ndarray, pitch: float, across: np.ndarray, span: tuple[float, float]):
    """Mean of the image in bins of 1 / _BINS pitch along a direction, and the place of the first bin in pitches.

    Only what lies in `span` (in pitches) along `across` counts; bins that hardly cut the image are 0.
    """
    height, width = flat.shape
    corners = [(x * direction[0] + y * direction[1]) / pitch for x in (0, width) for y in (0, height)]
    first = math.floor(min(corners))
    totals = np.zeros((math.ceil(max(corners)) - first) * _BINS)
    counts = np.zeros_like(totals)
    _sums(flat, direction / pitch, across / pitch, np.array(span), first, totals, counts)
    enough = counts > LEAST_COVERED * counts.max()
    if not enough.any():
        return totals, first
    profile = np.where(enough, totals / np.maximum(counts, 1), 0.0)
    profile = np.where(enough, profile - np.median(profile[enough]), 0.0)
    return np.convolve(profile, np.ones(3) / 3, mode="same"), first


def _match_lines(profile: np.ndarray, lines: np.ndarray) -> tuple[float, float]:
    """Share of a pattern of lines (places in pitches) that a profile shows, and the shift of the best match in pitches.

    Lines where the pattern has none, one pitch beyond either end, count against it.
    """
    beyond = np.array([lines.min() - 1, lines.max() + 1])
    reach = math.ceil((lines.max() - lines.min() + 2) * _BINS)
    padded = np.pad(profile, reach)
    shifts = np.arange(-reach, len(profile) + reach)
    places = np.round(np.concatenate([lines, beyond]) * _BINS).astype(int)
    at = shifts[:, None] + places + reach
    values = padded[np.clip(at, 0, len(padded) - 1)] * ((at >= 0) & (at < len(padded)))
    typical = np.median(values[:, : len(lines)], axis=1, keepdims=True)
    share = np.clip(values / np.maximum(typical, 1e-12), 0, 1)
    score = share[:, : len(lines)].mean(axis=1) - share[:, len(lines) :].sum(axis=1) / len(lines)
    # Between the lines all values are alike too, but small.
    score = np.where(typical[:, 0] > 0.5 * max(typical.max(), 1e-12), score, 0.0)
    best = int(np.argmax(score + 1e-6 * typical[:, 0] / max(typical.max(), 1e-12)))
    return float(score[best]), float(shifts[best] / _BINS)


def _starts(
    flat: np.ndarray, phantom: Phantom, grids: list[tuple[float, float]]
) -> list[tuple[float, np.ndarray, int]]:
    """Matches of the pattern of lines on grids of known direction of the thickness axis and pitch, best first.

    Returns:
        Score (2 is perfect), frame (3, 2), and sign of the lines of each.
    """
    rows = phantom.row_places
    row_lines = np.unique(np.concatenate([rows - 0.5, rows + 0.5]))
    column_lines = np.arange(phantom.present.shape[1] + 1) - 0.5
    found = []
    for angle, pitch in grids:
        thicker = np.array([math.cos(angle), math.sin(angle)])
        smaller = np.array([-math.sin(angle), math.cos(angle)])
        whole, first_row = _profile(flat, smaller, pitch, thicker, (-np.inf, np.inf))
        for sign, flip in itertools.product((-1, 1), (1, -1)):
            in_rows, shift = _match_lines(sign * whole, row_lines if flip > 0 else rows[-1] - row_lines[::-1])
            row = first_row + shift + 0.5 / _BINS
            inner, first_column = _profile(flat, thicker, pitch, smaller, (row - 0.5, row + rows[-1] + 0.5))
            in_columns, shift = _match_lines(sign * inner, column_lines)
            column = first_column + shift + 0.5 / _BINS
            start = row if flip > 0 else row + rows[-1]
            frame = pitch * np.vstack([start * smaller + column * thicker, flip * smaller, thicker])
            found.append((in_rows + in_columns, frame, sign))
    return sorted(found, key=lambda entry: -entry[0])


def _fit_frame(lines: np.ndarray, frame: np.ndarray, phantom: Phantom) -> tuple[np.ndarray, float, float]:
    """Fit the frame (affine) to the sides of all cells: the frame, the residual in pixels, the share of sides found."""
    columns = phantom.present.shape[1]
    for reach in REACHES:
        origin, smaller, thicker = frame
        measured = []
        for across, along in ((smaller, thicker), (thicker, smaller)):
            sides = []
            for rows in block_rows(phantom):
                first, count = phantom.row_places[rows.start], rows.stop - rows.start
                corner = origin + (first - 0.5) * smaller - 0.5 * thicker
                strength, offset, inside = measure_edges(lines, corner, along, across, 0, max(columns, count), reach)
                size = (count + 1, columns) if across is smaller else (columns + 1, count)
                line, segment = (index.ravel() for index in np.indices(size))
                places = corner + (segment + 0.5)[:, None] * along + (line + offset[line, segment])[:, None] * across
                lattice = line - 0.5 + (first if across is smaller else 0)
                found = np.where(inside[line, segment], strength[line, segment], 0)
                sides.append(np.column_stack([places, np.ones(line.size), lattice, found]))
            measured.append(np.concatenate(sides))
        typical = max(np.median(sides[:, 4]) for sides in measured)
        gradient, constant, squares, shares = [], [], [], []
        for sides, across in zip(measured, (smaller, thicker), strict=True):
            use = (sides[:, 4] > grid.SIDE_STRENGTHS[0] * typical) & (sides[:, 4] < grid.SIDE_STRENGTHS[1] * typical)
            shares.append(use.mean())
            if use.sum() < grid.FEWEST_SIDES:
                return frame, math.inf, 0.0
            design, wanted, keep = sides[use, :3], sides[use, 3], np.ones(int(use.sum()), bool)
            for _ in range(3):
                plane, *_ = np.linalg.lstsq(design[keep], wanted[keep], rcond=None)
                error = design @ plane - wanted
                keep = np.abs(error) < grid.OUTLIER_SD * np.median(np.abs(error[keep])) + 1e-6
            gradient.append(plane[:2])
            constant.append(plane[2])
            squares.append(np.mean(error[keep] ** 2) * float(across @ across))
        steps = np.linalg.inv(np.array(gradient))
        frame = np.vstack([-steps @ np.array(constant), steps.T])
    return frame, math.sqrt(np.mean(squares)), float(min(shares))


def find_upright(flat: np.ndarray, phantom: Phantom, name: str, sides: tuple[float, float] | None = None) -> Upright:
    """Find an upright matrix in a flattened image: tilted by up to 8°, in any of the eight orientations.

    The pattern of the blocks settles which way the diameters run; which way the thicknesses run only the discs tell.

    Args:
        flat: (h, w) flattened, decimated image.
        phantom: a version that stands upright.
        name: name of the image, for errors.
        sides: of `xiqa.cdmam.grid.block_sides`, where somebody saw a block of cells.

    Raises:
        ValueError: no such matrix, or only a part of one.
    """
    grids = _strongest_grids(flat) if sides is None else [(sides[0] + turn, sides[1]) for turn in (0, math.pi / 2)]
    starts = _starts(flat, phantom, grids)
    if starts[0][0] < LEAST_LINES:
        raise ValueError(
            f"{name}: not a CDMAM {phantom.version} image: {50 * max(starts[0][0], 0):.0f} % of the lines of its "
            "upright grid stand out; image the whole phantom"
        )
    good = [(frame, sign) for score, frame, sign in starts if score > starts[0][0] - SAME_START]
    fits = [(*_fit_frame(flat * sign, frame, phantom), sign) for frame, sign in good]
    frame, residual, share, sign = max(fits, key=lambda fit: fit[2])
    if share < LEAST_SIDES:
        raise ValueError(
            f"{name}: not a CDMAM {phantom.version} image, or only a part of one (cropped grid): {100 * share:.0f} % "
            f"of the sides of its {int(phantom.present.sum())} cells were found; image the whole phantom"
        )
    columns = phantom.present.shape[1]
    turned = np.vstack([frame[0] + (columns - 1) * frame[2], frame[1], -frame[2]])
    nominal = np.linalg.det(phantom.axes)
    return Upright(sorted([frame, turned], key=lambda f: np.linalg.det(f[1:]) * nominal < 0), sign, residual)
