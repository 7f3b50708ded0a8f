"""Brain tumours: MATLAB's transposed storage turned back, every field checked, and the real JPG copy."""

import h5py
import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from xiqa.config import Dataset
from xiqa.datasets import brain_tumor, brain_tumor_jpg
from xiqa.datasets.base import DataError, Record

DATASET = Dataset(format="brain_tumor")
# Asymmetric in every way: 40 rows, 60 columns; corners of the border as x, y counted from 1, as MATLAB draws them.
ROWS, COLUMNS = 40, 60
BORDER = np.array([[10.0, 5.0], [50.0, 8.0], [30.0, 20.0]])
MATRIX = np.random.default_rng(0).integers(0, 3000, (ROWS, COLUMNS)).astype(np.int16)
MASK = polygon2mask((ROWS, COLUMNS), BORDER[:, ::-1] - 1)


def _store(group, name, matrix):
    """As MATLAB v7.3 does: the bytes column by column, the sizes in HDF5's order, which is the reverse."""
    matrix = np.atleast_2d(matrix)
    columns_first = np.frombuffer(matrix.tobytes(order="F"), matrix.dtype)
    group[name] = columns_first.reshape(matrix.shape[::-1])


def _write(path, *, patient="MR-0815", **changes):
    fields = {
        "image": MATRIX,
        "tumorMask": MASK.astype(np.uint8),
        "tumorBorder": BORDER.reshape(-1, 1),
        "label": np.array([[2.0]]),
        "PID": np.array([[ord(letter) for letter in patient]], np.uint16),
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, matrix in fields.items():
            if matrix is not None:
                _store(file.require_group("cjdata"), name, matrix)
    return path


def _items(folder, **options):
    return list(brain_tumor.read(folder, Dataset(format="brain_tumor", **options)))


def test_the_image_is_the_matrix_as_matlab_shows_it(tmp_path):
    (record,) = _items(_write(tmp_path / "7.mat").parent)
    loaded = record.load()
    assert loaded.pixels.dtype == np.float32
    assert loaded.pixels.flags.c_contiguous
    assert np.array_equal(loaded.pixels, MATRIX)
    assert (record.image, record.patient, record.label, record.label_name) == ("7", "MR-0815", 1, "glioma")
    assert record.grouping == "patient"


def test_the_mask_is_the_inside_of_the_border(tmp_path):
    path = _write(tmp_path / "7.mat")
    with h5py.File(path) as file:
        border = file["cjdata/tumorBorder"][()].reshape(-1, 2)
    (record,) = _items(tmp_path)
    loaded = record.load()
    filled = polygon2mask(loaded.pixels.shape, border[:, ::-1] - 1)  # x, y from 1 to row, column from 0
    assert np.array_equal(loaded.mask, filled)
    assert loaded.mask[8, 40]  # far to the right in the upper part, as the corners have it


def test_slices_in_several_folders_are_listed_by_number(tmp_path):
    for number, part in ((10, "brainTumorDataPublic_1-766"), (9, "brainTumorDataPublic_1-766"), (800, "b/c"), (2, "")):
        _write(tmp_path / part / f"{number}.mat", label=np.array([[1.0 + number % 3]]))
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._2.mat").write_bytes(b"Mac OS X")
    records = _items(tmp_path)
    assert [record.image for record in records] == ["2", "9", "10", "800"]
    assert [record.label for record in records] == [2, 0, 1, 2]
    assert _items(tmp_path, classes=("m", "g", "p"))[1].label_name == "m"


def test_the_folds_of_the_set_become_a_column(tmp_path):
    for number in (1, 3, 6):
        _write(tmp_path / "a" / f"{number}.mat")
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        _store(file, "cvind", np.array([[5.0], [1], [2], [3], [4]]))
    first, third, sixth = _items(tmp_path)
    assert (first.extra, third.extra) == ({"fold": 5}, {"fold": 2})
    assert "6.mat: cvind.mat has 5 entries" in str(sixth)
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        _store(file, "cvind", np.array([[5.0], [0]]))
    with pytest.raises(DataError, match=r"cvind\.mat: field cvind"):
        _items(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "no field cjdata/label"),
        ({"label": np.array([[4.0]])}, "cjdata/label: found [[4.0]]"),
        ({"label": np.array([[np.nan]])}, "cjdata/label"),
        ({"label": np.array([[1.0, 2.0]])}, "cjdata/label"),
        ({"PID": None}, "no field cjdata/PID"),
        ({"PID": np.zeros((1, 2), np.uint64)}, "cjdata/PID: found no characters"),
        ({"PID": np.array([[32]], np.uint16)}, "cjdata/PID: found no characters"),
    ],
)
def test_a_faulty_listing_names_file_and_field_and_the_rest_is_listed(tmp_path, changes, message):
    _write(tmp_path / "1.mat", **changes)
    _write(tmp_path / "2.mat")
    fault, record = _items(tmp_path)
    assert str(fault).startswith(str(tmp_path / "1.mat"))
    assert message in str(fault)
    assert isinstance(record, Record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "no field cjdata/image"),
        ({"tumorMask": None}, "no field cjdata/tumorMask"),
        ({"tumorMask": MASK[:, 1:].astype(np.uint8)}, r"cjdata/tumorMask: found a mask of \(40, 59\)"),
        ({"tumorMask": MASK.T.astype(np.uint8)}, r"cjdata/tumorMask: found a mask of \(60, 40\)"),
        ({"image": np.zeros((2, 3, 4), np.int16)}, r"cjdata/image: found \(2, 3, 4\)"),
        ({"image": np.full((ROWS, COLUMNS), np.nan)}, "cjdata/image: found NaN"),
    ],
)
def test_faulty_pixels_name_file_and_field(tmp_path, changes, message):
    (record,) = _items(_write(tmp_path / "1.mat", **changes).parent)
    with pytest.raises(DataError, match=message) as caught:
        record.load()
    assert str(tmp_path / "1.mat") in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_or_foreign_file_is_a_fault(tmp_path, share):
    path = _write(tmp_path / "1.mat")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)] or b"MATLAB 5.0 MAT-file")
    (item,) = _items(tmp_path)
    assert isinstance(item, DataError)
    assert "not MATLAB v7.3" in str(item) or "no MATLAB v7.3" in str(item)


