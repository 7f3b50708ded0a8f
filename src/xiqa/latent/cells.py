"""Cells of the phantom as a sandbox of latent spaces: corner, diameter, thickness and noise are drawn independently."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import Geometry
from xiqa.cdmam.simulator import simulate_cell
from xiqa.config import Detector, Exposure
from xiqa.seeds import stream_seed

SIZE, BLOCK = 96, 2
"""Pixels of a simulated cell, and of the blocks whose mean is one pixel of what the autoencoder sees."""
DIAMETER_MM, THICKNESS_UM, NOISE_LEVEL = (0.3, 2.0), (0.3, 2.0), (5.0, 20.0)
"""Ranges; diameter and thickness on a logarithmic scale. All discs can be seen."""
FACTORS = ("corner", "log_diameter", "log_thickness", "noise_level")


def draw_factors(number: int, seed: int, part: str) -> pd.DataFrame:
    """Factors of so many cells, independent of each other; the corner is a class."""
    rng = np.random.default_rng(stream_seed(seed, "cells", part))
    return pd.DataFrame(
        {
            "corner": rng.integers(1, 5, number).astype(str),
            "log_diameter": rng.uniform(np.log(DIAMETER_MM[0]), np.log(DIAMETER_MM[1]), number),
            "log_thickness": rng.uniform(np.log(THICKNESS_UM[0]), np.log(THICKNESS_UM[1]), number),
            "noise_level": rng.uniform(*NOISE_LEVEL, number),
        }
    )


def draw_batches(batches: int, size: int, seed: int, part: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Factors of batches of cells, in each of which one factor is the same for all, and its number (batches,)."""
    table = draw_factors(batches * size, seed, part)
    fixed = np.random.default_rng(stream_seed(seed, "fixed factor", part)).integers(0, len(FACTORS), batches)
    for batch, factor in enumerate(fixed):
        rows = slice(batch * size, (batch + 1) * size)
        table.loc[table.index[rows], FACTORS[factor]] = table[FACTORS[factor]].iloc[batch * size]
    return table, fixed


def render_cells(
    table: pd.DataFrame, geometry: Geometry, seed: int, progress: Callable[[int, int, str], None] = lambda *_: None
) -> np.ndarray:
    """Cells (n, 48, 48) float32 in counts, of 0.2 mm, at 28 kV and 100 mAs; rows of the table as `draw_factors`."""
    detector, images = Detector(pixel_mm=0.1), np.empty((len(table), SIZE // BLOCK, SIZE // BLOCK), np.float32)
    for index, row in enumerate(table.itertuples()):
        exposure = Exposure(tube_voltage_kv=28, exposure_mas=100, noise_level=round(row.noise_level, 3))
        cell = simulate_cell(
            exposure, detector, geometry, float(np.exp(row.log_diameter)), float(np.exp(row.log_thickness)),
            int(row.corner), size=SIZE, seed=stream_seed(seed, "cell"), index=index,
        )  # fmt: skip
        side = SIZE // BLOCK
        images[index] = cell.reshape(side, BLOCK, side, BLOCK).mean((1, 3))
        if index % 100 == 99:
            progress(index + 1, len(table), "cells rendered")
    return images
