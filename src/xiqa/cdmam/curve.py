"""The contrast-detail curve (CDC): from the detection matrices of several images to threshold gold thicknesses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numba
import numpy as np
import pandas as pd
from scipy.special import bdtr

from xiqa.cdmam.limits import third_order_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, Phantom, phantom

GOLD_ATTENUATION_PER_UM = 0.19
"""µ of C = ln(1 - exp(-µ t))."""

THRESHOLD = 0.625
"""Fraction correct at the threshold: half-way between the guess rate 0.25 and 1."""

THRESHOLD_DETECTABILITY = 1.235
"""d' that gives this fraction correct in a four-alternative choice."""

GUESS_RATE = 0.25
"""Fraction correct of who sees nothing, of four corners."""

CDC_ROWS = slice(3, 15)  # the curve's diameters among those of CDMAM 3.4
_GAUSSIAN_CELLS, _GAUSSIAN_REACH = 0.75, 3  # width of the smoothing and where it ends, in cells
_SLOPE_RANGE = (0.5, 10.0)
_SLOPE_FALLBACK = 2.5  # where no row crosses the threshold; then all thresholds are censored or nearly so
_SLOPE_HELD = 0.01  # how far the slope of a diameter may be from that of all, as a share
_SLOPE_GRID, _POSITION_GRID = 8, 24  # where the golden section starts: squares have several minima
_LN_SLOPE_TOLERANCE, _POSITION_TOLERANCE = 1e-3, 1e-5
_THINNER, _LARGEST_CONTRAST = 2.5, -0.05  # thresholds are sought from so far below the least contrast on, up to this
_GOLDEN = (math.sqrt(5) - 1) / 2

SIDES = np.array(["", "above", "below"])
"""Where a threshold lies that is outside the phantom's range, by side 0, 1, -1."""

Fit = Literal["held_slope", "common_slope"]
Human = Literal["thickness", "contrast"]


@dataclass(frozen=True)
class _Rows:
    """What the fits need of a phantom: D diameters by T thicknesses, n of the diameters are the curve's."""

    contrast: np.ndarray  # (D, T)
    slope_rows: np.ndarray
    range_um: tuple[np.ndarray, np.ndarray]  # (n,) thinnest and thickest disc of each diameter of the curve
    human_factors: np.ndarray  # (n,) r(d): threshold of human readers over that of the automated reading


@cache
def _rows(version: str) -> _Rows:
    known, facts = phantom(version), phantom(version).file.curve
    thickness = known.thicknesses_um[known.curve_rows]
    return _Rows(
        contrast=np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * known.thicknesses_um)),
        slope_rows=np.flatnonzero(np.isin(known.diameters_mm, facts.slope_diameters_mm.value)),
        range_um=(thickness[:, 0], thickness[:, -1]),
        human_factors=np.array(facts.human_factors.value),
    )


HUMAN_FACTORS = _rows("3.4").human_factors
"""r(d) of CDMAM 3.4 for its 12 diameters of the curve."""
HUMAN_FACTORS.setflags(write=False)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one or several sets of images.

    Attributes:
        t_auto_um: (..., n) threshold thickness at the n diameters of the phantom's curve, clamped to the thinnest and
            the thickest disc.
        side: (..., n) int8: -1 below the thinnest disc, 1 above the thickest, 0 measured.
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
        table: a row for each of the n diameters of the phantom's curve (12 for CDMAM 3.4, 21 for 4.0), falling:
            diameter_mm; t_auto_um, the threshold of the automated reading; t_human_um, the human-equivalent threshold;
            cdc_um, the smooth curve through them; ci_low_um and ci_high_um, its 95 % interval, NaN where there is none;
            censored, the threshold lies outside the phantom's range and only a bound is known (t_auto_um is then that
            bound, and the interval begins at 0 or ends at infinity); single_source, only where the phantom has any:
            corner or thickness of a cell of that diameter is known from one source alone; counting_equivalent, only
            where it is False.
        side: (n,) of "", "below" (the thinnest disc) or "above" (the thickest): where the threshold lies outside the
            phantom's range, whether that is all that is known of it (censored) or not (extrapolated).
        extrapolated: (n,) bool: cdc_um is a value outside the range in which the phantom has discs.
        known_place_um: (n,) threshold of the observer who knows each disc's place; NaN for "standard".
        known_place_low_um, known_place_high_um: (n,) its 95 % interval.
        warnings: what makes the curve doubtful, in order of weight.
        counting_equivalent: False: the table holds thresholds of the observer who knows each disc's place, without
            human factor; limits, which hold for counted hits, say nothing about them.
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
    counting_equivalent: bool = True


