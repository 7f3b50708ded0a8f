"""Findings as a page of the report and as Markdown."""

import html
import os
from collections.abc import Iterable

from xiqa.files import write_text

STYLE = "body{font:16px/1.5 sans-serif;max-width:48em;margin:2em auto;padding:0 1em} h2{margin-bottom:0}"


def write_findings(
    title: str, findings: Iterable[tuple[str, str]], path_to_page: str | os.PathLike, path_to_text: str | os.PathLike
) -> None:
    """Write the same sentences twice.

    Args:
        title: title of the page.
        findings: (heading, sentence) pairs; a heading is written once for the sentences that follow each other.
        path_to_page: HTML, for the report.
        path_to_text: Markdown.
    """
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    page, text, last = f"{page}<h1>{html.escape(title)}</h1>", f"# {title}\n\n", None
    for heading, sentence in findings:
        if heading != last:
            page, text, last = f"{page}<h2>{html.escape(heading)}</h2>", f"{text}## {heading}\n\n", heading
        page, text = f"{page}<p>{html.escape(sentence)}</p>", f"{text}{sentence}\n\n"
    write_text(path_to_page, f"{page}</html>\n")
    write_text(path_to_text, text.rstrip() + "\n")
