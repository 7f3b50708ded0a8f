"""What all twins share: the plan of patients, labels and severities, the loop that writes, and `twin.csv`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from xiqa.config import Twin
from xiqa.files import write_table
from xiqa.seeds import stream_seed

TABLE = "twin.csv"
"""Written last of all: its presence marks a folder as simulated, and as complete."""

MAIN_SEVERITY = (0.7, 1.3)
"""Range from which the severity of a defect in the main part is drawn."""

Progress = Callable[[int, int, str], None]
"""Called with images done, images in all, and what is being done."""


@dataclass(frozen=True)
class Planned:
    """One image that is to be made.

    Attributes:
        image: its name, unique; a twin may replace it where the real format names files in another way.
        patient: its patient; all images of one patient share `patient_seed`.
        number: 0, 1, ... within the patient.
        part: "main" or "severity".
        severity: strength of the defect; NaN without one in the main part. In the severity part negatives carry the
            level too, so that each level is a balanced group.
        label: class index.
        label_name: class name.
        has_defect: False for images of the negative class, whatever level they carry.
        patient_seed: seed of the anatomy.
        image_seed: seed of all else in this image.
    """

    image: str
    patient: str
    number: int
    part: Literal["main", "severity"]
    severity: float
    label: int
    label_name: str
    has_defect: bool
    patient_seed: int
    image_seed: int


Redraw = Callable[[list[Planned]], list[Planned]]
"""Changes a plan, as `datasets.designed` does."""


def unchanged(planned: list[Planned]) -> list[Planned]:
    """The plan as it is."""
    return planned


def plan(
    name: str,
    twin: Twin,
    seed: int,
    classes: Sequence[str],
    *,
    label_per: Literal["patient", "image"],
    negative: str | None = None,
) -> list[Planned]:
    """Lay out all images of a twin, patient by patient, the main part first.

    Labels are dealt in blocks of one shuffled copy of all classes: counts differ by one at most within the main part
    and within each level. An image depends on its own patient and number alone: with more patients, or other
    levels, those that were there before stay the same.

    Args:
        name: name of the twin; twins of one seed differ by it.
        twin: how many patients, images and levels; a patient of the severity part has two images at most.
        seed: the study's seed.
        classes: class names in the order of their labels.
        label_per: "patient": one label and one severity for all images of a patient; "image": each its own.
        negative: the class without a defect; None where each class has one.

    Raises:
        ValueError: `negative` is not among the classes.
    """
    if negative is not None and negative not in classes:
        raise ValueError(f"negative: found '{negative}', expected one of {', '.join(classes)}")
    groups: list[tuple[Literal["main", "severity"], str, float | None, int, int]]
    groups = [("main", "main", None, twin.patients, twin.images_per_patient)]
    for level in twin.severities:
        images = min(2, twin.images_per_patient)
        groups.append(("severity", f"level{level:g}", level, twin.patients_per_severity, images))
    planned = []
    for part, group, level, patients, images in groups:
        for index in range(patients):
            patient = f"{group}-{index:04d}"
            patient_seed = stream_seed(seed, name, patient)
            for number in range(images):
                image_seed = stream_seed(seed, name, patient, number)
                per_patient = label_per == "patient"
                block, place = divmod(index if per_patient else index * images + number, len(classes))
                dealt = np.random.default_rng(stream_seed(seed, name, group, "labels", block))
                label = int(dealt.permutation(len(classes))[place])
                drawn = np.random.default_rng(
                    stream_seed(seed, name, "severity", patient, 0 if per_patient else number)
                )
                severity = drawn.uniform(*MAIN_SEVERITY) if level is None else level
                if level is None and classes[label] == negative:
                    severity = np.nan
                planned.append(
                    Planned(
                        image=f"{patient}-{number}",
                        patient=patient,
                        number=number,
                        part=part,
                        severity=float(severity),
                        label=label,
                        label_name=classes[label],
                        has_defect=classes[label] != negative,
                        patient_seed=patient_seed,
                        image_seed=image_seed,
                    )
                )
    return planned


def by_patient(planned: Iterable[Planned]) -> list[list[Planned]]:
    """The plan as one list per patient, for formats that keep a patient's images in one file."""
    return [list(images) for _, images in groupby(planned, key=lambda image: image.patient)]


def start(folder: Path) -> None:
    """Make an empty folder for a twin; what an older or a killed run of a twin left there is removed.

    Raises:
        ValueError: the folder holds files that no twin has written.
    """
    mark = folder / ".twin"
    if folder.exists() and any(folder.iterdir()):
        if not (mark.exists() or (folder / TABLE).exists()):
            raise ValueError(f"{folder}: found files that are no twin's, expected an empty folder; move them away")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()


def twin_row(image: Planned, /, **facts: Any) -> dict[str, Any]:
    """The row of `twin.csv` of one image.

    Args:
        image: what was planned.
        facts: what the generator drew and must not decide the label, as plain columns (gain, marker, ...); `image`
            among them replaces the planned name.
    """
    own = ("image", "patient", "part", "severity", "label", "label_name", "has_defect", "patient_seed", "image_seed")
    return {name: getattr(image, name) for name in own} | facts


def write_twin_table(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `twin.csv`, one row per image; call it when all other files are there.

    Args:
        folder: the twin's folder.
        rows: from `twin_row`, all with the same columns.

    Raises:
        ValueError: two rows name one image, or rows differ in their columns.
    """
    table = pd.DataFrame(rows)
    if table["image"].duplicated().any():
        twice = table.loc[table["image"].duplicated(), "image"].iloc[0]
        raise ValueError(f"{folder / TABLE}: found image '{twice}' twice, expected one row per image")
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"{folder / TABLE}: found rows with different columns, expected the same facts for each image")
    write_table(folder / TABLE, table)
