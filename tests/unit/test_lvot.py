"""Cardiac cine: orientation, frames, boxes, and faults that name the file."""

import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from xiqa.config import Dataset
from xiqa.datasets.base import DataError
from xiqa.datasets.lvot import read
from xiqa.datasets.volumes import open_volume

DATASET = Dataset(format="lvot")
WIDTH, HEIGHT, FRAMES = 7, 5, 4
CINE = np.random.default_rng(0).integers(0, 900, (WIDTH, HEIGHT, FRAMES)).astype(np.int16)


def _save(path, array, zooms=(1.5, 1.25), unit="mm"):
    image = nib.Nifti1Image(array, np.diag([-1, -1, 1, 1]))  # x to the left, y to the back: needs no turn
    image.header.set_zooms((*zooms, *[1.0] * (array.ndim - 2)))
    image.header.set_xyzt_units(unit, "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def _frame(path, index):
    return open_volume(path).slice(index).pixels


def _table(folder, rows):
    (folder / "labels.csv").write_text("patient,frame,label\n" + "".join(f"{row}\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    """Patient 007 with a mask, patient 12 without one."""
    mask = np.zeros(CINE.shape, np.uint8)
    mask[2:6, 1:3, 1] = 1
    _save(tmp_path / "cine/007.nii.gz", CINE)
    _save(tmp_path / "masks/007.nii.gz", mask)
    _save(tmp_path / "cine/12.nii.gz", CINE[:, :, None, :2] + 1)
    _table(tmp_path, ["007,0,0", "007,1,1", "007,2,1", "007,3,0", "12,0,0", "12,1,1"])
    return tmp_path


def _faults(folder):
    return [str(item) for item in read(folder, DATASET) if isinstance(item, DataError)]


def test_each_frame_is_an_image_with_its_label(folder):
    records = list(read(folder, DATASET))
    assert [record.image for record in records] == ["007-000", "007-001", "007-002", "007-003", "12-000", "12-001"]
    assert [record.label for record in records] == [0, 1, 1, 0, 0, 1]
    assert [record.label_name for record in records[:2]] == ["good", "lvot"]
    assert [record.extra["frame"] for record in records] == [0, 1, 2, 3, 0, 1]
    assert [record.patient for record in records] == ["007"] * 4 + ["12"] * 2
    assert [len(record.files) for record in records] == [2] * 4 + [1] * 2


def test_x_runs_along_columns_and_y_along_rows(folder):
    for frame, record in enumerate(read(folder, DATASET)):
        if record.patient == "007":
            pixels = record.load().pixels
            assert pixels.shape == (HEIGHT, WIDTH)
            for x, y in ((0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (3, 2)):
                assert pixels[y, x] == CINE[x, y, frame]


@pytest.mark.parametrize(("x", "y"), [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_frames_are_turned_as_all_volumes_are(tmp_path, x, y):
    nib.save(nib.Nifti1Image(CINE[::-x, ::-y], np.diag([x * 1.5, y * 1.25, 1, 1])), tmp_path / "a.nii.gz")
    assert np.array_equal(_frame(tmp_path / "a.nii.gz", 2), CINE[:, :, 2].T)


def test_a_cine_that_does_not_say_how_it_lies_is_taken_as_stored(tmp_path):
    nib.save(nib.Nifti1Image(CINE, None), tmp_path / "a.nii.gz")
    assert np.array_equal(_frame(tmp_path / "a.nii.gz", 2), CINE[:, :, 2].T)


def test_the_box_is_tight_around_the_mask_of_its_frame(folder):
    loaded = [record.load() for record in read(folder, DATASET)]
    assert loaded[1].boxes == ((2.0, 1.0, 6.0, 3.0),)
    assert loaded[1].mask.sum() == 8
    assert loaded[1].mask[1:3, 2:6].all()
    # An empty mask is a statement, a missing one is none.
    assert loaded[0].boxes == () == loaded[4].boxes
    assert not loaded[0].mask.any()
    assert loaded[4].mask is None


@pytest.mark.parametrize(("zooms", "unit", "expected"), [
    ((1.5, 1.25), "mm", (1.25, 1.5)), ((1500, 1250), "micron", (1.25, 1.5)), ((0.5, 0.25), "unknown", (0.25, 0.5)),
])  # fmt: skip
def test_spacing_is_rows_before_columns_in_mm(tmp_path, zooms, unit, expected):
    assert open_volume(_save(tmp_path / "a.nii.gz", CINE, zooms, unit)).spacing_mm == pytest.approx(expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_frame_is_read_without_the_cine(tmp_path, suffix):
    path = _save(tmp_path / f"long{suffix}", np.random.default_rng(1).normal(size=(64, 64, 300)).astype(np.float32))
    _frame(path, 0)
    tracemalloc.start()
    _frame(path, 200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 64 * 4 * 300 / 4


def test_stored_scaling_is_applied(tmp_path):
    path = _save(tmp_path / "a.nii", CINE)
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<2f", 0.5, 10)  # scl_slope and scl_inter of the NIfTI-1 header
    path.write_bytes(content)
    assert np.array_equal(_frame(path, 1), CINE[:, :, 1].T * 0.5 + 10)


def test_nan_is_a_fault_of_its_frame_alone(folder):
    broken = CINE.astype(np.float32)
    broken[1, 1, 2] = np.nan
    path = _save(folder / "cine/007.nii.gz", broken)
    loads = [record.load for record in read(folder, DATASET)]
    with pytest.raises(DataError, match=r"007\.nii\.gz: found 1 values in slice 2 that are NaN or infinite"):
        loads[2]()
    assert np.isfinite(loads[1]().pixels).all()
    assert path.exists()


def test_a_mask_of_another_shape_is_a_fault_of_that_patient_alone(folder):
    _save(folder / "masks/007.nii.gz", np.zeros((WIDTH, HEIGHT, FRAMES + 1), np.uint8))
    items = list(read(folder, DATASET))
    assert "masks/007.nii.gz: found a mask of (5, 5, 7), expected (4, 5, 7)" in str(items[0])
    assert [item.image for item in items[1:]] == ["12-000", "12-001"]


ROWS = ["007,0,0", "007,1,1", "007,2,1", "007,3,0", "12,0,0", "12,1,1"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, "12,2,0"], "found 2 frames, but labels.csv has frame 2"),
        ([*ROWS, "12,2000000000,0"], "has frame 2000000000"),
        (ROWS[:-1], "12.nii.gz: frame 1 has no usable row"),
        (ROWS[:4], "12.nii.gz: has no row"),
        ([*ROWS, "007,3,1"], "row 8: found this frame a second time"),
        ([*ROWS, "99,0,0"], "names 'cine/99.nii.gz'"),
        ([*ROWS[:5], "12,1,2"], "row 7: found frame '1' and label '2'"),
        ([*ROWS[:5], "12,1.5,1", "12,1,1"], "row 7: found frame '1.5'"),
        ([*ROWS, "../cine/12,0,0"], "no plain file name"),
        ([*ROWS, ",0,0"], "empty"),
        ([*ROWS, "12,1"], "row 8"),
    ],
)
def test_faulty_rows_are_told_and_the_rest_is_listed(folder, rows, message):
    _table(folder, rows)
    faults = _faults(folder)
    assert any(message in fault for fault in faults), faults
    assert sum(not isinstance(item, DataError) for item in read(folder, DATASET)) >= 4


def test_faults_of_the_set_stop(folder):
    with pytest.raises(ValueError, match="classes: found 3, expected 2 as format: lvot has"):
        Dataset(format="lvot", classes=("a", "b", "c"))
    (folder / "labels.csv").write_text("patient,frame\n007,0\n")
    with pytest.raises(DataError, match="label"):
        list(read(folder, DATASET))
    (folder / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: is missing"):
        list(read(folder, DATASET))


def test_what_is_no_cine_is_refused(tmp_path):
    for array in (np.zeros((4, 5, 2, 3), np.int16), np.zeros((4, 5, 1, 3, 2), np.int16), np.zeros((4, 5, 3), complex)):
        with pytest.raises(DataError, match=r"expected (grey values|\(x, y\))"):
            open_volume(_save(tmp_path / "a.nii.gz", array))
    (tmp_path / "text.nii.gz").write_text("no image")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    problems = {"text": "found neither a NIfTI", "empty": "found neither a NIfTI", "none": "cannot be read"}
    for name, problem in problems.items():
        with pytest.raises(DataError, match=rf"{name}\.nii\.gz: {problem}"):
            open_volume(tmp_path / f"{name}.nii.gz")
    with pytest.raises(DataError, match="found 4 slices, expected one with index 4"):
        _frame(_save(tmp_path / "a.nii.gz", CINE), 4)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_cine_is_refused(tmp_path, share):
    path = _save(tmp_path / "cut.nii.gz", np.random.default_rng(2).normal(size=(20, 20, 10)))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"cut\.nii\.gz"):
        _frame(path, 9)
