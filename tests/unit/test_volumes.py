"""NIfTI and MetaImage volumes: axes, place, spacing, single slices, and what is refused."""

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk

from xiqa.datasets.base import DataError
from xiqa.datasets.volumes import open_volume

VOLUME = np.random.default_rng(0).integers(-1000, 3000, (4, 5, 6)).astype(np.int16)


def pixels_of(path):
    """All slices (slices, h, w)."""
    volume = open_volume(path)
    return np.stack([volume.slice(index).pixels for index in range(volume.shape[0])])


def write_volume(path, volume, *, spacing=(0.6, 0.7, 2.5), direction=None, compressed=False):
    """Write (slices, h, w) with a spacing in the order x, y, z."""
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(spacing)
    if direction is not None:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path


def _by_hand(folder, volume, lines=(), name="hand.raw"):
    """A header as LNDb has it, without the help of the library that reads it."""
    header = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    header += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 0 0 0", "ElementSpacing = 0.6 0.7 2.5"]
    header += ["DimSize = 6 5 4", "ElementType = MET_SHORT", *lines, f"ElementDataFile = {name}"]
    (folder / "hand.mhd").write_text("\n".join(header) + "\n")
    volume.astype("<i2").tofile(folder / "hand.raw")
    return folder / "hand.mhd"


def test_the_last_axis_of_the_file_is_the_slice(tmp_path):
    volume = open_volume(_by_hand(tmp_path, VOLUME))
    assert volume.slice(0).pixels.dtype == np.float32
    assert np.array_equal(pixels_of(tmp_path / "hand.mhd"), VOLUME)
    assert volume.spacing_mm == pytest.approx((0.7, 0.6))


@pytest.mark.parametrize(("name", "compressed"), [("a.mhd", False), ("a.mhd", True), ("a.mha", False), ("a.mha", True)])
def test_every_slice_is_that_of_the_volume(tmp_path, name, compressed):
    path = write_volume(tmp_path / name, VOLUME, compressed=compressed)
    volume = open_volume(path)
    assert volume.shape == VOLUME.shape
    assert {file.name for file in volume.files} == {file.name for file in tmp_path.iterdir()}
    for index, expected in enumerate(VOLUME):
        loaded = volume.slice(index)
        assert np.array_equal(loaded.pixels, expected)
        assert loaded.spacing_mm == pytest.approx((0.7, 0.6))


@pytest.mark.parametrize(("x", "y"), [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_axes_that_the_header_turns_round_are_turned_back(tmp_path, x, y):
    turned = np.ascontiguousarray(VOLUME[:, ::y, ::x])
    path = write_volume(tmp_path / "a.mha", turned, direction=(x, 0, 0, 0, y, 0, 0, 0, 1))
    assert np.array_equal(pixels_of(path), VOLUME)


def test_a_slice_is_read_without_the_volume(tmp_path):
    path = write_volume(tmp_path / "a.mhd", np.ones((200, 64, 64), np.int16))
    open_volume(path).slice(0)
    tracemalloc.start()
    open_volume(path).slice(150)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 64 * 4 * 20


def _raises(match, path):
    with pytest.raises(DataError, match=match):
        pixels_of(path)


def test_a_missing_raw_file_is_named(tmp_path):
    path = _by_hand(tmp_path, VOLUME)
    (tmp_path / "hand.raw").unlink()
    _raises(r"hand\.mhd: names 'hand\.raw'", path)


@pytest.mark.parametrize("change", [-2, 2])
def test_a_raw_file_of_another_size_is_refused(tmp_path, change):
    path = _by_hand(tmp_path, VOLUME)
    content = (tmp_path / "hand.raw").read_bytes()
    (tmp_path / "hand.raw").write_bytes(content + bytes(change) if change > 0 else content[:change])
    _raises(rf"hand\.raw: found {240 + change} bytes of values, expected 240", path)


def test_data_outside_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "set").mkdir()
    VOLUME.tofile(tmp_path / "elsewhere.raw")
    _raises("lies outside", _by_hand(tmp_path / "set", VOLUME, name="../elsewhere.raw"))


@pytest.mark.parametrize("name", ["LIST", "slice%03d.raw 1 4 1"])
def test_data_in_many_files_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"one \.raw file|cannot be read"):
        pixels_of(_by_hand(tmp_path, VOLUME, name=name))


def test_truncated_data_in_the_same_file_are_refused(tmp_path):
    for compressed in (False, True):
        path = write_volume(tmp_path / "a.mha", VOLUME, compressed=compressed)
        path.write_bytes(path.read_bytes()[:-20])
        _raises("truncated", path)


def test_what_is_no_grey_volume_of_transverse_slices_is_refused(tmp_path):
    colour = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / "colour.mha"))
    _raises("values of 3 × MET_UCHAR, expected grey", tmp_path / "colour.mha")
    sagittal = (0, 0, 1, 1, 0, 0, 0, 1, 0)
    assert not open_volume(write_volume(tmp_path / "sagittal.mha", VOLUME, direction=sagittal)).transverse
    assert open_volume(write_volume(tmp_path / "transverse.mha", VOLUME)).transverse


def test_other_files_nan_and_missing_slices_are_refused(tmp_path):
    (tmp_path / "text.mhd").write_text("file,label\n")
    _raises(r"text\.mhd: found no line ElementDataFile", tmp_path / "text.mhd")
    _raises(r"none\.mhd: cannot be read \(FileNotFoundError", tmp_path / "none.mhd")
    (tmp_path / "bare.mhd").write_text("NDims = three\nElementDataFile = LOCAL\n")
    _raises(r"bare\.mhd", tmp_path / "bare.mhd")
    broken = VOLUME.astype(np.float32)
    broken[0, 1, 1] = np.nan
    _raises("NaN", write_volume(tmp_path / "nan.mha", broken))
    for index in (-1, 4):
        with pytest.raises(DataError, match="found 4 slices"):
            open_volume(write_volume(tmp_path / "a.mha", VOLUME)).slice(index)
