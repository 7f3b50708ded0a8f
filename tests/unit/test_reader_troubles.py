"""What files unlike the own ones did to the readers, each with the value that is right."""

import gzip
import importlib
import re
import struct
import tracemalloc
import zlib
from functools import partial
from itertools import permutations

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from test_brain_tumor import MATRIX
from test_brain_tumor import _write as write_mat
from test_dicom_image import write_slice
from test_volumes import pixels_of, write_volume

from xiqa.config import Dataset
from xiqa.datasets import brain_tumor, covid_cxr, ct_contrast, folder, lvot
from xiqa.datasets.base import DataError, Record
from xiqa.datasets.formats import FORMATS, readable
from xiqa.datasets.images import load_image, read_mask
from xiqa.datasets.limits import Reading, reading
from xiqa.datasets.paths import checked
from xiqa.datasets.volumes import open_volume
from xiqa.registry import LAYOUTS
from xiqa.report import formats

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 40)).astype(np.uint8)
LEFT, RIGHT = np.zeros((2, 30, 40), bool)
LEFT[5:20, 3:15], RIGHT[8:25, 22:38] = True, True
BOTH = LEFT | RIGHT


def saved(path, array):
    Image.fromarray(array).save(path)
    return path


def two(left, right):
    """Two structures on black."""
    values = np.zeros((30, 40, *np.shape(left)), np.uint8)
    values[LEFT], values[RIGHT] = left, right
    return values


# Masks


@pytest.mark.parametrize(
    ("left", "right"), [(44, 104), (50, 100), (1, 200), (20, 255), ((255, 0, 0), (90, 0, 0)), ((0, 40, 0), (9, 9, 250))]
)
def test_no_structure_of_a_labelled_or_coloured_mask_vanishes(tmp_path, left, right):
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "m.png", two(left, right)), GREY), BOTH)


@pytest.mark.parametrize("write", ["npy", "nii", "mha", "mat"])
def test_the_same_rule_holds_for_every_format(tmp_path, write):
    labels = two(44, 104)
    if write == "mat":
        write_mat(tmp_path / "1.mat", image=GREY.astype(np.int16), tumorMask=labels)
        (record,) = brain_tumor.read(tmp_path, Dataset(format="brain_tumor"))
        np.testing.assert_array_equal(record.load().mask, BOTH)
        return
    path = tmp_path / f"m.{write}"
    if write == "npy":
        np.save(path, labels)
    elif write == "nii":
        nibabel.save(nibabel.Nifti1Image(labels.T, None), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels), str(path))
    np.testing.assert_array_equal(read_mask(path, GREY), BOTH)


def test_mask_values_name_a_structure_by_key_and_by_column(tmp_path):
    path = saved(tmp_path / "m.png", two(44, 104))
    np.testing.assert_array_equal(read_mask(path, None, "104"), RIGHT)
    np.testing.assert_array_equal(read_mask(path, None, "44 104"), BOTH)
    np.testing.assert_array_equal(read_mask(path, None, "> 50"), RIGHT)
    with reading(Reading(mask_values="44")):
        np.testing.assert_array_equal(read_mask(path, None), LEFT)
    colours = saved(tmp_path / "c.png", two((255, 0, 0), (0, 0, 255)))
    np.testing.assert_array_equal(read_mask(colours, None, "#0000ff"), RIGHT)
    saved(tmp_path / "a.png", GREY), saved(tmp_path / "b.png", GREY.copy()[::-1])
    (tmp_path / "images.csv").write_text(
        "image,label,patient,mask,mask_values\na.png,0,1,m.png,44\nb.png,1,2,m.png,\n", encoding="utf-8"
    )
    first, second = folder.read(tmp_path, Dataset(format="folder", path=str(tmp_path), mask_values="104"))
    np.testing.assert_array_equal(first.load().mask, LEFT)
    np.testing.assert_array_equal(second.load().mask, RIGHT)
    with pytest.raises(ValueError, match="mask_values"):
        Dataset(format="lvot", mask_values="the bright ones")