def smooth(hit_rate: np.ndarray, fit: Fit = "held_slope", version: str = "3.4") -> np.ndarray:
    """Smooth hit rates over neighbouring cells.

    Args:
        hit_rate: (..., D, T) fraction of images in which a cell was a hit; only existing cells count.
        fit: "held_slope": 3 × 3 kernel ¼ ½ ¼, ½ 1 ½, ¼ ½ ¼, or what the phantom's data file says; "common_slope":
            Gaussian of 0.75 cell.
        version: version of the phantom. Blocks of rows are smoothed as if there were no gaps between them.

    Returns:
        (..., D, T) float64, renormalised over existing cells, not below the guess rate 0.25; NaN where there is no
        cell.
    """
    known = phantom(version)
    weights = _smoothing_matrix(fit, known)
    rates = np.asarray(hit_rate, dtype=float)
    if known.file.curve.floor_first.value:
        rates = np.maximum(rates, GUESS_RATE)
    flat = np.where(known.present, rates, 0.0).reshape(*rates.shape[:-2], known.present.size)
    smoothed = np.maximum(flat @ weights.T, GUESS_RATE).reshape(rates.shape)
    return np.where(known.present, smoothed, np.nan)


def _smoothing_matrix(fit: Fit, known: Phantom) -> np.ndarray:
    """(D T, D T) weights that take hit rates to smoothed hit rates."""
    if fit not in ("held_slope", "common_slope"):
        raise ValueError(f"fit: found {fit!r}, expected 'held_slope' or 'common_slope'")
    gaussian = fit == "common_slope" or known.file.curve.smoothing.value == "gaussian"
    kernels = []
    for count in known.present.shape:
        index = np.arange(count)
        distance = np.abs(index[:, None] - index)
        if gaussian:
            shape = np.exp(-0.5 * (distance / _GAUSSIAN_CELLS) ** 2)
            kernels.append(np.where(distance <= _GAUSSIAN_REACH, shape, 0.0))
        else:
            kernels.append(np.where(distance == 0, 1.0, np.where(distance == 1, 0.5, 0.0)))
    weights = np.kron(*kernels) * known.present.ravel().astype(float)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)


@numba.njit(cache=True)
def _inner(a, b):
    """The two inner points of the golden section of an interval."""
    return b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)


@numba.njit(cache=True)
def _narrowed(a, b, c, d, at_c, at_d):
    """One step of the golden section: the smaller interval, its inner points, and their values, NaN for the new one."""
    if at_c < at_d:
        return a, d, d - _GOLDEN * (d - a), c, math.nan, at_c
    return c, b, d, c + _GOLDEN * (b - c), at_d, math.nan


