"""CDMAM images as DICOM: writing simulated ones, reading any mammography image of the phantom."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    generate_uid,
)

import xiqa
from xiqa.config import Detector, Exposure
from xiqa.datasets.base import DataError, faults_named
from xiqa.datasets.dicom_file import frames, open_dicom, stored_pixels
from xiqa.files import atomic_path

_MATERIALS = {"Mo": "MOLYBDENUM", "Rh": "RHODIUM", "W": "TUNGSTEN", "Ag": "SILVER", "Al": "ALUMINUM"}
_SYMBOLS = {**{name: symbol for symbol, name in _MATERIALS.items()}, "ALUMINIUM": "Al"}
MODALITIES = ("MG", "DX", "CR")
SIMULATOR = "xiqa simulator"
"""Manufacturer of simulated images."""
_DATE, _TIME = "20200101", "120000"  # fixed: a simulated image has no date, and equal images get equal bytes


@dataclass(frozen=True)
class Recording:
    """An image of the phantom as it was read from a DICOM file; holds nothing about a patient.

    Attributes:
        counts: (h, w) float32, after the rescale slope and intercept; with discs dark if `polarity_settled`.
        pixel_mm: pixel size on the detector.
        tube_voltage_kv: tube voltage, None where the file does not say.
        exposure_mas: current-exposure time product, None where the file does not say.
        anode: "Mo", "Rh", "W", or None.
        filter: "Mo", "Rh", "Ag", "Al", or None.
        name: stem of the file's name.
        polarity_settled: True if the tags say that fewer counts are less signal; False leaves it to the reader.
        system: manufacturer and model, empty where the file does not say; likewise the texts below.
        serial_number: of the device.
        station: name of the station.
        date: of the exposure, YYYY-MM-DD.
        for_presentation: processed for viewing (FOR PRESENTATION); counts are then no measure of exposure.
        intensity_relationship: of the counts to the exposure, "LIN" or "LOG" or what the file says.
        frame: which of several frames it was, counted from 1; None: the only one.
    """

    counts: np.ndarray
    pixel_mm: float
    tube_voltage_kv: float | None
    exposure_mas: float | None
    anode: str | None
    filter: str | None
    name: str
    polarity_settled: bool
    system: str = ""
    serial_number: str = ""
    station: str = ""
    date: str = ""
    for_presentation: bool = False
    intensity_relationship: str = ""
    frame: int | None = None

    @property
    def pixel_digest(self) -> str:
        """Digest of the counts: equal for the same image in another file, whatever its header and compression."""
        digest = hashlib.sha256(repr(self.counts.shape).encode())
        digest.update(np.ascontiguousarray(self.counts).data)
        return digest.hexdigest()


def write_dicom(
    path: str | os.PathLike,
    counts: np.ndarray,
    exposure: Exposure,
    detector: Detector,
    *,
    image_name: str,
    series_name: str = "",
    instance_number: int = 1,
    version: str = "3.4",
) -> None:
    """Write a simulated image as an uncompressed "FOR PROCESSING" digital mammography image, atomically.

    Equal arguments give equal bytes: identifiers are derived from names and pixels, date and time are fixed. The
    patient is the phantom.

    Args:
        path: the file to write.
        counts: (h, w) uint16, at most 14 bit, discs darker than their background.
        exposure: setting, for the tags.
        detector: its pixel size, for the tags.
        image_name: name of the image; part of its identifier and its comment.
        series_name: name of the series; images that share it share a study and a series. Empty: the setting's name.
        instance_number: number of the image in its series.
        version: version of the phantom, the patient of the image.

    Raises:
        ValueError: counts that are no 14-bit image.
    """
    if counts.ndim != 2 or counts.dtype != np.uint16 or counts.size == 0 or counts.max() >= 2**14:
        raise ValueError(f"{path}: found counts {counts.shape} {counts.dtype}, expected a 14-bit uint16 image (h, w)")
    pixels = np.ascontiguousarray(counts, dtype="<u2").tobytes()
    digest = hashlib.sha256(pixels).hexdigest()
    series = series_name or exposure.name

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForProcessing
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["xiqa image", series, image_name, digest])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["xiqa implementation"])
    meta.ImplementationVersionName = f"XIQA {xiqa.__version__}"[:16]

    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=["xiqa study", series])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["xiqa series", series])
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = _DATE
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = _TIME
    data.AccessionNumber = data.ReferringPhysicianName = ""
    data.StudyID, data.SeriesNumber, data.InstanceNumber = "1", 1, instance_number
    data.Modality = "MG"
    data.PresentationIntentType = "FOR PROCESSING"
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.Manufacturer = data.ManufacturerModelName = SIMULATOR
    data.DeviceSerialNumber = "0"
    data.SoftwareVersions = xiqa.__version__
    data.PatientName, data.PatientID = "CDMAM^SIMULATED", f"CDMAM{version.replace('.', '')}"
    data.PatientBirthDate, data.PatientSex = "", ""
    data.QualityControlSubject = data.QualityControlImage = "YES"
    data.ImageComments = f"simulated {image_name}"[:1024]
    data.AcquisitionNumber = instance_number
    _describe_view(data)
    _describe_exposure(data, exposure, detector)
    _describe_pixels(data, counts)
    data.PixelData = pixels
    with atomic_path(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)


def _describe_view(data: Dataset) -> None:
    """What standard mammography images must say of the breast, though there is none."""
    data.BodyPartExamined = "BREAST"
    data.ImageLaterality = "L"
    data.OrganExposed = "BREAST"
    data.PositionerType = "MAMMOGRAPHIC"
    data.PatientOrientation = ["A", "R"]  # a left breast from above: rows run to the front, columns to the right
    data.BreastImplantPresent = "NO"
    data.PartialView = "NO"
    data.AnatomicRegionSequence = [_code("76752008", "SCT", "Breast")]
    view = _code("399162004", "SCT", "cranio-caudal")
    view.ViewModifierCodeSequence = []
    data.ViewCodeSequence = [view]
    data.AcquisitionContextSequence = []


def _describe_exposure(data: Dataset, exposure: Exposure, detector: Detector) -> None:
    """Beam and detector."""
    data.KVP = f"{exposure.tube_voltage_kv:g}"
    data.Exposure = round(exposure.exposure_mas)
    data.ExposureInuAs = round(exposure.exposure_mas * 1000)
    data.AnodeTargetMaterial = _MATERIALS[exposure.anode]
    data.FilterMaterial = _MATERIALS[exposure.filter]
    data.DetectorType = "DIRECT"
    data.DetectorConfiguration = "AREA"
    data.ImagerPixelSpacing = [f"{detector.pixel_mm:g}"] * 2


def _describe_pixels(data: Dataset, counts: np.ndarray) -> None:
    """How the counts are stored: linear in exposure, 14 bit."""
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = counts.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 14, 13, 0
    data.BurnedInAnnotation = "NO"
    data.LossyImageCompression = "00"
    data.PresentationLUTShape = "IDENTITY"
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LIN", 1


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def read_dicom(path: str | os.PathLike, *, pixel_mm: float | None = None, frame: int | None = None) -> Recording:
    """Read one DICOM image of the phantom: "FOR PROCESSING" or presentation, any transfer syntax with a decoder.

    What counts as dark: PixelIntensityRelationshipSign -1 turns the counts over, +1 leaves them. Without that tag
    MONOCHROME1 (few counts are shown bright, as what absorbs is shown in mammography) is taken as it is; MONOCHROME2
    is ambiguous and left as it is with `polarity_settled` False.

    Args:
        path: the file.
        pixel_mm: pixel size on the detector that holds whatever the file says of it.
        frame: which of several frames, counted from 1, such as a slice of tomosynthesis; a file of one frame has no
            other, and is read whatever is asked for.

    Returns:
        the recording, without anything about a patient.

    Raises:
        DataError: not a DICOM file; another modality; no, several or coloured frames; no or unequal pixel spacing;
            pixels that cannot be decoded.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: found no such file, expected a DICOM image")
    with faults_named(path, quote=False):
        several = frame is not None and frames(open_dicom(path, ("NumberOfFrames",))) > 1
        return _recording(
            path, open_dicom(path, frame=frame if several else None), pixel_mm, frame if several else None
        )


