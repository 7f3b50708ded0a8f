"""RISE: the mean of random smooth masks, each weighted by the explained scalar of the image behind it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from xiqa.saliency.explained import Explained
from xiqa.saliency.references import baseline_image, copies_at_once
from xiqa.seeds import stream_seed


@torch.no_grad()
def explain(
    target: Explained,
    x: Tensor,
    masks: int = 1000,
    cells: int = 7,
    probability: float = 0.5,
    seed: int = 0,
    baseline: float | Tensor | None = None,
) -> Tensor:
    """Maps Σ_i f(image behind mask i) · mask_i / (masks · probability).

    A mask is a grid of `cells` x `cells` ones and zeros, enlarged bilinearly to a cell more than the image, and cut
    out at a random place. Where it is 0 the baseline is seen. All images of a call are behind the same masks.

    A constant added to f adds that constant times the uneven coverage of the masks, which falls with √masks. The paper
    explains probabilities; for them give Explained a target such as `lambda logits: logits.softmax(1)[:, k]`.

    Args:
        target: what is explained; only its values are used.
        x: (n, c, h, w).
        masks: N, number of masks.
        cells: rows and columns of the grid.
        probability: p, of a cell to be 1.
        seed: of the masks, which depend on nothing else but their number, form and size.
        baseline: a number or a tensor that broadcasts to x; None: the minimum of each image. 0.0 is the product of
            image and mask as published.

    Returns:
        Maps (n, h, w) in the unit of f; the larger, the more the scalar has where the pixel is seen.

    Raises:
        ValueError: masks, cells or probability out of range; the baseline does not fit to the images.

    Reference: Petsiuk et al. 2018, "RISE", equation 6; masks: section 3.2.
    """
    if masks < 1 or cells < 1 or not 0 < probability < 1:
        raise ValueError(
            f"found masks={masks}, cells={cells}, probability={probability}, expected at least 1, at least 1, "
            "and a number between 0 and 1"
        )
    start = baseline_image(x, baseline)
    size = max(1, copies_at_once(target, x) // len(x))
    maps = x.new_zeros(len(x), *x.shape[2:])
    grids, shifts = _draw(masks, cells, probability, seed, x.shape[2:])
    for first in range(0, masks, size):
        mask = _enlarge(grids[first : first + size].to(x), shifts[first : first + size], x.shape[2:])
        behind = torch.lerp(start[:, None], x[:, None], mask[None, :, None])
        image = torch.arange(len(x), device=x.device).repeat_interleave(len(mask))
        values = target.value(behind.flatten(0, 1), image).reshape(len(x), len(mask))
        maps += torch.einsum("nm,mhw->nhw", values.to(maps.dtype), mask)
    return maps / (masks * probability)


def _draw(masks: int, cells: int, probability: float, seed: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Grids (masks, cells, cells) bool, and where they are cut: (masks, 2) pixels, less than a cell."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "rise"))
    grids = torch.rand((masks, cells, cells), generator=generator, dtype=torch.float64) < probability
    places = torch.rand((masks, 2), generator=generator, dtype=torch.float64)
    return grids, (places * torch.tensor([-(-side // cells) for side in size])).long()


def _enlarge(grids: Tensor, shifts: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (m, h, w) from 0 to 1 of grids (m, cells, cells)."""
    cells, (height, width) = grids.shape[-1], size
    whole = [(cells + 1) * -(-side // cells) for side in size]
    large = functional.interpolate(grids[:, None], whole, mode="bilinear", align_corners=False)[:, 0]
    parts = zip(large, shifts.tolist(), strict=True)
    return torch.stack([mask[top : top + height, left : left + width] for mask, (top, left) in parts])
