"""What methods compare an image with: noise drawn image by image, and what stands where nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.seeds import stream_seed


def generators(n: int, seed: int, *stream: str) -> list[torch.Generator]:
    """One generator per image, for number i of a call."""
    return [torch.Generator().manual_seed(stream_seed(seed, *stream, i) % 2**63) for i in range(n)]


def normal_noise(x: Tensor, samples: int, seed: int) -> Iterator[Tensor]:
    """`samples` times standard normal noise (n, c, h, w)."""
    drawn = generators(len(x), seed, "noise")
    for _ in range(samples):
        yield torch.stack([torch.randn(x.shape[1:], generator=g) for g in drawn]).to(x)


def noisy_copies(x: Tensor, samples: int, noise_level: float, seed: int) -> Iterator[Tensor]:
    """`samples` times the images (n, c, h, w) with normal noise of `noise_level` times the range of each.

    Raises:
        ValueError: no samples, or a negative noise level.
    """
    if samples < 1 or noise_level < 0:
        raise ValueError(f"found samples={samples}, noise_level={noise_level}, expected at least 1 and at least 0")
    spread = noise_level * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    return (x + spread * noise for noise in normal_noise(x, samples, seed))


def baseline_image(x: Tensor, baseline: float | Tensor | None) -> Tensor:
    """What stands where nothing of the image is left, (n, c, h, w) as x.

    Args:
        x: (n, c, h, w).
        baseline: a number, or a tensor that broadcasts to x; None: the minimum of each image.

    Raises:
        ValueError: x has another shape; the baseline does not broadcast to it.
    """
    if x.ndim != 4:
        raise ValueError(f"x: found {tuple(x.shape)}, expected (n, c, h, w)")
    if baseline is None:
        return x.amin((1, 2, 3), keepdim=True).expand_as(x)
    values = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
    try:
        return values.expand_as(x)
    except RuntimeError:
        raise ValueError(
            f"baseline: found {tuple(values.shape)}, expected a number or a tensor that broadcasts to {tuple(x.shape)}"
        ) from None


CPU_PIECE = 24 * 2**20
"""Bytes up to which an allocator keeps memory for the next use; glibc up to 32 MiB."""


def copies_at_once(target: Explained, x: Tensor) -> int:
    """How many changed copies of an image of x are made at a time.

    They and what they are made of take 3/8 of the bound on the memory; the passes themselves are split by `target`.
    On a CPU they take less: the system gives and clears larger pieces of memory anew each time.
    """
    bound = target.memory_bytes / 8
    return max(1, int(min(bound, CPU_PIECE) if x.device.type == "cpu" else bound) // (x[0].numel() * x.element_size()))
