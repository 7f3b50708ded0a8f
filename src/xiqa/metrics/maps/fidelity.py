"""Fidelity: how much longer a network stays right when the least instead of the most important pixels are masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xiqa.metrics.maps.masking import Predict, answers, asks_network, over_channels, pixel_ranks, scored_maps
from xiqa.metrics.statistics import NOTHING, interval_of_estimate, jackknife, proportion_interval


class Fidelity(NamedTuple):
    """Answers of a network while pixels are masked, axes (order, image, step); NaN where a map was not scored.

    Attributes:
        correct: (2, n, steps + 1) 1 where the true class is the most probable one, else 0. Order 0 masks the most
            important pixels first (MiF), order 1 the least important first (LiF); step j masks j / steps of them.
        probability: (2, n, steps + 1) probability of the true class.
        scored: (n,) bool: the map was finite and not constant.
    """

    correct: np.ndarray
    probability: np.ndarray
    scored: np.ndarray


@asks_network
def fidelity(
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray,
    maps: np.ndarray,
    replacement: np.ndarray,
    steps: int = 40,
    batch: int = 64,
    ends: np.ndarray | None = None,
    seed: int = 0,
) -> Fidelity:
    """Mask the pixels of each image in the order of its map and in the reverse order.

    Args:
        predict: images (b, h, w) or (b, c, h, w) float32 -> class probabilities (b, k). In its place `model=`, a
            torch module that gives logits, see `module_predictor.ModulePredictor`.
        images: (n, h, w), or (n, c, h, w), whose channels are masked together.
        labels: (n,) true classes.
        maps: (n, h, w), larger is more important.
        replacement: what masked pixels become: a value that speaks against the true class (Brocki 2022: 0 for contrast
            agent, 1 for none), (n,), or of each channel, (n, c); or the blurred images, in the shape of the images.
        steps: steps of masking; 40 are 2.5 % each.
        batch: images asked for at once at most.
        ends: answers at the first and the last step from `fidelity_ends`, to share them among methods; None: asked.
        seed: of the order of equal values, for image number i.

    Raises:
        ValueError: arrays that do not belong together; `predict` gives no probabilities.

    Reference: Brocki et al. 2022, arXiv 2209.15398, section 3.1.
    """
    scored = scored_maps(images, labels, maps)
    if steps < 2:
        raise ValueError(f"steps: found {steps}, expected 2 or more")
    if ends is None:
        ends = fidelity_ends(predict, images, labels, replacement, batch)
    filling = _filling(replacement, images)
    found = np.full((2, 2, *labels.shape, steps + 1), np.nan)
    found[..., [0, -1]] = ends[:, None]
    found[:, :, ~scored] = np.nan
    masked = np.rint(np.arange(1, steps) / steps * maps[0].size)[:, None, None]
    for i in np.flatnonzero(scored):
        ranks = pixel_ranks(maps[i], np.random.default_rng([seed, int(i)]))
        hidden = np.concatenate([ranks < masked, ranks >= ranks.size - masked])
        masked_images = np.where(over_channels(hidden, images[i]), filling[i], images[i])
        given = answers(predict, masked_images, labels[i], batch)
        found[:, :, i, 1:-1] = given.reshape(2, 2, steps - 1)
    return Fidelity(found[0], found[1], scored)


@asks_network
def fidelity_ends(
    predict: Predict, images: np.ndarray, labels: np.ndarray, replacement: np.ndarray, batch: int = 64
) -> np.ndarray:
    """Answers for the unmasked and the wholly masked images, the same for all methods and both orders.

    Args:
        predict: as for `fidelity`, and so are the others.
        images: (n, h, w) or (n, c, h, w).
        labels: (n,).
        replacement: (n,), (n, c), or in the shape of the images.
        batch: images asked for at once at most.

    Returns:
        (2, n, 2): correct (0 or 1) and probability of the true class; of each image unmasked and wholly masked.
    """
    filling = np.broadcast_to(_filling(replacement, images), images.shape)
    return np.stack([answers(predict, part, labels, batch) for part in (images, filling)], axis=-1)


def class_balanced(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean over images within each class, then over classes: (..., n, m) -> (..., m).

    Args:
        values: (..., n, m), such as `Fidelity.correct`: its curves are (2, steps + 1). Images with NaN are left out.
        labels: (n,); a class without images is left out.
    """
    kept = np.isfinite(np.moveaxis(values, -2, 0).reshape(len(labels), -1)).all(1)
    classes = np.unique(labels[kept])
    means = [values[..., kept & (labels == label), :].mean(-2) for label in classes]
    return np.mean(means, axis=0) if means else np.full(values.shape[:-2] + values.shape[-1:], np.nan)