def _blurred(levels):
    from scipy.ndimage import gaussian_filter

    return np.round(gaussian_filter(levels.astype(float), 1.5)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("m.jpg", two(104, 255)),
        ("m.jpg", two(20, 255)),
        ("m.png", _blurred(two(120, 255))),
        ("m.png", np.where(LEFT, 50, 100).astype(np.uint8)),
        ("m.png", np.where(LEFT, 254, np.where(RIGHT, 255, GREY % 3)).astype(np.uint8)),
        ("m.png", np.where(LEFT[..., None], [255, 0, 0], 255).astype(np.uint8)),
    ],
    ids=["two levels in a JPEG", "a dim one", "two soft levels", "no ground", "once a JPEG", "colour on white"],
)
def test_a_mask_that_can_mean_two_things_is_refused_with_the_way_out(tmp_path, name, values):
    with pytest.raises(DataError, match=r"m\.\w+: found a mask of .*mask_values"):
        read_mask(saved(tmp_path / name, values), None)


def test_a_soft_edge_is_still_cut_at_half():
    from xiqa.datasets.masks import inside_of

    soft = _blurred(255 * BOTH)
    np.testing.assert_array_equal(inside_of("m", soft.astype(np.float32), full_scale=255), soft > 127.5)


# Volumes

VOLUME = RNG.integers(-1000, 1000, (3, 30, 40)).astype(np.int16)


def test_no_changed_byte_of_a_compressed_mha_passes(tmp_path):
    path = write_volume(tmp_path / "a.mha", VOLUME, compressed=True)
    content = path.read_bytes()
    begin = content.index(b"LOCAL\n") + 6
    for place in RNG.integers(begin, len(content), 150):
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"a\.mha: (the compressed data|unpacks to|found further bytes)"):
            open_volume(path).slice(0)


@pytest.mark.parametrize("packing", ["another length in the header", "a longer stream", "a shorter stream"])
def test_a_stream_of_another_length_than_the_header_says_is_refused(tmp_path, packing):
    path = write_volume(tmp_path / "a.mha", VOLUME, compressed=True)
    content = path.read_bytes()
    begin = content.index(b"LOCAL\n") + 6
    values = VOLUME.tobytes()
    stream = {"a longer stream": values + b"\0", "a shorter stream": values[:-1]}.get(packing, values)
    packed = zlib.compress(stream)
    size = len(packed) + (1 if packing.startswith("another") else 0)
    header = re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = %d" % size, content[:begin])
    path.write_bytes(header + packed)
    with pytest.raises(DataError, match=r"unpacks to|expected"):
        open_volume(path).slice(2)


def _as_every_format(place, image):
    names = ("a.mha", "a.mhd", "a.nii", "a.nii.gz", "a.hdr")
    for name in names:
        SimpleITK.WriteImage(image, str(place / name))
    return [place / name for name in (*names, "a.img")]


@pytest.mark.parametrize("direction", [(-1, -1, 1), (1, 1, 1), (1, -1, -1), (-1, 1, 1)])
def test_the_same_image_gives_the_same_array_in_every_format(tmp_path, direction):
    image = SimpleITK.GetImageFromArray(VOLUME)
    image.SetDirection(np.diag(direction).astype(float).ravel().tolist())
    image.SetSpacing((0.5, 0.75, 3.0))
    expected = VOLUME[:, :: direction[1], :: direction[0]]
    for path in _as_every_format(tmp_path, image):
        volume = open_volume(path)
        np.testing.assert_array_equal(pixels_of(path), expected, err_msg=path.name)
        assert volume.spacing_mm == pytest.approx((0.75, 0.5))


