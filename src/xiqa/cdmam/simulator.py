"""Simulated images of the CDMAM phantom: contrast, blur, scatter and noise, pixel by pixel reproducible.

An image is built in two parts. The first holds where paint and gold lie on the pixels, blurred by the detector; it
depends on geometry and sub-pixel phase only, is sparse, and is kept in memory. The second, per image, looks up what
the beam makes of it, adds scatter and noise, and digitises. The noise of a pixel is a hash of (key, row, column), so
that any part of an image can be computed on its own, in any order, with the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xiqa.cdmam import beam
from xiqa.cdmam.detector import gaussian_taps, noise_parameters, total_blur_px
from xiqa.cdmam.phantom import Geometry
from xiqa.cdmam.projection import (
    PAD,
    PHASES,
    add_rectangle,
    blur,
    disc_cover,
    discs_px,
    frame_shape,
    grid_rectangles,
    markers_px,
    onto,
    projection,
    rectangles_px,
    writing_rectangles,
)
from xiqa.cdmam.render import QUANTILES, Background, Discs, Noise, render
from xiqa.config import Detector, Exposure

_LEAST_COVER = 1e-5


@dataclass(frozen=True)
class SimulatedImage:
    """A simulated image.

    Attributes:
        counts: (h, w) uint16, 14 bit; discs are darker than their background.
        meta: what the image was made from, plain values only.
        structure: (h, w) uint8 exact labels, computed when first asked for (`structure_labels`).
    """

    counts: np.ndarray
    meta: dict[str, Any]
    _recipe: tuple = field(repr=False, compare=False)

    @property
    def structure(self) -> np.ndarray:
        """Exact structure labels (h, w) uint8: see `structure_labels`."""
        return structure_labels(*self._recipe)


def _draw(exposure: Exposure, detector: Detector, margin_mm: float, seed: int, index: int):
    """Shift (row, column) in 1 / PHASES pixels and noise keys (2, 3) uint32 of an image.

    The name of the setting and the margin take part, so that equal numbers never give two settings the same noise.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and index {index}: both must be 0 or more")
    label = hashlib.blake2b(f"{exposure.name} {margin_mm:g}".encode(), digest_size=8).digest()
    words = np.random.SeedSequence([seed, index, int.from_bytes(label, "big")]).generate_state(8, np.uint32)
    # one pixel to each side as in the published simulator; with a margin up to half of it, 5 mm at most
    limit = max(1, int(min(margin_mm / 2, 5.0) / detector.pixel_mm)) * PHASES
    shift = [int(word) % (2 * limit + 1) - limit for word in words[:2]]
    return shift, words[2:].reshape(2, 3)


@dataclass(frozen=True)
class _Plan:
    """What `render` needs besides rows and columns."""

    shape: tuple[int, int]
    discs: Discs
    background: Background
    noise: tuple
    keys: np.ndarray
    shift: list[int]


def _plan(exposure, detector, geometry, margin_mm, seed, index, discs) -> _Plan:
    shape = frame_shape(geometry, detector, margin_mm)
    shift, keys = _draw(exposure, detector, margin_mm, seed, index)
    whole, phase = zip(*(divmod(part, PHASES) for part in shift), strict=True)
    margin = round(margin_mm / detector.pixel_mm)
    projected = projection(geometry, detector, phase)
    contrasts = beam.gold_contrast(exposure, [*geometry.phantom.materials_um, geometry.paint_gold_um], geometry)
    if not discs:
        contrasts[:-1] = 0
    primary = beam.primary_counts(exposure, geometry)
    sparse = projected.row_start, projected.columns, projected.materials, projected.covers
    material = Discs(*sparse, contrasts.astype(np.float32), margin - PAD + whole[0], margin - PAD + whole[1])
    background = Background(
        shape[0],
        primary,
        detector.heel,
        detector.scatter_to_primary,
        1 - np.tensordot(contrasts, projected.scattered, axes=1),
        projected.coarse_px,
        projected.coarse_origin,
    )
    return _Plan(shape, material, background, noise_parameters(exposure, detector, geometry), keys, shift)


def _run(plan: _Plan, detector: Detector, rows: np.ndarray, columns: np.ndarray, noisy: bool) -> np.ndarray:
    size = len(rows), len(columns)
    expected = np.empty((0, 0) if noisy else size, np.float32)
    counts = np.empty(size if noisy else (0, 0), np.uint16)
    taps = gaussian_taps(detector.noise_filter_px if noisy else 0).astype(np.float32)
    white, per_count, per_square, electronic = (np.float32(value) for value in plan.noise)
    noise = Noise(taps, white, per_count, per_square, electronic, plan.keys)
    render(rows, columns, plan.shape[1], plan.discs, plan.background, noise, QUANTILES, expected, counts)
    return counts if noisy else expected


def _all(plan: _Plan) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(plan.shape[0]), np.arange(plan.shape[1])


