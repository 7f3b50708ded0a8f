"""Gradient of the ensemble midpoint: closed forms, an independent implementation, equal numbers from all ways."""

import logging

import numpy as np
import pytest
import torch
from torch.nn import functional

from xiqa.config import Network
from xiqa.models import midpoint
from xiqa.models.cdc_net import CDCNet, gaussian_nll
from xiqa.models.ensemble import Ensemble, predict
from xiqa.models.midpoint import BatchedGradient, MidpointGradient

needs_kernels = pytest.mark.skipif(bool(midpoint.why_no_kernels()), reason=midpoint.why_no_kernels())
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


def make_member(size, seed, **network):
    """A network with random batch normalisation, as after training: scales of both signs, wide spread of statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        member = CDCNet(size, Network(**network))
        for layer in (member.bn1, member.bn2, member.bn3):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.3, 1.5)
            torch.nn.init.normal_(layer.weight, 0.8, 0.5)
            torch.nn.init.normal_(layer.bias, 0, 0.2)
        member.target_scale.uniform_(0.2, 1)
        member.target_offset.uniform_(0.2, 1)
    return member.eval().requires_grad_(False)


def make_ensemble(size, members=2, **network):
    return Ensemble([make_member(size, seed, **network) for seed in range(members)], 0.0, 1.0)


def images(n, size, seed=0):
    """Noise with a constant rectangle, in which all pooling windows are ties."""
    x = np.random.default_rng(seed).normal(size=(n, size, size)).astype(np.float32)
    x[:, : size // 2, size // 3 :] = 0.25
    return x


def relative_errors(found, exact):
    """Relative error (L2) of each map of (M, n, s, s)."""
    difference = np.linalg.norm((found - exact).reshape(*found.shape[:2], -1), axis=2)
    return difference / np.linalg.norm(exact.reshape(*found.shape[:2], -1), axis=2)


@pytest.fixture(scope="module")
def trained():
    """Two networks after thirty steps of training in training mode."""
    ensemble = make_ensemble(28, hidden=48)
    x = torch.from_numpy(images(24, 28, seed=5))[:, None]
    labels = torch.from_numpy(np.random.default_rng(6).uniform(0.05, 1, (24, 12)).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for member in ensemble.members:
            member.train().requires_grad_(True)
            optimiser = torch.optim.Adam(member.parameters(), 1e-3)
            for _ in range(30):
                optimiser.zero_grad()
                gaussian_nll(*member(x), labels).backward()
                optimiser.step()
            member.eval().requires_grad_(False)
    return ensemble


def independent_gradient(member, x):
    """Midpoint and gradient in float64, from the state dictionary alone, with functions of torch.nn.functional."""
    state = {key: value.double() for key, value in member.state_dict().items()}
    leaf = torch.tensor(x, dtype=torch.float64).unsqueeze(1).requires_grad_()
    y = leaf
    for index in (1, 2, 3):
        kernel, bias = state[f"conv{index}.weight"], state[f"conv{index}.bias"]
        patches = functional.unfold(y, 3, padding=1)
        y = (torch.einsum("oi,nip->nop", kernel.flatten(1), patches) + bias[:, None]).reshape(len(y), -1, *y.shape[2:])
        mean, variance = state[f"bn{index}.running_mean"], state[f"bn{index}.running_var"]
        y = (y - mean[:, None, None]) / torch.sqrt(variance + 1e-5)[:, None, None]
        y = functional.relu(y * state[f"bn{index}.weight"][:, None, None] + state[f"bn{index}.bias"][:, None, None])
        if index < 3:
            y = functional.max_pool2d(y, 2)
    y = y.reshape(len(x), -1)
    for name in ("fc1", "fc2"):
        y = functional.relu(functional.linear(y, state[f"{name}.weight"], state[f"{name}.bias"]))
    y = functional.linear(y, state["mean.weight"], state["mean.bias"])
    value = (state["target_offset"] + state["target_scale"] * y).mean(1)
    value.sum().backward()
    return value.detach().numpy(), leaf.grad[:, 0].numpy()


def test_exact_way_equals_an_independent_float64_implementation(trained):
    x = images(5, 28)
    values, gradients = MidpointGradient(trained, "plain", dtype=torch.float64).member_gradients(x)
    assert values.dtype == gradients.dtype == np.float64
    for index, member in enumerate(trained.members):
        value, gradient = independent_gradient(member, x)
        np.testing.assert_allclose(values[index], value, rtol=1e-6)
        assert np.abs(gradients[index] - gradient).max() < 1e-6 * np.abs(gradient).max()


def test_exact_gradient_is_the_slope_of_the_value(trained):
    target = MidpointGradient(trained, "plain", dtype=torch.float64)
    x = np.random.default_rng(1).normal(size=(1, 28, 28))
    direction = np.random.default_rng(2).normal(size=x.shape)
    step = 1e-6
    slope = (target.value(x + step * direction) - target.value(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope[0], (target.gradient(x) * direction).sum(), rtol=1e-5)


def test_value_is_the_mean_of_the_predicted_curve(trained):
    x = images(4, 28)
    expected = predict(trained, x)["predicted_um"].mean(1)
    for backend in ("auto", "plain"):
        np.testing.assert_allclose(MidpointGradient(trained, backend).value(x), expected, rtol=1e-5)


class Linear(torch.nn.Module):
    """A network without curvature: 12 outputs, each a weighted sum of the pixels."""

    def __init__(self, size, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(12, size * size, generator=generator))

    def predict_um(self, x):
        mean = functional.linear(x.flatten(1), self.weight)
        return mean, torch.ones_like(mean)


def test_gradient_of_a_linear_network_is_its_weights(caplog):
    members = [Linear(9, seed) for seed in range(3)]
    with caplog.at_level(logging.INFO, "xiqa.models.midpoint"):
        target = MidpointGradient(Ensemble(members, 0.0, 1.0), "auto", dtype=torch.float32)
    assert target.backend == "plain"
    assert "Linear" in caplog.text
    x = images(40, 9)
    values, gradients = target.member_gradients(x)
    for index, member in enumerate(members):
        weights = member.weight.detach().numpy().mean(0)
        np.testing.assert_allclose(gradients[index], np.broadcast_to(weights.reshape(9, 9), x.shape), atol=1e-6)
        np.testing.assert_allclose(values[index], x.reshape(40, -1) @ weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target.gradient(x), gradients.mean(0))


def passing_network(size):
    """A network whose convolutions hand the image through: its features are the maxima of 4 × 4 pixels."""
    member = make_member(size, 3, hidden_activation="none", hidden=24, channels=(1, 1, 1))
    for index in (1, 2, 3):
        convolution, normalisation = getattr(member, f"conv{index}"), getattr(member, f"bn{index}")
        for values in (convolution.weight, convolution.bias, normalisation.running_mean, normalisation.bias):
            values.zero_()
        convolution.weight[0, 0, 1, 1] = 1
        normalisation.running_var.fill_(1 - normalisation.eps)
        normalisation.weight.fill_(1)
    return member


@pytest.mark.parametrize("backend", [pytest.param("fast", marks=needs_kernels), "plain"])
@pytest.mark.parametrize("kind", ["distinct", "constant"])
def test_gradient_behind_pooling_in_closed_form(backend, kind):
    """The gradient is the product of the linear layers at each 4 × 4 maximum (the first one of equals), 0 elsewhere."""
    member, size = passing_network(13), 13
    x = np.random.default_rng(0).permutation(size * size).reshape(1, size, size).astype(np.float32) + 1
    if kind == "constant":
        x = np.full_like(x, 2.0)
    product = (member.target_scale[:, None] * (member.mean.weight @ member.fc2.weight @ member.fc1.weight)).mean(0)
    expected = np.zeros((size, size), np.float32)
    for index, weight in enumerate(product.numpy()):
        row, column = 4 * (index // 3), 4 * (index % 3)
        block = x[0, row : row + 4, column : column + 4]
        down, right = np.unravel_index(block.argmax(), (4, 4))
        expected[row + down, column + right] = weight
    found = MidpointGradient(Ensemble([member], 0.0, 1.0), backend).gradient(x)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@needs_kernels
@pytest.mark.parametrize(
    ("size", "n", "network"),
    [
        (50, 5, {}),
        (64, 33, {"hidden": 40}),
        (37, 70, {"channels": (3, 6, 10), "hidden": 13}),
        (28, 17, {"channels": (5, 7, 3), "hidden": 20, "hidden_activation": "none", "target": "log"}),
        (31, 2, {"target": "log", "variance": "head", "hidden": 8}),
        (4, 3, {"hidden": 4}),
        (5, 1, {"hidden": 5}),
    ],
)
def test_fast_way_equals_the_exact_one(size, n, network):
    ensemble, x = make_ensemble(size, **network), images(n, size)
    fast = MidpointGradient(ensemble, "fast")
    values, gradients = fast.member_gradients(x)
    exact_values, exact = MidpointGradient(ensemble, "plain", dtype=torch.float64).member_gradients(x)
    assert (values.dtype, gradients.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(values, exact_values, rtol=1e-5)
    np.testing.assert_array_equal(fast.member_values(x), values)
    errors = relative_errors(gradients, exact)
    # About one image in sixteen sits so near a tie that any float32 path may pick the other pixel: the median counts.
    assert np.median(errors) < 1e-5
    assert errors.max() < 0.1


@needs_kernels
def test_fast_way_equals_the_exact_one_at_full_size():
    ensemble, x = make_ensemble(250, members=1), images(3, 250)
    values, gradients = MidpointGradient(ensemble, "fast").member_gradients(x)
    exact_values, exact = MidpointGradient(ensemble, "plain", dtype=torch.float64).member_gradients(x)
    np.testing.assert_allclose(values, exact_values, rtol=1e-5)
    assert np.median(relative_errors(gradients, exact)) < 1e-5


@needs_kernels
def test_fast_way_on_a_trained_network(trained):
    x = images(20, 28)
    errors = relative_errors(
        MidpointGradient(trained, "fast").member_gradients(x)[1],
        MidpointGradient(trained, "plain", dtype=torch.float64).member_gradients(x)[1],
    )
    assert np.median(errors) < 1e-5


@needs_kernels
def test_an_image_has_the_same_bytes_whatever_its_company_and_the_threads():
    ensemble, x = make_ensemble(30, hidden=24), images(70, 30)
    together = MidpointGradient(ensemble, "fast", threads=1).member_gradients(x)[1]
    two_threads = MidpointGradient(ensemble, "fast", threads=2)
    np.testing.assert_array_equal(two_threads.member_gradients(x)[1], together)
    order = np.random.default_rng(0).permutation(70)
    np.testing.assert_array_equal(two_threads.member_gradients(x[order])[1], together[:, order])
    for index in (0, 19, 69):
        np.testing.assert_array_equal(two_threads.member_gradients(x[index : index + 1])[1][:, 0], together[:, index])


@needs_kernels
def test_nothing_is_left_over_from_the_call_before():
    ensemble, x = make_ensemble(26, hidden=16), images(3, 26)
    used = MidpointGradient(ensemble, "fast")
    used.member_gradients(1000 * images(70, 26, seed=9))
    np.testing.assert_array_equal(
        used.member_gradients(x)[1], MidpointGradient(ensemble, "fast").member_gradients(x)[1]
    )


def test_without_kernels_plain_torch_gives_the_same_numbers(trained, monkeypatch, caplog):
    x = images(6, 28)
    usual = MidpointGradient(trained, "auto").member_gradients(x)
    monkeypatch.setattr(midpoint, "why_no_kernels", lambda: "no numba here")
    with caplog.at_level(logging.INFO, "xiqa.models.midpoint"):
        target = MidpointGradient(trained, "auto")
    assert target.backend == "plain"
    assert "no numba here" in caplog.text
    values, gradients = target.member_gradients(x)
    np.testing.assert_allclose(values, usual[0], rtol=1e-5)
    assert np.median(relative_errors(gradients, usual[1].astype(np.float64))) < 1e-5
    with pytest.raises(ValueError, match="no numba here"):
        MidpointGradient(trained, "fast")


def test_plain_way_works_in_batches(trained):
    x = images(midpoint.PLAIN_BATCH + 3, 28)
    target = MidpointGradient(trained, "plain", dtype=torch.float64)
    whole = target.member_gradients(x)[1]
    np.testing.assert_allclose(whole[:, -3:], target.member_gradients(x[-3:])[1], rtol=1e-9, atol=1e-15)


def test_members_are_left_as_they_were(trained):
    member = trained.members[0]
    before = {key: value.clone() for key, value in member.state_dict().items()}
    threads = torch.get_num_threads()
    member.train()
    try:
        found = MidpointGradient(trained, "plain", threads=1).member_gradients(images(2, 28))[1]
        assert member.training
    finally:
        member.eval()
    np.testing.assert_array_equal(found, MidpointGradient(trained, "plain").member_gradients(images(2, 28))[1])
    assert torch.get_num_threads() == threads
    assert all(torch.equal(before[key], value) for key, value in member.state_dict().items())


def test_all_members_at_once_equal_one_after_the_other(trained):
    x = images(midpoint.CUDA_BATCH + 2, 28).astype(np.float64)
    values, gradients = BatchedGradient(trained.members, "cpu", torch.float64).run(x, gradients=True)
    expected_values, expected = MidpointGradient(trained, "plain", dtype=torch.float64).member_gradients(x)
    np.testing.assert_allclose(values, expected_values, rtol=1e-9)
    assert relative_errors(gradients, expected).max() < 1e-9


@needs_gpu
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_gpu_equals_the_exact_way(trained, dtype, limit):
    x = images(40, 28)
    target = MidpointGradient(trained, device="cuda", dtype=dtype)
    assert target.backend == "batched"
    values, gradients = target.member_gradients(x)
    exact_values, exact = MidpointGradient(trained, "plain", dtype=torch.float64).member_gradients(x)
    np.testing.assert_allclose(values, exact_values, rtol=1e-5)
    assert np.median(relative_errors(gradients, exact)) < limit


def test_bfloat16_is_no_substitute(trained):
    x = images(8, 28)
    exact = MidpointGradient(trained, "plain", dtype=torch.float64).member_gradients(x)[1]
    target = MidpointGradient(trained, dtype=torch.bfloat16)
    assert target.backend == "plain"
    error = np.median(relative_errors(target.member_gradients(x)[1], exact))
    assert 1e-4 < error < 1


def test_mistakes_are_named(trained):
    with pytest.raises(ValueError, match="found 'quick'"):
        MidpointGradient(trained, "quick")
    with pytest.raises(ValueError, match="float64"):
        MidpointGradient(trained, "fast", dtype=torch.float64)
    with pytest.raises(ValueError, match="at least one"):
        MidpointGradient(Ensemble([], 0.0, 1.0))
    with pytest.raises(ValueError, match="threads"):
        MidpointGradient(trained, threads=0)
    target = MidpointGradient(trained)
    with pytest.raises(ValueError, match=r"\(2, 27, 27\).*\(n, 28, 28\)"):
        target.value(np.zeros((2, 27, 27), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        target.value(np.full((1, 28, 28), np.nan, np.float32))
    assert target.member_gradients(np.zeros((0, 28, 28), np.float32))[1].shape == (2, 0, 28, 28)
