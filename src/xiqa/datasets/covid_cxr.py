"""Reader of COVID-19 chest X-rays: the Radiography Database's folders, and the ieee8023 collection's metadata.csv."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from xiqa.config import Dataset
from xiqa.datasets.base import DEFECT, DataError, Loaded, Record, Records, same_size
from xiqa.datasets.folder import MISSING, Rows, read_rows, records
from xiqa.datasets.images import load_image, read_mask
from xiqa.datasets.limits import with_rules
from xiqa.datasets.paths import files_below, if_there, inside

FOLDERS = {
    "Normal": "Normal",
    "Lung_Opacity": "Lung Opacity",
    "Viral Pneumonia": "Viral Pneumonia",
    "COVID": "COVID-19",
}
OTHER = "other"
CLASSES = (OTHER, "COVID-19")
FRONTAL = ("pa", "ap", "ap supine", "ap erect")
UNDECIDED = (*MISSING, "todo", "unknown")
LUNGS = "lungs"
MASKS = Path("annotations", "lungVAE-masks")
OPACITIES = "opacities"


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List the images of either form of the data, which may also lie one folder deeper, as unpacked.

    - COVID-19 Radiography Database: `COVID/images/*.png` with `COVID/masks/*.png`, and so for Normal, Lung_Opacity and
      Viral Pneumonia. Classes are the folders that are there. No patient ids: each image is a group of its own
      ("proxy"). Masks of 256 pixels on images of 299, as the set is distributed, are resized by nearest neighbour.
      They show the lungs. Where somebody has drawn what the classes differ by, in `COVID/opacities/*.png` and so for
      the other folders (all black: nothing there), these masks are read instead; an image without one has no mask.
    - ieee8023 collection: `metadata.csv` with `images/` and, if there, `annotations/lungVAE-masks/NAME_mask.png`.
      Classes are "other" and "COVID-19". Only frontal X-rays (PA, AP, AP Supine, AP Erect) are part of the study: CT
      and lateral views are left out; if a `subset.csv` is there, only the files that it names are part. A file that is
      listed twice gives two records, since its rows may name two patients: equal pixels are found when preparing.

    `dataset.classes` names other classes: findings, and "other" for all that is not named. Without "other" the rest is
    no part of the study. A mask that is not there is None; `mask_of` tells lungs from opacities.

    Args:
        folder: the data folder.
        dataset: `classes`, see above.

    Raises:
        DataError: neither form is there, columns are missing, or a class names no finding of the set.

    Reference: Chowdhury et al., IEEE Access 8 (2020) 132665; Cohen et al. 2020, arXiv 2003.11597.
    """
    for root in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        if (root / "metadata.csv").is_file():
            yield from _collection(root, dataset.classes or CLASSES)
            return
        there = [name for name in FOLDERS if (root / name / "images").is_dir()]
        if there:
            yield from _radiography(root, there, dataset.classes or tuple(FOLDERS[name] for name in there))
            return
    raise DataError(folder, "holds neither metadata.csv nor COVID/images; set `path` to the folder of one of them")


def _radiography(root: Path, names: list[str], classes: tuple[str, ...]) -> Records:
    _check_classes(root, classes, (FOLDERS[name] for name in names))
    drawn = any((root / name / OPACITIES).is_dir() for name in names)
    for name in names:
        label = _label(root / name, "", FOLDERS[name], classes)
        if label is None:
            continue
        paths = list(files_below(root / name / "images", ".png"))
        if not paths:
            raise DataError(root / name / "images", "holds no .png, expected the images of this class; unpack it again")
        for path in paths:
            try:
                if isinstance(path, DataError):
                    raise path
                mask_path = if_there(root / name / (OPACITIES if drawn else "masks") / path.name, path)
            except DataError as fault:
                yield fault
                continue
            image = re.sub(r"[^\w.-]", "_", f"{name}-{path.stem.removeprefix(f'{name}-')}")
            yield Record(
                image=image,
                patient=image,
                label=label,
                label_name=classes[label],
                files=(path,) if mask_path is None else (path, mask_path),
                load=partial(_load, path, mask_path, {}),
                grouping="proxy",
                mask_of=DEFECT if drawn else LUNGS,
                extra={"finding": FOLDERS[name]},
            )


