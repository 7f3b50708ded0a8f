"""Nearest training cases: by hand, against scikit-learn, and what is refused."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from xiqa.prototypes.nearest import nearest_cases, purity, vote


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_they_are_those_of_scikit_learn_where_each_image_is_a_patient(kind):
    draw = np.random.default_rng(0)
    train, test = draw.normal(3, 2, (50, 6)).astype(kind), draw.normal(3, 2, (9, 6)).astype(kind)
    found = nearest_cases(train, test, np.arange(50), np.arange(100, 109), 5)
    mean, sd = train.astype(float).mean(0), train.astype(float).std(0)
    theirs = NearestNeighbors(n_neighbors=5).fit((train - mean) / sd)
    distance, index = theirs.kneighbors((test - mean) / sd)
    assert np.array_equal(found.rows, index)
    np.testing.assert_allclose(found.distance, distance / np.sqrt(6), rtol=1e-6)


def test_no_case_is_of_the_own_patient_and_each_patient_comes_once():
    train = np.array([[0.0], [0.1], [0.2], [1.0], [2.0]])
    found = nearest_cases(train, np.array([[0.05]]), np.array(["a", "b", "b", "c", "d"]), np.array(["a"]), 3)
    assert found.rows.tolist() == [[1, 3, 4]]


def test_purity_and_vote():
    labels = np.array([[0, 0, 1], [2, 1, 1], [2, 1, 0]])
    assert purity(labels, [0, 2, 3]).tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert vote(labels).tolist() == [0, 1, 2]  # of three that differ the nearest


def test_features_that_do_not_vary_take_no_part():
    train, test = np.array([[0.0, 5], [1.0, 5], [2.0, 5]]), np.array([[0.9, 7]])
    assert nearest_cases(train, test, np.arange(3), np.array([9]), 1).rows.tolist() == [[1]]
    with pytest.raises(ValueError, match="found none that varies"):
        nearest_cases(np.ones((3, 2)), np.ones((1, 2)), np.arange(3), np.array([9]), 1)
    with pytest.raises(ValueError, match="found 2 other patients in training, expected 3 or more"):
        nearest_cases(train, test, np.array([9, 1, 2]), np.array([9]), 3)
    with pytest.raises(ValueError, match="no numbers"):
        nearest_cases(train * np.nan, test, np.arange(3), np.array([9]), 1)
