"""The contrast-detail curve (CDC): from the detection matrices of several images to threshold gold thicknesses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import pandas as pd
from scipy.optimize import nnls

from xiqa.cdmam.limits import RANGE_UM, third_order_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, CELL_PRESENT, THICKNESSES_UM

HUMAN_FACTORS = np.array([2.11, 2.06, 2.01, 1.98, 1.94, 1.88, 1.82, 1.75, 1.68, 1.60, 1.50, 1.40])
"""r(d): threshold of human readers over that of the automated reading, for `CDC_DIAMETERS_MM`."""

GOLD_ATTENUATION_PER_UM = 0.19
"""µ of C = ln(1 - exp(-µ t))."""

THRESHOLD = 0.625
"""Fraction correct at the threshold: half-way between the guess rate 0.25 and 1; d' = 1.235 in a four-way choice."""

_SLOPE_ROWS = np.array([6, 8, 10])  # 0.50, 0.31 and 0.20 mm
_SLOPE_RANGE = (0.5, 10.0)
_SLOPE_FALLBACK = 2.5  # where no row crosses the threshold; then all thresholds are censored or nearly so
CDC_ROWS = slice(3, 15)  # the curve's diameters among the phantom's
_CONTRAST = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * THICKNESSES_UM))
_CONTRAST_RANGE = (float(_CONTRAST[0]) - 2.5, -0.05)

SIDES = np.array(["", "above", "below"])
"""Where a threshold lies that is outside the phantom's range, by side 0, 1, -1."""

HUMAN_FACTORS.setflags(write=False)

