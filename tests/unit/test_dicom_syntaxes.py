"""Every transfer syntax gives the pixels that were encoded, to both readers of DICOM; damaged ones are refused."""

import os
import zlib
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK
from fuzz_pixels import encode
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
)
from test_dicom_image import write_slice

from xiqa.cdmam.dicom import read_dicom
from xiqa.datasets import dicom_decoder, dicom_file
from xiqa.datasets.base import DataError
from xiqa.datasets.dicom_decoder import Undecodable, stream_header
from xiqa.datasets.dicom_image import read_dicom_image, series_key
from xiqa.datasets.images import load_image
from xiqa.datasets.limits import Reading, reading

LOSSLESS = {
    "JPEG Lossless (.57)": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEG Lossless (.70)": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
    "deflated": gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian,
}
RNG = np.random.default_rng(0)
Y, X = np.mgrid[:64, :48]
SMOOTH = 30 * X + 20 * Y + RNG.integers(0, 90, X.shape)
STORED = {
    "8 bit": ((SMOOTH // 16).astype(np.uint8), 8),
    "12 bit": (SMOOTH.astype(np.uint16), 12),
    "16 bit": (RNG.integers(0, 2**16, X.shape).astype(np.uint16), 16),
    "12 bit signed": ((SMOOTH - 1500).astype(np.int16), 12),
    "16 bit signed": (RNG.integers(-(2**15), 2**15, X.shape).astype(np.int16), 16),
    "10 bit, odd sides": (RNG.integers(0, 2**10, (33, 37)).astype(np.uint16), 10),
}
MAMMOGRAM = {"Modality": "MG", "RescaleSlope": 1, "RescaleIntercept": 0, "ImagerPixelSpacing": [0.1, 0.1]}


def image(path, stored, bits, **tags):
    return write_slice(path, stored, **{"BitsStored": bits, "HighBit": bits - 1, **MAMMOGRAM, **tags})


@pytest.mark.parametrize("syntax", LOSSLESS.values(), ids=LOSSLESS)
@pytest.mark.parametrize("case", STORED)
def test_jpeg_lossless_jpeg_ls_rle_and_jpeg_2000_give_equal_pixels_bit_by_bit(tmp_path, syntax, case):
    stored, bits = STORED[case]
    path = encode(image(tmp_path / "a.dcm", stored, bits), syntax)
    assert np.array_equal(read_dicom_image(path).pixels, stored)
    assert np.array_equal(read_dicom(path).counts, stored)


def test_high_throughput_jpeg_2000_goes_the_same_way(tmp_path):
    """No encoder is at hand: what is tested is that its header is read and refused."""
    path = image(tmp_path / "a.dcm", *STORED["12 bit"])
    data = pydicom.dcmread(path)
    data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)]), HTJ2KLossless
    data.save_as(path)
    with pytest.raises(DataError, match=r"High-Throughput JPEG 2000.*cannot be decoded: they hold"):
        read_dicom_image(path)


# Lossy: no exact answer, but the error of the encoder's quantisation bounds it, and another decoder stays within it.


def test_lossy_jpeg_of_12_bit_is_near_what_was_encoded_and_equals_another_build_of_gdcm(tmp_path):
    stored, bits = STORED["12 bit"]
    path = encode(image(tmp_path / "a.dcm", stored, bits), gdcm.TransferSyntax.JPEGExtendedProcess2_4)
    pixels = read_dicom_image(path).pixels
    assert np.abs(pixels - stored).max() <= 2
    assert np.array_equal(pixels, read_dicom(path).counts)
    # SimpleITK has a gdcm of its own, of another version.
    assert np.array_equal(pixels, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0])


def test_lossy_jpeg_of_8_bit_is_near_what_was_encoded_and_what_pillow_decodes(tmp_path):
    stored, bits = STORED["8 bit"]
    path = encode(image(tmp_path / "a.dcm", stored, bits), gdcm.TransferSyntax.JPEGBaselineProcess1)
    pixels = read_dicom_image(path).pixels
    assert np.abs(pixels - stored).max() <= 2
    (tmp_path / "a.jpg").write_bytes(next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)))
    assert np.abs(pixels - np.asarray(Image.open(tmp_path / "a.jpg"))).max() <= 1


def test_near_lossless_jpeg_ls_and_lossy_jpeg_2000_are_near_what_was_encoded(tmp_path):
    stored, bits = STORED["12 bit"]
    for syntax in (gdcm.TransferSyntax.JPEGLSNearLossless, gdcm.TransferSyntax.JPEG2000):
        pixels = read_dicom_image(encode(image(tmp_path / "a.dcm", stored, bits), syntax)).pixels
        assert np.abs(pixels - stored).max() <= 3


