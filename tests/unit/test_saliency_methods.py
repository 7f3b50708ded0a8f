"""Saliency methods of an ensemble that predicts curves do what their definitions say of -midpoint."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from saliency_targets import FormulaTarget, NetTarget, explain, linear, small_net
from torch.nn import functional

from xiqa.registry import LINEAR, OF_ENSEMBLES
from xiqa.saliency import base, lrp
from xiqa.saliency.attribution import checks_of
from xiqa.saliency.lrp_rules import relevance_below
from xiqa.saliency.of_ensemble import ExplainedEnsemble

NETWORKS = [{}, {"target": "log"}, {"hidden_activation": "none"}, {"variance": "head"}]


@pytest.fixture
def x():
    return np.random.default_rng(7).normal(size=(2, 22, 22))


@pytest.fixture
def weights():
    return np.random.default_rng(8).normal(size=(2, 22, 22))


OPTIONS = {
    "rise": {"masks": 8},
    "kernel_shap": {"segments": 6, "evaluations": 20},
    "lime": {"segments": 6, "evaluations": 20, "alpha": 1e-6},
}


def completeness_error(midpoint, x, maps, method, **options):
    found = checks_of(
        ExplainedEnsemble(midpoint), torch.from_numpy(x)[:, None], {method: torch.from_numpy(maps)}, **options
    )
    return found["completeness_error"].to_numpy()


@pytest.mark.parametrize("name", OF_ENSEMBLES)
def test_every_method_of_the_configuration_gives_a_valid_map_per_image(name, x):
    maps = explain(NetTarget(small_net()), x, name, **OPTIONS.get(name, {}))
    assert maps.shape == x.shape
    assert all(row["valid"] for row in base.validity(maps))


@pytest.mark.parametrize("method", ["grad_cam", "guided_backprop", "attention_rollout"])
def test_what_looks_inside_one_network_is_refused_for_the_mean_of_several(x, method):
    with pytest.raises(ValueError, match=f"{method}', which looks inside one network"):
        explain(NetTarget(small_net()), x, method)


@pytest.mark.parametrize("name", [name for name in OF_ENSEMBLES if LINEAR[name] or name == "omig"])
def test_members_maps_average_to_the_map(name, x):
    target, options = NetTarget(small_net(1), small_net(2), small_net(3)), OPTIONS.get(name, {})
    maps, parts = explain(target, x, name, members=True, **options)
    assert parts.shape == (3, *x.shape)
    np.testing.assert_allclose(parts.mean(0), maps, atol=1e-12)
    np.testing.assert_allclose(explain(target, x, name, **options), maps, atol=1e-12)


def test_methods_that_are_not_linear_have_no_parts(x):
    assert explain(NetTarget(small_net(1), small_net(2)), x, "guided_ig", members=True)[1] is None


@pytest.mark.parametrize("name", ["gradient", "input_x_gradient", "integrated_gradients", "occlusion_pixel"])
def test_closed_forms_on_a_linear_target(name, x, weights):
    mean = weights.mean(0)
    expected = {
        "gradient": np.broadcast_to(-mean, x.shape),
        "input_x_gradient": -x * mean,
        "integrated_gradients": -x * mean,
        "occlusion_pixel": x * mean,
    }
    np.testing.assert_allclose(explain(linear(*weights, bias=3.0), x, name), expected[name], atol=1e-12)


# Integrated gradients


def test_integrated_gradients_of_a_quadratic_target_is_exact(x):
    target = FormulaTarget((lambda x: (x**2).sum((1, 2)), lambda x: 2 * x))
    # The midpoint rule is exact for a linear integrand: (x - b)(x + b).
    maps = explain(target, x, "integrated_gradients", steps=3, baseline=0.5)
    np.testing.assert_allclose(maps, 0.25 - x**2, atol=1e-12)


def test_integrated_gradients_becomes_complete_with_more_steps(x):
    target = NetTarget(small_net(4))
    errors = []
    for steps in (4, 1024):
        maps = explain(target, x, "integrated_gradients", steps=steps)
        errors.append(np.abs(completeness_error(target, x, maps, "integrated_gradients", baseline=0.0)).max())
    assert errors[1] < errors[0] / 20
    assert errors[1] < 0.01 * np.abs(target.value(x) - target.value(0 * x)).max()


def test_completeness_is_checked_only_where_it_is_promised(x):
    assert completeness_error(linear(x[0]), x, x, "omig").tolist() == [None, None]


def test_completeness_check_knows_the_baseline(x):
    target = linear(x[0])
    maps = explain(target, x, "integrated_gradients", baseline=2.0)
    error = completeness_error(target, x, maps, "integrated_gradients", baseline=2.0)
    np.testing.assert_allclose(error.astype(float), 0, atol=1e-10)


# Occlusion


@pytest.mark.parametrize(
    ("network", "size"), [*itertools.product(NETWORKS, [22, 25]), ({}, 20), ({}, 27), ({"target": "log"}, 31)]
)
def test_pixel_occlusion_through_the_reached_part_is_the_forward_pass_per_pixel(network, size):
    x = np.random.default_rng(size).normal(size=(1, size, size))
    target = NetTarget(small_net(1, size, **network), small_net(2, size, **network))
    expected = np.zeros(x.shape)
    for row in range(size):
        occluded = np.repeat(x, size, axis=0)
        occluded[np.arange(size), row, np.arange(size)] = 0.3
        expected[0, row] = target.value(x) - target.value(occluded)
    maps = explain(target, x, "occlusion_pixel", baseline=0.3)
    np.testing.assert_allclose(maps, expected, atol=1e-11 * np.abs(expected).max() + 1e-13)


def test_pixel_occlusion_on_a_grid_repeats_the_exact_values_of_the_grid(x):
    target = NetTarget(small_net(1))
    exact, coarse = explain(target, x, "occlusion_pixel"), explain(target, x, "occlusion_pixel", stride=5)
    expected = np.repeat(np.repeat(exact[:, ::5, ::5], 5, axis=1), 5, axis=2)[:, :22, :22]
    np.testing.assert_allclose(coarse, expected, atol=1e-12)


@pytest.mark.parametrize(("patch", "stride"), [(11, 11), (8, 8), (5, 3), (30, 10), (1, 1)])
def test_patch_occlusion_of_a_linear_target_is_the_mean_of_the_patches_on_a_pixel(x, weights, patch, stride):
    maps = explain(linear(weights[0]), x, "occlusion", patch=patch, stride=stride, baseline=0.5)
    for image, values in zip(x, maps, strict=True):
        share = (image - 0.5) * weights[0]
        changes = [[[] for _ in range(22)] for _ in range(22)]
        # Patches at multiples of the stride, until one reaches the border.
        starts = [start for start in range(0, 22, stride) if start == 0 or start - stride + patch < 22]
        for top in starts:
            for left in starts:
                change = share[top : top + patch, left : left + patch].sum()
                for row in range(top, min(top + patch, 22)):
                    for column in range(left, min(left + patch, 22)):
                        changes[row][column].append(change)
        np.testing.assert_allclose(values, [[np.mean(pixel) for pixel in row] for row in changes], atol=1e-10)


def test_patches_with_gaps_between_them_are_refused(x):
    with pytest.raises(ValueError, match="stride <= patch"):
        explain(linear(x[0]), x, "occlusion", patch=5, stride=6)


# Layer-wise relevance propagation

RULES = [
    {},
    {"convolutions": "epsilon"},
    {"linear": "z_plus"},
    {"input_layer": "flat"},
    {"input_layer": "z_plus"},
    {"input_layer": "epsilon"},
]


@pytest.mark.parametrize("network", NETWORKS)
def test_epsilon_rule_everywhere_without_stabiliser_is_input_x_gradient(network, x):
    # Ancona et al. 2018, proposition 1; for a logarithmic target the slope of exp is in the gradient, too.
    target = NetTarget(small_net(1, **network))
    rules = {"convolutions": "epsilon", "linear": "epsilon", "input_layer": "epsilon", "epsilon": 1e-300}
    maps, expected = explain(target, x, "lrp", **rules), -x * target.gradient(x)
    np.testing.assert_allclose(maps, expected, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("rules", RULES)
def test_relevance_is_conserved_without_biases(rules, x):
    net = small_net(2)
    with torch.no_grad():
        for norm in (net.bn1, net.bn2, net.bn3):
            norm.bias.zero_()
            norm.running_mean.zero_()
        for layer in (net.conv1, net.conv2, net.conv3, net.fc1, net.fc2, net.mean):
            layer.bias.zero_()
        net.target_offset.zero_()
    target = NetTarget(net)
    maps = explain(target, x, "lrp", epsilon=1e-12, **rules)
    np.testing.assert_allclose(maps.sum((1, 2)), -target.value(x), rtol=1e-8)
    np.testing.assert_allclose(completeness_error(target, x, maps, "lrp").astype(float), 0, atol=1e-8)


@pytest.mark.parametrize("rules", RULES)
def test_relevance_that_enters_is_the_midpoint_and_what_biases_take_is_accounted_for(rules, x):
    target = NetTarget(small_net(3))
    (network,) = ExplainedEnsemble(target).networks()
    result = lrp.relevance(network, torch.from_numpy(x)[:, None], **rules)
    np.testing.assert_allclose(result.output, -target.value(x), rtol=1e-12)
    np.testing.assert_allclose(result.maps.sum((1, 2, 3)) + result.absorbed, result.output, rtol=1e-10)


def test_last_layers_bias_alone_is_absorbed_by_the_epsilon_rule(x):
    # Only the last layer has a bias: the maps must add up to the midpoint less that bias.
    net = small_net(4)
    with torch.no_grad():
        for layer in (net.conv1, net.conv2, net.conv3, net.fc1, net.fc2, net.bn1, net.bn2, net.bn3):
            layer.bias.zero_()
        for norm in (net.bn1, net.bn2, net.bn3):
            norm.running_mean.zero_()
    maps = explain(NetTarget(net), x, "lrp", epsilon=1e-12)
    bias = (net.target_scale * net.mean.bias + net.target_offset).mean().item()
    np.testing.assert_allclose(maps.sum((1, 2)), bias - NetTarget(net).value(x), rtol=1e-7)


def test_flat_rule_spreads_the_relevance_of_a_unit_evenly_over_its_field():
    entered = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    relevance_out = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    relevance_out[0, 0, 2, 2], relevance_out[0, 0, 0, 0] = 9.0, 4.0
    weight, bias = torch.randn(1, 1, 3, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    lower = relevance_below(
        "flat", entered, relevance_out, 0.0, partial(functional.conv2d, padding=1),
        partial(functional.conv_transpose2d, padding=1), weight, bias,
    )[0, 0]  # fmt: skip
    # 9 over 3 × 3 pixels in the middle, 4 over the 2 × 2 pixels that exist in the corner; they share one pixel.
    assert lower[3, 3] == pytest.approx(1.0)
    assert lower[0, 1] == pytest.approx(1.0)
    assert lower[1, 1] == pytest.approx(2.0)
    assert lower[4, 4] == 0


def test_w_squared_rule_shares_by_squared_weight_whatever_the_input():
    entered = torch.tensor([[1.0, -5.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, -2.0, 3.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    relevance_out = torch.tensor([[28.0, -3.0]], dtype=torch.float64)
    lower = relevance_below(
        "w_squared", entered, relevance_out, 0.0, functional.linear, lambda s, w: s @ w, weight, torch.ones(2).double()
    )
    # 28 in shares 1 : 4 : 9, and -3 all to the middle.
    np.testing.assert_allclose(lower, [[2.0, 8.0 - 3.0, 18.0]])


def test_z_plus_rule_gives_no_negative_relevance_to_positive_relevance():
    rng = torch.Generator().manual_seed(0)
    entered = torch.randn(3, 6, generator=rng, dtype=torch.float64)
    weight = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    relevance_out = torch.rand(3, 4, generator=rng, dtype=torch.float64)
    lower = relevance_below(
        "z_plus", entered, relevance_out, 0.0, functional.linear, lambda s, w: s @ w, weight, torch.zeros(4).double()
    )
    assert (lower >= 0).all()
    np.testing.assert_allclose(lower.sum(1), relevance_out.sum(1), rtol=1e-12)


def test_unknown_rule_is_refused(x):
    with pytest.raises(ValueError, match="alpha_beta"):
        explain(NetTarget(small_net()), x, "lrp", convolutions="alpha_beta")


# Validity


def test_validity_flags_constant_and_non_finite_maps():
    maps = np.zeros((3, 4, 4))
    maps[1, 0, 0] = 1
    maps[2, 1:3, 1] = np.nan, np.inf
    rows = base.validity(maps, np.array([0.0, 0.5, 0.0]))
    assert [row["constant"] for row in rows] == [True, False, False]
    assert [row["non_finite"] for row in rows] == [0, 0, 2]
    assert [row["valid"] for row in rows] == [False, True, False]
    assert rows[1]["completeness_error"] == 0.5