def test_every_pixel_lies_where_another_library_has_it(tmp_path):
    turn = SimpleITK.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4)
    matrix = np.array(turn.GetMatrix()).reshape(3, 3)
    for order in permutations(range(3)):
        axes = matrix[:, order]
        image = SimpleITK.GetImageFromArray(VOLUME)
        image.SetDirection((axes * [1, 1, np.sign(np.linalg.det(axes))]).ravel().tolist())
        image.SetOrigin((-20, 7, 30))
        image.SetSpacing((0.5, 0.75, 3.0))
        for path in _as_every_format(tmp_path, image):
            loaded = open_volume(path).slice(1)
            columns, rows = loaded.place.affine[:3, :2].T
            height, width = loaded.pixels.shape
            # To the left, or to the back where no axis does; down to the back, or to the feet.
            assert columns[0] > 0 or columns[1] > 0
            assert rows[1] > 0 or rows[2] < 0
            for row, column in ((0, 0), (height - 1, 0), (4, width - 1), (height // 2, width // 3)):
                position = loaded.place.affine @ [column, row, 0, 1]
                assert image[image.TransformPhysicalPointToIndex(position[:3].tolist())] == loaded.pixels[row, column]


def _series(place, image, mask):
    """A data set of one CT volume and its mask."""
    (place / "masks").mkdir()
    SimpleITK.WriteImage(image, str(place / "v.mha"))
    SimpleITK.WriteImage(mask, str(place / "masks/v.nii.gz"))
    (place / "labels.csv").write_text("file,contrast\nv.mha,1\n")
    return list(ct_contrast.read(place, Dataset(format="ct_contrast", slices="all")))


@pytest.mark.parametrize("flips", [(True, True, False), (False, False, True), (True, False, True)])
def test_an_image_in_lps_overlaps_its_mask_in_ras(tmp_path, flips):
    inside = VOLUME > 500
    image, mask = (SimpleITK.GetImageFromArray(array) for array in (VOLUME, inside.astype(np.uint8)))
    for part in (image, mask):
        part.SetSpacing((0.5, 0.75, 3.0))
        part.SetOrigin((-12.5, 4, 80))
    for record, values in zip(_series(tmp_path, image, SimpleITK.Flip(mask, flips)), inside, strict=True):
        np.testing.assert_array_equal(record.load().mask, values)


@pytest.mark.parametrize("change", ["origin", "spacing", "direction"])
def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, change):
    image, mask = (SimpleITK.GetImageFromArray(array) for array in (VOLUME, (VOLUME > 500).astype(np.uint8)))
    if change == "origin":
        mask.SetOrigin((0.2, 0, 0))
    elif change == "spacing":
        mask.SetSpacing((1.01, 1, 1))
    else:
        mask.SetDirection((np.cos(0.1), -np.sin(0.1), 0, np.sin(0.1), np.cos(0.1), 0, 0, 0, 1))
    for record in _series(tmp_path, image, mask):
        with pytest.raises(DataError, match=r"masks/v\.nii\.gz: found a mask whose header places it [\d.]+ mm beside"):
            record.load()


def test_a_mask_that_does_not_say_how_it_lies_does_not_fit_a_turned_image(tmp_path):
    nibabel.save(nibabel.Nifti1Image(GREY.T, np.eye(4)), tmp_path / "a.nii")
    loaded = load_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(loaded.pixels, GREY[::-1, ::-1])
    with pytest.raises(DataError, match="only one of image and mask says how it lies"):
        read_mask(saved(tmp_path / "m.png", two(1, 2)), loaded)


@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_nifti_in_any_unit_has_the_same_spacing_for_all_callers(tmp_path, unit):
    factor = {"mm": 1, "micron": 1000, "meter": 0.001}[unit]
    image = nibabel.Nifti1Image(GREY.T, np.diag([-0.7 * factor, -0.5 * factor, factor, 1]))
    image.header.set_xyzt_units(unit)
    (tmp_path / "cine").mkdir()
    nibabel.save(image, tmp_path / "cine/7.nii.gz")
    assert load_image(tmp_path / "cine/7.nii.gz").spacing_mm == pytest.approx((0.5, 0.7))
    (tmp_path / "labels.csv").write_text("patient,frame,label\n7,0,1\n")
    (record,) = lvot.read(tmp_path, Dataset(format="lvot"))
    assert record.load().spacing_mm == pytest.approx((0.5, 0.7))


def test_pairs_gzip_under_another_name_and_planes_are_read(tmp_path):
    flat = SimpleITK.GetImageFromArray(GREY)
    flat.SetSpacing((0.5, 0.75))
    SimpleITK.WriteImage(flat, str(tmp_path / "flat.mha"))
    assert load_image(tmp_path / "flat.mha").spacing_mm == (0.75, 0.5)
    image = nibabel.Nifti1Image(GREY.T, np.diag([-1, -1, 1, 1]))
    nibabel.save(image, tmp_path / "plain.nii")
    (tmp_path / "packed.nii").write_bytes(gzip.compress((tmp_path / "plain.nii").read_bytes()))
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "plain.nii").read_bytes())
    (tmp_path / "unnamed").write_bytes((tmp_path / "plain.nii").read_bytes())
    nibabel.save(nibabel.Nifti1Pair(GREY.T, image.affine), tmp_path / "pair.img")
    nibabel.save(nibabel.AnalyzeImage(GREY.T.astype(np.int16), None), tmp_path / "old.img")
    nibabel.save(nibabel.Nifti2Image(GREY.T, image.affine), tmp_path / "second.nii")
    names = ("flat.mha", "plain.nii", "packed.nii", "plain.nii.gz", "unnamed", "pair.hdr", "pair.img", "old.hdr",
             "old.img", "second.nii")  # fmt: skip
    for name in names:
        np.testing.assert_array_equal(load_image(tmp_path / name).pixels, GREY, err_msg=name)
    (tmp_path / "pair.img").unlink()
    with pytest.raises(DataError, match=r"pair\.hdr: names '.*pair\.img'"):
        load_image(tmp_path / "pair.hdr")


