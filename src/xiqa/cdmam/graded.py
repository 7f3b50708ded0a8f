"""The contrast-detail curve from graded signals: how dark each disc is and how noisy its place, not whether it was hit.

One model describes all discs of an image: a disc of diameter d and thickness t takes A (1 - exp(-µ t)) counts from its
background, blurred by one Gaussian. A, µ, the blur, the discs' size and their common displacement are found together
by least squares over all pixels near discs; the noise that the same matched template sees is measured at thousands of
empty places, for each diameter. The threshold follows without any counting, from one image or many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numba
import numpy as np
import pandas as pd
from scipy.special import chdtrc, chndtr

from xiqa.cdmam.curve import (
    CDC_ROWS,
    GUESS_RATE,
    SIDES,
    THRESHOLD_DETECTABILITY,
    CurveResult,
    CurveWarning,
    Human,
    human_equivalent,
    single_source_warnings,
    third_order_fits,
    thresholds,
)
from xiqa.cdmam.grid import Pose
from xiqa.cdmam.limits import RANGE_UM
from xiqa.cdmam.phantom import CORNER_STEPS, THICKNESSES_UM, Phantom, phantom, version_of_diameters
from xiqa.cdmam.reader import Reading, Registration
from xiqa.cdmam.signals import DISC_CLEARANCE_MM, GRID_CLEARANCE_MM, cell_planes

ATTENUATION_PER_UM, ATTENUATION_SD_PER_UM = 0.16, 0.05
"""What is known of µ before an image is seen: mean and standard deviation for beams of mammography."""

_PROFILE_STEP_PX = 0.05
_UNKNOWNS = 11  # ln A, µ, blur, size, and seven of the discs' places
_ROUNDS = 6
_LEAST_AMPLITUDE_SD = 10
"""From so many standard errors on the discs stand out of the noise, all together."""
_FARTHEST_STEPS = np.array([0.5, 0.05, 0.3, 0.05, *[0.03] * 7])
"""How far one round moves each unknown: bounded steps keep a poor start from leaping."""
_LEAST_ATTENUATION_PER_UM = 0.01
_FIRST_BLUR_PX, _LEAST_BLUR_PX = 0.8, 0.3  # 0.29 is the pixel itself
_EMPTY_STEP_MM = 1.2
_PATTERN_MM = 0.5
_LAG_PX = 1.5
_BLURS_BESIDE, _BLURS_FREE = 2, 3  # of an empty place's own disc, and of the discs that it must be clear of
_MOST_TAKEN = 0.5  # share of a disc's noise that the plane of its cell may take, in the correction for it
_QUARTILES_SD = 1.34898  # between the quartiles of a normal distribution
_CUT_OUT = 0.65  # of half a cell: a square on its corner holds so much
_LEAST_RING = 0.02  # of the largest: where smoothing left nothing, little is much
_KNOWN_RATIO_SD = 0.5  # diameters whose amplitude is known better than so take part in the test that all agree
_LEAST_CHANCE = 1e-4
_UNSEEN_UM = 50.0
"""Stands for thresholds that no thickness reaches, where a number is needed."""
_INTERVAL_PERCENT, _NORMAL_95 = (2.5, 97.5), 1.96
"""Intervals of 95 %: of draws, and in standard deviations of a normal distribution."""
# Of all beams of mammography behind the phantom: µ, and with scatter the contrast of thin gold.
_ATTENUATION_RANGE_PER_UM, _CONTRAST_RANGE_PER_UM = (0.09, 0.22), (0.05, 0.2)
_MOST_CLIPPED = 2e-4
_MOST_HEAVY = 1.15
_MOST_COMMON = 0.1
_MOST_STEP = 0.7  # of the noise: rounding to steps of 0.7 standard deviations adds 4 % to its variance
_SPECTRUM_MM = 0.32  # discs up to here leave most of their cell empty
_MOST_LINES = 1.25
_PEAK_SD = 14
"""Standard deviations of a mean of spectra by which its largest value of thousands may exceed its surroundings."""
COUNTED_PHANTOM = "3.4"
"""Version of the phantom whose hits tables/counting.csv predicts."""
COUNTING_CORRELATION_MM = 0.05
"""Of the systems that the column d_prime_scale of tables/counting.csv holds for."""

_MODEL_SHARE = 0.1
"""Standard uncertainty of the thresholds that more images do not lower, as a share of the blur's transfer at half the
pixels' frequency: coarse pixels show small discs otherwise than one Gaussian does (docs/explanation/graded.md)."""


def blurred_disc(distance: np.ndarray, radius: float, blur: float) -> np.ndarray:
    """A disc of height 1 blurred by a Gaussian, at a distance from its centre; all lengths in one unit.

    It is the probability that a point of a two-dimensional normal distribution about that distance falls on the disc.
    """
    return chndtr((radius / blur) ** 2, 2, (np.asarray(distance) / blur) ** 2)


