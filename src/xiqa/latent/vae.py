"""A small β-VAE of square grey images, and the same encoder with labels or without training to hold it against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from xiqa.models.torch_settings import take_step, torch_settings
from xiqa.seeds import stream_seed

_CHANNELS = (32, 32, 64, 64)
_HIDDEN, _RATE, _BATCH = 128, 1e-3, 64


class Encoder(nn.Module):
    """Images (n, 1, s, s), s a multiple of 16 -> (n, outputs)."""

    def __init__(self, size: int, outputs: int):
        super().__init__()
        if size % 16:
            raise ValueError(f"size: found {size}, expected a multiple of 16, since four layers halve it")
        steps = []
        for before, after in zip((1, *_CHANNELS), _CHANNELS, strict=False):
            steps += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
        inner = _CHANNELS[-1] * (size // 16) ** 2
        self.net = nn.Sequential(
            *steps, nn.Flatten(), nn.Linear(inner, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.net(x)


class Decoder(nn.Module):
    """Codes (n, K) -> images (n, 1, s, s)."""

    def __init__(self, size: int, codes: int):
        super().__init__()
        side = size // 16
        steps: list[nn.Module] = [nn.Linear(codes, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _CHANNELS[-1] * side**2)]
        steps += [nn.ReLU(), nn.Unflatten(1, (_CHANNELS[-1], side, side))]
        for number, (before, after) in enumerate(zip(_CHANNELS[::-1], (*_CHANNELS[-2::-1], 1), strict=True)):
            steps += [nn.ConvTranspose2d(before, after, 4, 2, 1), *([nn.ReLU()] if number < len(_CHANNELS) - 1 else [])]
        self.net = nn.Sequential(*steps)

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        return self.net(z)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (n,) of normal codes (n, K) from the standard normal: ½ Σ (μ² + e^l - l - 1)."""
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)


@dataclass(frozen=True)
class Vae:
    """A trained autoencoder.

    Attributes:
        encoder: images -> means and log variances of the codes, (n, 2 K).
        decoder: codes -> images.
        mean, sd: of all pixels of the training images; the networks see (x - mean) / sd.
    """

    encoder: nn.Module
    decoder: nn.Module
    mean: float
    sd: float

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Means of the codes (n, K) of images (n, s, s)."""
        return _outputs(self.encoder, images, self.mean, self.sd)[:, : self.codes]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Images (n, s, s) of codes (n, K), in the unit of the training images."""
        with torch.no_grad():
            x = self.decoder(torch.as_tensor(codes, dtype=torch.float32))
        return x[:, 0].numpy() * self.sd + self.mean

    @property
    def codes(self) -> int:
        """How many codes an image has."""
        return self.decoder.net[0].in_features  # type: ignore[union-attr, index, return-value]


def train_vae(
    images: np.ndarray,
    codes: int,
    beta: float,
    variance: float,
    epochs: int,
    seed: int,
    *,
    threads: int = 1,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> tuple[Vae, list[dict[str, float]]]:
    """Train a β-VAE: ‖x - x̂‖² / (2 σ²) + β · KL, summed over the pixels of standardised images.

    β means nothing without σ²: an error of one standard deviation in one pixel costs 1 / (2 σ²).

    Args:
        images: (n, s, s), s a multiple of 16.
        codes: how many.
        beta: weight of the divergence; 1 is the plain VAE.
        variance: σ² of the standardised pixels.
        epochs: passes over the images.
        seed: of initial weights, order and draws.
        threads: of torch.
        progress: told after each epoch.

    Returns:
        The autoencoder, and its history: epoch, squared_error (mean of a pixel, in variances of the images), kl (nats).

    Reference: Higgins et al., β-VAE, ICLR 2017; Kingma and Welling, ICLR 2014, equation 10.
    """
    mean, sd = float(np.mean(images, dtype=np.float64)), float(np.std(images, dtype=np.float64))
    history = []
    with torch_settings(threads):
        torch.manual_seed(stream_seed(seed, "vae"))
        encoder, decoder = Encoder(images.shape[1], 2 * codes), Decoder(images.shape[1], codes)
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=_RATE)
        for epoch in range(epochs):
            sums = np.zeros(2)
            for x in _batches(images, mean, sd, stream_seed(seed, "order", epoch)):
                mu, log_variance = encoder(x).chunk(2, 1)
                decoded = decoder(mu + torch.randn_like(mu) * (0.5 * log_variance).exp())
                error, kl = ((x - decoded) ** 2).sum((1, 2, 3)), kl_divergence(mu, log_variance)
                optimiser.zero_grad()
                (error / (2 * variance) + beta * kl).mean().backward()
                take_step(optimiser)
                sums += error.sum().item() / x[0].numel(), kl.sum().item()
            error_of_pixel, kl_of_image = sums / len(images)
            history.append({"epoch": epoch + 1, "squared_error": error_of_pixel, "kl": kl_of_image})
            progress(epoch + 1, epochs, "epochs")
    return Vae(encoder.eval(), decoder.eval(), mean, sd), history


def untrained_codes(images: np.ndarray, like: Vae, seed: int) -> np.ndarray:
    """Codes (n, K) of an encoder with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "untrained encoder"))
        encoder = Encoder(images.shape[1], like.codes).eval()
    return _outputs(encoder, images, like.mean, like.sd)


def supervised_codes(
    images: np.ndarray, factors: np.ndarray, others: np.ndarray, epochs: int, seed: int, *, threads: int = 1
) -> np.ndarray:
    """Codes (m, F) of other images by the same encoder, trained to tell the standardised factors (n, F) of images."""
    mean, sd = float(np.mean(images, dtype=np.float64)), float(np.std(images, dtype=np.float64))
    targets = torch.as_tensor(factors, dtype=torch.float32)
    with torch_settings(threads):
        torch.manual_seed(stream_seed(seed, "supervised encoder"))
        encoder = Encoder(images.shape[1], factors.shape[1])
        optimiser = torch.optim.Adam(encoder.parameters(), lr=_RATE)
        for epoch in range(epochs):
            order = stream_seed(seed, "order", epoch)
            for x, y in zip(_batches(images, mean, sd, order), _shuffled(targets, order), strict=True):
                optimiser.zero_grad()
                functional.mse_loss(encoder(x), y).backward()
                take_step(optimiser)
    return _outputs(encoder.eval(), others, mean, sd)


def _shuffled(values: Tensor, seed: int) -> tuple[Tensor, ...]:
    order = np.random.default_rng(seed).permutation(len(values))
    return values[torch.from_numpy(order)].split(_BATCH)


def _batches(images: np.ndarray, mean: float, sd: float, seed: int) -> tuple[Tensor, ...]:
    """Standardised images (b, 1, s, s) in random order."""
    x = torch.from_numpy(np.asarray(images, np.float32))[:, None]
    return _shuffled((x - mean) / sd, seed)


def _outputs(net: nn.Module, images: np.ndarray, mean: float, sd: float) -> np.ndarray:
    with torch.no_grad():
        x = (torch.from_numpy(np.asarray(images, np.float32))[:, None] - mean) / sd
        return torch.cat([net(part) for part in x.split(256)]).double().numpy()
