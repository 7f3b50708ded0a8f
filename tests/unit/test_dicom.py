"""DICOM files of the phantom: what is written, what is read, what is refused."""

import dataclasses
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from xiqa.cdmam.dicom import read_dicom, write_dicom
from xiqa.cli.simulate import SCENARIOS
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


# DICOM PS3.3, table A.26-1 (Digital Mammography X-Ray Image) and the tables of its modules: attributes of type 1 and 2.
TYPE_1 = """
SOPClassUID SOPInstanceUID SpecificCharacterSet StudyInstanceUID SeriesInstanceUID Modality PresentationIntentType
ImageType SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
PixelData PixelIntensityRelationship PixelIntensityRelationshipSign RescaleIntercept RescaleSlope RescaleType
PresentationLUTShape LossyImageCompression PatientOrientation BurnedInAnnotation ImagerPixelSpacing PositionerType
ImageLaterality OrganExposed AnatomicRegionSequence ViewCodeSequence
"""
TYPE_2 = """
PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
SeriesNumber Manufacturer InstanceNumber ContentDate ContentTime DetectorType AcquisitionContextSequence
"""
# What the same tables prescribe for an image for processing of the left breast, cranio-caudal, MONOCHROME2.
PRESCRIBED = {
    "Modality": "MG",
    "PresentationIntentType": "FOR PROCESSING",
    "PresentationLUTShape": "IDENTITY",
    "RescaleIntercept": 0,
    "RescaleSlope": 1,
    "RescaleType": "US",
    "LossyImageCompression": "00",
    "ImageLaterality": "L",
    "PatientOrientation": ["A", "R"],
    "PositionerType": "MAMMOGRAPHIC",
    "OrganExposed": "BREAST",
}


def test_presentation_lut_shape_and_all_other_attributes_of_the_mammography_image_are_there(path):
    data = pydicom.dcmread(path)
    assert [keyword for keyword in TYPE_1.split() if data.get(keyword) in (None, "", [])] == []
    assert [keyword for keyword in TYPE_2.split() if keyword not in data] == []
    assert {keyword: data.get(keyword) for keyword in PRESCRIBED} == PRESCRIBED
    (view,), (region,) = data.ViewCodeSequence, data.AnatomicRegionSequence
    assert view.ViewModifierCodeSequence == []
    assert (view.CodeValue, region.CodeValue) == ("399162004", "76752008")  # PS3.16, CID 4014 and 4013
    assert "ConversionType" not in data, "an attribute of secondary captures"
    assert data.QualityControlImage == "YES"


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not installed: apt-get install dicom3tools")
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_dciodvfy_finds_neither_errors_nor_warnings(scenario, counts, tmp_path):
    paths = [tmp_path / f"{number}.dcm" for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        names = {"image_name": path.stem, "series_name": "series", "instance_number": number}
        write_dicom(path, counts // 2 + np.uint16(number), SCENARIOS[scenario], Detector(), **names)
        done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=True)
        assert (done.stdout + done.stderr).split() == ["MammographyImageForProcessing"]
    # The two against each other: what one patient, study and series may hold.
    done = subprocess.run(["dcentvfy", *paths], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


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
