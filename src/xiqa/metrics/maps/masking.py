"""What the metrics that ask a network share: which maps are scored, the ranks of pixels, and the network's answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (b, h, w) float32 -> class probabilities (b, k), k > 1."""


def scored_maps(images: np.ndarray, labels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Which maps can be scored.

    Args:
        images: (n, h, w) finite.
        labels: (n,) classes 0..k-1.
        maps: (n, h, w).

    Returns:
        (n,) bool: the map is finite and not constant.

    Raises:
        ValueError: shapes differ, labels are no classes, or an image is not finite.
    """
    if images.ndim != 3 or not images.size or maps.shape != images.shape or labels.shape != images.shape[:1]:
        raise ValueError(
            f"found images {images.shape}, labels {labels.shape} and maps {maps.shape}, "
            "expected (n, h, w), (n,) and (n, h, w), n > 0"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise ValueError(f"labels: found {labels.dtype} from {labels.min()}, expected integers from 0")
    for number, image in enumerate(images):
        if not np.isfinite(image).all():
            raise ValueError(f"images: found NaN or infinity in image {number}, expected numbers; leave it out")
    return np.array([bool(np.isfinite(one).all() and one.min() < one.max()) for one in maps], bool)


def pixel_ranks(saliency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rank of each pixel, 0 the most important; equal values are ranked at random.

    Args:
        saliency: (h, w) finite map, larger is more important.
        rng: of the order of equal values. Without it the upper left corner would come first.

    Returns:
        (h, w) int64, each of 0..h·w-1 once.
    """
    order = rng.permutation(saliency.size)
    order = order[np.argsort(-np.asarray(saliency, np.float64).ravel()[order], kind="stable")]
    ranks = np.empty(saliency.size, np.int64)
    ranks[order] = np.arange(saliency.size)
    return ranks.reshape(saliency.shape)


def answers(predict: Predict, images: np.ndarray, labels: np.ndarray, batch: int) -> np.ndarray:
    """What the network says of the true class.

    Args:
        predict: the network.
        images: (m, h, w).
        labels: (m,) true classes, or one for all.
        batch: images asked for at once at most.

    Returns:
        (2, m) float64: 1 where the true class is the most probable one, else 0; probability of the true class.

    Raises:
        ValueError: what `predict` gives are no probabilities, or a label is none of its classes.
    """
    parts = np.array_split(images, -(-len(images) // batch))
    found = np.concatenate([np.asarray(predict(np.asarray(part, np.float32)), np.float64) for part in parts])
    if found.ndim != 2 or len(found) != len(images) or found.shape[1] < 2:
        raise ValueError(
            f"predict: found {found.shape} of {len(images)} images, expected ({len(images)}, k) with k > 1; "
            "of one probability p give the columns 1 - p and p"
        )
    if not (found >= 0).all() or not np.allclose(found.sum(1), 1, atol=1e-3):
        raise ValueError("predict: found rows that do not sum to 1, expected probabilities; apply the softmax")
    if np.max(labels) >= found.shape[1]:
        raise ValueError(f"labels: found {np.max(labels)}, expected one of the {found.shape[1]} classes of predict")
    rows = np.arange(len(found))
    return np.stack([found.argmax(1) == labels, found[rows, labels]]).astype(np.float64)
