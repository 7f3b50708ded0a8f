"""Searches for counterfactuals against closed forms of linear networks and autoencoders."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xiqa.counterfactuals.autoencoder import Autoencoder, train_autoencoder
from xiqa.counterfactuals.deepfool import deepfool
from xiqa.counterfactuals.latent_shift import BISECTIONS, latent_shift, random_shift, shortest

KINDS = pytest.mark.parametrize("kind", [torch.float32, torch.float64])


class Linear:
    """A linear autoencoder of rows, D with orthonormal columns, E = Dᵀ, and a linear classifier with one output."""

    def __init__(self, kind: torch.dtype, outputs: int = 1):
        draw = torch.Generator().manual_seed(0)
        self.d = torch.linalg.qr(torch.randn(12, 4, generator=draw, dtype=torch.float64))[0].to(kind)
        self.w = torch.randn(outputs, 12, generator=draw, dtype=torch.float64).to(kind)
        self.x = torch.randn(9, 12, generator=draw, dtype=torch.float64).to(kind) + 3 * (self.d.sum(1))

    def encode(self, x: Tensor) -> Tensor:
        return x @ self.d

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.d.T

    def net(self, x: Tensor) -> Tensor:
        return x @ self.w.T


@KINDS
@pytest.mark.parametrize("residual", [True, False])
def test_of_a_linear_autoencoder_and_classifier_the_shift_is_the_distance_over_the_slope(kind, residual):
    of = Linear(kind)
    start = of.x if residual else of.decode(of.encode(of.x))
    f, slope = of.net(start)[:, 0], (of.w @ of.d)[0]
    of_x = of.net(of.x)[:, 0]
    keep = (f * of_x > 0) & (f.abs() / slope.norm() < 1.6 * of.encode(of.x).norm(dim=1))
    assert keep.sum() >= 4
    found = latent_shift(of.net, of, of.x, residual=residual, bounds=None)
    exact = f.abs() / slope.norm()
    assert found.valid[keep].all()
    # The upper end of the last bisection: too long by at most the last doubled step, seven times halved.
    unit = of.encode(of.x).norm(dim=1)
    over = (found.length - exact)[keep] / exact[keep]
    assert (over >= -1e-5).all()
    assert (over * exact[keep] <= 1.6 * unit[keep] / 2**BISECTIONS).all()
    moved = (found.images - start)[keep]
    torch.testing.assert_close(moved.norm(dim=1), found.length[keep], rtol=1e-5, atol=0)
    # In the published form x' = D(z + λ ∂f/∂z) with λ = -f(Dz) / ‖Dᵀw‖².
    published = -(f / slope.square().sum())[:, None] * (slope @ of.d.T)
    cosine = torch.nn.functional.cosine_similarity(moved, published[keep])
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=1e-5, atol=0)


def test_the_shortest_flip_is_found_to_a_hundredth_and_none_is_invented():
    unit = torch.tensor([1.0, 1.0, 2.0, 1.0], dtype=torch.float64)
    at = torch.tensor([0.013, 1.0, 3.1, 3.3], dtype=torch.float64)
    length, found = shortest(lambda lam: lam >= at, unit)
    assert found.tolist() == [True, True, True, False]
    assert ((length - at)[:3] >= 0).all()
    assert ((length - at)[:3] <= 1.6 * unit[:3] / 2**BISECTIONS).all()
    assert length[3] == pytest.approx(3.2)


def test_a_class_that_an_image_already_has_is_refused_as_its_counterfactual():
    of = Linear(torch.float64)
    own = (of.net(of.x)[:, 0] > 0).long()
    with pytest.raises(ValueError, match=r"to: found class \d for an image of that class, expected another one"):
        latent_shift(of.net, of, of.x, own)


def test_a_published_shift_starts_from_the_reconstruction_and_says_what_that_is_decided_as():
    of = Linear(torch.float64)
    lost = of.w - of.w @ of.d @ of.d.T  # what the autoencoder cannot draw decides here
    x = of.decode(of.encode(of.x)) + 5 * torch.sign(-of.net(of.decode(of.encode(of.x)))) * lost
    own = (of.net(x)[:, 0] > 0).long()
    assert (latent_shift(of.net, of, x, bounds=None, residual=False).decided != own).all()
    assert (latent_shift(of.net, of, x, bounds=None).decided == own).all()


def test_a_random_shift_is_as_long_as_the_one_that_it_controls():
    of = Linear(torch.float64)
    shift = latent_shift(of.net, of, of.x, bounds=None)
    control = random_shift(of.net, of, of.x, shift, seed=1, bounds=None)
    torch.testing.assert_close((control.images - of.x).norm(dim=1), shift.length)
    assert not torch.allclose(control.images, shift.images)


@KINDS
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_deepfool_of_a_linear_classifier_is_the_foot_on_the_nearest_border(kind, outputs):
    of = Linear(kind, outputs)
    found = deepfool(of.net, of.x, bounds=None)
    f = of.net(of.x)
    if outputs == 1:
        distance = f[:, 0].abs() / of.w.norm()
    else:
        c = f.argmax(1)
        gaps = f.gather(1, c[:, None]) - f
        slopes = (of.w[c][:, None] - of.w[None]).norm(dim=2)
        distance = (gaps / slopes).masked_fill(gaps == 0, torch.inf).min(1).values
    assert found.valid.all()
    torch.testing.assert_close((found.images - of.x).norm(dim=1), 1.02 * distance, rtol=1e-4, atol=0)


def test_an_autoencoder_learns_images_keeps_its_seed_and_refuses_sides_that_it_cannot_halve():
    y, x = np.mgrid[:16, :16] / 16
    draws = np.random.default_rng(0).uniform(0, 0.4, (3, 24, 1, 1))
    images = (draws[0] + draws[1] * y + draws[2] * x).astype(np.float32)
    torch.manual_seed(0)
    features = nn.Sequential(nn.Flatten(), nn.Linear(256, 3)).requires_grad_(False)
    options = {"seed": 3, "features": features, "feature_weight": 0.5, "lr": 5e-3}
    state = torch.get_rng_state()
    first, second = (train_autoencoder(images, np.arange(24), epochs=2, **options) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    inputs = torch.from_numpy(images)[:, None]
    assert torch.equal(first(inputs), second(inputs))
    assert first.encode(inputs).shape == (24, 8, 2, 2)
    trained = train_autoencoder(images, np.arange(24), epochs=40, **options)
    error = (trained(inputs) - inputs).abs().mean()
    assert error < 0.5 * (inputs - inputs.mean(0)).abs().mean()
    with pytest.raises(ValueError, match="found images of 16 x 20 pixels, expected multiples of 8"):
        Autoencoder().encode(torch.zeros(1, 1, 16, 20))
