"""The shortcut measures the background, and finds a law that depends on nothing else."""

import numpy as np
import pytest

from xiqa.cdmam.shortcut import background_statistics, fit_shortcut


def test_background_of_pure_noise():
    rng = np.random.default_rng(0)
    truth = np.array([[480, 4.5], [500, 8.0], [1200, 30.0]])
    images = np.stack([rng.normal(mean, sd, (250, 250)) for mean, sd in truth])
    found = background_statistics(np.rint(images).astype(np.uint16))
    np.testing.assert_allclose(found[:, 0], truth[:, 0], atol=0.3)
    np.testing.assert_allclose(found[:, 1], truth[:, 1], rtol=0.015)


def test_grid_and_discs_hardly_change_the_background():
    rng = np.random.default_rng(0)
    image = rng.normal(500, 8, (250, 250))
    covered = rng.random(image.shape)
    image[covered < 0.08] *= 0.7
    image[(covered > 0.08) & (covered < 0.12)] *= 0.85
    mean, sd = background_statistics(image[None])[0]
    assert mean == pytest.approx(500, abs=1)
    assert sd == pytest.approx(8, rel=0.03)
    assert image.std() > 40  # what a plain standard deviation would have given


def test_a_power_law_of_mean_and_noise_is_recovered_between_settings():
    rng = np.random.default_rng(1)
    diameters = np.linspace(1, 0.08, 12)

    def law(statistics):
        return 3 * statistics[:, 1:] / statistics[:, :1] / diameters

    training = np.stack([rng.uniform(400, 900, 40), rng.uniform(4, 14, 40)], axis=1)
    test = np.stack([rng.uniform(450, 850, 20), rng.uniform(5, 13, 20)], axis=1)
    shortcut = fit_shortcut(training, law(training))
    np.testing.assert_allclose(shortcut.predict(test), law(test), rtol=0.02)


def test_statistics_that_say_nothing_give_the_geometric_mean():
    labels = np.random.default_rng(0).lognormal(-2, 0.3, (30, 12))
    shortcut = fit_shortcut(np.full((30, 2), 5.0), labels)
    np.testing.assert_allclose(shortcut.predict(np.array([[5.0, 5.0]]))[0], np.exp(np.log(labels).mean(0)), rtol=1e-9)


def test_an_image_without_noise_is_refused():
    with pytest.raises(ValueError, match="image 1: found a constant background"):
        background_statistics(np.stack([np.arange(100.0).reshape(10, 10), np.full((10, 10), 7.0)]))