Fit = Literal["held_slope", "common_slope"]
Human = Literal["thickness", "contrast"]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one or several sets of images.

    Attributes:
        t_auto_um: (..., 12) threshold thickness, clamped to `RANGE_UM`.
        side: (..., 12) int8: -1 below the thinnest disc, 1 above the thickest, 0 measured.
        slope: (...,) f of the psychometric curve.
    """

    t_auto_um: np.ndarray
    side: np.ndarray
    slope: np.ndarray


@dataclass(frozen=True)
class CurveWarning:
    """What makes a curve doubtful.

    Attributes:
        name: a short fixed name, such as "saturated".
        message: one sentence: what was found, and what it does to the curve.
    """

    name: str
    message: str


@dataclass(frozen=True)
class CurveResult:
    """A contrast-detail curve, however it was measured.

    Attributes:
        method: "standard" (counted hits, as the field does it) or "graded" (from the signals themselves).
        images: how many images it rests on.
        table: 12 rows, 1.00 -> 0.08 mm: diameter_mm; t_auto_um, the threshold of the automated reading; t_human_um,
            the human-equivalent threshold; cdc_um, the smooth curve through them; ci_low_um and ci_high_um, its 95 %
            interval, NaN where there is none; censored, the threshold lies outside the phantom's range and only a
            bound is known (t_auto_um is then that bound, and the interval begins at 0 or ends at infinity).
        side: (12,) of "", "below" (the thinnest disc) or "above" (the thickest): where the threshold lies outside the
            phantom's range, whether that is all that is known of it (censored) or not (extrapolated).
        extrapolated: (12,) bool: cdc_um is a value outside the range in which the phantom has discs.
        known_place_um: (12,) threshold of the observer who knows each disc's place; NaN for "standard".
        known_place_low_um, known_place_high_um: (12,) its 95 % interval.
        warnings: what makes the curve doubtful, in order of weight.
    """

    method: Literal["standard", "graded"]
    images: int
    table: pd.DataFrame
    side: np.ndarray
    extrapolated: np.ndarray
    known_place_um: np.ndarray
    known_place_low_um: np.ndarray
    known_place_high_um: np.ndarray
    warnings: tuple[CurveWarning, ...] = ()


def smooth(hit_rate: np.ndarray, fit: Fit = "held_slope") -> np.ndarray:
    """Smooth hit rates over neighbouring cells.

    Args:
        hit_rate: (..., 16, 16) fraction of images in which a cell was a hit; only existing cells count.
        fit: "held_slope": 3 × 3 kernel ¼ ½ ¼, ½ 1 ½, ¼ ½ ¼; "common_slope": Gaussian of 0.75 cell.

    Returns:
        (..., 16, 16) float64, renormalised over existing cells, not below the guess rate 0.25; NaN where there is no
        cell.
    """
    weights = _smoothing_matrix(fit)
    rates = np.asarray(hit_rate, dtype=float)
    flat = np.where(CELL_PRESENT, rates, 0.0).reshape(*rates.shape[:-2], 256)
    smoothed = np.maximum(flat @ weights.T, 0.25).reshape(rates.shape)
    return np.where(CELL_PRESENT, smoothed, np.nan)


def _smoothing_matrix(fit: Fit) -> np.ndarray:
    """(256, 256) weights that take hit rates to smoothed hit rates."""
    index = np.arange(16)
    distance = np.abs(index[:, None] - index)
    if fit == "held_slope":
        kernel = np.where(distance == 0, 1.0, np.where(distance == 1, 0.5, 0.0))
    elif fit == "common_slope":
        kernel = np.where(distance <= 3, np.exp(-0.5 * (distance / 0.75) ** 2), 0.0)
    else:
        raise ValueError(f"fit: found {fit!r}, expected 'held_slope' or 'common_slope'")
    present = CELL_PRESENT.ravel().astype(float)
    weights = np.kron(kernel, kernel) * present
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)


@numba.njit(cache=True)
def _fit_position(contrast, rate, slope, low, high):
    """Least-squares threshold contrast of p = 0.25 + 0.75 / (1 + exp(-f (C - C_T))) for a given slope f."""

    def squares(position):
        total = 0.0
        for k in range(contrast.size):
            error = 0.25 + 0.75 / (1.0 + math.exp(-slope * (contrast[k] - position))) - rate[k]
            total += error * error
        return total

    steps = 24
    best, least = low, squares(low)
    for k in range(1, steps + 1):
        position = low + (high - low) * k / steps
        value = squares(position)
        if value < least:
            best, least = position, value
    width = (high - low) / steps
    a, b = max(best - width, low), min(best + width, high)
    golden = 0.6180339887498949
    c, d = b - golden * (b - a), a + golden * (b - a)
    at_c, at_d = squares(c), squares(d)
    while b - a > 1e-5:
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - golden * (b - a)
            at_c = squares(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + golden * (b - a)
            at_d = squares(d)
    middle = 0.5 * (a + b)
    value = squares(middle)
    return (middle, value) if value <= least else (best, least)


@numba.njit(cache=True)
def _fit_slope(contrast, rates, present, rows, slope_low, slope_high, grid, low, high):
    """Slope that fits several rows together, each with its own threshold; least squares."""
    golden = 0.6180339887498949
    x_low, x_high = math.log(slope_low), math.log(slope_high)

    def squares(x):
        total = 0.0
        for row in rows:
            use = present[row]
            total += _fit_position(contrast[use], rates[row][use], math.exp(x), low, high)[1]
        return total

    a, b = x_low, x_high
    if grid > 1:
        best, least = x_low, squares(x_low)
        for k in range(1, grid + 1):
            x = x_low + (x_high - x_low) * k / grid
            value = squares(x)
            if value < least:
                best, least = x, value
        a, b = max(best - (x_high - x_low) / grid, x_low), min(best + (x_high - x_low) / grid, x_high)
    c, d = b - golden * (b - a), a + golden * (b - a)
    at_c, at_d = squares(c), squares(d)
    while b - a > 1e-3:
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - golden * (b - a)
            at_c = squares(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + golden * (b - a)
            at_d = squares(d)
    return math.exp(0.5 * (a + b))


@numba.njit(cache=True)
def _fit_all(rates, contrast, present, slope_rows, held, slope_range, fallback, low, high):
    """Threshold contrasts (n, 16) and slopes (n,) of smoothed hit rates (n, 16, 16)."""
    count = rates.shape[0]
    positions = np.zeros((count, 16))
    slopes = np.zeros(count)
    for n in range(count):
        rate = rates[n]
        # A row carries a slope only where it crosses the threshold.
        crossing = np.zeros(16, np.bool_)
        for row in range(16):
            values = rate[row][present[row]]
            crossing[row] = values.max() > 0.625 and values.min() < 0.625
        slope = fallback
        if held:
            chosen = np.zeros(16, np.bool_)
            for row in slope_rows:
                chosen[row] = crossing[row]
            if not chosen.any():
                chosen = crossing
            total, used = 0.0, 0
            for row in range(16):
                if chosen[row]:
                    total += _fit_slope(
                        contrast, rate, present, np.array([row]), slope_range[0], slope_range[1], 8, low, high
                    )
                    used += 1
            if used:
                slope = total / used
        else:
            rows = np.flatnonzero(crossing)
            if rows.size:
                slope = _fit_slope(contrast, rate, present, rows, slope_range[0], slope_range[1], 8, low, high)
        slopes[n] = slope
        for row in range(16):
            use = present[row]
            own = slope
            if held:
                own = _fit_slope(contrast, rate, present, np.array([row]), 0.99 * slope, 1.01 * slope, 1, low, high)
            positions[n, row] = _fit_position(contrast[use], rate[row][use], own, low, high)[0]
    return positions, slopes


def thresholds(hit_rate: np.ndarray, fit: Fit = "held_slope") -> Thresholds:
    """Threshold thickness T_auto per diameter from hit rates.

    Args:
        hit_rate: (..., 16, 16) fraction of images in which a cell was a hit, not yet smoothed.
        fit: "held_slope": slope f from 0.50, 0.31 and 0.20 mm, averaged, then held within ±1 %; "common_slope": one
            slope for all diameters, behind a Gaussian smoothing of 0.75 cell.

    Returns:
        Thresholds for the 12 diameters of the curve.

    Reference:
        p = 0.25 + 0.75 / (1 + exp(-f (C - C_T))), C = ln(1 - exp(-µ t)), µ = 0.19 / µm; threshold at p = 0.625, that
        is C = C_T (Young et al., Proc. SPIE 6142, 2006; European guidelines, supplement 2013).
    """
    rates = np.asarray(hit_rate, dtype=float)
    smoothed = smooth(rates, fit).reshape(-1, 16, 16)
    positions, slopes = _fit_all(
        smoothed,
        _CONTRAST,
        CELL_PRESENT,
        _SLOPE_ROWS,
        fit == "held_slope",
        _SLOPE_RANGE,
        _SLOPE_FALLBACK,
        *_CONTRAST_RANGE,
    )
    thickness = -np.log1p(-np.exp(positions[:, CDC_ROWS])) / GOLD_ATTENUATION_PER_UM
    side = np.where(thickness < RANGE_UM[0], -1, np.where(thickness > RANGE_UM[1], 1, 0)).astype(np.int8)
    shape = rates.shape[:-2]
    return Thresholds(
        np.clip(thickness, *RANGE_UM).reshape(*shape, 12), side.reshape(*shape, 12), slopes.reshape(shape)
    )


def human_equivalent(t_auto_um: np.ndarray, human: Human = "thickness") -> np.ndarray:
    """Threshold that human readers would have.

    Args:
        t_auto_um: (..., 12) thresholds of the automated reading.
        human: what r(d) multiplies: "thickness", or "contrast" 1 - exp(-µ t), converted back to a thickness.

    Returns:
        (..., 12) in µm.
    """
    t_auto = np.asarray(t_auto_um, dtype=float)
    if human == "thickness":
        return t_auto * HUMAN_FACTORS
    if human == "contrast":
        contrast = -np.expm1(-GOLD_ATTENUATION_PER_UM * t_auto) * HUMAN_FACTORS
        return -np.log1p(-contrast) / GOLD_ATTENUATION_PER_UM
    raise ValueError(f"human: found {human!r}, expected 'thickness' or 'contrast'")


def third_order_coefficients(
    diameter_mm: np.ndarray, thickness_um: np.ndarray, side: np.ndarray | None = None
) -> np.ndarray:
    """Non-negative coefficients (a, b, c, e) of T(d) = a + b/d + c/d² + e/d³, residuals weighted by 1/T.

    Args:
        diameter_mm: (n,) diameters.
        thickness_um: (n,) thresholds, or where `side` says so their bounds.
        side: (n,) -1 where the threshold lies at `thickness_um` or below, 1 where at it or above, 0 where it is
            measured (default: everywhere). A bound that the curve respects draws it nowhere.
    """
    diameter = np.asarray(diameter_mm, dtype=float)
    thickness = np.asarray(thickness_um, dtype=float)
    design = diameter[:, None] ** -np.arange(4.0) / thickness[:, None]
    # How far a curve stays on the right side of each bound is a non-negative unknown of its own.
    bounded = (
        np.zeros((thickness.size, 0)) if side is None else np.diag(-np.asarray(side, float))[:, np.nonzero(side)[0]]
    )
    return nnls(np.hstack([design, bounded]), np.ones(thickness.size))[0][:4]


def third_order_curves(t_auto_um: np.ndarray, side: np.ndarray, human: Human) -> np.ndarray:
    """Third-order curves (n, 12) of human-equivalent thresholds.

    Args:
        t_auto_um: (n, 12) thresholds of the automated reading, or their bounds.
        side: (n, 12): -1 and 1 where the threshold lies below or above its bound, 0 where it is measured.
        human: what r(d) multiplies.

    Returns:
        (n, 12) in µm; the bounds themselves where nothing is measured.
    """
    target = human_equivalent(t_auto_um, human)
    return np.array(
        [
            third_order_curve(third_order_coefficients(CDC_DIAMETERS_MM, t, where), CDC_DIAMETERS_MM)
            if (where == 0).any()
            else t
            for t, where in zip(target, side, strict=True)
        ]
    )


def _interval(drawn: Thresholds, human: Human) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval (12,), (12,) of the curves of resampled images.

    A draw whose threshold is censored tells a bound: 0 or infinity stand for what lies beyond it.
    """
    cdc, bound = third_order_curves(drawn.t_auto_um, drawn.side, human), human_equivalent(drawn.t_auto_um, human)
    low = np.select([drawn.side < 0, drawn.side > 0], [0.0, np.minimum(cdc, bound)], cdc)
    high = np.select([drawn.side < 0, drawn.side > 0], [np.maximum(cdc, bound), np.inf], cdc)
    return np.percentile(low, 2.5, axis=0, method="lower"), np.percentile(high, 97.5, axis=0, method="higher")


