"""Scores of latent spaces against closed forms, and at their floors where codes and factors have nothing in common."""

import numpy as np
import pandas as pd
import pytest

from xiqa.metrics.disentanglement import (
    binned,
    dci_of,
    disentanglement,
    explained,
    factor_vae_score,
    mutual_information,
    mutual_information_gap,
    separated_attribute_predictability,
)

RNG = np.random.default_rng(0)
FACTORS = pd.DataFrame(
    {"a": RNG.normal(size=4000), "b": RNG.normal(size=4000), "kind": RNG.integers(0, 4, 4000).astype(str)}
)
KIND = FACTORS["kind"].astype(float).to_numpy()


def test_importances_of_known_form_have_known_scores():
    assert dci_of(np.eye(3)) == pytest.approx((1, 1))
    assert dci_of(np.full((3, 3), 1 / 3)) == pytest.approx((0, 0), abs=1e-12)
    assert dci_of(0.5 * np.eye(3)) == pytest.approx((0.5, 0.5))  # half of each factor is not told
    # Two codes share the first factor, one has the second: each code has one factor, but not each factor one code.
    shared = np.array([[0.5, 0], [0.5, 0], [0, 1]])
    assert dci_of(shared) == pytest.approx((1, (1 - np.log(2) / np.log(3) + 1) / 2))
    assert dci_of(np.zeros((3, 2))) == (0, 0)


def test_mutual_information_of_equal_and_of_independent_bins():
    assert mutual_information(np.arange(8), np.arange(8)) == pytest.approx(np.log(8))
    both = np.array([(i, j) for i in range(4) for j in range(4)])
    assert mutual_information(*both.T) == pytest.approx(0, abs=1e-12)
    # Eight bins of independent numbers: (B - 1)^2 / 2n nats by chance alone.
    x, y = RNG.normal(size=(2, 200, 4000))
    chance = np.mean([mutual_information(binned(a), binned(b)) for a, b in zip(x, y, strict=True)])
    assert chance == pytest.approx(49 / 8000, rel=0.05)


def test_bins_are_quantiles_of_numbers_and_classes_as_they_are():
    assert np.bincount(binned(FACTORS["a"].to_numpy())).tolist() == [500] * 8
    assert sorted(set(binned(FACTORS["kind"].to_numpy()))) == [0, 1, 2, 3]


def test_codes_that_are_the_factors_have_the_highest_scores_and_mixed_ones_none():
    own = np.stack([FACTORS["a"], -3 * FACTORS["b"], KIND, RNG.normal(size=4000)], 1)
    assert mutual_information_gap(own, FACTORS) > 0.98
    assert separated_attribute_predictability(own, FACTORS) > 0.98
    turned = np.stack([FACTORS["a"] + FACTORS["b"], FACTORS["a"] - FACTORS["b"]], 1)
    of_two = FACTORS[["a", "b"]]
    assert mutual_information_gap(turned, of_two) < 0.03
    assert separated_attribute_predictability(turned, of_two) < 0.03
    assert explained(turned[:, 0], FACTORS["a"]) == pytest.approx(0.5, abs=0.03)
    assert explained(KIND, FACTORS["kind"]) == pytest.approx(1)


def test_all_scores_beside_their_floors():
    own = np.stack([FACTORS["a"], FACTORS["b"], KIND], 1)
    half = slice(0, 500), slice(500, 1000)
    scores, factors = disentanglement(own[half[0]], own[half[1]], FACTORS[half[0]], FACTORS[half[1]], seed=0)
    scores = scores.set_index("score")
    assert (scores["value"] > 0.9).all()
    assert (scores["floor"] < 0.1).all()
    assert factors["code"].tolist() == [0, 1, 2]
    noise = RNG.normal(size=(1000, 3))
    scores, _ = disentanglement(noise[half[0]], noise[half[1]], FACTORS[half[0]], FACTORS[half[1]], seed=0)
    scores = scores.set_index("score")
    assert abs(scores.loc["MIG", "value"] - scores.loc["MIG", "floor"]) < 0.02
    assert scores.loc["DCI informativeness", "value"] < 0.05


def test_the_fixed_factor_follows_from_the_code_that_stays():
    def batches(seed, mixed=False):
        rng = np.random.default_rng(seed)
        factor = rng.integers(0, 3, 200)
        codes = rng.normal(size=(200, 16, 4))
        codes[:, :, 3] *= 1e-3  # a code that is not used is no evidence
        for batch, which in enumerate(factor):
            codes[batch, :, which] = codes[batch, 0, which] + 0.01 * codes[batch, :, which]
        turn = np.linalg.qr(rng.normal(size=(4, 4)))[0] if mixed else np.eye(4)
        return codes @ turn, factor

    sd = np.array([1, 1, 1, 1e-3])
    assert factor_vae_score(batches(0), batches(1), sd) == 1
    codes, factor = batches(2)
    assert factor_vae_score((codes, RNG.permutation(factor)), (codes, RNG.permutation(factor)), sd) < 0.5