# Files that are written unlike most


@pytest.mark.parametrize("uid", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "a.png"])
def test_dicom_without_preamble_is_read_whatever_its_name(tmp_path, uid, name):
    stored, bits = STORED["12 bit"]
    data = pydicom.dcmread(image(tmp_path / "whole.dcm", stored, bits))
    data.file_meta.TransferSyntaxUID = uid
    data["PixelData"].VR = "OW"
    if uid == ExplicitVRBigEndian:
        data.PixelData = stored.astype(">u2").tobytes()
    del data.file_meta, data.preamble
    dcmwrite(tmp_path / name, data, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
    assert np.array_equal(load_image(tmp_path / name).pixels, stored)
    assert np.array_equal(read_dicom(tmp_path / name).counts, stored)
    assert series_key(tmp_path / name).series == "1.2.3"


@pytest.mark.parametrize(
    "content", [bytes(200), b"\x08\x00" * 100, b"\x08\x00\x16\x00UI\x00\x00" + bytes(200), b"a text, no image" * 20]
)
def test_a_file_that_only_begins_like_dicom_is_refused(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    for read in (read_dicom_image, read_dicom, series_key):
        with pytest.raises(DataError, match=r"a\.dcm: (found no (DICOM|pixel data)|found modality|cannot be read)"):
            read(tmp_path / "a.dcm")


def enhanced(path, stored, frames=1, **tags):
    """An Enhanced MR image: rescaling of all frames together, spacing and place of each frame."""
    shared, frame, value, measures, place = (Dataset() for _ in range(5))
    value.RescaleIntercept, value.RescaleSlope, value.RescaleType = -10, 2.5, "US"
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 4
    place.ImagePositionPatient = [1, 2, 30]
    shared.PixelValueTransformationSequence = Sequence([value])
    frame.PixelMeasuresSequence, frame.PlanePositionSequence = Sequence([measures]), Sequence([place])
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = Sequence([orientation])
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [frame] * frames}
    tags = {"RescaleSlope": None, "RescaleIntercept": None, "Modality": "MR", "NumberOfFrames": frames, **tags}
    path = write_slice(path, stored, SOPClassUID=EnhancedMRImageStorage, **groups | tags)
    return path


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_an_enhanced_image_of_one_frame_has_rescale_and_spacing_of_its_functional_groups(tmp_path, modality):
    stored, _ = STORED["12 bit"]
    path = enhanced(tmp_path / "a.dcm", stored, Modality=modality)
    loaded = read_dicom_image(path)
    assert np.array_equal(loaded.pixels, 2.5 * stored - 10)
    assert loaded.spacing_mm == (0.5, 0.75)
    assert loaded.header["slice_thickness_mm"] == 4
    assert loaded.full_scale is None
    assert series_key(path).position_mm == 30


def test_what_is_said_of_the_frame_goes_before_what_is_said_of_all(tmp_path):
    path = enhanced(tmp_path / "a.dcm", STORED["12 bit"][0])
    data = pydicom.dcmread(path)
    value = Dataset()
    value.RescaleIntercept, value.RescaleSlope, value.RescaleType = 7, 1, "US"
    data.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence = Sequence([value])
    data.RescaleSlope, data.RescaleIntercept, data.PixelSpacing = 9, 9, [9, 9]
    data.save_as(path)
    assert np.array_equal(read_dicom_image(path).pixels, STORED["12 bit"][0] + 7)
    assert read_dicom_image(path).spacing_mm == (0.5, 0.75)


def test_a_mammogram_with_spacing_in_functional_groups_is_read(tmp_path):
    stored, bits = STORED["12 bit"]
    path = enhanced(tmp_path / "a.dcm", stored, Modality="MG", BitsStored=bits, HighBit=bits - 1)
    data = pydicom.dcmread(path)
    data.PerFrameFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.085, 0.085]
    data.save_as(path)
    recording = read_dicom(path)
    assert recording.pixel_mm == 0.085
    assert np.array_equal(recording.counts, np.float32(2.5) * stored - 10)


def test_an_enhanced_image_of_several_frames_is_refused_with_what_to_do(tmp_path):
    stored, _ = STORED["12 bit"]
    path = enhanced(tmp_path / "a.dcm", stored, frames=3, PixelData=3 * stored.tobytes())
    with pytest.raises(DataError, match="found 3 frames, expected one; export each frame as a file"):
        read_dicom_image(path)
    with pytest.raises(DataError, match="found 3 frames, expected one; name one of them with --frame NUMBER"):
        read_dicom(_as(path, Modality="MG"))


