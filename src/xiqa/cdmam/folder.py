"""The images of the phantom in a folder: found by their content, wherever an export has put them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage
from pydicom.valuerep import PersonName

from xiqa.cdmam.dicom import MODALITIES
from xiqa.datasets.base import DataError, faults_named
from xiqa.datasets.dicom_file import is_dicom, open_dicom

SUFFIXES = {".dcm", ".dicom", ".dic", ".dc3", ".ima"}
"""Endings that say what a file is, and are no part of its name; the last number of an identifier (UID) is one."""
_WORD = re.compile(r"[^\W_]+")
_PATIENT = "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames"
_PHANTOM = {
    "anonymised", "anonymized", "anonymous", "artinis", "assurance", "cdmam", "cdmam34", "cdmam40", "control", "image",
    "images", "mammo", "mammography", "none", "patient", "phantom", "quality", "series", "simulated", "study", "test",
    "unknown",
}  # fmt: skip


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

    `find_all` keeps words that name a patient out of `names` and `shown`.
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
    paths: list[Path] = []
    names: list[str] = []
    others: dict[Path, str] = {}
    shown: dict[Path, str] = {}
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
    withheld = withhold_patients([*paths, *others])
    names = [withheld(name) for name in names]
    _refuse_equal_names(Path(places[0]), names)
    return Images(paths, names, others, {path: withheld(label) for path, label in shown.items()})


def withhold_patients(paths: Iterable[Path]) -> Callable[[str], str]:
    """What takes words that name a patient out of the name of a file or folder.

    Such a word is part of the patient's name, an id, or a date of birth in the header of any of the files, of three
    characters or more; it becomes `withheld-1`, `withheld-2` and so on, in another spelling `withheld-1.2`, so that
    names stay apart. Words that say that the patient is a phantom stay.

    Args:
        paths: files; those that are no DICOM tell nothing.
    """
    words: set[str] = set()
    paths = sorted(paths)
    for path in paths:
        try:
            with faults_named(path, quote=False):
                data = open_dicom(path, _PATIENT)
        except DataError:
            continue
        for keyword in _PATIENT:
            values = data.get(keyword) or ""
            for value in [values] if isinstance(values, (str, PersonName)) else values:
                words |= {_folded(word) for word in _WORD.findall(normalize("NFC", str(value)))}
    listed = sorted((word for word in words - _PHANTOM if len(word) >= 3), key=lambda word: (-len(word), word))
    if not listed:
        return lambda name: name
    spellings: dict[str, list[str]] = {word: [] for word in listed}

    def number(match: re.Match[str]) -> str:
        written, word = match[0], _folded(match[0])
        if word not in spellings:
            return written
        known = spellings[word]
        if written not in known:
            known.append(written)
        variant = f".{known.index(written) + 1}" if written != known[0] else ""
        return f"withheld-{listed.index(word) + 1}{variant}"

    def withheld(name: str) -> str:
        return _WORD.sub(number, normalize("NFC", name))

    for path in paths:  # whichever name is asked for first, each keeps its number
        withheld(str(path))
    return withheld


def _folded(word: str) -> str:
    """A word whatever its case and form: Weiß, WEISS; ü as one character or as two."""
    return normalize("NFKC", word).casefold()


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
