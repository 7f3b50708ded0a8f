"""What stochastic methods draw, image by image: the same for an image whatever lies beside it in a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from xiqa.seeds import stream_seed


def generators(n: int, seed: int, *stream: str) -> list[torch.Generator]:
    """One generator per image, for number i of a call."""
    return [torch.Generator().manual_seed(stream_seed(seed, *stream, i) % 2**63) for i in range(n)]


def normal_noise(x: Tensor, samples: int, seed: int) -> Iterator[Tensor]:
    """`samples` times standard normal noise (n, c, h, w)."""
    drawn = generators(len(x), seed, "noise")
    for _ in range(samples):
        noise = torch.stack([torch.randn(x.shape[1:], generator=g, dtype=torch.float64) for g in drawn])
        yield noise.to(x)
