"""Measures of image quality against closed forms and scikit-image."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops

from xiqa.metrics.measures import (
    BINS,
    MEASURES,
    co_occurrence,
    contrast,
    correlations,
    first_order,
    measure,
    motion,
    noise_sd,
    spectrum,
)

RNG = np.random.default_rng(0)


def power_law(side: int, exponent: float) -> np.ndarray:
    """A random image whose power falls with this exponent of the frequency."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = np.inf
    return np.fft.ifft2(np.fft.fft2(RNG.standard_normal((side, side))) * frequency ** (-exponent / 2)).real


@pytest.mark.parametrize("sd", [0.01, 0.3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_noise_is_found_on_a_ramp_and_on_a_curved_ground(sd, kind):
    y, x = np.mgrid[:200, :200] / 200
    ground = 3 + 2 * x - y + 0.2 * x * y
    image = (ground + sd * np.random.default_rng(1).standard_normal(ground.shape)).astype(kind)
    assert noise_sd(image) == pytest.approx(sd, rel=0.03)
    assert noise_sd(ground) == pytest.approx(0, abs=1e-12)


def test_noise_is_what_the_mask_of_two_laplacians_gives_pixel_by_pixel():
    image = RNG.random((9, 11))
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = sum(abs((image[i - 1 : i + 2, j - 1 : j + 2] * kernel).sum()) for i in range(1, 8) for j in range(1, 10))
    assert noise_sd(image) == pytest.approx(math.sqrt(math.pi / 2) / (6 * 7 * 9) * total, rel=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_the_slope_of_a_power_law_is_its_exponent(exponent):
    slopes = [spectrum(power_law(128, exponent))[0] for _ in range(5)]
    assert np.mean(slopes) == pytest.approx(-exponent, abs=0.12)


def test_the_median_frequency_of_white_noise_and_of_a_wave_and_falls_with_blur():
    white = np.random.default_rng(2).standard_normal((128, 128))
    assert spectrum(white)[1] == pytest.approx(0.25, abs=0.01)
    wave = np.sin(2 * np.pi * 0.2 * np.arange(128))[None] * np.ones((128, 1))
    assert spectrum(wave)[1] == pytest.approx(0.2, abs=0.01)
    medians = [spectrum(ndimage.gaussian_filter(white, blur))[1] for blur in (0, 0.5, 1, 2)]
    assert medians == sorted(medians, reverse=True)


def test_contrast_and_its_ratio_to_noise_of_a_disc():
    y, x = np.mgrid[:100, :100]
    mask = np.hypot(y - 50, x - 50) < 12
    image = 5.0 + 2.0 * mask
    assert contrast(image, mask) == pytest.approx(2.0)
    noisy = image + 0.1 * np.random.default_rng(3).standard_normal(image.shape)
    found = measure(noisy, mask, (0.5, 2.0))
    assert found["contrast_to_noise"] == pytest.approx(20, rel=0.12)  # the disc's edge adds a little noise
    assert found["size_px"] == mask.sum()
    assert found["diameter_mm"] == pytest.approx(2 * math.sqrt(mask.sum() * 0.5 * 2.0 / math.pi))
    assert math.isnan(contrast(image, np.ones_like(mask)))


def test_motion_is_the_energy_above_and_below_the_body_over_that_beside_it():
    image = np.full((40, 60), 0.01)
    image[10:30, 20:45] = 1.0
    image[:10, 20:45] = image[30:, 20:45] = 0.05
    assert motion(image) == pytest.approx(math.log(0.05**2 / 0.01**2))
    assert motion(image.T) == pytest.approx(-motion(image))
    assert math.isnan(motion(np.ones((5, 5))))


def test_moments_of_a_known_distribution():
    values = np.random.default_rng(4).exponential(2.0, 400_000)
    found = first_order(values)
    assert found["mean"] == pytest.approx(2, rel=0.01)
    assert found["sd"] == pytest.approx(2, rel=0.01)
    assert found["skewness"] == pytest.approx(2, rel=0.05)
    assert found["kurtosis"] == pytest.approx(6, rel=0.15)
    assert found["p10"] == pytest.approx(-2 * math.log(0.9), rel=0.02)
    assert found["mad"] == pytest.approx(4 / math.e, rel=0.01)
    assert first_order(np.repeat(np.arange(BINS), 5))["entropy"] == pytest.approx(math.log2(BINS))
    assert math.isnan(first_order(np.ones(5))["skewness"])


@pytest.mark.parametrize("masked", [False, True])
def test_texture_is_that_of_scikit_image(masked):
    image = ndimage.gaussian_filter(RNG.standard_normal((40, 50)), 1)
    mask = np.zeros(image.shape, bool)
    mask[5:30, 8:41] = True
    inside = mask if masked else np.ones_like(mask)
    low, high = image[inside].min(), image[inside].max()
    levels = np.minimum(BINS * (image - low) / (high - low), BINS - 1).astype(int) + 1
    levels = np.where(inside, levels, 0).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counts = graycomatrix(levels, [1], angles, BINS + 1, symmetric=True)[1:, 1:].astype(float)
    p = counts / counts.sum((0, 1), keepdims=True)
    found = co_occurrence(image, mask if masked else None)
    for name in ("contrast", "correlation", "homogeneity"):
        assert found[name] == pytest.approx(float(graycoprops(p, name).mean()), rel=1e-9)
    assert found["energy"] == pytest.approx(float(graycoprops(p, "ASM").mean()), rel=1e-9)


def test_what_is_measured_is_refused_by_name_where_it_is_not_there():
    image = RNG.random((20, 20))
    with pytest.raises(ValueError, match="size_px is that of a mask, found no mask"):
        measure(image, names=["noise", "size_px"])
    with pytest.raises(ValueError, match="found an empty mask"):
        measure(image, np.zeros((20, 20), bool), names=["contrast_to_noise"])
    with pytest.raises(ValueError, match="found 'grain', expected one of noise, "):
        measure(image, names=["grain"])
    with pytest.raises(ValueError, match="finite pixels"):
        measure(np.full((5, 5), np.nan))
    assert set(measure(image)) == {name for name, known in MEASURES.items() if not known.needs_mask}
    assert math.isnan(measure(np.ones((9, 9)))["glcm_contrast"])


def test_the_configuration_knows_every_measure():
    from xiqa import registry

    assert tuple(MEASURES) == registry.MEASURES


def test_measures_that_repeat_a_kept_one_are_left_out():
    draw = np.random.default_rng(5)
    noise, sharp = draw.random((2, 300))
    table = pd.DataFrame(
        {"glcm_contrast": noise**3 + 0.01 * draw.random(300), "noise": noise, "sd": sharp, "mad": 2 * sharp, "p10": 1.0}
    )
    found = correlations(table, list(table))
    assert found.loc[found["kept"], "measure"].drop_duplicates().tolist() == ["noise", "sd"]
    because = found.drop_duplicates("measure").set_index("measure")["because"]
    assert because.to_dict() == {
        "glcm_contrast": "repeats noise", "noise": "", "sd": "", "mad": "repeats sd", "p10": "does not vary",
    }  # fmt: skip
    rho = found.set_index(["measure", "other"])["spearman"]
    assert rho["sd", "mad"] == pytest.approx(1)
    assert rho["noise", "sd"] == pytest.approx(pd.Series(noise).corr(pd.Series(sharp), method="spearman"))
