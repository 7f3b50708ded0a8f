"""What counterfactuals are worth: the gate, how small and sparse a change is, whether it looks real, and is true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xiqa.metrics.statistics import interval
from xiqa.seeds import stream_seed

LEAST_AGREEMENT = 0.9
"""No counterfactual is shown where fewer reconstructions are decided as their images are."""
HELD = 0.9
COMPONENTS = 16
FEWEST_IMAGES = 32


def passes_gate(decided: np.ndarray, reconstruction_decided: np.ndarray) -> tuple[float, bool]:
    """Share of images (n,) whose reconstruction is decided as they are, and whether that is 0.9 or more.

    Where it is less, an autoencoder changes decisions by itself, and a shift of its code does not tell what the network
    looks at.
    """
    agreement = float(np.mean(np.asarray(decided) == np.asarray(reconstruction_decided)))
    return agreement, agreement >= LEAST_AGREEMENT


def sparsity(change: np.ndarray) -> np.ndarray:
    """Least share of pixels (n,) that hold 90 % of Σ|Δ|; NaN where nothing changed.

    Args:
        change: (n, h, w) Δ = x' - x.
    """
    size = -np.sort(-_flat(np.abs(change)), axis=1)
    total = size.sum(1, keepdims=True)
    # A sum of equal parts may end a rounding below the share that it is.
    needed = 1 + np.count_nonzero(size.cumsum(1) < HELD * total * (1 - 1e-12), axis=1)
    return np.where(total[:, 0] > 0, needed / size.shape[1], np.nan)


def on_mask(change: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share (n,) of Σ|Δ| on the mask, and the mask's share of the area, which a change anywhere would have.

    Args:
        change: (n, h, w).
        masks: (n, h, w) bool. Where one is empty or nothing changed, both shares are NaN.
    """
    size, inside = _flat(np.abs(change)), _flat(masks).astype(bool)
    total = size.sum(1)
    known = (total > 0) & inside.any(1)
    share = np.divide((size * inside).sum(1), total, out=np.full(len(size), np.nan), where=known)
    return share, np.where(known, inside.mean(1), np.nan)


def correlation(change: np.ndarray, true_change: np.ndarray) -> np.ndarray:
    """Pearson's r (n,) of a change (n, h, w) with that of the exact counterfactual; NaN where one of them is even."""
    first, second = (_flat(values) - _flat(values).mean(1, keepdims=True) for values in (change, true_change))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.divide((first * second).sum(1), norms, out=np.full(len(first), np.nan), where=norms > 0)


def im1(images: np.ndarray, by_asked: np.ndarray, by_own: np.ndarray, epsilon: float = 1e-12) -> np.ndarray:
    """IM1 (n,) = ‖x' - AE_d(x')‖² / (‖x' - AE_c(x')‖² + ε): below 1, x' looks rather like the class asked for.

    Args:
        images: (n, h, w) counterfactuals.
        by_asked: (n, h, w) their reconstructions by an autoencoder of images of the class asked for, d.
        by_own: (n, h, w) by one of images of the class that the image had, c.
        epsilon: keeps a perfect reconstruction from a division by 0.

    Reference: Van Looveren and Klaise, Interpretable counterfactual explanations guided by prototypes, 2019.
    """
    asked, own = (np.square(_flat(images) - _flat(made)).sum(1) for made in (by_asked, by_own))
    return asked / (own + epsilon)


def frechet_distance(features: np.ndarray, reference: np.ndarray, components: int = COMPONENTS) -> float:
    """Fréchet distance ‖μ₁-μ₂‖² + Tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) of features on principal components of the reference.

    It is that of the explained network's features, and hence no FID. It is biased by the number of images: compare it
    with `frechet_floor` of as many.

    Args:
        features: (n, k).
        reference: (m, k) of real images.
        components: fewer where there are fewer features.

    Raises:
        ValueError: fewer than 32 images on one side.
    """
    if (fewest := min(len(features), len(reference))) < FEWEST_IMAGES:
        raise ValueError(
            f"features: found {fewest} images, expected {FEWEST_IMAGES} or more on each side; a covariance of fewer "
            "says nothing"
        )
    reference = np.asarray(reference, np.float64)
    mean = reference.mean(0)
    axes = np.linalg.svd(reference - mean, full_matrices=False)[2][:components]
    first, second = ((np.asarray(values, np.float64) - mean) @ axes.T for values in (features, reference))
    of_first, of_second = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second))
    root = _root(of_second)
    cross = np.sqrt(np.linalg.eigvalsh(root @ of_first @ root).clip(0)).sum()
    distance = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(of_first) + np.trace(of_second) - 2 * cross
    return max(float(distance), 0.0)


