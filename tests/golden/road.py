"""Golden values of ROAD, made by pytorch-grad-cam (the imputation there is that of ROAD's authors).

    pip install --no-deps --target /tmp/gradcam grad-cam==1.5.7 ttach==0.0.3 opencv-python-headless tqdm
    PYTHONPATH=/tmp/gradcam python tests/golden/road.py tests/unit/golden_road.npz

The network is softmax(readout · x), without the noise; all values of a map differ, because ties go to both sides there.
"""

import sys

import numpy as np
import torch

from xiqa.models.torchvision_import import import_timm

IMAGES, HEIGHT, WIDTH, CLASSES = 3, 20, 26, 3


def main(path):
    """Write the file."""
    import_timm()  # with it torchvision can be imported, which pytorch-grad-cam does
    from pytorch_grad_cam.metrics.perturbation_confidence import RemoveLeastRelevantFirst, RemoveMostRelevantFirst
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    rng = np.random.default_rng(7)
    images = rng.random((IMAGES, HEIGHT, WIDTH), np.float32)
    labels = np.array([0, 2, 1])
    readout = rng.normal(0, 0.2, (CLASSES, HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    scattered = rng.permutation(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) / (HEIGHT * WIDTH)
    blob = np.exp(-((rows - 6.3) ** 2 + (columns - 11.7) ** 2) / 90 + 1e-3 * scattered)  # a wide hole
    maps = np.stack([scattered, blob / blob.max(), readout[1] / np.abs(readout).max()])
    percent = np.arange(10, 100, 10)
    imputer = NoisyLinearImputer(noise=0.0)
    imputed = np.empty((IMAGES, 2, len(percent), HEIGHT, WIDTH), np.float32)
    for i in range(IMAGES):
        image, saliency = torch.from_numpy(images[i][None]), torch.from_numpy(maps[i])
        for j, share in enumerate(percent):
            for k, order in enumerate((RemoveMostRelevantFirst, RemoveLeastRelevantFirst)):
                # There the percentile is of the pixels that stay.
                imputed[i, k, j] = order(100 - share, imputer)(image, saliency)[0]
    logits = np.einsum("iophw,khw->iopk", imputed.astype(np.float64), readout)
    probability = torch.softmax(torch.from_numpy(logits), -1).numpy()[np.arange(IMAGES), ..., labels]
    np.savez_compressed(
        path,
        images=images,
        labels=labels,
        readout=readout,
        maps=maps,
        imputed=imputed,
        road=((probability[:, 1] - probability[:, 0]) / 2).mean(1),
    )


if __name__ == "__main__":
    main(sys.argv[1])
