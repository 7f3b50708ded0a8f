"""A record as a document to file: verdict first, then curve, table, warnings, setting and provenance."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from matplotlib import get_data_path
from PIL import Image as Picture
from reportlab import rl_config
from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, KeepTogether, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

from xiqa.files import atomic_path
from xiqa.qc.record import Judged, Point, Record
from xiqa.qc.summary import judged_words

COLOURS = {"met": HexColor("#007A5A"), "exceeded": HexColor("#B03A00"), "not determined": HexColor("#6B6B6B")}
_METHODS = {
    "standard": "hits are counted, as the field does it",
    "graded": "amplitude and noise are measured from the signals",
}
_WIDTH = A4[0] - 36 * mm - 12  # reportlab's frame keeps 6 points on each side
_LINE, _SHADE = HexColor("#BBBBBB"), HexColor("#F2F2F2")
_FONT, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
_TEXT = ParagraphStyle("text", fontName=_FONT, fontSize=8.5, leading=12)
_CELL = ParagraphStyle("cell", parent=_TEXT, fontSize=7.2, leading=9)
_HEAD = ParagraphStyle("head", parent=_TEXT, fontName=_BOLD, fontSize=11, leading=15, spaceBefore=8, spaceAfter=3)
_TITLE = ParagraphStyle("title", parent=_TEXT, fontName=_BOLD, fontSize=15, leading=20)


def write_pdf(path: str | os.PathLike, record: Record, pictures: Mapping[str, bytes]) -> None:
    """Write a record as PDF, A4.

    Args:
        path: the file.
        record: what it says.
        pictures: PNG: "curve" and "psychometric", and "hits" and "grid" of the first image.
    """
    _register_fonts()
    rl_config.useA85 = 0  # pictures as text take a second to encode, and a quarter more room
    exposure, first = record.exposure, record.images[0]
    story: list[Flowable] = [
        _paragraph(f"{record.phantom}: contrast-detail curve", _TITLE),
        _paragraph(" · ".join(filter(None, [exposure.name, exposure.system, exposure.station, _dates(record)]))),
        Spacer(1, 3 * mm),
        _verdict(record),
        Spacer(1, 3 * mm),
        _picture(pictures["curve"], 0.82 * _WIDTH),
        _limits_table(record),
        *_listed("Warnings", record.warnings),
        PageBreak(),
        _paragraph("All diameters", _HEAD),
        _curve_table(record.curve),
        _paragraph(
            f"{_columns(record)} Inverse image quality figure (100 / Σ curve × diameter): {record.iqf_inverse:.1f}. "
            f"For constancy: contrast of the discs {_number(record.disc_contrast, '.4g')} counts, over noise "
            f"{_number(record.contrast_to_noise, '.1f')}.",
            _CELL,
        ),
        KeepTogether([_paragraph("Psychometric fits", _HEAD), _picture(pictures["psychometric"], _WIDTH)]),
        PageBreak(),
        _paragraph(f"First image: {first.name}", _HEAD),
        Table(
            [[_picture(pictures[kind], 0.47 * _WIDTH) for kind in ("hits", "grid")]],
            colWidths=[0.5 * _WIDTH] * 2,
            style=[("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")],
        ),
        _paragraph("Images", _HEAD),
        _image_table(record),
        KeepTogether([_paragraph("Exposure setting", _HEAD), _facts(_exposure_facts(record))]),
        KeepTogether([_paragraph("How the curve was made", _HEAD), _facts(_option_facts(record))]),
        KeepTogether([_paragraph("Provenance", _HEAD), _facts(_provenance_facts(record))]),
    ]
    with atomic_path(path) as temporary:
        document = SimpleDocTemplate(
            str(temporary), pagesize=A4, leftMargin=18 * mm, rightMargin=18 * mm, topMargin=15 * mm,
            bottomMargin=18 * mm, title=f"{record.phantom}: {exposure.name}", author="xiqa",
            subject=record.disclaimer,
        )  # fmt: skip
        document.build(story, canvasmaker=lambda *args, **options: _Numbered(record.disclaimer, *args, **options))


class _Numbered(Canvas):
    """Pages that say what the document may be used for, and how many they are: known when all are laid out."""

    def __init__(self, disclaimer: str, *args, **options):
        super().__init__(*args, **options)
        self._disclaimer = disclaimer
        self._pages: list[Any] = []

    def showPage(self) -> None:  # reportlab's name
        """Keep the page for later."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Write all pages, each with its foot."""
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self.setFont(_FONT, 7)
            self.setFillColor(HexColor("#555555"))
            self.drawString(18 * mm, 10 * mm, self._disclaimer)
            self.drawRightString(A4[0] - 18 * mm, 10 * mm, f"page {number} of {len(self._pages)}")
            super().showPage()
        super().save()


