"""Labels of images: the contrast-detail curve that was read from their exposure setting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import CDC_DIAMETERS_MM


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
