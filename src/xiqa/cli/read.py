"""`xiqa read`: from folders of images to a record of each exposure setting."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from xiqa.cdmam.folder import find_all
from xiqa.cdmam.grid import decimate
from xiqa.cdmam.phantom import VERSIONS
from xiqa.cdmam.reader import is_compiled
from xiqa.cli.common import VERBS, cores, count, each, number, point
from xiqa.qc.analysis import Analysis, analyse, few
from xiqa.qc.limits_file import load_limits
from xiqa.qc.load import Found, ReadImage, Unread, keep_each_once, read_recording, settings_of
from xiqa.qc.record import Options
from xiqa.qc.summary import summary

EXIT_CODES = {"exceeded": 3, "not determined": 4, "met": 0}
"""Exit code of each verdict, the worst first: of several settings it counts. 1 is an error, 2 a wrong option."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa read`."""
    read = commands.add_parser(
        "read",
        help=VERBS["read"],
        description="Reads every DICOM image in the folders and those below them, known by its content, and sorts them "
        "by exposure setting. Writes for each setting results.json, curve.csv, figures and qa.pdf, and per image "
        "NAME.corner.txt and NAME.centre.txt (1 hit, 2 miss, -1 no cell); what is no image is listed in skipped.csv.",
        epilog="Exit code: 0 limit met, 3 exceeded, 4 not determined, 1 error, 2 mistake in the options.",
    )
    read.add_argument("places", metavar="DIR", nargs="+", type=Path, help="folders with DICOM images, or single files")
    read.add_argument("--out", required=True, type=Path, help="folder for the results; made where it is missing")
    read.add_argument(
        "--skip-unreadable", action="store_true", help="leave out what cannot be read; list it in skipped.csv"
    )
    read.add_argument("--limits", type=Path, metavar="FILE", help="limits as YAML (default: the European limits)")
    read.add_argument(
        "--method",
        choices=("standard", "graded"),
        default="standard",
        help="standard: count hits, as the field does; graded: measure the signals, from one image or more",
    )
    read.add_argument(
        "--human",
        choices=("thickness", "contrast"),
        help="what the human-equivalent factor multiplies (default: thickness for CDMAM 3.4, contrast for 4.0)",
    )
    read.add_argument("--phantom", choices=VERSIONS, help="version of the phantom (default: what the grid shows)")
    read.add_argument("--bootstrap", type=count(0), default=500, help="bootstrap draws over images (default: 500)")
    read.add_argument("--seed", type=count(0), default=0, help="seed of the bootstrap (default: 0)")
    read.add_argument("--one-setting", action="store_true", help="take all images as one setting, whatever they say")
    read.add_argument(
        "--pixel-mm", type=number(0.02, 0.5), help="pixel size on the detector, where the files are wrong"
    )
    read.add_argument("--frame", type=count(1), help="which frame of several, such as a slice of tomosynthesis")
    read.add_argument(
        "--corners",
        type=point,
        nargs=4,
        metavar="X,Y",
        help="where the grid is not found: corners of a block of 8 × 8 cells, in pixels of the image (CDMAM 4.0: "
        "within the ten rows of large discs)",
    )
    read.add_argument(
        "--rotate",
        type=int,
        choices=range(8),
        metavar="0-7",
        help="orientation, where it is known: quarter turns counter-clockwise from large and thick on the left, small "
        "and thick on top (CDMAM 4.0: from large on top, thick on the right); plus 4 for an image that is mirrored "
        "left-right before",
    )
    read.add_argument("--json", action="store_true", help="print the records as JSON instead of words")
    read.add_argument("--no-pictures", action="store_true", help="write no figures and no PDF")
    read.add_argument("--jobs", type=count(1), default=cores(), help=f"images read at once (default: cores, {cores()})")
    read.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, analyse, write, and say what was found; returns the exit code."""
    out = options.out
    for place in options.places:
        if out.resolve() == place.resolve():
            raise ValueError(f"--out: found the folder of the images, {out}; choose another, so that images stay apart")
    settings = Options(
        method=options.method,
        human=options.human,
        bootstrap=options.bootstrap,
        seed=options.seed,
        limits=load_limits(options.limits),
    )

    # Everything is read before anything is written: a fault leaves no half of a result behind.
    found, pictures = read_all(options)
    analyses = [
        analyse(setting, settings, found.unread) for setting in settings_of(found.images, one=options.one_setting)
    ]
    from xiqa.qc.files import write_analysis, write_skipped  # matplotlib and reportlab: only here, they load slowly

    folders = [out if len(analyses) == 1 else out / analysis.setting.name for analysis in analyses]
    for analysis, folder in zip(analyses, folders, strict=True):
        write_analysis(folder, analysis, None if options.no_pictures else pictures)
    write_skipped(out, found.left_out)
    for image in found.images:  # of a run before, in which the phantom was not found
        _lost(out, image.name).unlink(missing_ok=True)
    print(_json(analyses) if options.json else _words(found, analyses, out))
    verdicts = {analysis.record.verdict for analysis in analyses}
    return next(code for verdict, code in EXIT_CODES.items() if verdict in verdicts)


def read_all(options: argparse.Namespace) -> tuple[Found, dict[str, dict[str, bytes]]]:
    """Read all images that the options name, each once; and their pictures, by name."""
    images = find_all(options.places, without=options.out)
    how = {
        "pixel_mm": options.pixel_mm,
        "frame": options.frame,
        "version": options.phantom,
        "corners_px": options.corners,
        "orientation": options.rotate,
        "graded": options.method == "graded",
    }
    work = partial(_read_and_draw, draw=not options.no_pictures, how=how)
    tasks = [(path, name, images.shown[path]) for path, name in zip(images.paths, images.names, strict=True)]
    if not is_compiled():
        print("The reader is compiled once after the installation; this takes some seconds.", file=sys.stderr)
    if not options.no_pictures:
        import xiqa.qc.overlay  # noqa: F401  it loads slowly: once, before the processes start
    decimate(np.zeros((1, 1), np.float32), 1)  # so does what the first compiled loop needs
    results: dict[int, ReadImage | Unread] = {}
    pictures: dict[str, dict[str, bytes]] = {}
    for position, (result, drawn) in each(work, tasks, options.jobs, "reading"):
        if isinstance(result, Unread):
            how_to_go_on = _how_to_go_on(result, options.out)
            if not options.skip_unreadable:
                raise ValueError(how_to_go_on)
        results[position], pictures[result.name] = result, drawn
    found = keep_each_once(images, [results[position] for position in range(len(tasks))])
    if not found.images:
        first = next(result.reason for result in results.values() if isinstance(result, Unread))
        raise ValueError(f"none of the {len(tasks)} images can be read; the first: {first}")
    return found, pictures


def _read_and_draw(path: Path, name: str, file: str, draw: bool, how: dict) -> tuple[ReadImage | Unread, dict]:
    """Read one image and draw its pictures, in a process of its own."""
    image = read_recording(path, name, file, **how)
    if not draw or isinstance(image, Unread):
        return image, {}
    from xiqa.qc.overlay import image_pictures

    return image, image_pictures(image)


def _lost(out: Path, name: str) -> Path:
    return out / f"{name}.lost.png"


def _how_to_go_on(unread: Unread, out: Path) -> str:
    """The reason why an image is not read, and what can be done; writes the picture of an image without a phantom."""
    if unread.picture is None:
        return f"{unread.reason} (nothing was written; --skip-unreadable leaves such files out)"
    from xiqa.qc.files import write_bytes
    from xiqa.qc.overlay import lost_phantom, png

    path = _lost(out, unread.name)
    write_bytes(path, png(lost_phantom(unread.picture, unread.picture_factor)))
    return (
        f"{unread.reason} ({path} shows the image with its pixels numbered; if the grid is there, give the corners of "
        "a block of 8 × 8 cells with --corners X,Y X,Y X,Y X,Y, the orientation with --rotate, the pixel size with "
        "--pixel-mm; --skip-unreadable leaves such files out)"
    )


def _json(analyses: Sequence[Analysis]) -> str:
    records = [analysis.record.to_json().rstrip("\n") for analysis in analyses]
    return f"[{','.join(records)}]"


def _words(found: Found, analyses: Sequence[Analysis], out: Path) -> str:
    """What was found, in a few lines."""
    left = found.left_out
    reasons: dict[str, list[str]] = {}
    for file, reason in left.items():
        reasons.setdefault(reason.removeprefix(f"{file}: "), []).append(file)
    return "\n".join(
        [
            f"{len(found.images)} image{'s' * (len(found.images) > 1)} read"
            + (f", {len(left)} file{'s' * (len(left) > 1)} left out (skipped.csv)" if left else ""),
            *(f"  left out: {few(files)}: {reason}" for reason, files in reasons.items()),
            *(summary(analysis.record) for analysis in analyses),
            f"results: {out}/results.json, curve.csv, qa.pdf, figures, and two matrices per image"
            if len(analyses) == 1
            else f"results: {len(analyses)} folders in {out}, one per setting",
        ]
    )
