"""Where gold and paint of the phantom lie on the pixels: exact area coverage, blurred, sparse, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numba
import numpy as np
from scipy.ndimage import gaussian_filter

from xiqa.cdmam.detector import gaussian_taps, total_blur_px
from xiqa.cdmam.phantom import (
    Geometry,
    disc_centres_mm,
    grid_lines_mm,
    hidden_markers_mm,
    marker_centres_mm,
    matrix_box_mm,
    place_to_mm,
)
from xiqa.config import Detector

PHASES = 4
"""Sub-pixel steps per pixel of the random shift."""

SCATTER_SIGMA_MM = 15.0
"""Width of the scatter's spread: scatter follows the phantom only over centimetres."""

_COARSE_MM = 3.0
_CACHE_BYTES = 512 * 2**20

# --------------------------------------------------------------------------------------------------------------------
# Where paint and gold lie


@numba.njit(cache=True)
def _corner_area(x: float, y: float, radius: float) -> float:
    """Area of the part of a disc at the origin with abscissa < x and ordinate < y."""
    if x <= -radius or y <= -radius:
        return 0.0
    x = min(x, radius)
    edge = np.sqrt(max(radius * radius - y * y, 0.0))  # beyond it y does not cut the chord
    high = min(x, edge)
    area = 0.0
    if high > -edge:
        area += y * (high + edge) + 0.5 * _chord(-edge, high, radius)
    if y > 0:
        area += _chord(-radius, min(x, -edge), radius) + _chord(edge, x, radius)
    return area


@numba.njit(cache=True)
def _chord(low: float, high: float, radius: float) -> float:
    """Area of a disc at the origin between two abscissae."""
    if high <= low:
        return 0.0
    low = min(max(low, -radius), radius)
    high = min(max(high, -radius), radius)
    upper = high * np.sqrt(radius * radius - high * high) + radius * radius * np.arcsin(high / radius)
    lower = low * np.sqrt(radius * radius - low * low) + radius * radius * np.arcsin(low / radius)
    return upper - lower


@numba.njit(cache=True)
def _disc_patch(x: float, y: float, radius: float, top: int, left: int, patch: np.ndarray) -> None:
    """Fill `patch` with the share of each pixel that a disc covers; pixel (row, column) is a unit square at them."""
    for row in range(patch.shape[0]):
        y0 = top + row - 0.5 - y
        for column in range(patch.shape[1]):
            x0 = left + column - 0.5 - x
            middle_x, middle_y = x0 + 0.5, y0 + 0.5
            distance = np.sqrt(middle_x * middle_x + middle_y * middle_y)
            if distance >= radius + 0.7072:
                patch[row, column] = 0.0
            elif distance <= radius - 0.7072:
                patch[row, column] = 1.0
            else:
                patch[row, column] = (
                    _corner_area(x0 + 1, y0 + 1, radius)
                    - _corner_area(x0, y0 + 1, radius)
                    - _corner_area(x0 + 1, y0, radius)
                    + _corner_area(x0, y0, radius)
                )


@numba.njit(cache=True)
def _clip(points: np.ndarray, count: int, nx: float, ny: float, bound: float, out: np.ndarray) -> int:
    """Clip a convex polygon by the half plane nx x + ny y <= bound; the number of points left."""
    kept = 0
    for k in range(count):
        ax, ay = points[k]
        bx, by = points[(k + 1) % count]
        a = nx * ax + ny * ay - bound
        b = nx * bx + ny * by - bound
        if a <= 0:
            out[kept, 0], out[kept, 1] = ax, ay
            kept += 1
        if (a < 0 < b) or (b < 0 < a):
            share = a / (a - b)
            out[kept, 0] = ax + share * (bx - ax)
            out[kept, 1] = ay + share * (by - ay)
            kept += 1
    return kept


