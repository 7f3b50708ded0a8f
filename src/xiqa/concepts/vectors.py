"""Directions of a layer that stand for a concept: patterns, and the published filters beside them.

Activations `a` (n, k) are the mean over all places of a layer's k channels, `c` (n,) is the value of the concept in
each image.
"""

from __future__ import annotations

import numpy as np

RIDGE = 1e-3
"""Penalty of a regression concept vector, as a share of the mean variance of the channels."""


def pattern(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """How the activations change with the concept, per unit of it: Cov(a, c) / Var(c), (k,).

    A filter that reads the concept out cancels what disturbs it; the pattern is what the concept itself does.

    Raises:
        ValueError: the concept does not vary.

    Reference: Haufe et al., NeuroImage 87 (2014) 96; Pahde et al., arXiv 2202.03482 (pattern-based CAV).
    """
    c = varying(c)
    return (np.asarray(a, np.float64) - np.mean(a, 0)).T @ c / (c @ c)


def paired_pattern(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean change of the activations (n, k) where only the concept was changed, as by a degradation."""
    return np.mean(np.asarray(after, np.float64) - before, axis=0)


def concept_activation_vector(a: np.ndarray, present: np.ndarray, seed: int = 0) -> np.ndarray:
    """Unit normal of a linear classifier of images with the concept against those without it, (k,).

    Logistic regression on standardised channels; the normal is that of the channels themselves.

    Args:
        a: (n, k).
        present: (n,) bool.
        seed: of the solver.

    Reference: Kim et al., ICML 2018 (there a hinge loss by stochastic gradient descent).
    """
    from sklearn.linear_model import LogisticRegression

    a = np.asarray(a, np.float64)
    if len(set(np.asarray(present).tolist())) < 2:
        raise ValueError("concept: found images of one kind, expected some with the concept and some without")
    sd = a.std(0)
    scaled = (a - a.mean(0)) / np.where(sd > 0, sd, 1)
    normal = LogisticRegression(max_iter=2000, random_state=seed).fit(scaled, present).coef_[0]
    return unit(np.divide(normal, sd, out=np.zeros_like(normal), where=sd > 0))


def regression_vector(a: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Regression concept vector: c ≈ β a + β₀ with a small ridge; returns β / ‖β‖ (k,), β (k,) and β₀.

    Reference: Graziani et al., arXiv 1904.04520 (2018), on pooled activations as Graziani et al. 2020.
    """
    a, centred = np.asarray(a, np.float64), varying(c)
    mean = a.mean(0)
    gram = (a - mean).T @ (a - mean)
    penalty = RIDGE * np.trace(gram) / len(gram)
    beta = np.linalg.solve(gram + penalty * np.eye(len(gram)), (a - mean).T @ centred)
    return unit(beta), beta, float(np.mean(c) - mean @ beta)


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector of length 1 in its direction; zero stays zero."""
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def varying(c: np.ndarray) -> np.ndarray:
    """The concept's values less their mean; a ValueError where they are all the same, or no numbers."""
    c = np.asarray(c, np.float64)
    if not np.isfinite(c).all():
        raise ValueError(
            f"concept: found {np.count_nonzero(~np.isfinite(c))} values that are no numbers; leave them out"
        )
    centred = c - c.mean()
    if not np.ptp(c) > 0:
        raise ValueError(f"concept: found the value {c[0]:g} in all {len(c)} images, expected one that varies")
    return centred