def _recording(path: Path, data: Dataset, pixel_mm: float | None, frame: int | None) -> Recording:
    modality = data.get("Modality")
    if modality not in MODALITIES:
        raise DataError(path, f"found modality {modality!r}, expected one of {MODALITIES} (mammography)")
    if frames(data) != 1:
        raise DataError(path, f"found {frames(data)} frames, expected one; name one of them with --frame NUMBER")
    stored, pixel_mm = stored_pixels(path, data), pixel_mm or _spacing(path, data)
    slope, intercept = float(data.get("RescaleSlope") or 1), float(data.get("RescaleIntercept") or 0)
    counts = stored.astype(np.float32)
    if (slope, intercept) != (1, 0):
        counts = counts * np.float32(slope) + np.float32(intercept)
    sign = data.get("PixelIntensityRelationshipSign")
    sign = int(sign) if sign not in (None, "") else None
    if sign == -1:
        bits = int(data.get("BitsStored") or 16) - int(data.get("PixelRepresentation") or 0)
        counts = np.float32(slope * (2**bits - 1) + 2 * intercept) - counts
    settled = sign in (-1, 1) or data.get("PhotometricInterpretation") == "MONOCHROME1"
    return Recording(
        counts=counts,
        pixel_mm=pixel_mm,
        tube_voltage_kv=_number(data.get("KVP")),
        exposure_mas=_exposure_mas(data),
        anode=_symbol(data.get("AnodeTargetMaterial"), ("Mo", "Rh", "W")),
        filter=_symbol(data.get("FilterMaterial"), ("Mo", "Rh", "Ag", "Al")),
        name=path.stem,
        polarity_settled=settled,
        system=" ".join(filter(None, dict.fromkeys(_text(data, f"Manufacturer{word}") for word in ("", "ModelName")))),
        serial_number=_text(data, "DeviceSerialNumber"),
        station=_text(data, "StationName"),
        date=_date(data),
        for_presentation=_text(data, "PresentationIntentType").upper() == "FOR PRESENTATION",
        intensity_relationship=_text(data, "PixelIntensityRelationship").upper(),
        frame=frame,
    )


