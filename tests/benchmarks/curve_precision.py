"""What sixteen images can tell of a contrast-detail curve at best: the Cramér-Rao bound beside the resampled spread.

python tests/benchmarks/curve_precision.py results/full
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.curve import GOLD_ATTENUATION_PER_UM, HUMAN_FACTORS
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, CELL_PRESENT, DIAMETERS_MM, THICKNESSES_UM

IMAGES, SLOPE = 16, 2.3


def bounds(cdc_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest relative standard deviations of unbiased estimates at a curve (12,), in per cent.

    Every cell of every image is an independent choice with p = 0.25 + 0.75 / (1 + exp(-f (C - C_T))), f known.
    Returned: of one threshold from the cells of its own diameter; of the curve a + b/d + c/d² + e/d³ from all cells.
    """
    contrast = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * np.asarray(THICKNESSES_UM)))
    powers = np.stack([np.asarray(CDC_DIAMETERS_MM) ** -k for k in range(4)], axis=1)
    information, single = np.zeros((4, 4)), np.empty(12)
    for row, (diameter_mm, t_um) in enumerate(zip(CDC_DIAMETERS_MM, cdc_um / HUMAN_FACTORS, strict=True)):
        passed = np.exp(-GOLD_ATTENUATION_PER_UM * t_um)
        logit = SLOPE * (contrast - np.log(1 - passed))
        z = 1 / (1 + np.exp(-logit))
        p = 0.25 + 0.75 * z
        per_cell = (0.75 * SLOPE * z * (1 - z)) ** 2 / (p * (1 - p))
        present = np.asarray(CELL_PRESENT)[list(DIAMETERS_MM).index(diameter_mm)]
        per_um = IMAGES * per_cell[present].sum() * (GOLD_ATTENUATION_PER_UM * passed / (1 - passed)) ** 2
        single[row] = 1 / np.sqrt(per_um) / t_um
        direction = powers[row] / HUMAN_FACTORS[row]
        information += per_um * np.outer(direction, direction)
    spread = np.sqrt(np.einsum("ij,jk,ik->i", powers, np.linalg.inv(information), powers)) / cdc_um
    return 100 * single, 100 * spread


tables = Path(sys.argv[1], "cdmam/tables")
curves, variation = pd.read_csv(tables / "cdc.csv"), pd.read_csv(tables / "cdc_variation.csv")
for setting, measured in variation.groupby("setting", sort=False):
    single, curve = bounds(curves[curves["setting"] == setting]["cdc_um"].to_numpy())
    table = pd.DataFrame({"diameter_mm": CDC_DIAMETERS_MM, "bound_one_threshold": single, "bound_curve": curve})
    table["measured_curve"] = 100 * measured["coefficient_of_variation"].to_numpy()
    table["measured_t_auto"] = 100 * measured["coefficient_of_variation_t_auto"].to_numpy()
    print(f"\n{setting}, coefficient of variation in per cent\n{table.round(1).to_string(index=False)}")
