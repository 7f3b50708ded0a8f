"""A user's own set is read from the tables that people's programs write, and what is wrong with it is named."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Record
from xiqa.datasets.folder import read, read_rows

GOOD = "image,label,patient\na.png,sharp,p1\nb.png,blurred,p2\nsub/c.png,sharp,p2\n"


def options(**changes):
    return Dataset(format="folder", path="anywhere", **changes)


@pytest.fixture
def folder(tmp_path):
    """A data folder with three images of 20 columns and 10 rows, and two masks."""
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "sub/c.png", "ä ö.png"):
        Image.fromarray(rng.integers(0, 256, (10, 20), np.uint8)).save(root / name)
    inside = np.zeros((10, 20), np.uint8)
    Image.fromarray(inside).save(root / "empty.png")
    inside[2:5, 3:9] = 255
    Image.fromarray(inside).save(root / "m.png")
    Image.fromarray(inside[:, :-1]).save(root / "narrow.png")
    return root


def listed(folder, table, encoding="utf-8", **changes):
    content = table.encode(encoding) if isinstance(table, str) else table
    (folder / "images.csv").write_bytes(content)
    return list(read(folder, options(**changes)))


def fault(folder, table, **changes) -> str:
    """The one fault of a table whose other rows are good."""
    faults = [item for item in listed(folder, table, **changes) if isinstance(item, DataError)]
    assert len(faults) == 1
    assert faults[0].path.endswith("images.csv")
    return str(faults[0])


def test_the_three_columns(folder):
    records = listed(folder, GOOD)
    assert [(r.patient, r.label, r.label_name) for r in records] == [
        ("p1", 1, "sharp"),
        ("p2", 0, "blurred"),
        ("p2", 1, "sharp"),
    ]
    assert {(r.grouping, r.part) for r in records} == {("patient", None)}
    loaded = records[2].load()
    np.testing.assert_array_equal(loaded.pixels, np.asarray(Image.open(folder / "sub/c.png")))
    assert loaded.mask is None
    assert loaded.boxes == ()
    assert loaded.header["has_mask"] == 0


def test_loading_can_be_sent_to_another_process(folder):
    table = "image,label,patient,mask,boxes\na.png,0,1,m.png,0 0 1 1\nb.png,1,2,,\n"
    record = pickle.loads(pickle.dumps(listed(folder, table)[0]))
    np.testing.assert_array_equal(record.load().mask, np.asarray(Image.open(folder / "m.png")) > 0)


def test_names_of_images_hold_the_row_and_no_file_name(folder):
    records = listed(folder, GOOD)
    assert [r.image for r in records] == ["row-000002", "row-000003", "row-000004"]


@given(
    separator=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    space=st.sampled_from(["", " ", "  "]),
    quote=st.booleans(),
    upper=st.booleans(),
    blank=st.booleans(),
    trailing=st.booleans(),
    order=st.permutations(range(4)),
)
@settings(max_examples=60)
def test_every_dialect_gives_the_same_rows(
    tmp_path_factory, separator, encoding, line_end, space, quote, upper, blank, trailing, order
):
    rows = [["image", "label", "patient", "pixel size"], ["ä ö.png", "good", "1", "0.5"], ["b.png", "bad", "2", "0,7"]]
    if upper:
        rows[0] = [name.title() for name in rows[0]]
    # A decimal comma needs quotes only where commas separate.
    text = ""
    for row in rows:
        cells = [f'"{cell}"' if quote or separator in cell else cell for cell in (row[place] for place in order)]
        text += separator.join(space + cell + space * (not cell.startswith('"')) for cell in cells)
        text += separator * trailing + line_end + line_end * blank
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(text.encode(encoding))
    found = [row for _, row in read_rows(path, ("image", "label", "patient"))]
    for row in found:
        row.pop("", None)
    assert found == [
        {"image": "ä ö.png", "label": "good", "patient": "1", "pixel_size": "0.5"},
        {"image": "b.png", "label": "bad", "patient": "2", "pixel_size": "0,7"},
    ]


def test_windows_tables(folder):
    table = "sep=;\r\nImage ;Label; Patient;keep dose\r\nsub\\c.png;good;1;1,5\r\nä ö.png; bad;2;\r\n;;;\r\n"
    first, second = listed(folder, table, "cp1252")
    assert first.files == (folder / "sub/c.png",)
    assert second.files == (folder / "ä ö.png",)
    assert first.extra == {"keep_dose": 1.5}
    assert np.isnan(second.extra["keep_dose"])


def test_labels_are_sorted_numbers_as_numbers(folder):
    table = "image,label,patient\na.png,10,1\nb.png,9.0,2\nsub/c.png,2,3\n"
    records = listed(folder, table)
    assert [(r.label, r.label_name) for r in records] == [(2, "10"), (1, "9"), (0, "2")]


def test_classes_give_the_order_and_the_limits(folder):
    records = listed(folder, GOOD, classes=("sharp", "blurred"))
    assert [r.label for r in records] == [0, 1, 0]
    message = fault(folder, GOOD.replace("b.png,blurred", "b.png,blurry"), classes=("sharp", "blurred"))
    assert "row 3: found label 'blurry' of 'b.png', expected one of sharp, blurred" in message


def test_masks_and_boxes(folder):
    table = (
        "image,label,patient,mask,x_min,y_min,x_max,y_max,boxes\n"
        "a.png,0,1,m.png,3,2,9,5,\n"
        'b.png,1,2,empty.png,,,,,"0 0 20 10; 1.5 1 2.5 2"\n'
        'sub/c.png,1,3,,,,,,"[1, 2, 3, 4]"\n'
    )
    first, second, third = (record.load() for record in listed(folder, table))
    np.testing.assert_array_equal(first.mask, np.asarray(Image.open(folder / "m.png")) > 0)
    assert first.boxes == ((3, 2, 9, 5),)
    assert not second.mask.any()
    assert second.boxes == ((0, 0, 20, 10), (1.5, 1, 2.5, 2))
    assert third.mask is None
    assert third.boxes == ((1, 2, 3, 4),)
    assert [loaded.header["has_mask"] for loaded in (first, second, third)] == [1, 1, 0]
    assert len(listed(folder, table)[0].files) == 2


def test_a_group_instead_of_a_patient_is_a_proxy(folder):
    records = listed(folder, GOOD.replace("patient", "group"))
    assert {r.grouping for r in records} == {"proxy"}
    assert [r.patient for r in records] == ["p1", "p2", "p2"]
    assert records[0].extra == {}


def test_parts_and_further_columns(folder):
    table = (
        "image,label,patient,part,keep_dose,header_site,surname,\n"
        "a.png,0,1,Train,1,x,Doe,\nb.png,1,2,val,,y,Roe,\nsub/c.png,1,3,,3,,Poe,\n"
    )
    records = listed(folder, table)
    assert [r.part for r in records] == ["train", "validation", None]
    assert [r.extra["header_site"] for r in records] == ["x", "y", ""]
    assert [r.extra["keep_dose"] for r in records] == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert set(records[0].extra) == {"keep_dose", "header_site"}


@pytest.mark.parametrize("empty", ["", " ", "NA", "nan", "None", "unknown"])
def test_a_missing_patient_id(folder, empty):
    message = fault(folder, GOOD.replace("b.png,blurred,p2", f"b.png,blurred,{empty}"))
    assert "row 3: column patient is empty for 'b.png', expected an id" in message


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (",sharp,p9", "row 5: column image is empty"),
        ("../secret.png,sharp,p9", "names '../secret.png', which lies outside"),
        ("..\\secret.png,sharp,p9", "lies outside"),
        ("/etc/hostname,sharp,p9", "lies outside"),
        ("link.png,sharp,p9", "lies outside"),
        ("gone.png,sharp,p9", "gone.png is no file"),
        ("sub,sharp,p9", "is no file"),
        ("empty.png,,p9", "row 5: found label '' of 'empty.png', expected one of blurred, sharp"),
        ("a.png,sharp,p9", "row 5: 'a.png' is listed again"),
        ("./sub/../a.png,sharp,p9", "is listed again"),
        ("empty.png,sharp", "row 5: found 2 cells, expected 3"),
        ("empty.png,sharp,p9,more", "row 5: found 4 cells, expected 3"),
    ],
)
def test_faulty_rows_stand_beside_the_good_ones(folder, row, found):
    (folder.parent / "secret.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    message = fault(folder, f"{GOOD}{row}\n")
    assert found in message
    assert "p9" not in message
    assert len([r for r in listed(folder, f"{GOOD}{row}\n") if isinstance(r, Record)]) == 3


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ("1,2,3,", "found box '1 2 3 '"),
        ("1,2,x,4", "found box '1 2 x 4', expected x_min y_min x_max y_max"),
        ("3,2,3,4", "with min below max"),
        ("3,4,5,2", "with min below max"),
        ("3,4,inf,5", "with min below max"),
        ("nan,4,9,5", "with min below max"),
    ],
)
def test_faulty_boxes(folder, box, found):
    table = f"image,label,patient,x_min,y_min,x_max,y_max\na.png,0,1,{box}\nb.png,1,2,,,,\n"
    assert found in fault(folder, table)
    table = f'image,label,patient,boxes\na.png,0,1,"0 0 1 1; {box}"\nb.png,1,2,\n'
    assert "row 2: found box" in fault(folder, table)


@pytest.mark.parametrize("box", ["-1 0 5 5", "0 0 21 5", "0 0 5 11", "30 30 40 40"])
def test_a_box_outside_the_image(folder, box):
    record, _ = listed(folder, f"image,label,patient,boxes\na.png,0,1,{box}\nb.png,1,2,\n")
    with pytest.raises(DataError, match=rf"row 2: box {box} leaves the image a\.png of 20 columns and 10 rows"):
        record.load()


def test_a_mask_of_another_size_and_one_that_leaves_the_folder(folder):
    record, _ = listed(folder, "image,label,patient,mask\na.png,0,1,narrow.png\nb.png,1,2,\n")
    with pytest.raises(DataError, match=r"narrow\.png: found a mask of \(10, 19\), expected \(10, 20\)"):
        record.load()
    assert "lies outside" in fault(
        folder, "image,label,patient,mask\na.png,0,1,../x.png\nb.png,1,2,\n", classes=("0", "1")
    )


def test_an_unknown_part(folder):
    message = fault(folder, "image,label,patient,part\na.png,0,1,holdout\nb.png,1,2,test\n")
    assert "row 2: found part 'holdout', expected train, validation or test" in message


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("file,class\na.png,1\n", "found columns file, class; expected, each once, image, label, patient or group"),
        ("image,label\na.png,1\n", "patient or group"),
        ("image,label,patient,Label\na.png,1,1,2\n", "each once"),
        ("image,label,patient\n", "found no rows"),
        ("", "found columns none"),
        ("image,label,patient\na.png,1,1\nb.png,1,2\n", "found labels '1'; expected two or more"),
        ("image,label,patient\na.png,Good,1\nb.png,good,2\nsub/c.png,bad,2\n", "differ in more than case"),
        (b"PK\x03\x04 a workbook", "is a spreadsheet, expected text; save it as CSV"),
    ],
)
def test_tables_that_cannot_be_used(folder, table, found):
    with pytest.raises(DataError, match=rf"images\.csv: .*{found}"):
        listed(folder, table)


def test_a_missing_table_names_those_that_are_there(folder):
    (folder / "mine.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"images\.csv: is no file; CSV tables in the folder: mine\.csv"):
        list(read(folder, options()))
    assert len(list(read(folder, options(table="mine.csv")))) == 3


def test_other_formats_go_through_the_same_table(folder):
    import nibabel

    pixels = np.arange(200, dtype=np.int16).reshape(10, 20)
    nibabel.save(nibabel.Nifti1Image(pixels.T, np.diag([-0.5, -0.25, 1, 1])), folder / "n.nii.gz")
    np.save(folder / "n.npy", pixels)
    nifti, numpy = listed(folder, "image,label,patient,mask\nn.nii.gz,0,1,m.png\nn.npy,1,2,\n")
    np.testing.assert_array_equal(nifti.load().pixels, numpy.load().pixels)
    assert nifti.load().spacing_mm == (0.25, 0.5)
    assert nifti.load().mask.sum() == 3 * 6


def targets(folder, text, **keys):
    (folder / "images.csv").write_text(text)
    for name in ("a.png", "b.png"):
        (folder / name).touch()
    return list(read(folder, Dataset(format="folder", path=str(folder), task="regression", **keys)))


def test_targets_of_a_regression_are_read_with_decimal_commas(tmp_path):
    found = targets(tmp_path, "image;target_dose;target_noise;patient\na.png;1,5;3;p\nb.png;2;4;q\n")
    assert [record.targets for record in found] == [
        {"target_dose": 1.5, "target_noise": 3.0},
        {"target_dose": 2.0, "target_noise": 4.0},
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,label,patient\na.png,x,p\nb.png,y,q\n", "task: regression needs target, or several target_"),
        ("image,target,target_b,patient\na.png,1,2,p\nb.png,2,3,q\n", "task: regression needs target, or several"),
        ("image,target,patient\na.png,1,p\nb.png,1,q\n", "the same value in all rows"),
    ],
)
def test_a_table_without_usable_targets_is_refused(tmp_path, text, expected):
    with pytest.raises(DataError, match=expected):
        targets(tmp_path, text)


def test_a_target_that_is_no_number_is_a_fault_of_its_row(tmp_path):
    good, bad = targets(tmp_path, "image,target,patient\na.png,1,p\nb.png,high,q\n")
    assert good.targets == {"target": 1.0}
    assert isinstance(bad, DataError)
    assert "row 3: found 'high' in target of 'b.png', expected a number" in str(bad)