def simulate(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    margin_mm: float = 0.0,
    seed: int = 0,
    index: int = 0,
    discs: bool = True,
) -> SimulatedImage:
    """Simulate one image of the whole phantom.

    The image is a pure function of the arguments: the same bytes whatever was simulated before, in whatever order.

    Args:
        exposure: beam, dose and noise model.
        detector: detector and projection.
        geometry: phantom and its place (`xiqa.cdmam.phantom.geometry_of`).
        margin_mm: margin on each side of the matrix's bounding box, on the detector.
        seed: seed of the study, 0 or more.
        index: number of the image, 0 or more.
        discs: False leaves the gold discs out (same shift, same noise).

    Returns:
        the image; its `meta` holds the shift and the settings, its `structure` is computed when asked for.

    Raises:
        ValueError: a negative seed or index, or a beam for which there is no table.

    Reference: Kretz et al. 2019, Physica Medica 62, 120 (published noise and scatter); docs/explanation/simulator.md.
    """
    plan = _plan(exposure, detector, geometry, margin_mm, seed, index, discs)
    counts = _run(plan, detector, *_all(plan), noisy=True)
    meta = {
        "setting": exposure.name,
        "tube_voltage_kv": exposure.tube_voltage_kv,
        "exposure_mas": exposure.exposure_mas,
        "anode": exposure.anode,
        "filter": exposure.filter,
        "noise": exposure.noise,
        "noise_level": exposure.noise_level,
        "pixel_mm": detector.pixel_mm,
        "phantom": geometry.version,
        "geometry": geometry.name,
        "margin_mm": margin_mm,
        "seed": seed,
        "index": index,
        "discs": discs,
        "shift_px": [part / PHASES for part in plan.shift],
    }
    return SimulatedImage(counts, meta, (exposure, detector, geometry, margin_mm, seed, index, discs))


def simulate_sampled(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    margin_mm: float,
    seed: int,
    index: int,
    rows: np.ndarray,
    columns: np.ndarray,
    discs: bool = True,
) -> np.ndarray:
    """The crossings of `rows` and `columns` of `simulate(...)`, the same bytes, without computing the rest.

    Args:
        exposure, detector, geometry, margin_mm, seed, index, discs: as in `simulate`.
        rows: (m,) strictly rising rows of the image (its shape: `frame_shape`).
        columns: (n,) columns.

    Returns:
        (m, n) uint16 counts.

    Raises:
        ValueError: rows that do not rise, or places outside the image.
    """
    plan = _plan(exposure, detector, geometry, margin_mm, seed, index, discs)
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    for places, length, axis in ((rows, plan.shape[0], "rows"), (columns, plan.shape[1], "columns")):
        if not places.size or places.min() < 0 or places.max() >= length:
            raise ValueError(f"{axis} must lie in 0 to {length - 1} for an image of {plan.shape}")
    if np.any(np.diff(rows) <= 0):
        raise ValueError("rows must rise strictly")
    return _run(plan, detector, rows, columns, noisy=True)


def noise_free(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    margin_mm: float = 0.0,
    seed: int = 0,
    index: int = 0,
    discs: bool = True,
) -> np.ndarray:
    """Expected counts of `simulate(...)`, before noise and digitisation: (h, w) float32. Arguments as there."""
    plan = _plan(exposure, detector, geometry, margin_mm, seed, index, discs)
    return _run(plan, detector, *_all(plan), noisy=False)


# --------------------------------------------------------------------------------------------------------------------
# Exact masks


def _drawn_discs(
    detector: Detector, geometry: Geometry, margin_mm: float, shift: list[int], values, kind
) -> np.ndarray:
    """Frame (h, w) with `values(i, j)` in each pixel that a disc covers."""
    shape = frame_shape(geometry, detector, margin_mm)
    offset = np.array([shift[1], shift[0]]) / PHASES + round(margin_mm / detector.pixel_mm)
    frame = np.zeros(shape, kind)
    for i, j, x, y, radius in discs_px(geometry, detector, offset):
        where, patch = onto(shape, *disc_cover(x, y, radius, 0))
        frame[where][patch > _LEAST_COVER] = values(i, j)
    return frame