def _profiles(radii: np.ndarray, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Radial profiles (n, 4, k) of blurred discs and their slopes by distance, blur, and radius; reach (n,), in px."""
    reach = radii + 4 * blur + 1
    distance = np.arange(int(reach.max() / _PROFILE_STEP_PX) + 3) * _PROFILE_STEP_PX
    h = 0.02
    profiles = np.empty((len(radii), 4, len(distance)))
    for i, radius in enumerate(radii):
        disc = blurred_disc(distance, radius, blur)
        profiles[i] = (
            disc,
            np.gradient(disc, _PROFILE_STEP_PX),
            (blurred_disc(distance, radius, blur + h) - blurred_disc(distance, radius, blur - h)) / (2 * h),
            (blurred_disc(distance, radius + h, blur) - blurred_disc(distance, radius - h, blur)) / (2 * h),
        )
    return profiles, reach


@numba.njit(cache=True, fastmath=True)
def _products(image, x, y, profile, reach, plane, centre_x, centre_y, gram, dots):
    """Add up, over the pixels near a place, products of the template and its slopes with one another and the image.

    The vector of a pixel: template, its slopes by x, y, blur and radius. `gram` (5, 5) and `dots` (5,) are filled.
    """
    height, width = image.shape
    gram[:] = 0.0
    dots[:] = 0.0
    v = np.empty(5)
    for row in range(max(int(y - reach), 0), min(int(y + reach) + 1, height - 1) + 1):
        for column in range(max(int(x - reach), 0), min(int(x + reach) + 1, width - 1) + 1):
            dx, dy = column - x, row - y
            distance = math.sqrt(dx * dx + dy * dy)
            if distance >= reach:
                continue
            place = distance / _PROFILE_STEP_PX
            k = int(place)
            share = place - k
            v[0] = profile[0, k] * (1 - share) + profile[0, k + 1] * share
            slope = profile[1, k] * (1 - share) + profile[1, k + 1] * share
            v[1] = -slope * dx / distance if distance > 1e-9 else 0.0
            v[2] = -slope * dy / distance if distance > 1e-9 else 0.0
            v[3] = profile[2, k] * (1 - share) + profile[2, k + 1] * share
            v[4] = profile[3, k] * (1 - share) + profile[3, k + 1] * share
            value = image[row, column] - plane[0] - plane[1] * (column - centre_x) - plane[2] * (row - centre_y)
            for a in range(5):
                dots[a] += v[a] * value
                for b in range(a + 1):
                    gram[a, b] += v[a] * v[b]
    for a in range(5):
        for b in range(a):
            gram[b, a] = gram[a, b]


@numba.njit(cache=True)
def _at_places(image, places, rows, cells, centres, planes, profiles, reach):
    """Products (n, 5, 5) and (n, 5) at `places` (n, 2), each with the template of its row of the phantom."""
    gram, dots = np.empty((len(places), 5, 5)), np.empty((len(places), 5))
    for n in range(len(places)):
        i, j = cells[n]
        centre = centres[i, j]
        row = rows[n]
        _products(
            image, places[n, 0], places[n, 1], profiles[row], reach[row], planes[i, j], centre[0], centre[1],
            gram[n], dots[n],
        )  # fmt: skip
    return gram, dots


@numba.njit(cache=True, fastmath=True)
def _empty_dots(image, places, cells, centres, planes, profile, reach):
    """Products (n, 3) of the image with the template and its slopes by blur and radius, at places (n, 2)."""
    height, width = image.shape
    dots = np.zeros((len(places), 3))
    for n in range(len(places)):
        x, y = places[n]
        plane, centre = planes[cells[n, 0], cells[n, 1]], centres[cells[n, 0], cells[n, 1]]
        for row in range(max(int(y - reach), 0), min(int(y + reach) + 1, height - 1) + 1):
            for column in range(max(int(x - reach), 0), min(int(x + reach) + 1, width - 1) + 1):
                place = math.sqrt((column - x) ** 2 + (row - y) ** 2) / _PROFILE_STEP_PX
                k = int(place)
                if place * _PROFILE_STEP_PX >= reach:
                    continue
                share = place - k
                value = image[row, column] - plane[0] - plane[1] * (column - centre[0]) - plane[2] * (row - centre[1])
                dots[n, 0] += value * (profile[0, k] * (1 - share) + profile[0, k + 1] * share)
                dots[n, 1] += value * (profile[2, k] * (1 - share) + profile[2, k + 1] * share)
                dots[n, 2] += value * (profile[3, k] * (1 - share) + profile[3, k + 1] * share)
    return dots


@dataclass(frozen=True)
class GradedImage:
    """What the signals of one image tell, of a phantom with D diameters (16 for CDMAM 3.4, 21 for 4.0).

    Attributes:
        ln_threshold: (D,) ln of the threshold thickness in µm of an observer who knows each disc's place (d' = 1.235
            with the template that matches the blurred disc), by diameter; inf where no thickness is enough.
        covariance: (D, D) of `ln_threshold`.
        amplitude_counts: A, what a disc that lets nothing pass would take from its background.
        attenuation_per_um: µ of 1 - exp(-µ t), from the image's own discs.
        blur_px: standard deviation of the Gaussian that blurs the discs, the pixel's own size included.
        magnification: size of the discs on the detector over their nominal size.
        correlation_mm: blur of discs and noise together: the matched signal of a disc smaller than all others is as
            correlated between places as white noise under a Gaussian of this standard deviation. It tells how many
            places near a disc the search of a reader tries independently.
        noise: (D,) standard deviation of the matched signal at empty places, in units of A.
        ratio, ratio_sd: (D,) what the discs of each diameter take over what the model of all says, and its standard
            deviation.
        pattern: (cells, places) float32 matched signals of 0.5 mm discs at empty places over their standard deviation,
            NaN where a disc lies: what returns in them from image to image is no noise.
        warnings: what makes the measurement doubtful.
        version: version of the phantom.
    """

    ln_threshold: np.ndarray
    covariance: np.ndarray
    amplitude_counts: float
    attenuation_per_um: float
    blur_px: float
    magnification: float
    correlation_mm: float
    noise: np.ndarray
    ratio: np.ndarray
    ratio_sd: np.ndarray
    pattern: np.ndarray
    warnings: tuple[CurveWarning, ...]
    version: str = COUNTED_PHANTOM


def measure(
    counts: np.ndarray, pixel_mm: float, registration: Registration, name: str = "image", version: str = "3.4"
) -> GradedImage:
    """Measure contrast, blur and noise of an image in which the phantom was found.

    Args:
        counts: (h, w) pixel values, linear in exposure.
        pixel_mm: pixel spacing in mm.
        registration: where the phantom lies (`xiqa.cdmam.reader.read_image`).
        name: name of the image, for errors.
        version: version of the phantom.

    Returns:
        The measurement.

    Raises:
        ValueError: the discs do not stand out of the noise, so that there is nothing to measure.
    """
    image, known = np.ascontiguousarray(counts, dtype=np.float32), phantom(version)
    grid, frame = (np.asarray(frame, dtype=float) for frame in (registration.frame_px, registration.disc_frame_px))
    offset = registration.eccentric_offset
    pose = Pose(grid, np.zeros((*known.present.shape, 2)), frame - grid, known)
    planes = cell_planes(image, pose, pixel_mm, registration.magnification, offset)
    field = _Field(image, known, frame, pose.centres, planes)
    discs = _Discs.of(known, frame, offset)
    fitted = _fit(field, discs, known.diameters_mm / (2 * pixel_mm), registration, name)
    return _result(field, discs, fitted, pixel_mm)


def measure_visible(counts: np.ndarray, pixel_mm: float, reading: Reading, name: str) -> dict[str, GradedImage]:
    """The measurement by the image's name; nothing where its discs do not stand out."""
    try:
        return {name: measure(counts, pixel_mm, reading.registration, name, reading.version)}
    except ValueError:
        return {}


