"""The designed set of a twin: its patients rendered anew with factors that are drawn independently of each other.

In a twin's own images the strength of the defect goes with the label, so that nothing can be said of either alone. Here
label, severity, noise and blur of an image are independent: the slope of a network's output on one of them, within a
class, is that factor's effect. No network is trained on these images.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.config import Dataset
from xiqa.datasets.degradations import DEGRADATIONS
from xiqa.datasets.prepare import FILES, prepare
from xiqa.datasets.twins.writing import Planned
from xiqa.files import PackedMasks, read_array, read_table
from xiqa.registry import reader_module
from xiqa.seeds import stream_seed

SEVERITIES = (0.0, 1.3)
"""Range of the severity; that of the twin's own images ends there, too."""
LADDER = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Severities of the images of one ladder, in which nothing else changes."""
MOST_BLUR_PX = 1.5
_MRI = ("rician", 0.08, 1)
# Of both kinds of X-ray the noise is given over that of the full dose; a degradation takes its square, the variance.
NOISES: dict[str, tuple[str, float, int]] = {
    "brain_tumor": _MRI,
    "lvot": _MRI,
    "object_cxr": ("quantum_noise", 3.0, 2),
    "covid_cxr": ("quantum_noise", 3.0, 2),
    "ct_contrast": ("low_dose_ct", 3.0, 2),
}
"""Format -> degradation that adds noise as its scanner does, largest noise, and its power that is the strength."""
FACTORS = ("severity", "noise", "blur")
BOTTLENECK_CONCEPTS = {
    "noise and blur": ("noise", "blur"),
    "noise alone": ("noise",),
    "severity and class (control)": ("severity", "label_name"),
}
"""Concepts that determine which images are acceptable, some of these, and others that say nothing of it."""


def redrawn(
    planned: Sequence[Planned], parts: Mapping[int, str], images: Mapping[str, int], seed: int
) -> list[Planned]:
    """The plan of a designed set: patients of the main part with a label and a severity of their own.

    Labels are those of a patient where they are in the twin. Images are taken patient by patient, in random order, so
    that a smaller set is the beginning of a larger one; when all were taken they are rendered again, with new factors.

    Args:
        planned: the plan of the twin.
        parts: seed of a patient -> "train" or "test"; others are left out.
        images: images of "train", "test" and number of ladders ("ladder", of the test patients).
        seed: the study's seed.

    Returns:
        Images of train, of test, then the ladders, each level a patient of its own with the seeds of the same one.

    Raises:
        ValueError: a part has no patient.
    """
    classes = sorted({(image.label, image.label_name, image.has_defect) for image in planned})
    main = [image for image in planned if image.part == "main"]
    labels = pd.Series([image.label for image in main]).groupby([image.patient for image in main]).nunique()
    per_patient = bool((labels == 1).all() and len(labels) < len(main))
    patients = {
        part: sorted({i.patient for i in main if parts.get(i.patient_seed) == part}) for part in ("train", "test")
    }

    def made(image: Planned, copy: int) -> Planned:
        patient = f"{image.patient}-{copy}" if copy else image.patient
        of = patient if per_patient else f"{patient}-{image.number}"
        draw = np.random.default_rng(stream_seed(seed, "designed", of))
        label, name, defect = classes[draw.integers(len(classes))]
        severity = float(np.random.default_rng(stream_seed(seed, "designed severity", of)).uniform(*SEVERITIES))
        return replace(
            image, image=f"{patient}-{image.number}", patient=patient, label=label, label_name=name, has_defect=defect,
            severity=severity if defect else 0.0,
        )  # fmt: skip

    found: list[Planned] = []
    for part, names in patients.items():
        order = np.random.default_rng(stream_seed(seed, "designed order", part)).permutation(len(names))
        rank = {names[place]: number for number, place in enumerate(order)}
        once = sorted((i for i in main if i.patient in rank), key=lambda i: (rank[i.patient], i.number))
        if not once:
            raise ValueError(f"concepts: found no patient in the {part} part, expected some; change the split")
        copies = [made(image, copy) for copy in range(-(-images[part] // len(once))) for image in once]
        found += sorted(copies[: images[part]], key=lambda i: (i.patient, i.number))
    with_defect = [image for image in found if image.has_defect and parts[image.patient_seed] == "test"]
    of_patients = list({image.patient_seed: image for image in with_defect}.values())[: images.get("ladder", 0)]
    for image in of_patients:
        for step, level in enumerate(LADDER):
            name = f"{image.patient}-ladder{step}"
            found.append(replace(image, image=f"{name}-0", patient=name, number=0, severity=level, part="severity"))
    return found


def design(
    dataset: Dataset,
    table: pd.DataFrame,
    split: pd.DataFrame,
    images: Mapping[str, int],
    seed: int,
    progress: Callable[[int, int, str], None],
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Render, prepare and degrade a designed set, as the twin's own images are prepared.

    Args:
        dataset: a twin of a classification, one of `NOISES`.
        table: prepared table of the twin.
        split: part of each of its images.
        images: see `redrawn`.
        seed: the study's seed.
        progress: told how many images are rendered.

    Returns:
        Images (n, size, size) float32 within 0-1, masks (n, size, size) bool, and a row for each image: image,
        patient, label, label_name, part ("train", "test" or "ladder"), ladder (its number, else -1), severity, noise,
        blur, acceptable (noise and blur, each over its largest, add up to less than 1: half of the images), spacing.

    Raises:
        ValueError: real images, which can be degraded but not rendered; too few images in a part.
    """
    parts = dict(zip(table["patient_seed"].tolist(), split["part"].tolist(), strict=True))
    pixels, masks, made = _rendered(dataset, lambda planned: redrawn(planned, parts, images, seed), seed, progress)
    ladder = made["part"] == "severity"
    made["part"] = np.where(ladder, "ladder", made["patient_seed"].map(parts))
    # However often a patient was rendered, it is one, and that of the twin's own images.
    made["patient"] = made["patient_seed"].map(dict(zip(table["patient_seed"], table["patient"], strict=True)))
    made["ladder"] = np.where(ladder, pd.factorize(made["patient_seed"].where(ladder))[0], -1)
    draw = np.random.default_rng(stream_seed(seed, "designed degradations"))
    name, most, power = NOISES[dataset.format]
    made["noise"] = np.where(ladder, 0.0, draw.uniform(0, most, len(made)))
    made["blur"] = np.where(ladder, 0.0, draw.uniform(0, MOST_BLUR_PX, len(made)))
    for number, row in enumerate(made.itertuples()):
        if row.part != "ladder":
            own = np.random.default_rng(stream_seed(seed, "designed noise", row.image))
            blurred, _ = DEGRADATIONS["blur"](pixels[number], row.blur, own)
            noisy, _ = DEGRADATIONS[name](np.clip(blurred, 0, 1), row.noise**power, own)
            pixels[number] = np.clip(noisy, 0, 1)
    made["acceptable"] = made["noise"] / most + made["blur"] / MOST_BLUR_PX < 1
    columns = [
        "image",
        "patient",
        "label",
        "label_name",
        "part",
        "ladder",
        *FACTORS,
        "acceptable",
        "spacing_row_mm",
        "spacing_column_mm",
        "data",
    ]
    return pixels, masks, made[columns]