def _text(data: Dataset, keyword: str) -> str:
    return str(data.get(keyword) or "").strip()


def _date(data: Dataset) -> str:
    """Date of the exposure as YYYY-MM-DD; empty where the file gives none that is one."""
    for keyword in ("AcquisitionDate", "AcquisitionDateTime", "ContentDate", "SeriesDate", "StudyDate"):
        with contextlib.suppress(ValueError):
            return datetime.strptime(_text(data, keyword)[:8], "%Y%m%d").date().isoformat()
    return ""


def _spacing(path: Path, data: Dataset) -> float:
    # The slice of a tomosynthesis has no ImagerPixelSpacing, the plate of a CR system often the third of these.
    known = (data.get(f"{kind}PixelSpacing") for kind in ("Imager", "", "NominalScanned"))
    spacing = next(filter(None, known), None)
    try:
        vertical, horizontal = (float(value) for value in spacing or ())
    except (TypeError, ValueError):
        raise DataError(
            path, f"found ImagerPixelSpacing {spacing!r}, expected two numbers in mm; give the size with --pixel-mm"
        ) from None
    if not (vertical > 0 and abs(vertical - horizontal) <= 1e-3 * vertical):
        raise DataError(
            path,
            f"found pixels of {vertical} mm × {horizontal} mm, expected square ones; give the size with --pixel-mm",
        )
    return vertical


def _number(value) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _exposure_mas(data: Dataset) -> float | None:
    precise = _number(data.get("ExposureInuAs"))
    return precise / 1000 if precise else _number(data.get("Exposure"))


def _symbol(value, known: tuple[str, ...]) -> str | None:
    symbol = _SYMBOLS.get(str(value).strip().upper())
    return symbol if symbol in known else None
