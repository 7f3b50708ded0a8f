"""The compiled loops from projection to counts: expected counts, reproducible noise, digitisation.

They share one file because numba renews its compiled copy of a loop only when the file of the loop itself changes.
"""

from __future__ import annotations

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


@numba.njit(cache=True)
def _signal_row(
    row,
    first_column,
    top,
    left,
    level,
    contrasts,
    spr,
    row_start,
    columns,
    materials,
    covers,
    scatter,
    coarse_px,
    coarse_origin,
    out,
):
    """Fill `out` with the expected counts of frame row `row` from frame column `first_column` on.

    (top, left) is the core's first pixel in the frame, `level` the counts of the primary background in this row.
    """
    core_row = row - top
    across = (core_row - coarse_origin) / coarse_px
    upper = min(max(int(np.floor(across)), 0), scatter.shape[0] - 2)
    share = min(max(across - upper, 0.0), 1.0)
    line = scatter[upper] * (1 - share) + scatter[upper + 1] * share
    place = 0
    while place < out.size:  # stretches between two coarse columns are straight lines
        along = (first_column + place - left - coarse_origin) / coarse_px
        node = int(np.floor(along))
        if node < 0 or node >= line.size - 1:
            start, slope = line[0 if node < 0 else line.size - 1], 0.0
            stop = out.size if node >= 0 else int(np.ceil(coarse_origin + left - first_column))
        else:
            slope = (line[node + 1] - line[node]) / coarse_px
            start = line[node] + (along - node) * coarse_px * slope
            stop = int(np.ceil((node + 1) * coarse_px + coarse_origin + left - first_column))
        stop = min(max(stop, place + 1), out.size)
        first, step = np.float32(level * (1 + spr * start)), np.float32(level * spr * slope)
        for k in range(stop - place):
            out[place + k] = first + step * np.float32(np.int32(k))
        place = stop
    if 0 <= core_row < row_start.size - 1:
        shift = left - first_column
        for entry in range(row_start[core_row], row_start[core_row + 1]):
            column = columns[entry] + shift
            if 0 <= column < out.size:
                out[column] -= np.float32(level) * contrasts[materials[entry]] * covers[entry]


@numba.njit(cache=True)
def render(
    rows,
    chosen,
    shape,
    top,
    left,
    level,
    heel,
    contrasts,
    spr,
    projection,
    scatter,
    coarse_px,
    coarse_origin,
    taps,
    white,
    per_count,
    per_square,
    electronic,
    keys,
    quantiles,
    expected,
    counts,
):
    """Compute the crossings of `rows` (rising) and `chosen` columns: expected counts or, with noise, digitised counts.

    White noise has the variance white² + per_count S + per_square S² where S are the expected counts; it is filtered
    with `taps`. White noise `electronic` is added unfiltered.
    """
    row_start, columns, materials, covers = projection
    reach = taps.size - 1
    depth = 2 * reach + 1
    width = shape[1] + 2 * reach
    follows = per_count > 0 or per_square > 0
    signals, held = np.empty((depth, width), np.float32), np.full(depth, -(10**9))
    noises = np.empty((depth, shape[1]), np.float32)
    normal, bits = np.empty(width, np.float32), np.empty(width, np.uint32)
    total = np.empty(shape[1], np.float32)
    second = np.empty(shape[1], np.float32)
    white_square = np.float32(white * white)
    top_count = np.float32(MAXIMUM_COUNTS)
    for n in range(rows.size):
        row = rows[n]
        noisy = counts.size > 0
        for q in range(row - reach, row + reach + 1) if noisy else range(row, row + 1):
            slot = q % depth
            if held[slot] == q:
                continue
            held[slot] = q
            signal = signals[slot]
            here = level * (1 + heel * (0.5 - (q + 0.5) / shape[0]))
            _signal_row(
                q,
                -reach,
                top,
                left,
                here,
                contrasts,
                spr,
                row_start,
                columns,
                materials,
                covers,
                scatter,
                coarse_px,
                coarse_origin,
                signal,
            )
            if not noisy:
                continue
            normal_row(q, -reach, keys[0], quantiles, bits, normal)
            if follows:
                for k in range(width):
                    size = signal[k]
                    normal[k] *= np.sqrt(white_square + per_count * size + per_square * size * size)
            else:
                for k in range(width):
                    normal[k] *= white
            noise = noises[slot]
            for k in range(shape[1]):
                noise[k] = taps[0] * normal[k + reach]
            for t in range(1, reach + 1):
                for k in range(shape[1]):
                    noise[k] += taps[t] * (normal[k + reach - t] + normal[k + reach + t])
        signal = signals[row % depth]
        if not noisy:
            for k in range(chosen.size):
                expected[n, k] = signal[chosen[k] + reach]
            continue
        middle = noises[row % depth]
        for k in range(shape[1]):
            total[k] = signal[k + reach] + taps[0] * middle[k]
        for t in range(1, reach + 1):
            above, below = noises[(row - t) % depth], noises[(row + t) % depth]
            for k in range(shape[1]):
                total[k] += taps[t] * (above[k] + below[k])
        if electronic > 0:
            normal_row(row, 0, keys[1], quantiles, bits[: shape[1]], second)
            for k in range(shape[1]):
                total[k] += electronic * second[k]
        for k in range(shape[1]):
            total[k] = min(max(total[k] + np.float32(0.5), np.float32(0.0)), top_count)
        line = counts[n]
        if chosen.size == shape[1]:
            for k in range(shape[1]):
                line[k] = np.uint16(np.int32(total[k]))
        else:
            for k in range(chosen.size):
                line[k] = np.uint16(np.int32(total[chosen[k]]))
