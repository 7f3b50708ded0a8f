"""Draw the effects of concepts beside the truth, and say in sentences what they show."""

from xiqa.figures.concepts import plot_bottleneck_curves, plot_concept_effects, plot_ladders
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to
from xiqa.metrics.concept_findings import describe_bottlenecks, describe_concepts
from xiqa.report.pages import write_findings


def report(dataset: str, paths: dict[str, str], written: dict[str, str]) -> None:
    """Write the figures of the first architecture, and the page."""
    tables = {name: read_table(path) for name, path in paths.items()}
    data, first = tables["effects"]["data"].iloc[0], tables["effects"]["architecture"].iloc[0]
    of_first = {
        name: table[table["architecture"] == first] for name, table in tables.items() if "architecture" in table
    }
    write_figure(written["concept_effects"], plot_concept_effects(of_first["effects"], data))
    write_figure(written["concept_ladders"], plot_ladders(of_first["ladders"], data))
    curves, scores = tables["bottleneck_curves"], tables["bottleneck_scores"]
    write_figure(written["bottleneck_curves"], plot_bottleneck_curves(curves, scores, data))
    findings = describe_concepts(tables["effects"], tables["agreement"], tables["correlations"])
    findings += describe_bottlenecks(scores)
    write_findings(
        f"Which concepts the networks follow: {dataset} ({data} images)", findings, written["page"],
        written["findings"], picture=written["concept_effects"],
    )  # fmt: skip


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"report concepts of {snakemake.wildcards.dataset}"):
        report(
            dataset=snakemake.wildcards.dataset,
            paths=dict(snakemake.input.items()),
            written=dict(snakemake.output.items()),
        )
