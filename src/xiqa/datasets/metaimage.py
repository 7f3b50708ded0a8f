"""Reading MetaImage volumes (.mhd with .raw, .mha), whole or one slice at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from xiqa.datasets.base import DataError, inside


@dataclass(frozen=True)
class MetaHeader:
    """What a MetaImage says of itself.

    Attributes:
        shape: slices, rows, columns.
        spacing_mm: distance between slices, rows and columns.
        files: the header's file, and that of the data where it is another.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    files: tuple[Path, ...]


def metaimage_header(path: Path) -> MetaHeader:
    """Read and check the header of a volume of transverse slices, without its pixels.

    Raises:
        DataError: no MetaImage, not three-dimensional, colour, slices that are not transverse, data file missing,
            outside the folder or of another size than the header says.
    """
    path = Path(path)
    fields = _fields(path)
    reader = _reader(path)
    size = reader.GetSize()
    if len(size) != 3 or reader.GetNumberOfComponents() != 1:
        raise DataError(
            path, f"found size {size} × {reader.GetNumberOfComponents()} values, expected a grey volume (x, y, z)"
        )
    direction = reader.GetDirection()
    if min(abs(direction[0]), abs(direction[4])) < math.sqrt(0.5):
        raise DataError(path, "found slices that are not transverse (TransformMatrix); turn the volume")
    name, files = fields["ElementDataFile"], (path,)
    if name.upper() != "LOCAL":
        if name.upper() == "LIST" or "%" in name:
            raise DataError(path, f"found the data spread over files ({name}), expected one .raw file")
        files = (path, inside(path.parent, name, path))
        expected = math.prod(size) * sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        found = files[1].stat().st_size
        # With a header of its own or compression, the size of the data file says nothing.
        plain = "HeaderSize" not in fields and fields.get("CompressedData", "False").lower() == "false"
        if plain and found != expected:
            raise DataError(files[1], f"found {found} bytes, expected {expected} for {size} pixels of {path.name}")
    spacing = tuple(float(value) for value in reversed(reader.GetSpacing()))
    return MetaHeader(tuple(reversed(size)), spacing, files)


def read_metaimage(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Read a whole volume.

    Rows run to the back of the patient and columns to the left, as in transverse DICOM images: axes that the header
    turns round are turned back. The order of the slices is the file's.

    Returns:
        (slices, h, w) float32 and the spacing in mm of slices, rows, columns.

    Raises:
        DataError: as `metaimage_header`; data that cannot be read, or are not finite.
    """
    header = metaimage_header(path)
    return _pixels(path, None), header.spacing_mm


def read_metaimage_slice(path: Path, index: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Read one slice without the others (compressed data must be read whole).

    Returns:
        (h, w) float32, turned as by `read_metaimage`, and the spacing in mm of rows and columns.

    Raises:
        DataError: as `read_metaimage`; no slice has this index.
    """
    header = metaimage_header(path)
    if not 0 <= index < header.shape[0]:
        raise DataError(path, f"found {header.shape[0]} slices, expected one with index {index}")
    return _pixels(path, index)[0], header.spacing_mm[1:]


def _fields(path: Path) -> dict[str, str]:
    """The `key = value` lines up to the one that says where the data are."""
    fields: dict[str, str] = {}
    try:
        with open(path, "rb") as file:
            for _ in range(200):
                key, _, value = file.readline(10_000).decode("latin-1").partition("=")
                fields[key.strip()] = value.strip()
                if key.strip() == "ElementDataFile":
                    return fields
    except OSError as error:
        raise DataError(path, f"cannot be opened ({error.strerror}); restore it") from None
    raise DataError(path, "found no line ElementDataFile, expected a MetaImage header")


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise DataError(path, "the header cannot be read, expected a MetaImage; export it again") from None
    return reader


def _pixels(path: Path, index: int | None) -> np.ndarray:
    reader = _reader(path)
    if index is not None:
        columns, rows, _ = reader.GetSize()
        reader.SetExtractIndex([0, 0, index])
        reader.SetExtractSize([columns, rows, 1])
    try:
        volume = sitk.GetArrayFromImage(reader.Execute()).astype(np.float32)
    except RuntimeError:
        raise DataError(path, "the pixels cannot be read: truncated or damaged; copy the files again") from None
    if not np.isfinite(volume).all():
        raise DataError(path, "found NaN or infinity among the pixels, expected numbers; export it again")
    direction = reader.GetDirection()
    return np.ascontiguousarray(volume[:, :: 1 if direction[4] > 0 else -1, :: 1 if direction[0] > 0 else -1])
