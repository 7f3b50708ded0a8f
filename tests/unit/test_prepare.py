import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Record, localisation_check, mask_of
from xiqa.datasets.paths import inside
from xiqa.datasets.prepare import FILES, prepare, pseudonym, read_or_make_key, source_digest, to_square, to_unit_range
from xiqa.datasets.sampling import SampledImages, places_of, sample
from xiqa.datasets.splits import groups_of
from xiqa.files import PackedMasks, append_array

KEY = b"secret"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.bin"
    path.write_bytes(b"bytes")
    return path


@pytest.fixture
def record(source):
    def make(image, pixels, patient="P1", label=0, **loaded):
        given = Loaded(np.asarray(pixels, np.float32), full_scale=255.0, **loaded)
        return Record(image, patient, label, "name", (source,), lambda: given)

    return make


@pytest.fixture
def run(tmp_path):
    def go(records, facts=None, **settings):
        dataset = Dataset(**{"format": "object_cxr", "size": 16, "networks": (), **settings})
        paths = {name: tmp_path / file for name, file in FILES.items()}
        table = prepare(records, dataset, facts=facts, key=KEY, paths=paths, progress=lambda *_: None)
        return table, np.load(paths["images"]), PackedMasks(paths["masks"])[:], pd.read_csv(paths["skipped"])

    return go


def gradient(height=32, width=48):
    return np.add.outer(np.arange(height), np.arange(width)) % 256


def test_the_table_the_images_and_the_masks(run, record):
    pixels, mask = gradient(), np.zeros((32, 48), bool)
    mask[8:16, 24:36] = True
    one = record("a", pixels, mask=mask, boxes=((24, 8, 36, 16),), spacing_mm=(0.5, 0.25), header={"kvp": 80.0})
    table, images, masks, skipped = run([one, record("b", pixels.T + 1, patient="P2", label=1)])
    assert images.shape == masks.shape == (2, 16, 16)
    assert images.dtype == np.float16
    assert list(table["has_mask"]) == [True, False]
    assert list(table["data"]) == ["real", "real"]
    assert json.loads(table["boxes"][0]) == [[8, 4, 12, 8]]
    assert np.array_equal(np.argwhere(masks[0]).min(0), [4, 8])
    assert masks[0].sum() == 4 * 4
    assert table["spacing_row_mm"][0] == 1.0
    assert table["spacing_column_mm"][0] == 0.75
    assert table["header_kvp"][0] == 80.0
    assert images[0].astype(float).mean() == pytest.approx(pixels.mean() / 255, abs=1e-3)
    assert skipped.empty


def test_the_table_says_what_its_masks_show_and_a_map_in_an_organ_found_no_defect(run, record):
    one, other = record("a", gradient()), replace(record("b", gradient().T), mask_of="lungs")
    assert mask_of(run([one])[0]) == "defect"
    assert mask_of(run([other])[0]) == "lungs"
    assert mask_of(run([other], mask_of="tubes")[0]) == "tubes"
    with pytest.raises(ValueError, match="masks show defect, lungs; expected one"):
        run([one, other])
    assert localisation_check("defect") == "finds the defect"
    assert localisation_check("lungs") == "points into the lungs"
    assert localisation_check("lungs", many=True) == "point into the lungs"


def test_patients_are_pseudonyms(run, record):
    table, *_ = run([record("a", gradient(), "Jane Doe"), record("b", gradient().T, "Jane Doe")])
    assert table["patient"].nunique() == 1
    assert "Jane" not in table.to_csv()
    assert pseudonym("Jane Doe", b"other") != pseudonym("Jane Doe", KEY) == table["patient"][0]


