"""Finding the images of the phantom in whatever an export has made of them."""

from unicodedata import normalize

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from xiqa.cdmam.dicom import read_dicom, write_dicom
from xiqa.cdmam.folder import find_all, find_images, withhold_patients
from xiqa.config import Detector, Exposure
from xiqa.datasets.base import DataError

EXPOSURE = Exposure(tube_voltage_kv=28, exposure_mas=100, noise_level=10)


def image(path, seed: int = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.random.default_rng(seed).integers(0, 2**14, (30, 20)).astype(np.uint16)
    write_dicom(path, counts, EXPOSURE, Detector(), image_name=f"image {seed}")
    return path


def dicomdir(path):
    """An index of a medium, as each export on a disc has one."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.FileSetID, data.DirectoryRecordSequence = "EXPORT", []
    data.save_as(path, enforce_file_format=True)
    return path


def report(path, modality: str = "SR"):
    """A DICOM object without an image, such as a dose report."""
    data = pydicom.dcmread(image(path))
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored"):
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    data.Modality = modality
    data.save_as(path)
    return path


def test_files_named_by_identifier_without_suffix_keep_their_whole_names(tmp_path):
    for number in (1, 2, 10):
        image(tmp_path / f"1.2.840.1.{number}", number)
    found = find_images(tmp_path)
    assert found.names == ["1.2.840.1.1", "1.2.840.1.10", "1.2.840.1.2"]
    assert [path.name for path in found.paths] == found.names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.dcm", "a"), ("a.DCM", "a"), ("a.ima", "a"), ("a", "a"), ("a.1", "a.1"), ("28 kV.100 mAs", "28 kV.100 mAs"),
        ("1.2.3.dcm", "1.2.3"), ("a.dcm.dcm", "a.dcm"), ("IM000001", "IM000001"),
    ],
)  # fmt: skip
def test_only_known_suffixes_are_cut(name, expected, tmp_path):
    image(tmp_path / name)
    assert find_images(tmp_path).names == [expected]


def test_an_export_on_a_disc_is_searched_and_what_is_no_image_is_listed_once(tmp_path):
    places = [f"DICOM/PA0/SE{series}/IM{number}" for series in (0, 1) for number in (0, 1)]
    images = [image(tmp_path / place, seed) for seed, place in enumerate(places)]
    index, dose = dicomdir(tmp_path / "DICOMDIR"), report(tmp_path / "DICOM/PA0/SE9/SR0")
    others = [tmp_path / "Thumbs.db", tmp_path / "notes.txt", tmp_path / "VIEWER/run.exe", tmp_path / "DICOM/empty"]
    (tmp_path / "VIEWER").mkdir()
    for other in others:
        other.write_bytes(b"MZ no image" * 20 if other.name != "empty" else b"")
    hidden = [tmp_path / ".DS_Store", tmp_path / "DICOM/._IM0", tmp_path / ".Trash/IM0"]
    hidden[2].parent.mkdir()
    for path in hidden:
        path.write_bytes(images[0].read_bytes())
    found = find_images(tmp_path)
    assert found.paths == images
    assert found.names == [place.replace("/", "_") for place in places]
    assert set(found.others) == {index, dose, *others}
    assert "DICOMDIR" in found.others[index]
    assert "SR" in found.others[dose]


def test_images_without_preamble_or_with_a_wrong_suffix_are_found_by_their_content(tmp_path):
    whole = image(tmp_path / "a.dcm")
    (tmp_path / "b.jpg").write_bytes(whole.read_bytes())
    data = pydicom.dcmread(whole)
    with open(tmp_path / "c", "wb") as stream:
        pydicom.filewriter.write_dataset(pydicom.filebase.DicomFileLike(stream), data)
    assert find_images(tmp_path).names == ["a", "b.jpg", "c"]


def test_a_damaged_image_is_not_passed_over(tmp_path):
    whole = image(tmp_path / "a.dcm").read_bytes()
    for length in (140, 300, 700, len(whole) - 5):
        (tmp_path / "a.dcm").write_bytes(whole[:length])
        assert find_images(tmp_path).names == ["a"], length
        with pytest.raises(DataError):
            read_dicom(tmp_path / "a.dcm")


def test_a_mammogram_without_rows_is_for_the_reader_to_refuse(tmp_path):
    report(tmp_path / "a.dcm", "MG")
    assert find_images(tmp_path).names == ["a"]


def test_two_images_of_one_name_are_refused(tmp_path):
    image(tmp_path / "a.dcm", 1)
    image(tmp_path / "a.ima", 2)
    with pytest.raises(DataError, match="several files named a"):
        find_images(tmp_path)
    (tmp_path / "a.ima").rename(tmp_path / "x_a.dcm")
    image(tmp_path / "x/a.dcm", 3)
    with pytest.raises(DataError, match="several files named x_a"):
        find_images(tmp_path)


def test_folders_without_images_are_refused_with_an_example(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_images(tmp_path / "missing")
    with pytest.raises(DataError, match="found no files"):
        find_images(tmp_path)
    dicomdir(tmp_path / "DICOMDIR")
    with pytest.raises(DataError, match=r"1 files and no DICOM image among them, such as DICOMDIR: an index"):
        find_images(tmp_path)


def test_a_folder_linked_to_its_own_parent_is_not_searched_for_ever(tmp_path):
    image(tmp_path / "images/a.dcm")
    (tmp_path / "images/loop").symlink_to(tmp_path / "images", target_is_directory=True)
    assert find_images(tmp_path / "images").names == ["a"]


def test_the_same_pixels_have_the_same_digest_whatever_their_header_and_compression(tmp_path):
    path = image(tmp_path / "a.dcm")
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless)
    data.KVP, data.SOPInstanceUID = "30", "1.2.3"
    data.save_as(tmp_path / "b.dcm")
    first, second, other = read_dicom(path), read_dicom(tmp_path / "b.dcm"), read_dicom(image(tmp_path / "c.dcm", 1))
    assert first.pixel_digest == second.pixel_digest
    assert first.pixel_digest != other.pixel_digest


def of_patient(path, name, patient, born="19500301", seed=0):
    data = pydicom.dcmread(image(path, seed))
    data.PatientName, data.PatientID, data.PatientBirthDate = name, patient, born
    data.save_as(path)


@pytest.mark.parametrize("name", ["Weiß", "Müller", "O'Neill^Zoë"])
def test_names_are_withheld_in_every_spelling_and_stay_apart(tmp_path, name):
    first = name.split("^")[-1]
    spelled = list(dict.fromkeys([first, first.upper(), first.lower(), normalize("NFD", first)]))
    paths = [tmp_path / f"{word}_1.dcm" for word in spelled]
    for path in paths:
        data = pydicom.dcmread(image(path))
        data.SpecificCharacterSet, data.PatientName = "ISO_IR 192", name
        data.save_as(path)
    withheld = withhold_patients(paths)
    shown = {withheld(path.name) for path in paths}
    assert all(text.startswith("withheld-") and text.endswith("_1.dcm") for text in shown)
    assert len(shown) == len({normalize("NFC", word) for word in spelled})


def test_words_that_name_a_patient_are_withheld_from_names(tmp_path):
    of_patient(tmp_path / "Doe_JANE/a.dcm", "Doe^Jane", "AB-4711")
    of_patient(tmp_path / "Roe/1.2.4711.5", "Roe^Ä", "12", seed=1)
    (tmp_path / "notes of doe, born 19500301.txt").write_text("")
    (tmp_path / "Doeskin 12.txt").write_text("")
    for places in ([tmp_path], [tmp_path / "Doe_JANE", tmp_path / "Roe", tmp_path / "notes"]):
        (tmp_path / "notes").mkdir(exist_ok=True)
        of_patient(tmp_path / "notes/Jane.dcm", "Doe^Jane", "AB-4711", seed=2)
        found = find_all(places)
        words = " ".join([*found.names, *found.shown.values()]).casefold()
        for word in ("jane", "roe", "4711", "19500301"):
            assert word not in words
        assert "doe" not in words.replace("doeskin", "")
        assert len(set(found.names)) == 3
    assert found.names[0] == "withheld-4_withheld-3_a"


def test_a_phantom_keeps_its_name(tmp_path):
    of_patient(tmp_path / "CDMAM phantom/test 1.dcm", "CDMAM^Phantom^Test", "CDMAM34", born="")
    assert find_all([tmp_path]).names == ["CDMAM phantom_test 1"]
