"""What the metrics that ask a network share: which maps are scored, the ranks of pixels, and the network's answers."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from xiqa.arrays import as_array

Score = TypeVar("Score")
Predict = Callable[[np.ndarray], np.ndarray]
"""Images (b, h, w) or (b, c, h, w) float32 -> class probabilities (b, k), k > 1."""


def asks_network(score: Callable[..., Score]) -> Callable[..., Score]:
    """Let a score take a torch module, `model=`, in place of its first argument `predict`.

    Tensors and lists are taken as arrays. With `model=` the first argument may be left out or None:
    `score(images, labels, maps, model=net)`. Torch is imported only then. What becomes of the module and of its output:
    `module_predictor.ModulePredictor`.
    """

    @functools.wraps(score)
    def asked(*args: Any, model: Any = None, **options: Any) -> Score:
        given = [_array(value) for value in args]
        if "predict" in options and not given:
            given = [options.pop("predict")]
        options = {name: _array(value) for name, value in options.items()}
        if model is not None:
            given = given[1:] if given and given[0] is None else given
            if given and callable(given[0]):
                raise ValueError("found both predict and model, expected one of them")
            given = [model, *given]
        if given and _is_module(given[0]):
            from xiqa.metrics.maps.module_predictor import ModulePredictor

            given[0] = ModulePredictor(given[0])
        elif model is not None or not given or not callable(given[0]):
            wrong = "neither predict nor model" if model is None else f"a {type(model).__name__} as model"
            raise ValueError(f"found {wrong}, expected predict, a function, or model=, a torch module")
        return score(*given, **options)

    own = inspect.signature(score)
    extra = inspect.Parameter("model", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="nn.Module | None")
    asked.__signature__ = own.replace(parameters=[*own.parameters.values(), extra])  # type: ignore[attr-defined]
    return asked


def _array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list) else as_array(value)


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")  # no torch, no module
    return torch is not None and isinstance(value, torch.nn.Module)


def over_channels(masks: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Masks (m, h, w) as they select pixels of an image (h, w), or of all channels of an image (c, h, w) alike."""
    return masks[:, None] if image.ndim == 3 else masks


def scored_maps(images: np.ndarray, labels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Which maps can be scored.

    Args:
        images: (n, h, w) or (n, c, h, w) finite.
        labels: (n,) classes 0..k-1.
        maps: (n, h, w).

    Returns:
        (n,) bool: the map is finite and not constant.

    Raises:
        ValueError: shapes differ, labels are no classes, or an image is not finite.
    """
    of_maps = (*images.shape[:1], *images.shape[-2:])
    if images.ndim not in (3, 4) or not images.size or maps.shape != of_maps or labels.shape != images.shape[:1]:
        raise ValueError(
            f"found images {images.shape}, labels {labels.shape} and maps {maps.shape}, "
            "expected (n, h, w) or (n, c, h, w), (n,) and (n, h, w), n > 0"
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
        images: (m, h, w) or (m, c, h, w).
        labels: (m,) true classes, or one for all.
        batch: images asked for at once at most.

    Returns:
        (2, m) float64: 1 where the true class is the most probable one, else 0; probability of the true class.

    Raises:
        ValueError: what `predict` gives are no probabilities, or a label is none of its classes.
    """
    parts = np.array_split(images, -(-len(images) // batch))
    dtype = getattr(predict, "dtype", np.float32)
    found = np.concatenate([np.asarray(as_array(predict(np.asarray(part, dtype))), np.float64) for part in parts])
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
