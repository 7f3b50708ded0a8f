"""Make counting.csv: how often the reader finds a disc that the observer who knows its place sees with a given d'.

python src/xiqa/cdmam/tables/build_counting.py config/config.yaml results/default

Counts the corner discs that were found in the images which a study reads out for its labels, and fits
p = 1 - 0.75 exp(-(d' / scale)^shape) by maximum likelihood, ln scale and ln shape being polynomials in ln d. d' is the
analytic one of each setting (`xiqa.cdmam.detectability`). relative_sd is the jackknife standard deviation of the scale
over settings.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.optimize import minimize

from xiqa.cdmam.beam import gold_contrast
from xiqa.cdmam.curve import THRESHOLD_DETECTABILITY
from xiqa.cdmam.detectability import detectability_threshold_um
from xiqa.cdmam.phantom import CELL_PRESENT, DIAMETERS_MM, GEOMETRIES, THICKNESSES_UM
from xiqa.config import Cdmam, load_config

POWERS = np.log(DIAMETERS_MM / 0.3)[:, None] ** np.arange(4)
START = np.array([0.7, 0, 0, 0, 0.6, 0, 0])


def systems(study: Cdmam) -> dict:
    """Setting -> exposure and detector, as the workflow names them."""
    found = {e.name: (e, study.detector) for e in (*study.training_settings, *study.validation_settings)}
    found |= {e.name: (e, study.standin_detector) for e in study.standin_training_settings}
    return found | {
        name: (e, study.standin_detector if name == "recorded_standin" else study.detector)
        for name, e in study.scenarios.items()
    }


def scale_and_shape(unknowns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By diameter (16,), from the coefficients of their polynomials."""
    return np.exp(POWERS @ unknowns[:4]), np.exp(POWERS[:, :3] @ unknowns[4:])


def fit(d_prime: np.ndarray, hits: np.ndarray, images: np.ndarray, start: np.ndarray = START) -> np.ndarray:
    """Coefficients from d' (n, 16, 16), hits (n, 16, 16) and images (n,) of n settings."""

    def loss(unknowns):
        scale, shape = scale_and_shape(unknowns)
        p = np.clip(1 - 0.75 * np.exp(-((d_prime / scale[:, None]) ** shape[:, None])), 1e-9, 1 - 1e-6)
        cells = hits * np.log(p) + (images[:, None, None] - hits) * np.log1p(-p)
        return -cells[:, CELL_PRESENT].sum()

    return minimize(loss, start, method="BFGS").x


def main(path_to_config: str, path_to_results: str) -> None:
    """Fit the settings of a study and write the table."""
    study = load_config(yaml.safe_load(Path(path_to_config).read_text(encoding="utf-8"))).cdmam
    geometry, known = GEOMETRIES[study.geometry], systems(study)
    d_prime, hits, images = [], [], []
    for path in sorted(Path(path_to_results, "cdmam/readout").glob("*/detections.npy")):
        if path.parent.name not in known:
            continue
        exposure, detector = known[path.parent.name]
        threshold = detectability_threshold_um(exposure, detector, geometry, DIAMETERS_MM)
        contrast = gold_contrast(exposure, THICKNESSES_UM, geometry)
        d_prime.append(THRESHOLD_DETECTABILITY * contrast / gold_contrast(exposure, threshold, geometry)[:, None])
        corner = np.load(path)[:, 0]
        hits.append((corner == 1).sum(axis=0))
        images.append(len(corner))
    d_prime, hits, images = np.array(d_prime), np.array(hits), np.array(images)
    best = fit(d_prime, hits, images)
    number = len(images)
    kept = [np.arange(number) != left_out for left_out in range(number)]
    scales = np.log([scale_and_shape(fit(d_prime[k], hits[k], images[k], best))[0] for k in kept])
    scale, shape = scale_and_shape(best)
    table = pd.DataFrame(
        {
            "diameter_mm": DIAMETERS_MM,
            "d_prime_scale": scale.round(4),
            "shape": shape.round(4),
            "relative_sd": (scales.std(axis=0) * np.sqrt(number - 1)).round(4),
        }
    )
    table.to_csv(Path(__file__).with_name("counting.csv"), index=False)
    print(f"{number} settings, {images.sum()} images")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
