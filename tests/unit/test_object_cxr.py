"""Outlines of Object-CXR cover the pixels that geometry says; its tables are read as they are published."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Record
from xiqa.datasets.object_cxr import parse_annotation, rasterise, read

SET = Dataset(format="object_cxr")
HEIGHT, WIDTH = 60, 80


def drawn(text: str, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    (outline,) = parse_annotation(text, "a.jpg")
    return rasterise(outline, height, width)


# Shapes


@given(st.integers(0, 79), st.integers(0, 59), st.integers(1, 80), st.integers(1, 60))
def test_a_rectangle_of_whole_numbers_covers_width_times_height_pixels(x1, y1, across, down):
    x2, y2 = min(x1 + across, WIDTH), min(y1 + down, HEIGHT)
    mask = drawn(f"0 {x1} {y1} {x2} {y2}")
    assert mask.sum() == (x2 - x1) * (y2 - y1)
    assert mask[y1:y2, x1:x2].all()


def test_a_pixel_belongs_to_a_rectangle_by_its_centre():
    assert np.flatnonzero(drawn("0 2.4 0 5.6 1")[0]).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(drawn("0 2.6 0 5.4 1")[0]).tolist() == [3, 4]


@given(st.floats(3, 77), st.floats(3, 57), st.floats(1, 30), st.floats(1, 30))
@settings(max_examples=60)
def test_an_ellipse_lies_in_its_box_and_covers_its_equation(x, y, a, b):
    a, b = min(a, x, WIDTH - x), min(b, y, HEIGHT - y)
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    value = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2
    clear = np.abs(value - 1) > 1e-6
    mask = drawn(f"1 {x - a!r} {y - b!r} {x + a!r} {y + b!r}")
    np.testing.assert_array_equal(mask[clear], (value < 1)[clear])


def test_the_area_of_an_ellipse_is_pi_a_b_not_that_of_its_box():
    mask = drawn("1 100 50 900 450", 500, 1000)
    assert mask.sum() == pytest.approx(np.pi * 400 * 200, rel=1e-3)


@given(st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 6000)), min_size=3, max_size=9))
@settings(max_examples=80)
def test_a_polygon_agrees_with_an_independent_even_odd_fill(points):
    points = np.array(points) / 100 + 0.003  # no corner on the centre of a pixel
    mask = drawn("2 " + " ".join(f"{value!r}" for value in points.ravel().tolist()))
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    # Crossings of a ray to the right, counted edge by edge; what lies on an edge is left open.
    inside, on_edge = np.zeros((2, HEIGHT, WIDTH), bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
        straddles = (y1 > rows) != (y2 > rows)
        if straddles.any():
            crossing = x1 + (rows - y1) * (x2 - x1) / (y2 - y1)
            on_edge |= straddles & (np.abs(crossing - columns) < 1e-6)
            inside ^= straddles & (columns < crossing)
    np.testing.assert_array_equal(mask[~on_edge], inside[~on_edge])


@pytest.mark.parametrize("shift", [0, 0.5])  # with half pixels, edges run through centres
def test_a_polygon_of_four_corners_is_the_rectangle(shift):
    x1, y1, x2, y2 = (value + shift for value in (10, 5, 30, 25))
    polygon = drawn(f"2 {x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2}")
    np.testing.assert_array_equal(polygon, drawn(f"0 {x1} {y1} {x2} {y2}"))


def test_a_triangle_is_half_its_box_and_not_its_box():
    mask = drawn("2 0 0 80 0 0 60")
    assert mask.sum() == pytest.approx(80 * 60 / 2, rel=0.02)
    assert mask[2, 2]
    assert not mask[-3, -3]


def test_a_notch_of_a_polygon_stays_open():
    mask = drawn("2 10 10 50 10 50 40 40 40 40 20 20 20 20 40 10 40")  # an arch
    assert not mask[25:40, 20:40].any()
    assert mask[10:20, 10:50].all()
    assert mask.sum() == 40 * 10 + 2 * 10 * 20


@pytest.mark.parametrize(
    "text",
    [
        "0 1 2 3",  # too few
        "0 1 2 3 4 5",
        "1 1 2 x 4",
        "2 1 1 2 2",  # two points
        "2 1 1 2 2 3",  # odd
        "3 1 1 5 5",  # unknown kind
        "0.0 1 1 5 5",
        "0",
        "nan",
        "0 1 1 nan 5",
        "0 1 1 inf 5",
        "0 10 10 10 20",  # no width
        "1 10 10 20 10",  # no height
        "0 20 10 10 20",  # corners in wrong order
        "0 1 1 5 5;;9",
    ],
)
def test_a_malformed_annotation_names_the_image(text):
    with pytest.raises(DataError, match=r"a\.jpg: found annotation"):
        parse_annotation(text, "a.jpg")


def test_an_annotation_lists_several_objects():
    outlines = parse_annotation(" 0 1 2 3 4; 2 0 0 5 0 5 5 0 5;1 2 2 8 8;", "a.jpg")
    assert [outline.kind for outline in outlines] == ["0", "2", "1"]
    assert outlines[1].points.tolist() == [[0, 0], [5, 0], [5, 5], [0, 5]]
    assert parse_annotation("", "a.jpg") == parse_annotation(" ", "a.jpg") == ()


# The set


def write_set(folder, tables: dict[str, list[str]], place="{part}", heading="image_name,annotation"):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for part, rows in tables.items():
        (folder / f"{part}.csv").write_text("\n".join([heading, *rows]) + "\n")
        images = folder / place.format(part=part)
        images.mkdir(parents=True, exist_ok=True)
        for row in rows:
            Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)).save(images / row.split(",")[0])


def test_labels_parts_masks_and_boxes(tmp_path):
    rows = {"train": ["00001.jpg,0 10 10 20 20;1 30 30 50 40", "00002.jpg,"], "dev": ["08001.jpg,2 0 0 9 0 9 6"]}
    write_set(tmp_path, rows)
    first, second, third = list(read(tmp_path, SET))
    assert [(r.label, r.label_name, r.part) for r in (first, second, third)] == [
        (1, "object", "train"),
        (0, "no object", "train"),
        (1, "object", "validation"),
    ]
    assert len({first.image, second.image, third.image}) == 3
    assert (first.grouping, first.patient) == ("proxy", first.image)
    loaded = first.load()
    assert loaded.boxes == ((10, 10, 20, 20), (30, 30, 50, 40))
    both = drawn("0 10 10 20 20") | drawn("1 30 30 50 40")
    np.testing.assert_array_equal(loaded.mask, both)
    assert loaded.full_scale == 255
    empty = second.load()
    assert not empty.mask.any()
    assert empty.mask.shape == (HEIGHT, WIDTH)
    assert empty.boxes == ()
    assert third.load().boxes == ((0, 0, 9, 6),)


@pytest.mark.parametrize("place", ["{part}", "images", "images/{part}", "."])
def test_layouts_and_both_headings(tmp_path, place):
    write_set(tmp_path, {"test": ["09361.jpg,", "09362.jpg,0 1 1 5 5"]}, place, "image_path,annotation")
    assert [record.part for record in read(tmp_path, SET)] == ["test", "test"]


def test_parts_may_number_their_images_alike(tmp_path):
    write_set(tmp_path, {"train": ["1.jpg,", "2.jpg,0 1 1 5 5"], "dev": ["1.jpg,"], "test": ["1.jpg,"]})
    records = list(read(tmp_path, SET))
    assert len({record.image for record in records}) == len({record.files for record in records}) == 4


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        ("0 70 10 82 20", r"object 1 spans x 70 to 82 .* 80 columns and 60 rows"),
        ("1 10 50 20 62", "object 1 spans"),
        ("2 -2 0 9 0 9 6", "object 1 spans x -2 to 9"),
        ("0 1 1 5 5;0 100 100 110 110", "object 2 spans"),
        ("2 1 1 20 20 40 40", "object 1 covers no pixel"),  # on a line through pixel centres
        ("0 5.1 5.1 5.3 5.3", "object 1 covers no pixel"),
    ],
)
def test_annotations_that_do_not_fit_the_image(tmp_path, annotation, found):
    write_set(tmp_path, {"train": [f"7.jpg,{annotation}"]})
    (record,) = read(tmp_path, SET)
    with pytest.raises(DataError, match=rf"7\.jpg: {found}"):
        record.load()


def test_one_pixel_beyond_the_edge_is_rounding_and_cut_off(tmp_path):
    write_set(tmp_path, {"train": ["7.jpg,0 70 -1 81 10;1 0 50 10 61"]})
    loaded = next(read(tmp_path, SET)).load()
    assert loaded.boxes == ((70, 0, 80, 10), (0, 50, 10, 60))
    assert loaded.mask[:10, 70:].all()


def test_faulty_rows_do_not_stop_the_others(tmp_path):
    write_set(tmp_path, {"train": ["1.jpg,", "2.jpg,0 1 1", "3.jpg,0 1 1 5 5"]})
    with (tmp_path / "train.csv").open("a") as table:
        table.write("gone.jpg,\n../secret.jpg,\n/etc/passwd,\n1.jpg,\n4.jpg,,,0 1 1 5 5\n,0 1 1 5 5\n,\n")
    found = list(read(tmp_path, SET))
    assert [record.image for record in found if isinstance(record, Record)] == ["train-1", "train-3"]
    expected = [
        "2.jpg: found annotation '0 1 1'",
        "gone.jpg is no file",
        "secret.jpg is no file",
        "passwd is no file",
        "row 8: '1.jpg' is listed again",
        "row 9: found 4 cells, expected 2",
        "row 10: the image's name is empty",
    ]
    faults = [str(fault) for fault in found if isinstance(fault, DataError)]
    for fault, part in zip(faults, expected, strict=True):
        assert part in fault
        assert str(tmp_path) in fault


def test_a_path_out_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "set"
    write_set(folder, {"train": ["1.jpg,"]})
    (tmp_path / "secret.jpg").write_bytes((folder / "train/1.jpg").read_bytes())
    (folder / "train.csv").write_text("image_name,annotation\n../../secret.jpg,\n..\\..\\secret.jpg,\n")
    faults = list(read(folder, SET))
    assert len(faults) == 2
    for fault in faults:
        assert "lies outside" in str(fault)


def test_a_folder_without_tables_or_columns(tmp_path):
    with pytest.raises(DataError, match=r"holds none of train\.csv"):
        list(read(tmp_path, SET))
    (tmp_path / "dev.csv").write_text("name,boxes\n1.jpg,\n")
    with pytest.raises(DataError, match=r"dev\.csv: found columns name, boxes; expected.*image_name"):
        list(read(tmp_path, SET))


def test_classes_rename_the_two_labels(tmp_path):
    write_set(tmp_path, {"train": ["1.jpg,"]})
    (record,) = read(tmp_path, SET.model_copy(update={"classes": ("clean", "foreign")}))
    assert record.label_name == "clean"
    with pytest.raises(ValueError, match="classes: found 3, expected 2 as format: object_cxr has"):
        Dataset(format="object_cxr", classes=("a", "b", "c"))


def test_a_real_image(real_data, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/09361.jpg").write_bytes((real_data / "object_cxr_sample/09361.jpg").read_bytes())
    (tmp_path / "test.csv").write_text("image_name,annotation\n09361.jpg,1 100 100 200 300;2 300 300 400 300 350 400\n")
    (record,) = read(tmp_path, SET)
    loaded = record.load()
    assert loaded.pixels.shape == loaded.mask.shape == (600, 600)
    assert loaded.mask.sum() == pytest.approx(np.pi * 50 * 100 + 100 * 100 / 2, rel=0.01)
