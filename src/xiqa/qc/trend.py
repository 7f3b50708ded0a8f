"""A system over months: control charts that tell a drift from chance without a reference period of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xiqa.qc.compare import log_error
from xiqa.qc.load import cluster
from xiqa.qc.record import Record

WEIGHT = 0.3
"""Weight of the newest record in the moving average."""
LIMIT, LIMIT_DIAMETER = 3.0, 3.7
"""Alarm limits in standard deviations of the moving average: together they alarm a stable system less than once in a
hundred records, as tests/benchmarks/trend_alarms.py shows by simulation."""
LEAST_RECORDS = 4
"""Records from which on a chart can alarm."""
_PRIOR = 3.0  # degrees of freedom that the records' own intervals count for, beside the spread between records


@dataclass(frozen=True)
class Chart:
    """The control chart of one quantity.

    Attributes:
        name: "cnr" (contrast-to-noise ratio), "iqf" (inverse image quality figure), or the diameter, as "0.10 mm".
        values: (n,) the quantity in its unit.
        level: (n,) mean of the records before each one: what it is held against; NaN for the first.
        average: (n,) moving average of the standardised deviations; NaN for the first.
        limit: (n,) its alarm limit, upwards and downwards; NaN before `LEAST_RECORDS`.
        alarm: (n,) bool.
    """

    name: str
    values: np.ndarray
    level: np.ndarray
    average: np.ndarray
    limit: np.ndarray
    alarm: np.ndarray

    @property
    def larger_is_better(self) -> bool:
        """Whether the quantity rises when the system gets better; a threshold falls."""
        return self.name in TITLES


TITLES = {"cnr": "contrast-to-noise ratio", "iqf": "inverse image quality figure"}
"""What the charts that are no diameter's are called."""


@dataclass(frozen=True)
class Trend:
    """One exposure setting of one system over its records.

    Attributes:
        name: of the setting.
        dates: (n,) of the records, as text.
        records: (n,) in the order of their dates.
        charts: of the contrast-to-noise ratio, of the image quality figure, and of the diameters.
    """

    name: str
    dates: tuple[str, ...]
    records: tuple[Record, ...]
    charts: tuple[Chart, ...]

    @property
    def alarm(self) -> np.ndarray:
        """(n,) bool: some chart alarms at a record."""
        return np.any([chart.alarm for chart in self.charts], axis=0)


def control_chart(name: str, values: np.ndarray, errors: np.ndarray, limit: float) -> Chart:
    """Chart a quantity by a moving average of its recursive residuals.

    Each record is held against the mean of those before it, so that no reference period has to be set apart; for a
    stable system with normal errors the standardised deviations are independent and of variance 1. Their moving average
    (EWMA, weight `WEIGHT`) alarms beyond `limit` standard deviations. The variance is that of the records' own
    intervals, or the pool of it and the spread between neighbouring records where this is larger.

    Args:
        name: of the quantity.
        values: (n,) positive; ratios count, so the chart is of their logarithms.
        errors: (n,) standard errors of the logarithms, of each record alone; NaN: unknown.
        limit: in standard deviations of the average.

    Reference:
        Brown, Durbin and Evans, J. R. Statist. Soc. B 37, 149-192 (1975), for the residuals; Roberts, Technometrics 1,
        239-250 (1959), for the average.
    """
    logs = np.log(values)
    n = len(logs)
    level, average, bound = (np.full(n, np.nan) for _ in range(3))
    moved, variance = 0.0, 0.0
    for t in range(1, n):
        level[t] = logs[:t].mean()
        spread = math.sqrt(_variance(logs[: t + 1], errors[: t + 1]))
        residual = (logs[t] - level[t]) / (spread * math.sqrt(1 + 1 / t)) if spread > 0 else 0.0
        moved = (1 - WEIGHT) * moved + WEIGHT * residual
        variance = (1 - WEIGHT) ** 2 * variance + WEIGHT**2
        average[t] = moved
        if t + 1 >= LEAST_RECORDS:
            bound[t] = limit * math.sqrt(variance)
    return Chart(name, np.asarray(values), np.exp(level), average, bound, np.abs(average) > bound)


def _variance(logs: np.ndarray, errors: np.ndarray) -> float:
    """Variance of a record's logarithm: from the intervals, and from neighbouring records, which drift alike."""
    own = float(np.nanmean(np.square(errors))) if np.isfinite(errors).any() else 0.0
    between = np.sum(np.diff(logs) ** 2) / 2
    freedom = 2 / 3 * (len(logs) - 1)  # neighbouring differences share records
    weight = _PRIOR if own > 0 else 0.0
    pooled = (weight * own + 2 / 3 * between) / (weight + freedom)
    return max(own, float(pooled))


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
    charts = []
    for k in measured:
        points = [record.curve[k] for record in records]
        values, errors = np.array([p.cdc_um for p in points]), np.array([log_error(p) for p in points])
        charts.append(control_chart(f"{points[0].diameter_mm:.2f} mm", values, errors, LIMIT_DIAMETER))
    figure = np.array([100 / sum(r.curve[k].cdc_um * r.curve[k].diameter_mm for k in measured) for r in records])
    errors = np.array([_or_nan(record.iqf_log_error) for record in records])
    charts.insert(0, control_chart("iqf", figure, errors, LIMIT))
    if all(record.contrast_to_noise is not None for record in records):
        ratio = np.array([record.contrast_to_noise for record in records])
        errors = np.array([_or_nan(record.contrast_to_noise_log_error) for record in records])
        charts.insert(0, control_chart("cnr", ratio, errors, LIMIT))
    names = {record.exposure.name for record in records}
    name = records[-1].exposure.name if len(names) > 1 else names.pop()
    return Trend(name, tuple(date_of(record) for record in records), records, tuple(charts))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def chart_rows(trend: Trend) -> list[Mapping[str, object]]:
    """One row per chart and record: setting, chart, date, value, level, average, limit, alarm."""
    return [
        {
            "setting": trend.name, "chart": chart.name, "date": date, "value": chart.values[t], "level": chart.level[t],
            "average": chart.average[t], "limit": chart.limit[t], "alarm": bool(chart.alarm[t]),
        }
        for chart in trend.charts
        for t, date in enumerate(trend.dates)
    ]  # fmt: skip