def fidelity_area(curves: np.ndarray) -> np.ndarray:
    """F, the area between the LiF and the MiF curve over the share of masked pixels, by the trapezoidal rule.

    Args:
        curves: (2, ..., steps + 1): class-balanced curves, or `correct` or `probability` as they are.

    Returns:
        (...) between -1 and 1: F of the curves, or of each image. F is linear: F of the class-balanced curves is the
        class-balanced mean of the images' F.

    Reference: Brocki 2022, figure 2 (its table 1 gives 10 F).
    """
    return np.trapezoid(curves[1] - curves[0], dx=1 / (curves.shape[-1] - 1), axis=-1)


def masking_curves(correct: np.ndarray, labels: np.ndarray, patients: Sequence) -> pd.DataFrame:
    """Accuracy while pixels are masked, over all scored images: the area between both curves is their mean F.

    Args:
        correct: (2, n, steps + 1), as in `Fidelity`; images with NaN are left out.
        labels: (n,) true classes.
        patients: (n,) whose image it is.

    Returns:
        2 (steps + 1) rows: order (MiF, LiF), x (share of masked pixels), y (accuracy), ci_low, ci_high (exact 95 %
        interval for as many trials as there are patients); the same in all rows: area (F), area_over_classes (F of the
        class-balanced curves), n, n_patients.
    """
    kept = np.isfinite(correct).all((0, 2))
    count, trials, x = int(kept.sum()), len(pd.unique(np.asarray(patients)[kept])), np.linspace(0, 1, correct.shape[-1])
    curves = correct[:, kept].mean(1) if count else np.full((2, len(x)), np.nan)
    areas = {"area": fidelity_area(curves), "area_over_classes": fidelity_area(class_balanced(correct, labels))}
    parts = []
    for order, y in zip(("MiF", "LiF"), curves, strict=True):
        ends = [proportion_interval(share * trials, trials) if count else (np.nan, np.nan) for share in y]
        low, high = np.transpose(ends)
        parts.append(pd.DataFrame({"order": order, "x": x, "y": y, "ci_low": low, "ci_high": high}))
    return pd.concat(parts, ignore_index=True).assign(**areas, n=count, n_patients=trials)


def fidelity_interval(
    correct: np.ndarray, labels: np.ndarray, groups: Sequence | None = None, *, level: float = 0.95
) -> tuple[float, float]:
    """Interval of F over patients, from the jackknife.

    Args:
        correct: (2, n, steps + 1), as in `Fidelity`; images with NaN are left out.
        labels: (n,).
        groups: (n,) patient of each image. None: each image is one.
        level: coverage of the interval.

    Returns:
        Low and high end; both NaN where a class has fewer than two patients, or all have fewer than six.

    Raises:
        ValueError: `groups` has another length.
    """
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"groups: found {len(groups)} entries, expected {len(labels)}, one per image")
    areas = fidelity_area(correct)
    kept = np.isfinite(areas)
    if not kept.any():
        return NOTHING
    names, code = np.unique(labels[kept], return_inverse=True)
    of_class = np.eye(len(names))[code]
    patients = pd.factorize(np.arange(len(areas))[kept] if groups is None else np.asarray(groups)[kept])[0]

    def balanced(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weights @ (of_class * areas[kept, None]) / (weights @ of_class)).mean(1, keepdims=True)

    estimate, pseudo_values = jackknife(balanced, patients)
    return interval_of_estimate(estimate[0], pseudo_values[:, 0], level=level)


def _filling(replacement: np.ndarray, images: np.ndarray) -> np.ndarray:
    """What masked pixels become, to be broadcast to the images."""
    replacement = np.asarray(replacement)
    allowed = [images.shape, images.shape[:1], *([images.shape[:2]] if images.ndim == 4 else [])]
    if replacement.shape not in allowed:
        raise ValueError(f"replacement: found {replacement.shape}, expected {' or '.join(map(str, allowed))}")
    return replacement.reshape(*replacement.shape, *[1] * (images.ndim - replacement.ndim))
