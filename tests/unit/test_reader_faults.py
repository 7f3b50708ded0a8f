"""Whatever a reader raises is a fault of the file that it read: named, and skipped where faults are skipped."""

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import RLELossless
from test_dicom_image import write_slice

from xiqa.config import Dataset
from xiqa.datasets import folder
from xiqa.datasets.base import DataError, faults_named
from xiqa.datasets.paths import inside
from xiqa.datasets.prepare import FILES, prepare

GREY = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)


class PanicException(BaseException):
    """As pyo3 raises it where a decoder written in Rust panics: no Exception."""


def rgb_nifti(path):
    colour = np.zeros((16, 16), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["R"] = GREY
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), path)


def damaged_rle(path):
    """Its table of segments points far behind its end: pydicom raises, pylibjpeg-rle panics."""
    data = pydicom.dcmread(write_slice(path, GREY.astype(np.uint16)))
    data.compress(RLELossless)
    content = bytearray(data.PixelData)
    content[24:28] = b"\xff\xff\xff\x00"
    data.PixelData = bytes(content)
    data.save_as(path)


def npy_of_a_huge_header(path):
    path.write_bytes(b"\x93NUMPY\x01\x00\xff\xff{'descr': '<f8'")


BAD = {"rgb.nii": rgb_nifti, "rle.dcm": damaged_rle, "huge.npy": npy_of_a_huge_header}
NAMES = {"NUL": "a\0b.png", "too long": "a" * 5000 + ".png", "a circle of links": "circle.png"}


def study(tmp_path, bad, on_fault):
    """Prepare two good images and a bad one."""
    rows = [("good1.png", "a", "1"), (bad, "a", "2"), ("good2.png", "b", "3")]
    for name in ("good1.png", "good2.png"):
        Image.fromarray(GREY if "1" in name else GREY.T).save(tmp_path / name)
    pd.DataFrame(rows, columns=["image", "label", "patient"]).to_csv(tmp_path / "images.csv", index=False)
    dataset = Dataset(
        format="folder", path=str(tmp_path), size=16, networks=(), on_fault=on_fault, intensity="percentiles"
    )
    paths = {name: tmp_path / "out" / file for name, file in FILES.items()}
    prepare(folder.read(tmp_path, dataset), dataset, facts=None, key=b"", paths=paths, progress=lambda *_: None)
    return pd.read_parquet(paths["table"])["image"].tolist(), pd.read_csv(paths["skipped"])


@pytest.mark.parametrize("bad", BAD)
def test_on_fault_skip_passes_over_every_kind_of_failure(tmp_path, bad):
    BAD[bad](tmp_path / bad)
    images, skipped = study(tmp_path, bad, "skip")
    assert images == ["row-000002", "row-000004"]
    assert len(skipped) == 1
    with pytest.raises(DataError, match=bad.replace(".", r"\.")):
        study(tmp_path, bad, "stop")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_no_file_can_have_is_a_fault_of_its_row(tmp_path, name):
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    images, skipped = study(tmp_path, name, "skip")
    assert images == ["row-000002", "row-000004"]
    assert len(skipped) == 1
    with pytest.raises(DataError, match=r"images\.csv: .*(no file can be called|is no file)"):
        inside(tmp_path, name, tmp_path / "images.csv")


@pytest.mark.parametrize("error", [PanicException("index out of range"), TypeError("x"), RecursionError(), OSError(5)])
def test_any_failure_of_a_library_becomes_a_fault_of_the_file(error):
    with (
        pytest.raises(DataError, match=rf"^scan\.dcm: cannot be read \({type(error).__name__}"),
        faults_named("scan.dcm"),
    ):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, ModuleNotFoundError, GeneratorExit])
def test_what_is_no_fault_of_the_file_passes(error):
    with pytest.raises(error), faults_named("scan.dcm"):
        raise error


def test_a_header_is_not_quoted_where_it_may_name_a_patient():
    with pytest.raises(DataError) as caught, faults_named("scan.dcm", quote=False):
        raise ValueError("Roe^Jane is no date")
    assert "Roe" not in str(caught.value)
    assert caught.value.__cause__ is None
