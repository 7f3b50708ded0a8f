"""Pages of the report: findings (also as Markdown) and tables."""

import base64
import html
import io
import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from PIL import Image

from xiqa.files import write_text

STYLE = (
    ".xiqa{font:16px/1.5 sans-serif;max-width:60em;margin:1em auto;padding:0 1em;color:#111} "
    ".xiqa h1{font-size:1.6em} .xiqa h2{font-size:1.2em;margin:1em 0 0} .xiqa p{margin:.5em 0} "
    ".xiqa img{max-width:100%} .xiqa table{border-collapse:collapse;font-size:13px;margin:.5em 0} "
    ".xiqa td,.xiqa th{padding:2px 8px;border-bottom:1px solid #ddd;text-align:left;vertical-align:top} "
)
TABLE_STYLE = (
    ".xiqa{max-width:none} .xiqa img{max-width:60em} .xiqa table{font-size:12px} "
    ".xiqa th{position:sticky;top:0;background:#fff} .xiqa td,.xiqa th{white-space:nowrap}"
)
PICTURE_PX = 1000
"""Width of a small copy of a picture: a column of text has no more pixels."""
ROWS = 40
"""Rows of a table in a page; its file has all."""
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'


def write_findings(
    title: str,
    findings: Iterable[tuple[str, str | pd.DataFrame]],
    path_to_page: str | os.PathLike,
    path_to_text: str | os.PathLike,
    picture: str | os.PathLike | None = None,
) -> None:
    """Write the same sentences and tables twice.

    Args:
        title: title of the page.
        findings: (heading, sentence or table) pairs; a heading is written once for those that follow each other.
        path_to_page: HTML, for the report.
        path_to_text: Markdown.
        picture: path of a PNG below the first heading: in the page as a copy of `PICTURE_PX` pixels, in the text as a
            link; None: none.
    """
    findings = list(findings)
    page = [_start(title)]
    text, last = [f"# {title}"], None
    for number, (heading, told) in enumerate(findings):
        if heading != last:
            page.append(f"<h2>{html.escape(heading)}</h2>")
            text.append(f"## {heading}")
            last = heading
        if isinstance(told, str):
            page.append(f"<p>{html.escape(told)}</p>")
            text.append(told)
        else:
            page.append(told.to_html(index=False, border=0, na_rep=""))
            text.append(markdown(told))
        first_heading_ends = number + 1 == len(findings) or findings[number + 1][0] != findings[0][0]
        if picture and first_heading_ends:
            page.append(
                f'<p><img src="{small_picture(picture)}" style="max-width:100%" alt="{html.escape(title)}"></p>'
            )
            text.append(f"![{title}]({Path(os.path.relpath(picture, Path(path_to_text).parent)).as_posix()})")
            picture = None
    write_text(path_to_page, "\n".join([*page, "</main></html>\n"]))
    write_text(path_to_text, "\n\n".join(text) + "\n")


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; bars within cells are escaped."""
    rows = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    cells = [["" if pd.isna(cell) else str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def small_picture(path: str | os.PathLike) -> str:
    """A copy of a PNG for a page, as a data URI: WebP, at most `PICTURE_PX` pixels across, a tenth of the size."""
    stream = io.BytesIO()
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((PICTURE_PX, 4 * PICTURE_PX))
        image.save(stream, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def write_page(
    title: str,
    figures: Iterable[str | os.PathLike],
    captions: Mapping[str, str],
    tables: Mapping[str, tuple[str, pd.DataFrame]],
    path_to_page: str | os.PathLike,
) -> None:
    """Write figures with their captions, then tables, below each other; numbers to three digits.

    Args:
        title: title of the page.
        figures: paths of PNGs, shown as small copies that link to the files.
        captions: name of a figure's file without its suffix -> what it shows.
        tables: name of a file in `tables/` beside the page -> caption and table, of which columns without any value
            and rows beyond `ROWS` are left out.
        path_to_page: HTML.
    """
    parts = [_start(title, TABLE_STYLE)]
    for path in map(Path, figures):
        link = html.escape(Path(os.path.relpath(path, Path(path_to_page).parent)).as_posix())
        parts.append(f"<h2>{html.escape(path.stem.replace('_', ' '))}: {html.escape(path.parent.name)}</h2>")
        parts.append(f"<p>{html.escape(captions[path.stem])} Full size: {link}</p>{_image(path, path.stem)}")
    for name, (caption, table) in tables.items():
        shown = table.dropna(axis=1, how="all")
        body = shown.head(ROWS).to_html(index=False, border=0, float_format=lambda value: f"{value:.3g}", na_rep="")
        body = re.sub(r">\s+<", "><", body)
        more = f"<p>{len(shown) - ROWS} more rows: tables/{html.escape(name)}.csv</p>" if len(shown) > ROWS else ""
        parts.append(f"<h2>{html.escape(caption)}</h2>{body if len(shown) else '<p>No rows.</p>'}{more}")
    write_text(path_to_page, f"{''.join(parts)}</main></html>\n")


def _start(title: str, style: str = "") -> str:
    """Head of a page. Its styles hold within it alone, so that another page can contain it whole."""
    return (
        HEAD.format(title=html.escape(title), style=STYLE + style) + f'<main class="xiqa"><h1>{html.escape(title)}</h1>'
    )


def _image(path: str | os.PathLike, words: str) -> str:
    return f'<p><img src="{small_picture(path)}" alt="{html.escape(words)}"></p>'


def wrapped(text: str, width: int = 120) -> str:
    """Markdown whose paragraphs and items of lists have no line longer than `width`; the rest stays as it is.

    Tables, fenced code and headings keep their lines, and so does a paragraph that is short enough already.
    """
    found: list[str] = []
    for number, part in enumerate(
        re.split(r"(^[ \t]*(?:```|~~~).*?^[ \t]*(?:```|~~~)[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)
    ):
        found.append(part if number % 2 else _PARAGRAPH.sub(lambda match: _wrapped_paragraph(match[0], width), part))
    return "".join(found)


# The first line of a paragraph, or of an item of a list, and the lines that continue it.
_PARAGRAPH = re.compile(r"^(?![|#>]|\s*$)[^\n]+(?:\n(?!\s*(?:[-*+]|\d+\.)\s|\s*$|[|#>])[^\n]+)*", flags=re.MULTILINE)


def _wrapped_paragraph(text: str, width: int) -> str:
    if max(map(len, text.splitlines())) <= width:
        return text
    start = re.match(r"\s*(?:(?:[-*+]|\d+\.)\s+)?", text)
    indent = start[0] if start else ""
    lines = textwrap.wrap(
        " ".join(text[len(indent) :].split()), width, initial_indent=indent, subsequent_indent=" " * len(indent),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(lines)
