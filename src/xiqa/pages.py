"""Pages of the report: findings (also as Markdown) and tables."""

import html
import os
from collections.abc import Iterable, Mapping

import pandas as pd

from xiqa.files import write_text

STYLE = "body{font:16px/1.5 sans-serif;max-width:48em;margin:2em auto;padding:0 1em} h2{margin-bottom:0}"
TABLE_STYLE = (
    "body{max-width:none} table{border-collapse:collapse;font-size:12px} th{position:sticky;top:0;background:#fff;"
    "text-align:left} td,th{padding:2px 8px;border-bottom:1px solid #ddd;white-space:nowrap}"
)
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'


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
    page = HEAD.format(title=html.escape(title), style=STYLE)
    page, text, last = f"{page}<h1>{html.escape(title)}</h1>", f"# {title}\n\n", None
    for heading, sentence in findings:
        if heading != last:
            page, text, last = f"{page}<h2>{html.escape(heading)}</h2>", f"{text}## {heading}\n\n", heading
        page, text = f"{page}<p>{html.escape(sentence)}</p>", f"{text}{sentence}\n\n"
    write_text(path_to_page, f"{page}</html>\n")
    write_text(path_to_text, text.rstrip() + "\n")


def write_tables(title: str, tables: Mapping[str, pd.DataFrame], path_to_page: str | os.PathLike) -> None:
    """Write tables below each other, numbers to three digits, for the report.

    Args:
        title: title of the page.
        tables: caption -> table; columns without any value are left out.
        path_to_page: HTML.
    """
    parts = [HEAD.format(title=html.escape(title), style=f"{STYLE}{TABLE_STYLE}"), f"<h1>{html.escape(title)}</h1>"]
    for caption, table in tables.items():
        shown = table.dropna(axis=1, how="all")
        body = shown.to_html(index=False, border=0, float_format=lambda value: f"{value:.3g}", na_rep="")
        parts.append(f"<h2>{html.escape(caption)}</h2>{body if len(shown) else '<p>No rows.</p>'}")
    write_text(path_to_page, f"{''.join(parts)}</html>\n")
