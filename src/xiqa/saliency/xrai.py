"""XRAI: segments of the image, ranked by the attribution that falls on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage, sparse
from skimage.segmentation import felzenszwalb
from skimage.transform import resize
from torch import Tensor

from xiqa.saliency import gradient_paths
from xiqa.saliency.explained import Explained, check_images

SCALES = (50, 100, 150, 250, 500, 1200)
"""How coarse the segmentations are: Felzenszwalb's k."""
SMOOTHING = 0.8
"""Standard deviation of the blur before a segmentation, in pixels of the segmented size."""
MIN_SIZE = 150
"""Smallest segment in pixels of the segmented size."""
SIDE = 224
"""Height and width at which images are segmented, because the scales depend on the size."""
DILATION = 5
"""Radius of the disc by which segments grow, in pixels of the image; edges then belong to both sides."""
MIN_NEW_PIXELS = 50
"""A segment that would add fewer pixels is dropped."""

Segments = list[np.ndarray]
"""Overlapping segments of an image, each as the ascending places row * w + column of its pixels."""


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
        for index, (value, image) in enumerate(zip(values, x, strict=True))
    ]
    return torch.from_numpy(np.stack(values_of_pixels)).to(x)


def maps(
    target: Explained, x: Tensor, names: Sequence[str], base: Tensor | None = None, steps: int = 100
) -> dict[str, Tensor]:
    """`xrai` (full) and `xrai_fast` from the same base and the same segments; see `explain`."""
    base = black_and_white(target, x, steps) if base is None else base
    segmented = [segments(image) for image in x]
    return {name: explain(target, x, name == "xrai", base, steps, segmented) for name in names}


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


def segments(image: Tensor | np.ndarray) -> Segments:
    """Overlapping segments of an image at six scales; those of one scale cover it.

    Args:
        image: (c, h, w), any range of values.

    Returns:
        Segments, those of fine scales first, each grown by `DILATION`.

    Raises:
        ValueError: another shape, or values that are not finite.

    Reference: Felzenszwalb and Huttenlocher 2004, "Efficient graph-based image segmentation"; Kapishnikov et al. 2019,
    with the numbers of the code that the authors published.
    """
    image = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if image.ndim != 3 or not image.size or not np.isfinite(image).all():
        raise ValueError(f"image: found {image.shape}, expected (c, h, w) of finite values; remove NaN and infinity")
    scaled = np.moveaxis(image.astype(np.float64), 0, -1)
    low, high = scaled.min(), scaled.max()
    scaled = (scaled - low) / (high - low) * 2 - 1 if high > low else np.zeros_like(scaled)
    scaled = resize(scaled, (SIDE, SIDE), order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    found: Segments = []
    for scale in SCALES:
        labels = felzenszwalb(scaled, scale=scale, sigma=SMOOTHING, min_size=MIN_SIZE)
        if labels.shape != image.shape[1:]:
            labels = resize(
                labels, image.shape[1:], order=0, mode="constant", preserve_range=True, anti_aliasing=False
            ).astype(int)
        for label, window in enumerate(ndimage.find_objects(labels + 1)):
            if window is not None:  # a small segment can vanish at the size of the image
                found.append(_grown(labels[window] == label, window, image.shape[1:]))
    return found


def ranked(attribution: np.ndarray, segments: Segments, full: bool = True) -> np.ndarray:
    """The map of one image: each pixel carries the mean attribution of the pixels that came with it.

    Args:
        attribution: (h, w).
        segments: places of each segment's pixels, see `Segments`; they need not cover the image.
        full: rank by the pixels that a segment adds, or (False) by all of its pixels.

    Returns:
        (h, w) in float64; pixels of no segment carry their own mean. NaN if the attribution is not finite.

    Raises:
        ValueError: a segment reaches beyond the image.
    """
    values = np.asarray(attribution, np.float64).ravel()
    if not np.isfinite(values).all():
        return np.full(attribution.shape, np.nan)
    segments = [pixels for pixels in segments if len(pixels) >= MIN_NEW_PIXELS]
    if any(pixels[0] < 0 or pixels[-1] >= values.size for pixels in segments):
        raise ValueError(f"segments: found pixels beyond 0 to {values.size - 1}; segment the image of this attribution")
    ranked = np.empty_like(values)
    free = np.ones(values.size, bool)
    for new in _by_gain(values, segments, free) if full else _by_mean(values, segments, free):
        ranked[new] = values[new].mean()
        free[new] = False
    if free.any():
        ranked[free] = values[free].mean()
    return ranked.reshape(attribution.shape)


def _by_gain(values: np.ndarray, segments: Segments, free: np.ndarray):
    """New pixels of the best segment, again and again, best by the mean over what is new; the caller updates `free`."""
    if not segments:
        return
    sizes = np.array([len(pixels) for pixels in segments])
    pixels = np.concatenate(segments)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # Segments of each pixel: when pixels are taken, only the sums of these change.
    owners = sparse.csr_matrix((values[pixels], pixels, starts), (len(segments), values.size)).tocsc()
    counts, sums = sizes.copy(), np.add.reduceat(values[pixels], starts[:-1])
    alive = np.ones(len(segments), bool)
    rounding = 1e-9 * np.abs(values).max()
    while alive.any():
        gains = np.full(len(segments), -np.inf)
        gains[alive] = sums[alive] / counts[alive]
        # Running sums are rounded; between segments that they cannot tell apart the mean decides, then the order.
        near = np.flatnonzero(gains >= gains.max() - rounding)
        added = [segments[index][free[segments[index]]] for index in near]
        best = int(np.argmax([values[new].mean() for new in added])) if len(near) > 1 else 0
        yield added[best]
        taken = owners[:, added[best]]
        counts -= np.bincount(taken.indices, minlength=len(counts))
        sums -= np.bincount(taken.indices, taken.data, minlength=len(sums))
        alive &= counts >= MIN_NEW_PIXELS


def _by_mean(values: np.ndarray, segments: Segments, free: np.ndarray):
    """New pixels of each segment in the order of their means; the caller updates `free`."""
    means = np.array([values[pixels].mean() for pixels in segments])
    for index in np.argsort(-means, kind="stable"):
        new = segments[index][free[segments[index]]]
        if len(new) >= MIN_NEW_PIXELS:
            yield new


def _grown(mask: np.ndarray, window: tuple[slice, slice], shape: tuple[int, int]) -> np.ndarray:
    """Places in an image of this shape of the pixels at most `DILATION` from a mask, which fills a window of it."""
    height, width = mask.shape
    wide = np.zeros((height, width + 2 * DILATION), bool)
    grown = np.zeros((height + 2 * DILATION, width + 2 * DILATION), bool)
    reach = [math.isqrt(DILATION**2 - up**2) for up in range(DILATION + 1)]
    for across in range(DILATION + 1):
        # `wide` is the mask grown by this much to the left and the right, a row of the disc.
        for left in {DILATION - across, DILATION + across}:
            wide[:, left : left + width] |= mask
        for up in (up for up in range(DILATION + 1) if reach[up] == across):
            for top in {DILATION - up, DILATION + up}:
                grown[top : top + height] |= wide
    above, before = (axis.start - DILATION for axis in window)
    rows, columns = np.nonzero(
        grown[max(0, -above) : shape[0] - above, max(0, -before) : shape[1] - before],
    )
    return (rows + max(0, above)) * shape[1] + columns + max(0, before)
