"""Write the study's findings in sentences, the first page of the report, and a page of its figures."""

from xiqa.files import read_table
from xiqa.logs import log_to
from xiqa.metrics.findings import describe_findings
from xiqa.report import pages


def write_findings(
    tables: dict[str, str],
    path_to_picture: str,
    paths_to_figures: list[str],
    captions: dict[str, str],
    study: str,
    data: str,
    paths: dict[str, str],
) -> None:
    """Write the same sentences as a page and as Markdown, with the first upsampled map; and all figures, small."""
    findings = describe_findings(**{name: read_table(path) for name, path in tables.items()})
    title = f"Findings of study {study} ({data} images)"
    pages.write_findings(title, findings, paths["page"], paths["text"], picture=path_to_picture)
    pages.write_page(f"Figures of study {study} ({data} images)", paths_to_figures, captions, {}, paths["figures"])


if "snakemake" in globals():
    with log_to(snakemake.log[0], "write findings"):
        write_findings(
            tables={name: path for name, path in snakemake.input.items() if name not in ("picture", "figures")},
            path_to_picture=snakemake.input.picture,
            paths_to_figures=list(snakemake.input.figures),
            captions=snakemake.params.captions,
            study=snakemake.params.study,
            data=snakemake.params.data,
            paths=dict(snakemake.output.items()),
        )
