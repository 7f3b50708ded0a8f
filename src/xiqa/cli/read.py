"""`xiqa read`: from a folder of images to detection matrices and the contrast-detail curve."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.curve import fit_curve
from xiqa.cdmam.dicom import read_dicom
from xiqa.cdmam.folder import find_images
from xiqa.cdmam.limits import censored_side, limit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.cdmam.reader import Reading, read_image
from xiqa.cli.common import cores, count, each
from xiqa.files import write_figure, write_table, write_text

CURVE_OF_RECORD = 16
"""Images that a curve should rest on."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa read`."""
    read = commands.add_parser(
        "read",
        help="read a folder of CDMAM images of one exposure setting: detection matrices and the contrast-detail curve",
        description="Reads every DICOM image in DIR and the folders below it, known by its content (one exposure "
        "setting); what is none is listed in skipped.csv. Writes NAME.corner.txt and NAME.centre.txt "
        "per image (1 hit, 2 miss, -1 no cell), curve.csv and curve.png.",
    )
    read.add_argument("folder", metavar="DIR", type=Path, help="folder with the DICOM images, such as an export")
    read.add_argument("--out", required=True, type=Path, help="folder for the results; made where it is missing")
    read.add_argument(
        "--skip-unreadable", action="store_true", help="leave out what cannot be read; list it in skipped.csv"
    )
    read.add_argument(
        "--human",
        choices=("thickness", "contrast"),
        default="thickness",
        help="what the human-equivalent factor multiplies",
    )
    read.add_argument("--bootstrap", type=count(0), default=500, help="bootstrap draws over images (default: 500)")
    read.add_argument("--seed", type=count(0), default=0, help="seed of the bootstrap (default: 0)")
    read.add_argument("--jobs", type=count(1), default=cores(), help=f"images read at once (default: cores, {cores()})")
    read.set_defaults(run=_read)


def matrix_text(matrix: np.ndarray) -> str:
    """A detection matrix in the form of the field's standard reader.

    Args:
        matrix: (16, 16) 1 hit, 2 miss, -1 no cell.

    Returns:
        16 lines of 16 numbers in columns of four characters, CR LF, and an empty line.
    """
    lines = ["".join(f"{value:2d}  " for value in row) for row in np.asarray(matrix).tolist()]
    return "".join(f"{line}\r\n" for line in [*lines, ""])


def _read_one(path: Path) -> tuple[Reading | None, tuple[float | None, float | None], str]:
    """Read one file: its reading, (tube voltage, mAs), and the digest of its pixels, or why it cannot be read."""
    try:
        recording = read_dicom(path)
        reading = read_image(recording.counts, recording.pixel_mm, name=str(path))
    except ValueError as error:
        return None, (None, None), str(error)
    return reading, (recording.tube_voltage_kv, recording.exposure_mas), recording.pixel_digest


def _read(options: argparse.Namespace) -> None:
    folder, out = options.folder, options.out
    if out.resolve() == folder.resolve():
        raise ValueError(f"--out: found the folder of the images, {out}; choose another, so that images stay apart")
    images = find_images(folder, without=out)

    # Everything is read before anything is written: a fault leaves no half of a result behind.
    found: dict[int, tuple] = {}
    for number, result in each(_read_one, [(path,) for path in images.paths], options.jobs, "reading"):
        if result[0] is None and not options.skip_unreadable:
            raise ValueError(f"{result[2]} (nothing was written; --skip-unreadable leaves such files out)")
        found[number] = result
    read, left_out, seen = [], dict(images.others), {}
    for number, (path, name) in enumerate(zip(images.paths, images.names, strict=True)):
        reading, setting, told = found[number]
        if reading is None:
            left_out[path] = told
        elif told in seen:
            left_out[path] = f"the same pixels as {seen[told]}, counted once"
        else:
            seen[told] = path.relative_to(folder).as_posix()
            read.append((name, reading, setting))
    skipped = pd.DataFrame(
        [(path.relative_to(folder).as_posix(), reason) for path, reason in sorted(left_out.items())],
        columns=["file", "reason"],
    )
    if not read:
        first = found[0][2]
        raise ValueError(f"{folder}: none of the {len(images.paths)} images can be read; the first: {first}")
    curve = fit_curve(
        np.stack([reading.corner for _, reading, _ in read]),
        human=options.human,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )

    from xiqa.figures.cdc import plot_cdc  # matplotlib: only here, it is slow to import

    for name, reading, _ in read:
        write_text(out / f"{name}.corner.txt", matrix_text(reading.corner))
        write_text(out / f"{name}.centre.txt", matrix_text(reading.centre))
    write_table(out / "curve.csv", curve.round(6))
    write_figure(out / "curve.png", plot_cdc({f"{folder.resolve().name} ({len(read)} images)": curve}))
    if len(skipped):
        write_table(out / "skipped.csv", skipped)
    else:
        (out / "skipped.csv").unlink(missing_ok=True)
    print(_summary(read, skipped, curve, out))


