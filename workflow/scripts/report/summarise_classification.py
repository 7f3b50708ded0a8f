"""Put the scores of all data sets side by side, and say in sentences what they show."""

import pandas as pd

from xiqa.figures.classification import plot_overview
from xiqa.files import read_table, write_figure, write_table
from xiqa.logs import log_to
from xiqa.metrics.classification_findings import describe_checks, describe_classification, over_seeds
from xiqa.report.pages import write_findings


def summarise(datasets: list[str], paths_to_tables: dict[str, list[str]], paths: dict[str, str]) -> None:
    """Write the joined tables, the findings, and the overview of networks against shortcuts."""
    joined = {}
    for name, files in paths_to_tables.items():
        parts = [read_table(path).assign(dataset=dataset) for dataset, path in zip(datasets, files, strict=True)]
        rows = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
        joined[name] = rows[["dataset", *rows.columns.drop("dataset")]]
        if name in paths:
            write_table(paths[name], joined[name])
    write_table(paths["scores_over_seeds"], over_seeds(joined["scores"]))
    findings = describe_classification(joined["scores"], joined["comparison"], joined["auc_by_severity"])
    if "saliency_checks" in joined:
        findings += describe_checks(joined["saliency_checks"])
    comparison = joined["comparison"].query("weights == 'trained'")
    network = comparison["architecture"] + comparison["seed"].map(lambda seed: f", seed {seed}")
    data = set(comparison["data"])
    write_figure(
        paths["overview"],
        plot_overview(comparison.assign(network=network), data.pop() if len(data) == 1 else "mixed"),
    )
    title = "What the classification studies show"
    write_findings(title, findings, paths["page"], paths["findings"], picture=paths["overview"])


if "snakemake" in globals():
    with log_to(snakemake.log[0], "summarise classification"):
        summarise(
            datasets=snakemake.params.datasets,
            paths_to_tables={name: list(files) for name, files in snakemake.input.items()},
            paths=dict(snakemake.output.items()),
        )
