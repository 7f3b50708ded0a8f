"""Methods against captum, an independent implementation, in float64 on a small CDC network."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from saliency_targets import NetTarget, explain, small_net
from torch import nn

from xiqa.models.cdc_net import folded_convolutions

attr = pytest.importorskip("captum.attr", reason="captum is not installed: pip install -e '.[oracles]'")

SIZE = 22


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(11).normal(size=(2, SIZE, SIZE))


@pytest.fixture(scope="module")
def target():
    return NetTarget(small_net(1), small_net(2, target="log"))


def midpoint(target):
    def forward(tensor):
        return torch.stack([net.predict_um(tensor)[0].mean(1) for net in target.ensemble.members]).mean(0)

    return forward


def as_tensor(x):
    return torch.tensor(x[:, None], requires_grad=True)


def close(ours, theirs, tolerance=1e-10):
    theirs = theirs.detach().numpy()[:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_gradient(target, x):
    close(explain(target, x, "gradient"), -attr.Saliency(midpoint(target)).attribute(as_tensor(x), abs=False))


def test_input_x_gradient(target, x):
    close(explain(target, x, "input_x_gradient"), -attr.InputXGradient(midpoint(target)).attribute(as_tensor(x)))


@pytest.mark.parametrize("baseline", [0.0, -0.7])
def test_integrated_gradients(target, x, baseline):
    theirs = attr.IntegratedGradients(midpoint(target)).attribute(
        as_tensor(x), baselines=baseline, n_steps=25, method="riemann_middle"
    )
    # captum rounds the step lengths to float32.
    close(explain(target, x, "integrated_gradients", steps=25, baseline=baseline), -theirs, 1e-7)


@pytest.mark.parametrize(("patch", "stride"), [(11, 11), (6, 4), (5, 5), (7, 3)])
def test_patch_occlusion_is_captums_of_the_midpoint(target, x, patch, stride):
    theirs = attr.Occlusion(midpoint(target)).attribute(
        as_tensor(x), (1, patch, patch), strides=(1, stride, stride), baselines=0.2
    )
    # captum adds up occlusions in float32.
    close(explain(target, x, "occlusion", patch=patch, stride=stride, baseline=0.2), theirs, 1e-6)


def test_pixel_occlusion_is_captums_of_the_midpoint(target, x):
    theirs = attr.Occlusion(midpoint(target)).attribute(as_tensor(x), (1, 1, 1))
    close(explain(target, x, "occlusion_pixel"), theirs, 1e-6)


def folded_network(net):
    """The network as a sequence of modules that captum can walk; the last is the midpoint as one neuron."""
    convolutions = []
    for level, (weight, bias) in enumerate(folded_convolutions(net), 1):
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1).double()
        conv.weight, conv.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        convolutions += [(f"conv{level}", conv), (f"relu{level}", nn.ReLU())]
        convolutions += [(f"pool{level}", nn.MaxPool2d(2))] if level < 3 else []
    last = nn.Linear(net.mean.in_features, 1).double()
    last.weight = nn.Parameter((net.target_scale[:, None] * net.mean.weight).mean(0, keepdim=True))
    last.bias = nn.Parameter((net.target_scale * net.mean.bias + net.target_offset).mean()[None])
    fc1, fc2 = (nn.Linear(layer.in_features, layer.out_features).double() for layer in (net.fc1, net.fc2))
    fc1.load_state_dict(net.fc1.state_dict())
    fc2.load_state_dict(net.fc2.state_dict())
    layers = [*convolutions, ("flat", nn.Flatten()), ("fc1", fc1), ("relu4", nn.ReLU()), ("fc2", fc2)]
    return nn.Sequential(OrderedDict([*layers, ("relu5", nn.ReLU()), ("last", last)]))


def test_folded_network_is_the_network(x):
    net = small_net(3)
    values = folded_network(net)(torch.tensor(x[:, None])).detach().numpy()[:, 0]
    np.testing.assert_allclose(values, NetTarget(net).value(x), rtol=1e-10)


@pytest.mark.parametrize("hidden", ["epsilon", "z_plus"])
def test_lrp(x, hidden):
    net = small_net(3)
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    model = folded_network(net)
    for name, layer in model.named_children():
        if name in ("conv2", "conv3") and hidden == "z_plus":
            layer.rule = rules.Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif isinstance(layer, nn.Conv2d | nn.Linear | nn.Flatten):
            layer.rule = rules.EpsilonRule(epsilon=1e-9)
    theirs = attr.LRP(model).attribute(as_tensor(x))
    ours = explain(NetTarget(net), x, "lrp", convolutions=hidden, input_layer="epsilon", epsilon=1e-9)
    # The two place the stabiliser on opposite sides where a unit is 0.
    close(ours, -theirs, 1e-6)
