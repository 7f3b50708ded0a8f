"""From a map of a layer to a map of the image: upsampling in two alignments, and min-max normalisation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Alignment = Literal["published", "centred"]


def onto_image(maps: Tensor, size: tuple[int, int], alignment: Alignment = "published") -> Tensor:
    """Bilinear upsampling of maps (n, u, v) to (n, *size).

    Args:
        maps: of a layer.
        size: rows and columns of the image.
        alignment: "published": the cells tile the image (`align_corners=False`). "centred": cell i lies at pixel
            i · stride, where padded convolutions of stride 2 have it; the published form draws it (stride - 1) / 2
            pixels lower and further right.

    Raises:
        ValueError: no such alignment.
    """
    if alignment == "published":
        return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    if alignment != "centred":
        raise ValueError(f"alignment: found '{alignment}', expected 'published' or 'centred'")
    down, right = (_weights(n, cells, maps) for n, cells in zip(size, maps.shape[1:], strict=True))
    return down @ maps @ right.T


def _weights(pixels: int, cells: int, like: Tensor) -> Tensor:
    """(pixels, cells) weights of linear interpolation between cells at i · stride; constant beyond the last one."""
    place = torch.arange(pixels, dtype=like.dtype, device=like.device) / -(-pixels // cells)
    distance = (place.clamp(max=cells - 1)[:, None] - torch.arange(cells, dtype=like.dtype, device=like.device)).abs()
    return (1 - distance).clamp(min=0)


def min_max(maps: Tensor) -> Tensor:
    """Each map (n, h, w) from 0 to 1; a map without range becomes 0, one that is not finite NaN."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    scaled = torch.where(high > low, (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny), 0)
    return torch.where((high - low).isfinite(), scaled, torch.nan)


def has_range(maps: Tensor) -> Tensor:
    """(n,) whether a map varies by more than rounding: min-max of one that does not would show noise."""
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    scale = torch.maximum(low.abs(), high.abs())
    return (high - low) > 100 * torch.finfo(maps.dtype).eps * scale
