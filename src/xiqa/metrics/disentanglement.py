"""How well single codes of a latent space stand for single factors, each score beside what permuted factors reach.

Codes are (n, K), factors (n, F). A factor is a number, or a class where its values are text or booleans.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from xiqa.seeds import stream_seed

BINS = 8
"""Quantile bins of numbers: with more, the plug-in estimate of mutual information finds much where there is none."""
PERMUTATIONS = 20
LEAST_SD = 0.05
"""Codes that vary less are not used by an autoencoder whose codes are drawn to a standard deviation of 1."""


class Dci(NamedTuple):
    """Scores from the importance of codes for factors.

    Attributes:
        disentanglement: whether a code is important for one factor only.
        completeness: whether a factor is told by one code only.
    """

    disentanglement: float
    completeness: float


def binned(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Numbers as quantile bins 0, 1, ...; classes, and numbers of as few values, as their codes."""
    codes, found = pd.factorize(np.asarray(values), sort=True)
    if len(found) <= bins:
        return codes
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(edges, values, side="right")


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Plug-in mutual information in nats of two arrays of bins (n,)."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1)
    joint /= len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / independent[there])))


def mutual_information_gap(codes: np.ndarray, factors: pd.DataFrame) -> float:
    """MIG: mean over factors of the gap between the two codes that tell most of it, over the factor's entropy.

    Reference: Chen et al., Isolating sources of disentanglement in VAEs, NeurIPS 2018, equation 6.
    """
    of_codes = [binned(code) for code in codes.T]
    gaps = []
    for name in factors:
        factor = binned(factors[name].to_numpy())
        second, first = np.sort([mutual_information(code, factor) for code in of_codes])[-2:]
        gaps.append((first - second) / mutual_information(factor, factor))
    return float(np.mean(gaps))


def dci_of(importance: np.ndarray) -> Dci:
    """Disentanglement and completeness of a matrix of importances (K, F) of codes for factors, none negative.

    Columns sum to how well their factor is told, 1 at best. As published, codes and factors are weighted relative to
    their sum; here what is not told counts as not disentangled, since else a factor that is told by chance decides.

    Reference: Eastwood and Williams, A framework for the quantitative evaluation of disentangled representations, ICLR
    2018, section 2.
    """
    importance = np.asarray(importance, np.float64)
    factors = importance.shape[1]
    of_code, of_factor = importance.sum(1), importance.sum(0)
    rows = np.divide(importance, of_code[:, None], out=np.zeros_like(importance), where=of_code[:, None] > 0)
    columns = np.divide(importance, of_factor, out=np.zeros_like(importance), where=of_factor > 0).T
    return Dci(float(of_code @ (1 - _entropy(rows)) / factors), float(of_factor @ (1 - _entropy(columns)) / factors))


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy of each row over that of equal shares."""
    if shares.shape[1] < 2:
        return np.zeros(len(shares))
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(1) / np.log(shares.shape[1])


def importances(
    train: np.ndarray, test: np.ndarray, factors_train: pd.DataFrame, factors_test: pd.DataFrame, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Importance (K, F) of codes for factors in forests, and how well these tell each factor of test images.

    Columns are what each forest's impurity lost by each code; of a factor that cannot be told they count less: they sum
    to its informativeness, at least 0: R² of a number, (accuracy - chance) / (1 - chance) of a class.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    columns, told = [], {}
    for name in factors_train:
        is_number = pd.api.types.is_numeric_dtype(factors_train[name]) and factors_train[name].dtype != bool
        kind = RandomForestRegressor if is_number else RandomForestClassifier
        forest = kind(
            n_estimators=40, min_samples_leaf=5, max_features=None, random_state=stream_seed(seed, name) % 2**32
        )
        forest.fit(train, factors_train[name])
        score = float(forest.score(test, factors_test[name]))  # R², or accuracy
        if not is_number:
            chance = factors_test[name].value_counts(normalize=True).iloc[0]
            score = (score - chance) / (1 - chance)
        told[name] = score
        columns.append(forest.feature_importances_ * max(score, 0.0))
    return np.stack(columns, 1), told


def separated_attribute_predictability(codes: np.ndarray, factors: pd.DataFrame) -> float:
    """SAP: mean over factors of the gap between the two codes that explain most of its variance.

    Of a number that is r² of a line; of a class the share of the code's variance that lies between classes.

    Reference: Kumar et al., Variational inference of disentangled latent concepts, ICLR 2018, section 3.
    """
    gaps = []
    for name in factors:
        second, first = np.sort([explained(code, factors[name]) for code in codes.T])[-2:]
        gaps.append(first - second)
    return float(np.mean(gaps))


def explained(code: np.ndarray, factor: pd.Series) -> float:
    """Share of variance that a code and a factor have in common: r² of numbers, between classes of the code's."""
    if not np.ptp(code) > 0:
        return 0.0
    if pd.api.types.is_numeric_dtype(factor) and factor.dtype != bool:
        return float(np.corrcoef(code, factor)[0, 1] ** 2)
    means = pd.Series(code).groupby(factor.to_numpy()).transform("mean").to_numpy()
    return float(means.var() / code.var())


