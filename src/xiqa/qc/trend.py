"""A system over months: control charts that tell a drift from chance without a reference period of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit

from xiqa.qc.compare import log_error
from xiqa.qc.load import cluster
from xiqa.qc.record import Record

WEIGHT = 0.3
"""Weight of the newest record in the moving average."""
LEAST_RECORDS = 4
"""Records from which on a chart can alarm."""


class Kind(NamedTuple):
    """What is charted, and what is expected of it.

    Attributes:
        title: what it is called.
        false_alarms: share of the records of a stable system that may alarm on its chart, or on all of its charts.
        regularity: how surely the intervals of single records tell all of their spread: the variance over that of the
            intervals is thought of as anything from 1 on, with density falling as its power -(1 + `regularity`).
    """

    title: str
    false_alarms: float
    regularity: float


OVERALL = {
    # The contrast shows each change of the dose, so that records spread more than the images of one.
    "contrast": Kind("contrast of the discs (counts)", 0.004, 0.5),
    "cnr": Kind("contrast-to-noise ratio", 0.001, 2),
    "iqf": Kind("inverse image quality figure", 0.0005, 2),
}
"""Charts that are no diameter's. Fewer than one in a hundred records of a stable system alarm on any chart, as
tests/benchmarks/trend_alarms.py shows by simulation."""
DIAMETERS = Kind("", 0.001, 2)

# Variance of a record over that of its own interval, and deviations over its standard error, that are thought of.
_RATIOS, _DEVIATIONS = np.geomspace(1, 1e6, 100), np.geomspace(0.3, 5e3, 140)
_TAILS = 2 * ndtr(-_DEVIATIONS[:, None] / np.sqrt(_RATIOS))


@dataclass(frozen=True)
class Chart:
    """The control chart of one quantity.

    Attributes:
        name: of `OVERALL`, or the diameter, as "0.10 mm".
        values: (n,) the quantity in its unit.
        level: (n,) geometric mean of the records before each one: what it is held against; NaN for the first.
        average: (n,) moving average of the deviations of the logarithm; NaN for the first.
        limit: (n,) its alarm limit, upwards and downwards; NaN before `LEAST_RECORDS`.
        changes: (n, 3) ratio of each record to the mean of those before the moving average last crossed zero, which is
            where a change began, and the ends of its 95 % interval; NaN before `LEAST_RECORDS`.
    """

    name: str
    values: np.ndarray
    level: np.ndarray
    average: np.ndarray
    limit: np.ndarray
    changes: np.ndarray

    @property
    def alarm(self) -> np.ndarray:
        """(n,) bool: the moving average lies beyond its limit."""
        return np.abs(self.average) > self.limit

    @property
    def title(self) -> str:
        """The quantity in words."""
        return OVERALL[self.name].title if self.name in OVERALL else self.name

    @property
    def larger_is_better(self) -> bool:
        """Whether the quantity rises when the system gets better; a threshold falls."""
        return self.name in OVERALL


@dataclass(frozen=True)
class Trend:
    """One exposure setting of one system over its records.

    Attributes:
        name: of the setting.
        dates: (n,) of the records, as text.
        records: (n,) in the order of their dates.
        charts: of the overall quantities that all records have, and of the diameters.
    """

    name: str
    dates: tuple[str, ...]
    records: tuple[Record, ...]
    charts: tuple[Chart, ...]

    @property
    def alarm(self) -> np.ndarray:
        """(n,) bool: some chart alarms at a record."""
        return np.any([chart.alarm for chart in self.charts], axis=0)


def control_chart(name: str, values: np.ndarray, errors: np.ndarray, diameters: int = 1) -> Chart:
    """Chart a quantity by a moving average of its recursive residuals.

    Each record is held against the mean of those before it, so that no reference period has to be set apart; for a
    stable system with normal errors the deviations are independent and of one variance. Their moving average (EWMA,
    weight `WEIGHT`) alarms beyond what chance gives.

    Args:
        name: of `OVERALL`, or a diameter.
        values: (n,) positive; ratios count, so the chart is of their logarithms.
        errors: (n,) standard errors of the logarithms, of each record alone; NaN: unknown.
        diameters: number of charts of diameters, which share their false alarms.

    Reference:
        Brown, Durbin and Evans, J. R. Statist. Soc. B 37, 149-192 (1975), for the residuals; Roberts, Technometrics 1,
        239-250 (1959), for the average.
    """
    kind = OVERALL.get(name, DIAMETERS._replace(false_alarms=DIAMETERS.false_alarms / diameters))
    logs = np.log(values)
    n = len(logs)
    level, average, limit = (np.full(n, np.nan) for _ in range(3))
    changes = np.full((n, 3), np.nan)
    moved, variance, begun = 0.0, 0.0, 1
    for t in range(1, n):
        level[t] = logs[:t].mean()
        residual = (logs[t] - level[t]) / math.sqrt(1 + 1 / t)
        last, moved = moved, (1 - WEIGHT) * moved + WEIGHT * residual
        variance = (1 - WEIGHT) ** 2 * variance + WEIGHT**2
        average[t] = moved
        begun = begun if last * moved > 0 else t
        if t + 1 >= LEAST_RECORDS:
            bound, width = chance_limits(logs[: t + 1], errors[: t + 1], (kind.false_alarms, 0.05), kind.regularity)
            limit[t] = bound * math.sqrt(variance)
            change, width = logs[t] - logs[:begun].mean(), width * math.sqrt(1 + 1 / begun)
            changes[t] = np.exp([change, change - width, change + width])
    return Chart(name, np.asarray(values), np.exp(level), average, limit, changes)


def chance_limits(logs: np.ndarray, errors: np.ndarray, chances: Sequence[float], regularity: float) -> np.ndarray:
    """Deviations of one record's logarithm that chance alone exceeds, either way, with these probabilities.

    The spread between records is at least that of their own intervals and may be larger: how they were exposed and set
    up adds to it. Its variance over that of the intervals has the density of `Kind`, times the likelihood of the
    records' second differences, which a steady drift leaves alone. The probability is the mean over it, so that few
    records or much spread between them widen the limits.

    Args:
        logs: (n,) logarithms, n >= 4.
        errors: (n,) their standard errors; where all are NaN, the second differences alone tell the variance.
        chances: probabilities.
        regularity: of `Kind`.
    """
    second = np.diff(logs, n=2)
    m = len(second)
    between = float(np.mean(second**2)) / 6
    freedom = m / 2  # about that of a chi-square with the mean and variance of this sum
    own = float(np.nanmean(np.square(errors))) if np.isfinite(errors).any() else 0.0
    if own == 0:
        return -stdtrit(freedom, np.array(chances) / 2) * math.sqrt(between)
    own = max(own, between / 1e4)
    weights = -(freedom / 2 + regularity) * np.log(_RATIOS) - freedom * between / own / (2 * _RATIOS)
    weights = np.exp(weights - weights.max())
    tails = np.log(np.maximum(_TAILS @ weights / weights.sum(), 1e-300))
    return math.sqrt(own) * np.exp(np.interp(-np.log(chances), -tails, np.log(_DEVIATIONS)))


def trends_of(records: Sequence[Record]) -> list[Trend]:
    """Chart each exposure setting of each system over its records.

    Records of the same images count once, the newest analysis. A diameter is charted whose threshold the first record
    measures; the figure charted is the sum over these.
    """
    newest: dict[tuple, Record] = {}
    for record in sorted(records, key=lambda record: record.provenance.analysed):
        newest[_key(record), record.provenance.images_digest] = record
    groups = cluster(newest.values(), _key, lambda record: record.exposure.exposure_mas)
    return [_trend(group) for group in groups]


def _key(record: Record) -> tuple:
    e = record.exposure
    return (
        record.phantom, e.system, e.serial_number, e.anode, e.filter, e.tube_voltage_kv, e.pixel_mm,
        e.for_presentation, e.intensity_relationship, e.frame, record.options.method, record.options.human,
    )  # fmt: skip


def date_of(record: Record) -> str:
    """Date of a record: of its first image, else of its analysis."""
    return record.exposure.first_date or record.provenance.analysed[:10]


def _trend(group: Sequence[Record]) -> Trend:
    records = tuple(sorted(group, key=lambda record: (date_of(record), record.provenance.analysed)))
    measured = [k for k, point in enumerate(records[0].curve) if not point.censored]
    sums = [sum(record.curve[k].cdc_um * record.curve[k].diameter_mm for k in measured) for record in records]
    overall = {
        "contrast": [(record.disc_contrast, record.disc_contrast_log_error) for record in records],
        "cnr": [(record.contrast_to_noise, record.contrast_to_noise_log_error) for record in records],
        "iqf": [(100 / total if total else None, r.iqf_log_error) for total, r in zip(sums, records, strict=True)],
    }
    by_diameter = {
        f"{records[0].curve[k].diameter_mm:.2f} mm": [(r.curve[k].cdc_um, log_error(r.curve[k])) for r in records]
        for k in measured
    }
    known = {name: pairs for name, pairs in overall.items() if all(value is not None for value, _ in pairs)}
    charts = []
    for name, pairs in (known | by_diameter).items():
        values, errors = np.array(pairs, float).T  # None becomes NaN
        charts.append(control_chart(name, values, errors, len(measured)))
    names = {record.exposure.name for record in records}
    name = records[-1].exposure.name if len(names) > 1 else names.pop()
    return Trend(name, tuple(date_of(record) for record in records), records, tuple(charts))


def chart_rows(trend: Trend) -> list[Mapping[str, object]]:
    """One row per chart and record: setting, chart, date, value, level, average, limit, alarm, and the change since it
    began with its 95 % interval (see `Chart`)."""
    return [
        {
            "setting": trend.name, "chart": chart.name, "date": date, "value": chart.values[t], "level": chart.level[t],
            "average": chart.average[t], "limit": chart.limit[t], "alarm": bool(chart.alarm[t]),
        }
        | dict(zip(("change", "change_low", "change_high"), chart.changes[t] - 1, strict=True))
        for chart in trend.charts
        for t, date in enumerate(trend.dates)
    ]  # fmt: skip
