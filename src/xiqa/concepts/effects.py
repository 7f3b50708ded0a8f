"""What the output of a network does along a concept: effects with their significance, published scores, and truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xiqa.concepts.vectors import unit, varying
from xiqa.seeds import stream_seed

PERMUTATIONS = 1999
"""p-values are multiples of 1 / 2000: small enough to be told after a correction for some forty effects."""
UNDEFINED_SPREAD = 1e-6
"""Where the scores of all images are the same but for this share of their mean, Br divides by rounding."""


class Effect(NamedTuple):
    """The effect of a concept on an output.

    Attributes:
        effect: change of the output, in its unit, per standard deviation of the concept.
        p: share of permuted concepts with an effect as large in size, (1 + #) / (1 + R).
    """

    effect: float
    p: float


def effect(
    a: np.ndarray,
    g: np.ndarray,
    c: np.ndarray,
    groups: Sequence | np.ndarray | None = None,
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> Effect:
    """Pattern effect of a concept: E = SD · mean over images of g · Cov(a, c) / Var(c).

    Args:
        a: (n, k) mean activations of a layer over its places, of images of one class.
        g: (m, k) sum over places of the output's gradient by them, of the images that the effect is told of.
        c: (n,) values of the concept.
        groups: (n,) patients: their images are alike, so that the concept is permuted from patient to patient, as a
            whole and among patients with as many images. None: each image is its own.
        seed: of the permutations of the concept.
        permutations: how many.

    Raises:
        ValueError: the concept does not vary, or is no number somewhere.

    Reference: docs/reference/concepts.md; pattern by Haufe et al. 2014.
    """
    a, slope = np.asarray(a, np.float64), np.mean(np.asarray(g, np.float64), axis=0)
    centred = varying(c)
    read = (a - a.mean(0)) @ slope  # SD · slope · Cov(a, c) / Var(c) needs this product only
    scale = np.sqrt(len(centred)) / np.linalg.norm(centred) / len(centred)
    found = float(read @ centred * scale)
    if not permutations:
        return Effect(found, float("nan"))
    rng = np.random.default_rng(stream_seed(seed, "permuted concept"))
    strata = _strata(np.arange(len(centred)) if groups is None else np.asarray(groups))
    drawn = np.array([read @ _permuted(centred, strata, rng) for _ in range(permutations)]) * scale
    # Rounding must not make a permutation that changes nothing smaller than what it equals.
    larger = np.count_nonzero(np.abs(drawn) >= abs(found) * (1 - 1e-12))
    return Effect(found, (1 + larger) / (1 + permutations))


def _strata(groups: np.ndarray) -> list[np.ndarray]:
    """Images of the groups (groups, images), those with equally many images in one array."""
    codes = np.unique(groups, return_inverse=True)[1]
    order, counts = np.argsort(codes, kind="stable"), np.bincount(codes)
    images = np.split(order, counts.cumsum()[:-1])
    return [np.array([of for of in images if len(of) == count]) for count in np.unique(counts)]


def _permuted(values: np.ndarray, strata: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Values (n,) that have changed their groups, all of a group together."""
    moved = np.empty_like(values)
    for images in strata:
        moved[images] = values[rng.permutation(images)]
    return moved


def along(g: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Sensitivities (n,) of the output along a direction (k,) of a layer: S = g · v."""
    return np.asarray(g, np.float64) @ unit(vector)


def tcav(g: np.ndarray, vector: np.ndarray) -> float:
    """Share of images whose output rises along a direction.

    The gradient is that of the logit; the published code takes that of the loss, whose sign is the other one.

    Reference: Kim et al., ICML 2018, equation 2.
    """
    return float(np.mean(along(g, vector) > 0))


def bidirectional_relevance(g: np.ndarray, vector: np.ndarray, r_squared: float) -> float:
    """Br = R² · mean(S) / SD(S) of a regression concept vector; NaN where S does not vary, which makes it undefined.

    Args:
        g: (n, k).
        vector: (k,).
        r_squared: of the concept, on images that the vector was not fitted to; below 0 it counts as 0.

    Reference: Graziani et al., arXiv 1904.04520 (2018), equation 4.
    """
    scores = along(g, vector)
    mean, spread = float(scores.mean()), float(scores.std())
    if not spread > UNDEFINED_SPREAD * abs(mean):
        return float("nan")
    return max(r_squared, 0.0) * mean / spread


def r_squared(predicted: np.ndarray, c: np.ndarray) -> float:
    """Share of the concept's variance that a prediction explains; negative where the mean would predict better."""
    centred = varying(c)
    return float(1 - np.square(np.asarray(c) - predicted).sum() / (centred @ centred))


def true_effect(f: np.ndarray, c: np.ndarray, groups: Sequence) -> tuple[float, float]:
    """Slope of the output on a concept that was varied independently of all else, per SD of the concept, and its SE.

    Args:
        f: (n,) the output of designed images of one class.
        c: (n,) the concept.
        groups: (n,) patients: errors of one patient are not independent.

    Returns:
        b = SD · Cov(f, c) / Var(c), and its standard error over patients (sandwich estimate, with n / (n - 1)).
    """
    centred, f = varying(c), np.asarray(f, np.float64)
    squares = centred @ centred
    slope = float(f @ centred / squares)
    rest = (f - f.mean() - slope * centred) * centred
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    number = codes.max() + 1
    of_patients = np.bincount(codes, rest)
    error = np.sqrt((of_patients**2).sum() * number / max(number - 1, 1)) / squares
    sd = float(np.sqrt(squares / len(centred)))
    return sd * slope, sd * float(error)


class Agreement(NamedTuple):
    """How estimated effects agree with true ones.

    Attributes:
        beyond: how many true effects lie beyond two standard errors of 0.
        sign_right: share of those whose estimate has their sign.
        r: Pearson correlation of estimates with truths, of all.
        slope: of the estimates on the truths through the origin; below 1 they are too small.
    """

    beyond: int
    sign_right: float
    r: float
    slope: float


def agreement(estimated: np.ndarray, true: np.ndarray, se: np.ndarray) -> Agreement:
    """How effects (m,) agree with true ones (m,) of standard error (m,)."""
    estimated, true, se = (np.asarray(values, np.float64) for values in (estimated, true, se))
    clear = np.abs(true) > 2 * se
    right = float(np.mean(np.sign(estimated[clear]) == np.sign(true[clear]))) if clear.any() else float("nan")
    varied = len(true) > 2 and estimated.std() > 0 and true.std() > 0
    r = float(np.corrcoef(estimated, true)[0, 1]) if varied else float("nan")
    squares = true @ true
    return Agreement(int(clear.sum()), right, r, float(estimated @ true / squares) if squares > 0 else float("nan"))
