"""Figure and findings of the study in which the shortcut cannot win."""

from xiqa.figures.generalise import plot_generalise
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to
from xiqa.metrics.generalise import findings
from xiqa.report import pages


def report(path_to_scores: str, path_to_shares: str, study: str, paths: dict[str, str]) -> None:
    """Write relative error by diameter as a picture, and what came out in sentences and tables."""
    scores = read_table(path_to_scores)
    write_figure(paths["figure"], plot_generalise(scores))
    told = findings(scores, read_table(path_to_shares))
    pages.write_findings(
        f"Settings that the shortcut cannot know, study {study} (simulated images)", told, paths["page"],
        paths["text"], picture=paths["figure"],
    )  # fmt: skip


if "snakemake" in globals():
    with log_to(snakemake.log[0], "report how they generalise"):
        report(
            path_to_scores=snakemake.input.scores,
            path_to_shares=snakemake.input.summary,
            study=snakemake.params.study,
            paths=dict(snakemake.output.items()),
        )
