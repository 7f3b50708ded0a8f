"""Check of an upsampled map: add it to the original, sample afresh, and see where the midpoint goes (figure 13)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xiqa.datasets.sampling import draw_indices, sample
from xiqa.models.ensemble import Ensemble, normalise, predict
from xiqa.models.midpoint import MidpointGradient

# First word of the random streams of this check, apart from those of the upsampling itself.
_DRAW, _PERMUTATION = 11, 12


def modify(original: np.ndarray, saliency: np.ndarray, sd: float) -> np.ndarray:
    """The original plus its map.

    Args:
        original: (h, w) counts.
        saliency: (h, w) upsampled map, in units of the normalised input.
        sd: standard deviation of the training images in counts, the unit of the normalised input.

    Returns:
        (h, w) float32 counts.

    Raises:
        ValueError: the shapes differ.

    Reference: Amanova et al. 2022, figure 13.
    """
    if original.shape != saliency.shape:
        raise ValueError(f"map: found shape {saliency.shape}, expected {original.shape} as the original")
    return original.astype(np.float32) + saliency.astype(np.float32) * np.float32(sd)


def permute(saliency: np.ndarray, seed: int) -> np.ndarray:
    """The same values at random pixels: the same modification by size, without its places."""
    rng = np.random.default_rng([_PERMUTATION, seed])
    return rng.permutation(saliency.ravel()).reshape(saliency.shape)


def scale_to_norm(saliency: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The map scaled to the Euclidean norm of `reference`; a map of zeros stays as it is."""
    norm = np.sqrt(np.square(saliency, dtype=np.float64).sum())
    wanted = np.sqrt(np.square(reference, dtype=np.float64).sum())
    return saliency if norm == 0 else (saliency * (wanted / norm)).astype(saliency.dtype)


def midpoints_over_samplings(
    target: MidpointGradient,
    image: np.ndarray,
    mean: float,
    sd: float,
    size: int,
    samplings: int,
    seed: int,
    batch: int = 16,
) -> np.ndarray:
    """Midpoint of freshly sampled images of one original.

    The draws depend on shape, size, seed and their number only: an original and its modification are sampled at the
    same pixels, and the difference of their midpoints carries no sampling noise of its own.

    Args:
        target: the midpoint.
        image: (h, w) counts.
        mean, sd: of the training images, in counts.
        size: rows and columns kept.
        samplings: number of draws.
        seed: of the draws.
        batch: images computed at once.

    Returns:
        (samplings,) float64 in µm.
    """
    parts = [target.value(x) for x in _samplings(image, mean, sd, size, samplings, seed, batch)]
    return np.concatenate(parts).astype(np.float64)


def midpoint_over_samplings(
    target: MidpointGradient,
    image: np.ndarray,
    mean: float,
    sd: float,
    size: int,
    samplings: int,
    seed: int,
    batch: int = 16,
) -> tuple[float, float]:
    """Mean and standard error over samplings of the midpoint in µm; arguments as `midpoints_over_samplings`.

    The standard error is NaN for a single sampling.
    """
    values = midpoints_over_samplings(target, image, mean, sd, size, samplings, seed, batch)
    error = values.std(ddof=1) / np.sqrt(samplings) if samplings > 1 else float("nan")
    return float(values.mean()), float(error)


def curves_over_samplings(
    ensemble: Ensemble,
    image: np.ndarray,
    mean: float,
    sd: float,
    size: int,
    samplings: int,
    seed: int,
    batch: int = 16,
) -> np.ndarray:
    """Predicted contrast-detail curve, the mean over samplings at the same pixels as `midpoints_over_samplings`.

    Args:
        ensemble: trained members.
        image, mean, sd, size, samplings, seed, batch: as in `midpoints_over_samplings`.

    Returns:
        (12,) float64 in µm; its mean is the mean midpoint.
    """
    parts = [predict(ensemble, x)["predicted_um"] for x in _samplings(image, mean, sd, size, samplings, seed, batch)]
    return np.concatenate(parts).mean(axis=0)


def _samplings(
    image: np.ndarray, mean: float, sd: float, size: int, samplings: int, seed: int, batch: int
) -> Iterator[np.ndarray]:
    """Batches (<= batch, size, size) float32 of normalised samplings."""
    for start in range(0, samplings, batch):
        numbers = range(start, min(start + batch, samplings))
        draws = [draw_indices(image.shape, size, np.random.default_rng([_DRAW, seed, number])) for number in numbers]
        yield normalise(np.stack([sample(image, *draw) for draw in draws]), mean, sd)