def _hits(detections: np.ndarray) -> np.ndarray:
    """Check detection matrices (n, 16, 16) and return hits as float."""
    found = np.asarray(detections)
    if found.ndim != 3 or found.shape[1:] != (16, 16) or found.shape[0] < 1:
        raise ValueError(f"detections: found shape {found.shape}, expected (images, 16, 16) with at least one image")
    there = found[:, CELL_PRESENT]
    if not np.isin(there, (1, 2)).all() or not (found[:, ~CELL_PRESENT] == -1).all():
        raise ValueError(
            "detections: found values that do not fit CDMAM 3.4, expected 1 (hit) or 2 (miss) in its 205 cells and -1 "
            "elsewhere; rows are diameters from 2.00 mm, columns thicknesses from 0.03 µm"
        )
    return (found == 1).astype(float)


def _resampled_rates(hits: np.ndarray, size: int, draws: int, seed: int) -> np.ndarray:
    """Hit rates (draws, 16, 16) of `size` images drawn with replacement."""
    chosen = np.random.default_rng(seed).integers(0, len(hits), (draws, size))
    counts = np.zeros((draws, len(hits)))
    np.add.at(counts, (np.arange(draws)[:, None], chosen), 1.0)
    return (counts @ hits.reshape(len(hits), 256) / size).reshape(draws, 16, 16)