def factor_vae_score(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], sd: np.ndarray
) -> float:
    """Share of test batches whose fixed factor follows from the code that varies least in them.

    Args:
        train: codes (B, b, K) of batches of images in which one factor is the same, and which it is (B,); these decide
            by majority what each code votes for.
        test: others of the same kind.
        sd: (K,) of the codes over images in which all factors vary; codes below `LEAST_SD` of the largest are left out.

    Reference: Kim and Mnih, Disentangling by factorising, ICML 2018, section 4.
    """
    used = np.flatnonzero(sd > LEAST_SD * sd.max())
    votes = [(codes[:, :, used].var(1) / sd[used] ** 2).argmin(1) for codes, _ in (train, test)]
    counts = np.zeros((len(used), int(max(train[1].max(), test[1].max())) + 1))
    np.add.at(counts, (votes[0], train[1]), 1)
    return float(np.mean(counts.argmax(1)[votes[1]] == test[1]))


def disentanglement(
    train: np.ndarray, test: np.ndarray, factors_train: pd.DataFrame, factors_test: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All scores of codes that need no batches of their own, beside their floors.

    Args:
        train: (n, K) codes of images that forests are fitted to.
        test: (m, K) codes of others, which are scored.
        factors_train, factors_test: their factors.
        seed: of forests and permutations.

    Returns:
        Rows score, value, floor: the mean of `PERMUTATIONS` (of DCI: three) with permuted factors; and rows factor,
        informativeness, code (number of the one that explains most of it), explained.
    """
    rng = np.random.default_rng(stream_seed(seed, "permuted factors"))

    def permuted(factors: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({name: rng.permutation(factors[name].to_numpy()) for name in factors})

    rows = []
    for name, score in (("MIG", mutual_information_gap), ("SAP", separated_attribute_predictability)):
        floor = np.mean([score(test, permuted(factors_test)) for _ in range(PERMUTATIONS)])
        rows.append({"score": name, "value": score(test, factors_test), "floor": floor})
    matrix, told = importances(train, test, factors_train, factors_test, seed)
    floors = [
        dci_of(importances(train, test, permuted(factors_train), permuted(factors_test), seed + k)[0]) for k in range(3)
    ]
    for name, value, floor in zip(Dci._fields, dci_of(matrix), np.mean(floors, axis=0), strict=True):
        rows.append({"score": f"DCI {name}", "value": value, "floor": floor})
    rows.append({"score": "DCI informativeness", "value": float(np.mean(list(told.values()))), "floor": 0.0})
    factors = []
    for name in factors_test:
        shares = [explained(code, factors_test[name]) for code in test.T]
        factors.append(
            {"factor": name, "informativeness": told[name], "code": int(np.argmax(shares)), "explained": max(shares)}
        )
    return pd.DataFrame(rows), pd.DataFrame(factors)
