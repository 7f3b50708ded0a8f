"""Cardiac cine (LVOT, Özer): four-chamber 2-D+t NIfTI per patient, one label per frame.

The set is closed; this is the layout that is expected:

    labels.csv               columns patient, frame (from 0), label (1: the outflow tract shows, 0: good)
    cine/<patient>.nii.gz    (x, y, t) or (x, y, 1, t)
    masks/<patient>.nii.gz   same shape, non-zero on the outflow tract; a missing file: no ground truth

`patient` is the stem of the file's name, and must be a number or pseudonym: image ids are made of it.
"""

from __future__ import annotations

import re
import zlib
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Record, Records, box_of, inside
from xiqa.datasets.folder import read_rows

CLASSES = ("good", "lvot")
_MM = {"meter": 1000.0, "micron": 0.001}


def read(folder: Path, dataset: Dataset) -> Records:
    """List all frames, patient by patient in the order of the table.

    Raises:
        DataError: labels.csv is missing or lacks a column; `classes` are not two.
    """
    table, names = folder / "labels.csv", dataset.classes or CLASSES
    if len(names) != 2:
        raise DataError(folder, f"found classes {', '.join(names)}, expected two: without and with the outflow tract")
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
    for path in sorted((folder / "cine").glob("[!.]*.nii.gz")):
        if path.name.removesuffix(".nii.gz") not in patients:
            yield DataError(path, f"has no row in {table.name}; label its frames or take it out")


def _frames(folder: Path, table: Path, patient: str, labels: dict[int, int], names: tuple[str, ...]) -> Records:
    try:
        if not re.fullmatch(r"[\w.-]+", patient):
            raise DataError(table, "found a patient that is empty or no plain file name, expected the stem of a file")
        cine = inside(folder, f"cine/{patient}.nii.gz", table)
        shape = nifti_shape(cine)
        mask = folder / "masks" / cine.name
        if not mask.exists():
            mask = None
        elif (found := nifti_shape(inside(folder, f"masks/{cine.name}", table))) != shape:
            raise DataError(mask, f"found a mask of {found}, expected {shape} (rows, columns, frames) as the cine")
    except DataError as fault:
        yield fault
        return
    for frame in sorted({*range(shape[2]), *labels}):
        if frame >= shape[2]:
            yield DataError(cine, f"found {shape[2]} frames, but {table.name} has frame {frame}, counted from 0")
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
    pixels, spacing_mm = read_nifti_slice(cine, frame)
    mask = None if mask_path is None else read_nifti_slice(mask_path, frame)[0] != 0
    boxes = () if mask is None else box_of(mask)
    header = {"rows": float(pixels.shape[0]), "columns": float(pixels.shape[1])}
    return Loaded(pixels, mask, boxes, spacing_mm, header)


def nifti_shape(path: Path) -> tuple[int, int, int]:
    """Rows, columns and frames of a NIfTI image (x, y), (x, y, t) or (x, y, 1, t), from its header.

    Raises:
        DataError: no NIfTI, or another shape.
    """
    return _opened(path)[1]


def read_nifti_slice(path: Path, index: int = 0) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Read one frame without loading the others.

    The rule of orientation: the first axis of the file (x) runs along the columns, the second (y) along the rows, both
    as stored. The affine matrix turns nothing: an oblique cardiac plane has no canonical direction.

    Args:
        path: the file.
        index: frame or slice, from 0.

    Returns:
        (h, w) float32, and the distance of rows and of columns in mm (None if the header has none).

    Raises:
        DataError: no NIfTI, another shape, no such frame, truncated, or not finite.
    """
    image, shape = _opened(path)
    if not 0 <= index < shape[2]:
        raise DataError(path, f"found {shape[2]} frames, expected one with index {index}")
    place = {2: (), 3: (index,), 4: (0, index)}[image.ndim]
    try:
        pixels = np.asarray(image.dataobj[(slice(None), slice(None), *place)], np.float32).T
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(path, f"frame {index} cannot be read ({type(error).__name__}); copy the file again") from None
    if not np.isfinite(pixels).all():
        raise DataError(path, f"found NaN or infinity in frame {index}, expected numbers; export it again")
    factor = _MM.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = tuple(float(zoom) * factor for zoom in reversed(image.header.get_zooms()[:2]))
    return np.ascontiguousarray(pixels), spacing if all(0 < value < np.inf for value in spacing) else None


def _opened(path: Path) -> tuple[nib.Nifti1Image, tuple[int, int, int]]:
    try:
        image = nib.Nifti1Image.from_filename(path)
    except Exception:  # nibabel raises many kinds for what is no header
        raise DataError(path, "the header cannot be read, expected NIfTI; copy or export the file again") from None
    shape = image.shape
    if image.get_data_dtype().kind not in "iuf" or not (len(shape) in (2, 3) or (len(shape) == 4 and shape[2] == 1)):
        raise DataError(path, f"found {shape} {image.get_data_dtype()}, expected grey values (x, y, t) or (x, y, 1, t)")
    return image, (shape[1], shape[0], shape[-1] if len(shape) > 2 else 1)
