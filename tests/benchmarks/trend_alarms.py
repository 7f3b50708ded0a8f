"""How often `xiqa trend` alarms: at a stable system, and when the dose drifts slowly down by 15 %.

Records of 16 images are simulated as detection matrices: in each cell a choice between four corners with the
psychometric probability of a system of scenario #3, whose threshold contrast rises with the root of the lost dose.
Curves, figures and their errors come from the same functions as a record's. How contrast and contrast-to-noise ratio of
the discs go with dose, and their spread, are measured on simulated images. Between sessions the dose itself may vary.
Run: python tests/benchmarks/trend_alarms.py
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from xiqa.cdmam.curve import GOLD_ATTENUATION_PER_UM, fit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, CELL_PRESENT, DIAMETERS_MM, GEOMETRIES, THICKNESSES_UM
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.qc.compare import Z_95
from xiqa.qc.constancy import constancy
from xiqa.qc.trend import LEAST_RECORDS, OVERALL, control_chart

SLOPE = 2.3
IMAGES = 16
DRIFT = np.linspace(0.975, 0.85, 6)
"""Dose of the six records in which it falls by 15 %."""


def hit_rates(dose: float) -> np.ndarray:
    """Probability (16, 16) of a hit; the threshold contrast of each diameter goes with dose to the power -1/2."""
    threshold_um = 0.0265 / DIAMETERS_MM**1.5 + 0.004 / DIAMETERS_MM**2
    contrast = -np.expm1(-GOLD_ATTENUATION_PER_UM * threshold_um) / math.sqrt(dose)
    position = np.log(np.minimum(contrast, 0.99))[:, None]
    cells = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * THICKNESSES_UM))
    return 0.25 + 0.75 / (1 + np.exp(-SLOPE * (cells - position)))


def matrices(dose: float, rng: np.random.Generator) -> np.ndarray:
    """Detection matrices (16 images, 16, 16) of one record."""
    hit = rng.random((IMAGES, 16, 16)) < hit_rates(dose)
    return np.where(CELL_PRESENT, np.where(hit, 1, 2), -1)


def measured(found: np.ndarray) -> np.ndarray:
    """Inverse image quality figure and the curve (13,)."""
    cdc = fit_curve(found, bootstrap=0)["cdc_um"].to_numpy()
    return np.concatenate([[100 / np.sum(cdc * CDC_DIAMETERS_MM)], cdc])


def errors(found: np.ndarray) -> np.ndarray:
    """Standard errors (13,) of the logarithms: by leaving out images, and from the bootstrap's interval."""
    figures = np.log([measured(np.delete(found, k, axis=0))[0] for k in range(IMAGES)])
    table = fit_curve(found, bootstrap=100)
    low, high = table["ci_low_um"].to_numpy(), table["ci_high_um"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where((low > 0) & np.isfinite(high), np.log(high / low) / (2 * Z_95), np.nan)
    return np.concatenate([[math.sqrt((IMAGES - 1) * np.var(figures))], spread])


def constancy_and_dose(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponents (2,) of contrast and contrast-to-noise ratio by dose, and the covariance (2, 2) of their logarithms."""
    doses, logs = np.repeat([1.0, 0.85], images), []
    for number, dose in enumerate(doses):
        exposure = Exposure(anode="W", filter="Rh", tube_voltage_kv=28, exposure_mas=110 * dose, noise="physical")
        image = simulate(exposure, Detector(pixel_mm=0.085), GEOMETRIES["standard_reader"], 2.0, 0, number)
        logs.append(np.log(constancy(read_image(image.counts, 0.085))))
    exponents, level = np.polyfit(np.log(doses), logs, 1)
    residuals = logs - level - np.outer(np.log(doses), exponents)
    return exponents, residuals.T @ residuals / (len(doses) - 2)


def alarms(values: np.ndarray, spread: np.ndarray, names: list[str]) -> np.ndarray:
    """Which records (n,) alarm on which chart (quantities,), of values and errors (n, quantities).

    Diameters that are not measured are not charted.
    """
    measured = np.isfinite(spread).all(axis=0)
    diameters = sum(measured[k] for k, name in enumerate(names) if name not in OVERALL)
    return np.column_stack(
        [
            control_chart(name, values[:, k], spread[:, k], diameters).alarm
            if measured[k]
            else np.zeros(len(values), bool)
            for k, name in enumerate(names)
        ]
    )


def main() -> None:
    """Print the tables of docs/how-to/physicist.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=400, help="records simulated at each dose")
    parser.add_argument("--images", type=int, default=30, help="images simulated at each of two doses")
    parser.add_argument("--series", type=int, default=500, help="series drawn from them")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    doses = [1.0, *DRIFT]
    pools = {dose: np.array([measured(matrices(dose, rng)) for _ in range(options.records)]) for dose in doses}
    spreads = np.array([errors(matrices(1.0, rng)) for _ in range(60)])
    logs = np.log(pools[1.0])
    print(f"spread of ln figure {logs[:, 0].std():.4f} (its error as estimated {np.mean(spreads[:, 0]):.4f})")
    print(f"figure at 85 % dose over that at 100 %: {np.exp(np.log(pools[DRIFT[-1]]).mean(0) - logs.mean(0))[0]:.4f}")
    exponents, covariance = constancy_and_dose(options.images)
    for name, exponent, variance in zip(("contrast", "ratio"), exponents, np.diag(covariance), strict=True):
        print(f"{name}: dose to the power {exponent:.2f}, spread between images {math.sqrt(variance):.3f}")
    names = [*OVERALL, *(f"{diameter:.2f} mm" for diameter in CDC_DIAMETERS_MM)]

    def draw(dose: float, count: int, between: float) -> tuple[np.ndarray, np.ndarray]:
        """Values and errors (count, 15) of records at a dose, which varies from session to session."""
        there = math.log(dose) + rng.normal(0, between, count)
        images = (
            rng.multivariate_normal([0, 0], covariance, (count, IMAGES)) + np.multiply.outer(there, exponents)[:, None]
        )
        constancies, error = np.exp(images.mean(axis=1)), images.std(axis=1, ddof=1) / math.sqrt(IMAGES)
        chosen = pools[dose][rng.choice(options.records, count, replace=False)]
        return np.column_stack([constancies, chosen]), np.column_stack(
            [error, spreads[rng.choice(len(spreads), count)]]
        )

    for between in (0, 0.01, 0.03):
        print(f"the dose varies by {100 * between:.0f} % from session to session")
        for length in (12, 60):
            series = options.series // (length // 12)
            false = np.array([alarms(*draw(1.0, length, between), names) for _ in range(series)])
            shares = 100 * false[:, LEAST_RECORDS - 1 :].mean(axis=(0, 1))
            any_chart = false.any(axis=2)
            print(
                f"  stable, {length} records: {100 * any_chart[:, LEAST_RECORDS - 1 :].mean():.2f} % of the records "
                f"alarm, {100 * any_chart.any(axis=1).mean():.1f} % of the series; by chart "
                + ", ".join(f"{name} {share:.2f}" for name, share in zip(names, shares, strict=True) if share)
            )
        for stable in (0, 3, 6, 12):
            caught = {"all charts": [], "without the contrast": [], "counted hits alone": []}
            for _ in range(options.series):
                parts = [draw(1.0, stable, between), *(draw(dose, 1, between) for dose in DRIFT)]
                found = alarms(*(np.concatenate(part) for part in zip(*parts, strict=True)), names)[stable:]
                for (_, shares), first in zip(caught.items(), (0, 1, 2), strict=True):
                    shares.append(np.maximum.accumulate(found[:, first:].any(axis=1)))
            for words, shares in caught.items():
                shown = " ".join(f"{100 * share:.0f}" for share in np.mean(shares, axis=0))
                print(
                    f"  drift after {stable} stable records, {words}: alarm by its record 1-6 in {shown} %", flush=True
                )


if __name__ == "__main__":
    main()