def frechet_floor(reference: np.ndarray, seed: int, draws: int = 20) -> float:
    """Mean Fréchet distance of random halves of real images (m, k) from each other: what no counterfactual goes below.

    Raises:
        ValueError: fewer than 64 images.
    """
    rng = np.random.default_rng(stream_seed(seed, "halves"))
    halves = (np.array_split(rng.permutation(len(reference)), 2) for _ in range(draws))
    return float(np.mean([frechet_distance(reference[one], reference[other]) for one, other in halves]))


def nearest_of_class(images: np.ndarray, asked: np.ndarray, pool: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Row (n,) of the nearest image of a pool that has the class asked for: a counterfactual that is no explanation.

    Args:
        images: (n, h, w).
        asked: (n,) classes.
        pool: (m, h, w) training images.
        labels: (m,) their classes.

    Raises:
        ValueError: the pool has no image of a class that is asked for.
    """
    found = np.empty(len(images), np.int64)
    for name in np.unique(asked):
        rows, of = np.flatnonzero(labels == name), np.flatnonzero(asked == name)
        if not len(rows):
            raise ValueError(f"labels: found no training image of class {name}, expected one that could be shown")
        own, others = _flat(images[of]), _flat(pool[rows])
        squares = (others**2).sum(1) - 2 * own @ others.T
        found[of] = rows[squares.argmin(1)]
    return found


def of_images(
    change: np.ndarray,
    valid: np.ndarray,
    masks: np.ndarray | None = None,
    true_change: np.ndarray | None = None,
    transfer_valid: np.ndarray | None = None,
) -> pd.DataFrame:
    """Scores of each counterfactual, a row each; those of the change are NaN where the decision did not change.

    Args:
        change: (n, h, w) Δ in gray values of 0-1.
        valid: (n,) whether the class asked for was reached.
        masks: (n, h, w) bool of what the class rests on; None: not known.
        true_change: (n, h, w) of the exact counterfactual; None: not known.
        transfer_valid: (n,) whether a network of another seed sees the class asked for, too; None: not asked.
    """
    valid = np.asarray(valid, bool)
    flat = _flat(np.abs(change))
    scores = {"mean_change": flat.mean(1), "largest_change": flat.max(1), "sparsity": sparsity(change)}
    if masks is not None:
        scores["on_mask"], scores["mask_area"] = on_mask(change, masks)
    if true_change is not None:
        scores["r_with_truth"] = correlation(change, true_change)
    table = pd.DataFrame({name: np.where(valid, values, np.nan) for name, values in scores.items()})
    if transfer_valid is not None:
        table.insert(0, "transfer_valid", np.asarray(transfer_valid, float))
    table.insert(0, "valid", valid.astype(float))
    return table


def summary(scores: pd.DataFrame, patients: Sequence | np.ndarray) -> pd.DataFrame:
    """Mean of each score over the images that have it, with its interval over patients.

    Args:
        scores: of `of_images`.
        patients: (n,).

    Returns:
        metric, value, ci_low, ci_high, n_images, n_patients; NaN where no image has the score.
    """
    patients, rows = np.asarray(patients), []
    for name in scores:
        values = scores[name].to_numpy(float)
        known = np.isfinite(values)
        # All but r are shares, or changes of gray values of 0-1.
        low, high = interval(values[known], patients[known], bounds=(-1 if name == "r_with_truth" else 0, 1))
        value = values[known].mean() if known.any() else np.nan
        rows.append({"metric": name, "value": value, "ci_low": low, "ci_high": high, "n_images": int(known.sum()),
                     "n_patients": len(set(patients[known]))})  # fmt: skip
    return pd.DataFrame(rows)


def _flat(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _root(matrix: np.ndarray) -> np.ndarray:
    """Square root of a positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
