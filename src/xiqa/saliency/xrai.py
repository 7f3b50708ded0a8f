"""XRAI: segments of the image, ranked by the attribution that falls on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xiqa.saliency import gradient_paths
from xiqa.saliency.explained import Explained, check_images
from xiqa.segmentation import SCALES, Segments, _grown, ranked  # noqa: F401
from xiqa.segmentation import segment as segments


def explain(
    target: Explained,
    x: Tensor,
    full: bool = True,
    base: Tensor | None = None,
    steps: int = 100,
    segmented: Sequence[Segments] | None = None,
) -> Tensor:
    """Mean attribution of the segment to which each pixel was given, (n, h, w), in the units of f per pixel.

    Args:
        target: what is explained; not used if a base is given.
        x: (n, c, h, w).
        full: take the segment with the highest mean attribution on its new pixels, again and again; False: in the
            order of the mean attribution on all of a segment, which is faster and ignores overlap.
        base: (n, h, w) or (n, k, h, w), any attribution; of channels the maximum is taken. Default: `black_and_white`.
        steps: of the integrated gradients.
        segmented: what `segments` gives for each image, where several bases share it.

    Returns:
        Maps; NaN for an image whose base is not finite.

    Raises:
        ValueError: no steps, images that are not finite, or a base or segments that do not belong to the images.

    Reference: Kapishnikov et al. 2019, "XRAI: better attributions through regions", algorithm 1.
    """
    check_images(x)
    if base is None:
        base = black_and_white(target, x, steps)
    n, _, height, width = x.shape
    if base.ndim not in (3, 4) or len(base) != n or base.shape[-2:] != (height, width):
        raise ValueError(
            f"base: found {tuple(base.shape)}, expected {(n, height, width)} or {(n, 'channels', height, width)}; give "
            "an attribution for each pixel of x"
        )
    if segmented is not None and len(segmented) != n:
        raise ValueError(f"segmented: found those of {len(segmented)} images, expected {n}, one list for each of x")
    values = (base.amax(1) if base.ndim == 4 else base).detach().double().cpu().numpy()
    values_of_pixels = [
        ranked(value, segments(image) if segmented is None else segmented[index], full)
        for index, (value, image) in enumerate(zip(values, x.detach().cpu(), strict=True))
    ]
    return torch.from_numpy(np.stack(values_of_pixels)).to(x)


def maps(
    target: Explained, x: Tensor, names: Sequence[str], base: Tensor | None = None, steps: int = 100
) -> dict[str, Tensor]:
    """`xrai` (full) and `xrai_fast` from the same base and the same segments; see `explain`."""
    base = black_and_white(target, x, steps) if base is None else base
    segmented = [segments(image) for image in x.detach().cpu()]
    return {name: explain(target, x, name == "xrai", base, steps, segmented) for name in names}


def best_regions(maps: Tensor, percent: float) -> Tensor:
    """Maps (n, h, w) of which the best pixels are kept and the others have the least value of their map.

    Args:
        maps: (n, h, w) of `explain`.
        percent: of the area that is kept; more where pixels of equal value lie at its edge, as in the paper's code.

    Reference: Brima and Atemkeng 2023, section 4.3, "Fast XRAI 30 %".
    """
    values = maps.flatten(1).cpu().numpy()
    edge = maps.new_tensor(np.percentile(values, 100 - percent, axis=1))[:, None, None]
    return torch.where(maps >= edge, maps, maps.amin((1, 2), keepdim=True))


def black_and_white(target: Explained, x: Tensor, steps: int = 100) -> Tensor:
    """Mean of integrated gradients from a black and a white image, the minimum and maximum of each; (n, c, h, w).

    Args:
        target: what is explained.
        x: (n, c, h, w).
        steps: gradients per image and baseline.

    Raises:
        ValueError: no steps.

    Reference: Kapishnikov et al. 2019, the attribution that algorithm 1 starts from.
    """
    name = "integrated_gradients_bw"
    return gradient_paths.maps(target, x, [name], steps)[name]
