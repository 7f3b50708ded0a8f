"""Images of every format give the pixels that were written into them; faulty files are refused by name."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from xiqa.datasets import dicom_image
from xiqa.datasets.base import DataError, Loaded
from xiqa.datasets.images import load_image, read_mask

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (11, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (11, 7), dtype=np.uint16)


def saved(folder, name, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "A.TIFF"])
def test_grey_pixels_are_those_that_were_written(tmp_path, name):
    loaded = load_image(saved(tmp_path, name, GREY))
    np.testing.assert_array_equal(loaded.pixels, GREY)
    assert (loaded.pixels.dtype, loaded.full_scale, loaded.spacing_mm, loaded.mask) == (np.float32, 255, None, None)
    assert (loaded.header["width"], loaded.header["height"], loaded.header["colour"]) == (7, 11, "L")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stored_as_colour_has_the_pixels_of_grey(tmp_path, mode):
    loaded = load_image(saved(tmp_path, "a.png", GREY, mode))
    np.testing.assert_array_equal(loaded.pixels, GREY)
    assert loaded.header["colour"] == mode


def test_colour_becomes_luminance_of_itu_r_601(tmp_path):
    pure = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert load_image(saved(tmp_path, "pure.png", pure)).pixels[0] == pytest.approx([76.245, 149.685, 29.07, 255])
    expected = COLOUR @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(load_image(saved(tmp_path, "a.png", COLOUR)).pixels, expected, rtol=1e-6)


def test_what_lies_under_transparency_is_black(tmp_path):
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[..., 3] = [0, 255, 255, 255]
    np.testing.assert_array_equal(load_image(saved(tmp_path, "a.png", pixels)).pixels, [[0, 200, 200, 200]] * 4)


def test_black_and_white_is_0_and_255(tmp_path):
    loaded = load_image(saved(tmp_path, "a.png", GREY > 100))
    assert loaded.header["colour"] == "1"
    np.testing.assert_array_equal(loaded.pixels, 255 * (GREY > 100))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, name):
    loaded = load_image(saved(tmp_path, name, DEEP))
    np.testing.assert_array_equal(loaded.pixels, DEEP)
    assert loaded.full_scale == 65535


@pytest.mark.parametrize("kind", [">u2", "<i2", "<i4", "<f4"])
def test_tiff_of_other_number_types_keeps_its_values(tmp_path, kind):
    values = DEEP.astype(int) // 2 - (0 if kind == ">u2" else 1000)
    loaded = load_image(saved(tmp_path, "a.tif", values.astype(kind)))
    np.testing.assert_array_equal(loaded.pixels, values)
    assert loaded.full_scale == (65535 if kind == ">u2" else None)


def test_tiff_whose_zero_is_white_is_turned_so_that_bright_is_large(tmp_path):
    # Pillow writes the stored values as they are and only sets the tag (262) that says how to show them.
    loaded = load_image(saved(tmp_path, "a.tif", DEEP, tiffinfo={262: 0}))
    np.testing.assert_array_equal(loaded.pixels, 65535 - DEEP.astype(int))


def test_exif_orientation_is_obeyed_in_images_and_masks(tmp_path):
    turned = Image.Exif()
    turned[274] = 6  # shown after a quarter turn clockwise
    image = load_image(saved(tmp_path, "a.png", GREY, exif=turned))
    np.testing.assert_array_equal(image.pixels, np.rot90(GREY, -1))
    mask = read_mask(saved(tmp_path, "m.png", np.uint8(GREY > 99), exif=turned), image.pixels)
    np.testing.assert_array_equal(mask, image.pixels > 99)


def test_jpeg_is_close_to_what_was_written(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    loaded = load_image(saved(tmp_path, "a.jpg", smooth, quality=95))
    np.testing.assert_allclose(loaded.pixels, smooth, atol=3)
    assert loaded.header["file_type"] == "JPEG"


@pytest.mark.parametrize(("kind", "full_scale"), [(np.uint8, 255), (np.uint16, 65535), (np.float64, None)])
def test_npy(tmp_path, kind, full_scale):
    np.save(tmp_path / "a.npy", GREY.astype(kind))
    loaded = load_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(loaded.pixels, GREY)
    assert loaded.full_scale == full_scale


@pytest.mark.parametrize("shape", [(7, 11), (7, 11, 1), (1, 7, 11), (7, 11, 1, 1)])
def test_nifti_slice_has_columns_first(tmp_path, shape):
    import nibabel

    image = nibabel.Nifti1Image(GREY.T.reshape(shape).astype(np.int16), None)
    image.header.set_zooms([{7: 0.5, 11: 0.8, 1: 5.0}[length] for length in shape])
    nibabel.save(image, tmp_path / "a.nii.gz")
    loaded = load_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(loaded.pixels, GREY)
    assert loaded.spacing_mm == pytest.approx((0.8, 0.5))


def test_a_nifti_series_is_sent_to_the_reader_for_series(tmp_path):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii: found 3 slices, expected one; format lvot"):
        load_image(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.mhd", "a.mha"])
def test_metaimage_of_one_slice(tmp_path, name):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(GREY[None].astype(np.int16))
    image.SetSpacing((0.5, 0.8, 5.0))  # x, y, z
    SimpleITK.WriteImage(image, str(tmp_path / name))
    loaded = load_image(tmp_path / name)
    np.testing.assert_array_equal(loaded.pixels, GREY)
    assert loaded.spacing_mm == pytest.approx((0.8, 0.5))


def test_metaimage_of_several_slices_is_refused(tmp_path):
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5))), str(tmp_path / "a.mhd"))
    with pytest.raises(DataError, match=r"found 3 slices, expected one; .* format ct_contrast"):
        load_image(tmp_path / "a.mhd")


@pytest.mark.parametrize(("name", "content"), [("a.dcm", b"any"), ("IM0001", bytes(128) + b"DICM")])
def test_dicom_is_known_by_its_suffix_or_its_mark(tmp_path, monkeypatch, name, content):
    (tmp_path / name).write_bytes(content)
    given_back = Loaded(GREY.astype(np.float32), spacing_mm=(0.1, 0.2), header={"kvp": 28.0})
    monkeypatch.setattr(dicom_image, "read_dicom_image", lambda path: given_back)
    loaded = load_image(tmp_path / name)
    np.testing.assert_array_equal(loaded.pixels, GREY)
    assert loaded.spacing_mm == (0.1, 0.2)
    assert loaded.header == {"kvp": 28.0, "width": 7, "height": 11}


# Faults


@given(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP"]), st.floats(0, 0.98), st.booleans())
@settings(max_examples=60)
def test_a_truncated_file_never_passes(tmp_path_factory, file_type, share, allowed_elsewhere):
    whole = io.BytesIO()
    Image.fromarray(np.kron(GREY, np.ones((9, 9), np.uint8))).save(whole, file_type)
    path = tmp_path_factory.mktemp("cut") / f"cut.{file_type.lower()}"
    path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    ImageFile.LOAD_TRUNCATED_IMAGES = allowed_elsewhere
    with pytest.raises(DataError, match=r"cut\.\w+: (cannot be read|is empty)"):
        load_image(path)


def test_no_flipped_bit_in_a_png_changes_its_pixels(tmp_path):
    pixels = 255 * RNG.integers(0, 2, (20, 20), np.uint8)
    content = saved(tmp_path, "a.png", pixels).read_bytes()
    for byte in range(len(content)):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << byte % 8
        (tmp_path / "a.png").write_bytes(flipped)
        try:
            loaded = load_image(tmp_path / "a.png")
        except DataError:
            continue
        np.testing.assert_array_equal(loaded.pixels, pixels)


@pytest.mark.parametrize("name", ["text.png", "text.npy", "text.nii", "text.nii.gz", "text.mhd", "text.dcm", "text"])
def test_a_file_of_no_format_is_refused(tmp_path, name):
    (tmp_path / name).write_text("this is a text, not an image " * 20)
    with pytest.raises(DataError, match=name):
        load_image(tmp_path / name)


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no\.png: cannot be read \(FileNotFoundError"):
        load_image(tmp_path / "no.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png: is empty"):
        load_image(tmp_path / "empty.png")


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.full((4, 4), np.nan), "found 16 pixels that are NaN or infinite"),
        (np.array([[1, np.inf]]), "found 1 pixels that are NaN or infinite"),
        (np.array([[1, 1e300]]), "found 1 pixels that are NaN or infinite"),  # beyond float32
        (np.full((4, 4), 7), "every pixel is 7"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\), expected \(rows, columns\)"),
        (np.arange(5), r"shape \(5,\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.array([["a", "b"]]), "expected real numbers"),
        (np.ones((2, 2), complex), "expected real numbers"),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path, array, found):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=f"a.npy: .*{found}"):
        load_image(tmp_path / "a.npy")


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{"code": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        load_image(tmp_path / "a.npy")


def test_several_pages_are_refused(tmp_path):
    page = Image.fromarray(GREY)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(DataError, match=r"a\.tif: found 2 pages, expected one"):
        load_image(tmp_path / "a.tif")


# Masks

DISC = np.hypot(*(np.indices((40, 40)) - 19.5)) < 12


@pytest.mark.parametrize("inside", [1, 31, 255])
def test_two_valued_masks(tmp_path, inside):
    mask = read_mask(saved(tmp_path, "m.png", np.uint8(inside * DISC)), np.zeros((40, 40)))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, DISC)


def test_every_label_of_a_structure_is_inside(tmp_path):
    labels = np.where(DISC, 1 + np.indices(DISC.shape)[0] % 3, 0).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "m.png", labels), None), DISC)


def test_a_jpeg_mask_is_not_widened_by_its_ripples(tmp_path):
    path = saved(tmp_path, "m.jpg", np.uint8(255 * DISC), quality=60)
    assert (load_image(path).pixels > 0).sum() > DISC.sum() + 20  # the ripples are there
    assert (read_mask(path, None) != DISC).sum() <= 0.02 * DISC.sum()


def test_a_soft_edge_is_cut_at_half_its_height(tmp_path):
    distance = np.hypot(*(np.indices((40, 40)) - 19.5))
    soft = np.uint8(np.clip(255 * (12 - distance + 3) / 6, 0, 255))
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "m.png", soft), None), soft >= 128)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", None, mask_values="> 0"), soft > 0)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
def test_masks_drawn_in_a_colour(tmp_path, colour):
    drawn = (DISC[..., None] * np.array(colour)).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "rgb.png", drawn), None), DISC)
    on_clear = np.dstack([np.broadcast_to(np.uint8(colour), drawn.shape), np.uint8(255 * DISC)])
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "rgba.png", on_clear), None), DISC)


def test_dark_colours_of_a_palette_are_inside_too(tmp_path):
    image = Image.fromarray(np.where(DISC, 1 + np.indices(DISC.shape)[0] % 2, 0).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 192, 128, 0, 64, 0, 0])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", None), DISC)


def test_an_empty_mask_is_empty(tmp_path):
    for name in ("m.png", "m.jpg"):
        assert not read_mask(saved(tmp_path, name, np.zeros((8, 8), np.uint8)), None).any()


def test_a_mask_of_another_size_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"m\.png: found a mask of \(40, 40\), expected \(40, 41\)"):
        read_mask(saved(tmp_path, "m.png", np.uint8(DISC)), np.zeros((40, 41)))