def test_dicom_slices_are_turned_by_the_same_rule(tmp_path):
    volume = np.abs(VOLUME[:1])
    image = SimpleITK.GetImageFromArray(volume)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((40, 30, 7))
    image.SetSpacing((0.5, 0.75, 3))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    tags = {"PixelSpacing": [0.75, 0.5], "ImagePositionPatient": [40, 30, 7]}
    prone = write_slice(
        tmp_path / "a.dcm", volume[0].astype(np.uint16), ImageOrientationPatient=[-1, 0, 0, 0, -1, 0], **tags
    )
    found, expected = load_image(prone), load_image(tmp_path / "a.mha")
    np.testing.assert_array_equal(found.pixels, expected.pixels - 1024)
    np.testing.assert_array_equal(found.pixels, volume[0, ::-1, ::-1] - 1024.0)
    np.testing.assert_allclose(found.place.affine[:, [0, 1, 3]], expected.place.affine[:, [0, 1, 3]], atol=1e-6)
    assert found.spacing_mm == expected.spacing_mm
    mask = SimpleITK.GetImageFromArray((volume > 500).astype(np.uint8))
    mask.CopyInformation(image)
    SimpleITK.WriteImage(mask, str(tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", found), found.pixels > 500 - 1024)
    # A projection does not say how it lies in the patient, and is never turned.
    flat = write_slice(tmp_path / "b.dcm", volume[0].astype(np.uint16), PatientOrientation=["A", "F"])
    np.testing.assert_array_equal(load_image(flat).pixels, volume[0] - 1024.0)


# Limits


def test_159_bytes_that_claim_60000_squared_are_refused_at_once(tmp_path):
    lines = ["ObjectType = Image", "NDims = 2", "BinaryData = True", "CompressedData = True", "CompressedDataSize = 8",
             "DimSize = 60000 60000", "ElementType = MET_SHORT", "ElementDataFile = LOCAL", ""]  # fmt: skip
    (tmp_path / "a.mha").write_bytes("\n".join(lines).encode() + b"12345678")
    nifti = nibabel.Nifti1Header()
    nifti.set_data_shape((30_000, 30_000, 4))
    nifti["magic"], nifti["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii").write_bytes(nifti.binaryblock + bytes(8))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti.binaryblock + bytes(8)))
    tracemalloc.start()
    for name in ("a.mha", "a.nii", "a.nii.gz"):
        with pytest.raises(DataError, match=rf"{name}: claims an image of .* MB; the limit is 1,024 MB.*largest_image"):
            load_image(tmp_path / name)
    with h5py.File(tmp_path / "1.mat", "w") as file:
        file.create_dataset("cjdata/image", (60_000, 60_000), np.int16, chunks=(100, 100))
        file["cjdata/label"], file["cjdata/PID"] = [[1.0]], np.array([[65]], np.uint16)
    (record,) = brain_tumor.read(tmp_path, Dataset(format="brain_tumor"))
    with pytest.raises(DataError, match="claims an image of 60000 × 60000"):
        record.load()
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    (small,) = brain_tumor.read(tmp_path, Dataset(format="brain_tumor", largest_image_mb=7201))
    assert isinstance(small, Record)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_data_that_unpack_to_far_more_than_the_header_says_are_stopped(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    bomb = bytes(60_000_000)
    if suffix == ".mha":
        header = write_volume(path, VOLUME).read_bytes().partition(b"ElementDataFile")[0]
        header = header.replace(b"CompressedData = False", b"CompressedData = True")
        path.write_bytes(header + b"ElementDataFile = LOCAL\n" + zlib.compress(bomb))
    else:
        nibabel.save(nibabel.Nifti1Image(VOLUME.T, np.eye(4)), tmp_path / "a.nii")
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes() + bomb))
    del bomb
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than"):
        open_volume(path).slice(0)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