def _register_fonts() -> None:
    for name in (_FONT, _BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, f"{get_data_path()}/fonts/ttf/{name}.ttf"))


def _paragraph(words: str, style: ParagraphStyle = _TEXT) -> Paragraph:
    return Paragraph(escape(words), style)


def _dates(record: Record) -> str:
    first, last = record.exposure.first_date, record.exposure.last_date
    return first if first == last else f"{first} to {last}"


def _verdict(record: Record) -> Table:
    """The verdict on the limit that decides, large; the others below it."""
    limits = record.options.limits
    judged = sorted(record.limits, key=lambda judged: limits is None or judged.limit != limits.decides)
    large = ParagraphStyle("verdict", parent=_TEXT, fontName=_BOLD, fontSize=14, leading=18, textColor=white)
    small = ParagraphStyle("others", parent=_TEXT, textColor=white)
    words = f"{judged[0].limit.capitalize()} limit: {judged[0].verdict}" if judged else "No verdict: no limits"
    rows = [[_paragraph(words, large)], *([_paragraph(_where(each), small)] for each in judged)]
    rows.append([_paragraph(f"Limits: {limits.name if limits else 'none'}; {_count(record)}", small)])
    return Table(
        rows,
        colWidths=[_WIDTH],
        style=[
            ("BACKGROUND", (0, 0), (-1, -1), COLOURS[record.verdict]),
            ("TOPPADDING", (0, 1), (-1, -1), 0),
            ("BOTTOMPADDING", (0, 0), (-1, -2), 2),
        ],
    )


def _where(judged: Judged) -> str:
    words = judged_words(judged)
    return words[0].upper() + words[1:]


def _count(record: Record) -> str:
    images = len(record.images)
    return f"{images} image{'s' * (images > 1)}, method {record.options.method}"


def _picture(content: bytes, width: float) -> Image:
    """A picture as wide as asked for."""
    picture = Picture.open(io.BytesIO(content))
    return Image(io.BytesIO(content), width=width, height=width * picture.height / picture.width)


def _table(rows: Sequence[Sequence[str]], widths: Sequence[float], marked: Iterable = ()) -> Table:
    """A table of the page's width in small type, with one row of headings.

    Args:
        rows: the headings first.
        widths: of the columns, in relation to each other.
        marked: further commands of its style.
    """
    style = [
        ("FONT", (0, 0), (-1, -1), _FONT, 7.2),
        ("FONT", (0, 0), (-1, 0), _BOLD, 7.2),
        ("BACKGROUND", (0, 0), (-1, 0), _SHADE),
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, _LINE),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        *marked,
    ]
    shares = [_WIDTH * width / sum(widths) for width in widths]
    return Table([list(row) for row in rows], colWidths=shares, style=style, repeatRows=1)


def _limits_table(record: Record) -> Table:
    """The curve at the diameters of limits, each beside its limits and verdicts; and at 0.08 mm, which has none."""
    at = {judged.limit: {point.diameter_mm: point for point in judged.at} for judged in record.limits}
    sizes = {diameter for points in at.values() for diameter in points} or {1.0, 0.5, 0.25, 0.1}
    sizes = sizes | {record.curve[-1].diameter_mm}
    rows, marked = [["diameter (mm)", "curve (µm)", "95 % interval (µm)", *(f"{limit} (µm)" for limit in at)]], []
    for point in record.curve:
        if point.diameter_mm not in sizes:
            continue
        row = [f"{point.diameter_mm:.2f}", _value(point), _interval(point)]
        for points in at.values():
            here = points.get(point.diameter_mm)
            row.append(f"{here.limit_um:.3f}: {here.verdict}" if here else "no limit")
            if here:
                place = (len(row) - 1, len(rows))
                marked += [("TEXTCOLOR", place, place, COLOURS[here.verdict]), ("FONTNAME", place, place, _BOLD)]
        rows.append(row)
    return _table(rows, [3, 3, 4, *[4] * len(at)], marked)


def _curve_table(curve: Sequence[Point]) -> Table:
    rows = [["diameter (mm)", "T auto (µm)", "T human (µm)", "curve (µm)", "95 % interval (µm)", "note"]]
    for point in curve:
        mark = {"below": "≤ ", "above": "≥ "}.get(point.side, "") if point.censored else ""
        measured = [f"{mark}{value:.3f}" for value in (point.t_auto_um, point.t_human_um)]
        note = f"{point.side} the phantom's discs" if point.side else ""
        note += ": only a bound" if point.censored else ": extrapolated" if point.extrapolated else ""
        rows.append([f"{point.diameter_mm:.2f}", *measured, _value(point), _interval(point), note])
    return _table(rows, [2.7, 2.3, 2.5, 2.2, 3.4, 6.6], [("ALIGN", (5, 0), (5, -1), "LEFT")])


