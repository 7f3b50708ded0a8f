"""`xiqa trend`: a system over months."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from xiqa.cli.common import VERBS
from xiqa.files import write_table
from xiqa.qc.compare import find_records
from xiqa.qc.trend import LEAST_RECORDS, Chart, Trend, chart_rows, trends_of


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa trend`."""
    trend = commands.add_parser(
        "trend",
        help=VERBS["trend"],
        description="Reads every results.json in DIR and the folders below it, sorts them by system, exposure setting "
        "and date, and charts contrast and contrast-to-noise ratio of the discs, image quality figure and curve. "
        "Writes trend.csv, a figure per setting, and with --quaac a QuAAC file. Results of the same images count once.",
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
    from xiqa.files import write_figure
    from xiqa.qc.figures import plot_trend  # matplotlib: only here, it is slow to import

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
    lines += [f"  {_alarm(chart, trend)}" for chart in trend.charts if chart.alarm.any()]
    if trend.alarm.any():
        lines.append("  (changes are against the mean of the records before the change began)")
    elif count >= LEAST_RECORDS:
        lines.append("  no alarm")
    return "\n".join(lines)


def _alarm(chart: Chart, trend: Trend) -> str:
    """The alarms of one chart: since when, at how many records, which way, and by how much at the newest of them."""
    (alarms,) = chart.alarm.nonzero()
    first, last = alarms[[0, -1]]
    change, low, high = 100 * (chart.changes[last] - 1)
    rose = chart.average[last] > 0
    way = "" if chart.name == "contrast" else " (better)" if rose == chart.larger_is_better else " (worse)"
    when = trend.dates[first] if first == last else f"{trend.dates[first]} to {trend.dates[last]}"
    count = f"{len(alarms)} record{'s' * (len(alarms) > 1)}"
    return (
        f"alarm {when} ({count}): {chart.title} {'rose' if rose else 'fell'}{way}, "
        f"{change:+.1f} % at the last of them (95 % interval {low:+.1f} to {high:+.1f} %)"
    )