# Paths


def _external(path, secret):
    with h5py.File(path, "a") as file:
        del file["cjdata/image"]
        file.create_dataset("cjdata/image", (60, 40), "<i2", external=[(str(secret), 0, 60 * 40 * 2)])


def _external_link(path, secret):
    with h5py.File(path, "a") as file, h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["image"] = MATRIX.T
        del file["cjdata/image"]
        file["cjdata/image"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "image")


def _soft_link(path, secret):
    with h5py.File(path, "a") as file:
        file["elsewhere"] = MATRIX.T
        del file["cjdata/image"]
        file["cjdata/image"] = h5py.SoftLink("/elsewhere")


def _linked_group(path, secret):
    with h5py.File(path, "a") as file:
        file.move("cjdata", "other")
        file["cjdata"] = h5py.SoftLink("/other")


def _virtual(path, secret):
    with h5py.File(path, "a") as file, h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["image"] = MATRIX.T
        layout = h5py.VirtualLayout((60, 40), "<i2")
        layout[:] = h5py.VirtualSource(secret.with_suffix(".h5"), "image", (60, 40))
        del file["cjdata/image"]
        file.create_virtual_dataset("cjdata/image", layout)


@pytest.mark.parametrize("change", [_external, _external_link, _soft_link, _linked_group, _virtual])
def test_matlab_files_never_lead_to_other_data(tmp_path, change):
    secret = tmp_path / "secret.raw"
    MATRIX.astype("<i2").T.tofile(secret)
    change(write_mat(tmp_path / "set/1.mat"), secret)
    (item,) = brain_tumor.read(tmp_path / "set", Dataset(format="brain_tumor"))
    load = item.load if isinstance(item, Record) else partial(_raise, item)
    with pytest.raises(DataError, match=r"1\.mat: field cjdata/\w+: found (a link|data in other files)"):
        load()


def _raise(fault):
    raise fault


@pytest.fixture
def linked(tmp_path):
    """A set of which an image and its mask are links into a cache, and another image leads elsewhere."""
    for name in ("set", "cache", "elsewhere"):
        (tmp_path / name).mkdir()
    saved(tmp_path / "cache/1f.png", GREY), saved(tmp_path / "elsewhere/a.png", GREY[::-1].copy())
    saved(tmp_path / "cache/m.png", two(1, 2))
    (tmp_path / "set/a.png").symlink_to(tmp_path / "cache/1f.png")
    (tmp_path / "set/m.png").symlink_to("../cache/m.png")
    (tmp_path / "set/b.png").symlink_to(tmp_path / "elsewhere/a.png")
    (tmp_path / "set/images.csv").write_text("image,label,patient,mask\na.png,0,1,m.png\nb.png,1,2,\n")
    return tmp_path


