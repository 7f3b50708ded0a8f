"""Tabulate what each upsampled map cost and how well it is known."""

import json
from pathlib import Path

import pandas as pd

from xiqa.files import read_json, write_table
from xiqa.logs import log_to


def tabulate(maps: list[dict], paths_to_summaries: list[str], path_to_benchmarks: str, path_to_table: str) -> None:
    """One row per map; the seconds are the sum over its jobs, as their benchmark files tell."""
    rows = []
    for name, path in zip(maps, paths_to_summaries, strict=True):
        benchmarks = sorted(Path(path_to_benchmarks, name["method"], name["image"]).glob("shard-*.jsonl"))
        seconds = [json.loads(file.read_text().splitlines()[-1])["s"] for file in benchmarks]
        rows.append({"method": name["method"], "image": name["image"], "seconds": sum(seconds), **read_json(path)})
    table = pd.DataFrame(rows)
    first = ["method", "draws", "seconds", "mean_visits", "relative_standard_error"]
    write_table(path_to_table, table[[*first, *table.columns.drop(first)]])


if "snakemake" in globals():
    with log_to(snakemake.log[0], "tabulate upsampling"):
        tabulate(
            maps=snakemake.params.maps,
            paths_to_summaries=list(snakemake.input.summaries),
            path_to_benchmarks=snakemake.params.benchmarks,
            path_to_table=snakemake.output.table,
        )
