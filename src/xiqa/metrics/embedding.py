"""Feature spaces of networks in two dimensions, and how well the classes lie apart in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples

from xiqa.metrics.statistics import TOO_FEW, interval
from xiqa.seeds import stream_seed

PERPLEXITY = 30.0
PCA_FIRST = 50
"""Principal components that t-SNE sees at most: the rest is noise and costs time."""


def embed(
    features: Mapping[str, np.ndarray], table: pd.DataFrame, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """PCA, t-SNE and silhouette score of the same images in several feature spaces.

    Args:
        features: state, such as `before training`, -> (n, d) penultimate features (or pixels, flattened).
        table: n rows in the same order: image, patient, label.
        seed: seed of t-SNE.

    Returns:
        Points: state, image, label, pca_1, pca_2, tsne_1, tsne_2. Scores, one row per state: state, silhouette,
        ci_low, ci_high, n_images, n_patients, explained_1, explained_2 (share of the variance on the axes of the
        PCA), reason.

    Raises:
        ValueError: features are not one finite row per image.

    Reference: van der Maaten and Hinton, J. Mach. Learn. Res. 9 (2008) 2579; Brima 2023, figures 6 and 7.
    """
    points, scores = [], []
    for state, values in features.items():
        values = np.asarray(values, np.float64)
        if values.ndim != 2 or len(values) != len(table) or not np.isfinite(values).all():
            raise ValueError(
                f"features {state}: found shape {values.shape}, finite: {bool(np.isfinite(values).all())}; expected "
                f"({len(table)}, d), one finite row per image of the table"
            )
        components, explained = principal_components(values)
        near = neighbours(values, seed=seed)
        places = {"pca_1": components[:, 0], "pca_2": components[:, 1], "tsne_1": near[:, 0], "tsne_2": near[:, 1]}
        points.append(table[["image", "label"]].reset_index(drop=True).assign(**places).assign(state=state))
        found = silhouette(values, table["label"], table["patient"])
        scores.append({"state": state} | found | {"explained_1": explained[0], "explained_2": explained[1]})
    order = ["state", "image", "label", "pca_1", "pca_2", "tsne_1", "tsne_2"]
    return pd.concat(points, ignore_index=True)[order], pd.DataFrame(scores)


def principal_components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components.

    Args:
        features: (n, d).

    Returns:
        (n, 2) coordinates, 0 where the features have fewer dimensions, and (2,) shares of the variance (NaN where
        there is none).
    """
    coordinates, shares = np.zeros((len(features), 2)), np.zeros(2)
    if len(features) < 2 or np.ptp(features, axis=0).max() == 0:
        return coordinates, np.full(2, np.nan)
    number = min(2, *features.shape)
    model = PCA(number, svd_solver="full")
    coordinates[:, :number] = model.fit_transform(features)
    shares[:number] = model.explained_variance_ratio_
    return coordinates, shares


def neighbours(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A t-SNE map (n, 2): near images stay near; distances between clusters, and their sizes, mean nothing.

    The perplexity is 30, or a third of the other images where there are fewer than 91; NaN for fewer than four
    images or where all features are equal.
    """
    n = len(features)
    if n < 4 or np.ptp(features, axis=0).max() == 0:
        return np.full((n, 2), np.nan)
    if min(features.shape) > PCA_FIRST:
        features = PCA(PCA_FIRST, svd_solver="full").fit_transform(features)
    # One scale for all features: it changes no neighbour, and the start is then never too large to converge.
    features = features / features.std()
    model = TSNE(
        perplexity=min(PERPLEXITY, (n - 1) / 3),
        init="pca" if features.shape[1] > 1 else "random",
        random_state=stream_seed(seed, "t-SNE") % 2**32,
    )
    return model.fit_transform(features).astype(np.float64)


def silhouette(features: np.ndarray, labels: Sequence[int], patients: Sequence) -> dict:
    """Mean silhouette of the class labels, -1 (mixed up) to 1 (far apart), by Euclidean distance in feature space.

    The interval is over patients and keeps each image's silhouette, as measured among all images.

    Args:
        features: (n, d).
        labels: (n,) classes.
        patients: (n,) whose image it is.

    Returns:
        silhouette, ci_low, ci_high, n_images, n_patients, reason (why a number is NaN).

    Reference: Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53.
    """
    labels, patients = np.asarray(labels), np.asarray(patients)
    found: dict[str, float | int | str] = {"silhouette": np.nan, "ci_low": np.nan, "ci_high": np.nan}
    found |= {"n_images": len(labels), "n_patients": len(set(patients)), "reason": ""}
    if not 2 <= len(set(labels)) < len(labels):
        return found | {"reason": f"{len(set(labels))} classes in {len(labels)} images: nothing to compare"}
    values = silhouette_samples(features, labels)
    low, high = interval(values, patients, bounds=(-1, 1))
    reason = TOO_FEW if np.isnan(low) else ""
    return found | {"silhouette": float(values.mean()), "ci_low": low, "ci_high": high, "reason": reason}