def test_the_key_is_made_once_outside_the_results_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "home/.config/xiqa/pseudonym_key"
    first = read_or_make_key(path, outside=tmp_path / "results")
    assert read_or_make_key(path, outside=tmp_path / "results") == first
    assert len(first) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_others_could_have_is_refused(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "results")
    for place in ("results/key", "results/deep/key", "link/key", "results"):
        with pytest.raises(ValueError, match="lies in the folder of the results"):
            read_or_make_key(tmp_path / place, outside=tmp_path / "results")
    open_to_all = tmp_path / "key"
    read_or_make_key(open_to_all, outside=tmp_path / "results")
    open_to_all.chmod(0o640)
    with pytest.raises(ValueError, match="found mode 640, expected 600"):
        read_or_make_key(open_to_all, outside=tmp_path / "results")
    open_to_all.chmod(0o600)
    open_to_all.write_text("guess me")
    with pytest.raises(ValueError, match="64 hexadecimal digits") as caught:
        read_or_make_key(open_to_all, outside=tmp_path / "results")
    assert "guess" not in str(caught.value)
    with pytest.raises(ValueError, match=r"cannot be made or read .* name another file in pseudonym_key"):
        read_or_make_key(open_to_all / "below a file", outside=tmp_path / "results")


def test_jobs_at_the_same_time_get_the_same_key(tmp_path):
    for repeat in range(20):
        with ThreadPoolExecutor(8) as pool:
            made = pool.map(lambda path: read_or_make_key(path, outside="results"), [tmp_path / f"new/{repeat}"] * 8)
            assert len(set(made)) == 1


def test_the_digest_of_a_source_cannot_be_found_by_trying_files(run, record, source):
    table, *_ = run([record("a", gradient())])
    for guess in (source.read_bytes(), hashlib.sha256(source.read_bytes()).digest()):
        assert table["source_digest"][0] != hashlib.sha256(guess).hexdigest()
    assert table["source_digest"][0] == source_digest([source], KEY) != source_digest([source], b"other")


def test_another_key_changes_pseudonyms_and_digests_and_nothing_else(run, record, monkeypatch):
    records = [record(f"i{n}", gradient() + n, patient=f"P{n % 3}", label=n % 2) for n in range(6)]
    one, images, *_ = run(records)
    monkeypatch.setitem(globals(), "KEY", b"other")
    other, others, *_ = run(records)
    assert np.array_equal(images, others)
    named = ["patient", "source_digest"]
    assert (one[named] != other[named]).all(axis=None)
    pd.testing.assert_frame_equal(one.drop(columns=named), other.drop(columns=named))
    assert (groups_of(one) == groups_of(other)).all()


SAME = {
    "a decimal": ("7", "7.0"),
    "leading zeros": ("007", "7"),
    "zeros behind letters": ("P007", "P7"),
    "case": ("p7", "P7"),
    "a space": ("P 7", "P7"),
    "wide digits": ("７", "7"),
    "an exponent": ("1.2E+05", "120000"),
    "a decimal comma": ("12,00", "12"),
    "a composed letter": ("Mu\u0308ller", "M\u00fcller"),
}


@pytest.mark.parametrize("ids", SAME.values(), ids=SAME)
@pytest.mark.parametrize("on_fault", ["stop", "skip"])
def test_ids_that_differ_only_in_their_writing_are_refused_by_their_rows(run, record, ids, on_fault):
    records = [record(f"i{n}", gradient() + n, patient=patient) for n, patient in enumerate(["1", ids[0], "2", ids[1]])]
    with pytest.raises(ValueError, match="rows 2 and 4: found two ids of patients") as caught:
        run(records, on_fault=on_fault)
    assert "Mu" not in str(caught.value)
    tabled = [replace(one, row=10 + n) for n, one in enumerate(records)]
    with pytest.raises(ValueError, match="rows 11 and 13"):
        run(tabled, on_fault=on_fault)


def test_ids_that_differ_in_more_are_patients_of_their_own(run, record):
    ids = ["7", "70", "P7", "7-1", "7.1", "7.10", "71", "0", "-7", "7a", "1.2.840.1", "1.2.840.10"]
    table, *_ = run([record(f"i{n}", gradient() + n, patient=patient) for n, patient in enumerate(ids)])
    assert table["patient"].nunique() == len(ids)
    # Names of single images stand for patients where a set has none: two files may be called so.
    proxies = [replace(record(name, gradient() + n), patient=name) for n, name in enumerate(["7", "007", "a", "A"])]
    assert run(proxies)[0]["patient"].nunique() == 4


