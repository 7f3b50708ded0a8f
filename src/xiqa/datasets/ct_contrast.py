"""CT with and without contrast agent (Brocki 2022), in Hounsfield units, from three layouts told apart by their files.

    overview.csv + dicom_dir/*.dcm   single slices; columns contrast, id, dicom_name; patient from the DICOM header.
                                     Its raw_input_path is never followed; a labels.csv beside it is not needed.
    labels.csv + volumes             .mhd/.raw (LNDb), .mha, .nii or .nii.gz; columns file, contrast, and patient (else
                                     the file's stem).
    labels.csv + DICOM in any nest   series (LIDC-IDRI); columns contrast and one of file, series (SeriesInstanceUID)
                                     or patient (PatientID); beside file or series, patient replaces the header's.
                                     By file, the table is the list: other files are no part of the study.

contrast is 0 or 1. Optional ground truth: masks/NAME.png, .nii.gz or .npy of the slice's size, NAME being the id of
the image, or the path of its DICOM file without suffix (inside the data folder, or inside dicom_dir); of volumes also
masks/STEM with a suffix of volumes, STEM being that of the volume's name.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Record, Records
from xiqa.datasets.dicom_file import is_dicom
from xiqa.datasets.dicom_image import OUTSIDE_HU, SliceKey, fill_outside, read_dicom_image, series_key
from xiqa.datasets.folder import MISSING, read_rows, records
from xiqa.datasets.images import read_mask
from xiqa.datasets.limits import with_rules
from xiqa.datasets.paths import files_below, if_there, inside
from xiqa.datasets.volumes import open_volume

CLASSES = ("no contrast", "contrast")
MASK_OF = "heart and vessels"
"""Where contrast agent shows if there is any; images without it have the mask as well."""
VOLUMES = (".mhd", ".mha", ".nii", ".nii.gz")
MASKS = (".png", ".nii.gz", ".npy")
_LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}
_Member = tuple[SliceKey, Path, str]
"""A slice of a series, its file, and what the table would call it."""


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List the slices.

    Image ids are ID_0000 with the id of the overview; for volumes the stem of the file with the index of the slice;
    series-0001-0000 for DICOM series, numbered in the order of their files, with the index of the slice.

    Raises:
        DataError: there is no table, or it lacks a column.
    """
    names = dataset.classes or CLASSES
    overview, table = folder / "overview.csv", folder / "labels.csv"
    if overview.is_file():
        rows = read_rows(overview, ("contrast", "id", "dicom_name"))
        yield from records(rows, partial(_single_slice, folder, overview, names))
    elif not table.is_file():
        raise DataError(table, "is missing, and so is overview.csv; set `path` to the folder of one of them")
    elif any(isinstance(path, Path) for path in _files(folder, *VOLUMES)):
        yield from _from_volumes(folder, table, names, dataset.slices)
    else:
        yield from _from_series(folder, table, names, dataset.slices)


