"""CT with and without contrast agent: three layouts, the slices that are taken, masks, and faults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_dicom_image import write_slice
from test_volumes import write_volume

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Record
from xiqa.datasets.ct_contrast import chosen_slices, read

ALL = {"format": "ct_contrast", "slices": "all"}


def _items(folder, **options):
    return list(read(folder, Dataset(**ALL | options)))


def _faults(folder, **options):
    return [str(item) for item in _items(folder, **options) if isinstance(item, DataError)]


def _records(folder, **options):
    items = _items(folder, **options)
    assert all(isinstance(item, Record) for item in items), [str(item) for item in items]
    return items


def _table(folder, *lines, name="labels.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")


def _slice(path, height_mm, *, patient="P1", series="1.1", hu=0, **tags):
    stored = np.full((4, 6), 1024 + hu, np.uint16)
    stored[0, 0] = 24
    place = {"ImagePositionPatient": [0, 0, height_mm], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    return write_slice(path, stored, **place | {"PatientID": patient, "SeriesInstanceUID": series} | tags)


def _heights(records):
    return [int(record.load().pixels[1, 1]) for record in records]


# Slices.


@given(st.integers(2, 2000))
def test_two_slices_lie_at_the_thirds_whichever_end_comes_first(slices):
    first, second = chosen_slices(slices, "two")
    assert 0 <= first < second < slices
    assert abs(first - slices / 3) < 1
    assert abs(second - 2 * slices / 3) < 1
    reverse = [slices - 1 - second, slices - 1 - first]
    assert np.abs(np.subtract(reverse, [first, second])).max() <= 1


def test_all_slices_are_all_and_a_single_one_is_taken_once():
    assert chosen_slices(5, "all") == [0, 1, 2, 3, 4]
    assert chosen_slices(1, "two") == [0]


# DICOM series.


@pytest.fixture
def series(tmp_path):
    """Two patients: six slices in reverse order and other names; three in two nested folders, and a text file."""
    for index in range(6):
        _slice(tmp_path / f"LIDC/one/study/{9 - index}.dcm", 2.5 * index, hu=index, PixelSpacing=[0.6, 0.7])
    for index in range(3):
        _slice(tmp_path / f"LIDC/two/{index % 2}/IM{index}", -5 + index, patient="P2", series="1.2", hu=100 + index)
    (tmp_path / "LIDC/one/notes.txt").write_text("not an image")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    _table(tmp_path, "patient,contrast", "P1,1", "P2,0")
    return tmp_path


def test_a_series_is_sorted_by_position_whatever_its_files_are_called(series):
    records = _records(series)
    assert _heights(records) == [0, 1, 2, 3, 4, 5, 100, 101, 102]
    assert [record.extra["slice"] for record in records] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert [record.label for record in records] == [1] * 6 + [0] * 3
    assert {record.label_name for record in records[:6]} == {"contrast"}
    assert [record.patient for record in records] == ["P1"] * 6 + ["P2"] * 3
    assert len({record.image for record in records}) == 9
    assert not any("P1" in record.image or "P2" in record.image for record in records)
    assert records[0].load().spacing_mm == (0.6, 0.7)


def test_two_slices_of_each_series(series):
    assert _heights(_records(series, slices="two")) == [2, 4, 101, 102]


def test_numbers_order_a_series_without_positions(tmp_path):
    for index in range(4):
        _slice(tmp_path / f"{3 - index}.dcm", 0, hu=index, ImagePositionPatient=None, InstanceNumber=index + 9)
    _table(tmp_path, "patient,contrast", "P1,1")
    assert _heights(_records(tmp_path)) == [0, 1, 2, 3]
    _slice(tmp_path / "4.dcm", 0, ImagePositionPatient=None)
    assert "neither position nor number" in _faults(tmp_path)[0]


def test_labels_by_series_or_by_file(series):
    _table(series, "series,contrast,patient", "1.1,0,anna", "1.2,1,")
    records = _records(series)
    assert [record.label for record in records] == [0] * 6 + [1] * 3
    assert [record.patient for record in records] == ["anna"] * 6 + ["P2"] * 3
    _table(series, "file,contrast", "LIDC/one/study/9.dcm,1", r"LIDC\one\study\5.dcm,0")
    records = _records(series)
    assert _heights(records) == [0, 4]
    assert [record.label for record in records] == [1, 0]


def test_other_modalities_scouts_and_damaged_files_are_faults_of_their_own(series):
    _slice(series / "LIDC/one/study/xray.dcm", 0, Modality="DX")
    _slice(series / "LIDC/one/study/scout.dcm", 0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (series / "LIDC/one/study/zero.dcm").write_bytes(b"")
    faults = _faults(series)
    assert len(faults) == 3
    for name, message in (("scout.dcm", "localizer"), ("xray.dcm", "modality 'DX'"), ("zero.dcm", "DICOM")):
        assert any(name in fault and message in fault for fault in faults)
    assert len(_items(series)) == 3 + 9


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["patient,contrast", "P1,1"], "has no usable row"),
        (["patient,contrast", "P1,1", "P2,2"], "row 3: found contrast '2'"),
        (["patient,contrast", "P1,1", "P2,0", "P3,0"], "row 4: found no DICOM file for this patient"),
        (["patient,contrast", "P1,1", "P2,0", "P1,0"], "row 4: found patient empty or a second time"),
        (["patient,contrast", "P1,1", "P2,0", ",0"], "row 4: found patient empty"),
        (["series,contrast", "1.1,1", "1.2"], "row 3"),
        (["file,contrast", "LIDC/one/study/9.dcm,1", "../other.dcm,1"], "'../other.dcm', which lies outside"),
        (["file,contrast", "LIDC/one/study/9.dcm,1", "LIDC/9.dcm,1"], "names 'LIDC/9.dcm'"),
        (["file,contrast", "LIDC/one/study/9.dcm,1", "labels.csv,1"], "row 3: found no DICOM file for this file"),
    ],
)
def test_faulty_labels_are_told_without_the_patient(series, lines, message):
    _table(series, *lines)
    faults = _faults(series)
    assert any(message in fault for fault in faults), faults
    assert not any(patient in fault for fault in faults for patient in ("P1", "P2", "P3"))


def test_faults_of_the_set_stop(series):
    _table(series, "age,contrast", "60,1")
    with pytest.raises(DataError, match="file, series and patient"):
        _items(series)
    _table(series, "patient", "P1")
    with pytest.raises(DataError, match="contrast"):
        _items(series)
    with pytest.raises(ValueError, match="classes: found 3, expected 2 as format: ct_contrast has"):
        _items(series, classes=("a", "b", "c"))
    (series / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: is missing"):
        _items(series)


def test_masks_by_id_or_by_the_path_of_the_file(series):
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2:5] = 255
    by_id = _records(series)[1].image
    (series / "masks/LIDC/two/0").mkdir(parents=True)
    Image.fromarray(mask).save(series / f"masks/{by_id}.png")
    np.save(series / "masks/LIDC/two/0/IM2.npy", mask > 0)
    np.save(series / "masks/LIDC/two/0/IM0.npy", mask[:3] > 0)
    records = _records(series)
    for index, record in enumerate(records):
        if index in (1, 8):
            assert np.array_equal(record.load().mask, mask > 0)
            assert len(record.files) == 2
        elif index != 6:
            assert record.load().mask is None
    with pytest.raises(DataError, match=r"IM0\.npy: found a mask of \(3, 6\)"):
        records[6].load()


# MetaImage volumes.


@pytest.fixture
def volumes(tmp_path):
    for number, contrast in ((1, 40), (2, 300)):
        volume = np.full((6, 4, 5), contrast, np.int16) + np.arange(6, dtype=np.int16)[:, None, None]
        volume[:, 0, :2] = -1000, -2000
        write_volume(tmp_path / f"data/LNDb-000{number}.mhd", volume)
    _table(tmp_path, "file,contrast", "data/LNDb-0001.mhd,0", "data/LNDb-0002.mhd,1")
    return tmp_path


def test_volumes_give_their_slices_in_hounsfield_units(volumes):
    records = _records(volumes, slices="two")
    assert [record.image for record in records] == [f"LNDb-000{n}-00{index}" for n in (1, 2) for index in (2, 4)]
    assert [record.label for record in records] == [0, 0, 1, 1]
    assert [record.patient for record in records] == ["LNDb-0001"] * 2 + ["LNDb-0002"] * 2
    loaded = records[3].load()
    assert loaded.pixels[2, 2] == 304
    assert loaded.pixels[0].tolist() == [-1000, -1000, 304, 304, 304]
    assert loaded.spacing_mm == pytest.approx((0.7, 0.6))
    assert {file.name for file in records[0].files} == {"LNDb-0001.mhd", "LNDb-0001.raw"}
    assert len(_records(volumes)) == 12


def test_masks_of_volumes_go_by_slice(volumes):
    (volumes / "masks").mkdir()
    np.save(volumes / "masks/LNDb-0002-003.npy", np.eye(4, 5))
    masks = {record.image: record.load().mask for record in _records(volumes)}
    assert [image for image, mask in masks.items() if mask is not None] == ["LNDb-0002-003"]
    assert np.array_equal(masks["LNDb-0002-003"], np.eye(4, 5, dtype=bool))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("data/LNDb-0003.mhd,1,", "names 'data/LNDb-0003.mhd'"),
        ("../other.mhd,1,", "lies outside"),
        ("data/LNDb-0001.mhd,1,", "listed before"),
        ("data/LNDb-0001.raw,1,", "listed before"),
        ("labels.csv,1,", "neither a NIfTI nor a MetaImage header"),
        ("data/LNDb-0002.mhd,yes,", "contrast 'yes'"),
    ],
)
def test_faulty_rows_of_volumes(volumes, row, message):
    _table(volumes, "file,contrast,patient", "data/LNDb-0001.mhd,0,anna", row)
    items = _items(volumes)
    faults = [str(item) for item in items if isinstance(item, DataError)]
    assert any(message in fault for fault in faults), faults
    assert any("LNDb-0002.mhd: has no usable row" in fault for fault in faults)
    assert [item.patient for item in items if isinstance(item, Record)] == ["anna"] * 6


# Single slices with overview.csv.

OVERVIEW = ",Age,Contrast,ContrastTag,raw_input_path,id,tiff_name,dicom_name"


@pytest.fixture
def overview(tmp_path):
    for number in range(3):
        name = f"ID_000{number}_AGE_0060_CONTRAST_{number % 2}_CT"
        _slice(tmp_path / f"dicom_dir/{name}.dcm", 0, patient=f"TCGA-{number // 2}", hu=number)
    rows = [
        rf"{n},60,{bool(n % 2)},NONE,../data/50\Contrast\{n}.dcm,{n},x.tif,ID_000{n}_AGE_0060_CONTRAST_{n % 2}_CT.dcm"
        for n in range(3)
    ]
    _table(tmp_path, OVERVIEW, *rows, name="overview.csv")
    _table(tmp_path, "file,contrast", "misleading.dcm,1")
    return tmp_path


def test_the_overview_names_slices_and_labels_and_the_header_the_patient(overview):
    records = _records(overview, slices="two")
    assert [record.image for record in records] == ["ID_0000", "ID_0001", "ID_0002"]
    assert [record.label for record in records] == [0, 1, 0]
    assert [record.patient for record in records] == ["TCGA-0", "TCGA-0", "TCGA-1"]
    assert _heights(records) == [0, 1, 2]
    (overview / "masks").mkdir()
    for name in ("ID_0001", "ID_0002_AGE_0060_CONTRAST_0_CT"):
        np.save(overview / f"masks/{name}.npy", np.ones((4, 6)))
    assert [record.load().mask is not None for record in _records(overview)] == [False, True, True]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,60,True,NONE,,3,,missing.dcm", "names 'missing.dcm'"),
        ("3,60,True,NONE,,3,,../../elsewhere.csv", "lies outside"),
        ("3,60,maybe,NONE,,3,,ID_0001_AGE_0060_CONTRAST_1_CT.dcm", "row 5: found contrast 'maybe'"),
        ("3,60,True,NONE,,three,,ID_0001_AGE_0060_CONTRAST_1_CT.dcm", "row 5: found id 'three'"),
        ("3,60,True", "row 5"),
    ],
)
def test_faulty_rows_of_the_overview(overview, row, message):
    with (overview / "overview.csv").open("a") as table:
        table.write(row + "\n")
    (fault,) = _faults(overview)
    assert message in fault
    assert len(_items(overview)) == 4


def test_the_real_slices(real_data):
    records = _records(real_data / "ct_contrast_dicom")
    assert np.bincount([record.label for record in records]).tolist() == [50, 50]
    assert len({record.image for record in records}) == 100
    assert len({record.patient for record in records}) == 54
    agents = [0, 0]
    bright = ([], [])
    for record in records[::4]:
        loaded = record.load()
        agents[record.label] += loaded.header["contrast_tag"]
        bright[record.label].append((loaded.pixels > 100).mean())
    # The header names an agent in some slices with contrast and in none without; contrast brightens vessels.
    assert agents[0] == 0 < agents[1]
    assert np.median(bright[1]) > np.median(bright[0])
