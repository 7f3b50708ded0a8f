"""`xiqa trend`: a system over months."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from xiqa.files import write_table
from xiqa.qc.compare import find_records
from xiqa.qc.trend import LEAST_RECORDS, TITLES, Trend, chart_rows, trends_of


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa trend`."""
    trend = commands.add_parser(
        "trend",
        help="follow a system over its results of xiqa read: control charts that alarm at a drift",
        description="Reads every results.json in DIR and the folders below it, sorts them by system, exposure setting "
        "and date, and charts the image quality figure and the curve at each diameter. Writes trend.csv, a figure per "
        "setting, and with --quaac a QuAAC file. Results of the same images count once.",
        epilog=f"Exit code: 0 no alarm at the newest record, 3 alarm, 4 fewer than {LEAST_RECORDS} records, 1 error.",
    )
    trend.add_argument("folder", metavar="DIR", type=Path, help="folder with results of xiqa read")
    trend.add_argument("--out", required=True, type=Path, help="folder for the charts; made where it is missing")
    trend.add_argument(
        "--quaac", type=Path, metavar="FILE", help="QuAAC file (YAML) to write, or to add new records to"
    )
    trend.add_argument("--performer", default="not named", help="name of who measured, for the QuAAC file")
    trend.add_argument("--email", default="nobody@example.org", help="address of who measured, for the QuAAC file")
    trend.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Chart, write, and say what was found; returns the exit code."""
    trends = trends_of(list(find_records(options.folder).values()))
    from xiqa.figures.qc import plot_trend  # matplotlib: only here, it is slow to import
    from xiqa.files import write_figure

    write_table(
        options.out / "trend.csv", pd.DataFrame([row for trend in trends for row in chart_rows(trend)]).round(6)
    )
    for number, trend in enumerate(trends):
        twice = [other.name for other in trends].count(trend.name) > 1
        write_figure(options.out / f"{trend.name}{f'_{number + 1}' if twice else ''}.png", plot_trend(trend))
        print(_words(trend))
    if options.quaac:
        from xiqa.qc.quaac import add_to_quaac

        added, known = add_to_quaac(
            options.quaac, [record for t in trends for record in t.records], options.performer, options.email
        )
        print(f"{options.quaac}: {added} measurements added, {known} were there")
    print(f"results: {options.out}/trend.csv and figures")
    if any(trend.alarm[-1] for trend in trends):
        return 3
    return 4 if any(len(trend.records) < LEAST_RECORDS for trend in trends) else 0


def _words(trend: Trend) -> str:
    count = len(trend.records)
    lines = [f"{trend.name}: {count} record{'s' * (count > 1)}, {trend.dates[0]} to {trend.dates[-1]}"]
    if count < LEAST_RECORDS:
        lines.append(f"  too few records for an alarm, which takes {LEAST_RECORDS}")
    for chart in trend.charts:
        for t in chart.alarm.nonzero()[0]:
            change = 100 * (chart.values[t] / chart.level[t] - 1)
            way = "better" if (chart.average[t] > 0) == chart.larger_is_better else "worse"
            name = TITLES.get(chart.name, chart.name)
            lines.append(f"  alarm {trend.dates[t]}: {name} became {way} ({change:+.0f} % against the records before)")
    if not trend.alarm.any() and count >= LEAST_RECORDS:
        lines.append("  no alarm")
    return "\n".join(lines)