@numba.njit(cache=True)
def add_rectangle(canvas: np.ndarray, x: float, y: float, ux: float, uy: float, long: float, wide: float, sign: float):
    """Add the share of each pixel that a turned rectangle covers.

    (x, y) is its centre, (ux, uy) the unit vector along its half length `long`; `wide` is its other half side.
    """
    height, width = canvas.shape
    first, second = np.empty((12, 2)), np.empty((12, 2))
    reach_y = abs(uy) * long + abs(ux) * wide
    for row in range(max(0, int(np.floor(y - reach_y))), min(height, int(np.ceil(y + reach_y)) + 1)):
        # the rectangle's extent in x between the row's upper and lower edge, from both pairs of its sides
        low, high = x - abs(ux) * long - abs(uy) * wide, x + abs(ux) * long + abs(uy) * wide
        for vx, vy, half in ((ux, uy, long), (-uy, ux, wide)):
            if abs(vx) > 1e-9:
                a = (vy * (y - row - 0.5) - half) / vx
                b = (vy * (y - row + 0.5) - half) / vx
                c = (vy * (y - row - 0.5) + half) / vx
                d = (vy * (y - row + 0.5) + half) / vx
                low = max(low, x + min(min(a, b), min(c, d)))
                high = min(high, x + max(max(a, b), max(c, d)))
        for column in range(max(0, int(np.floor(low))), min(width, int(np.ceil(high)) + 1)):
            dx, dy = column - x, row - y
            along, across = abs(ux * dx + uy * dy), abs(ux * dy - uy * dx)
            if along >= long + 0.7072 or across >= wide + 0.7072:
                continue
            if along <= long - 0.7072 and across <= wide - 0.7072:
                canvas[row, column] += sign
                continue
            first[0, 0], first[0, 1] = dx - 0.5, dy - 0.5
            first[1, 0], first[1, 1] = dx + 0.5, dy - 0.5
            first[2, 0], first[2, 1] = dx + 0.5, dy + 0.5
            first[3, 0], first[3, 1] = dx - 0.5, dy + 0.5
            count = _clip(first, 4, ux, uy, long, second)
            count = _clip(second, count, -ux, -uy, long, first)
            count = _clip(first, count, -uy, ux, wide, second)
            count = _clip(second, count, uy, -ux, wide, first)
            area = 0.0
            for k in range(count):
                n = (k + 1) % count
                area += first[k, 0] * first[n, 1] - first[n, 0] * first[k, 1]
            canvas[row, column] += sign * 0.5 * area


@numba.njit(cache=True)
def blur(canvas: np.ndarray, taps: np.ndarray, reach: int) -> np.ndarray:
    """Filter along both axes with the symmetric kernel `taps` (its middle and one half); zero outside."""
    height, width = canvas.shape
    out = np.zeros_like(canvas)
    across = np.zeros((2 * reach + 1, width), canvas.dtype)
    for row in range(height + reach):
        slot = across[row % (2 * reach + 1)]
        if row < height:
            line = canvas[row]
            for column in range(width):
                slot[column] = taps[0] * line[column]
            for k in range(1, reach + 1):
                for column in range(k, width):
                    slot[column] += taps[k] * line[column - k]
                for column in range(width - k):
                    slot[column] += taps[k] * line[column + k]
        else:
            slot[:] = 0
        target = row - reach
        if target >= 0:
            result = out[target]
            middle = across[target % (2 * reach + 1)]
            for column in range(width):
                result[column] = taps[0] * middle[column]
            for k in range(1, reach + 1):
                below = across[(target + k) % (2 * reach + 1)]
                for column in range(width):
                    result[column] += taps[k] * below[column]
                if target >= k:
                    above = across[(target - k) % (2 * reach + 1)]
                    for column in range(width):
                        result[column] += taps[k] * above[column]
    return out


@numba.njit(cache=True)
def _count(canvas: np.ndarray, counts: np.ndarray, least: float) -> None:
    for row in range(canvas.shape[0]):
        line = canvas[row]
        number = 0
        for column in range(line.size):
            number += line[column] > least
        counts[row] += number


@numba.njit(cache=True)
def _collect(canvas, top, left, material, least, places, columns, materials, covers):
    """Write the entries of `canvas` above `least` to their rows' next places."""
    for row in range(canvas.shape[0]):
        line = canvas[row]
        place = places[top + row]
        for column in range(line.size):
            if line[column] > least:
                columns[place] = left + column
                materials[place] = material
                covers[place] = line[column]
                place += 1
        places[top + row] = place


# --------------------------------------------------------------------------------------------------------------------
# Writing: a font of dots, each glyph five columns wide and seven rows high

_GLYPHS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    ".": "00000 00000 00000 00000 00000 01100 01100",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "D": "11100 10010 10001 10001 10001 10010 11100",
    "M": "10001 11011 10101 10101 10001 10001 10001",
}
_DOT_MM = 0.32
_PRINT_CELLS = np.array([0.95, 0.5])  # how far (right, down) writing and markers reach beyond an upright matrix


