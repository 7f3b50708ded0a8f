"""Greyscale DICOM: physical units, polarity, padding, every refusal, and nothing of the patient."""

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from xiqa.datasets.base import DataError
from xiqa.datasets.dicom_image import read_dicom_image, series_key

NAME, ID = "Roe^Jane", "HOSPITAL-4711"


def write_slice(path, stored, /, **tags):
    """An uncompressed CT image; a tag of None is left out."""
    stored = np.asarray(stored)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = NAME, ID
    bits = 8 * stored.itemsize
    standard = {
        "Modality": "CT", "SeriesInstanceUID": "1.2.3", "RescaleSlope": 1, "RescaleIntercept": -1024,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": stored.shape[0],
        "Columns": stored.shape[1], "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"), "PixelData": stored.tobytes(),
    }  # fmt: skip
    for keyword, value in (standard | tags).items():
        if value is not None:
            setattr(data, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def stored():
    return np.random.default_rng(0).integers(0, 2**12, (9, 7)).astype(np.uint16)


@pytest.fixture
def path(tmp_path, stored):
    return write_slice(tmp_path / "slice.dcm", stored)


def _xray(path, stored, **tags):
    return write_slice(path, stored, **{"Modality": "DX", "RescaleSlope": None, "RescaleIntercept": None, **tags})


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, -1000), ("1.0002441", "-01.024000E+03")])
def test_ct_is_in_hounsfield_units(tmp_path, slope, intercept):
    slope_, intercept_ = float(slope), float(intercept)
    water, air = round(-intercept_ / slope_), round((-1000 - intercept_) / slope_)
    path = write_slice(tmp_path / "ct.dcm", np.uint16([[water, air]]), RescaleSlope=slope, RescaleIntercept=intercept)
    pixels = read_dicom_image(path).pixels
    assert pixels.dtype == np.float32
    assert pixels[0] == pytest.approx([0, -1000], abs=0.5 * slope_)


def test_window_of_the_file_is_not_applied(tmp_path, stored, path):
    windowed = write_slice(tmp_path / "w.dcm", stored, WindowCenter=40, WindowWidth=80)
    assert np.array_equal(read_dicom_image(windowed).pixels, read_dicom_image(path).pixels)
    assert np.array_equal(read_dicom_image(path).pixels, stored - 1024.0)


@pytest.mark.parametrize(("bits", "kind"), [(12, np.uint16), (8, np.uint8), (12, np.int16)])
def test_monochrome1_is_the_same_image_stored_the_other_way_round(tmp_path, bits, kind):
    low = -(2 ** (bits - 1)) if np.dtype(kind).kind == "i" else 0
    high = low + 2**bits - 1
    stored = np.random.default_rng(1).integers(low, high, (5, 6), endpoint=True).astype(kind)
    bits = {"BitsStored": bits, "HighBit": bits - 1}
    bright = _xray(tmp_path / "2.dcm", stored, **bits)
    dark = _xray(
        tmp_path / "1.dcm", (high + low - stored).astype(kind), PhotometricInterpretation="MONOCHROME1", **bits
    )
    assert np.array_equal(read_dicom_image(dark).pixels, read_dicom_image(bright).pixels)
    assert np.array_equal(read_dicom_image(bright).pixels, stored)


def test_polarity_for_display_does_not_turn_hounsfield_units(tmp_path, stored, path):
    inverse = write_slice(tmp_path / "inverse.dcm", stored, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_dicom_image(inverse).pixels, read_dicom_image(path).pixels)


