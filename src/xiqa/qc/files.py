"""The files of a record: results.json, curve.csv, matrices, figures and the PDF."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures.cdc import plot_cdc
from xiqa.files import atomic_path, write_table, write_text
from xiqa.qc.analysis import Analysis
from xiqa.qc.figures import plot_psychometric
from xiqa.qc.overlay import image_pictures
from xiqa.qc.pdf import write_pdf


def matrix_text(matrix: np.ndarray) -> str:
    """A detection matrix in the form of the field's standard reader.

    Args:
        matrix: (D, T) 1 hit, 2 miss, -1 no cell.

    Returns:
        D lines of T numbers in columns of four characters, CR LF, and an empty line.
    """
    lines = ["".join(f"{value:2d}  " for value in row) for row in np.asarray(matrix).tolist()]
    return "".join(f"{line}\r\n" for line in [*lines, ""])


def write_analysis(folder: Path, analysis: Analysis, pictures: Mapping[str, Mapping[str, bytes]] | None) -> None:
    """Write the files of one exposure setting.

    Args:
        folder: where; made where it is missing.
        analysis: the setting, analysed.
        pictures: name of an image -> {"hits": PNG, "grid": PNG} of `xiqa.qc.overlay`; None: no figures, no PDF.
    """
    for image in analysis.setting.images:
        write_text(folder / f"{image.name}.corner.txt", matrix_text(image.reading.corner))
        write_text(folder / f"{image.name}.centre.txt", matrix_text(image.reading.centre))
    write_table(folder / "curve.csv", analysis.table.round(6))
    if pictures is not None:
        _write_pictures(folder, analysis, pictures)
    write_text(folder / "results.json", analysis.record.to_json())


def curve_figure(analysis: Analysis) -> Figure:
    """The contrast-detail diagram of a setting with its limits."""
    images = len(analysis.record.images)
    label = f"{analysis.record.exposure.name} ({images} image{'s' * (images > 1)})"
    if any(point.single_source for point in analysis.record.curve):
        label += f"\n{analysis.record.phantom}, of whose cells most are known from one source"
    if not analysis.curve.counting_equivalent:
        label += "\nobserver who knows each disc's place, no human factor:\ncounting-equivalent is not calibrated"
        label += f" for {analysis.record.phantom}"
    limits = analysis.record.options.limits
    return plot_cdc({label: analysis.curve.table}, limits_um=limits.limits_um if limits else {})


def publish(path: Path, analysis: Analysis, pictures: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Write the record of a setting as PDF.

    Args:
        path: the file.
        analysis: the setting, analysed.
        pictures: "hits" and "grid" of its first image, PNG; None: they are drawn.

    Returns:
        Its figures, "curve" and "psychometric", as PNG.
    """
    figures = {"curve": _png(curve_figure(analysis)), "psychometric": _png(plot_psychometric(analysis.record))}
    pictures = pictures or image_pictures(analysis.setting.images[0])
    write_pdf(path, analysis.record, {**figures, **pictures})
    return figures


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=170, metadata={"Software": None})
    return stream.getvalue()


def _write_pictures(folder: Path, analysis: Analysis, pictures: Mapping[str, Mapping[str, bytes]]) -> None:
    images = analysis.setting.images
    for image in images:
        for kind, content in pictures[image.name].items():
            write_bytes(folder / f"{image.name}.{kind}.png", content)
    for name, content in publish(folder / "qa.pdf", analysis, pictures[images[0].name]).items():
        write_bytes(folder / f"{name}.png", content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_skipped(folder: Path, left_out: Mapping[str, str]) -> None:
    """Write skipped.csv, a row per file that was left out with its reason; none where nothing was."""
    if left_out:
        write_table(folder / "skipped.csv", pd.DataFrame(left_out.items(), columns=["file", "reason"]))
    else:
        (folder / "skipped.csv").unlink(missing_ok=True)
