"""Cardiac cine (LVOT, Özer): four-chamber 2-D+t NIfTI per patient, one label per frame.

The set is closed; this is the layout that is expected:

    labels.csv               columns patient, frame (from 0), label (1: the outflow tract shows, 0: good)
    cine/<patient>.nii.gz    (x, y, t) or (x, y, 1, t)
    masks/<patient>.nii.gz   same shape and place, on the outflow tract; a missing file: no ground truth

`patient` is the stem of the file's name, and must be a number or pseudonym: image ids are made of it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Record, Records, box_of
from xiqa.datasets.folder import read_rows
from xiqa.datasets.limits import with_rules
from xiqa.datasets.masks import check_same_place, inside_of
from xiqa.datasets.paths import files_below, if_there, inside
from xiqa.datasets.volumes import open_volume

CLASSES = ("good", "lvot")


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List all frames, patient by patient in the order of the table.

    Raises:
        DataError: labels.csv is missing or lacks a column.
    """
    table, names = folder / "labels.csv", dataset.classes or CLASSES
    if not table.is_file():
        raise DataError(table, "is missing; set `path` to the folder that has it")
    patients: dict[str, dict[int, int]] = {}
    for number, row in read_rows(table, ("patient", "frame", "label")):
        if isinstance(row, DataError):
            yield row
            continue
        labels, frame = patients.setdefault(row["patient"], {}), row["frame"]
        if not frame.isdecimal() or row["label"] not in ("0", "1"):
            found = f"frame '{frame}' and label '{row['label']}'"
            yield DataError(table, f"row {number}: found {found}, expected a number from 0, and 0 (good) or 1 (LVOT)")
        elif int(frame) in labels:
            yield DataError(table, f"row {number}: found this frame a second time, expected one label; keep one")
        else:
            labels[int(frame)] = int(row["label"])
    for patient, labels in patients.items():
        yield from _frames(folder, table, patient, labels, names)
    for path in files_below(folder / "cine", ".nii.gz"):
        if isinstance(path, DataError):
            yield path
        elif path.name.removesuffix(".nii.gz") not in patients:
            yield DataError(path, f"has no row in {table.name}; label its frames or take it out")


def _frames(folder: Path, table: Path, patient: str, labels: dict[int, int], names: tuple[str, ...]) -> Records:
    try:
        if not re.fullmatch(r"[\w.-]+", patient):
            raise DataError(table, "found a patient that is empty or no plain file name, expected the stem of a file")
        cine = inside(folder, f"cine/{patient}.nii.gz", table)
        volume = open_volume(cine)
        shape = volume.shape
        mask = if_there(folder / "masks" / cine.name, table)
        if mask is not None:
            other = open_volume(mask)
            if other.shape != shape:
                expected = f"expected {shape} (frames, rows, columns) as the cine"
                raise DataError(mask, f"found a mask of {other.shape}, {expected}")
            check_same_place(mask, other.place(0), volume.place(0), shape[1:])
    except DataError as fault:
        yield fault
        return
    for frame in sorted({*range(shape[0]), *labels}):
        if frame >= shape[0]:
            yield DataError(cine, f"found {shape[0]} frames, but {table.name} has frame {frame}, counted from 0")
        elif frame not in labels:
            yield DataError(cine, f"frame {frame} has no usable row in {table.name}; label it")
        else:
            yield Record(
                image=f"{patient}-{frame:03d}",
                patient=patient,
                label=labels[frame],
                label_name=names[labels[frame]],
                files=(cine,) if mask is None else (cine, mask),
                load=partial(_load, cine, mask, frame),
                extra={"frame": frame},
            )


def _load(cine: Path, mask_path: Path | None, frame: int) -> Loaded:
    loaded = open_volume(cine).slice(frame)
    mask = None if mask_path is None else inside_of(mask_path, open_volume(mask_path).slice(frame).pixels)
    boxes = () if mask is None else box_of(mask)
    header: dict[str, float | str] = dict(zip(("rows", "columns"), map(float, loaded.pixels.shape), strict=True))
    return replace(loaded, mask=mask, boxes=boxes, header=header)