def test_a_modality_table_replaces_slope_and_intercept(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.add_new("LUTData", "US", [0, 10, 100, 1000])
    path = _xray(tmp_path / "table.dcm", np.uint8([[0, 1, 2, 3]]), ModalityLUTSequence=[table])
    assert read_dicom_image(path).pixels.tolist() == [[0, 10, 100, 1000]]


def test_full_scale_is_that_of_unsigned_values_without_rescaling(tmp_path, stored, path):
    xray = {"BitsStored": 12, "HighBit": 11}
    assert read_dicom_image(_xray(tmp_path / "x.dcm", stored, **xray)).full_scale == 4095
    rescaled = _xray(tmp_path / "r.dcm", stored, RescaleSlope=2, RescaleIntercept=0, **xray)
    assert read_dicom_image(rescaled).full_scale is None
    assert read_dicom_image(_xray(tmp_path / "s.dcm", stored.astype(np.int16))).full_scale is None
    assert read_dicom_image(path).full_scale is None


@pytest.fixture(params=[RLELossless, JPEG2000Lossless], ids=["RLE", "JPEG 2000"])
def compressed(request, tmp_path):
    """A compressed image of 64 × 64 pixels, with the values that it must give back."""
    stored = np.random.default_rng(2).integers(0, 2**12, (64, 64)).astype(np.uint16)
    data = pydicom.dcmread(write_slice(tmp_path / "slice.dcm", stored))
    data.compress(request.param)
    data.save_as(tmp_path / "slice.dcm")
    return tmp_path / "slice.dcm", stored - 1024.0


def test_lossless_compression_changes_nothing(compressed):
    path, expected = compressed
    assert np.array_equal(read_dicom_image(path).pixels, expected)


@pytest.mark.filterwarnings("ignore:End of file reached")
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated_compressed_pixels_are_refused(compressed, share):
    path, _ = compressed
    _cut(path, share)
    with pytest.raises(DataError, match=r"slice\.dcm"):
        read_dicom_image(path)


def test_compressed_pixels_that_end_early_are_refused(compressed):
    path, _ = compressed
    data = pydicom.dcmread(path)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    data.PixelData = encapsulate([frame[: len(frame) // 2]])
    data.save_as(path)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_dicom_image(path)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (JPEGLSLossless, "python-gdcm"),
        (JPEGLosslessSV1, "python-gdcm"),
        (JPEG2000Lossless, "pylibjpeg-openjpeg"),
        (HTJ2KLossless, "pylibjpeg-openjpeg"),
    ],
)
def test_a_missing_decoder_names_the_syntax_and_the_package(path, monkeypatch, syntax, package):
    data = pydicom.dcmread(path)
    data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate([b"\xff\xd8" + bytes(30)]), syntax
    data.save_as(path)
    monkeypatch.setattr("xiqa.datasets.dicom_file.get_decoder", lambda uid: SimpleNamespace(available_plugins=()))
    with pytest.raises(DataError, match=f"pip install {package}\\)") as caught:
        read_dicom_image(path)
    assert syntax.name in str(caught.value)


def test_a_video_has_no_decoder(path):
    data = pydicom.dcmread(path)
    data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate([bytes(30)]), MPEG2MPML
    data.save_as(path)
    with pytest.raises(DataError, match=r"MPEG2 Main Profile.*uncompressed"):
        read_dicom_image(path)


def _cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


FAULTS = {
    "burned-in writing": ({"BurnedInAnnotation": "YES"}, "may show a patient's name"),
    "frames": ({"NumberOfFrames": 3, "PixelData": bytes(3 * 126)}, "found 3 frames"),
    "colour": (
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "PixelData": bytes(378)},
        "colour \\(RGB\\)",
    ),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
    "no pixels": ({"PixelData": None}, "no pixel data"),
    "too few pixels": ({"PixelData": bytes(60)}, "cannot be decoded"),
    "CT without slope": ({"RescaleSlope": None}, "without rescale slope"),
    "CT with slope 0": ({"RescaleSlope": 0}, "without rescale slope"),
}


@pytest.mark.parametrize(("tags", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_used_is_refused_and_the_patient_not_named(tmp_path, stored, tags, message):
    path = write_slice(tmp_path / "bad.dcm", stored, **tags)
    with pytest.raises(DataError, match=message) as caught:
        read_dicom_image(path)
    assert str(caught.value).startswith(str(path))
    assert NAME not in str(caught.value)
    assert ID not in str(caught.value)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused_wherever_it_ends(path, share):
    _cut(path, share)
    with pytest.raises(DataError, match=r"slice\.dcm"):
        read_dicom_image(path)


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_numbers_that_are_none_are_unknown_or_refused(tmp_path, stored):
    path = write_slice(tmp_path / "a.dcm", stored)
    data = pydicom.dcmread(path)
    for tag in ("InstanceNumber", "ImagePositionPatient", "PixelPaddingValue", "KVP", "PixelSpacing"):
        data.add_new(tag, "LO", "nonsense")
    data.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"LO\x08\x00nonsense", b"DS\x08\x00nonsense"))
    assert (series_key(path).number, series_key(path).position_mm) == (None, None)
    loaded = read_dicom_image(path)
    assert np.array_equal(loaded.pixels, stored - 1024.0)
    assert loaded.spacing_mm is None
    assert "kvp" not in loaded.header
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    with pytest.raises(DataError, match=r"b\.dcm: cannot be read"):
        read_dicom_image(_xray(tmp_path / "b.dcm", stored, ModalityLUTSequence=[table]))


@pytest.mark.parametrize("content", [b"", b"image,label\n", bytes(400)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.dcm").write_bytes(content)
    for function in (read_dicom_image, series_key):
        with pytest.raises(DataError, match=r"other\.dcm"):
            function(tmp_path / "other.dcm")


def test_spacing_is_rows_before_columns_and_on_the_detector_where_the_patient_has_none(tmp_path, stored):
    tags = {"PixelSpacing": [0.5, 0.7], "ImagerPixelSpacing": [0.1, 0.2]}
    for given_tags, spacing_mm in ((tags, (0.5, 0.7)), (tags | {"PixelSpacing": None}, (0.1, 0.2)), ({}, None)):
        assert read_dicom_image(write_slice(tmp_path / "a.dcm", stored, **given_tags)).spacing_mm == spacing_mm


# Declared as signed, as unsigned, not at all, and (as by some scanners) as another value than the one that is written.
@pytest.mark.parametrize("declared", [-2000, 63536, None, -1])
@pytest.mark.parametrize("mark", [-2000, -1024])
def test_outside_of_the_scanned_circle_becomes_the_smallest_value_inside(tmp_path, declared, mark):
    stored = np.int16([[mark, mark, 0, 24], [1024, 2024, 5, 1064]])
    path = write_slice(tmp_path / "circle.dcm", stored, PixelPaddingValue=None)
    if declared is not None:
        data = pydicom.dcmread(path)
        data.add_new("PixelPaddingValue", "US" if declared > 0 else "SS", declared)
        data.save_as(path)
    assert read_dicom_image(path).pixels.tolist() == [[-1024, -1024, -1024, -1000], [0, 1000, -1019, 40]]


def test_a_negative_padding_value_may_be_declared_as_unsigned(tmp_path):
    path = _xray(tmp_path / "x.dcm", np.int16([[-2000, 5, 900]]))
    data = pydicom.dcmread(path)
    data.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    data.save_as(path)
    assert read_dicom_image(path).pixels.tolist() == [[5, 5, 900]]


def test_noise_of_air_is_no_padding(tmp_path):
    stored = np.int16([[-1100, -1024, -1499, 0]])
    pixels = read_dicom_image(write_slice(tmp_path / "air.dcm", stored, RescaleIntercept=0)).pixels
    assert np.array_equal(pixels, stored)


def test_a_declared_range_is_padding_in_any_modality(tmp_path):
    stored = np.uint16([[0, 3, 5, 6, 900]])
    tags = {"PixelPaddingValue": 5, "PixelPaddingRangeLimit": 0}
    assert read_dicom_image(_xray(tmp_path / "x.dcm", stored, **tags)).pixels.tolist() == [[6, 6, 6, 6, 900]]
    with pytest.raises(DataError, match="padding in all pixels"):
        read_dicom_image(_xray(tmp_path / "y.dcm", stored[:, :3], **tags))


def test_header_holds_what_could_betray_the_label_and_nothing_of_the_patient(tmp_path, stored):
    tags = {"KVP": "120", "SliceThickness": "2.5", "Manufacturer": " GE ", "BodyPartExamined": "CHEST"}
    path = write_slice(tmp_path / "ct.dcm", stored, ContrastBolusAgent="ISOVUE", PatientAge="061Y", **tags)
    expected = {"kvp": 120.0, "slice_thickness_mm": 2.5, "manufacturer": "GE", "body_part": "CHEST"}
    assert read_dicom_image(path).header == {**expected, "contrast_tag": 1.0, "rows": 9.0}
    bare = write_slice(tmp_path / "bare.dcm", stored, ContrastBolusAgent="")
    assert read_dicom_image(bare).header == {"contrast_tag": 0.0, "rows": 9.0}


vectors = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda vector: np.linalg.norm(vector) > 0.1)


@settings(max_examples=25)
@given(first=vectors, other=vectors, shift=st.floats(-300, 300), inside=st.floats(-200, 200))
def test_position_is_measured_along_the_normal(tmp_path_factory, first, other, shift, inside):
    rows = np.array(first) / np.linalg.norm(first)
    columns = np.cross(rows, other)
    if np.linalg.norm(columns) < 0.1:
        return
    columns /= np.linalg.norm(columns)
    normal = np.cross(rows, columns)
    folder, positions = tmp_path_factory.getbasetemp(), []
    for origin in (np.zeros(3), shift * normal + inside * rows):
        tags = {
            "ImageOrientationPatient": [f"{value:.9f}" for value in (*rows, *columns)],
            "ImagePositionPatient": [f"{value:.9f}" for value in origin],
        }
        path = write_slice(folder / "oblique.dcm", np.zeros((1, 1), np.uint16), **tags)
        positions.append(series_key(path).position_mm)
    assert positions[1] - positions[0] == pytest.approx(shift, abs=1e-4)


def test_place_in_a_series_needs_no_pixels(tmp_path, stored):
    path = write_slice(tmp_path / "a.dcm", stored, InstanceNumber=5, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    _cut(path, 0.9)  # the pixels come last
    key = series_key(path)
    assert (key.patient, key.series, key.modality, key.number) == (ID, "1.2.3", "CT", 5)
    assert key.localizer
    assert key.position_mm is None
    assert not series_key(write_slice(tmp_path / "b.dcm", stored)).localizer


def test_real_slices_are_in_hounsfield_units(real_data):
    paths = sorted((real_data / "ct_contrast_dicom" / "dicom_dir").glob("*.dcm"))[::9]
    for path in paths:
        loaded = read_dicom_image(path)
        # Every slice of a chest shows air around the body or in it, soft tissue, and neither marks nor raw counts.
        assert -1100 < loaded.pixels.min() <= -1000
        assert (np.abs(loaded.pixels - 30) < 100).mean() > 0.08, path
        assert 0.4 < loaded.spacing_mm[0] == loaded.spacing_mm[1] < 1.1
