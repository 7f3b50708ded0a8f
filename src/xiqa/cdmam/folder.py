"""The images of the phantom in a folder: found by their content, wherever an export has put them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage

from xiqa.cdmam.dicom import MODALITIES
from xiqa.datasets.base import DataError, faults_named
from xiqa.datasets.dicom_file import is_dicom, open_dicom

SUFFIXES = {".dcm", ".dicom", ".dic", ".dc3", ".ima"}
"""Endings that say what a file is, and are no part of its name; the last number of an identifier (UID) is one."""


@dataclass(frozen=True)
class Images:
    """What a folder holds.

    Attributes:
        paths: the DICOM images, in the order of their names in the folder.
        names: a name for each, the same in every copy of the folder: its path without a known suffix, folders joined
            by `_`.
        others: files that are none -> why; nobody has to sort them out first.
        shown: path -> what it is called in results and messages: its path in the folder. Where the folder lies in the
            machine, and whose it is, is nobody's business.
    """

    paths: list[Path]
    names: list[str]
    others: dict[Path, str]
    shown: dict[Path, str]


def find_all(places: Sequence[str | os.PathLike], *, without: Path | None = None) -> Images:
    """Find the DICOM images in several folders and among single files, each file once.

    Args:
        places: folders, searched as `find_images` does, and files.
        without: a folder that is not searched, such as that of the results.

    Raises:
        DataError: as of `find_images`; a single file that is no image; or nothing given.
    """
    if not places:
        raise ValueError("found no folder and no file, expected at least one with DICOM images")
    several, seen = len(places) > 1, set()
    paths, names, others, shown = [], [], {}, {}
    for place in map(Path, places):
        if place.is_dir():
            found = find_images(place, without=without)
        elif not place.exists():
            raise DataError(place, "found no such folder or file, expected DICOM images")
        elif reason := _no_image(place):
            raise DataError(place, f"found {reason}, expected a DICOM image")
        else:
            found = Images([place], [_without_suffix(Path(place.name)).name], {}, {place: place.name})
        head = place.resolve().name if several and place.is_dir() else ""
        for path, name in zip(found.paths, found.names, strict=True):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                paths.append(path)
                names.append(f"{head}_{name}" if head else name)
        others |= {path: reason for path, reason in found.others.items() if path.resolve() not in seen}
        seen |= {path.resolve() for path in found.others}
        shown = {path: f"{head}/{label}" if head else label for path, label in found.shown.items()} | shown
    _refuse_equal_names(Path(places[0]), names)
    return Images(paths, names, others, shown)


def find_images(folder: str | os.PathLike, *, without: Path | None = None) -> Images:
    """Find the DICOM images in a folder and all folders below it.

    A file is known by its content, not by its name: exports name images by number or identifier, without a suffix, and
    add an index (DICOMDIR), a viewer, thumbnails and notes. Hidden files and folders are passed over. What is DICOM
    and names an image of any kind counts as an image, so that one that cannot be read is told, not left out.

    Args:
        folder: the folder.
        without: a folder inside it that is not searched, such as that of the results.

    Raises:
        DataError: no such folder, no file in it, no DICOM image among the files, or two images of the same name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, "found no such folder, expected a folder of DICOM images")
    paths, others = [], {}
    for path in sorted(_files(folder, without.resolve() if without else None)):
        reason = _no_image(path)
        if reason:
            others[path] = reason
        else:
            paths.append(path)
    if not paths and not others:
        raise DataError(folder, "found no files, expected DICOM images")
    if not paths:
        first = next(iter(others))
        raise DataError(
            folder, f"found {len(others)} files and no DICOM image among them, such as {first.name}: {others[first]}"
        )
    names = ["_".join(_without_suffix(path.relative_to(folder)).parts) for path in paths]
    _refuse_equal_names(folder, names)
    return Images(paths, names, others, {path: path.relative_to(folder).as_posix() for path in (*paths, *others)})


def _refuse_equal_names(folder: Path, names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            folder, f"found several files named {', '.join(twice)} (with any suffix), expected one of each; rename them"
        )


def _files(folder: Path, without: Path | None) -> Iterator[Path]:
    """All files below a folder, without hidden ones; linked folders are not entered."""
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".") and (here / name).resolve() != without]
        yield from (here / name for name in names if not name.startswith(".") and (here / name).is_file())


def _no_image(path: Path) -> str:
    """Why a file is no DICOM image; empty where it is one, or should be: whoever reads it says what it lacks."""
    if not is_dicom(path):
        return "no DICOM file by its content"
    try:
        with faults_named(path, quote=False):
            with path.open("rb") as stream:
                marked = stream.read(132)[128:] == b"DICM"
            if marked and read_file_meta_info(path).get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                return "an index of the medium (DICOMDIR), no image"
            data = open_dicom(path, ("Modality",))
    except DataError:
        return ""
    if "Rows" in data or data.get("Modality") in MODALITIES:
        return ""
    return f"a DICOM object that holds no image (modality {data.get('Modality')})"


def _without_suffix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
