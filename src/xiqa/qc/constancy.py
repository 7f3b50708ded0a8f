"""One number per image that follows the dose closely: the contrast-to-noise ratio of the discs, from graded signals."""

from __future__ import annotations

import numpy as np

from xiqa.cdmam.curve import GOLD_ATTENUATION_PER_UM
from xiqa.cdmam.phantom import phantom
from xiqa.cdmam.reader import Reading

DIAMETERS_MM = (0.13, 0.63)
"""Diameters that count, from and to: larger discs sit on structure, smaller ones drown in noise."""


def contrast_to_noise(reading: Reading) -> float | None:
    """Contrast of the discs over the noise under a disc of their size, in the geometric mean over 0.63-0.13 mm.

    Per diameter the contrast is the least-squares amplitude of the signals of corner and central discs on
    1 - exp(-0.19 t), the noise the standard deviation of the signals at places without disc. Both carry what the search
    about each place adds, so the number is no physical ratio; but it goes with the root of the dose, and the spread
    from image to image is 3-5 %, where the figure from counted hits has 20 %.

    Args:
        reading: of one image.

    Returns:
        The ratio; None where the discs do not stand out.
    """
    known = phantom(reading.version)
    full = -np.expm1(-GOLD_ATTENUATION_PER_UM * known.thicknesses_um)
    places = np.arange(1, 5)[:, None, None]
    logs = []
    least, largest = DIAMETERS_MM
    for i in np.flatnonzero((known.diameters_mm >= least) & (known.diameters_mm <= largest)):
        there = known.present[i]
        codes, scores = known.corner_codes[i, there], reading.scores[:, i, there].astype(float)
        empty = scores[places[:, 0] != codes]
        discs = np.concatenate([scores[codes - 1, np.arange(there.sum())], reading.centre_scores[i, there]])
        weights = np.tile(full[i, there], 2)
        amplitude = np.sum((discs - empty.mean()) * weights) / np.sum(weights**2)
        noise = empty.std(ddof=1)
        if not (amplitude > 0 and noise > 0):
            return None
        logs.append(np.log(amplitude / noise))
    return float(np.exp(np.mean(logs)))
