"""Golden values of localisation metrics, made by TorchRay and Quantus; neither is a dependency, and no code is theirs.

    pip install --no-deps --target /tmp/peers torchray==1.0.0.2 quantus==0.6.0 opencv-python-headless
    PYTHONPATH=/tmp/peers .venv/bin/python tests/golden/localisation.py tests/unit/golden_localisation.npz

The last mask is empty: TorchRay calls that a miss, Quantus' Pointing Game a hit.
"""

import sys

import numpy as np
import quantus
import torch
from scipy import ndimage

from xiqa.models.torchvision_import import import_timm

import_timm()  # torchvision, which TorchRay imports, may not belong to the torch that is installed
from torchray.benchmark.pointing_game import PointingGame  # noqa: E402

SHAPE = (24, 40)
TOLERANCES = (1, 3, 6, 15)


def main(path):
    """Write the file."""
    rng = np.random.default_rng(40)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    maps, masks = [], []
    for _ in range(40):
        values = ndimage.gaussian_filter(rng.normal(size=SHAPE), rng.uniform(0.1, 4))
        row, column, radius = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), rng.uniform(1, 9)
        masks.append((rows - row) ** 2 + ((columns - column) * rng.uniform(0.5, 2)) ** 2 <= radius**2)
        values += masks[-1] * values.std() * rng.uniform(0, 3)
        maps.append(values.ravel().argsort().argsort().reshape(SHAPE))  # ranks: no ties, not negative
    masks[-1][:] = False
    maps, masks = np.stack(maps), np.stack(masks)
    hits = np.array(
        [
            [
                PointingGame(1, tolerance).evaluate(
                    torch.from_numpy(mask), np.unravel_index(saliency.argmax(), SHAPE)[::-1]
                )
                for saliency, mask in zip(maps, masks, strict=True)
            ]
            for tolerance in TOLERANCES
        ]
    )
    given = {"a_batch": maps[:, None].astype(np.float64), "s_batch": masks[:, None]}
    options = {"abs": False, "normalise": False, "disable_warnings": True}
    np.savez_compressed(
        path,
        maps=maps.astype(np.int16),
        masks=masks,
        tolerances=TOLERANCES,
        torchray_hits=hits > 0,
        quantus_hits=quantus.PointingGame(**options).evaluate_batch(**given),
        quantus_mass=quantus.RelevanceMassAccuracy(**options).evaluate_batch(**given),
        quantus_rank=quantus.RelevanceRankAccuracy(**options).evaluate_batch(**given),
    )


if __name__ == "__main__":
    main(sys.argv[1])
