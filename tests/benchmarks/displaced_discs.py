"""Fraction of corner discs found in displaced and undisplaced images of the same noise: corners of the promised box.

Run from the root: `PYTHONPATH=src:tests:tests/unit python tests/benchmarks/displaced_discs.py [IMAGES]`.
"""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
from test_reader import PIXEL_MM, phantom, with_noise

from xiqa.cdmam.reader import read_image

FIRST_SEED = 100


def main(images: int) -> None:
    """Print a line per combination: mean difference of the fraction found, and its standard error over images."""

    def fractions(**displaced) -> np.ndarray:
        plain = phantom(tilt_deg=0.4, **displaced)[0]
        seeds = range(FIRST_SEED, FIRST_SEED + images)
        return np.array([(read_image(with_noise(plain, 12, s), PIXEL_MM).corner == 1).sum() / 205 for s in seeds])

    none = fractions()
    print(f"undisplaced {none.mean():.4f}, {images} images")
    for x, y, turn, stretch in itertools.product((1, -1), repeat=4):
        place = {"shift_mm": (0.35 * x, 0.35 * y), "rotation_deg": 0.2 * turn, "scale": 1 + 0.004 * stretch}
        difference = fractions(**place) - none
        print(f"{place}: {difference.mean():+.4f} ± {difference.std(ddof=1) / math.sqrt(images):.4f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