def test_what_is_skipped_is_listed_by_row_without_a_name(run, record, tmp_path):
    folder = tmp_path / "of Jane Doe"
    folder.mkdir()
    (folder / "Jane Doe 4711.png").write_bytes(b"no image")

    def unreadable(text):
        def load():
            raise DataError(folder / "Jane Doe 4711.png", text)

        return load

    bad = record("bad", gradient())
    texts = [
        "is empty (0 bytes); copy it again",
        f"the mask of {folder}/Jane Doe 4711.png has another size",
        "names 'Jane O'Doe.png', but there is no file; restore it",
        'names "Jane O\'Doe.png", which no file can be called',
        "box 1 2 3 4 leaves the image Jane Doe 4711.png of 7 columns and 9 rows",
    ]
    files = (folder / "Jane Doe 4711.png",)
    faulty = [replace(bad, image=f"b{n}", load=unreadable(text), files=files) for n, text in enumerate(texts)]
    listed = DataError(folder / "images.csv", f"row 3: names 'Doe.png', but {folder}/Doe.png is no file")
    table, _, _, skipped = run([record("good", gradient()), *faulty, listed], on_fault="skip")
    assert list(table["image"]) == ["good"]
    assert list(skipped.columns) == ["row", "reason"]
    assert list(skipped["row"]) == [2, 3, 4, 5, 6, 7]
    assert not skipped["reason"].str.contains("Jane|Doe|4711").any()
    assert skipped["reason"][0] == texts[0]
    assert skipped["reason"][2] == "names '…', but there is no file; restore it"
    assert skipped["reason"][4] == "box 1 2 3 4 leaves the image … of 7 columns and 9 rows"


def test_a_listing_that_fails_stops_whatever_is_done_with_faults(run, record):
    def listing():
        yield record("a", gradient())
        raise KeyError("patient")

    with pytest.raises(DataError, match="the list of images: cannot be read"):
        run(listing(), on_fault="skip")


def test_the_configuration_alone_says_what_is_simulated(tmp_path, run, record):
    assert Dataset(format="lvot").simulated
    (tmp_path / "twin.csv").write_text("image,patient,part\n")
    assert not Dataset(format="lvot", path=str(tmp_path)).simulated


BAD = {
    "NaN": (np.where(np.eye(32, 48), np.nan, 1), {}, "32 pixels that are NaN"),
    "constant": (np.full((32, 48), 7), {}, "the value 7 in all pixels"),
    "a stack": (np.zeros((3, 32, 48)), {}, "expected one grey image"),
    "a mask of another size": (gradient(), {"mask": np.ones((32, 47), bool)}, "a mask of"),
    "a box outside": (gradient(), {"boxes": ((0, 0, 49, 5),)}, "expected x_min < x_max within 0 to 48"),
    "an empty box": (gradient(), {"boxes": ((5, 0, 5, 5),)}, "expected x_min < x_max"),
}


@pytest.mark.parametrize("case", BAD)
def test_faults_stop_or_are_skipped_and_listed(run, record, source, case):
    pixels, loaded, message = BAD[case]
    records = [record("good", gradient()), record("bad", pixels, **loaded)]
    with pytest.raises(DataError, match=message) as caught:
        run(records)
    assert str(source) in str(caught.value)
    table, images, _, skipped = run(records, on_fault="skip")
    assert list(table["image"]) == ["good"]
    assert len(images) == 1
    assert message in skipped["reason"][0]


