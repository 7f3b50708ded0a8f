"""The β-VAE of images: its divergence in closed form, the same bytes by seed, and factors that it finds."""

import numpy as np
import pytest
import torch

from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.latent.cells import FACTORS, draw_batches, draw_factors, render_cells
from xiqa.latent.vae import Decoder, Encoder, kl_divergence, supervised_codes, train_vae, untrained_codes

CENTRES = np.random.default_rng(0).uniform(4, 12, 256)
IMAGES = np.exp(-((np.arange(16) - CENTRES[:, None, None]) ** 2) / 8) * np.ones((256, 16, 16), np.float32)


def test_the_divergence_is_that_of_the_closed_form():
    variance = torch.tensor([[0.25]]).log()
    assert kl_divergence(torch.ones(1, 1), variance).item() == pytest.approx(0.8181, abs=1e-4)
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]
    found = torch.distributions.kl_divergence(
        torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    )
    assert found.item() == pytest.approx(0.8181, abs=1e-4)


def test_images_come_back_and_the_one_thing_that_varies_is_a_code():
    vae, history = train_vae(IMAGES, 2, 1.0, 0.1, 30, seed=0)
    assert history[-1]["squared_error"] < 0.3 < history[0]["squared_error"]
    codes = vae.encode(IMAGES)
    assert codes.shape == (256, 2)
    design = np.c_[codes, np.ones(256)]
    fitted = design @ np.linalg.lstsq(design, CENTRES, rcond=None)[0]
    assert np.corrcoef(fitted, CENTRES)[0, 1] > 0.9
    assert vae.decode(codes[:3]).shape == (3, 16, 16)
    again, _ = train_vae(IMAGES, 2, 1.0, 0.1, 1, seed=0)
    once, _ = train_vae(IMAGES, 2, 1.0, 0.1, 1, seed=0)
    assert (again.encode(IMAGES[:5]) == once.encode(IMAGES[:5])).all()
    assert untrained_codes(IMAGES, vae, 0).shape == (256, 2)
    told = supervised_codes(IMAGES[:200], (CENTRES[:200, None] - 8) / 2.3, IMAGES[200:], 12, 0)
    assert np.corrcoef(told[:, 0], CENTRES[200:])[0, 1] > 0.9


def test_networks_fit_each_other_and_refuse_other_sizes():
    assert Decoder(48, 5)(Encoder(48, 5)(torch.zeros(2, 1, 48, 48))).shape == (2, 1, 48, 48)
    with pytest.raises(ValueError, match="size: found 50, expected a multiple of 16"):
        Encoder(50, 2)


def test_cells_differ_by_what_was_drawn():
    table = draw_factors(200, 0, "train")
    assert set(table["corner"]) == {"1", "2", "3", "4"}
    numbers = table[list(FACTORS[1:])]
    assert numbers.corr().abs().where(~np.eye(3, dtype=bool)).max(axis=None) < 0.25
    table = table.iloc[:24]
    cells = render_cells(table, GEOMETRIES["standard_reader"], 0)
    assert cells.shape == (24, 48, 48)
    # The disc is where its corner is: that quarter is the darkest.
    quarters = {"1": (0, 0), "2": (0, 1), "3": (1, 1), "4": (1, 0)}
    mean = cells.reshape(24, 2, 24, 2, 24).mean((2, 4))
    thick = (table["log_thickness"] > 0) & (table["log_diameter"] > -0.3)
    darkest = [np.unravel_index(mean[row].argmin(), (2, 2)) for row in np.flatnonzero(thick)]
    assert darkest == [quarters[corner] for corner in table.loc[thick, "corner"]]
    batches, fixed = draw_batches(5, 8, 0, "votes")
    for batch, factor in enumerate(fixed):
        values = batches.iloc[batch * 8 : batch * 8 + 8]
        assert values[FACTORS[factor]].nunique() == 1
        assert values.nunique().drop(FACTORS[factor]).min() > 1
