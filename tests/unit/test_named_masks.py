"""Masks with names of their own: read from a user's table, kept beside the ground truth, and a map's share on each."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xiqa.config import Dataset
from xiqa.datasets.base import DataError
from xiqa.datasets.folder import read
from xiqa.datasets.prepare import FILES, prepare
from xiqa.files import write_array, write_table
from xiqa.tracking import refuse_patient_data

SIDE = 40


def save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images: one with defect and lungs, one with text alone."""
    rng = np.random.default_rng(0)
    left, right, corner = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(3))
    left[:, :10], right[:, 20:], corner[:8, :8] = 255, 255, 255
    for name, pixels in {"a": rng.integers(0, 255, (SIDE, SIDE)), "b": rng.integers(0, 255, (SIDE, SIDE)),
                         "defect": left, "lungs": right, "text": corner}.items():  # fmt: skip
        save(tmp_path / f"{name}.png", pixels)
    (tmp_path / "images.csv").write_text(
        "image,label,patient,mask,mask_lungs,mask_text\na.png,bad,p,defect.png,lungs.png,\nb.png,good,q,,,text.png\n"
    )
    return tmp_path


def prepared(folder: Path, out: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    paths = {name: str(out / file) for name, file in FILES.items()}
    dataset = Dataset(format="folder", path=str(folder), size=32)
    records = read(folder, dataset)
    return prepare(records, dataset, facts=None, key=b"0", paths=paths, progress=lambda *_: None), paths


def test_named_masks_are_kept_by_their_names(folder, tmp_path):
    table, paths = prepared(folder, tmp_path)
    assert json.loads(table["structures"].iloc[0]) == ["lungs", "text"]
    masks = np.unpackbits(np.load(paths["structures"]), axis=-1, count=32).astype(bool)
    assert masks.shape == (2, 2, 32, 32)
    assert masks[0, 0].mean() == pytest.approx(0.5)
    assert masks[0, 0, :, 16:].all()
    assert not masks[0, 1].any()
    assert not masks[1, 0].any()
    assert masks[1, 1].mean() == pytest.approx((8 / 40) ** 2, abs=0.01)


def test_a_named_mask_of_another_size_is_a_fault(folder, tmp_path):
    save(folder / "lungs.png", np.full((20, 20), 255))
    with pytest.raises(DataError, match="mask"):
        prepared(folder, tmp_path)


def test_the_share_of_a_map_on_each_structure_stands_beside_its_area(folder, tmp_path, root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "workflow/scripts/score"))
    from share_structures import share

    _, paths = prepared(folder, tmp_path)
    maps = np.zeros((2, 32, 32), np.float32)
    maps[0, :, :8], maps[0, :, 16:24], maps[1, :8, :8] = 3.0, -1.0, 1.0
    write_array(tmp_path / "maps.npy", maps)
    chosen = pd.DataFrame({"row": [0, 1], "image": ["x", "y"], "part": "test", "costly": True})
    write_table(tmp_path / "chosen.parquet", chosen)
    told = {"group": "seed 0", "method": "gradient", "path": str(tmp_path / "maps.npy"), "images": "part == 'test'"}
    rows, summary = str(tmp_path / "rows.csv"), str(tmp_path / "summary.csv")
    share(paths | {"chosen": str(tmp_path / "chosen.parquet")}, [told], rows, summary)
    for table in (rows, summary):
        refuse_patient_data(Path(table))
    found = pd.read_csv(rows).set_index("structure")
    assert found.loc["defect", "share_abs"] == pytest.approx(0.75)
    assert found.loc["lungs", "share_abs"] == pytest.approx(0.25)
    assert found.loc["lungs", "share_signed"] == pytest.approx(-0.25)
    assert found.loc["lungs", "share_area"] == pytest.approx(0.5)
    assert found.loc["text", "image"] == "row-000003"
    assert pd.read_csv(summary).set_index("structure")["n"].to_dict() == {"defect": 1, "lungs": 1, "text": 1}
