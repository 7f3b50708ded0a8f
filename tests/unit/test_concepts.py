"""Concept vectors and effects against closed forms, and against captum's TCAV."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from xiqa.concepts.effects import (
    agreement,
    bidirectional_relevance,
    effect,
    r_squared,
    tcav,
    true_effect,
)
from xiqa.concepts.responses import responses
from xiqa.concepts.scores import Responses, concept_agreement, concept_effects
from xiqa.concepts.vectors import concept_activation_vector, paired_pattern, pattern, regression_vector

KINDS = pytest.mark.parametrize("kind", [np.float32, np.float64])


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@KINDS
def test_in_front_of_a_linear_head_the_effect_is_the_slope_of_the_output(kind):
    a, w = draws(0, 200, 5).astype(kind), draws(1, 5).astype(kind)
    c = draws(2, 200) + a[:, 0]
    f = a.astype(float) @ w.astype(float)
    found = effect(a, np.tile(w, (7, 1)), c, seed=0, permutations=0).effect
    slope, _ = true_effect(f, c, np.arange(200))
    assert found == pytest.approx(slope, rel=1e-10 if kind is np.float64 else 1e-5)
    assert slope == pytest.approx(stats.linregress(c, f).slope * c.std(), rel=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_responses_of_any_module_are_means_of_activations_and_sums_of_gradients(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).to(kind)
    x, target = torch.randn(7, 1, 8, 8, dtype=kind), torch.tensor([0, 1, 0, 1, 1, 0, 1])
    found = responses(net, x, target, ["1"])
    with torch.no_grad():
        logits = net(x)[torch.arange(7), target]
        mean = net[1](net[0](x)).mean((2, 3))
    close = {"rtol": 1e-5 if kind == torch.float32 else 1e-12}
    np.testing.assert_allclose(found.output, logits, **close)
    np.testing.assert_allclose(found.activations["1"], mean, **close)
    # Behind the mean over places stands the linear layer: its weights are the gradient of each mean.
    np.testing.assert_allclose(found.gradients["1"], net[4].weight.detach()[target], **close)
    with pytest.raises(ValueError, match="layer: found no 9 in Sequential, expected one such as 0, 1, 2, 3, 4"):
        responses(net, x, target, ["9"])


def test_a_filter_cancels_what_disturbs_and_a_pattern_is_what_the_concept_does():
    """a = (c + d, d): the filter that reads c is (1, -1), what c does is (1, 0)."""
    c, d = draws(3, 2, 200_000)
    a = np.stack([c + d, d], 1)
    assert pattern(a, c) == pytest.approx([1, 0], abs=0.01)
    assert regression_vector(a, c)[0] == pytest.approx([2**-0.5, -(2**-0.5)], abs=0.01)
    cav = concept_activation_vector(a[:2000], c[:2000] > 0)
    assert cav == pytest.approx([2**-0.5, -(2**-0.5)], abs=0.05)
    # What an output does along the filter says nothing of the concept: f = d.
    g = np.tile([0.0, 1.0], (50, 1))
    assert abs(effect(a, g, c, seed=0, permutations=0).effect) < 0.01
    assert tcav(g, cav) == 0.0


def test_a_concept_that_is_linear_in_the_activations_is_read_out_whole():
    a, w = draws(4, 300, 6), draws(5, 6)
    c = a @ w + 3
    direction, beta, offset = regression_vector(a, c)
    assert direction @ w / np.linalg.norm(w) == pytest.approx(1, abs=1e-5)
    assert r_squared(a @ beta + offset, c) == pytest.approx(1, abs=1e-5)


def test_paired_patterns_are_what_a_change_does():
    a, step = draws(6, 40, 3), np.array([0.5, 0.0, -1.0])
    assert paired_pattern(a, a + step) == pytest.approx(step)


def test_p_values_of_a_concept_without_any_effect_are_even():
    a, g = draws(7, 60, 4), draws(8, 20, 4)
    p = [effect(a, g, draws(100 + k, 60), seed=k, permutations=99).p for k in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert min(p) >= 0.01
    certain = effect(a, np.tile([1.0, 0, 0, 0], (5, 1)), a[:, 0], seed=0)
    assert certain.p == pytest.approx(1 / 2000)


@pytest.mark.parametrize("constant", [True, False])
def test_images_of_a_patient_do_not_count_as_so_many_patients(constant):
    """Activations are those of the patient; with images permuted one by one, a third of these would have p <= 0.05."""
    patients, p = np.repeat(np.arange(40), 5), []
    for k in range(200):
        draw = np.random.default_rng(k)
        a = np.repeat(draw.standard_normal((40, 3)), 5, axis=0) + 0.2 * draw.standard_normal((200, 3))
        c = np.repeat(draw.standard_normal(40), 5) + (0 if constant else 0.3) * draw.standard_normal(200)
        p.append(effect(a, np.ones((4, 3)), c, patients, seed=k, permutations=99).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.005


def test_scores_as_published():
    g = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 5.0], [4.0, 1.0]])
    assert tcav(g, np.array([3.0, 0.0])) == 0.75
    s = np.array([1.0, 2, -1, 4])
    assert bidirectional_relevance(g, np.array([1.0, 0]), 0.5) == pytest.approx(0.5 * s.mean() / s.std())
    assert bidirectional_relevance(g, np.array([1.0, 0]), -3.0) == 0.0
    # Where all images have the same score, as in front of pooling and a linear layer, Br is rounding over rounding.
    assert np.isnan(bidirectional_relevance(np.tile([1.0, 2.0], (9, 1)) + 1e-9 * draws(9, 9, 2), np.ones(2), 1.0))


@pytest.mark.long
def test_captum_gives_the_same_scores_from_its_own_vectors(tmp_path):
    captum = pytest.importorskip("captum.concept")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double().eval()
    x = torch.randn(40, 4, dtype=torch.float64)
    layer = net[1](net[0](x)).detach().requires_grad_()
    g = torch.autograd.grad(net[2](layer)[:, 1].sum(), layer)[0].numpy()
    vector = draws(10, 6)

    class Given(captum.Classifier):
        """A classifier whose weights are the vector: what captum multiplies gradients with."""

        def __init__(self):
            super().__init__()

        def train_and_eval(self, dataloader, **kwargs):
            return {"accs": 1.0}

        def weights(self):
            return torch.stack([torch.from_numpy(vector), -torch.from_numpy(vector)])

        def classes(self):
            return [0, 1]

    concepts = [captum.Concept(k, name, [torch.randn(8, 4).double()]) for k, name in enumerate("ab")]
    found = captum.TCAV(net, ["1"], classifier=Given(), save_path=str(tmp_path)).interpret(x, [concepts], target=1)
    assert float(found["0-1"]["1"]["sign_count"][0]) == pytest.approx(tcav(g, vector))


def test_the_standard_error_of_a_true_effect_covers_it_with_patients():
    """Images of a patient share a shift of the output: a standard error over images would be too small."""
    covered = []
    for k in range(300):
        draw = np.random.default_rng(k)
        patient = np.repeat(np.arange(40), 5)
        c = np.repeat(draw.standard_normal(40), 5) + 0.3 * draw.standard_normal(200)
        f = 0.7 * c + np.repeat(draw.standard_normal(40), 5)
        slope, se = true_effect(f, c, patient)
        covered.append(abs(slope / c.std() - 0.7) <= 1.96 * se / c.std())
    assert 0.88 <= np.mean(covered) <= 0.98


def test_agreement_counts_signs_of_what_is_clear():
    found = agreement([1.0, -2.0, 0.5, 3.0], [2.0, -4.0, -0.1, 6.0], [0.1, 0.1, 0.1, 0.1])
    assert found == agreement([1.0, -2.0, 0.5, 3.0], [2.0, -4.0, -0.1, 6.0], np.full(4, 0.1))
    assert (found.beyond, found.sign_right) == (3, 1.0)
    assert found.r == pytest.approx(np.corrcoef([1, -2, 0.5, 3], [2, -4, -0.1, 6])[0, 1])
    assert found.slope == pytest.approx((2 + 8 - 0.05 + 18) / (4 + 16 + 0.01 + 36))


def designed(n: int = 120, classes: int = 2) -> pd.DataFrame:
    draw = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "part": np.where(np.arange(n) % 2, "train", "test"),
            "patient": np.arange(n) // 4,
            "label_name": [f"class {k % classes}" for k in np.arange(n) // 2],
            "blur": draw.random(n),
            "noise": draw.random(n),
            "severity": np.where(np.arange(n) // 2 % classes == 0, 0.0, draw.random(n)),
        }
    )


def test_the_table_of_effects_finds_what_a_linear_network_does():
    table = designed(2000)
    concepts = table[["blur", "noise", "severity"]].to_numpy()
    mixing = draws(12, 3, 5)
    a, w = concepts @ mixing, np.linalg.pinv(mixing) @ [2.0, 0.0, -1.0]
    seen = Responses(a @ w, {"deep": a}, {"deep": np.tile(w, (len(a), 1))})
    found = concept_effects(seen, table, ["blur", "noise", "severity"], seed=0, permutations=99)
    # Severity does not vary in the first class, where there is no defect.
    assert list(zip(found["class"], found["concept"], strict=True)) == [
        ("class 0", "blur"), ("class 0", "noise"), ("class 1", "blur"), ("class 1", "noise"), ("class 1", "severity"),
    ]  # fmt: skip
    agreed = concept_agreement(found.assign(architecture="linear", weights="trained", seed=0))
    row = agreed.set_index("estimate").loc["pattern"]
    assert row["sign_right"] == 1
    assert row["r"] > 0.98
    with pytest.raises(ValueError, match=r"found 3 patients of class class 0 in the train part, expected 5"):
        concept_effects(seen, table.head(12), ["blur"], seed=0, permutations=0)
    with pytest.raises(ValueError, match="found none of blur that varies within a class"):
        concept_effects(seen, table.assign(blur=1.0), ["blur"], seed=0, permutations=0)


@pytest.mark.parametrize(
    ("c", "message"),
    [(np.ones(9), "the value 1 in all 9 images"), ([1.0, np.nan, 2.0], "1 values that are no numbers")],
)
def test_a_concept_that_does_not_vary_is_refused(c, message):
    with pytest.raises(ValueError, match=message):
        pattern(draws(13, len(c), 2), c)
