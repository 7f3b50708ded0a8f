"""Pictures keep the depth that they are stored with, or are refused; no value is scaled or cut without a word."""

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from xiqa.datasets.base import DataError
from xiqa.datasets.images import load_image, read_mask
from xiqa.datasets.limits import Reading, reading
from xiqa.datasets.pictures import luminance

RNG = np.random.default_rng(0)
TWELVE_BIT = RNG.integers(0, 4096, (11, 7)).astype(np.uint16)
COLOUR = RNG.integers(0, 65536, (11, 7, 3)).astype(np.uint16)


def deep(path, channels):
    """Write colour of 16 bits a channel."""
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(channels, isVector=True), str(path))
    return path


def test_12_bit_data_in_a_16_bit_rgb_png_keep_their_grey_levels(tmp_path):
    path = deep(tmp_path / "a.png", np.repeat(TWELVE_BIT[..., None], 3, 2))
    loaded = load_image(path)
    assert np.array_equal(loaded.pixels, TWELVE_BIT)
    assert (loaded.full_scale, loaded.header["colour"]) == (65535, "RGB")
    assert np.unique(np.asarray(Image.open(path))).size <= 16  # what Pillow alone would give


def test_16_bit_colour_becomes_luminance_at_full_depth_and_transparency_lies_over_black(tmp_path):
    expected = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.allclose(load_image(deep(tmp_path / "a.png", COLOUR)).pixels, expected, rtol=1e-6)
    alpha = RNG.integers(0, 65536, (11, 7, 1)).astype(np.uint16)
    loaded = load_image(deep(tmp_path / "b.png", np.dstack([np.repeat(TWELVE_BIT[..., None], 3, 2), alpha])))
    assert np.array_equal(loaded.pixels, np.round(TWELVE_BIT * (alpha[..., 0] / 65535)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_is_turned_as_8_bit_colour_is(tmp_path, orientation):
    small = RNG.integers(0, 256, (5, 3, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(small).save(tmp_path / "8.png", exif=exif)
    deep(tmp_path / "16.png", small.astype(np.uint16) * 257)
    chunk = _chunk(tmp_path / "8.png", b"eXIf")
    content = (tmp_path / "16.png").read_bytes()
    (tmp_path / "16.png").write_bytes(content[:33] + chunk + content[33:])
    expected = load_image(tmp_path / "8.png").pixels
    assert np.allclose(load_image(tmp_path / "16.png").pixels, 257 * expected, rtol=1e-6)


def _chunk(path, name):
    content = path.read_bytes()
    start = content.index(name) - 4
    return content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]


@pytest.mark.parametrize("name", ["a.tif", "a.tiff"])
def test_16_bit_colour_that_would_be_cut_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"more than 8 bits a channel in colour.*save it as 16-bit grey"):
        load_image(deep(tmp_path / name, COLOUR))


def test_16_bit_grey_with_transparency_is_refused(tmp_path):
    deep(tmp_path / "a.png", COLOUR[..., :2])
    assert (tmp_path / "a.png").read_bytes()[24:26] == b"\x10\x04"
    with pytest.raises(DataError, match="more than 8 bits a channel in colour or with transparency"):
        load_image(tmp_path / "a.png")


def test_a_grey_value_that_a_16_bit_png_declares_invisible_is_black(tmp_path):
    Image.fromarray(TWELVE_BIT).save(tmp_path / "a.png", transparency=int(TWELVE_BIT[3, 4]))
    expected = np.where(TWELVE_BIT[3, 4] == TWELVE_BIT, 0, TWELVE_BIT)
    assert np.array_equal(load_image(tmp_path / "a.png").pixels, expected)


# PGM and its family


@pytest.mark.parametrize("maximum", [4095, 65535, 5000])
def test_16_bit_pgm_has_the_values_that_are_stored(tmp_path, maximum):
    (tmp_path / "a.pgm").write_bytes(b"P5\n# a scan\n7 11\n%d\n" % maximum + TWELVE_BIT.astype(">u2").tobytes())
    loaded = load_image(tmp_path / "a.pgm")
    assert np.array_equal(loaded.pixels, TWELVE_BIT)
    assert (loaded.full_scale, loaded.header["file_type"], loaded.header["colour"]) == (maximum, "PPM", "L")


@pytest.mark.parametrize("maximum", [255, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_every_kind_of_netpbm_gives_the_values_that_are_stored(tmp_path, kind, maximum):
    values = RNG.integers(0, maximum, (11, 7, 3) if kind in ("P3", "P6") else (11, 7), endpoint=True)
    head = f"{kind} 7\n# comment 9 9\n11\t{maximum}\n".encode()
    kind_of_value = ">u2" if maximum > 255 else "u1"
    plain = " ".join(map(str, values.ravel())).encode()
    (tmp_path / "a").write_bytes(head + (plain if kind in ("P2", "P3") else values.astype(kind_of_value).tobytes()))
    expected = luminance(values) if values.ndim == 3 else values
    loaded = load_image(tmp_path / "a")
    assert np.array_equal(loaded.pixels, expected)
    assert loaded.full_scale == maximum


@pytest.mark.parametrize("kind", [b"P1", b"P4"])
def test_bitmaps_are_what_pillow_writes(tmp_path, kind):
    bits = RNG.integers(0, 2, (9, 13)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "a.pbm")
    if kind == b"P1":
        (tmp_path / "a.pbm").write_bytes(b"P1\n13 9\n" + b"\n".join(b"".join(b"%d" % (not b) for b in r) for r in bits))
    assert np.array_equal(load_image(tmp_path / "a.pbm").pixels, 255 * bits)
    assert np.array_equal(read_mask(tmp_path / "a.pbm", None), bits)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P5 3 2 255\n12345", "end too early"),
        (b"P5 3 2 255\n123456x", "values behind the image"),
        (b"P2 3 2 255\n1 2 3 4 5", "end too early"),
        (b"P2 3 2 255\n1 2 3 4 5 6 7", "values behind the image"),
        (b"P2 3 2 100\n1 2 3 4 5 600", "found the value 600, expected at most 100"),
        (b"P2 3 2 100\n1 2 3 4 5 -6", "found the value -6, expected 0 or more"),
        (b"P5 3 2 4095\n\xff\xff\0\1\0\1\0\1\0\1\0\1", "found the value 65535, expected at most 4095"),
        (b"P5 3 2 70000\n123456", "found the maximum 70000"),
        (b"P5 3 0 255\n", "claims an image of 0 × 3"),
        (b"P5 60000 60000 255\n", "claims an image of 60000 × 60000"),
        (b"P5 three two 255\n123456", "found no width, height and maximum"),
        (b"P5 3 2 255\n123456\nP5 3 2 255\n123456", "values behind the image"),
    ],
)
def test_a_damaged_pgm_is_refused(tmp_path, content, message):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.pgm: .*{message}"):
        load_image(tmp_path / "a.pgm")


# Limits


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg"])
def test_a_picture_that_claims_more_than_the_limit_is_refused_before_it_is_decoded(tmp_path, name):
    Image.fromarray(np.zeros((1100, 1000), np.uint8)).save(tmp_path / name)
    with reading(Reading(largest_image_mb=1)), pytest.raises(DataError, match="claims an image of 1100 × 1000"):
        load_image(tmp_path / name)


def test_what_is_no_medical_image_is_not_opened_by_a_program(tmp_path):
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n" + bytes(200))
    with pytest.raises(DataError, match="known format"):
        load_image(tmp_path / "a.eps")
