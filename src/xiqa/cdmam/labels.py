"""Labels of images: the contrast-detail curve of their exposure setting, or that of the image itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import CDC_DIAMETERS_MM

if TYPE_CHECKING:
    from xiqa.cdmam.curve import Human


def labels_of(curves: pd.DataFrame, settings: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and flags of images by the setting that each was exposed with.

    Args:
        curves: the table cdc.csv, 12 rows per setting, diameters from 1.00 to 0.08 mm.
        settings: the setting of each of n images.

    Returns:
        cdc_um (n, 12) float64 in µm, and censored (n, 12) bool: the reader's threshold lay outside the phantom.

    Raises:
        ValueError: a setting has no curve of 12 diameters.
    """
    labels, flags = {}, {}
    for setting, curve in curves.groupby("setting"):
        if not np.array_equal(curve["diameter_mm"], CDC_DIAMETERS_MM):
            raise ValueError(
                f"setting {setting}: found diameters {list(curve['diameter_mm'])} mm, expected {list(CDC_DIAMETERS_MM)}"
            )
        labels[setting] = curve["cdc_um"].to_numpy(float)
        flags[setting] = curve["censored"].to_numpy(bool)
    missing = sorted(set(settings) - set(labels))
    if missing:
        raise ValueError(f"settings {missing} have no contrast-detail curve; found {sorted(labels)}")
    return np.stack([labels[setting] for setting in settings]), np.stack([flags[setting] for setting in settings])


def own_label_um(counts: np.ndarray, pixel_mm: float, human: Human, name: str) -> list[float]:
    """The curve (12) in µm of one full image by graded signals, as its own label.

    Raises:
        ValueError: the image shows no phantom, or no disc of it stands out of the noise.
    """
    # Compiled code: training and prediction, which only look labels up, need not load it.
    from xiqa.cdmam.graded import graded_curve, measure
    from xiqa.cdmam.reader import read_image

    try:
        measured = measure(counts, pixel_mm, read_image(counts, pixel_mm, name).registration, name)
    except ValueError as error:
        raise ValueError(
            f"{error}; it has no label of its own: leave its setting out, or label by setting "
            "(cdmam.readout.labels_per: setting)"
        ) from error
    return graded_curve([measured], human=human, draws=2).table["cdc_um"].tolist()


def training_labels_um(curves: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Labels (n, 12) of training images: their own (`label_um` of the table of samples), else their setting's."""
    if "label_um" in table:
        return np.stack([np.asarray(label, float) for label in table["label_um"]])
    return labels_of(curves, list(table["setting"]))[0]
