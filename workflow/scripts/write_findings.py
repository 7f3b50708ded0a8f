"""Write the study's findings in sentences: the first page of the report."""

from xiqa import pages
from xiqa.files import read_table
from xiqa.logs import log_to
from xiqa.metrics.findings import describe_findings


def write_findings(
    tables: dict[str, str], path_to_picture: str, study: str, data: str, path_to_page: str, path_to_text: str
) -> None:
    """Write the same sentences as a page for the report and as Markdown, with the first upsampled map."""
    findings = describe_findings(**{name: read_table(path) for name, path in tables.items()})
    title = f"Findings of study {study} ({data} images)"
    pages.write_findings(title, findings, path_to_page, path_to_text, picture=path_to_picture)


if "snakemake" in globals():
    with log_to(snakemake.log[0], "write findings"):
        write_findings(
            tables={name: path for name, path in snakemake.input.items() if name != "picture"},
            path_to_picture=snakemake.input.picture,
            study=snakemake.params.study,
            data=snakemake.params.data,
            path_to_page=snakemake.output.page,
            path_to_text=snakemake.output.text,
        )