def _collection(root: Path, classes: tuple[str, ...]) -> Records:
    table = root / "metadata.csv"
    rows = read_rows(table, ("patientid", "finding", "view", "filename"))
    subset = root / "subset.csv"
    named = None
    if subset.is_file():
        named = {row["filename"] for row in _good(read_rows(subset, ("filename",)))}
        unknown = named - {row["filename"] for row in _good(rows)}
        if unknown:
            raise DataError(subset, f"names {', '.join(sorted(unknown))}, which metadata.csv does not list")
    _check_classes(table, classes, (row["finding"] for row in _good(rows)))
    listings: Counter[str] = Counter()

    def record(number: int, row: dict[str, str]) -> Record | None:
        name = row["filename"]
        frontal_xray = row["view"].casefold() in FRONTAL and (row.get("modality") or "x-ray").casefold() == "x-ray"
        if not frontal_xray or (named is not None and name not in named):
            return None
        label = _label(table, f"row {number}: ", row["finding"], classes)
        if label is None:
            return None
        if row["patientid"].casefold() in UNDECIDED:
            raise DataError(table, f"row {number}: column patientid is empty for '{name}', expected an id; give one")
        path = inside(root, f"{row.get('folder') or 'images'}/{name}", table)
        mask_path = if_there(root / MASKS / f"{path.stem}_mask.png", table)
        image = re.sub(r"[^\w.-]", "_", path.stem)
        listings[image] += 1
        if listings[image] > 1:
            image += f"_listed{listings[image]}"
        return Record(
            image=image,
            patient=row["patientid"],
            label=label,
            label_name=classes[label],
            files=(path,) if mask_path is None else (path, mask_path),
            load=partial(_load, path, mask_path, {"view": row["view"]}),
            mask_of=LUNGS,
            extra={"finding": row["finding"], "view": row["view"]},
        )

    yield from records(rows, record)


def _good(rows: Rows) -> list[dict[str, str]]:
    return [row for _, row in rows if not isinstance(row, DataError)]


def _load(path: Path, mask_path: Path | None, header: dict[str, str]) -> Loaded:
    loaded = load_image(path)
    mask = None
    if mask_path is not None:
        mask = read_mask(mask_path, None)
        if mask.shape == (256, 256) and loaded.pixels.shape == (299, 299):
            nearest = ((np.arange(299) + 0.5) * 256 / 299).astype(int)
            mask = mask[np.ix_(nearest, nearest)]
        same_size(mask_path, mask, loaded.pixels)
    return replace(loaded, mask=mask, header={**loaded.header, "has_mask": float(mask is not None), **header})


def _findings(text: str) -> set[str]:
    """The single findings of a cell such as "COVID-19, ARDS" or "Pneumonia/Viral/COVID-19", in one spelling."""
    findings = {part.strip().replace("_", " ").casefold() for part in re.split("[,/]", text)}
    return {"covid-19" if finding == "covid" else finding for finding in findings}


def _label(source: Path, where: str, finding: str, classes: tuple[str, ...]) -> int | None:
    """Index of the class of a finding; None if it belongs to no class."""
    findings = _findings(finding)
    if findings & set(UNDECIDED):
        raise DataError(
            source, f"{where}found finding '{finding}', expected a diagnosis; take the row out or skip faults"
        )
    hits = [number for number, name in enumerate(classes) if _findings(name) <= findings]
    if len(hits) > 1:
        raise DataError(
            source, f"{where}finding '{finding}' belongs to {len(hits)} classes, expected one; change `classes`"
        )
    return hits[0] if hits else classes.index(OTHER) if OTHER in classes else None


def _check_classes(source: Path, classes: tuple[str, ...], findings: Iterable[str]) -> None:
    """Refuse a class that no image has: a slip in its name would leave its images out."""
    found = sorted(set(findings))
    for name in classes:
        if name != OTHER and not any(_findings(name) <= _findings(finding) for finding in found):
            raise DataError(source, f"has no finding '{name}' as named in `classes`; it has: {'; '.join(found)}")
