"""ROAD: remove and debias, masking by noisy linear imputation, which shows the network no shape of the mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg, splu

from xiqa.metrics.maps.masking import Predict, answers, asks_network, over_channels, pixel_ranks, scored_maps


@asks_network
def road(
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray,
    maps: np.ndarray,
    percentiles: Sequence[float] = range(10, 100, 10),
    batch: int = 64,
    noise: float = 0.01,
    seed: int = 0,
) -> np.ndarray:
    """Half the difference of the true class's probability without the least and without the most important pixels.

    Args:
        predict: images (b, h, w) or (b, c, h, w) float32 -> class probabilities (b, k). In its place `model=`, a
            torch module that gives logits, see `module_predictor.ModulePredictor`.
        images: (n, h, w), or (n, c, h, w), whose channels are imputed at the same pixels.
        labels: (n,) true classes.
        maps: (n, h, w), larger is more important.
        percentiles: percent of pixels that are imputed; the score is the mean over them.
        batch: images asked for at once at most.
        noise: standard deviation added to imputed pixels, in units of the images; the same in all channels, so that a
            grey image in three channels stays grey.
        seed: of noise and of the order of equal values, for image number i; both are the same for all methods.

    Returns:
        (n,) (LiF - MiF) / 2, -0.5 to 0.5, larger is better; NaN where the map is constant or not finite.

    Raises:
        ValueError: arrays that do not belong together; percentiles that leave no pixel or all; `predict` gives no
            probabilities.

    Reference: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods"; both
        orders are combined as in pytorch-grad-cam.
    """
    scored = scored_maps(images, labels, maps)
    number = np.rint(np.asarray(percentiles) / 100 * maps[0].size)[:, None, None]
    if not number.size or number.min() < 1 or number.max() >= maps[0].size:
        raise ValueError(
            f"percentiles: found {np.asarray(percentiles).tolist()}, expected some that take pixels and leave pixels"
        )
    scores = np.full(labels.shape, np.nan)
    for i in np.flatnonzero(scored):
        rng = np.random.default_rng([seed, int(i)])
        ranks = pixel_ranks(maps[i], rng)
        removed = np.concatenate([ranks < number, ranks >= ranks.size - number])
        imputed = np.stack([linear_imputation(images[i], mask) for mask in removed])
        imputed += over_channels(removed * rng.normal(0, noise, ranks.shape), images[i])
        most, least = np.split(answers(predict, imputed, labels[i], batch)[1], 2)
        scores[i] = (least - most).mean() / 2
    return scores


def linear_imputation(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Make each removed pixel the weighted mean of its neighbours, all at the same time.

    Args:
        image: (h, w), or (c, h, w), each channel by itself.
        removed: (h, w) bool, not all.

    Returns:
        float64 in the shape of the image. Neighbours at an edge weigh 1/6, at a corner 1/12; beyond the border there
        are none. The error of the solution is below 1e-6 of the image's range.

    Raises:
        ValueError: all pixels are removed.

    Reference: Rong et al. 2022, noisy linear imputation, here without the noise.
    """
    if removed.all():
        raise ValueError("removed: found all pixels, expected some left to impute from")
    values, gone = np.array(image, np.float64).reshape(-1, removed.size), removed.ravel()
    rows = _laplacian(*removed.shape)[gone]
    system = rows[:, gone]
    # Conjugate gradients take hundreds of steps across a wide hole; with the means of 8 x 8 squares solved at once, 60.
    row, column = np.nonzero(removed)
    _, square = np.unique(row // 8 * removed.shape[1] + column // 8, return_inverse=True)
    squares = sparse.csr_array((np.ones(len(square)), square, np.arange(len(square) + 1)))
    sums = squares.T.tocsr()
    coarse = splu((sums @ system @ squares).tocsc())
    preconditioner = LinearOperator(system.shape, lambda rest: rest + squares @ coarse.solve(sums @ rest))
    for channel in values:
        channel[gone], _ = cg(system, -(rows @ np.where(gone, 0, channel)), rtol=1e-8, M=preconditioner)
    return values.reshape(image.shape)


@lru_cache(maxsize=1)
def _laplacian(height: int, width: int) -> sparse.csr_array:
    """(h·w, h·w): row i times the image is Σ_j w_ij (x_i - x_j), 0 where a pixel is the mean of its neighbours."""
    # The product of two lines 1 2 1 weighs edges 2 and corners 1, 12 in all; the centre drops out of the difference.
    lines = [sparse.diags_array([1.0, 2.0, 1.0], offsets=[-1, 0, 1], shape=(side, side)) for side in (height, width)]
    weights = sparse.kron(*lines, format="csr") / 12
    return sparse.csr_array(sparse.diags_array(weights.sum(1)) - weights)