def test_names_that_are_no_number_or_twice_the_same_are_faults(tmp_path):
    for name in ("1.mat", "b/1.mat", "brain.mat"):
        _write(tmp_path / name)
    items = _items(tmp_path)
    assert sorted(isinstance(item, DataError) for item in items) == [False, True, True]
    with pytest.raises(DataError, match=r"no \.mat file"):
        _items(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="classes: found 2, expected 3 as format: brain_tumor has"):
        _items(tmp_path, classes=("a", "b"))


# The JPG copy.

HEADING = "file_no,image,mask,label,label_name,index_block\n"


@pytest.fixture
def folder(tmp_path):
    """Two slices of neighbouring blocks, the later one first in the table."""
    for number in (7, 65):
        for part, values in (("images", MATRIX % 256), ("masks", MASK * 255)):
            (tmp_path / part).mkdir(exist_ok=True)
            suffix = "jpg" if part == "images" else "png"
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / part / f"{number}.{suffix}")
    rows = ["65,images/65.jpg,masks/65.png,3,pituitary,1", "7,images/7.jpg,masks/7.png,1,meningioma,0"]
    (tmp_path / "labels.csv").write_text(HEADING + "\n".join(rows) + "\n")
    return tmp_path


def _jpg_items(folder, **options):
    return list(brain_tumor_jpg.read(folder, Dataset(format="brain_tumor_jpg", path=str(folder), **options)))


def test_slices_of_the_copy_come_by_number_with_their_block_as_proxy(folder):
    first, second = _jpg_items(folder)
    assert (first.image, first.patient, first.label, first.extra) == ("7", "0", 0, {"block": 0})
    assert (second.image, second.patient, second.label, second.extra) == ("65", "1", 2, {"block": 1})
    assert first.grouping == second.grouping == "proxy"
    loaded = first.load()
    assert np.array_equal(loaded.mask, MASK)
    assert loaded.pixels.shape == (ROWS, COLUMNS)
    assert loaded.full_scale == 255


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("8,images/8.jpg,masks/8.png,1,meningioma,0", "names 'images/8.jpg'"),
        ("8,../images/7.jpg,masks/7.png,1,meningioma,0", "outside"),
        ("8,images/7.jpg,masks/7.png,1,glioma,0", "row 4: found label '1 glioma'"),
        ("8,images/7.jpg,masks/7.png,4,,0", "row 4: found label '4 '"),
        ("8,images/7.jpg,masks/7.png,1,meningioma,", "row 4: found file_no or index_block"),
        ("8,images/7.jpg,masks/7.png,1,meningioma", "row 4: found 5 cells"),
    ],
)
def test_a_faulty_row_of_the_copy_is_told_and_the_rest_is_listed(folder, row, message):
    with (folder / "labels.csv").open("a") as table:
        table.write(row + "\n")
    (fault,) = [item for item in _jpg_items(folder) if isinstance(item, DataError)]
    assert message in str(fault).replace("..\\", "../")
    assert len(_jpg_items(folder)) == 3


def test_faulty_files_of_the_copy_are_named(folder):
    Image.fromarray(np.zeros((ROWS, COLUMNS - 1), np.uint8)).save(folder / "masks/7.png")
    content = (folder / "images/65.jpg").read_bytes()
    (folder / "images/65.jpg").write_bytes(content[: len(content) // 2])
    first, second = _jpg_items(folder)
    with pytest.raises(DataError, match=r"7\.png: found a mask of \(40, 59\)"):
        first.load()
    with pytest.raises(DataError, match=r"65\.jpg"):
        second.load()
    (folder / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: is missing"):
        _jpg_items(folder)


def test_the_real_copy_is_complete_and_its_masks_lie_on_tumours(real_data):
    records = _jpg_items(real_data / "brain_cheng_jpg")
    assert len(records) == len({record.image for record in records}) == 1050
    assert np.bincount([record.label for record in records]).tolist() == [350, 350, 350]
    blocks = [record.extra["block"] for record in records]
    assert blocks == sorted(blocks)
    brighter = []
    for record in records[::30]:
        loaded = record.load()
        assert loaded.pixels.shape == loaded.mask.shape == (512, 512)
        assert 2e-4 < loaded.mask.mean() < 0.15
        mirrored = loaded.mask.T & ~loaded.mask
        brighter.append(loaded.pixels[loaded.mask].mean() > loaded.pixels[mirrored].mean())
    # A tumour takes up contrast agent: transposed masks would be brighter as often as not.
    assert np.mean(brighter) > 0.8