@dataclass(frozen=True)
class _Field:
    """An image of a phantom and the background of its cells."""

    image: np.ndarray
    known: Phantom
    frame: np.ndarray
    centres: np.ndarray
    planes: np.ndarray

    @property
    def pitch_px(self) -> float:
        """Side of a cell."""
        return math.sqrt(abs(np.linalg.det(self.frame[1:])))

    def places(self, index: np.ndarray) -> np.ndarray:
        """Places (..., 2) in pixels of row and column places (..., 2), in cells from the first one."""
        return self.frame[0] + index @ self.frame[1:]

    def index(self, places: np.ndarray) -> np.ndarray:
        """The inverse of `places`."""
        return (places - self.frame[0]) @ np.linalg.inv(self.frame[1:])


@dataclass(frozen=True)
class _Discs:
    """Both discs of each cell, central ones first: cells (n, 2), steps (n, 2) from the centre, thickness (n,), and how
    their places (x, y) move with seven common unknowns (n, 7, 2): shift and affine distortion in cells, and offset.
    `index` (n, 2) are their row and column places, `centres` (n, 2) those of their cells, in cells from the first."""

    cells: np.ndarray
    centres: np.ndarray
    index: np.ndarray
    thickness: np.ndarray
    moves: np.ndarray

    @classmethod
    def of(cls, known: Phantom, frame: np.ndarray, offset: float) -> _Discs:
        cells = np.argwhere(known.present)
        steps = CORNER_STEPS[known.corner_codes[known.present]].astype(float)
        cells, steps = np.concatenate([cells, cells]), np.concatenate([0 * steps, steps])
        centres = known.cell_places[:, cells[:, 0], cells[:, 1]].T
        index = centres + offset * steps
        middle = np.array(known.middle)
        shape = np.column_stack([np.ones(len(index)), (index - middle) / middle])
        moves = np.concatenate(
            [shape[:, :, None] * axis for axis in frame[1:]] + [(steps @ frame[1:])[:, None]], axis=1
        )
        return cls(cells, centres, index, known.thicknesses_um[cells[:, 0], cells[:, 1]], moves)


@dataclass(frozen=True)
class _Fitted:
    """The common model of an image's discs: their places (n, 2) in pixels, its unknowns, tangents (n, 4, 3) of each
    disc's pixels by ln A, µ, blur and size along the template and its slopes by blur and radius, and their normal
    matrix (4, 4)."""

    places: np.ndarray
    amplitude: float
    mu: float
    blur: float
    size: float
    gram: np.ndarray
    dots: np.ndarray
    tangents: np.ndarray
    normal: np.ndarray


