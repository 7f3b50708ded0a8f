"""Print a page of docs/ that is made from tables: `python -m xiqa.report --help`."""

import argparse
from pathlib import Path

import pandas as pd

from xiqa.report import families, formats, maps, paper_settings, real_data, results
from xiqa.report.pages import wrapped


def main() -> None:
    """Print the page that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m xiqa.report", description=__doc__)
    pages = parser.add_subparsers(required=True, metavar="PAGE", dest="page")
    pages.add_parser("formats", help="formats of images and masks")
    pages.add_parser("paper_settings", help="what the papers print").add_argument("table", type=Path)
    for name, subject in {
        "results": "the CDC ensemble",
        "maps": "scores of maps",
        "real_data": "networks on real images",
        "families": "concepts, latent spaces, counterfactuals and prototypes",
    }.items():
        page = pages.add_parser(name, help=f"of a run: {subject}")
        page.add_argument("folder", type=Path, help="results of the study")
        page.add_argument("commit", help="commit that the study ran at")
        page.add_argument("run", help="how long it took and on what; for `results` with the command before it")
        if name == "maps":
            page.add_argument("datasets", nargs="+", help="names of the data sets that the page has")
    given = parser.parse_args()
    if given.page == "formats":
        text = formats.page()
    elif given.page == "paper_settings":
        text = paper_settings.page(pd.read_csv(given.table, dtype=str, keep_default_na=False))
    elif given.page == "maps":
        text = maps.page(given.folder, given.commit, given.run, given.datasets)
    else:
        text = {"results": results, "real_data": real_data, "families": families}[given.page].page(
            given.folder, given.commit, given.run
        )
    print(wrapped(text), end="")


if __name__ == "__main__":
    main()
