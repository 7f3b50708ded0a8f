"""Simulated head MRI with a local defect: how severe is it, and where? Image quality on another modality.

The files are those of `format: folder` with a target: images.csv, 16-bit PNG, and a mask of each defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from xiqa.config import Twin
from xiqa.datasets.degradations import DEGRADATIONS, soft_disc
from xiqa.datasets.twins import brain_tumor
from xiqa.datasets.twins.writing import plan, twin_row, write_twin_table
from xiqa.files import atomic_path, write_table
from xiqa.seeds import stream_seed

SIDE = 96
"""Rows and columns: no resizing then smooths what the defect changed."""

STRENGTHS = {"local_blur": 3.0, "local_rician": 0.2, "local_motion": 6.0}
"""Defect -> its strength at severity 1: standard deviation in pixels, in units of the image, displacement in pixels."""

RADIUS = (0.14, 0.24)
"""Range of the radius of a defect over the image's side; its edge is half as wide again."""

WHITE = 1.4
"""Signal of the brightest tissue that is not clipped; white matter is about 0.5."""


@dataclass(frozen=True)
class DegradedSlice:
    """A slice with its defect.

    Attributes:
        image: (h, w) within 0-1.
        intact: (h, w) the same slice without the defect, noise included.
        mask: (h, w) bool, where the defect acts with half of its strength or more; empty at severity 0.
        change: (h, w) by how much the defect changed each pixel.
    """

    image: np.ndarray
    intact: np.ndarray
    mask: np.ndarray
    change: np.ndarray


def render(patient_seed: int, image_seed: int, defect: str, severity: float, side: int = SIDE) -> DegradedSlice:
    """One slice of one patient, with one local defect.

    Head, noise, place and size of the defect follow from the seeds alone: with another severity they stay.

    Args:
        patient_seed: seed of the anatomy.
        image_seed: seed of the slice, of its noise and of the defect.
        defect: key of `STRENGTHS`.
        severity: 0 (nothing) to 1.
        side: rows and columns.
    """
    made = brain_tumor.render(patient_seed, image_seed, 0, 0.0, side)
    intact = np.clip(made.image / (WHITE * float(made.facts["gain"])), 0, 1)
    draw = np.random.default_rng(stream_seed(image_seed, "defect"))
    # In the head: a defect of the air around it would be none.
    rows, columns = np.nonzero(made.tissue > 0.25)
    place = draw.integers(len(rows))
    radius = draw.uniform(*RADIUS) * side
    region = soft_disc((side, side), columns[place], rows[place], radius, radius / 2)
    noise = np.random.default_rng(stream_seed(image_seed, "degradation"))
    image, change = DEGRADATIONS[defect](intact, severity * STRENGTHS[defect], noise, region=region)
    return DegradedSlice(np.clip(image, 0, 1), intact, (region > 0.5) & (severity > 0), change)


def write(folder: Path, twin: Twin, seed: int, progress: Callable[[int, int, str], None]) -> None:
    """Write the twin: images.csv with `target_severity`, images and masks, then `twin.csv`.

    A quarter of the images is intact (severity 0), the others have severities drawn evenly from 0 to 1. Brightness
    varies from image to image, so that it says nothing of the defect.

    Args:
        folder: where the files go.
        twin: how many patients and images; there is no part of rising severity, since all severities occur.
        seed: the study's seed.
        progress: called with images done, images in all, and the patient.
    """
    twin = twin.model_copy(update={"patients_per_severity": 0})
    planned = plan("mri_quality", twin, seed, ("none", *STRENGTHS), label_per="image", negative="none")
    rows, listed = [], []
    for number, image in enumerate(planned, 1):
        draw = np.random.default_rng(stream_seed(image.image_seed, "severity"))
        severity, brightness = draw.uniform(0.02, 1), draw.uniform(0.6, 1.0)
        severity = severity if image.has_defect else 0.0
        defect = image.label_name if image.has_defect else next(iter(STRENGTHS))
        made = render(image.patient_seed, image.image_seed, defect, severity)
        name, mask = f"images/{image.image}.png", f"masks/{image.image}.png"
        _write_png(folder / name, np.rint(brightness * made.image * 65535).astype(np.uint16))
        _write_png(folder / mask, made.mask.astype(np.uint8) * 255)
        listed.append({"image": name, "patient": image.patient, "target_severity": round(severity, 6), "mask": mask})
        # The reader names an image after its row, of which the heading is the first.
        facts = {"defect": image.label_name, "brightness": brightness, "changed": float(made.change.mean())}
        rows.append(twin_row(image, image=f"row-{number + 1:06d}", **facts) | {"severity": severity})
        progress(number, len(planned), image.patient)
    write_table(folder / "images.csv", pd.DataFrame(listed))
    write_twin_table(folder, rows)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")
