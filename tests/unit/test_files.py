"""Files appear whole or not at all; digests see code and nothing else; seeds depend on names only."""

import errno
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from xiqa import files, provenance
from xiqa.datasets import sampling
from xiqa.seeds import stream_seed


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    files.write_text(path, "old")

    def fail():
        with files.atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_tables_come_back(tmp_path, name):
    table = pd.DataFrame({"image": ["a", "b"], "value": [0.1, 2.0]})
    files.write_table(tmp_path / name, table)
    pd.testing.assert_frame_equal(files.read_table(tmp_path / name), table, check_dtype=False)


@pytest.mark.parametrize("largest", [0, 18, 255, 256, 65535])
def test_labels_come_back(tmp_path, largest):
    labels = np.array([[0, largest, 1], [2, 3, largest]], np.int32).clip(max=largest)
    files.write_labels(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(files.read_labels(tmp_path / "labels.png"), labels)


@pytest.mark.parametrize("value", [-1, 65536])
def test_labels_that_a_picture_cannot_hold_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"labels.png: found values from .* expected 0 to 65535"):
        files.write_labels(tmp_path / "labels.png", np.array([[0, value]]))


@pytest.mark.parametrize("size", [1, 7, 8, 21])
def test_masks_are_taken_from_their_bits_as_from_an_array(tmp_path, size):
    masks = np.random.default_rng(size).random((5, size, size)) < 0.3
    files.write_array(tmp_path / "masks.npy", np.packbits(masks, axis=-1))
    packed = files.PackedMasks(tmp_path / "masks.npy")
    assert (len(packed), packed.shape) == (5, masks.shape)
    for items in (3, slice(None), slice(1, 3), [4, 0, 0], np.array([True, False, True, False, False])):
        np.testing.assert_array_equal(packed[items], masks[items])


def test_unknown_table_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected \.csv or \.parquet"):
        files.write_table(tmp_path / "t.xls", pd.DataFrame())
    assert not list(tmp_path.iterdir())


def test_comments_and_docstrings_do_not_change_the_digest_but_code_does(tmp_path):
    script = tmp_path / "script.py"

    def digest(text):
        script.write_text(text)
        provenance._read.cache_clear()
        return provenance.code_digest(script)

    plain = digest('"""One."""\nx = f(1, 2)\n')
    assert digest('"""Other words."""\n# a comment\nx = f(1,\n      2)\n') == plain
    assert digest('"""One."""\nx = f(2, 1)\n') != plain
    assert digest('"""One."""\nfrom xiqa import files\nx = f(1, 2)\n') != plain


BLOCKS = {
    "function": "def f():\n    {}",
    "method": "class A:\n    'Words.'\n    async def f(self):\n        'Words.'\n        {}",
    "condition": "if a:\n    pass\nelif b:\n    {}",
    "loop": "for a in b:\n    pass\nelse:\n    while a:\n        {}",
    "handler": "try:\n    pass\nexcept* OSError:\n    {}",
    "end": "try:\n    pass\nexcept OSError:\n    pass\nelse:\n    pass\nfinally:\n    {}",
    "match": "match a:\n    case 1:\n        with b:\n            {}",
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("line", ["import xiqa.seeds", "from xiqa import seeds", "from xiqa.seeds import stream_seed"])
def test_imports_are_found_wherever_they_stand(tmp_path, block, line):
    script = tmp_path / "script.py"
    script.write_text(block.format(line))
    assert provenance.code_digest(script) == provenance.code_digest(script, ["xiqa.seeds"])
    script.write_text(block.format("pass"))
    provenance._read.cache_clear()
    assert provenance.code_digest(script) != provenance.code_digest(script, ["xiqa.seeds"])


def test_digest_counts_named_modules_and_files(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("x = 1\n")
    extra = tmp_path / "environment.yaml"
    extra.write_text("a")
    digests = {
        provenance.code_digest(script),
        provenance.code_digest(script, ["xiqa.seeds"]),
        provenance.code_digest(script, files=[extra]),
    }
    assert len(digests) == 3


def test_stream_seeds_differ_by_name_and_repeat():
    assert stream_seed(0, "image", "a") == stream_seed(0, "image", "a")
    seeds = {stream_seed(s, "image", n) for s in range(3) for n in ("a", "b")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_sampling_keeps_order_and_scatter_is_its_inverse():
    rng = np.random.default_rng(0)
    image = np.arange(30 * 20).reshape(30, 20)
    rows, columns = sampling.draw_indices(image.shape, 10, rng)
    assert (np.diff(rows) > 0).all()
    assert (np.diff(columns) > 0).all()
    values = sampling.sample(image, rows, columns)
    canvas = np.zeros_like(image)
    sampling.scatter_add(canvas, values, rows, columns)
    kept = np.zeros(image.shape, bool)
    kept[np.ix_(rows, columns)] = True
    np.testing.assert_array_equal(canvas, np.where(kept, image, 0))


def test_every_row_is_drawn_equally_often():
    rng = np.random.default_rng(1)
    counts = np.zeros(40)
    for _ in range(2000):
        rows, _ = sampling.draw_indices((40, 40), 10, rng)
        counts[rows] += 1
    # Binomial(2000, 1/4): standard deviation 19.4, so five of them is a fair bound for 40 rows.
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_an_image_smaller_than_the_sample_is_refused():
    with pytest.raises(ValueError, match=r"lower sampling\.size"):
        sampling.draw_indices((20, 300), 250, np.random.default_rng(0))


@pytest.fixture
def full_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


MILLIONS = np.zeros(750_000, np.float32)
WRITERS = {
    "array": lambda path: files.write_array(path.with_suffix(".npy"), MILLIONS),
    "tensors": lambda path: files.write_tensors(path.with_suffix(".safetensors"), {"a": torch.zeros(750_000)}),
    "text": lambda path: files.write_text(path.with_suffix(".txt"), "x" * 3_000_000),
    "csv": lambda path: files.write_table(path.with_suffix(".csv"), pd.DataFrame({"a": MILLIONS})),
    "parquet": lambda path: files.write_table(
        path.with_suffix(".parquet"), pd.DataFrame({"a": np.random.default_rng(0).random(750_000)})
    ),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_named_with_what_is_needed_and_free(full_disk, writer):
    """It said "3054636 requested and 130944 written", or the like in the words of each library."""
    with pytest.raises(
        OSError, match=r"the disk is full: result\.\w+ needs (3\.0 MB|more), and 1\.0 MB were free in"
    ) as told:
        writer(full_disk / "result")
    assert str(full_disk) in str(told.value)
    assert told.value.errno == errno.ENOSPC
    assert list(full_disk.iterdir()) == []


def test_arrays_say_how_much_they_need(tmp_path, monkeypatch):
    def cut_short(*_, **__):
        raise OSError("750000 requested and 130944 written")

    monkeypatch.setattr(np, "save", cut_short)
    with pytest.raises(OSError, match=r"the disk is full: map\.npy needs 3\.0 MB, and [\d.]+ MB were free in"):
        files.write_array(tmp_path / "new" / "map.npy", MILLIONS)


def test_other_failures_keep_their_words(tmp_path):
    with pytest.raises(PermissionError, match="another cause"), files.atomic_path(tmp_path / "a.txt"):
        raise PermissionError(13, "another cause")
