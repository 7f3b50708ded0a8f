"""The command line for physicists who want their contrast-detail curve, and images to try it on: `xiqa --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from xiqa.cdmam.curve import fit_curve
from xiqa.cdmam.dicom import read_dicom, write_dicom
from xiqa.cdmam.folder import find_images
from xiqa.cdmam.limits import censored_side, limit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, GEOMETRIES
from xiqa.cdmam.reader import Reading, read_image
from xiqa.config import Detector, Exposure
from xiqa.files import write_figure, write_table, write_text

SCENARIOS = {
    "1": Exposure(tube_voltage_kv=28, exposure_mas=115, noise_level=9.55),
    "2": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=13.06),
    "3": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=18.91),
    "4": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=22.91),
    "ood": Exposure(tube_voltage_kv=23, exposure_mas=105, noise_level=6.04),
}
"""Exposure settings of table 1 of Amanova 2022."""

CURVE_OF_RECORD = 16
"""Images that a curve should rest on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the entry point `xiqa`.

    Args:
        arguments: words after the program's name; those of the process where None.

    Returns:
        The exit code: 0, or 1 after an error that was said on stderr.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"xiqa: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xiqa", description="Image quality of mammography from the CDMAM 3.4 phantom."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

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
    read.add_argument("--bootstrap", type=_count(0), default=500, help="bootstrap draws over images (default: 500)")
    read.add_argument("--seed", type=_count(0), default=0, help="seed of the bootstrap (default: 0)")
    read.add_argument("--jobs", type=_count(1), default=cores, help=f"images read at once (default: cores, {cores})")
    read.set_defaults(run=_read)

    simulate = commands.add_parser(
        "simulate",
        help="write simulated CDMAM images as DICOM",
        description="Writes simulated images of the CDMAM 3.4 phantom as DICOM (FOR PROCESSING).",
    )
    simulate.add_argument("--scenario", required=True, choices=list(SCENARIOS), help="exposure setting of table 1")
    simulate.add_argument("--images", type=_count(1), default=CURVE_OF_RECORD, help="how many (default: 16)")
    simulate.add_argument("--out", required=True, type=Path, help="folder for the images; made where it is missing")
    simulate.add_argument("--seed", type=_count(0), default=0, help="seed of noise and shift (default: 0)")
    simulate.add_argument("--margin-mm", type=_margin, default=2.0, help="margin around the matrix (default: 2)")
    simulate.add_argument(
        "--geometry",
        choices=list(GEOMETRIES),
        default="standard_reader",
        help="geometry preset (default: standard_reader)",
    )
    simulate.add_argument(
        "--jobs", type=_count(1), default=cores, help=f"images made at once (default: cores, {cores})"
    )
    simulate.set_defaults(run=_simulate)
    return parser


def _count(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from {least}")
        return int(text)

    return whole_number


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = -1.0
    if not 0 <= margin <= 60:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a margin of 0-60 mm")
    return margin


def _each(work: Callable, tasks: Sequence[tuple], jobs: int, title: str) -> Iterable[tuple[int, Any]]:
    """Yield (number of the task, result) as they come, with a progress bar on stderr."""
    console = Console(stderr=True)
    if jobs == 1 or len(tasks) == 1:
        for number, task in enumerate(track(tasks, title, console=console)):
            yield number, work(*task)
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work, *task): number for number, task in enumerate(tasks)}
        for done in track(as_completed(running), title, total=len(running), console=console):
            yield running[done], done.result()


# ---------------------------------------------------------------------------------------------------------------------
# xiqa read


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
    for number, result in _each(_read_one, [(path,) for path in images.paths], options.jobs, "reading"):
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


# ---------------------------------------------------------------------------------------------------------------------
# xiqa simulate


def _simulate_one(scenario: str, geometry: str, margin_mm: float, seed: int, index: int, path: Path) -> None:
    """Simulate one image and write it."""
    from xiqa.cdmam.simulator import simulate

    exposure, detector = SCENARIOS[scenario], Detector()
    image = simulate(exposure, detector, GEOMETRIES[geometry], margin_mm, seed, index)
    series = f"scenario {scenario}, {geometry}, margin {margin_mm:g} mm, seed {seed}"
    write_dicom(
        path, image.counts, exposure, detector, image_name=path.stem, series_name=series, instance_number=index + 1
    )


def _simulate(options: argparse.Namespace) -> None:
    paths = [options.out / f"scenario_{options.scenario}_{index:03d}.dcm" for index in range(options.images)]
    tasks = [
        (options.scenario, options.geometry, options.margin_mm, options.seed, index, path)
        for index, path in enumerate(paths)
    ]
    for _ in _each(_simulate_one, tasks, options.jobs, "simulating"):
        pass
    print(f"{len(paths)} simulated images: {paths[0]} ... {paths[-1].name}")
    print(f"read them with: xiqa read {options.out} --out OUT")


if __name__ == "__main__":
    sys.exit(main())