def chosen_slices(slices: int, which: Literal["two", "all"]) -> list[int]:
    """Indices of the slices that are taken from a series.

    "two" takes those at one and two thirds: in a thorax both show the heart or great vessels, whatever the distance
    of slices and whichever end comes first, and they lie too far apart to be near copies of each other.

    Args:
        slices: how many the series has, 1 or more.
        which: "two" (a single slice is taken once) or "all".
    """
    return list(range(slices)) if which == "all" else sorted({slices // 3, 2 * slices // 3})


def _single_slice(folder: Path, table: Path, names: tuple[str, ...], number: int, row: dict[str, str]) -> Record:
    if not row["id"].isdecimal():
        raise DataError(table, f"row {number}: found id '{row['id']}', expected a number")
    label = _label(table, number, row)
    path = inside(folder / "dicom_dir", row["dicom_name"], table)
    image = f"ID_{int(row['id']):04d}"
    load, mask = partial(read_dicom_image, path), _mask(folder, image, path.relative_to(folder / "dicom_dir"))
    return _record(names, label, image, series_key(path).patient, (path,), load, mask)


def _from_volumes(folder: Path, table: Path, names: tuple[str, ...], which: Literal["two", "all"]) -> Records:
    used: dict[str, Path] = {}
    for number, row in read_rows(table, ("file", "contrast")):
        try:
            if isinstance(row, DataError):
                raise row
            label = _label(table, number, row)
            path = inside(folder, row["file"], table)
            stem = _stem(path)
            if not re.fullmatch(r"[\w.-]+", stem) or stem in used:
                problem = "a file listed before, or one whose name is not plain or is that of another"
                raise DataError(table, f"row {number}: found {problem}; list each once, rename files")
            used[stem] = path
            volume = open_volume(path)
            if not volume.transverse:
                raise DataError(path, "found slices that are not transverse; turn the volume")
        except DataError as fault:
            yield fault
            continue
        given = row.get("patient", "")
        patient, slices = stem if given.casefold() in MISSING else given, volume.shape[0]
        for index in chosen_slices(slices, which):
            image, load = f"{stem}-{index:03d}", partial(_volume_slice, path, index)
            try:
                mask, of_slice = _mask(folder, image), None
                if mask is None:
                    mask, of_slice = _mask(folder, stem, suffixes=VOLUMES), index
                yield _record(names, label, image, patient, volume.files, load, mask, index, slices, of_slice)
            except DataError as fault:
                yield fault
    for found in _files(folder, *VOLUMES):
        if isinstance(found, DataError):
            yield found
        elif found not in used.values():
            yield DataError(found, f"has no usable row in {table.name}; label it or take it out")


def _from_series(folder: Path, table: Path, names: tuple[str, ...], which: Literal["two", "all"]) -> Records:
    rows = read_rows(table, ("contrast",))
    heading = next((row for _, row in rows if not isinstance(row, DataError)), {"file": ""})
    column = next((name for name in ("file", "series", "patient") if name in heading), None)
    if column is None:
        raise DataError(table, f"found columns {', '.join(heading)}, expected one of file, series and patient too")
    labels: dict[str, tuple[int, int, str]] = {}
    for number, row in rows:
        try:
            if isinstance(row, DataError):
                raise row
            entry = row[column]
            if column == "file":
                entry = Path(os.path.relpath(inside(folder, entry, table), folder)).as_posix()
            if not entry or entry in labels:
                raise DataError(table, f"row {number}: found {column} empty or a second time; give one row for each")
            labels[entry] = number, _label(table, number, row), row.get("patient", "")
        except DataError as fault:
            yield fault

    series: dict[str, list[_Member]] = defaultdict(list)
    unused = set(labels)
    for path in _dicom_files(folder):
        if isinstance(path, DataError):
            yield path
            continue
        file = path.relative_to(folder).as_posix()
        if column == "file" and file not in labels:
            continue
        unused.discard(file)
        try:
            key = series_key(path)
            if key.modality != "CT" or key.localizer or not key.series:
                found = "a localizer" if key.localizer else f"modality '{key.modality}', series '{key.series}'"
                raise DataError(path, f"found {found}, expected a CT slice of a series; take it out, or on_fault: skip")
        except DataError as fault:
            yield fault
            continue
        entry = {"file": file, "series": key.series, "patient": key.patient}[column]
        unused.discard(entry)
        series[key.series].append((key, path, entry))

    for number, members in enumerate(series.values(), 1):
        try:
            ordered = _ordered(members)
            for index in chosen_slices(len(ordered), which):
                key, path, entry = ordered[index]
                if entry not in labels:
                    raise DataError(path, f"its series has no usable row in {table.name}; label it or take it out")
                _, label, given = labels[entry]
                patient = key.patient if given.casefold() in MISSING else given
                image, load = f"series-{number:04d}-{index:04d}", partial(read_dicom_image, path)
                mask = _mask(folder, image, path.relative_to(folder))
                yield _record(names, label, image, patient, (path,), load, mask, index, len(ordered))
        except DataError as fault:
            yield fault
    # Entries can be ids of patients: only the number of the row is told.
    for place in sorted(labels[entry][0] for entry in unused):
        yield DataError(table, f"row {place}: found no DICOM file for this {column}; restore it, or take the row out")


def _ordered(members: list[_Member]) -> list[_Member]:
    """A series by position along its normal, or by number where positions are missing."""
    if all(key.position_mm is not None for key, *_ in members):
        return sorted(members, key=lambda member: (member[0].position_mm, member[0].number or 0, member[1]))
    if all(key.number is not None for key, *_ in members):
        return sorted(members, key=lambda member: (member[0].number, member[1]))
    raise DataError(members[0][1], "its series has slices with neither position nor number; take it out")


def _label(table: Path, number: int, row: dict[str, str]) -> int:
    label = _LABELS.get(row["contrast"].casefold())
    if label is None:
        raise DataError(table, f"row {number}: found contrast '{row['contrast']}', expected 0 (without) or 1 (with)")
    return label


def _record(
    names: tuple[str, ...],
    label: int,
    image: str,
    patient: str,
    files: tuple[Path, ...],
    load: Callable[[], Loaded],
    mask: Path | None,
    index: int = 0,
    slices: int = 1,
    of_slice: int | None = None,
) -> Record:
    """The record of a slice; its mask is a file of its own, or `of_slice` of one with a whole volume."""
    return Record(
        image=image,
        patient=patient,
        label=label,
        label_name=names[label],
        files=files if mask is None else (*files, mask),
        load=load if mask is None else partial(_with_mask, load, mask, of_slice),
        mask_of=MASK_OF,
        extra={"slice": index, "slices": slices},
    )


def _with_mask(load: Callable[[], Loaded], path: Path, index: int | None) -> Loaded:
    loaded = load()
    return replace(loaded, mask=read_mask(path, loaded, index=index))


def _volume_slice(path: Path, index: int) -> Loaded:
    loaded = open_volume(path).slice(index)
    pixels = fill_outside(path, loaded.pixels, loaded.pixels < OUTSIDE_HU)
    return replace(loaded, pixels=pixels, header={"rows": float(len(pixels))})


def _mask(folder: Path, image: str, file: Path | None = None, suffixes: tuple[str, ...] = MASKS) -> Path | None:
    names = [image] if file is None else [image, file.with_suffix("").as_posix()]
    paths = (folder / "masks" / f"{name}{suffix}" for name in names for suffix in suffixes)
    return next((path for path in paths if if_there(path, folder) is not None), None)


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem


def _files(folder: Path, *suffixes: str) -> Iterator[Path | DataError]:
    for path in files_below(folder, *suffixes):
        if isinstance(path, DataError) or path.relative_to(folder).parts[0] != "masks":
            yield path


def _dicom_files(folder: Path) -> Iterator[Path | DataError]:
    """All files named .dcm, and those that begin as DICOM does, whatever their name, but for the index DICOMDIR."""
    for path in _files(folder):
        if isinstance(path, DataError) or (
            path.name != "DICOMDIR" and (path.suffix.lower() == ".dcm" or is_dicom(path))
        ):
            yield path