def _fit(field: _Field, discs: _Discs, radii: np.ndarray, registration: Registration, name: str) -> _Fitted:
    """Least squares (Gauss-Newton) over the pixels near all discs."""
    rows = discs.cells[:, 0]
    sign = -1.0 if registration.discs_dark else 1.0
    blur, size, mu = _FIRST_BLUR_PX, registration.magnification, ATTENUATION_PER_UM
    shift, amplitude = np.zeros(7), 0.0
    pixel_variance = float(np.median(field.planes[field.known.present][:, 3]) ** 2)
    # A disc takes its share of what its place receives. Of inverted pixel values the zero is not known.
    background = field.planes[discs.cells[:, 0], discs.cells[:, 1], 0]
    level = background / background.mean() if registration.discs_dark else np.ones(len(rows))
    along = [0, 3, 4]  # template, slope by blur, slope by radius
    for turn in range(_ROUNDS + 1):
        profiles, reach = _profiles(radii * size, blur)
        places = field.places(discs.index) + np.einsum("nqx,q->nx", discs.moves, shift)
        gram, dots = _at_places(
            field.image, places, rows, discs.cells, field.centres, field.planes, profiles, reach
        )  # fmt: skip
        dots *= sign
        law = level * -np.expm1(-mu * discs.thickness)
        if turn == 0:
            amplitude = float(dots[:, 0] @ law / (gram[:, 0, 0] @ law**2))
            spread = math.sqrt(pixel_variance / (gram[:, 0, 0] @ law**2))
            if not amplitude > _LEAST_AMPLITUDE_SD * spread:
                raise ValueError(
                    f"{name}: found no discs that stand out of the noise, expected those of the CDMAM phantom; a curve "
                    "from graded signals needs them, count hits instead (method: standard)"
                )
        tangents = np.zeros((len(rows), _UNKNOWNS, 5))
        tangents[:, 0, 0] = amplitude * law
        tangents[:, 1, 0] = amplitude * level * discs.thickness * np.exp(-mu * discs.thickness)
        tangents[:, 2, 3] = amplitude * law
        tangents[:, 3, 4] = amplitude * law * radii[rows]
        tangents[:, 4:, 1:3] = discs.moves * (amplitude * law)[:, None, None]
        normal = np.einsum("nqa,nab,nrb->qr", tangents, gram, tangents)
        prior = pixel_variance / ATTENUATION_SD_PER_UM**2
        normal[1, 1] += prior
        if turn == _ROUNDS:
            break
        residual = dots - gram[:, :, 0] * (amplitude * law)[:, None]
        right = np.einsum("nqa,na->q", tangents, residual)
        right[1] += prior * (ATTENUATION_PER_UM - mu)
        step = np.clip(np.linalg.solve(normal, right), -_FARTHEST_STEPS, _FARTHEST_STEPS)
        amplitude *= math.exp(step[0])
        mu = max(mu + step[1], _LEAST_ATTENUATION_PER_UM)
        blur = max(blur + step[2], _LEAST_BLUR_PX)
        size += step[3]
        shift += step[4:]
    return _Fitted(
        places,
        amplitude, mu, blur, size, gram[:, along][:, :, along], dots[:, along], tangents[:, :4][:, :, along],
        normal[:4, :4],
    )  # fmt: skip


