"""DICOM files of the phantom: what is written, what is read, what is refused."""

import dataclasses
import os
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from xiqa.cdmam.dicom import read_dicom, write_dicom
from xiqa.config import Detector, Exposure

EXPOSURE = Exposure(anode="W", filter="Rh", tube_voltage_kv=28, exposure_mas=80.5, noise="physical")
DETECTOR = Detector(pixel_mm=0.085)


@pytest.fixture
def counts():
    return np.random.default_rng(0).integers(0, 2**14, (40, 30)).astype(np.uint16)


@pytest.fixture
def path(tmp_path, counts):
    path = tmp_path / "cdmam_01.dcm"
    write_dicom(path, counts, EXPOSURE, DETECTOR, image_name="cdmam_01")
    return path


def _edited(path, **tags):
    data = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    edited = path.with_name("edited.dcm")
    data.save_as(edited)
    return edited


def test_what_is_written_is_read(path, counts):
    recording = read_dicom(path)
    assert np.array_equal(recording.counts, counts)
    assert recording.counts.dtype == np.float32
    assert recording.polarity_settled
    assert (recording.pixel_mm, recording.tube_voltage_kv, recording.exposure_mas) == (0.085, 28.0, 80.5)
    assert (recording.anode, recording.filter, recording.name) == ("W", "Rh", "cdmam_01")


def test_the_file_is_a_valid_mammography_image_for_processing(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
        try:
            data = pydicom.dcmread(path)
            list(data.iterall())
        finally:
            pydicom.config.settings.reading_validation_mode = pydicom.config.WARN
    assert data.SOPClassUID.name == "Digital Mammography X-Ray Image Storage - For Processing"
    assert (data.Modality, data.PresentationIntentType) == ("MG", "FOR PROCESSING")
    assert (data.BitsAllocated, data.BitsStored, data.HighBit) == (16, 14, 13)
    assert (data.PhotometricInterpretation, data.PixelIntensityRelationshipSign) == ("MONOCHROME2", 1)
    assert (data.AnodeTargetMaterial, data.FilterMaterial) == ("TUNGSTEN", "RHODIUM")
    assert list(data.ImagerPixelSpacing) == [0.085, 0.085]
    assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


def test_equal_images_give_equal_bytes_and_others_other_identifiers(path, counts, tmp_path):
    again, other = tmp_path / "again.dcm", tmp_path / "other.dcm"
    write_dicom(again, counts, EXPOSURE, DETECTOR, image_name="cdmam_01")
    write_dicom(other, counts, EXPOSURE, DETECTOR, image_name="cdmam_02")
    assert again.read_bytes() == path.read_bytes()
    first, second = pydicom.dcmread(path), pydicom.dcmread(other)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    with pytest.raises(ValueError, match="14-bit"):
        write_dicom(other, counts + np.uint16(2**14), EXPOSURE, DETECTOR, image_name="x")


def test_nothing_about_a_patient_is_returned(path):
    edited = _edited(path, PatientName="Doe^Jane", PatientID="4711", PatientBirthDate="19600101")
    assert "Doe" not in repr(dataclasses.asdict(read_dicom(edited)))
    assert "4711" not in repr(dataclasses.asdict(read_dicom(edited)))


def test_polarity_follows_the_tags(path, counts):
    turned = read_dicom(_edited(path, PixelIntensityRelationshipSign=-1))
    assert np.array_equal(turned.counts, 2**14 - 1 - counts.astype(float))
    assert turned.polarity_settled
    ambiguous = read_dicom(_edited(path, PixelIntensityRelationshipSign=None))
    assert np.array_equal(ambiguous.counts, counts)
    assert not ambiguous.polarity_settled
    inverse = read_dicom(_edited(path, PixelIntensityRelationshipSign=None, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(inverse.counts, counts)
    assert inverse.polarity_settled
    rescaled = read_dicom(_edited(path, PixelIntensityRelationshipSign=-1, RescaleSlope="2", RescaleIntercept="5"))
    assert np.array_equal(rescaled.counts, 2 * (2**14 - 1 - counts.astype(float)) + 5)


def test_compressed_and_presentation_images_are_read(path, counts):
    data = pydicom.dcmread(path)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    data.PresentationIntentType = "FOR PRESENTATION"
    data.compress(RLELossless)
    data.save_as(path)
    assert np.array_equal(read_dicom(path).counts, counts)


def test_missing_exposure_tags_are_none(path):
    recording = read_dicom(
        _edited(path, KVP=None, Exposure=None, ExposureInuAs=None, AnodeTargetMaterial=None, FilterMaterial="COPPER")
    )
    assert recording.tube_voltage_kv is recording.exposure_mas is recording.anode is recording.filter is None


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Modality": "CT"}, "modality 'CT'"),
        ({"PixelData": None}, "no pixel data"),
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"SamplesPerPixel": 3}, "3 samples"),
        ({"ImagerPixelSpacing": None}, "ImagerPixelSpacing"),
        ({"ImagerPixelSpacing": ["0.08", "0.1"]}, "square"),
    ],
)
def test_what_is_no_image_of_the_phantom_is_refused_by_name(path, tags, message):
    with pytest.raises(ValueError, match=message) as refused:
        read_dicom(_edited(path, **tags))
    assert "edited.dcm" in str(refused.value)


def test_other_files_and_undecodable_pixels_are_refused(path):
    text = path.with_name("notes.dcm")
    text.write_text("no DICOM here, although the name says so" * 10)
    with pytest.raises(ValueError, match=r"notes\.dcm: found no DICOM header"):
        read_dicom(text)
    with pytest.raises(FileNotFoundError):
        read_dicom(path.with_name("missing.dcm"))
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7 no image"])
    data["PixelData"].is_undefined_length = True
    broken = path.with_name("broken.dcm")
    data.save_as(broken)
    with pytest.raises(ValueError, match=r"JPEG-LS.*cannot be decoded"):
        read_dicom(broken)


@pytest.mark.skipif("XIQA_REAL_DATA" not in os.environ, reason="XIQA_REAL_DATA does not name the folder of real data")
def test_reference_images_are_read():
    paths = sorted((Path(os.environ["XIQA_REAL_DATA"]) / "cdmam_reference" / "images").glob("*.dcm"))
    if not paths:
        pytest.skip("no reference images there")
    recording = read_dicom(paths[0])  # JPEG 2000 lossless
    assert recording.polarity_settled
    assert (recording.pixel_mm, recording.anode, recording.filter) == (0.085, "W", "Rh")
    assert np.median(recording.counts) == pytest.approx(1000, rel=0.02)
