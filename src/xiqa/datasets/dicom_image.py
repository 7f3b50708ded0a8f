"""Reading one greyscale DICOM image of any modality, and from its header alone where a slice belongs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from xiqa.datasets.base import DataError, Loaded, faults_named
from xiqa.datasets.dicom_file import open_dicom, stored_pixels
from xiqa.datasets.orientation import NOWHERE, Place, Turn, standard_turn

OUTSIDE_HU = -1500.0
"""A CT value below it is no tissue but a mark of "outside the scanned circle" (-2000, -2048, -3024): air has -1000, and
its noise stays well above."""


@dataclass(frozen=True)
class SliceKey:
    """Where a slice belongs.

    Attributes:
        patient: PatientID; empty where the file has none. Never for a message or a file's name.
        series: SeriesInstanceUID; empty where the file has none.
        modality: such as "CT".
        localizer: True for a scout view.
        position_mm: position along the normal of the slice; None where the file does not say.
        number: InstanceNumber; None where the file does not say.
    """

    patient: str
    series: str
    modality: str
    localizer: bool
    position_mm: float | None
    number: int | None


def read_dicom_image(path: Path) -> Loaded:
    """Read the pixels and the telling fields of the header of one greyscale image.

    Stored values pass the modality transformation (rescale slope and intercept, or its table): Hounsfield units for
    CT. The window of the file (VOI LUT) is not applied: it is a wish for display that clips, and differs from file to
    file; one window for all images is applied when they are prepared. MONOCHROME1 is turned round within the range of
    the stored type, so that bright is large; not for CT, where the unit settles it.

    Pixels that are no image become the smallest value of those that are: stored values equal to PixelPaddingValue (or
    between it and PixelPaddingRangeLimit), and in CT also all below `OUTSIDE_HU`, because scanners write such marks
    without declaring them.

    A slice whose file says how it lies in the patient is turned into the standard orientation of `orientation`, as
    slices of volumes are; projections, which do not say it, lie as stored.

    Returns:
        `header` has, where the file has them: kvp, slice_thickness_mm, manufacturer, body_part; and always rows and
        contrast_tag (1 if a contrast agent is named). `full_scale` is set for unsigned values without rescaling.

    Raises:
        DataError: no DICOM, no pixels, truncated, several frames, colour, a compressed transfer syntax without its
            decoder, CT without a rescale slope, or annotations burned into the pixels.

    Reference: DICOM PS3.3, C.7.5.1.1.2 (padding), C.7.6.3 (pixels), C.11.1 (modality transformation).
    """
    with faults_named(path, quote=False):
        return _loaded(path, open_dicom(path))


def fill_outside(path: Path, pixels: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Give pixels that are no image the smallest value of those that are.

    Args:
        path: the file, for the message.
        pixels: (h, w) float32.
        outside: (h, w) bool.

    Raises:
        DataError: nothing is left, or what is left is not finite.
    """
    if outside.all():
        raise DataError(path, "found padding in all pixels, expected an image; leave it out")
    if not np.isfinite(pixels[~outside]).all():
        raise DataError(path, "found NaN or infinity among the pixels, expected numbers; export it again")
    return np.where(outside, pixels[~outside].min(), pixels)


def series_key(path: Path) -> SliceKey:
    """Read where a slice belongs, without its pixels.

    Raises:
        DataError: no DICOM, or an incomplete header.
    """
    place = ["InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"]
    tags = ["PatientID", "SeriesInstanceUID", "Modality", "ImageType", *place]
    with faults_named(path, quote=False):
        data = open_dicom(path, tags)
        number = _number(data.get("InstanceNumber"))
        return SliceKey(
            patient=str(data.get("PatientID") or "").strip(),
            series=str(data.get("SeriesInstanceUID") or "").strip(),
            modality=str(data.get("Modality") or "").strip(),
            localizer="LOCALIZER" in (data.get("ImageType") or ()),
            position_mm=_position(data),
            number=None if number is None else int(number),
        )