def exact_counterfactuals(
    dataset: Dataset,
    table: pd.DataFrame,
    rows: np.ndarray,
    asked: np.ndarray,
    seed: int,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of a twin as they are, and as they would be with another label: rendered from the same seeds.

    A defect that an image has not is given the typical severity 1; a defect that it has is left out.

    Args:
        dataset: a twin of a classification, one of `NOISES`.
        table: prepared table of the twin.
        rows: (n,) images of its main part.
        asked: (n,) label that each is given.
        seed: the study's seed.
        progress: told how many images are rendered.

    Returns:
        Images as they are (n, size, size) and with the label asked for, float32 within 0-1, and masks (n, size, size)
        bool of where either has its defect.

    Raises:
        ValueError: real images, which cannot be rendered; an image of another part than the main one.
    """
    seeds = table["image_seed"].to_numpy()[rows].tolist()
    labels = np.asarray(asked).tolist()

    def changed(planned: list[Planned]) -> list[Planned]:
        classes = {image.label: (image.label_name, image.has_defect) for image in planned}
        main = {image.image_seed: image for image in planned if image.part == "main"}
        if not set(seeds) <= set(main):
            raise ValueError("rows: found an image that is not in the twin's main part, expected images of that alone")
        patients = {(main[key].patient, label) for key, label in zip(seeds, labels, strict=True)}
        found = []
        # All images of a patient, because where a slice lies depends on how many there are.
        for patient in sorted({name for name, _ in patients}):
            found += [image for image in main.values() if image.patient == patient]
        for patient, label in sorted(patients):
            label_name, defect = classes[label]
            for image in (image for image in main.values() if image.patient == patient):
                strength = (image.severity if image.has_defect else 1.0) if defect else 0.0
                name = f"{patient}-as-{label}"
                found.append(
                    replace(
                        image, image=f"{name}-{image.number}", patient=name, part="severity", severity=strength,
                        label=label, label_name=label_name, has_defect=defect,
                    )
                )  # fmt: skip
        return found

    pixels, masks, made = _rendered(dataset, changed, seed, progress)
    changes = (made["part"] == "severity").to_numpy()
    of_own = {key: row for row, key in enumerate(made["image_seed"].tolist()) if not changes[row]}
    both = enumerate(zip(made["image_seed"].tolist(), made["label"].tolist(), strict=True))
    of_other = {key: row for row, key in both if changes[row]}
    own, other = [of_own[key] for key in seeds], [of_other[key] for key in zip(seeds, labels, strict=True)]
    return pixels[own], pixels[other], masks[own] | masks[other]


def _rendered(
    dataset: Dataset,
    redraw: Callable[[list[Planned]], list[Planned]],
    seed: int,
    progress: Callable[[int, int, str], None],
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Images (n, size, size), masks and table of a twin whose plan is changed, prepared as the twin's own are."""
    if not dataset.simulated or dataset.format not in NOISES:
        raise ValueError(
            f"concepts: found {dataset.format}{'' if dataset.simulated else ' with a folder'}, expected a simulated "
            f"twin of {', '.join(NOISES)}: only what is rendered can have its severity drawn anew"
        )
    twin = importlib.import_module(f"xiqa.datasets.twins.{dataset.format}")
    reader = importlib.import_module(reader_module(dataset.format))
    with tempfile.TemporaryDirectory() as temporary:
        folder, prepared = Path(temporary, "twin"), Path(temporary, "prepared")
        folder.mkdir()
        prepared.mkdir()
        twin.write(folder, dataset.twin, seed, progress, redraw)
        paths = {name: str(prepared / file) for name, file in FILES.items()}
        made = prepare(
            reader.read(folder, dataset), dataset, facts=read_table(folder / "twin.csv"), key=str(seed).encode(),
            paths=paths, progress=lambda *_: None,
        )  # fmt: skip
        pixels = np.array(read_array(paths["images"]), np.float32)
        masks = PackedMasks(paths["masks"])[:]
    return pixels, masks, made
