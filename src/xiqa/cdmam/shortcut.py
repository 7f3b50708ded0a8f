"""The shortcut that the ensemble must beat: a regression on background mean and standard deviation alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CLIP = 2.5
"""Standard deviations from the mean beyond which a pixel is no background."""

# Standard deviation of a standard normal cut there: what clipping takes away is given back.
_CLIPPED_SD = math.sqrt(1 - CLIP * math.sqrt(2 / math.pi) * math.exp(-(CLIP**2) / 2) / math.erf(CLIP / math.sqrt(2)))


@dataclass(frozen=True)
class Shortcut:
    """A fitted regression.

    Attributes:
        centre: (2,) mean of the log statistics of the training images.
        spread: (2,) their standard deviation.
        coefficients: (6, 12) of 1, a, b, a², ab, b² for the 12 log thicknesses, a and b the standardised log mean
            and log standard deviation.
    """

    centre: np.ndarray
    spread: np.ndarray
    coefficients: np.ndarray

    def predict(self, statistics: np.ndarray) -> np.ndarray:
        """Threshold gold thickness (n, 12) in µm from background statistics (n, 2) in counts."""
        return np.exp(_terms((np.log(statistics) - self.centre) / self.spread) @ self.coefficients)


def background_statistics(images: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the background of each image, in counts.

    Median and median absolute deviation begin; then mean and standard deviation of what lies within ±2.5 standard
    deviations, the latter corrected for the cut, until they settle. Grid, writing and visible discs fall outside.

    Args:
        images: (n, s, s) counts.

    Returns:
        (n, 2) float64: mean and standard deviation.

    Raises:
        ValueError: an image is constant, its noise cannot be measured.
    """
    statistics = np.empty((len(images), 2))
    for index, image in enumerate(images):
        values = np.asarray(image, np.float64).ravel()
        mean = np.median(values)
        # Counts are whole numbers: below one count the deviation is quantisation.
        sd = max(1.4826 * np.median(np.abs(values - mean)), 1.0)
        for _ in range(20):
            kept = values[np.abs(values - mean) <= CLIP * sd]
            before, mean, sd = sd, kept.mean(), kept.std() / _CLIPPED_SD
            if abs(sd - before) <= 1e-4 * before or sd == 0:
                break
        if sd == 0:
            raise ValueError(f"image {index}: found a constant background, expected noise; is it a recording?")
        statistics[index] = mean, sd
    return statistics


def fit_shortcut(statistics: np.ndarray, labels_um: np.ndarray, ridge: float = 1e-3) -> Shortcut:
    """Fit the regression on the training images.

    Args:
        statistics: (n, 2) from `background_statistics`.
        labels_um: (n, 12) threshold gold thicknesses in µm.
        ridge: weight of the squares of all coefficients but the constant, per image.

    Returns:
        Second-order polynomial of log mean and log standard deviation, for log thicknesses: power laws, as physics
        suggests, are its first order.
    """
    logs = np.log(statistics)
    centre, spread = logs.mean(0), logs.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    terms = _terms((logs - centre) / spread)
    penalty = ridge * len(terms) * np.diag([0.0, 1, 1, 1, 1, 1])
    coefficients = np.linalg.solve(terms.T @ terms + penalty, terms.T @ np.log(labels_um))
    return Shortcut(centre, spread, coefficients)


def _terms(standardised: np.ndarray) -> np.ndarray:
    a, b = standardised.T
    return np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=1)