def standard_curve(
    detections: np.ndarray,
    *,
    human: Human = "thickness",
    bootstrap: int = 500,
    seed: int = 0,
    fit: Fit = "held_slope",
) -> CurveResult:
    """Contrast-detail curve of a set of images of one exposure setting, by counting hits as the field does.

    A threshold outside the phantom's range is a bound: the third-order curve is fitted to the measured thresholds and
    only has to respect the bounds, so that they bend it nowhere. Where a threshold is censored, cdc_um continues the
    curve of the others and the interval tells what is known: it begins at 0 or ends at infinity.

    Args:
        detections: (n, 16, 16) int8: 1 hit, 2 miss, -1 no cell; 16 images or more for a curve of record.
        human: what the human-equivalent factor r(d) multiplies, "thickness" or "contrast".
        bootstrap: draws over images for the confidence intervals; 0 leaves them out (NaN), as does a single image.
        seed: seed of the draws.
        fit: see `thresholds`.

    Returns:
        The curve. Its cdc_um is the third-order fit of t_human_um; the 95 % percentile interval over images is too
        narrow for few of them (below 16, say).

    Raises:
        ValueError: no images, or matrices that are not those of CDMAM 3.4.
    """
    hits = _hits(detections)
    measured = thresholds(hits.mean(axis=0), fit)
    cdc = third_order_curves(measured.t_auto_um[None], measured.side[None], human)[0]
    low = high = np.full(12, np.nan)
    if bootstrap > 0 and len(hits) > 1:
        low, high = _interval(thresholds(_resampled_rates(hits, len(hits), bootstrap, seed), fit), human)
    return CurveResult(
        method="standard",
        images=len(hits),
        table=pd.DataFrame(
            {
                "diameter_mm": CDC_DIAMETERS_MM,
                "t_auto_um": measured.t_auto_um,
                "t_human_um": human_equivalent(measured.t_auto_um, human),
                "cdc_um": cdc,
                "ci_low_um": low,
                "ci_high_um": high,
                "censored": measured.side != 0,
            }
        ),
        side=SIDES[measured.side],
        extrapolated=measured.side != 0,
        known_place_um=np.full(12, np.nan),
        known_place_low_um=np.full(12, np.nan),
        known_place_high_um=np.full(12, np.nan),
    )