@numba.njit(cache=True)
def _fit_position(contrast, rate, slope, low, high):
    """Least-squares threshold contrast of p = ¼ + ¾ / (1 + exp(-f (C - C_T))) for a given slope f."""

    falling = np.exp(-slope * contrast)  # exp(-f (C - C_T)) is this times exp(f C_T): one exponential for all C

    def squares(position):
        total, rising = 0.0, math.exp(slope * position)
        for k in range(contrast.size):
            error = GUESS_RATE + (1 - GUESS_RATE) / (1.0 + rising * falling[k]) - rate[k]
            total += error * error
        return total

    best, least = low, squares(low)
    for k in range(1, _POSITION_GRID + 1):
        position = low + (high - low) * k / _POSITION_GRID
        value = squares(position)
        if value < least:
            best, least = position, value
    width = (high - low) / _POSITION_GRID
    a, b = max(best - width, low), min(best + width, high)
    c, d = _inner(a, b)
    at_c, at_d = squares(c), squares(d)
    while b - a > _POSITION_TOLERANCE:
        a, b, c, d, at_c, at_d = _narrowed(a, b, c, d, at_c, at_d)
        if math.isnan(at_c):
            at_c = squares(c)
        else:
            at_d = squares(d)
    middle = 0.5 * (a + b)
    value = squares(middle)
    return (middle, value) if value <= least else (best, least)


@numba.njit(cache=True)
def _fit_slope(contrast, rates, present, rows, slope_low, slope_high, grid, low, high):
    """Slope that fits several rows together, each with its own threshold; least squares."""
    x_low, x_high = math.log(slope_low), math.log(slope_high)

    def squares(x):
        total = 0.0
        for row in rows:
            use = present[row]
            total += _fit_position(contrast[row][use], rates[row][use], math.exp(x), low, high)[1]
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
    c, d = _inner(a, b)
    at_c, at_d = squares(c), squares(d)
    while b - a > _LN_SLOPE_TOLERANCE:
        a, b, c, d, at_c, at_d = _narrowed(a, b, c, d, at_c, at_d)
        if math.isnan(at_c):
            at_c = squares(c)
        else:
            at_d = squares(d)
    return math.exp(0.5 * (a + b))


@numba.njit(cache=True)
def _fit_all(rates, contrast, present, slope_rows, held, slope_range, fallback, low, high):
    """Threshold contrasts (n, D) and slopes (n,) of smoothed hit rates (n, D, T) at contrasts (D, T)."""
    count, diameters = rates.shape[:2]
    positions = np.zeros((count, diameters))
    slopes = np.zeros(count)
    for n in range(count):
        rate = rates[n]
        # A row carries a slope only where it crosses the threshold.
        crossing = np.zeros(diameters, np.bool_)
        for row in range(diameters):
            values = rate[row][present[row]]
            crossing[row] = values.max() > THRESHOLD and values.min() < THRESHOLD
        slope = fallback
        if held:
            chosen = np.zeros(diameters, np.bool_)
            for row in slope_rows:
                chosen[row] = crossing[row]
            if not chosen.any():
                chosen = crossing
            total, used = 0.0, 0
            for row in range(diameters):
                if chosen[row]:
                    alone = np.array([row])
                    total += _fit_slope(contrast, rate, present, alone, *slope_range, _SLOPE_GRID, low, high)
                    used += 1
            if used:
                slope = total / used
        else:
            rows = np.flatnonzero(crossing)
            if rows.size:
                slope = _fit_slope(contrast, rate, present, rows, *slope_range, _SLOPE_GRID, low, high)
        slopes[n] = slope
        for row in range(diameters):
            use = present[row]
            own = slope
            if held:
                least, most = (1 - _SLOPE_HELD) * slope, (1 + _SLOPE_HELD) * slope
                own = _fit_slope(contrast, rate, present, np.array([row]), least, most, 1, low, high)
            positions[n, row] = _fit_position(contrast[row][use], rate[row][use], own, low, high)[0]
    return positions, slopes