def test_nothing_is_left_half_written(run, record, tmp_path):
    with pytest.raises(DataError):
        run([record("good", gradient()), record("bad", np.zeros((32, 48)))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.bin"]


def test_identifiers_and_patients_are_checked(run, record):
    for bad, message in [
        (record("a b", gradient()), "image id 'a b'"),
        (record("good", gradient().T), "another image has already"),
        (record("c", gradient(), patient=" "), "no patient id"),
    ]:
        with pytest.raises(DataError, match=message):
            run([record("good", gradient()), bad])


def test_a_fault_that_the_reader_found_is_listed(run, record, source):
    table, _, _, skipped = run([DataError(source, "is no image"), record("a", gradient())], on_fault="skip")
    assert len(table) == len(skipped) == 1
    with pytest.raises(ValueError, match="no image is left of 0"):
        run([DataError(source, "is no image")], on_fault="skip")


def test_exact_duplicates_are_reported(run, record):
    shifted = gradient() + 1.0
    table, *_ = run([record("a", gradient()), record("b", shifted), record("c", gradient(), patient="P2")])
    assert table["duplicate_of"].isna().tolist() == [True, True, False]
    assert table["duplicate_of"][2] == "a"


def test_facts_of_a_twin_are_added_and_mark_it_as_simulated(run, record):
    facts = pd.DataFrame(
        {"image": ["b", "a"], "patient": [2, 1], "part": ["severity", "main"], "severity": [0.5, 1.0], "gain": [2, 3]}
    )
    table, *_ = run([record("a", gradient(), "x"), record("b", gradient().T, "x")], facts)
    assert list(table["data"]) == ["simulated"] * 2
    assert list(table["severity"]) == [1.0, 0.5]
    assert list(table["gain"]) == [3, 2]
    assert table["patient"].nunique() == 2
    assert table["part"].isna().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"twin\.csv does not list"):
        run([record("z", gradient())], facts)


def test_intensity_windows():
    pixels = np.array([[-1000.0, 50.0], [300.0, 3000.0]], np.float32)
    window = Dataset(format="ct_contrast", intensity="window", window_hu=(50, 500))
    assert np.allclose(to_unit_range(Loaded(pixels), window, "x"), [[0, 0.5], [1, 1]])
    spread = to_unit_range(
        Loaded(np.arange(1001.0).reshape(7, 143)), Dataset(format="lvot", intensity="percentiles"), "x"
    )
    assert spread.flat[0] == 0
    assert spread.flat[500] == pytest.approx(0.5)
    with pytest.raises(DataError, match="full_scale needs an 8- or 16-bit image"):
        to_unit_range(Loaded(pixels), Dataset(format="object_cxr"), "x")


def test_padding_keeps_proportions():
    image = np.linspace(0.2, 1, 20 * 40, dtype=np.float32).reshape(20, 40)
    mask = np.zeros((20, 40), bool)
    mask[0:10, 0:10] = True
    small, small_mask, boxes, spacing = to_square(image, Loaded(image, mask, ((0, 0, 10, 10),), (1.0, 1.0)), 40, "pad")
    assert np.allclose(small[10:30], image, atol=1e-6)
    assert np.allclose(small[:10], 0.2)
    assert np.array_equal(np.argwhere(small_mask).min(0), [10, 0])
    assert boxes == [(0, 10, 10, 20)]
    assert spacing == (1.0, 1.0)


def test_a_thin_ground_truth_does_not_vanish():
    image = np.random.default_rng(0).random((160, 160), np.float32)
    mask = np.zeros((160, 160), bool)
    mask[42, 77] = True
    small = to_square(image, Loaded(image, mask), 16, "stretch")[1]
    assert np.argwhere(small).tolist() == [[4, 7]]


def test_paths_stay_inside_the_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").touch()
    (tmp_path / "secret.png").touch()
    (tmp_path / "data/link.png").symlink_to(tmp_path / "secret.png")
    folder, listing = tmp_path / "data", tmp_path / "data/images.csv"
    assert inside(folder, "a.png", listing) == folder / "a.png"
    for name in ("../secret.png", "..\\secret.png", str(tmp_path / "secret.png"), "link.png"):
        with pytest.raises(DataError, match="lies outside"):
            inside(folder, name, listing)
    with pytest.raises(DataError, match="is no file"):
        inside(folder, "b.png", listing)


def test_an_array_is_appended_item_by_item(tmp_path):
    items = np.random.default_rng(0).random((12, 3, 5))
    with append_array(tmp_path / "a.npy", (3, 5), np.float64) as append:
        for item in items:
            append(item)
        with pytest.raises(ValueError, match="expected \\(3, 5\\)"):
            append(np.zeros((5, 3)))
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), items)