def _text(text: str, x: float, y: float, ux: float, uy: float, dot: float) -> list[tuple[float, ...]]:
    """Rectangles of a text centred on (x, y) that runs along (ux, uy); runs of dots in a row are joined."""
    rectangles: list[tuple[float, ...]] = []
    for number, character in enumerate(text):
        if character == " ":
            continue
        for row, dots in enumerate(_GLYPHS[character].split()):
            column = 0
            while column < 5:
                run = len(dots[column:]) - len(dots[column:].lstrip("1"))
                if run:
                    along = (6 * number + column + run / 2 - (6 * len(text) - 1) / 2) * dot
                    down = (row - 3) * dot
                    rectangles.append(
                        (x + along * ux - down * uy, y + along * uy + down * ux, ux, uy, run * dot / 2, dot / 2)
                    )
                column += max(run, 1)
    return rectangles


def writing_rectangles(geometry: Geometry) -> list[tuple[float, ...]]:
    """Rectangles of the writing beside the grid: sizes along the edges, and the type.

    CDMAM 3.4: sizes along the four long edges, the type in a corner of the frame. Others: diameters beside their rows,
    the type where the writing hides markers. What is written there and its font are ours.
    """
    version = geometry.phantom
    pitch, dot = geometry.detector_pitch_mm, _DOT_MM * geometry.magnification
    diameters = [f"{diameter:.2f}" for diameter in version.diameters_mm]
    rectangles: list[tuple[float, ...]] = []
    if version.version != "3.4":
        ux, uy = version.axes[1]
        for text, place in zip(diameters, version.row_places, strict=True):
            x, y = place_to_mm(geometry, place, -1.0)
            rectangles += _text(text, x, y, ux, uy, dot)
        x, y = hidden_markers_mm(geometry).mean(axis=0)
        return rectangles + _text(f"CDMAM {version.version}", x, y, ux, uy, 1.2 * dot)
    up_right, down_right = version.axes[0], -version.axes[1]
    thicknesses = [f"{thickness:.2f}" for thickness in version.thicknesses_um[0]]
    labels: list[tuple[str, float, float, np.ndarray]] = []
    for i in range(7, 14):  # upper left edge, reading upwards
        labels.append((diameters[i], i, 15.85, up_right))
    for i in range(2, 8):  # lower right edge
        labels.append((diameters[i], i, -0.85, up_right))
    for j in range(2, 9):  # lower left edge, reading downwards
        labels.append((thicknesses[j], -0.85, j, down_right))
    for j in range(8, 14):  # upper right edge
        labels.append((thicknesses[j], 15.85, j, down_right))
    for text, i, j, (ux, uy) in labels:
        x, y = place_to_mm(geometry, i, j)
        rectangles += _text(text, x, y, ux, uy, dot)
    x_min, y_min, _, _ = matrix_box_mm(geometry)
    return rectangles + _text("CDMAM 3.4", x_min + 2.0 * pitch, y_min + 0.8 * pitch, 1.0, 0.0, 1.6 * dot)


def grid_rectangles(geometry: Geometry) -> list[tuple[float, ...]]:
    """Signed rectangles of the grid: each line, ends closed, and once less each place where two of them overlap."""
    half = geometry.grid_line_mm * geometry.magnification / 2
    smaller, thicker = geometry.phantom.axes
    boxes = []
    for line in grid_lines_mm(geometry):
        u, v = line @ smaller, line @ thicker
        boxes.append((u.min() - half, v.min() - half, u.max() + half, v.max() + half))
    signed = [(box, 1.0) for box in boxes]
    for k, a in enumerate(boxes):
        for b in boxes[k + 1 :]:
            common = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
            if common[0] < common[2] and common[1] < common[3]:
                signed.append((common, -1.0))
    rectangles: list[tuple[float, ...]] = []
    for (u0, v0, u1, v1), sign in signed:
        x, y = (u0 + u1) / 2 * smaller + (v0 + v1) / 2 * thicker
        rectangles.append((x, y, *smaller, (u1 - u0) / 2, (v1 - v0) / 2, sign))
    return rectangles


# --------------------------------------------------------------------------------------------------------------------
# The projection, kept in memory

PAD = 16


@dataclass(frozen=True)
class Projection:
    """Sparse blurred coverage on the core frame (the frame without margin, `PAD` pixels wider on each side)."""

    row_start: np.ndarray  # (rows + 1,) int64
    columns: np.ndarray  # (n,) uint16
    materials: np.ndarray  # (n,) uint8: index in the phantom's `materials_um`, or their number: paint
    covers: np.ndarray  # (n,) float32
    scattered: np.ndarray  # (materials + 1, coarse rows, coarse columns) float64: coverage as the scatter sees it
    coarse_px: float  # pixels per coarse cell
    coarse_origin: float  # core row (and column) of the middle of the first coarse cell

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(a.nbytes for a in (self.row_start, self.columns, self.materials, self.covers, self.scattered))


