"""The 8-bit JPG copy of the brain tumours of Cheng: `labels.csv`, images, and masks drawn from the same contours.

It has no patient ids. `index_block`, 60 neighbouring file numbers, stands in: slices of one patient are neighbours, so
blocks next to each other can share a patient (split.gap leaves them out of training).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Record, Records
from xiqa.datasets.brain_tumor import CLASSES
from xiqa.datasets.folder import read_rows, records
from xiqa.datasets.images import load_image, read_mask
from xiqa.datasets.limits import with_rules
from xiqa.datasets.paths import inside


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List all slices by their file number, so that neighbouring blocks are neighbours in the table too.

    Raises:
        DataError: labels.csv is missing or lacks a column.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        raise DataError(table, "is missing; set `path` to the folder that has it")
    rows = read_rows(table, ("file_no", "image", "mask", "label", "label_name", "index_block"))
    listed = records(rows, partial(_record, folder, table, dataset.classes or CLASSES))
    yield from sorted(listed, key=lambda item: int(item.image) if isinstance(item, Record) else 0)


def _record(folder: Path, table: Path, names: tuple[str, ...], number: int, row: dict[str, str]) -> Record:
    if not (row["file_no"].isdecimal() and row["index_block"].isdecimal()):
        raise DataError(table, f"row {number}: found file_no or index_block that is no whole number")
    known = {str(label): name for label, name in enumerate(CLASSES, 1)}
    if known.get(row["label"]) != row["label_name"]:
        found = f"{row['label']} {row['label_name']}"
        raise DataError(table, f"row {number}: found label '{found}', expected one of {known}")
    label = int(row["label"]) - 1
    image, mask = (inside(folder, row[name], table) for name in ("image", "mask"))
    return Record(
        image=str(int(row["file_no"])),
        patient=row["index_block"],
        label=label,
        label_name=names[label],
        files=(image, mask),
        load=partial(_load, image, mask),
        grouping="proxy",
        extra={"block": int(row["index_block"])},
    )


def _load(image: Path, mask: Path) -> Loaded:
    loaded = load_image(image)
    return replace(loaded, mask=read_mask(mask, loaded))