def _as(path, **tags):
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)
    return path


def test_a_deflated_file_that_unpacks_to_gigabytes_is_refused_within_bounded_memory(tmp_path):
    data = pydicom.dcmread(image(tmp_path / "a.dcm", *STORED["12 bit"]))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    start = 144 + pydicom.dcmread(tmp_path / "a.dcm").file_meta.FileMetaInformationGroupLength
    body, packer = zlib.decompress(content[start:], -15), zlib.compressobj(9, wbits=-15)
    # A private element of 1.5 GB of zeros behind the image.
    packed = packer.compress(body + b"\xfd\x7f\x10\x00OB\x00\x00" + (1_500_000_000).to_bytes(4, "little"))
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    packed += 90 * (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)) + packer.flush()
    assert len(packed) < 2_000_000
    (tmp_path / "a.dcm").write_bytes(content[:start] + packed)
    used = Path("/proc/self/status")
    before = int(used.read_text().split("VmHWM:")[1].split()[0])
    for read in (read_dicom_image, read_dicom, series_key):
        with reading(Reading(largest_image_mb=50)), pytest.raises(DataError, match="unpacks to more than 50 MB"):
            read(tmp_path / "a.dcm")
    assert int(used.read_text().split("VmHWM:")[1].split()[0]) - before < 150_000


@pytest.mark.parametrize("syntax", [None, *LOSSLESS.values()], ids=["plain", *LOSSLESS])
def test_a_header_that_claims_60000_by_60000_pixels_is_refused(tmp_path, syntax):
    path = image(tmp_path / "a.dcm", *STORED["12 bit"])
    if syntax is not None:
        encode(path, syntax)
    _as(path, Rows=60000, Columns=60000)
    for read in (read_dicom_image, read_dicom):
        with pytest.raises(DataError, match="claims an image of 60000 × 60000 values"):
            read(path)


# Damage behind the header


@pytest.mark.parametrize("syntax", list(LOSSLESS.values())[:4], ids=list(LOSSLESS)[:4])
def test_a_stream_of_another_size_than_its_header_says_is_refused(tmp_path, syntax):
    path = encode(image(tmp_path / "a.dcm", *STORED["12 bit"]), syntax)
    with pytest.raises(
        DataError, match=r"they hold \(rows, columns, channels\) \(64, 48, 1\), the header says \(63, 48, 1\)"
    ):
        read_dicom_image(_as(path, Rows=63))


def test_the_header_of_a_stream_gives_rows_columns_channels_and_bits():
    assert stream_header(b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x0c\x00\x40\x00\x30\x01") == (64, 48, 1, 12)
    for damaged in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda\x00\x04", b"\xff\x4f\xff\x51\x00", b"GIF89a" * 20):
        with pytest.raises(Undecodable, match="no image of this kind"):
            stream_header(damaged)


def test_a_decoder_that_crashes_hangs_or_eats_memory_is_a_fault_of_the_file_and_the_next_is_read(tmp_path, monkeypatch):
    stored, bits = STORED["12 bit"]
    good = encode(image(tmp_path / "good.dcm", stored, bits), gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    assert np.array_equal(read_dicom_image(good).pixels, stored)
    first = dicom_decoder._STARTED[0].running
    os.kill(first.pid, 19)  # stopped, it hangs
    monkeypatch.setattr(dicom_decoder, "SECONDS", 0.5)
    with pytest.raises(DataError, match="the decoder crashed or did not come to an end"):
        read_dicom_image(good)
    monkeypatch.undo()
    assert np.array_equal(read_dicom_image(good).pixels, stored)
    assert dicom_decoder._STARTED[0].running is not first


def test_a_forked_process_has_a_decoder_of_its_own(tmp_path):
    stored, bits = STORED["12 bit"]
    path = encode(image(tmp_path / "a.dcm", stored, bits), gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    assert np.array_equal(read_dicom_image(path).pixels, stored)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(read_dicom_image(path).pixels, stored) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(read_dicom_image(path).pixels, stored)


def test_a_missing_decoder_names_the_package_to_xiqa_read_too(tmp_path, monkeypatch):
    path = encode(image(tmp_path / "a.dcm", *STORED["12 bit"]), gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    monkeypatch.setattr(dicom_file, "get_decoder", lambda uid: type("None", (), {"available_plugins": ()}))
    with pytest.raises(DataError, match=r"JPEG Lossless.*pip install python-gdcm\)"):
        read_dicom(path)