MEMORY = """
import re, sys, numpy as np
from pathlib import Path
from xiqa.config import Dataset
from xiqa.datasets.base import Loaded, Record
from xiqa.datasets.prepare import FILES, prepare
folder = Path(sys.argv[1])
base = np.random.default_rng(0).random((600, 600), np.float32) * 255
def records(n):
    for i in range(n):
        yield Record(f"i{i}", f"p{i}", i % 2, "x", (Path(sys.argv[0]),), lambda i=i: Loaded(np.roll(base, i), full_scale=255.0))
paths = {name: folder / file for name, file in FILES.items()}
prepare(records(int(sys.argv[2])), Dataset(format="object_cxr", size=600), facts=None, key=b"", paths=paths, progress=lambda *_: None)
# Not getrusage: its peak begins with that of the process that started this one.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""  # noqa: E501


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)
    peak_kib = [
        int(subprocess.run([sys.executable, script, tmp_path, str(n)], capture_output=True, check=True).stdout)
        for n in (10, 150)
    ]
    # 140 images of 600 x 600 are 100 MB as float16: they must not stay in memory.
    assert peak_kib[1] - peak_kib[0] < 20_000
    assert peak_kib[1] < 1_000_000


def test_of_large_images_networks_see_random_rows_and_columns(run, record, tmp_path):
    pixels, mask = np.random.default_rng(0).uniform(0, 255, (40, 40)), np.zeros((40, 40), bool)
    mask[8:16, 24:36] = True
    marks = {"left": np.arange(40) < np.full((40, 1), 20)}
    one = record("a", pixels, mask=mask, boxes=((24, 8, 36, 16),), spacing_mm=(0.5, 0.25), structures=marks)
    both = [replace(r, structures=("left",)) for r in (one, record("b", pixels, patient="P2", structures=marks))]
    table, images, masks, _ = run(both, size=40, sampling={"size": 16})
    rows, columns = places_of("a", 0, 40, 16)
    assert list(rows) == sorted(set(rows))
    original = np.load(tmp_path / FILES["originals"])
    np.testing.assert_allclose(original[0], pixels / 255, atol=1e-3)
    np.testing.assert_array_equal(images[0], sample(original[0], rows, columns))
    np.testing.assert_array_equal(masks[0], sample(mask, rows, columns))
    np.testing.assert_array_equal(PackedMasks(tmp_path / FILES["original_masks"])[0], mask)
    structures = np.unpackbits(np.load(tmp_path / FILES["structures"]), axis=-1).astype(bool)
    np.testing.assert_array_equal(structures[0, 0], np.broadcast_to(columns < 20, (16, 16)))
    # The box lies around the sampled pixels of the mask, and a pixel now stands for 2.5 of before in each direction.
    (box,) = json.loads(table["boxes"][0])
    inside = np.argwhere(masks[0])
    assert box == [inside[:, 1].min(), inside[:, 0].min(), inside[:, 1].max() + 1, inside[:, 0].max() + 1]
    assert (table["spacing_row_mm"][0], table["spacing_column_mm"][0]) == pytest.approx((1.25, 0.625))
    # Another image, and another sampling, have other places; each is the same whenever it is read.
    assert not np.array_equal(images[0], images[1])
    second = SampledImages(original, table["image"], 1, 16)
    assert not np.array_equal(second[0], images[0])
    np.testing.assert_array_equal(SampledImages(original, table["image"], 0, 16)[[1, 0]], images[[1, 0]])


def test_a_set_without_sampling_keeps_no_originals(run, record, tmp_path):
    run([record("a", gradient())])
    assert np.load(tmp_path / FILES["originals"]).size == 0


def test_networks_cannot_see_more_than_there_is():
    with pytest.raises(ValueError, match=r"sampling.size: found 64, expected at most the prepared size, 32"):
        Dataset(format="object_cxr", size=32, sampling={"size": 64})
    with pytest.raises(ValueError, match=r"found grad_cam, expected methods with a value for each pixel"):
        Dataset(format="object_cxr", sampling={"size": 64, "methods": ["grad_cam"]})
    with pytest.raises(ValueError, match=r"found expected_gradients, which wants reference images"):
        Dataset(format="object_cxr", sampling={"size": 64, "methods": ["expected_gradients"]})
    networks = [{"architecture": "efficientnet_b0"}]
    with pytest.raises(ValueError, match=r"guided_backprop changes ReLUs, and efficientnet_b0 has none"):
        Dataset(format="object_cxr", networks=networks, sampling={"size": 64, "methods": ["guided_backprop"]})
