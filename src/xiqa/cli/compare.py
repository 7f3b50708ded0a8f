"""`xiqa compare`: two records side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from xiqa.cli.common import VERBS
from xiqa.files import write_table
from xiqa.qc.compare import (
    agreement,
    correlation,
    find_records,
    one_against_many,
    pairs_of,
    ratios,
    remarks,
    shared_images,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa compare`."""
    compare = commands.add_parser(
        "compare",
        help=VERBS["compare"],
        description="Compares the curves of two results of xiqa read (results.json, or folders with them; of several, "
        "those of the same exposure setting). Writes compare.csv, the ratio A/B per diameter with its 95 % interval, "
        "and agreement.csv, how the curves of the single images of A agree with the curve of all images of B "
        "(Bland-Altman), with figures.",
    )
    compare.add_argument("first", metavar="A", type=Path, help="results.json, or a folder with results")
    compare.add_argument("second", metavar="B", type=Path, help="likewise")
    compare.add_argument("--out", required=True, type=Path, help="folder for the results; made where it is missing")
    compare.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compare, write, and say what was found."""
    pairs = pairs_of(find_records(options.first), find_records(options.second))
    from xiqa.files import write_figure
    from xiqa.qc.figures import plot_agreement, plot_ratios  # matplotlib: only here, it is slow to import

    for first, second in pairs:
        names = [f"{side}: {record.exposure.name}" for side, record in (("A", first), ("B", second))]
        table, each = ratios(first, second), one_against_many(first, second)
        folder = options.out if len(pairs) == 1 else options.out / first.exposure.name
        write_table(folder / "compare.csv", table.round(6))
        write_table(folder / "agreement.csv", agreement(each).round(6))
        write_figure(folder / "compare.png", plot_ratios(first, second, table, names))
        write_figure(folder / "agreement.png", plot_agreement(each, agreement(each)))
        print(f"{' against '.join(names)}")
        for verdict, part in table.groupby("verdict", sort=False):
            print(f"  {verdict}: {', '.join(f'{row.diameter_mm:.2f} mm' for row in part.itertuples())}")
        if together := correlation(first, second):
            shared = len(shared_images(first, second))
            print(f"  {shared} images are in both and count as pairs: the curves' correlation is {together:.2f}")
        overall = agreement(each).iloc[-1]
        print(
            f"  one image of A over all of B: {overall['bias']:.2f} in the mean, 95 % of the ratios in "
            f"{overall['lower']:.2f}-{overall['upper']:.2f}"
        )
        for words in remarks(first, second):
            print(f"  warning: {words}")
    print(f"results: {options.out}/compare.csv, agreement.csv and figures")