def _few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many there are beside them."""
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _summary(read: list[tuple], skipped: pd.DataFrame, curve: pd.DataFrame, out: Path) -> str:
    """What was found, in a few lines."""
    readings = [reading for _, reading, _ in read]
    present = int((readings[0].corner != -1).sum())
    corner, centre = (
        100 * np.mean([(matrix == 1).sum() / present for matrix in matrices])
        for matrices in ([r.corner for r in readings], [r.centre for r in readings])
    )
    placed = [reading.registration for reading in readings]
    pitch = [r.pitch_mm for r in placed]
    tilt = [r.angle_deg for r in placed]
    lines = [
        f"{len(read)} images read{f', {len(skipped)} files left out (skipped.csv)' if len(skipped) else ''}",
        *(f"  left out: {_few(files)}: {reason}" for reason, files in skipped.groupby("reason", sort=False)["file"]),
        f"  grid pitch {min(pitch):.2f}-{max(pitch):.2f} mm, tilt {min(tilt):z.2f} to {max(tilt):z.2f}°, "
        f"lines within {max(r.residual_mm for r in placed):.3f} mm (rms) of the lattice",
        f"  found: {corner:.1f} % of the corner discs, {centre:.1f} % of the central discs",
    ]
    side = censored_side(curve)
    for where, words in (("below", "below the thinnest disc"), ("above", "above the thickest disc")):
        if (side == where).any():
            sizes = ", ".join(f"{d:.2f}" for d in curve["diameter_mm"][side == where])
            lines.append(f"  threshold {words}, not measured, at {sizes} mm")
    cdc = curve["cdc_um"].to_numpy()
    for limit in ("acceptable", "achievable"):
        over = cdc > limit_curve(limit, CDC_DIAMETERS_MM)
        sizes = ", ".join(f"{d:.2f}" for d in CDC_DIAMETERS_MM[over])
        lines.append(f"  {limit} limit: {f'exceeded at {sizes} mm' if over.any() else 'met at all diameters'}")
    unseen = [name for name, reading, _ in read if not reading.registration.discs_visible]
    if unseen:
        lines.append(f"  warning: no discs stand out in {', '.join(unseen)}; orientation from the outline only")
    if len(read) < CURVE_OF_RECORD:
        lines.append(f"  warning: a curve should rest on {CURVE_OF_RECORD} images or more, this one on {len(read)}")
    settings = [setting for _, _, setting in read]
    voltages = sorted({kv for kv, _ in settings if kv is not None})
    exposures = sorted({mas for _, mas in settings if mas is not None})
    if len(voltages) > 1 or (exposures and exposures[-1] > 1.1 * exposures[0]):
        lines.append(
            f"  warning: the images differ in exposure ({', '.join(f'{v:g}' for v in voltages)} kV, "
            f"{', '.join(f'{v:g}' for v in exposures)} mAs); a curve holds for one setting"
        )
    lines.append(f"results: {out}/curve.csv, curve.png, and two matrices per image")
    return "\n".join(lines)