def thresholds(hit_rate: np.ndarray, fit: Fit = "held_slope", version: str = "3.4") -> Thresholds:
    """Threshold thickness T_auto per diameter from hit rates.

    Args:
        hit_rate: (..., D, T) fraction of images in which a cell was a hit, not yet smoothed.
        fit: "held_slope": slope f from three diameters of the phantom's data file (0.50, 0.31 and 0.20 mm for CDMAM
            3.4), averaged, then held within ±1 %; "common_slope": one slope for all diameters, behind a Gaussian
            smoothing of 0.75 cell.
        version: version of the phantom.

    Returns:
        Thresholds for the diameters of its curve.

    Reference:
        p = 0.25 + 0.75 / (1 + exp(-f (C - C_T))), C = ln(1 - exp(-µ t)), µ = 0.19 / µm; threshold at p = 0.625, that
        is C = C_T (Young et al., Proc. SPIE 6142, 2006; European guidelines, supplement 2013).
    """
    known, rows = phantom(version), _rows(version)
    rates = np.asarray(hit_rate, dtype=float)
    shape = rates.shape[:-2]
    positions, slopes = _fit_all(
        smooth(rates, fit, version).reshape(-1, *known.present.shape),
        rows.contrast,
        known.present,
        rows.slope_rows,
        fit == "held_slope",
        _SLOPE_RANGE,
        _SLOPE_FALLBACK,
        float(rows.contrast.min()) - _THINNER,
        _LARGEST_CONTRAST,
    )
    thickness = -np.log1p(-np.exp(positions[:, known.curve_rows])) / GOLD_ATTENUATION_PER_UM
    thinnest, thickest = rows.range_um
    side = np.where(thickness < thinnest, -1, np.where(thickness > thickest, 1, 0)).astype(np.int8)
    clamped = np.clip(thickness, thinnest, thickest)
    return Thresholds(clamped.reshape(*shape, -1), side.reshape(*shape, -1), slopes.reshape(shape))


def human_equivalent(t_auto_um: np.ndarray, human: Human | None = None, version: str = "3.4") -> np.ndarray:
    """Threshold that human readers would have.

    Args:
        t_auto_um: (..., n) thresholds of the automated reading.
        human: what r(d) multiplies: "thickness", or "contrast" 1 - exp(-µ t), converted back to a thickness; None as
            the phantom's data file says ("thickness" for CDMAM 3.4, "contrast" for 4.0).
        version: version of the phantom.

    Returns:
        (..., n) in µm.
    """
    t_auto, factors = np.asarray(t_auto_um, dtype=float), _rows(version).human_factors
    human = human or phantom(version).file.curve.human_multiplies.value
    if human == "thickness":
        return t_auto * factors
    if human == "contrast":
        contrast = -np.expm1(-GOLD_ATTENUATION_PER_UM * t_auto) * factors
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
    from scipy.optimize import lsq_linear, nnls  # a second to import: only where a curve is fitted

    diameter = np.asarray(diameter_mm, dtype=float)
    thickness = np.asarray(thickness_um, dtype=float)
    design = diameter[:, None] ** -np.arange(4.0) / thickness[:, None]
    # How far a curve stays on the right side of each bound is a non-negative unknown of its own.
    bounded = (
        np.zeros((thickness.size, 0)) if side is None else np.diag(-np.asarray(side, float))[:, np.nonzero(side)[0]]
    )
    columns, ones = np.hstack([design, bounded]), np.ones(thickness.size)
    # 1/d³ is 8,000 times the constant at 0.05 mm. With columns of one length the active set hardly ever circles, as it
    # did once in 80,000 curves; where it does, a slower method with the same minimum steps in.
    length = np.linalg.norm(columns, axis=0)
    try:
        found = nnls(columns / length, ones)[0]
    except RuntimeError:
        found = lsq_linear(columns / length, ones, bounds=(0, np.inf), method="bvls", tol=1e-12).x
    return (found / length)[:4]


def third_order_curves(
    t_auto_um: np.ndarray, side: np.ndarray, human: Human | None, version: str = "3.4"
) -> np.ndarray:
    """Third-order curves (m, n) of human-equivalent thresholds; see `third_order_fits`.

    Args:
        t_auto_um: (m, n) thresholds of the automated reading, or their bounds.
        side: (m, n): -1 and 1 where the threshold lies below or above its bound, 0 where it is measured.
        human: what r(d) multiplies, see `human_equivalent`.
        version: version of the phantom.

    Returns:
        (m, n) in µm; the bounds themselves where nothing is measured.
    """
    return third_order_fits(phantom(version).curve_diameters_mm, human_equivalent(t_auto_um, human, version), side)


