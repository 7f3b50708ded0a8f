"""Write the study's findings in sentences: the first page of the report."""

import html

from xiqa.files import read_table, write_text
from xiqa.logs import log_to
from xiqa.metrics.findings import describe_findings

STYLE = "body{font:16px/1.5 sans-serif;max-width:48em;margin:2em auto;padding:0 1em} h2{margin-bottom:0}"


def write_findings(tables: dict[str, str], study: str, data: str, path_to_page: str, path_to_text: str) -> None:
    """Write the same sentences as a page for the report and as Markdown."""
    findings = describe_findings(**{name: read_table(path) for name, path in tables.items()})
    title = f"Findings of study {study} ({data} images)"
    body = "".join(f"<h2>{heading}</h2><p>{html.escape(sentence)}</p>" for heading, sentence in findings)
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    write_text(path_to_page, f"{page}<h1>{title}</h1>{body}</html>\n")
    write_text(path_to_text, f"# {title}\n\n" + "".join(f"**{heading}.** {text}\n\n" for heading, text in findings))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "write findings"):
        write_findings(
            tables=dict(snakemake.input.items()),
            study=snakemake.params.study,
            data=snakemake.params.data,
            path_to_page=snakemake.output.page,
            path_to_text=snakemake.output.text,
        )
