"""Insertion and deletion: the probability of the true class while the most important pixels come, or go, first."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from xiqa.metrics.maps.masking import Predict, answers, asks_network, over_channels, pixel_ranks, scored_maps


@asks_network
def insertion_deletion(
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray,
    maps: np.ndarray,
    steps: int = 40,
    blurred: np.ndarray | None = None,
    gray: np.ndarray | None = None,
    batch: int = 64,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the curves of the true class's probability over the share of pixels, by the trapezoidal rule.

    Insertion starts from the blurred image and puts the most important pixels back first; deletion starts from the
    image and sets the most important pixels to a constant gray first. Good maps have a large insertion and a small
    deletion.

    Args:
        predict: images (b, h, w) or (b, c, h, w) float32 -> class probabilities (b, k). In its place `model=`, a
            torch module that gives logits, see `module_predictor.ModulePredictor`.
        images: (n, h, w), or (n, c, h, w), whose channels are put back or taken together.
        labels: (n,) true classes.
        maps: (n, h, w), larger is more important.
        steps: steps of equal numbers of pixels.
        blurred: as images, start of the insertion; None: Gaussian blur, σ = 5 px on 11 x 11 px, of each channel.
        gray: (n,) or (n, c) end of the deletion, such as the mean of the training images; None: the mean of each
            image, of each of its channels.
        batch: images asked for at once at most.
        seed: of the order of equal values, for image number i.

    Returns:
        insertion (n,) and deletion (n,), 0 to 1; NaN where the map is constant or not finite.

    Raises:
        ValueError: arrays that do not belong together; `predict` gives no probabilities.

    Reference: Petsiuk et al. 2018, "RISE", deletion and insertion metrics.
    """
    scored = scored_maps(images, labels, maps)
    for name, values, shapes in (("blurred", blurred, [images.shape]), ("gray", gray, _shapes_of_gray(images))):
        if values is not None and np.shape(values) not in shapes:
            raise ValueError(f"{name}: found {np.shape(values)}, expected {' or '.join(map(str, shapes))}")
    if steps < 1:
        raise ValueError(f"steps: found {steps}, expected 1 or more")
    areas = np.full((2, *labels.shape), np.nan)
    number = np.rint(np.arange(steps + 1) / steps * maps[0].size)[:, None, None]
    for i in np.flatnonzero(scored):
        image = np.asarray(images[i], np.float64)
        first = over_channels(pixel_ranks(maps[i], np.random.default_rng([seed, int(i)])) < number, image)
        start = gaussian_filter(image, 5, radius=5, axes=(-2, -1)) if blurred is None else blurred[i]
        end = np.asarray(image.reshape(*image.shape[:-2], -1).mean(-1) if gray is None else gray[i])
        # The whole image ends the insertion and starts the deletion: it is asked for once.
        inserted = np.where(first, image, start)
        deleted = np.where(first[1:], end[..., None, None], image)
        _, probability = answers(predict, np.concatenate([inserted, deleted]), labels[i], batch)
        curves = np.stack([probability[: steps + 1], probability[steps:]])
        areas[:, i] = np.trapezoid(curves, dx=1 / steps)
    return areas[0], areas[1]


def _shapes_of_gray(images: np.ndarray) -> list[tuple[int, ...]]:
    return [images.shape[:1], *([images.shape[:2]] if images.ndim == 4 else [])]
