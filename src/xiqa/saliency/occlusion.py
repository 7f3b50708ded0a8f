"""Patch occlusion of any torch module: the change of the explained scalar when a patch of the image is wiped out."""

from __future__ import annotations

import torch
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.references import baseline_image, copies_at_once


@torch.no_grad()
def explain(
    target: Explained, x: Tensor, patch: int = 16, stride: int = 8, baseline: float | Tensor | None = None
) -> Tensor:
    """Maps f(x with the patch set to the baseline) - f(x), averaged over the patches on a pixel.

    Patches start at 0, stride, 2 · stride, ...; the last ones of a row or column are cut at the image border, so that
    every pixel is covered. All channels are occluded at once. patch=1, stride=1 is single-pixel occlusion.

    Args:
        target: what is explained; only its values are used.
        x: (n, c, h, w).
        patch: side of a patch in pixels.
        stride: distance of neighbouring patches in pixels, at most `patch`.
        baseline: what is put into the patch, a number or a tensor that broadcasts to x; None: the minimum of each
            image.

    Returns:
        Maps (n, h, w) in the unit of f. Negative: the patch speaks for the class, without it f is lower.

    Raises:
        ValueError: patch and stride leave pixels uncovered; the baseline does not fit to the images.

    Reference: Zeiler and Fergus 2014, section 4.2; sign as in Amanova et al. 2022, section 3.
    """
    if not 1 <= stride <= patch:
        raise ValueError(f"found patch={patch}, stride={stride}, expected 1 <= stride <= patch: all pixels are covered")
    wiped = baseline_image(x, baseline)
    rows, columns = (_windows(side, patch, stride).to(x.device) for side in x.shape[2:])
    down, across = len(rows), len(columns)
    total, size = len(x) * down * across, copies_at_once(target, x)
    before, after = target.value(x), []
    for start in range(0, total, size):
        number = torch.arange(start, min(start + size, total), device=x.device)
        image, row, column = number // (down * across), number // across % down, number % across
        inside = rows[row][:, None, :, None] & columns[column][:, None, None, :]
        after.append(target.value(torch.where(inside, wiped[image], x[image]), image))
    change = torch.cat(after).reshape(-1, down, across) - before[:, None, None]
    rows, columns = rows.to(change.dtype), columns.to(change.dtype)
    return rows.T @ change @ columns / (rows.sum(0)[:, None] * columns.sum(0))


def _windows(length: int, patch: int, stride: int) -> Tensor:
    """(patches, length) bool: which pixels of a line each patch covers; the last patch reaches the end."""
    start = torch.arange(0, max(length - patch, 0) + stride, stride)[:, None]
    place = torch.arange(length)
    return (place >= start) & (place < start + patch)