def _columns(record: Record) -> str:
    """What the columns of the curve's table hold."""
    if not record.counting_equivalent:
        return (
            "T auto and T human: threshold of an observer who knows each disc's place (d' = 1.235), without human "
            f"factor: counting-equivalent is not calibrated for {record.phantom}; curve: smooth curve through it, "
            "for which no limits hold."
        )
    return (
        "T auto: threshold of the automated reading at 62.5 % correct; T human: with the human factor r(d), which "
        f"multiplies the {record.options.human} here; curve: smooth curve through T human, which is held against "
        "limits."
    )


def _value(point: Point) -> str:
    return f"{point.cdc_um:.3f}"


def _interval(point: Point) -> str:
    low, high = point.ci_low_um, point.ci_high_um
    if low is None:
        return "none"
    if high is None:
        return f"above {low:.3f}"
    return f"{low:.3f}–{high:.3f}" if low > 0 else f"below {high:.3f}"


def _listed(title: str, words: Sequence[str]) -> list[Flowable]:
    return [_paragraph(title, _HEAD), *(_paragraph(f"• {each}") for each in words or ("None.",))]


def _image_table(record: Record) -> Table:
    rows = [["image", "date", "kV", "mAs", "corner", "centre", "pitch\n(mm)", "tilt (°)", "residual\n(mm)", "offset"]]
    for image in record.images:
        placed = image.registration
        rows.append(
            [
                Paragraph(escape(image.name), _CELL),
                image.date,
                _number(image.tube_voltage_kv),
                _number(image.exposure_mas),
                str(image.corner_hits),
                str(image.centre_hits),
                f"{placed.pitch_mm:.3f}",
                f"{placed.angle_deg:z.2f}",
                f"{placed.residual_mm:.3f}",
                f"{placed.eccentric_offset:.3f}",
            ]
        )
    return _table(rows, [4.6, 2, *[1.4] * 8])


def _number(value: float | None, form: str = "g") -> str:
    return "–" if value is None else format(value, form)


def _facts(facts: Mapping[str, str]) -> Table:
    rows = [[_paragraph(name, _CELL), _paragraph(words, _CELL)] for name, words in facts.items() if words]
    return Table(
        rows,
        colWidths=[42 * mm, _WIDTH - 42 * mm],
        style=[
            ("LINEBELOW", (0, 0), (-1, -1), 0.3, _LINE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 1.5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
        ],
    )


def _exposure_facts(record: Record) -> dict[str, str]:
    e = record.exposure
    spread = (
        ""
        if e.least_exposure_mas == e.largest_exposure_mas
        else f" ({e.least_exposure_mas:g}–{e.largest_exposure_mas:g})"
    )
    return {
        "Images": str(len(record.images)),
        "System": e.system,
        "Serial number": e.serial_number,
        "Station": e.station,
        "Dates": _dates(record),
        "Target / filter": f"{e.anode or 'not known'} / {e.filter or 'not known'}",
        "Tube voltage": "not known" if e.tube_voltage_kv is None else f"{e.tube_voltage_kv:g} kV",
        "Exposure": "not known" if e.exposure_mas is None else f"{e.exposure_mas:g} mAs{spread}",
        "Pixel": "differs" if e.pixel_mm is None else f"{e.pixel_mm:g} mm",
        "Kind of pixels": ("for presentation" if e.for_presentation else "for processing")
        + (f", {e.intensity_relationship}" if e.intensity_relationship else ""),
        "Frame": "" if e.frame is None else str(e.frame),
    }


def _option_facts(record: Record) -> dict[str, str]:
    o = record.options
    return {
        "Method": f"{o.method} ({_METHODS[o.method]})",
        "Human factor r(d) multiplies": o.human or "nothing: the curve has no human factor",
        "Intervals": f"95 %, {o.bootstrap} draws, seed {o.seed}",
        "Limits": f"{o.limits.name}. {o.limits.source}" if o.limits else "none",
    }


def _provenance_facts(record: Record) -> dict[str, str]:
    p = record.provenance
    return {
        "xiqa": f"{p.xiqa_version}, commit {p.commit}",
        "Versions": ", ".join(f"{name} {number}" for name, number in p.versions.items()),
        "Analysed": p.analysed,
        "Digest of the images": p.images_digest,
        "Schema of results.json": record.schema_version,
    }
