"""OMIG is algorithm 1 of Amanova 2022."""

from functools import partial

import numpy as np
import pytest
import torch
from saliency_targets import FormulaTarget, NetTarget, linear, small_net
from saliency_targets import explain as maps_of

from xiqa.saliency.omig import find_outliers

explain = partial(maps_of, method="omig")


@pytest.fixture
def x():
    return np.random.default_rng(5).normal(size=(3, 22, 22))


def test_linear_target_moves_all_the_way_except_outliers_after_the_first_step(x):
    weights = np.random.default_rng(0).normal(size=(22, 22))
    weights[4, 7] = 40.0
    cut = np.abs(weights - weights.mean()) > 3 * weights.std()
    assert cut.sum() == 1
    change = explain(linear(weights), x, c=2.0, steps=10)
    expected = np.where(cut, -2.0 / 10 * weights, -2.0 * weights)
    np.testing.assert_allclose(change, np.broadcast_to(expected, x.shape), rtol=1e-12)


def test_quadratic_target_decays_geometrically(x):
    curvature = np.random.default_rng(1).uniform(0.5, 2, size=(22, 22))
    target = FormulaTarget((lambda x: (curvature * x**2).sum((1, 2)) / 2, lambda x: curvature * x))
    change = explain(target, x, c=0.8, steps=16, outlier_z=1e9)
    np.testing.assert_allclose(change, x * ((1 - 0.05 * curvature) ** 16 - 1), rtol=1e-12)


def test_algorithm_1_line_by_line_on_a_network_in_float64(x):
    nets = [small_net(1), small_net(2)]
    c, steps, threshold = 5.0, 7, 3.0

    def gradient(image):
        image = image.clone().requires_grad_(True)
        curves = torch.stack([net.predict_um(image[None, None])[0][0] for net in nets])
        curves.mean(0).mean().backward()
        return image.grad

    for image, change in zip(x, explain(NetTarget(*nets), x, c=c, steps=steps, outlier_z=threshold), strict=True):
        start = torch.tensor(image)
        position, r = start, gradient(start)
        n_cut = 0
        for _ in range(steps):
            position = position - c / steps * r
            r = gradient(position)
            z = (r - r.mean()) / torch.sqrt(((r - r.mean()) ** 2).mean())
            n_cut += int((z.abs() > threshold).sum())
            r = torch.where(z.abs() > threshold, 0.0, r)
        expected = (position - start).numpy()
        assert n_cut > 0
        np.testing.assert_allclose(change, expected, atol=1e-6 * np.abs(expected).max())


def test_costs_exactly_as_many_gradients_as_steps(x):
    target = linear(np.ones((22, 22)))
    explain(target, x, steps=13)
    assert target.gradient_calls == 13


def test_one_step_is_c_times_the_gradient(x):
    target = NetTarget(small_net(3))
    np.testing.assert_allclose(explain(target, x, c=0.3, steps=1), 0.3 * maps_of(target, x, "gradient"), rtol=1e-12)


def test_small_step_lowers_the_midpoint_of_every_image(x):
    target = NetTarget(small_net(4), small_net(5))
    assert (target.value(x + explain(target, x, c=1e-3, steps=5)) < target.value(x)).all()


def test_contributions_of_members_average_to_the_map_under_one_cut(x):
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 22, 22))
    first[3, 3], second[3, 3] = 30.0, -2.0
    target = linear(first, second)
    change, parts = explain(target, x, c=1.0, steps=4, members=True)
    np.testing.assert_allclose(parts.mean(0), change, rtol=1e-12)
    np.testing.assert_allclose(change, explain(target, x, c=1.0, steps=4), rtol=1e-12)
    # The second member's component is no outlier of its own, but it shares the cut of the mean gradient.
    np.testing.assert_allclose(parts[1, :, 3, 3], -0.25 * -2.0)
    np.testing.assert_allclose(parts[1, 0, 0], -second[0])


def test_map_of_an_image_does_not_depend_on_its_batch(x):
    target = NetTarget(small_net(6))
    together = explain(target, x, steps=5)
    for index in range(len(x)):
        np.testing.assert_allclose(explain(target, x[index : index + 1], steps=5)[0], together[index], atol=1e-12)


def test_steps_below_the_resolution_of_float32_are_not_lost():
    weights = np.full((5, 5), 1e-9, np.float32)
    x = np.full((1, 5, 5), 3.0, np.float32)
    change = explain(linear(weights), x, steps=50)
    assert change.dtype == np.float32
    np.testing.assert_allclose(change, -1e-9, rtol=1e-5)


def test_outliers_are_found_per_image():
    gradient = np.zeros((2, 10, 10))
    gradient[0] = np.random.default_rng(0).normal(size=(10, 10))
    gradient[1] = 100 * gradient[0]
    gradient[0, 2, 2], gradient[1, 5, 5] = 10, 1000
    found = find_outliers(gradient, 3.0)
    assert [tuple(place) for place in np.argwhere(found)] == [(0, 2, 2), (1, 5, 5)]


def test_constant_gradient_has_no_outliers():
    assert not find_outliers(np.full((1, 7, 7), 0.1), 3.0).any()


@pytest.mark.parametrize("options", [{"c": 0}, {"steps": 0}, {"outlier_z": -1}])
def test_impossible_options_are_refused(x, options):
    with pytest.raises(ValueError, match="positive"):
        explain(linear(np.ones((22, 22))), x, **options)