def fit_curve(
    detections: np.ndarray,
    *,
    human: Human = "thickness",
    bootstrap: int = 500,
    seed: int = 0,
    fit: Fit = "held_slope",
) -> pd.DataFrame:
    """The table of `standard_curve`, see there."""
    return standard_curve(detections, human=human, bootstrap=bootstrap, seed=seed, fit=fit).table


def coefficient_of_variation(
    detections: np.ndarray,
    n: int = 16,
    *,
    draws: int = 500,
    seed: int = 0,
    human: Human = "thickness",
    fit: Fit = "held_slope",
) -> pd.DataFrame:
    """Spread of the curve that sets of `n` images would give, by resampling from more images.

    Args:
        detections: (N, 16, 16) int8 of one exposure setting, N >= 4 n: with fewer, the draws share too many images.
        n: images per set.
        draws: sets drawn, with replacement.
        seed: seed of the draws.
        human: see `fit_curve`.
        fit: see `thresholds`.

    Returns:
        12 rows, 1.00 -> 0.08 mm: diameter_mm; coefficient_of_variation of cdc_um and coefficient_of_variation_t_auto of
        t_auto_um, standard deviation over mean; censored: share of the sets in which the threshold was outside the
        phantom's range. A point that is censored in some of the sets has the bound as its t_auto_um there, which
        narrows the spread, and the continuation of the others as its cdc_um, which widens it.

    Raises:
        ValueError: fewer than 4 n images.
    """
    hits = _hits(detections)
    if len(hits) < 4 * n:
        raise ValueError(f"detections: found {len(hits)} images, expected at least {4 * n} to resample sets of {n}")
    drawn = thresholds(_resampled_rates(hits, n, draws, seed), fit)
    cdc = third_order_curves(drawn.t_auto_um, drawn.side, human)
    return pd.DataFrame(
        {
            "diameter_mm": CDC_DIAMETERS_MM,
            "coefficient_of_variation": cdc.std(axis=0, ddof=1) / cdc.mean(axis=0),
            "coefficient_of_variation_t_auto": drawn.t_auto_um.std(axis=0, ddof=1) / drawn.t_auto_um.mean(axis=0),
            "censored": (drawn.side != 0).mean(axis=0),
        }
    )
