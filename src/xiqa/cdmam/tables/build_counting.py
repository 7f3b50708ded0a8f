"""Make counting.csv: how often the reader finds a disc that the observer who knows its place sees with a given d'.

python src/xiqa/cdmam/tables/build_counting.py config/config.yaml FOLDER

Simulates images of the study's training and validation settings and of systems of other beams, pixels and blur, reads
them, and counts the corner discs found (in FOLDER, where a second run continues; some 12 minutes of processor). Then
p = 1 - 0.75 exp(-(u^shape + linear u)), u = d' / scale, is fitted by maximum likelihood: ln scale is a polynomial in
ln d plus the ln of the system's correlation length (`xiqa.cdmam.detector.correlation_mm`) times another, ln shape is a
polynomial in ln d, linear one number. The linear term is the search's: a signal too weak to be found for sure still
lifts the strongest place of its corner. d' is the analytic one of each system (`xiqa.cdmam.detectability`). relative_sd
is the jackknife standard deviation of the scale over systems. Test settings of the study take no part.
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
from xiqa.cdmam.detector import correlation_mm
from xiqa.cdmam.graded import COUNTING_CORRELATION_MM
from xiqa.cdmam.phantom import CELL_PRESENT, DIAMETERS_MM, GEOMETRIES, THICKNESSES_UM
from xiqa.cdmam.reader import HIT, read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Cdmam, Detector, Exposure, load_config

GEOMETRY, SEED = GEOMETRIES["standard_reader"], 4011
POWERS = np.log(DIAMETERS_MM / 0.3)[:, None] ** np.arange(4)
START = np.array([1.0, -0.22, 0, 0, 0.8, -0.2, 0, -0.13, 0.12, -1.0])


def systems(study: Cdmam) -> dict[str, tuple[Exposure, Detector, int]]:
    """Name -> exposure, detector and number of images."""
    found = {e.name: (e, study.detector, 16) for e in (*study.training_settings, *study.validation_settings)}
    found |= {e.name: (e, study.standin_detector, 24) for e in study.standin_training_settings}
    beams = [("W", "Rh", 28, 95), ("Rh", "Rh", 29, 80), ("Mo", "Mo", 27, 105), ("W", "Ag", 30, 70)]
    blurs = ((0.7, 0.55), (0.5, 0.4), (1.0, 0.8), (0.5, 0.8), (1.0, 0.3))
    for row, (blur_px, filter_px) in enumerate(blurs):
        for column, pixel_mm in enumerate((0.05, 0.07, 0.085, 0.1)):
            anode, metal, kv, mas = beams[(row + column) % 4]
            exposure = Exposure(anode=anode, filter=metal, noise="physical", tube_voltage_kv=kv, exposure_mas=mas)
            detector = Detector(pixel_mm=pixel_mm, blur_px=blur_px, noise_filter_px=filter_px)
            found[f"{exposure.name}-{pixel_mm}_mm-blur_{blur_px}_{filter_px}"] = exposure, detector, 24
    for pixel_mm, filter_px in ((0.05, 0.3), (0.07, 0.0), (0.085, 1.0), (0.1, 0.3)):
        exposure = Exposure(tube_voltage_kv=26, exposure_mas=100, noise_level=round(0.84 / pixel_mm, 1))
        found[f"{exposure.name}-{pixel_mm}_mm"] = exposure, Detector(pixel_mm=pixel_mm, noise_filter_px=filter_px), 24
    return found


def count(exposure: Exposure, detector: Detector, images: int, path: Path) -> np.ndarray:
    """Hits (16, 16) of the corner discs in so many images; read from the file if it is there, else written to it."""
    if not path.exists():
        corners = [
            read_image(
                simulate(exposure, detector, GEOMETRY, margin_mm=0.0, seed=SEED, index=index).counts, detector.pixel_mm
            ).corner
            for index in range(images)
        ]
        np.save(path, (np.array(corners) == HIT).sum(axis=0))
        print(path.stem, flush=True)
    return np.load(path)


def scale_and_shape(unknowns: np.ndarray, ln_correlation: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Scale (n, 16) of n systems and shape (16,), from the coefficients of their polynomials."""
    ln_scale = POWERS @ unknowns[:4] + np.asarray(ln_correlation)[..., None] * (POWERS[:, :2] @ unknowns[7:9])
    return np.exp(ln_scale), np.exp(POWERS[:, :3] @ unknowns[4:7])


def fit(
    d_prime: np.ndarray, hits: np.ndarray, images: np.ndarray, ln_correlation: np.ndarray, start: np.ndarray = START
) -> np.ndarray:
    """Coefficients from d' (n, 16, 16), hits (n, 16, 16), images (n,) and ln of correlation lengths (n,) of systems."""

    def loss(unknowns):
        scale, shape = scale_and_shape(unknowns, ln_correlation)
        u = d_prime / scale[..., None]
        p = np.clip(1 - 0.75 * np.exp(-(u ** shape[:, None] + np.exp(unknowns[9]) * u)), 1e-9, 1 - 1e-6)
        cells = hits * np.log(p) + (images[:, None, None] - hits) * np.log1p(-p)
        return -cells[:, CELL_PRESENT].sum()

    return minimize(loss, start, method="BFGS").x


def main(path_to_config: str, folder: str) -> None:
    """Count, fit, and write the table."""
    study = load_config(yaml.safe_load(Path(path_to_config).read_text(encoding="utf-8"))).cdmam
    Path(folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (exposure, detector, images) in systems(study).items():
        threshold = detectability_threshold_um(exposure, detector, GEOMETRY, DIAMETERS_MM)
        contrast = gold_contrast(exposure, THICKNESSES_UM, GEOMETRY)
        d_prime = THRESHOLD_DETECTABILITY * contrast / gold_contrast(exposure, threshold, GEOMETRY)[:, None]
        ln_correlation = np.log(correlation_mm(GEOMETRY, detector) / COUNTING_CORRELATION_MM)
        rows.append((d_prime, count(exposure, detector, images, Path(folder, f"{name}.npy")), images, ln_correlation))
    data = [np.array(part) for part in zip(*rows, strict=True)]
    best = fit(*data)
    number = len(rows)
    kept = [np.arange(number) != left_out for left_out in range(number)]
    scales = np.log([scale_and_shape(fit(*[*(part[k] for part in data), best]), data[3][~k])[0][0] for k in kept])
    scales -= np.log(scale_and_shape(best, data[3])[0])
    scale, shape = scale_and_shape(best, 0.0)
    table = pd.DataFrame(
        {
            "diameter_mm": DIAMETERS_MM,
            "d_prime_scale": scale.round(4),
            "by_correlation": (POWERS[:, :2] @ best[7:9]).round(4),
            "shape": shape.round(4),
            "linear": np.exp(best[9]).round(4),
            "relative_sd": (np.sqrt((scales**2).mean(axis=0) * (number - 1))).round(4),
        }
    )
    table.to_csv(Path(__file__).with_name("counting.csv"), index=False)
    print(f"{number} systems, {data[2].sum()} images")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
