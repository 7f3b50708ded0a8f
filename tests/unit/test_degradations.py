"""Degradations against closed forms: shift theorem, Parseval, photon statistics, spectra, moments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from xiqa.datasets.degradations import DEGRADATIONS, LOCAL, acquired, degrade, soft_disc, translated


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(h: int = 48, w: int = 40) -> np.ndarray:
    return ndimage.gaussian_filter(rng(3).random((h, w)), 1.5) ** 2


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_strength_zero_changes_nothing(name, dtype):
    image = scene().astype(dtype)
    degraded, truth = DEGRADATIONS[name](image, 0.0, rng())
    np.testing.assert_allclose(degraded, image, atol=1e-12 if dtype == np.float64 else 2e-6)
    assert truth.max() <= 2e-6


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_ground_truth_is_the_change_of_each_pixel_and_the_stronger_the_more(name):
    image = scene()
    changes = []
    for strength in (0.5, 2.0, 8.0):
        degraded, truth = DEGRADATIONS[name](image, strength, rng())
        assert np.array_equal(truth, np.abs(degraded - image))
        changes.append(truth.mean())
    if name == "downsampling":
        assert changes[0] == 0  # half a pixel cannot be
    assert changes[0] <= changes[1] < changes[2]


@given(x=st.integers(-9, 9), y=st.integers(-9, 9))
@settings(max_examples=20)
def test_constant_whole_shift_rolls_the_image(x, y):
    image = scene()
    moved = translated(image, np.full(48, x), np.full(48, y))
    np.testing.assert_allclose(moved, np.roll(image, (y, x), (0, 1)), atol=1e-12)


def test_constant_fractional_shift_is_the_shift_theorem():
    image = scene(47, 41)
    moved = translated(image, np.full(47, -0.7), np.full(47, 2.3))
    expected = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), (2.3, -0.7)))
    np.testing.assert_allclose(moved, expected, atol=1e-12)


@given(path=st.lists(st.floats(-20, 20), min_size=48, max_size=48), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_motion_keeps_the_energy(path, seed):
    image = scene()
    moved = translated(image, np.array(path), rng(seed).normal(0, 3, 48))
    assert np.sum(np.abs(moved) ** 2) == pytest.approx(np.sum(image**2))


def test_lines_from_poses_agree_with_displaced_lines():
    image, pose = scene(), np.repeat([0, 1], 24)
    poses = np.array([image, np.roll(image, (3, -2), (0, 1))])
    np.testing.assert_allclose(acquired(poses, pose), translated(image, -2.0 * pose, 3.0 * pose), atol=1e-12)
    np.testing.assert_allclose(acquired(poses, np.ones(48, int)), poses[1], atol=1e-12)


def test_an_organ_that_is_everything_moves_as_everything_and_nothing_stays():
    image = scene()
    whole = DEGRADATIONS["motion"](image, 3.0, rng_after_region())[0]
    np.testing.assert_allclose(DEGRADATIONS["organ_motion"](image, 3.0, rng(), region=np.ones_like(image))[0], whole)
    np.testing.assert_allclose(DEGRADATIONS["local_motion"](image, 3.0, rng(), region=np.ones_like(image))[0], whole)
    np.testing.assert_allclose(
        DEGRADATIONS["organ_motion"](image, 3.0, rng(), region=np.zeros_like(image))[0], image, atol=1e-12
    )


def rng_after_region() -> np.random.Generator:
    """A region, drawn or given, takes three numbers."""
    generator = rng()
    generator.random(3)
    return generator


def test_ghosts_of_an_organ_lie_in_its_columns_when_it_moves_up_and_down():
    image = np.zeros((48, 40))
    image[20:26, 10:16] = 1
    y_px = 2 * np.sin(np.arange(48))
    change = np.abs(np.abs(translated(image, np.zeros(48), y_px)) - image)
    assert change[:, :10].max() < 1e-12
    assert change[:, 16:].max() < 1e-12
    assert change[:15, 10:16].max() > 0.01
    assert change[31:, 10:16].max() > 0.01


@pytest.mark.parametrize("name", ["local_motion", "local_blur"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_local_degradations_leave_the_rest_bit_for_bit(name, dtype):
    image = scene().astype(dtype)
    weight = soft_disc(image.shape, 20, 24, 6, 5)
    degraded, truth = DEGRADATIONS[name](image, 3.0, rng(), region=weight)
    assert np.array_equal(degraded[weight == 0], image[weight == 0])
    assert not truth[weight == 0].any()
    whole, _ = DEGRADATIONS[name](image, 3.0, rng(), region=np.ones_like(weight))
    np.testing.assert_allclose(truth, weight * np.abs(whole - image), atol=1e-6)
    assert truth.max() > 0


def test_soft_disc_is_one_within_half_at_mid_edge_and_zero_beyond():
    disc = soft_disc((41, 41), 20, 20, 8, 4)
    np.testing.assert_allclose(disc[20, [20, 28, 30, 32, 33]], [1, 1, 0.5, 0, 0])


def test_blur_adds_its_variance_to_that_of_a_spot():
    steps = np.arange(81) - 40
    spot = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 3.0**2))
    blurred, _ = DEGRADATIONS["blur"](spot, 4.0, rng())
    for axis in (0, 1):
        profile = blurred.sum(axis)
        assert np.sum(profile * steps**2) / profile.sum() == pytest.approx(3.0**2 + 4.0**2, rel=1e-3)


def test_rician_noise_has_the_moments_of_rice():
    flat, sigma = np.full((400, 400), 0.5), 0.2
    noisy, _ = DEGRADATIONS["rician"](flat, sigma, rng())
    assert np.mean(noisy**2) == pytest.approx(0.5**2 + 2 * sigma**2, rel=0.01)
    background, _ = DEGRADATIONS["rician"](np.zeros((400, 400)), sigma, rng())
    assert background.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)


@pytest.mark.parametrize("dose", [0.5, 0.1])
def test_photons_that_are_taken_away_leave_poisson_counts(dose):
    counts, attenuation, value = 5000.0, 3.0, 0.4
    mean = counts * np.exp(-attenuation * value)
    recorded = rng(1).poisson(mean, (500, 500))  # full dose
    image = np.log(counts / recorded) / attenuation
    degraded, _ = DEGRADATIONS["quantum_noise"](image, 1 / dose - 1, rng(2), counts=counts, attenuation=attenuation)
    photons = counts * dose * np.exp(-attenuation * degraded)
    assert photons.mean() == pytest.approx(dose * mean, rel=0.002)
    assert photons.var() == pytest.approx(photons.mean(), rel=0.02)
    # The variance of the recorded signal grows by 1 / dose.
    assert (photons / dose).var() / recorded.var() == pytest.approx(1 / dose, rel=0.03)


def test_dense_tissue_gets_more_quantum_noise():
    image = np.repeat([[0.2, 0.8]], 300, 0).repeat(300, 1)
    _, truth = DEGRADATIONS["quantum_noise"](image, 3.0, rng(), counts=1e5, attenuation=4.0)
    # Variance of a logarithm of n counts is 1 / n: exp(4 · 0.6 / 2) in standard deviation.
    assert truth[:, 300:].mean() / truth[:, :300].mean() == pytest.approx(np.exp(1.2), rel=0.02)


def test_a_ray_without_photons_stays_finite():
    degraded, _ = DEGRADATIONS["quantum_noise"](np.ones((50, 50)), 99.0, rng(), counts=100.0, attenuation=5.0)
    assert np.isfinite(degraded).all()


def test_low_dose_ct_adds_the_variance_of_the_dose():
    flat, noise, dose = np.full((256, 256), 0.5), 0.02, 0.25
    full = flat + noise * rng(1).standard_normal(flat.shape)
    degraded, _ = DEGRADATIONS["low_dose_ct"](full, 1 / dose - 1, rng(2), noise=noise)
    assert degraded.var() == pytest.approx(noise**2 / dose, rel=0.03)
    # Filtered back-projection has no response at frequency 0: the mean stays.
    assert degraded.mean() == pytest.approx(full.mean(), abs=1e-12)


def test_low_dose_ct_has_the_ramp_spectrum():
    flat = np.full((256, 256), 0.5)
    degraded, _ = DEGRADATIONS["low_dose_ct"](flat, 1.0, rng(), blur_px=0.0)
    power = np.abs(np.fft.fft2(degraded - flat)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    low, high = ((frequency > f - 0.02) & (frequency < f + 0.02) for f in (0.1, 0.4))
    assert power[high].mean() / power[low].mean() == pytest.approx(4, rel=0.1)


def test_downsampling_keeps_slopes_and_takes_what_lies_above_its_nyquist_frequency():
    ramp = np.broadcast_to(np.linspace(0, 1, 60), (60, 60))
    degraded, _ = DEGRADATIONS["downsampling"](ramp, 3.0, rng())
    np.testing.assert_allclose(degraded[:, 2:-2], ramp[:, 2:-2], atol=1e-6)
    checkerboard = np.indices((60, 60)).sum(0) % 2.0
    assert np.allclose(DEGRADATIONS["downsampling"](checkerboard, 2.0, rng())[0], 0.5)


@pytest.mark.parametrize("name", ["motion", "local_blur", "rician"])
def test_a_stack_is_its_images_in_any_batch(name):
    images = np.stack([scene(), scene()[::-1], scene()[:, ::-1]])
    degraded, truth = degrade(images, name, 2.0, seed=4)
    later, _ = degrade(images[1:], name, 2.0, seed=4, first=1)
    one, _ = degrade(images[0], name, 2.0, seed=4)
    assert degraded.shape == truth.shape == images.shape
    assert np.array_equal(degraded[1:], later)
    assert np.array_equal(degraded[0], one)


def test_regions_of_a_stack_belong_to_their_images():
    images = np.stack([scene(), scene()])
    regions = np.stack([soft_disc(images[0].shape, x, 20, 4, 2) for x in (10, 30)])
    _, truth = degrade(images, "local_blur", 2.0, seed=0, regions=regions)
    assert not truth[regions == 0].any()
    assert (truth > 0).any((1, 2)).all()


def test_faults_are_named():
    image = scene()
    with pytest.raises(ValueError, match="expected one of motion"):
        degrade(image, "rain", 1.0, 0)
    with pytest.raises(ValueError, match="strength: found -1"):
        degrade(image, "blur", -1, 0)
    with pytest.raises(ValueError, match="expected \\(h, w\\) in 0-1"):
        degrade(image + 1, "blur", 1, 0)
    with pytest.raises(ValueError, match="expected \\(h, w\\) or \\(n, h, w\\)"):
        degrade(image[0], "blur", 1, 0)
    with pytest.raises(ValueError, match=f"for {', '.join(LOCAL)} alone"):
        degrade(image, "blur", 1, 0, regions=image)
    with pytest.raises(ValueError, match="weights outside 0-1"):
        degrade(image, "local_blur", 1, 0, regions=image + 1)
