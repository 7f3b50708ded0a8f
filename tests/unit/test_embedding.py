"""Feature spaces: PCA is the known decomposition, t-SNE keeps clusters, the silhouette is scikit-learn's."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from xiqa.metrics.embedding import embed, neighbours, principal_components, silhouette


def clusters(n: int = 60, d: int = 5, apart: float = 6.0, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Three classes around three corners, two images of each patient."""
    labels = np.arange(n) % 6 // 2
    features = np.random.default_rng(seed).normal(0, 1, (n, d)) + apart * np.eye(3, d)[labels]
    images = [f"i{i}" for i in range(n)]
    return features, pd.DataFrame({"image": images, "patient": np.arange(n) // 2, "label": labels})


def test_principal_components_are_the_longest_axes_of_an_ellipsoid():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(0, 1, (6, 6)))[0]
    known = rng.normal(0, 1, (4000, 6)) * [3, 2, 0.1, 0.1, 0.1, 0.1]
    coordinates, shares = principal_components(known @ axes.T + 7)
    assert shares == pytest.approx([9 / 13.04, 4 / 13.04], abs=0.02)
    for axis in (0, 1):
        assert abs(np.corrcoef(coordinates[:, axis], known[:, axis])[0, 1]) > 0.995


@pytest.mark.parametrize("seed", [0, 1])
def test_tsne_keeps_neighbours_together_and_repeats_by_seed(seed):
    features, table = clusters()
    places = neighbours(features, seed=seed)
    assert (places == neighbours(features, seed=seed)).all()
    assert KNeighborsClassifier(3).fit(places, table["label"]).score(places, table["label"]) == 1


def test_silhouette_is_that_of_scikit_learn_with_its_interval():
    features, table = clusters(apart=2.0)
    found = silhouette(features, table["label"], table["patient"])
    assert found["silhouette"] == pytest.approx(silhouette_score(features, table["label"]))
    assert found["ci_low"] < found["silhouette"] < found["ci_high"]
    assert (found["n_images"], found["n_patients"], found["reason"]) == (60, 30, "")


def test_classes_that_move_apart_raise_the_silhouette():
    before, table = clusters(apart=0.0)
    after, _ = clusters(apart=6.0)
    points, found = embed({"before": before, "after": after}, table)
    assert found["state"].tolist() == ["before", "after"]
    assert found["ci_high"][0] < 0.1 < 0.5 < found["ci_low"][1]
    assert points.groupby("state").size().tolist() == [60, 60]
    assert points.drop(columns="state").notna().all(axis=None)
    assert ((found["explained_1"] >= found["explained_2"]) & (found["explained_2"] > 0)).all()


@pytest.mark.parametrize(
    ("features", "finite"),
    [
        (np.zeros((12, 4)), False),
        (np.arange(12.0)[:, None], True),
        (np.arange(24.0).reshape(3, 8), False),
        (np.random.default_rng(0).normal(0, 1e-12, (12, 300)), True),
    ],
)
def test_degenerate_features_give_a_table_without_a_warning(features, finite):
    n = len(features)
    table = pd.DataFrame({"image": range(n), "patient": 0, "label": [0] * (n - 1) + [1]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points, found = embed({"before": features}, table)
    assert points[["pca_1", "pca_2"]].notna().all(axis=None)
    assert points[["tsne_1", "tsne_2"]].notna().all(axis=None) == finite
    assert found["reason"][0] == "too few patients"


def test_one_class_has_no_silhouette():
    features, table = clusters()
    found = silhouette(features, np.zeros(60), table["patient"])
    assert np.isnan(found["silhouette"])
    assert found["reason"] == "1 classes in 60 images: nothing to compare"


@pytest.mark.parametrize("features", [np.zeros((59, 4)), np.full((60, 4), np.nan), np.zeros((60, 2, 2))])
def test_features_of_other_images_or_nan_are_refused(features):
    with pytest.raises(ValueError, match=r"features before: .*expected \(60, d\)"):
        embed({"before": features}, clusters()[1])