def _loaded(path: Path, data: Dataset) -> Loaded:
    if str(data.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        problem = "found BurnedInAnnotation YES: the pixels may show a patient's name"
        raise DataError(path, f"{problem}; take it out, or on_fault: skip")
    stored = stored_pixels(path, data)
    is_ct = data.get("Modality") == "CT"
    if is_ct and not (_number(data.get("RescaleSlope")) and _number(data.get("RescaleIntercept")) is not None):
        raise DataError(path, "found CT without rescale slope and intercept, expected both: they give Hounsfield units")
    bits, signed = int(data.BitsStored), int(data.PixelRepresentation)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    pixels = apply_modality_lut(stored, data).astype(np.float32)
    low, high = (float(end) for end in apply_modality_lut(ends, data))
    outside = _padding(stored, data)
    if is_ct:
        outside |= pixels < OUTSIDE_HU
    elif data.PhotometricInterpretation == "MONOCHROME1":
        pixels = np.float32(low + high) - pixels
    unchanged = not signed and (low, high) == tuple(ends)
    affine, spacing_mm = _affine(data), _spacing(data)
    turn = standard_turn(affine)
    return Loaded(
        pixels=np.ascontiguousarray(turn.pixels(fill_outside(path, pixels, outside))),
        spacing_mm=spacing_mm and turn.pair(*spacing_mm),
        header=_header(data),
        full_scale=high if unchanged and not is_ct else None,
        place=NOWHERE if affine is None else Place(turn.affine(affine, pixels.shape), turn != Turn()),
    )


def _padding(stored: np.ndarray, data: Dataset) -> np.ndarray:
    value, limit = _number(data.get("PixelPaddingValue")), _number(data.get("PixelPaddingRangeLimit"))
    if value is None:
        return np.zeros(stored.shape, bool)
    # Signed values are often declared as unsigned (63536 for -2000): the cast wraps them round.
    ends = np.array([value, value if limit is None else limit]).astype(np.int64).astype(stored.dtype)
    return (stored >= ends.min()) & (stored <= ends.max())


def _spacing(data: Dataset) -> tuple[float, float] | None:
    try:
        rows, columns = (float(value) for value in data.get("PixelSpacing") or data.get("ImagerPixelSpacing"))
    except (TypeError, ValueError):
        return None
    return (rows, columns) if 0 < rows < math.inf and 0 < columns < math.inf else None


def _affine(data: Dataset) -> np.ndarray | None:
    """(4, 4) from (column, row, 0, 1) as stored to mm; None where the file does not say how the slice lies."""
    try:
        axes = np.array(data.get("ImageOrientationPatient"), float).reshape(2, 3)
        rows_mm, columns_mm = (float(value) for value in data.get("PixelSpacing"))
        position = np.array(data.get("ImagePositionPatient"), float).reshape(3)
    except (TypeError, ValueError):
        return None
    affine = np.eye(4)
    affine[:3] = np.column_stack([axes[0] * columns_mm, axes[1] * rows_mm, np.zeros(3), position])
    plane = np.linalg.norm(np.cross(*affine[:3, :2].T))
    return affine if np.isfinite(affine).all() and plane > 0 else None


def _position(data: Dataset) -> float | None:
    try:
        axes = np.array(data.get("ImageOrientationPatient"), float).reshape(2, 3)
        position = float(np.cross(*axes) @ np.array(data.get("ImagePositionPatient"), float))
    except (TypeError, ValueError):
        return None
    return position if math.isfinite(position) else None


def _header(data: Dataset) -> dict[str, float | str]:
    numbers = {"kvp": "KVP", "slice_thickness_mm": "SliceThickness"}
    texts = {"manufacturer": "Manufacturer", "body_part": "BodyPartExamined"}
    header: dict[str, float | str | None] = {name: _number(data.get(tag)) for name, tag in numbers.items()}
    header |= {name: str(data.get(tag) or "").strip() for name, tag in texts.items()}
    known = {name: value for name, value in header.items() if value is not None and value != ""}
    agent = str(data.get("ContrastBolusAgent") or "").strip()
    return {**known, "contrast_tag": float(bool(agent)), "rows": float(data.Rows)}


def _number(value) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