def core_shape(geometry: Geometry, detector: Detector) -> tuple[int, int]:
    """Rows and columns of a frame without margin: the bounding box (as turned by the tilt), rounded up.

    The box is that of the matrix; where print lies outside it (not on CDMAM 3.4) that of the print.
    """
    x_min, y_min, x_max, y_max = _turned_box_mm(geometry, detector.tilt_deg)
    return int(np.ceil((y_max - y_min) / detector.pixel_mm)), int(np.ceil((x_max - x_min) / detector.pixel_mm))


def frame_shape(geometry: Geometry, detector: Detector, margin_mm: float) -> tuple[int, int]:
    """Rows and columns of an image with `margin_mm` on each side."""
    margin = round(margin_mm / detector.pixel_mm)
    rows, columns = core_shape(geometry, detector)
    return rows + 2 * margin, columns + 2 * margin


def _turn(tilt_deg: float) -> np.ndarray:
    angle = np.deg2rad(tilt_deg)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _turned_box_mm(geometry: Geometry, tilt_deg: float) -> tuple[float, float, float, float]:
    ends = grid_lines_mm(geometry).reshape(-1, 2)
    if geometry.version != "3.4":
        ends = np.vstack(
            [ends - _PRINT_CELLS * geometry.detector_pitch_mm, ends + _PRINT_CELLS * geometry.detector_pitch_mm]
        )
    ends = ends @ _turn(tilt_deg).T
    return *ends.min(axis=0), *ends.max(axis=0)


def _placement(geometry: Geometry, detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """Turn matrix and the matrix centre (x, y) in pixels of the frame without margin, without shift."""
    rows, columns = core_shape(geometry, detector)
    x_min, y_min, x_max, y_max = _turned_box_mm(geometry, detector.tilt_deg)
    middle = np.array([x_min + x_max, y_min + y_max]) / 2
    return _turn(detector.tilt_deg), np.array([columns - 1, rows - 1]) / 2 - middle / detector.pixel_mm


def rectangles_px(rectangles: list, geometry: Geometry, detector: Detector, offset: np.ndarray) -> list[tuple]:
    """Rectangles in mm from the matrix centre, turned and placed on pixels: arguments of `add_rectangle`."""
    turn, centre = _placement(geometry, detector)
    placed = []
    for x, y, ux, uy, long, wide, *sign in rectangles:
        px, py = turn @ (x, y) / detector.pixel_mm + centre + offset
        vx, vy = turn @ (ux, uy)
        placed.append((px, py, vx, vy, long / detector.pixel_mm, wide / detector.pixel_mm, sign[0] if sign else 1.0))
    return placed


def discs_px(geometry: Geometry, detector: Detector, offset: np.ndarray):
    """Yield (diameter index, thickness index, x, y, radius) of all discs in pixels, where they are printed."""
    turn, centre = _placement(geometry, detector)
    stretch, skew = detector.disc_scale / np.sqrt(1 - detector.disc_skew**2), detector.disc_skew
    displaced = stretch * _turn(detector.disc_rotation_deg) @ [[1, skew], [skew, 1]]
    places = disc_centres_mm(geometry) @ turn.T @ displaced.T + detector.disc_shift_mm
    centres = places / detector.pixel_mm + centre + offset
    radii = geometry.phantom.diameters_mm * geometry.magnification / detector.pixel_mm / 2
    for which in range(2):
        for i, j in np.argwhere(geometry.phantom.present):
            yield int(i), int(j), *centres[which, i, j], radii[i]


def markers_px(geometry: Geometry, detector: Detector, offset: np.ndarray) -> list[tuple[float, float, float]]:
    """(x, y, radius) of all round markers in pixels."""
    turn, centre = _placement(geometry, detector)
    places = marker_centres_mm(geometry) @ turn.T / detector.pixel_mm + centre + offset
    fact = geometry.phantom.file.geometry.markers
    radius = fact.value.diameter_mm * geometry.magnification / detector.pixel_mm / 2 if fact else 0.0
    return [(x, y, radius) for x, y in places]


def onto(shape: tuple[int, int], top: int, left: int, patch: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """Where a patch lies in a frame, and the part of it that lies inside."""
    inside = patch[max(0, -top) : max(0, shape[0] - top), max(0, -left) : max(0, shape[1] - left)]
    top, left = max(0, top), max(0, left)
    return (slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])), inside


