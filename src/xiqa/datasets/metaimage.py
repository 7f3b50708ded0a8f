"""Headers of MetaImage files: .mhd with its data in another file, .mha with all in one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from xiqa.datasets.base import DataError
from xiqa.datasets.limits import ZLIB
from xiqa.datasets.paths import inside
from xiqa.datasets.volumes import Axis, Stored

_LINES, _LINE_BYTES = 200, 10_000
_LAST_KEY = "ElementDataFile"
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_MM = {"um": 0.001, "mm": 1.0, "cm": 10.0}
_SYNONYMS = {
    "BinaryDataByteOrderMSB": ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
    "TransformMatrix": ("TransformMatrix", "Orientation", "Rotation"),
    "Offset": ("Offset", "Position", "Origin"),
    "ElementSpacing": ("ElementSpacing", "ElementSize"),
}
"""Keys and their other names, the preferred first."""


def is_metaimage(path: Path) -> bool:
    """Whether a file is named as MetaImages are, or begins as they do."""
    with path.open("rb") as file:
        first = file.readline(_LINE_BYTES).partition(b"=")[0].strip()
    return first in (b"ObjectType", b"NDims", b"Comment") or path.suffix.lower() in (".mha", ".mhd")


def stored(path: Path) -> Stored:
    """How the values of a MetaImage lie in its file, or in the one that it names.

    The checksum of packed data is verified when they are read; ITK itself, on damaged data, gives whatever was in the
    memory before.

    Raises:
        DataError: no MetaImage, colour, text or several files as data, fields that are missing, twice there or without
            meaning, packed data of another length than the header says, or a data file outside the data set.
    """
    fields, behind = _fields(path)

    def given_field(key: str) -> str | None:
        return next((fields[name] for name in _SYNONYMS.get(key, (key,)) if name in fields), None)

    def field(key: str, default: str) -> str:
        text = given_field(key)
        return default if text is None else text

    def numbers(key: str, count: int, kind: type = float) -> np.ndarray | None:
        text = given_field(key)
        if text is None:
            return None
        try:
            values = np.array([kind(value) for value in text.split()])
        except ValueError:
            values = np.empty(0)
        if len(values) != count or not np.isfinite(values.astype(float)).all():
            raise DataError(path, f"{key}: found '{text[:80]}', expected {count} numbers; export it again")
        return values

    def true(key: str, default: str = "False") -> bool:
        text = field(key, default).lower()
        if text not in ("true", "false", "1", "0"):
            raise DataError(path, f"{key}: found '{text[:80]}', expected True or False; export it again")
        return text in ("true", "1")

    count = field("NDims", "")
    if count not in ("1", "2", "3", "4", "5") or (shape := numbers("DimSize", int(count), int)) is None:
        raise DataError(path, f"NDims: found '{count[:80]}', expected 2 or 3 and as many in DimSize; export it again")
    channels, kind = field("ElementNumberOfChannels", "1"), field("ElementType", "")
    if channels != "1" or kind not in _TYPES:
        found = f"{channels[:20]} × {kind[:80]}"
        raise DataError(path, f"found values of {found}, expected grey values: 1 × one of {', '.join(_TYPES)}")
    if not true("BinaryData", "True"):
        raise DataError(path, "found values as text (BinaryData = False), expected binary; export it again")
    dtype = np.dtype((">" if true("BinaryDataByteOrderMSB") else "<") + _TYPES[kind])

    data, start = _data(path, fields[_LAST_KEY], behind)
    header_bytes = int((numbers("HeaderSize", 1, int) or [0])[0])
    packed, size = true("CompressedData"), data.stat().st_size
    if header_bytes == -1 and not packed:
        start = size - math.prod(map(int, shape)) * dtype.itemsize
    elif header_bytes >= 0:
        start += header_bytes
    if start < 0 or header_bytes < -1 or (header_bytes == -1 and packed):
        raise DataError(path, f"HeaderSize: found {header_bytes}, which this file cannot have; export it again")
    given = numbers("CompressedDataSize", 1, int)
    if packed and given is not None and given[0] != size - start:
        problem = f"found {size - start} bytes of packed data, expected {given[0]} as the header says"
        raise DataError(data, f"{problem}: truncated or damaged; copy it again")

    factor = _MM.get(field("DistanceUnits", "mm").lower(), 1.0)
    spacing = numbers("ElementSpacing", len(shape))
    matrix, offset = numbers("TransformMatrix", len(shape) ** 2), numbers("Offset", len(shape))
    if spacing is not None and not (spacing > 0).all():
        raise DataError(path, f"ElementSpacing: found {spacing.tolist()}, expected more than 0; export it again")
    steps = np.eye(len(shape)) if matrix is None else matrix.reshape(len(shape), -1)
    steps = factor * steps * (1 if spacing is None else spacing[:, None])
    axes = tuple(
        Axis(int(length), None if spacing is None else factor * float(spacing[number]), _in_space(steps[number]))
        for number, length in enumerate(shape)
    )
    origin = _in_space(factor * (np.zeros(len(shape)) if offset is None else offset))
    files = (path,) if data == path else (path, data)
    return Stored("MetaImage", path, files, axes, origin, dtype, start=start, packing=ZLIB if packed else None)


def _in_space(vector: np.ndarray) -> np.ndarray:
    """The first three numbers; of a plane the third is 0."""
    return np.pad(vector, (0, max(0, 3 - len(vector))))[:3]


def _data(path: Path, name: str, behind: int) -> tuple[Path, int]:
    """The file with the data and where they begin in it."""
    if name.upper() == "LOCAL":
        return path, behind
    if name.upper().startswith("LIST") or "%" in name:
        raise DataError(path, f"found the data spread over files ({name[:80]}), expected one .raw file")
    return inside(path.parent, name, path), 0


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The `key = value` lines up to the one that says where the data are, and how many bytes they take."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_LINES):
            key, _, value = file.readline(_LINE_BYTES).decode("latin-1").partition("=")
            if key.strip() in fields and key.strip():
                raise DataError(path, f"found {key.strip()[:80]} a second time, expected it once; export it again")
            fields[key.strip()] = value.strip()
            if key.strip() == _LAST_KEY:
                return fields, file.tell()
    raise DataError(path, f"found no line {_LAST_KEY}, expected a MetaImage header")
