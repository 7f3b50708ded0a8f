"""Score-CAM: the maps of a layer, weighted by the explained scalar of the image seen through each of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xiqa.saliency import layer_maps
from xiqa.saliency.explained import Explained
from xiqa.saliency.references import baseline_image, copies_at_once


def explain(
    target: Explained,
    x: Tensor,
    layers: Sequence[str] = (),
    channels: int | None = None,
    baseline: float | Tensor | None = None,
    alignment: layer_maps.Alignment = "published",
    normalise: bool = True,
) -> Tensor:
    """ReLU(Σ_k α_k A_k), upsampled; α = softmax over the channels k of f(image through A_k) - f(baseline).

    The image is seen where A_k, upsampled and min-maxed, is 1, and the baseline where it is 0; a map without range
    shows the baseline. f(baseline) is the same for all channels, drops out of the softmax, and is not computed.

    Args:
        target: what is explained, with the layer among its `layers`.
        x: (n, c, h, w).
        layers: the last of them is used: the last convolutional block.
        channels: use only that many channels, those of the largest variance over each image's map; None: all.
        baseline: a number or a tensor that broadcasts to x; None: the minimum of each image. 0.0 is the product of
            image and map as published.
        alignment: how the maps lie on the image, see `layer_maps.onto_image`.
        normalise: min-max the result; False: the unit of the activation.

    Returns:
        Maps (n, h, w), not negative.

    Raises:
        ValueError: no layer, or one without maps (n, k, u, v); channels below 1; the baseline does not fit.

    Reference: Wang et al. 2020, "Score-CAM", equation 5, definitions 2 and 3 and algorithm 1.
    """
    if not layers:
        raise ValueError(
            "score_cam: found no layer, expected layers=['<name>'] of `model.named_modules()`: the last convolutional "
            "block"
        )
    if channels is not None and channels < 1:
        raise ValueError(f"channels: found {channels}, expected at least 1, or None for all")
    x = x.detach()
    start, size = baseline_image(x, baseline).detach(), copies_at_once(target, x)
    maps = []
    for part in target.passes(x, layers=layers[-1:], gradient=False):
        for number, a in enumerate(part.activations[layers[-1]].a, part.rows.start):
            if channels is not None and channels < len(a):
                a = a[a.flatten(1).var(1, correction=0).topk(channels).indices]
            weights = _scores(target, x, start, number, a, size, alignment).softmax(0)
            cam = (weights[:, None, None] * a).sum(0, keepdim=True).clamp(min=0)
            maps.append(layer_maps.onto_image(cam, x.shape[2:], alignment))
    found = torch.cat(maps)
    return layer_maps.min_max(found) if normalise else found


def _scores(
    target: Explained, x: Tensor, start: Tensor, number: int, a: Tensor, size: int, alignment: layer_maps.Alignment
) -> Tensor:
    """f (k,) of one image seen through each of the maps a (k, u, v)."""
    scores = []
    for maps in a.split(size):
        large = layer_maps.onto_image(maps, x.shape[2:], alignment)
        mask = torch.where(layer_maps.has_range(large)[:, None, None], layer_maps.min_max(large), 0)
        through = torch.lerp(start[number], x[number], mask[:, None])
        scores.append(target.value(through, torch.full((len(maps),), number, device=x.device)))
    return torch.cat(scores)
