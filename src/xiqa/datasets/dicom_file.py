"""Opening a DICOM file and decoding its one image: the same for images of patients and of the phantom."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pydicom.valuerep import VR

from xiqa.datasets.base import DataError
from xiqa.datasets.dicom_decoder import PLUGINS, decode
from xiqa.datasets.limits import RAW_DEFLATE, check_size, inflated

_PACKAGES = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg-openjpeg"}
_GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_ALWAYS = "SOPClassUID", "Rows", *_GROUPS


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file is DICOM, from its first 132 bytes: by its mark, or where there is none by its first element.

    Without mark and preamble (as some archives and old scanners write) a file begins with an element of the group 0002
    or 0008 that the standard knows, followed by a known value representation or by a short length.
    """
    if start[128:132] == b"DICM":
        return True
    for order in ("little", "big"):
        group, element = (int.from_bytes(start[place : place + 2], order) for place in (0, 2))
        explicit = start[4:6].isalpha() and start[4:6].decode("ascii", "replace") in list(VR)
        short = int.from_bytes(start[4:8], order) <= 128
        known = element == 0 or dictionary_has_tag(Tag(group, element))
        if len(start) >= 16 and group in (2, 8) and known and (explicit or (short and order == "little")):
            return True
    return False


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content."""
    with path.open("rb") as stream:
        return looks_like_dicom(stream.read(132))


def open_dicom(path: Path, tags: Sequence[str] | None = None, frame: int | None = None) -> Dataset:
    """Read a file with or without preamble, deflated or not, its functional groups as plain elements.

    Enhanced objects keep rescaling, spacing and place in functional groups. Those of the only frame are laid over the
    dataset, as the standard reads them: what is said of a frame before what is said of all.

    Args:
        path: the file.
        tags: keywords of the elements that are needed; nothing: all, with the pixels.
        frame: the frame of several that is kept as if it were the only one, counted from 1; None keeps all.

    Raises:
        DataError: no DICOM, truncated, deflated to more than the limit of the data set, or no such frame.

    Reference: DICOM PS3.3, C.7.6.16 (functional groups); PS3.5, A.5 (deflated).
    """
    with path.open("rb") as stream:
        start = stream.read(132)
        stream.seek(0)
        if not looks_like_dicom(start):
            raise DataError(path, "found no DICOM header, expected a DICOM image; leave other files out")
        named = None if tags is None else [*tags, *_ALWAYS]
        meta = read_file_meta_info(path) if start[128:] == b"DICM" else FileMetaDataset()
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            data = _inflated(path, meta, named)
        else:
            data = pydicom.dcmread(stream, stop_before_pixels=tags is not None, specific_tags=named, force=True)
    if not (data.get("SOPClassUID") or data.get("Rows")):
        raise DataError(path, "found no DICOM image behind its start, expected a whole one; is it truncated?")
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        encodings = {(True, True): ImplicitVRLittleEndian, (False, True): ExplicitVRLittleEndian}
        data.file_meta.TransferSyntaxUID = encodings.get((implicit, little), ExplicitVRBigEndian)
        if tags is None and "PixelData" in data and data["PixelData"].is_undefined_length:
            raise DataError(path, "found compressed pixels and no transfer syntax; export it again with its header")
    if frame is not None:
        _keep_frame(path, data, frame)
    if frames(data) == 1:
        for groups in (data.get(name) or () for name in _GROUPS):
            for macro in (element for group in groups[:1] for element in group if element.VR == "SQ"):
                for element in (element for item in macro.value[:1] for element in item):
                    data[element.tag] = element
    return data


def _keep_frame(path: Path, data: Dataset, frame: int) -> None:
    """Leave one frame, counted from 1, in a dataset: its pixels and its functional groups."""
    count, index = frames(data), frame - 1
    if not 0 <= index < count:
        raise DataError(path, f"found {count} frames and none of number {frame}, expected a number of 1-{count}")
    if "PixelData" in data:
        if data.file_meta.TransferSyntaxUID.is_compressed:
            data.PixelData = encapsulate([get_frame(data.PixelData, index, number_of_frames=count)])
        else:
            size = int(data.Rows) * int(data.Columns) * int(data.get("SamplesPerPixel") or 1) * data.BitsAllocated // 8
            data.PixelData = data.PixelData[index * size :][:size]
    data.NumberOfFrames = 1
    if groups := data.get(_GROUPS[1]):
        data[_GROUPS[1]].value = groups[index : index + 1]


def frames(data: Dataset) -> int:
    """How many images a file holds."""
    return int(data.get("NumberOfFrames") or 1)


def stored_pixels(path: Path, data: Dataset) -> np.ndarray:
    """The stored values (rows, columns) of a file that holds one greyscale image, in any transfer syntax.

    Raises:
        DataError: no pixels, several frames, colour, more than the limit of the data set, damaged, or no decoder.
    """
    needed = {"PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation"}
    if not needed <= set(data.dir()):
        raise DataError(path, "found no pixel data, or no description of it, expected an image; is it truncated?")
    if frames(data) != 1:
        way = "export each frame as a file of its own (emf2sf of dcm4che does)"
        raise DataError(path, f"found {frames(data)} frames, expected one; {way}")
    photometric, samples = data.get("PhotometricInterpretation"), int(data.get("SamplesPerPixel") or 1)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        found = f"colour ({photometric}), {samples} samples per pixel"
        raise DataError(path, f"found {found}, expected a greyscale image; convert or leave it out")
    check_size(path, (data.Rows, data.Columns), data.BitsAllocated / 8)
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        _require_decoder(path, syntax)
    try:
        if syntax not in PLUGINS:
            return get_decoder(syntax).as_array(data, raw=True, decoding_plugin="pydicom" * (syntax == RLELossless))[0]
        numbers = "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation"
        options: dict[str, Any] = {
            "rows": 0,
            "columns": 0,
            "bits_allocated": 0,
            "bits_stored": 0,
            "pixel_representation": 0,
        }
        options = {option: int(data[keyword].value) for option, keyword in zip(options, numbers, strict=True)}
        options |= {"transfer_syntax_uid": str(syntax), "photometric_interpretation": photometric}
        return decode(data.PixelData, options)
    except Exception as error:  # pydicom and its decoders raise many kinds; they see no more than the pixels
        reason = " ".join(str(error).split())[:200]
        raise DataError(path, f"the pixels ({syntax.name}) cannot be decoded: {reason}; copy the file again") from None


def _inflated(path: Path, meta: FileMetaDataset, tags: list[str] | None) -> FileDataset:
    """A deflated file as if it were none; pydicom alone would unpack any size."""
    with path.open("rb") as stream:
        stream.seek(144 + meta.FileMetaInformationGroupLength)
        content = io.BytesIO(b"".join(inflated(path, stream, RAW_DEFLATE)))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = read_dataset(
        content, False, True, stop_when=None, specific_tags=None if tags is None else [Tag(tag) for tag in tags]
    )
    return FileDataset(None, data, file_meta=meta, preamble=bytes(128), is_implicit_VR=False, is_little_endian=True)


def _require_decoder(path: Path, syntax: pydicom.uid.UID) -> None:
    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError:
        available = ()
    plugin = "pydicom" if syntax == RLELossless else PLUGINS.get(syntax)
    if plugin not in available:
        package = _PACKAGES.get(plugin or "")
        way = f"install it (pip install {package}) or store" if package else "store"
        raise DataError(path, f"found pixels in {syntax.name}, for which no decoder is there; {way} them uncompressed")
