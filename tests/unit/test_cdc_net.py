"""The network is table 2 of Amanova 2022, computes what an independent implementation computes, and speaks µm."""

import numpy as np
import pytest
import torch
from scipy import signal, stats

from xiqa.config import Network
from xiqa.models.cdc_net import CDCNet, gaussian_nll

SMALL = Network(channels=(3, 4, 5), hidden=7)


def build(network: Network = SMALL, size: int = 22, seed: int = 0) -> CDCNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CDCNet(size, network).double()
        for norm in (net.bn1, net.bn2, net.bn3):
            norm.weight.data.uniform_(-1, 2)
            norm.bias.data.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        net.set_targets(torch.rand(6, 12, dtype=torch.float64) + 0.1)
        return net.eval()


def test_output_dimensions_are_those_of_table_2():
    net = CDCNet(250, Network()).eval()
    shapes = {}
    for name in ("conv1", "conv2", "conv3", "fc1", "fc2", "mean"):
        getattr(net, name).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    with torch.no_grad():
        mean, log_variance = net(torch.zeros(2, 1, 250, 250))
    assert shapes == {
        "conv1": (8, 250, 250),
        "conv2": (16, 125, 125),
        "conv3": (32, 62, 62),
        "fc1": (512,),
        "fc2": (512,),
        "mean": (12,),
    }
    assert net.fc1.in_features == 123008
    assert mean.shape == log_variance.shape == (2, 12)


def plain_forward(net: CDCNet, image: np.ndarray) -> np.ndarray:
    """Standardised means of one image (s, s), written down from the definitions with numpy and scipy."""
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    maps = image[None]
    for block in (1, 2, 3):
        kernels, bias = weights[f"conv{block}.weight"], weights[f"conv{block}.bias"]
        maps = np.stack(
            [
                sum(signal.correlate2d(channel, k, "same") for channel, k in zip(maps, kernel, strict=True)) + b
                for kernel, b in zip(kernels, bias, strict=True)
            ]
        )
        gamma, beta, mean, variance = (
            weights[f"bn{block}.{name}"][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")
        )
        maps = np.maximum((maps - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
        if block < 3:
            height, width = (side // 2 * 2 for side in maps.shape[1:])
            maps = maps[:, :height, :width].reshape(len(maps), height // 2, 2, width // 2, 2).max((2, 4))
    hidden = maps.ravel()
    for name in ("fc1", "fc2"):
        hidden = weights[f"{name}.weight"] @ hidden + weights[f"{name}.bias"]
        hidden = np.maximum(hidden, 0) if net.network.hidden_activation == "relu" else hidden
    return weights["mean.weight"] @ hidden + weights["mean.bias"]


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("size", [20, 23])
def test_forward_agrees_with_the_definitions(activation, size):
    net = build(SMALL.model_copy(update={"hidden_activation": activation}), size)
    image = np.random.default_rng(1).normal(size=(size, size))
    with torch.no_grad():
        mean, _ = net(torch.tensor(image)[None, None])
    expected = net.target_offset.numpy() + net.target_scale.numpy() * plain_forward(net, image)
    np.testing.assert_allclose(mean[0].numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("variance", ["homoscedastic", "head"])
def test_variance_depends_on_the_image_only_with_a_head(variance):
    net = build(SMALL.model_copy(update={"variance": variance}))
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 1, 22, 22)))
    with torch.no_grad():
        _, log_variance = net(x)
    equal = torch.equal(log_variance[0], log_variance[1])
    assert equal == (variance == "homoscedastic")
    assert ("log_variance" in dict(net.named_parameters())) == equal


@pytest.mark.parametrize("target", ["linear", "log"])
def test_an_untrained_output_of_zero_is_the_mean_label(target):
    net = build(SMALL.model_copy(update={"target": target}))
    labels = torch.tensor(np.random.default_rng(3).lognormal(-2, 0.5, (40, 12)))
    net.set_targets(labels)
    net.mean.weight.data.zero_()
    net.mean.bias.data.zero_()
    with torch.no_grad():
        mean, variance = net.predict_um(torch.zeros(1, 1, 22, 22, dtype=torch.float64))
    centre = labels.mean(0) if target == "linear" else labels.log().mean(0).exp()
    np.testing.assert_allclose(mean[0], centre, rtol=1e-6)
    if target == "linear":  # log variance 0 in standardised units: the variance of the labels
        np.testing.assert_allclose(variance[0], labels.var(0, correction=0), rtol=1e-6)


def test_a_small_log_uncertainty_becomes_the_spread_in_um():
    net = build(SMALL.model_copy(update={"target": "log"}))
    mean, log_variance = torch.tensor([[-1.5]]).double(), torch.tensor([[0.02**2]]).double().log()
    _, variance = net.to_um(mean, log_variance)
    draws = np.exp(np.random.default_rng(0).normal(-1.5, 0.02, 200_000))
    assert variance.item() ** 0.5 == pytest.approx(draws.std(), rel=0.01)


def test_an_output_with_equal_labels_keeps_a_finite_scale():
    net = build()
    net.set_targets(torch.full((9, 12), 0.063))
    assert torch.equal(net.target_scale, torch.ones_like(net.target_scale))


def test_nll_is_that_of_the_normal_distribution():
    rng = np.random.default_rng(0)
    mean, log_variance, target = rng.normal(size=(3, 5, 12))
    expected = -stats.norm.logpdf(target, mean, np.exp(log_variance / 2)).mean()
    found = gaussian_nll(*(torch.tensor(part) for part in (mean, log_variance, target)))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_dropout_zeroes_its_share_of_what_fc2_sees_in_training_only():
    net = CDCNet(20, Network(channels=(2, 2, 2), hidden=4000, dropout=0.2, hidden_activation="none"))
    seen = {}
    net.fc2.register_forward_hook(lambda module, inputs, output: seen.update(zeros=(inputs[0] == 0).float().mean()))
    x = torch.ones(4, 1, 20, 20)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net.train()(x)
        assert seen["zeros"].item() == pytest.approx(0.2, abs=0.02)
        net.eval()(x)
        assert seen["zeros"].item() == 0


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="size: found 3"):
        CDCNet(3, SMALL)