def structure_labels(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    margin_mm: float = 0.0,
    seed: int = 0,
    index: int = 0,
    discs: bool = True,
) -> np.ndarray:
    """Which structure each pixel of `simulate(...)` shows. Arguments as there.

    A pixel belongs to a structure if the structure's projection, before any blur, covers part of it (more than 1e-5 of
    its area, which only rounding could otherwise reach). Structures do not overlap; where a pixel touches two, grid and
    writing win over discs.

    Returns:
        (h, w) uint8: 0 background, 1 to D disc of the diameter index + 1 (1 is 2.00 mm; central and eccentric disc),
        then the grid with its round markers (17 for CDMAM 3.4, 22 for 4.0) and the writing (18, 23).
    """
    shift, _ = _draw(exposure, detector, margin_mm, seed, index)
    if discs:
        labels = _drawn_discs(detector, geometry, margin_mm, shift, lambda i, j: i + 1, np.uint8)
    else:
        labels = np.zeros(frame_shape(geometry, detector, margin_mm), np.uint8)
    offset = np.array([shift[1], shift[0]]) / PHASES + round(margin_mm / detector.pixel_mm)
    version = geometry.phantom
    parts = [(grid_rectangles(geometry), version.label_grid)]
    if detector.writing:
        parts.append((writing_rectangles(geometry), version.label_writing))
    for rectangles, label in parts:
        cover = np.zeros(labels.shape, np.float32)
        for rectangle in rectangles_px(rectangles, geometry, detector, offset):
            add_rectangle(cover, *rectangle)
        labels[cover > _LEAST_COVER] = label
    for marker in markers_px(geometry, detector, offset):
        where, patch = onto(labels.shape, *disc_cover(*marker, 0))
        labels[where][patch > _LEAST_COVER] = version.label_grid
    return labels


def thickness_map(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    margin_mm: float = 0.0,
    seed: int = 0,
    index: int = 0,
) -> np.ndarray:
    """Thickness in µm of the gold disc that covers part of each pixel of `simulate(...)`: (h, w) float32, 0 elsewhere.

    The rule of `structure_labels`; arguments as in `simulate`.
    """
    shift, _ = _draw(exposure, detector, margin_mm, seed, index)
    return _drawn_discs(
        detector, geometry, margin_mm, shift, lambda i, j: geometry.phantom.thicknesses_um[i, j], np.float32
    )


# --------------------------------------------------------------------------------------------------------------------
# A single cell


def simulate_cell(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    diameter_mm: float,
    thickness_um: float,
    corner: int = 1,
    size: int = 146,
    seed: int = 0,
    index: int = 0,
    shift_px: tuple[float, float] | None = None,
) -> np.ndarray:
    """Simulate the inside of one cell, its sides along the image's: one central disc and one in a corner.

    Seen from outside as in the whole CDMAM 3.4 turned by 45° clockwise: corner code 1 is upper left, 2 upper right,
    3 lower right, 4 lower left. Grid lines lie outside a field of view of less than a cell and are not drawn. Scatter
    is even.

    Args:
        exposure, detector, geometry: as in `simulate`; tilt, heel and writing do not apply.
        diameter_mm: disc diameter in the phantom; any positive number.
        thickness_um: gold thickness; any positive number.
        corner: corner code 1 to 4.
        size: rows and columns of the image.
        seed, index: as in `simulate`; they give the noise and, without `shift_px`, the shift of up to one pixel.
        shift_px: shift of the phantom (right, down) in pixels.

    Returns:
        (size, size) uint16 counts.

    Raises:
        ValueError: an impossible corner, disc or number.
    """
    if corner not in (1, 2, 3, 4):
        raise ValueError(f"corner {corner!r}: expected a corner code 1 to 4")
    if not (diameter_mm > 0 and thickness_um > 0 and size > 0):
        raise ValueError(f"disc of {diameter_mm} mm and {thickness_um} µm on {size} pixels: all must be above 0")
    shift, keys = _draw(exposure, detector, 0.0, seed, index)
    right, down = (shift[1] / PHASES, shift[0] / PHASES) if shift_px is None else shift_px
    taps = gaussian_taps(total_blur_px(geometry, detector))
    scale = geometry.magnification / detector.pixel_mm
    aside = geometry.eccentric_offset * geometry.pitch_mm * scale
    toward_x, toward_y = {1: (-1, -1), 2: (1, -1), 3: (1, 1), 4: (-1, 1)}[corner]
    cover = np.zeros((size, size))
    for sign in (0, 1):
        x = (size - 1) / 2 + right + sign * toward_x * aside
        y = (size - 1) / 2 + down + sign * toward_y * aside
        top, left, patch = disc_cover(x, y, diameter_mm * scale / 2, len(taps) - 1)
        where, patch = onto(cover.shape, top, left, blur(patch, taps, len(taps) - 1))
        cover[where] += patch
    contrast = beam.gold_contrast(exposure, np.array([thickness_um]), geometry)
    even = np.full((2, 2), 1 - contrast[0] * cover.mean())
    row_start = np.arange(size + 1) * size
    columns = np.tile(np.arange(size, dtype=np.uint16), size)
    materials = np.zeros(size * size, np.uint8)
    sparse = row_start, columns, materials, cover.astype(np.float32).ravel()
    primary = beam.primary_counts(exposure, geometry)
    material = Discs(*sparse, contrast.astype(np.float32), 0, 0)
    background = Background(size, primary, 0.0, detector.scatter_to_primary, even, 1.0, 0.0)
    noise = noise_parameters(exposure, detector, geometry)
    plan = _Plan((size, size), material, background, noise, keys, [0, 0])
    return _run(plan, detector, *_all(plan), noisy=True)
