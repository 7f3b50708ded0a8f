"""Augmentation: closed forms of every change, nothing at zero strength, the same from the same generator."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xiqa.config import Augmentation
from xiqa.models.augmentation import CHANGE, apply_changes, draw_changes

SIZE = 24
NOTHING = {"brightness": 1.0, "contrast": 1.0, "scale": 1.0}


def images(n: int = 3, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((n, height, width), np.float32))


def changed(x: torch.Tensor, **change) -> np.ndarray:
    """Every image changed in the same way."""
    changes = np.zeros(len(x), CHANGE)
    for name, value in (NOTHING | change).items():
        changes[name] = value
    return apply_changes(x, changes).numpy()


def spot(height: int = 48, width: int = 48) -> torch.Tensor:
    """A Gaussian spot 6 px above and 4 px right of the middle, dark at the border."""
    y, x = np.mgrid[:height, :width]
    squared = (y - height / 2 + 6.5) ** 2 + (x - width / 2 - 3.5) ** 2
    return torch.tensor(np.exp(-squared / 8), dtype=torch.float32)[None]


def centroid(image: np.ndarray) -> tuple[float, float]:
    """Row and column relative to the middle of the image."""
    y, x = (np.mgrid[: image.shape[0], : image.shape[1]].T - (np.array(image.shape) - 1) / 2).T
    return float((image * y).sum() / image.sum()), float((image * x).sum() / image.sum())


def test_zero_strength_changes_no_bit():
    x = images(64)
    nothing = Augmentation(flip=False, rotate_deg=0, translate=0, scale=0, jitter=0)
    assert torch.equal(apply_changes(x, draw_changes(64, nothing, np.random.default_rng(0))), x)


def test_mirroring_is_exact_and_happens_to_half_of_the_images():
    x = images(400)
    changes = draw_changes(400, Augmentation(), np.random.default_rng(1))
    assert 160 < changes["flip"].sum() < 240
    expected = np.where(changes["flip"][:, None, None], x.numpy()[:, :, ::-1], x.numpy())
    np.testing.assert_array_equal(apply_changes(x, changes).numpy(), expected)


@pytest.mark.parametrize(("height", "width"), [(SIZE, SIZE), (20, 32)])
def test_a_shift_by_whole_pixels_equals_slicing(height, width):
    x = images(2, height, width)
    found = changed(x, shift_x=3 / width, shift_y=-2 / height)
    expected = np.zeros_like(x)
    expected[:, :-2, 3:] = x[:, 2:, :-3]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("size", [SIZE, 25])
def test_a_quarter_turn_is_counter_clockwise(size):
    x = images(2, size, size)
    np.testing.assert_allclose(changed(x, rotate_deg=90), np.rot90(x.numpy(), 1, (1, 2)), atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (40, 56)])
@pytest.mark.parametrize("degrees", [-20, 35])
def test_a_turn_moves_a_spot_along_a_circle(height, width, degrees):
    x = spot(height, width)
    row, column = centroid(x[0].numpy())
    angle = np.deg2rad(degrees)
    expected = (row * np.cos(angle) - column * np.sin(angle), column * np.cos(angle) + row * np.sin(angle))
    found = changed(x, rotate_deg=degrees)[0]
    np.testing.assert_allclose(centroid(found), expected, atol=0.02)
    assert found.sum() == pytest.approx(float(x.sum()), rel=1e-3)


def test_magnifying_moves_a_spot_outwards_and_spreads_it():
    x = spot()
    found = changed(x, scale=1.25)[0]
    np.testing.assert_allclose(centroid(found), 1.25 * np.array(centroid(x[0].numpy())), atol=0.05)
    assert found.sum() == pytest.approx(1.25**2 * float(x.sum()), rel=0.01)


def test_brightness_multiplies_and_contrast_stretches_about_the_mean():
    x = images()
    mean = x.numpy().mean((1, 2), keepdims=True)
    np.testing.assert_allclose(changed(x, brightness=1.3), 1.3 * x.numpy(), rtol=1e-6)
    np.testing.assert_allclose(changed(x, contrast=0.5), mean + 0.5 * (x.numpy() - mean), rtol=1e-5)
    assert not changed(x, contrast=0).std((1, 2)).max() > 1e-6


@settings(max_examples=6)
@given(a=st.floats(-2, 2), b=st.floats(-2, 2), seed=st.integers(0, 1000))
def test_every_change_is_linear_in_the_image(a, b, seed):
    first, second = images(4), images(4).flip(1)
    everything = Augmentation(rotate_deg=30, translate=0.2, scale=0.3, jitter=0.5)
    changes = draw_changes(4, everything, np.random.default_rng(seed))
    together = apply_changes(a * first + b * second, changes)
    apart = a * apply_changes(first, changes) + b * apply_changes(second, changes)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_draws_fill_their_limits_and_no_more():
    limits = Augmentation(rotate_deg=10, translate=0.05, scale=0.1, jitter=0.2)
    changes = draw_changes(5000, limits, np.random.default_rng(2))
    expected = {"rotate_deg": (-10, 10), "shift_x": (-0.05, 0.05), "shift_y": (-0.05, 0.05), "scale": (0.9, 1.1)}
    expected |= {"brightness": (0.8, 1.2), "contrast": (0.8, 1.2)}
    for name, (low, high) in expected.items():
        assert low <= changes[name].min() < low + 0.02 * (high - low), name
        assert high >= changes[name].max() > high - 0.02 * (high - low), name
    correlation = np.corrcoef([changes[name] for name in CHANGE.names])
    assert np.abs(correlation - np.eye(len(CHANGE.names))).max() < 0.08


def test_one_setting_does_not_move_the_draws_of_another():
    few = draw_changes(50, Augmentation(rotate_deg=10), np.random.default_rng(3))
    many = draw_changes(50, Augmentation(rotate_deg=10, jitter=0.3, translate=0.1), np.random.default_rng(3))
    np.testing.assert_array_equal(few["rotate_deg"], many["rotate_deg"])
    np.testing.assert_array_equal(few["flip"], many["flip"])


def test_an_image_changes_alike_in_any_batch():
    x = images(6)
    limits = Augmentation(rotate_deg=20, translate=0.1, scale=0.1, jitter=0.2)
    changes = draw_changes(6, limits, np.random.default_rng(4))
    torch.testing.assert_close(apply_changes(x[4:5], changes[4:5]), apply_changes(x, changes)[4:5])