def third_order_fits(diameter_mm: np.ndarray, thickness_um: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Third-order curves (m, n) of thresholds.

    Args:
        diameter_mm: (n,) diameters.
        thickness_um: (m, n) thresholds, or their bounds.
        side: (m, n): -1 and 1 where the threshold lies below or above its bound, 0 where it is measured.

    Returns:
        (m, n) in µm; the bounds themselves where nothing is measured.
    """
    return np.array(
        [
            third_order_curve(third_order_coefficients(diameter_mm, t, where), diameter_mm) if (where == 0).any() else t
            for t, where in zip(thickness_um, side, strict=True)
        ]
    )


def _interval(drawn: Thresholds, human: Human | None, version: str) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval (n,), (n,) of the curves of resampled images.

    A draw whose threshold is censored tells a bound: 0 or infinity stand for what lies beyond it.
    """
    cdc = third_order_curves(drawn.t_auto_um, drawn.side, human, version)
    bound = human_equivalent(drawn.t_auto_um, human, version)
    low = np.select([drawn.side < 0, drawn.side > 0], [0.0, np.minimum(cdc, bound)], cdc)
    high = np.select([drawn.side < 0, drawn.side > 0], [np.maximum(cdc, bound), np.inf], cdc)
    return np.percentile(low, 2.5, axis=0, method="lower"), np.percentile(high, 97.5, axis=0, method="higher")


def _hits(detections: np.ndarray, known: Phantom) -> np.ndarray:
    """Check detection matrices (n, D, T) and return hits as float."""
    found = np.asarray(detections)
    if found.ndim != 3 or found.shape[1:] != known.present.shape or found.shape[0] < 1:
        shape = ", ".join(str(side) for side in known.present.shape)
        raise ValueError(f"detections: found shape {found.shape}, expected (images, {shape}) with at least one image")
    there = found[:, known.present]
    if not np.isin(there, (1, 2)).all() or not (found[:, ~known.present] == -1).all():
        raise ValueError(
            f"detections: found values that do not fit CDMAM {known.version}, expected 1 (hit) or 2 (miss) in its "
            f"{int(known.present.sum())} cells and -1 elsewhere; rows are diameters from the largest, columns "
            "thicknesses from the thinnest"
        )
    return (found == 1).astype(float)


def seldom_hit(hits: np.ndarray, version: str = "3.4") -> list[tuple[int, int]]:
    """Cells that are almost never hit although the next thinner ones of the same diameter mostly are.

    Args:
        hits: (n, D, T) whether each cell was hit in each image.
        version: version of the phantom.

    Returns:
        (diameter index, thickness index) of each: the median rate of the three next thinner cells is 0.75 or more, and
        so few hits have a probability below 1e-4 at a rate of 0.75. With fewer than 7 images there is none.
    """
    known, rate = phantom(version), hits.mean(axis=0)
    few = bdtr(hits.sum(axis=0), len(hits), 0.75) < 1e-4
    return [
        (int(i), int(j))
        for i, j in np.argwhere(known.present & few)
        if j >= 3 and known.present[i, j - 3] and np.median(rate[i, j - 3 : j]) >= 0.75
    ]


def _warnings(hits: np.ndarray, known: Phantom) -> tuple[CurveWarning, ...]:
    """What is doubtful about the phantom's table: cells that it may have wrong, and what one source alone says."""
    doubtful = tuple(
        CurveWarning(
            "possible table error",
            f"The disc of {known.diameters_mm[i]:.2f} mm and {known.thicknesses_um[i, j]:.3f} µm is found in "
            f"{int(hits[:, i, j].sum())} of {len(hits)} images, thinner ones in most: its entry in the table may be "
            "wrong, or the phantom damaged.",
        )
        for i, j in seldom_hit(hits, known.version)
    )
    return doubtful + single_source_warnings(known)


def single_source_warnings(known: Phantom) -> tuple[CurveWarning, ...]:
    """What of a phantom is known from one source alone, or assumed."""
    return tuple(CurveWarning("single source", statement) for statement in known.statements)


def _resampled_rates(hits: np.ndarray, size: int, draws: int, seed: int) -> np.ndarray:
    """Hit rates (draws, D, T) of `size` images drawn with replacement."""
    chosen = np.random.default_rng(seed).integers(0, len(hits), (draws, size))
    counts = np.zeros((draws, len(hits)))
    np.add.at(counts, (np.arange(draws)[:, None], chosen), 1.0)
    return (counts @ hits.reshape(len(hits), -1) / size).reshape(draws, *hits.shape[1:])


def standard_curve(
    detections: np.ndarray,
    *,
    human: Human | None = None,
    bootstrap: int = 500,
    seed: int = 0,
    fit: Fit = "held_slope",
    version: str = "3.4",
) -> CurveResult:
    """Contrast-detail curve of a set of images of one exposure setting, by counting hits as the field does.

    A threshold outside the phantom's range is a bound: the third-order curve is fitted to the measured thresholds and
    only has to respect the bounds, so that they bend it nowhere. Where a threshold is censored, cdc_um continues the
    curve of the others and the interval tells what is known: it begins at 0 or ends at infinity.

    Args:
        detections: (n, D, T) int8: 1 hit, 2 miss, -1 no cell; 16 images or more for a curve of record.
        human: what the human-equivalent factor r(d) multiplies, see `human_equivalent`.
        bootstrap: draws over images for the confidence intervals; 0 leaves them out (NaN), as does a single image.
        seed: seed of the draws.
        fit: see `thresholds`.
        version: version of the phantom. What of it is known from one source alone is said in the warnings.

    Returns:
        The curve. Its cdc_um is the third-order fit of t_human_um; the 95 % percentile interval over images is too
        narrow for few of them (below 16, say).

    Raises:
        ValueError: no images, or matrices that are not those of the phantom.
    """
    known = phantom(version)
    hits = _hits(detections, known)
    measured = thresholds(hits.mean(axis=0), fit, version)
    cdc = third_order_curves(measured.t_auto_um[None], measured.side[None], human, version)[0]
    nothing = np.full(cdc.shape, np.nan)
    low = high = nothing
    if bootstrap > 0 and len(hits) > 1:
        drawn = thresholds(_resampled_rates(hits, len(hits), bootstrap, seed), fit, version)
        low, high = _interval(drawn, human, version)
    table = {
        "diameter_mm": known.curve_diameters_mm,
        "t_auto_um": measured.t_auto_um,
        "t_human_um": human_equivalent(measured.t_auto_um, human, version),
        "cdc_um": cdc,
        "ci_low_um": low,
        "ci_high_um": high,
        "censored": measured.side != 0,
    }
    if known.single_source.any():
        table["single_source"] = known.single_source[known.curve_rows].any(axis=1)
    return CurveResult(
        method="standard",
        images=len(hits),
        table=pd.DataFrame(table),
        side=SIDES[measured.side],
        extrapolated=measured.side != 0,
        known_place_um=nothing,
        known_place_low_um=nothing,
        known_place_high_um=nothing,
        warnings=_warnings(hits, known),
    )


def fit_curve(
    detections: np.ndarray,
    *,
    human: Human | None = None,
    bootstrap: int = 500,
    seed: int = 0,
    fit: Fit = "held_slope",
    version: str = "3.4",
) -> pd.DataFrame:
    """The table of `standard_curve`, see there."""
    return standard_curve(detections, human=human, bootstrap=bootstrap, seed=seed, fit=fit, version=version).table


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
    hits = _hits(detections, phantom("3.4"))
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
