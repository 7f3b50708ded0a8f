"""Twin of the COVID-19 Radiography Database: simulated chest X-rays with and without opacities, in its own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from xiqa.config import Twin
from xiqa.datasets.covid_cxr import OPACITIES
from xiqa.datasets.twins import thorax, writing
from xiqa.seeds import stream_seed

NAME = "covid_cxr"
SIDE_PX = 299
CLASSES = ("Normal", "Lung_Opacity", "COVID")
"""The folders of the set, in the order in which its reader numbers them."""
OPTICAL_THICKNESS = {"Lung_Opacity": (0.5, 0.9), "COVID": (0.3, 0.5)}
"""∫ µ dt at severity 1 in the middle of an opacity, least and most: 5 to 8 cm of lung whose density rises by 0.3 g/ml
(ground glass), 3 to 6 cm without any air (consolidation, fluid)."""


@dataclass(frozen=True)
class Rendered:
    """One simulated image, arrays (SIDE_PX, SIDE_PX).

    Attributes:
        grey: float32 within 0-255, before rounding.
        defect: float32, ∫ µ dt of the opacities; in proportion to the severity.
        mask: bool, where `defect` is not 0.
        lungs: bool, the lung fields as the set's own masks show them, under opacities too.
        facts: what must not decide the label, for `twin.csv`.
    """

    grey: np.ndarray
    defect: np.ndarray
    mask: np.ndarray
    lungs: np.ndarray
    facts: dict[str, float | str]

    @property
    def pixels(self) -> np.ndarray:
        """What is written: uint8."""
        return np.rint(self.grey).astype(np.uint8)


def render(patient_seed: int, image_seed: int, disease: str, severity: float, *, noise: bool = True) -> Rendered:
    """One image; equal seeds with another disease or severity give the same patient, view and noise.

    Args:
        patient_seed: seed of the anatomy and of the places of opacities.
        image_seed: seed of view and noise.
        disease: one of CLASSES.
        severity: factor of the opacities' optical thickness; 0 leaves them out.
        noise: False leaves the quantum noise out.
    """
    patient = thorax.draw_patient(patient_seed)
    view = thorax.draw_view(stream_seed(image_seed, "view"), patient)
    bare = thorax.project(patient, view, SIDE_PX, stream_seed(image_seed, "texture"))
    height = patient.lung_height * view.inspiration

    harmless, scars = _scars(bare, patient, height, np.random.default_rng(stream_seed(patient_seed, "scars")))
    defect = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    if disease != "Normal" and severity:
        rng = np.random.default_rng(stream_seed(patient_seed, disease))
        optical_thickness = rng.uniform(*OPTICAL_THICKNESS[disease])
        mottle = thorax.power_law(SIDE_PX, stream_seed(patient_seed, disease, "mottle"), 1.8)
        drawn = _ground_glass if disease == "COVID" else _consolidation
        share = drawn(bare, patient, height, mottle, rng)
        share *= bare.aerated
        # What nobody can see is no part of the mask.
        share[share < 0.02] = 0
        defect = (share * (severity * optical_thickness)).astype(np.float32)
    return Rendered(
        grey=thorax.expose(bare, view, stream_seed(image_seed, "noise"), harmless + defect, noise),
        defect=defect,
        mask=defect > 0,
        lungs=bare.lungs,
        facts=view.facts() | {"scars": scars},
    )


def write(
    folder: Path, twin: Twin, seed: int, progress: writing.Progress, redraw: writing.Redraw = writing.unchanged
) -> None:
    """Write the twin: Normal, Lung_Opacity and COVID with images/, masks/ (lungs), opacities/, and last twin.csv.

    The label belongs to the patient. The real set has no masks of opacities; its reader takes them where they are.

    Args:
        folder: an empty folder.
        twin: numbers of patients and levels.
        seed: the study's seed.
        progress: told how many images are done.
        redraw: changes what is made of whom before it is made.
    """
    planned = redraw(writing.plan(NAME, twin, seed, CLASSES, label_per="patient", negative="Normal"))
    for disease in CLASSES:
        (folder / disease / "images").mkdir(parents=True)
        (folder / disease / "masks").mkdir()
        (folder / disease / OPACITIES).mkdir()
    rows = []
    for image in planned:
        disease = image.label_name
        rendered = render(image.patient_seed, image.image_seed, disease, 0 if disease == "Normal" else image.severity)
        identifier = f"{disease}-{image.image}"
        Image.fromarray(rendered.pixels).save(folder / disease / "images" / f"{identifier}.png", compress_level=1)
        Image.fromarray(rendered.lungs.astype(np.uint8) * 255).save(folder / disease / "masks" / f"{identifier}.png")
        Image.fromarray(rendered.mask).save(folder / disease / OPACITIES / f"{identifier}.png")
        rows.append(writing.twin_row(image, image=identifier, **rendered.facts))
        progress(len(rows), len(planned), "chest X-rays")
    writing.write_twin_table(folder, rows)


def _soft(level: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    level = np.clip(level, 0, 1)
    return level * level * (3 - 2 * level)


def _ground_glass(bare: thorax.Thorax, patient: thorax.Patient, height: float, mottle, rng) -> np.ndarray:
    """Patches without sharp edges in both lungs, most of them low and near the chest wall."""
    clear = np.ones((SIDE_PX, SIDE_PX), np.float32)
    for side in (-1, 1):
        for _ in range(rng.integers(2, 5)):
            middle_y = height * min(rng.triangular(0.3, 0.8, 1.05), 0.98)
            middle_x = side * patient.half_width * rng.uniform(0.62, 0.86) * (0.75 + 0.25 * middle_y / height)
            wide, tall = rng.uniform(20, 36), rng.uniform(24, 48)
            far = ((bare.x_mm - middle_x) / wide) ** 2 + ((bare.y_mm - middle_y) / tall) ** 2
            clear *= 1 - rng.uniform(0.7, 1) * _soft(1.15 - far + 0.3 * mottle)
    return (1 - clear) * np.clip(1 + 0.2 * mottle, 0.3, 1.5)


def _consolidation(bare: thorax.Thorax, patient: thorax.Patient, height: float, mottle, rng) -> np.ndarray:
    """One lung only: a lobe filled up to its fissure, or fluid that rises at the chest wall."""
    side, kind = rng.choice([-1, 1]), rng.choice(["upper lobe", "lower lobe", "fluid"])
    outward = side * bare.x_mm / patient.half_width
    tilt = rng.uniform(-0.25, 0.25) * (side * bare.x_mm - 0.5 * patient.half_width)
    if kind == "upper lobe":
        fissure = height * rng.uniform(0.38, 0.5) + tilt
        top = height * rng.uniform(0.0, 0.15)
        share = _soft((fissure - bare.y_mm) / 7) * _soft((bare.y_mm - top) / 45 + 0.3 * mottle + 0.3)
    elif kind == "lower lobe":
        top = height * rng.uniform(0.55, 0.68) + tilt
        share = _soft((bare.y_mm - top) / 30 + 0.35 * mottle) * _soft((1.05 - outward) / 0.3 + 0.2 * mottle)
    else:
        # A meniscus: higher at the side than in the middle.
        level = height * rng.uniform(0.65, 0.85) - 45 * np.clip(outward, 0, 1) ** 3
        share = _soft((bare.y_mm - level) / 16)
    return share * (outward > 0) * np.clip(1 + 0.1 * mottle, 0.5, 1.3)


def _scars(bare: thorax.Thorax, patient: thorax.Patient, height: float, rng) -> tuple[np.ndarray, int]:
    """∫ µ dt of thin bands and small nodules, which any class may have, and their number."""
    total, number = np.zeros((SIDE_PX, SIDE_PX), np.float32), int(rng.integers(0, 4))
    for _ in range(number):
        middle_x = rng.choice([-1, 1]) * patient.half_width * rng.uniform(0.4, 0.8)
        middle_y, angle = height * rng.uniform(0.3, 0.95), rng.uniform(-0.5, 0.5)
        along = (bare.x_mm - middle_x) * np.float32(np.cos(angle)) + (bare.y_mm - middle_y) * np.float32(np.sin(angle))
        across = (bare.y_mm - middle_y) * np.float32(np.cos(angle)) - (bare.x_mm - middle_x) * np.float32(np.sin(angle))
        long, thin = (rng.uniform(15, 32), rng.uniform(1, 2)) if rng.random() < 0.6 else (rng.uniform(2, 4),) * 2
        total += rng.uniform(0.08, 0.2) * np.exp(-((along / long) ** 2) - (across / thin) ** 2)
    return (total * bare.lungs).astype(np.float32), number
