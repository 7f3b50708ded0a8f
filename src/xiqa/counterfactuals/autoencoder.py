"""A small convolutional autoencoder of gray images, which latent shifts move the code of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from xiqa.models.loader import even_batches
from xiqa.seeds import stream_seed

REDUCTION = 8
"""Pixels of the image to one place of the code, along each side."""


class Autoencoder(nn.Module):
    """Images (n, 1, h, w) in 0..1 -> code (n, 8, h/8, w/8) -> images; no path goes around the code.

    Args:
        channels: of the code.
        width: channels of the widest feature map.
    """

    def __init__(self, channels: int = 8, width: int = 64):
        super().__init__()
        w = width
        self.encoder = nn.Sequential(
            nn.Conv2d(1, w // 4, 3, 2, 1), nn.SiLU(), nn.Conv2d(w // 4, w // 2, 3, 2, 1), nn.SiLU(),
            nn.Conv2d(w // 2, w, 3, 2, 1), nn.SiLU(), nn.Conv2d(w, channels, 3, 1, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, w, 3, 1, 1), nn.SiLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(w, w, 3, 1, 1), nn.SiLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(w, w // 2, 3, 1, 1), nn.SiLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(w // 2, w // 4, 3, 1, 1), nn.SiLU(), nn.Conv2d(w // 4, 1, 3, 1, 1),
        )  # fmt: skip

    def encode(self, x: Tensor) -> Tensor:
        """Codes of images.

        Raises:
            ValueError: a side is no multiple of 8.
        """
        if x.shape[-2] % REDUCTION or x.shape[-1] % REDUCTION:
            raise ValueError(
                f"x: found images of {x.shape[-2]} x {x.shape[-1]} pixels, expected multiples of {REDUCTION}; prepare "
                "them at such a size"
            )
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions."""
        return self.decode(self.encode(x))


def train_autoencoder(
    images: np.ndarray,
    rows: np.ndarray,
    *,
    seed: int,
    epochs: int,
    features: Callable[[Tensor], Tensor] | None = None,
    feature_weight: float = 0.0,
    batch_size: int = 16,
    lr: float = 2e-3,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Autoencoder:
    """An autoencoder that is trained to mean absolute error, and to what an explained network sees.

    Args:
        images: (n, h, w) in 0..1.
        rows: (m,) those of the training part.
        seed: of its weights and of the order of the images.
        epochs: how often each image is seen; the learning rate falls to 0 along a cosine.
        features: images (n, 1, h, w) -> (n, k) features of the explained network, whose weights stay as they are. None:
            gray values alone.
        feature_weight: of the mean absolute error of the features, over their mean absolute deviation, beside that of
            gray values over theirs.
        batch_size: images of a step.
        lr: largest learning rate, of Adam.
        progress: told how many epochs are done.

    Returns:
        The autoencoder, in evaluation mode; its parameters ask for no gradient.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "autoencoder"))
        net = Autoencoder().to(memory_format=torch.channels_last)
    order = np.random.default_rng(stream_seed(seed, "autoencoder order"))
    sample = _input(images, np.sort(rows)[:: max(1, len(rows) // 256)])
    spread = _deviation(sample)
    with torch.no_grad():
        feature_spread = _deviation(features(sample)) if features else 1.0
        net.decoder[-1].bias.fill_(sample.mean())
    batches_per_epoch = len(even_batches(rows, batch_size))
    optimiser = torch.optim.Adam(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(2, epochs * batches_per_epoch))
    for epoch in range(epochs):
        for batch in even_batches(order.permutation(rows), batch_size):
            x = _input(images, batch)
            made = net(x)
            loss = functional.l1_loss(made, x) / spread
            if features and feature_weight:
                with torch.no_grad():
                    wanted = features(x)
                loss = loss + feature_weight * functional.l1_loss(features(made), wanted) / feature_spread
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        progress(epoch + 1, epochs, "epochs")
    return net.eval().requires_grad_(False)


def _input(images: np.ndarray, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(images[rows], np.float32))[:, None].contiguous(memory_format=torch.channels_last)


def _deviation(values: Tensor) -> float:
    """Mean absolute deviation from the mean over images."""
    return float((values - values.mean(0)).abs().mean().clamp_min(1e-6))