def test_linked_images_are_read_within_the_named_roots_only(linked):
    settings = {"format": "folder", "path": str(linked / "set"), "classes": ("0", "1")}
    faults = list(folder.read(linked / "set", Dataset(**settings)))
    assert all("lies outside" in str(fault) and "follow_links" in str(fault) for fault in faults)
    allowed = Dataset(**settings, follow_links=True, link_roots=(str(linked / "cache"),))
    record, fault = folder.read(linked / "set", allowed)
    loaded = record.load()
    np.testing.assert_array_equal(loaded.pixels, GREY)
    np.testing.assert_array_equal(loaded.mask, BOTH)
    assert "names 'b.png', which lies outside" in str(fault)
    with pytest.raises(ValueError, match="follow_links: true needs link_roots"):
        Dataset(**settings, follow_links=True)


def test_searches_find_linked_files_and_folders_within_the_named_roots_only(tmp_path):
    for place in ("set", "cache", "elsewhere"):
        write_mat(tmp_path / place / "own.mat") if place != "set" else (tmp_path / "set").mkdir()
    write_mat(tmp_path / "cache/deep/5.mat"), write_mat(tmp_path / "elsewhere/deep/9.mat")
    (tmp_path / "set/1.mat").symlink_to(tmp_path / "cache/own.mat")
    (tmp_path / "set/2.mat").symlink_to(tmp_path / "elsewhere/own.mat")
    (tmp_path / "set/deep").symlink_to(tmp_path / "cache/deep")
    (tmp_path / "set/other").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "set/again").symlink_to(tmp_path / "set")
    items = list(brain_tumor.read(tmp_path / "set", Dataset(format="brain_tumor")))
    assert len(items) == 4
    assert all("lies outside" in str(item) for item in items)
    allowed = Dataset(format="brain_tumor", follow_links=True, link_roots=(str(tmp_path / "cache"),))
    items = list(brain_tumor.read(tmp_path / "set", allowed))
    assert [item.image for item in items if isinstance(item, Record)] == ["1", "5"]
    assert sorted(re.findall(r"names '(\S+)'", " ".join(map(str, items)))) == ["2.mat", "other"]


def test_masks_and_pictures_found_by_search_are_checked_too(tmp_path):
    for name in ("COVID", "Normal"):
        (tmp_path / "set" / name / "images").mkdir(parents=True)
        (tmp_path / "set" / name / "masks").mkdir()
        saved(tmp_path / "set" / name / "images/1.png", GREY)
    secret = saved(tmp_path / "secret.png", GREY)
    (tmp_path / "set/COVID/masks/1.png").symlink_to(secret)
    (tmp_path / "set/Normal/images/2.png").symlink_to(secret)
    items = list(covid_cxr.read(tmp_path / "set", Dataset(format="covid_cxr")))
    assert [item.image for item in items if isinstance(item, Record)] == ["Normal-1"]
    assert sum("lies outside" in str(item) for item in items) == 2


@pytest.mark.parametrize("name", ["a\0.png", "x" * 5000, "../b.png", "/etc/passwd", "no.png"])
def test_names_that_lead_nowhere_are_faults_of_what_names_them(tmp_path, name):
    with pytest.raises(DataError, match=r"^\S+table\.csv: names"):
        checked(tmp_path / name, tmp_path / "table.csv", name)


# What holds of all of them


def test_every_reader_lets_the_rules_of_the_data_set_hold():
    for name in LAYOUTS:
        assert hasattr(importlib.import_module(f"xiqa.datasets.{name}").read, "__wrapped__"), name


def test_the_list_of_formats_is_what_messages_and_docs_say(tmp_path, root):
    assert (root / "docs/reference/formats.md").read_text(encoding="utf-8") == formats.page(), "run make schema"
    assert all(entry.name in readable() for entry in FORMATS if entry.reader != "brain_tumor")
    (tmp_path / "a.xyz").write_bytes(struct.pack("<64I", *range(64)))
    with pytest.raises(DataError, match="as any known format; xiqa reads DICOM"):
        load_image(tmp_path / "a.xyz")