def disc_cover(x: float, y: float, radius: float, reach: int) -> tuple[int, int, np.ndarray]:
    """Row and column of the first pixel, and the coverage of a disc on a patch `reach` pixels wider than the disc."""
    top, left = int(np.floor(y - radius)) - reach, int(np.floor(x - radius)) - reach
    side = int(np.ceil(2 * radius)) + 2 + 2 * reach
    patch = np.empty((side, side))
    _disc_patch(x, y, radius, top, left, patch)
    return top, left, patch


def _project(geometry: Geometry, detector: Detector, phase: tuple[int, int]) -> Projection:
    """Draw and blur the phantom at a sub-pixel phase (in 1 / PHASES pixel, row and column)."""
    rows, columns = core_shape(geometry, detector)
    shape = rows + 2 * PAD, columns + 2 * PAD
    taps = gaussian_taps(total_blur_px(geometry, detector))
    reach = len(taps) - 1
    offset = np.array([phase[1], phase[0]]) / PHASES + PAD
    rectangles = grid_rectangles(geometry) + (writing_rectangles(geometry) if detector.writing else [])
    canvas = np.zeros(shape, np.float32)
    for rectangle in rectangles_px(rectangles, geometry, detector, offset):
        add_rectangle(canvas, *rectangle)
    for marker in markers_px(geometry, detector, offset):
        where, patch = onto(shape, *disc_cover(*marker, 0))
        canvas[where] += patch
    version = geometry.phantom
    paint = len(version.materials_um)
    pieces = [(0, 0, blur(canvas, taps.astype(np.float32), reach), paint)]
    for i, j, x, y, radius in discs_px(geometry, detector, offset):
        top, left, patch = disc_cover(x, y, radius, reach)
        where, patch = onto(shape, top, left, blur(patch, taps, reach))
        piece = np.ascontiguousarray(patch, np.float32)
        pieces.append((where[0].start, where[1].start, piece, version.material_of_cell[i, j]))
    least = 1e-6
    counts = np.zeros(shape[0], np.int64)
    for top, _, piece, _ in pieces:
        _count(piece, counts[top : top + piece.shape[0]], least)
    row_start = np.concatenate([[0], np.cumsum(counts)])
    found, materials, covers = (np.empty(row_start[-1], kind) for kind in (np.uint16, np.uint8, np.float32))
    places = row_start[:-1].copy()
    for top, left, piece, material in pieces:
        _collect(piece, top, left, material, least, places, found, materials, covers)
    coarse_px = _COARSE_MM / detector.pixel_mm
    surround = int(np.ceil(4 * SCATTER_SIGMA_MM / _COARSE_MM))
    coarse_shape = tuple(int(np.ceil(side / coarse_px)) + 2 * surround for side in shape)
    scattered = np.zeros((paint + 1, *coarse_shape))
    _coarse_sums(row_start, found, materials, covers, coarse_px, surround, scattered)
    scattered /= coarse_px**2
    for layer in scattered:
        gaussian_filter(layer, SCATTER_SIGMA_MM / _COARSE_MM, output=layer, mode="nearest")
    origin = (0.5 - surround) * coarse_px - 0.5
    return Projection(row_start, found, materials, covers, scattered, coarse_px, origin)


@numba.njit(cache=True)
def _coarse_sums(row_start, columns, materials, covers, coarse_px, surround, sums):
    for row in range(row_start.size - 1):
        coarse_row = int(row / coarse_px) + surround
        for place in range(row_start[row], row_start[row + 1]):
            sums[materials[place], coarse_row, int(columns[place] / coarse_px) + surround] += covers[place]


_projections: OrderedDict[tuple, Projection] = OrderedDict()


def projection(geometry: Geometry, detector: Detector, phase: tuple[int, int]) -> Projection:
    """The projection from memory, or drawn now; the memory is bounded and never changes a result."""
    # Not what the projection does not depend on, so that settings share it.
    shared = {"scatter_to_primary": 0.0, "noise_filter_px": 0.0, "heel": 0.0}
    key = (geometry, detector.model_copy(update=shared), phase)
    if key not in _projections:
        _projections[key] = _project(geometry, detector, phase)
        while len(_projections) > 1 and sum(p.nbytes for p in _projections.values()) > _CACHE_BYTES:
            _projections.popitem(last=False)
    _projections.move_to_end(key)
    return _projections[key]


def clear_cache() -> None:
    """Forget all projections."""
    _projections.clear()
