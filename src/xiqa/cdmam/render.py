"""The compiled loops from projection to counts: expected counts, reproducible noise, digitisation.

They share one file because numba renews its compiled copy of a loop only when the file of the loop itself changes.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from scipy.special import ndtri

MAXIMUM_COUNTS = 2**14 - 1
"""Largest count of 14 bit."""

# --------------------------------------------------------------------------------------------------------------------
# Noise: a standard normal number for each (key, row, column)

_NODES = 4096
_LEVELS = 3


def _normal_tables() -> np.ndarray:
    """Quantiles of |z| at equal steps, then the last 1/64 of them again at finer steps, and again."""
    steps = np.arange(_NODES + 1) / _NODES
    tables = []
    for level in range(_LEVELS):
        beyond = (1 - steps) * 64.0**-level  # P(|z| > quantile)
        tables.append(-ndtri(np.maximum(beyond, 2.0**-33) / 2))
    return np.array(tables, np.float32)


QUANTILES = _normal_tables()
_M1, _M2, _M3 = np.uint32(0xED5AD4BB), np.uint32(0xAC4C1B51), np.uint32(0x31848BAB)
_S1, _S2, _S3, _S4 = np.uint32(17), np.uint32(11), np.uint32(15), np.uint32(14)
_ONE, _FRACTION_BITS, _FRACTION = np.uint32(1), np.uint32(19), np.uint32(2**19 - 1)
_TAIL = np.uint32(2**31 - 2**25)
_SIX, _ALL = np.uint32(6), np.uint32(2**31 - 1)
_UNIT = np.float32(2.0**-19)
_ROW_BITS = np.uint32(16)
_BEYOND = 4096


@numba.njit(inline="always")
def _mix(x):
    """A 32-bit hash with good avalanche: three rounds of multiply and shift."""
    x = np.uint32(x ^ (x >> _S1))
    x = np.uint32(x * _M1)
    x = np.uint32(x ^ (x >> _S2))
    x = np.uint32(x * _M2)
    x = np.uint32(x ^ (x >> _S3))
    x = np.uint32(x * _M3)
    return np.uint32(x ^ (x >> _S4))


@numba.njit(cache=True)
def normal_row(row: int, first_column: int, keys: np.ndarray, quantiles: np.ndarray, bits: np.ndarray, out: np.ndarray):
    """Fill `out` (n,) float32 with the standard normal numbers of a row from `first_column` on.

    `keys` are three uint32; `bits` (n,) uint32 is room to work. Row and column are hashed one after the other. The
    32 bits of a pixel give the sign and, in the tables of quantiles, the size.
    """
    base = _mix(np.uint32(_mix(np.uint32(np.uint32(row + _BEYOND) + keys[0])) ^ keys[1]))
    step = np.uint32(_mix(np.uint32(base + keys[2])) | _ONE)
    start = np.uint32(np.uint32(np.uint32(first_column + _BEYOND) * step) + base)
    for k in range(out.size):
        bits[k] = _mix(np.uint32(start + np.uint32(np.uint32(k) * step)))
    coarse = quantiles[0]
    for k in range(out.size):
        share = np.uint32(bits[k] >> _ONE)
        node = share >> _FRACTION_BITS
        low, high = coarse[node], coarse[node + _ONE]
        size = low + (high - low) * (np.float32(np.int32(share & _FRACTION)) * _UNIT)
        out[k] = -size if bits[k] & _ONE else size
    for k in range(out.size):
        share = np.uint32(bits[k] >> _ONE)
        if share >= _TAIL:
            level = 1
            share = np.uint32((share << _SIX) & _ALL)
            if share >= _TAIL:
                level = 2
                share = np.uint32((share << _SIX) & _ALL)
            node = share >> _FRACTION_BITS
            low, high = quantiles[level, node], quantiles[level, node + _ONE]
            size = low + (high - low) * (np.float32(np.int32(share & _FRACTION)) * _UNIT)
            out[k] = -size if bits[k] & _ONE else size


# --------------------------------------------------------------------------------------------------------------------
# From projection to image


class Discs(NamedTuple):
    """Where material lies on the pixels of the phantom's core, row by row of a sparse matrix, and what it attenuates.

    Attributes:
        row_start: (rows + 1,) first entry of each row of the core.
        columns, materials, covers: of each entry the column of the core, the index of its material and the covered
            share of the pixel.
        contrasts: (materials,) float32 share of the primary counts that each material takes away.
        top, left: row and column of the core's first pixel in the frame.
    """

    row_start: np.ndarray
    columns: np.ndarray
    materials: np.ndarray
    covers: np.ndarray
    contrasts: np.ndarray
    top: int
    left: int


class Background(NamedTuple):
    """What reaches the detector beside the discs.

    Attributes:
        height: rows of the frame, over which the heel effect runs.
        primary: counts of the primary beam behind no gold, in the middle of the frame.
        heel: how much more of them the first row has than the last, as a share.
        scatter_to_primary: counts of scatter over those of the primary beam, without a phantom.
        scatter: (m, n) what the phantom leaves of that, on coarse nodes.
        coarse_px, coarse_origin: distance of the nodes in pixels, and place of the first in the core.
    """

    height: int
    primary: float
    heel: float
    scatter_to_primary: float
    scatter: np.ndarray
    coarse_px: float
    coarse_origin: float


class Noise(NamedTuple):
    """White noise of variance white² + per_count S + per_square S², S the expected counts, filtered with `taps`.

    Attributes:
        taps: (r + 1,) float32 symmetric filter, from its middle on.
        white, per_count, per_square: float32.
        electronic: standard deviation of further white noise, unfiltered.
        keys: (2, 3) uint32 of both kinds of noise, see `normal_row`.
    """

    taps: np.ndarray
    white: np.float32
    per_count: np.float32
    per_square: np.float32
    electronic: np.float32
    keys: np.ndarray


@numba.njit(cache=True)
def _signal_row(row, first_column, discs, background, out):
    """Fill `out` with the expected counts of frame row `row` from frame column `first_column` on."""
    level = background.primary * (1 + background.heel * (0.5 - (row + 0.5) / background.height))
    spr, scatter = background.scatter_to_primary, background.scatter
    coarse_px, coarse_origin = background.coarse_px, background.coarse_origin
    core_row = row - discs.top
    across = (core_row - coarse_origin) / coarse_px
    upper = min(max(int(np.floor(across)), 0), scatter.shape[0] - 2)
    share = min(max(across - upper, 0.0), 1.0)
    line = scatter[upper] * (1 - share) + scatter[upper + 1] * share
    place = 0
    while place < out.size:  # stretches between two coarse columns are straight lines
        along = (first_column + place - discs.left - coarse_origin) / coarse_px
        node = int(np.floor(along))
        if node < 0 or node >= line.size - 1:
            start, slope = line[0 if node < 0 else line.size - 1], 0.0
            stop = out.size if node >= 0 else int(np.ceil(coarse_origin + discs.left - first_column))
        else:
            slope = (line[node + 1] - line[node]) / coarse_px
            start = line[node] + (along - node) * coarse_px * slope
            stop = int(np.ceil((node + 1) * coarse_px + coarse_origin + discs.left - first_column))
        stop = min(max(stop, place + 1), out.size)
        first, step = np.float32(level * (1 + spr * start)), np.float32(level * spr * slope)
        for k in range(stop - place):
            out[place + k] = first + step * np.float32(np.int32(k))
        place = stop
    if 0 <= core_row < discs.row_start.size - 1:
        shift = discs.left - first_column
        for entry in range(discs.row_start[core_row], discs.row_start[core_row + 1]):
            column = discs.columns[entry] + shift
            if 0 <= column < out.size:
                out[column] -= np.float32(level) * discs.contrasts[discs.materials[entry]] * discs.covers[entry]


@numba.njit(cache=True)
def _noise_row(row, signal, noise, quantiles, normal, bits, out):
    """Fill `out` (w,) with the noise of a row, filtered along it; `signal` (w + 2 r,) has its expected counts."""
    reach = noise.taps.size - 1
    normal_row(row, -reach, noise.keys[0], quantiles, bits, normal)
    if noise.per_count > 0 or noise.per_square > 0:
        white_square = np.float32(noise.white * noise.white)
        for k in range(normal.size):
            size = signal[k]
            normal[k] *= np.sqrt(white_square + noise.per_count * size + noise.per_square * size * size)
    else:
        for k in range(normal.size):
            normal[k] *= noise.white
    for k in range(out.size):
        out[k] = noise.taps[0] * normal[k + reach]
    for t in range(1, reach + 1):
        for k in range(out.size):
            out[k] += noise.taps[t] * (normal[k + reach - t] + normal[k + reach + t])


@numba.njit(cache=True)
def render(rows, chosen, width, discs, background, noise, quantiles, expected, counts):
    """Compute the crossings of `rows` (rising) and `chosen` columns of a frame of `width` columns.

    Either `expected` (rows, chosen) float32 is filled with expected counts, or `counts` uint16 with digitised counts
    with noise; the other one is empty.
    """
    taps = noise.taps
    reach = taps.size - 1
    depth = 2 * reach + 1
    # A ring of rows: each is computed once, and filtered down the columns as soon as its neighbours are there.
    signals, held = np.empty((depth, width + 2 * reach), np.float32), np.full(depth, -(10**9))
    noises = np.empty((depth, width), np.float32)
    normal, bits = np.empty(width + 2 * reach, np.float32), np.empty(width + 2 * reach, np.uint32)
    total, second = np.empty(width, np.float32), np.empty(width, np.float32)
    noisy = counts.size > 0
    for n in range(rows.size):
        row = rows[n]
        for q in range(row - reach, row + reach + 1) if noisy else range(row, row + 1):
            slot = q % depth
            if held[slot] != q:
                held[slot] = q
                _signal_row(q, -reach, discs, background, signals[slot])
                if noisy:
                    _noise_row(q, signals[slot], noise, quantiles, normal, bits, noises[slot])
        signal = signals[row % depth]
        if not noisy:
            for k in range(chosen.size):
                expected[n, k] = signal[chosen[k] + reach]
            continue
        middle = noises[row % depth]
        for k in range(width):
            total[k] = signal[k + reach] + taps[0] * middle[k]
        for t in range(1, reach + 1):
            above, below = noises[(row - t) % depth], noises[(row + t) % depth]
            for k in range(width):
                total[k] += taps[t] * (above[k] + below[k])
        if noise.electronic > 0:
            normal_row(row, 0, noise.keys[1], quantiles, bits[:width], second)
            for k in range(width):
                total[k] += noise.electronic * second[k]
        _digitise(total, chosen, counts[n])


@numba.njit(cache=True)
def _digitise(total, chosen, out):
    """Fill `out` with the rounded and bounded counts of the chosen columns; `total` is overwritten."""
    largest = np.float32(MAXIMUM_COUNTS)
    for k in range(total.size):
        total[k] = min(max(total[k] + np.float32(0.5), np.float32(0.0)), largest)
    if chosen.size == total.size:  # all of them, in order
        for k in range(total.size):
            out[k] = np.uint16(np.int32(total[k]))
    else:
        for k in range(chosen.size):
            out[k] = np.uint16(np.int32(total[chosen[k]]))
