"""Nearest training cases in a network's features: what any learnt prototype has to beat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Nearest(NamedTuple):
    """The nearest training cases of each test case.

    Attributes:
        rows: (m, k) of the training cases, the nearest first.
        distance: (m, k) Euclidean distances of standardised features over the root of their number.
    """

    rows: np.ndarray
    distance: np.ndarray


def nearest_cases(
    train: np.ndarray, test: np.ndarray, train_patients: np.ndarray, test_patients: np.ndarray, k: int
) -> Nearest:
    """The k nearest training cases of each test case, one for each patient, none of its own patient.

    Features are standardised by the training cases; those that do not vary are left out. Several images of one patient
    are nearly the same case: only the nearest of them counts.

    Args:
        train: (n, d) features of training cases.
        test: (m, d) features of test cases.
        train_patients: (n,).
        test_patients: (m,).
        k: how many.

    Raises:
        ValueError: fewer than k other patients, features that are no numbers, or none that varies.
    """
    train, test = (np.asarray(part, np.float64) for part in (train, test))
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError("features: found some that are no numbers; look at the images and the network")
    sd = train.std(0)
    if not (sd > 0).any():
        raise ValueError("features: found none that varies over the training cases; train the network longer")
    train, test = (((part - train.mean(0)) / np.where(sd > 0, sd, 1))[:, sd > 0] for part in (train, test))
    squares = (test**2).sum(1)[:, None] + (train**2).sum(1) - 2 * test @ train.T
    distances = np.sqrt(np.maximum(squares, 0) / train.shape[1])
    index = np.empty((len(test), k), int)
    for row, (own, patient) in enumerate(zip(distances, test_patients, strict=True)):
        order = np.argsort(own, kind="stable")
        order = order[train_patients[order] != patient]
        _, first = np.unique(train_patients[order], return_index=True)
        if len(first) < k:
            raise ValueError(f"nearest cases: found {len(first)} other patients in training, expected {k} or more")
        index[row] = order[np.sort(first)[:k]]
    return Nearest(index, np.take_along_axis(distances, index, axis=1))


def purity(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share (m,) of nearest cases (m, k) with the label (m,) of the case."""
    return (np.asarray(labels) == np.asarray(truth)[:, None]).mean(1)


def vote(labels: np.ndarray) -> np.ndarray:
    """The label (m,) of most of the nearest cases (m, k); of equals that of the nearer one."""
    labels = np.asarray(labels)
    votes = (labels[:, :, None] == labels[:, None, :]).sum(2)
    return np.take_along_axis(labels, votes.argmax(1)[:, None], axis=1)[:, 0]