def threshold_um(noise: np.ndarray, attenuation_per_um: float) -> np.ndarray:
    """Thickness whose contrast 1 - exp(-µ t) is 1.235 times the noise (...); inf where none is thick enough."""
    contrast = THRESHOLD_DETECTABILITY * np.asarray(noise, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(contrast < 1, -np.log1p(-contrast) / attenuation_per_um, np.inf)


def _empty_places(
    field: _Field,
    discs: _Discs,
    places_px: np.ndarray,
    reach_px: float,
    avoid_px: np.ndarray,
    clearance_px: float,
    step_px: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Places on a lattice in each cell, and which of them a template of a reach can take without touching disc or grid.

    Args:
        field, discs: the image and its discs, which lie at `places_px` (n, 2).
        reach_px: of the template.
        avoid_px: (D,) distance from the centres of discs of each diameter.
        clearance_px: distance from the cell's sides.
        step_px: of the lattice.

    Returns:
        places (cells, places, 2) in cell indices from the cell's centre, free (cells, places) bool.
    """
    cells, centres = (each[: len(each) // 2] for each in (discs.cells, discs.centres))
    half = 0.5 - (clearance_px + reach_px) / field.pitch_px
    steps = int(half * field.pitch_px / step_px)
    grid = np.arange(-steps, steps + 1) * step_px / field.pitch_px
    spots = np.broadcast_to(
        np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(1, -1, 2), (len(cells), len(grid) ** 2, 2)
    )
    free = np.ones(spots.shape[:2], dtype=bool)
    for index in np.split(field.index(places_px), 2):
        away = np.linalg.norm(spots - (index - centres)[:, None], axis=-1) * field.pitch_px
        free &= away > (avoid_px[cells[:, 0]] + reach_px)[:, None]
    return spots, free


@dataclass(frozen=True)
class _Noise:
    """Matched signals at empty places, for each diameter: covariances (D, 3, 3) of the products with the template and
    its slopes; covariance (D, D) of the ln of their standard deviations, from their scatter over cells; the signals
    of 0.5 mm discs over their standard deviation (cells, places), NaN at other discs; the largest ratio of the
    standard deviation to that of a normal distribution with the same quartiles; and `GradedImage.correlation_mm`."""

    covariance: np.ndarray
    of_ln: np.ndarray
    pattern: np.ndarray
    heavy: float
    correlation_mm: float


def _noise(field: _Field, discs: _Discs, fitted: _Fitted, pixel_mm: float) -> _Noise:
    """Measure the noise at empty places."""
    known = field.known
    diameters, shape = known.diameters_mm, known.present.shape
    radii = diameters * fitted.size / (2 * pixel_mm)
    profiles, reach = _profiles(radii, fitted.blur)
    clearance = GRID_CLEARANCE_MM / pixel_mm
    cells, centres = (each[: len(each) // 2] for each in (discs.cells, discs.centres))
    side = field.pitch_px - 2 * clearance  # of the square in a cell to which its background plane is fitted
    plane_area = side**2 - 5 * math.pi * np.mean((radii[cells[:, 0]] + DISC_CLEARANCE_MM / pixel_mm) ** 2)
    covariance, by_cell, heavy = np.empty((len(radii), 3, 3)), np.zeros((len(radii), known.present.size)), []
    pattern_row = np.abs(np.log(diameters / _PATTERN_MM)).argmin()
    for i, radius in enumerate(radii):
        spots, free = _empty_places(
            field, discs, fitted.places, radius + _BLURS_BESIDE * fitted.blur,
            radii + _BLURS_FREE * fitted.blur, clearance,
            max(_EMPTY_STEP_MM / pixel_mm, 2 * radius),
        )  # fmt: skip
        owners = np.repeat(cells[:, None], spots.shape[1], axis=1)[free]
        places = field.places(np.repeat(centres[:, None], spots.shape[1], axis=1)[free] + spots[free])
        dots = _empty_dots(field.image, places, owners, field.centres, field.planes, profiles[i], reach[i])
        # The fitted plane takes the template's own share of the noise with it.
        away = (spots[free] ** 2).sum(axis=1).mean() * field.pitch_px**2
        taken = math.pi * radius**2 / plane_area * (1 + 12 * away / side**2)
        covariance[i] = dots.T @ dots / (len(dots) * (1 - min(taken, _MOST_TAKEN)))
        excess = dots[:, 0] ** 2 / (dots[:, 0] ** 2).mean() - 1
        by_cell[i] = np.bincount(np.ravel_multi_index(owners.T, shape), excess, known.present.size) / len(dots)
        spread = math.sqrt((dots[:, 0] ** 2).mean())
        low, high = np.percentile(dots[:, 0], (25, 75))
        heavy.append(spread / ((high - low) / _QUARTILES_SD))
        if i == pattern_row:
            pattern = np.full(free.shape, np.nan, dtype=np.float32)
            pattern[free] = dots[:, 0] / spread
        if i == len(radii) - 1:
            beside = [
                _empty_dots(field.image, places + lag, owners, field.centres, field.planes, profiles[i], reach[i])[:, 0]
                for lag in ((_LAG_PX, 0.0), (0.0, _LAG_PX))
            ]
            correlated = np.mean([beside_it @ dots[:, 0] / (beside_it @ beside_it) for beside_it in beside])
            # Of white noise under a Gaussian of width s, taken again by that Gaussian: exp(-lag² / (4 s²)).
            correlation_mm = pixel_mm * _LAG_PX / 2 / math.sqrt(-math.log(np.clip(correlated, 0.01, 0.99)))
    return _Noise(covariance, by_cell @ by_cell.T / 4, pattern, max(heavy), correlation_mm)


def _result(field: _Field, discs: _Discs, fitted: _Fitted, pixel_mm: float) -> GradedImage:
    """Thresholds with their covariance, from the model of the discs and the noise at empty places."""
    found = _noise(field, discs, fitted, pixel_mm)
    covariance = found.covariance
    rows, radii = discs.cells[:, 0], field.known.diameters_mm / (2 * pixel_mm)
    number = len(radii)
    gram = np.stack([fitted.gram[rows == i].mean(axis=0) for i in range(number)])
    noise = np.sqrt(covariance[:, 0, 0]) / gram[:, 0, 0] / fitted.amplitude
    ln_threshold = np.log(threshold_um(noise, fitted.mu))

    # Noise of the common unknowns: least squares with white weights, noise as it is.
    inverse = np.linalg.inv(fitted.normal)
    shared = inverse @ np.einsum("nqa,nab,nrb->qr", fitted.tangents, covariance[rows], fitted.tangents) @ inverse
    contrast = np.minimum(THRESHOLD_DETECTABILITY * noise, 0.999)
    gain = -contrast / ((1 - contrast) * np.log1p(-contrast))  # d ln T / d ln noise
    slopes = covariance[:, 0, 1:] / covariance[:, 0, :1] - 2 * gram[:, 0, 1:] / gram[:, 0, :1]
    by_shared = np.column_stack(
        [-gain, np.full(number, -1 / fitted.mu), gain * slopes[:, 0], gain * slopes[:, 1] * radii]
    )
    ln_covariance = by_shared @ shared @ by_shared.T + gain[:, None] * gain * found.of_ln

    law = fitted.tangents[:, 0, 0]
    weight = np.bincount(rows, law**2 * fitted.gram[:, 0, 0], number)
    ratio = np.bincount(rows, law * fitted.dots[:, 0], number) / weight
    ratio_sd = np.sqrt(np.bincount(rows, law**2 * covariance[rows, 0, 0], number)) / weight
    return GradedImage(
        ln_threshold=ln_threshold,
        covariance=ln_covariance,
        amplitude_counts=fitted.amplitude,
        attenuation_per_um=fitted.mu,
        blur_px=fitted.blur,
        magnification=fitted.size,
        correlation_mm=found.correlation_mm,
        noise=noise,
        ratio=ratio,
        ratio_sd=ratio_sd,
        pattern=found.pattern,
        warnings=(
            *_warnings(field, fitted, math.sqrt(shared[1, 1]), ratio, ratio_sd, found.heavy),
            *_regular_structure(_empty_spectrum(field, discs, fitted, pixel_mm), pixel_mm),
        ),
        version=field.known.version,
    )


def _empty_spectrum(field: _Field, discs: _Discs, fitted: _Fitted, pixel_mm: float) -> tuple[np.ndarray, int]:
    """Mean power spectrum (n, n), zero frequency first, of square cut-outs in the middle of cells with small discs.

    Discs are blanked, and a Hann window keeps what is larger than a cut-out out of its axes.

    Returns:
        The spectrum over the variance of each cut-out, and how many cut-outs there were.
    """
    half = int(_CUT_OUT * (field.pitch_px / 2 - GRID_CLEARANCE_MM / pixel_mm))
    window = np.hanning(2 * half + 1)[:-1]
    y, x = np.mgrid[-half:half, -half:half]
    size, cells = len(discs.cells) // 2, discs.cells[: len(discs.cells) // 2]
    diameters = field.known.diameters_mm
    blanked = (diameters * fitted.size / (2 * pixel_mm) + 3 * fitted.blur) ** 2
    total, number = np.zeros((2 * half, 2 * half)), 0
    for n in np.flatnonzero(diameters[cells[:, 0]] < _SPECTRUM_MM):
        centre = field.centres[tuple(cells[n])]
        left, top = (int(value) - half for value in np.round(centre))
        patch = field.image[max(top, 0) : top + 2 * half, max(left, 0) : left + 2 * half]
        if patch.shape != total.shape:
            continue
        dx, dy = x + left + half, y + top + half
        plane = field.planes[tuple(cells[n])]
        residual = patch - plane[0] - plane[1] * (dx - centre[0]) - plane[2] * (dy - centre[1])
        for place in fitted.places[[n, n + size]]:
            residual[(dx - place[0]) ** 2 + (dy - place[1]) ** 2 < blanked[cells[n, 0]]] = 0.0
        power = np.abs(np.fft.fft2((residual - residual.mean()) * window[:, None] * window)) ** 2
        if (whole := power.sum()) > 0:
            total, number = total + power / whole, number + 1
    return total / max(number, 1), number


def _regular_structure(spectrum_and_number: tuple[np.ndarray, int], pixel_mm: float) -> list[CurveWarning]:
    """Peaks of the spectrum at empty places, and rows or columns that vary more than noise of other directions."""
    spectrum, number = spectrum_and_number
    size = len(spectrum)
    if not number:
        return []
    index = np.rint(np.fft.fftfreq(size) * size).astype(int)
    radius = np.rint(np.hypot(index[:, None], index)).astype(int)
    ring = np.array([np.median(spectrum[radius == r]) for r in range(size // 2)])
    ring = np.maximum(ring, _LEAST_RING * ring.max())
    ratio = np.where((radius >= 2) & (radius < size // 2), spectrum / ring[np.minimum(radius, size // 2 - 1)], 0.0)
    found, told = [], "{}: it is structure, not noise"
    for name, along in (("columns", ratio[0]), ("rows", ratio[:, 0])):
        excess = along[3 : size // 2].mean()
        if excess > _MOST_LINES:
            words = f"whole {name} of pixels vary with {excess:.2f} times the power of other directions, expected 1"
            found.append(CurveWarning("structure", told.format(words)))
    row, column = np.unravel_index(ratio.argmax(), ratio.shape)
    if not found and ratio.max() > 1 + _PEAK_SD / math.sqrt(number):
        period_mm = size / math.hypot(index[row], index[column]) * pixel_mm
        words = (
            f"the spectrum at empty places has a peak {ratio.max():.3g} times as high as its surroundings, at a period "
            f"of {period_mm:.2g} mm"
        )
        found.append(CurveWarning("structure", told.format(words)))
    return found


def _warnings(
    field: _Field, fitted: _Fitted, mu_sd: float, ratio: np.ndarray, ratio_sd: np.ndarray, heavy: float
) -> tuple[CurveWarning, ...]:
    """What of an image contradicts the model."""
    found = []
    (low, high), (least, most) = _ATTENUATION_RANGE_PER_UM, _CONTRAST_RANGE_PER_UM
    present = field.known.present
    contrast = fitted.amplitude * fitted.mu / abs(field.planes[present][:, 0].mean())
    if fitted.mu + 2 * mu_sd < low or fitted.mu - 2 * mu_sd > high or not least < contrast < most:
        found.append(
            CurveWarning(
                "not_linear",
                f"thin gold takes {100 * contrast:.1f} % of the background per µm, expected {100 * least:g} to "
                f"{100 * most:g} %, and thick discs against thin ones give an attenuation of {fitted.mu:.3f} ± "
                f"{mu_sd:.3f} per µm, expected {low:g} to {high:g}: the pixel values seem not to be proportional to "
                "exposure",
            )
        )
    corners = field.centres[present]
    (left, top), (right, bottom) = corners.min(axis=0).astype(int), corners.max(axis=0).astype(int)
    inner = field.image[max(top, 0) : bottom, max(left, 0) : right]
    for end, words in ((inner.min(), "smallest"), (inner.max(), "largest")):
        clipped = float((inner == end).mean())
        if clipped > _MOST_CLIPPED:
            found.append(
                CurveWarning(
                    "saturated",
                    f"{100 * clipped:.2g} % of the pixels have the {words} value, {end:g}: signals beyond it are lost",
                )
            )
    values = np.unique(inner[::7, ::5])
    step, noise = float(np.diff(values).min(initial=np.inf)), float(np.median(field.planes[present][:, 3]))
    if step > _MOST_STEP * noise:
        found.append(
            CurveWarning(
                "coarse_steps",
                f"pixel values come in steps of {step:g}, and their standard deviation is {noise:.3g}: rounding adds "
                "to the noise and takes thin discs away",
            )
        )
    if heavy > _MOST_HEAVY:
        found.append(
            CurveWarning(
                "structure",
                f"the standard deviation of the signal at empty places is {heavy:.2f} times that of its middle half, "
                "expected 1: there is structure that is not noise",
            )
        )
    chi_square = float((((ratio - 1) / ratio_sd)[ratio_sd < _KNOWN_RATIO_SD] ** 2).sum())
    if chdtrc(len(ratio), chi_square) < _LEAST_CHANCE:
        worst = np.abs((ratio - 1) / ratio_sd).argmax()
        found.append(
            CurveWarning(
                "discs_differ",
                f"discs of {field.known.diameters_mm[worst]:g} mm take {ratio[worst]:.3f} ± {ratio_sd[worst]:.3f} of "
                "what one blur and one attenuation for all discs say: the curve's small diameters rest on that model",
            )
        )
    return tuple(found)


_SCALARS = ("amplitude_counts", "attenuation_per_um", "blur_px", "magnification", "correlation_mm")
_BY_DIAMETER = ("ln_threshold", "noise", "ratio", "ratio_sd")


def to_table(images: Mapping[str, GradedImage]) -> pd.DataFrame:
    """Measurements of named images as a table of a row per image and diameter, without patterns."""
    parts = [
        pd.DataFrame(
            {"image": name, "diameter_mm": phantom(image.version).diameters_mm}
            | {column: getattr(image, column) for column in (*_SCALARS, *_BY_DIAMETER)}
            | {f"covariance_{k}": column for k, column in enumerate(image.covariance.T)}
            | {"warnings": " ".join(warning.name for warning in image.warnings)}
        )
        for name, image in images.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["image", "diameter_mm"])


def from_table(table: pd.DataFrame) -> dict[str, GradedImage]:
    """The inverse of `to_table`; of warnings only the names are left."""

    def columns(rows: pd.DataFrame) -> dict[str, Any]:
        scalars = {column: float(rows[column].iloc[0]) for column in _SCALARS}
        return scalars | {column: rows[column].to_numpy(float) for column in _BY_DIAMETER}

    return {
        str(name): GradedImage(
            **columns(rows),
            covariance=rows[[f"covariance_{k}" for k in range(len(rows))]].to_numpy(float),
            pattern=np.empty((0, 0), np.float32),
            warnings=tuple(CurveWarning(word, word) for word in str(rows["warnings"].fillna("").iloc[0]).split()),
            version=version_of_diameters(rows["diameter_mm"].to_numpy(float)),
        )
        for name, rows in table.groupby("image", sort=False)
    }


# ---------------------------------------------------------------------------------------------------------------------
# From known places to counted hits


NOT_COUNTING_EQUIVALENT = (
    "counting-equivalent is not calibrated for CDMAM {}: the curve is that of an observer who knows each disc's place, "
    "without human factor; its thresholds are lower than those of counted hits and no limits hold for them"
)
"""What is said of a curve that stands for no counted one, of a version of the phantom."""


@cache
def _counting() -> pd.DataFrame:
    """tables/counting.csv, whose rows are the diameters of CDMAM 3.4."""
    return pd.read_csv(files("xiqa.cdmam") / "tables" / "counting.csv")


def expected_hit_rate(threshold_um: np.ndarray, attenuation_per_um: float, correlation_mm: float) -> np.ndarray:
    """How often the reader, which searches about each place, finds the corner disc of each cell.

    Args:
        threshold_um: (..., 16) thresholds of the observer who knows the places, by diameter.
        attenuation_per_um: µ of 1 - exp(-µ t).
        correlation_mm: as of `GradedImage`.

    Returns:
        (..., 16, 16): 1 - 0.75 exp(-(u^shape + linear u)), u = d' / scale, with the numbers of tables/counting.csv.
    """
    table = _counting()
    scale = (table["d_prime_scale"] * (correlation_mm / COUNTING_CORRELATION_MM) ** table["by_correlation"]).to_numpy()
    shape, linear = table["shape"].to_numpy()[:, None], table["linear"].to_numpy()[:, None]
    contrast = -np.expm1(-attenuation_per_um * THICKNESSES_UM)
    d_prime = THRESHOLD_DETECTABILITY * contrast / -np.expm1(-attenuation_per_um * np.asarray(threshold_um)[..., None])
    u = d_prime / scale[:, None]
    return 1 - (1 - GUESS_RATE) * np.exp(-(u**shape + linear * u))


def counted_threshold_um(threshold_um: np.ndarray, attenuation_per_um: float, correlation_mm: float) -> np.ndarray:
    """What counting the hits of many images gives for thresholds of an observer who knows the places.

    The hit rates that are to be expected go through the same smoothing and fit as counted ones. Where that ends outside
    the phantom's range, the ratio is taken that a system with thresholds inside the range would have.

    Args:
        threshold_um: (16,) thresholds by diameter, not held to the phantom's range.
        attenuation_per_um: µ of 1 - exp(-µ t).
        correlation_mm: as of `GradedImage`.

    Returns:
        (12,) thresholds at the diameters of the curve.
    """
    known = np.minimum(threshold_um, _UNSEEN_UM)
    counted = thresholds(expected_hit_rate(known, attenuation_per_um, correlation_mm))
    result = counted.t_auto_um.copy()
    for side, factor in (
        (-1, max(1.0, 2 * RANGE_UM[0] / known[CDC_ROWS].min())),
        (1, min(1.0, 0.5 * RANGE_UM[1] / known[CDC_ROWS].max())),
    ):
        beyond = counted.side == side
        if beyond.any():
            inside = thresholds(expected_hit_rate(factor * known, attenuation_per_um, correlation_mm)).t_auto_um
            result[beyond] = (inside / (factor * known[CDC_ROWS]) * known[CDC_ROWS])[beyond]
    return result


def graded_curve(
    images: Sequence[GradedImage], *, human: Human = "thickness", draws: int = 500, seed: int = 0
) -> CurveResult:
    """Contrast-detail curve of one image or several of one exposure setting, from graded signals.

    Args:
        images: what `measure` found in each.
        human: what the human-equivalent factor r(d) multiplies, "thickness" or "contrast".
        draws: of the thresholds' joint distribution, for the interval of the curve.
        seed: seed of the draws.

    Returns:
        The curve as counting hits would give it (t_auto_um, t_human_um, cdc_um), and the thresholds of the observer
        who knows the places. How that observer's thresholds go over into counted ones is known for `COUNTED_PHANTOM`
        alone: of another phantom the curve is the known place's own, without human factor, and `counting_equivalent`
        is False. Nothing is held to the phantom's range: a threshold outside is extrapolated by the model of all discs,
        and `extrapolated` says so. Only where no thickness would be enough the threshold is censored.

    Raises:
        ValueError: no images, or images of different phantoms.
    """
    version = _version_of(images)
    of_phantom = phantom(version)
    rows, diameters = of_phantom.curve_rows, of_phantom.curve_diameters_mm
    ln_known, covariance, warnings = _known_places(images)
    covariance = covariance[np.ix_(rows, rows)]
    mu, correlation_mm = (
        float(np.mean([getattr(image, name) for image in images])) for name in ("attenuation_per_um", "correlation_mm")
    )
    sd = np.sqrt(np.diag(covariance))
    finite = np.isfinite(ln_known)
    known = np.exp(np.where(finite, ln_known, np.log(_UNSEEN_UM)))

    measured, counted = finite[rows], version == COUNTED_PHANTOM
    thinnest, thickest = of_phantom.thicknesses_um[rows][:, [0, -1]].T
    t_auto = np.where(measured, counted_threshold_um(known, mu, correlation_mm) if counted else known[rows], thickest)
    side = np.where(measured, 0, 1)
    if counted:
        # Systematic: how well the table of counting is known. Random: the images' own noise.
        table_sd = _counting()["relative_sd"].to_numpy()[rows]
        covariance = covariance + table_sd[:, None] * table_sd
    else:
        warnings += (CurveWarning("not counting-equivalent", NOT_COUNTING_EQUIVALENT.format(version)),)

    def shown(thresholds_um: np.ndarray) -> np.ndarray:
        return human_equivalent(thresholds_um, human, version) if counted else thresholds_um

    noise = np.random.default_rng(seed).multivariate_normal(np.zeros(len(rows)), covariance, draws, method="eigh")
    drawn = third_order_fits(diameters, shown(t_auto * np.exp(noise)), np.tile(side, (draws, 1)))
    low, high = np.percentile(drawn, _INTERVAL_PERCENT, axis=0)
    known = np.where(finite, known, np.inf)[rows]
    cdc = third_order_fits(diameters, shown(t_auto)[None], side[None])[0]
    outside = np.where(~measured | (t_auto > thickest), 1, np.where(t_auto < thinnest, -1, 0))
    table = {
        "diameter_mm": diameters,
        "t_auto_um": t_auto,
        "t_human_um": shown(t_auto),
        "cdc_um": cdc,
        "ci_low_um": np.minimum(low, cdc),
        "ci_high_um": np.where(measured, np.maximum(high, cdc), np.inf),
        "censored": ~measured,
    }
    if of_phantom.single_source.any():
        table["single_source"] = of_phantom.single_source[rows].any(axis=1)
    if not counted:
        table["counting_equivalent"] = False
    return CurveResult(
        method="graded",
        images=len(images),
        table=pd.DataFrame(table),
        side=SIDES[outside],
        extrapolated=outside != 0,
        known_place_um=known,
        known_place_low_um=known * np.exp(-_NORMAL_95 * sd),
        known_place_high_um=known * np.exp(_NORMAL_95 * sd),
        warnings=warnings + single_source_warnings(of_phantom),
        counting_equivalent=counted,
    )


def _version_of(images: Sequence[GradedImage]) -> str:
    """The version of the phantom that all images show; a ValueError for no images, or several versions."""
    if not images:
        raise ValueError("images: found none, expected at least one measured image")
    versions = sorted({image.version for image in images})
    if len(versions) > 1:
        raise ValueError(f"images: found CDMAM {' and '.join(versions)}, expected one phantom")
    return versions[0]


def _known_places(images: Sequence[GradedImage]) -> tuple[np.ndarray, np.ndarray, tuple[CurveWarning, ...]]:
    """Mean logarithms of the thresholds of the known place (d,), their covariance (d, d), and what is unusual."""
    stacked = np.array([image.ln_threshold for image in images])
    covariance = np.asarray(sum(image.covariance for image in images)) / len(images) ** 2
    warnings, excess = _across(images, stacked)
    blur_px = float(np.mean([image.blur_px for image in images]))
    model_sd = _MODEL_SHARE * math.exp(-((math.pi * blur_px) ** 2) / 2)
    return stacked.mean(axis=0), covariance * excess + model_sd**2, warnings


def _across(images: Sequence[GradedImage], ln_threshold: np.ndarray) -> tuple[tuple[CurveWarning, ...], float]:
    """Warnings of all images and of what they have in common; how many times their variance is that of the noise."""
    number, excess = len(images), 1.0
    first: dict[str, CurveWarning] = {}
    for image in images:
        for warning in image.warnings:
            first.setdefault(warning.name, warning)
    if number > 1:
        usable = np.isfinite(ln_threshold).all(axis=0)
        expected = np.mean([np.diag(image.covariance) for image in images], axis=0)
        ratio = float((ln_threshold.var(axis=0, ddof=1) / expected)[usable].mean()) if usable.any() else 1.0
        if ratio > 1 + 5 * math.sqrt(2 / (number - 1)):
            excess = ratio
            first["images_differ"] = CurveWarning(
                "images_differ",
                f"thresholds of single images differ {math.sqrt(ratio):.1f} times as much as their noise explains: "
                "the images seem not to be of one exposure setting; the interval is widened by as much",
            )
        patterns = [image.pattern for image in images]
        if len({pattern.shape for pattern in patterns}) == 1 and patterns[0].size:
            total = np.sum(patterns, axis=0)
            common = (np.nanmean(total**2) / number - 1) / (number - 1)
            if common > _MOST_COMMON:
                first["structure"] = CurveWarning(
                    "structure",
                    f"{100 * common:.0f} % of the variance at empty places returns from image to image: it is "
                    "structure of phantom or detector, not noise, and more images do not average it out",
                )
    return tuple(first.values()), excess
