"""Overlapping segments of an image, and the regions into which an attribution ranks them (XRAI)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
from scipy import ndimage
from skimage.transform import resize

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


def segment(image: np.ndarray) -> Segments:
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
    image = np.asarray(image)
    if image.ndim != 3 or not image.size or not np.isfinite(image).all():
        raise ValueError(f"image: found {image.shape}, expected (c, h, w) of finite values; remove NaN and infinity")
    scaled = np.moveaxis(image.astype(np.float64), 0, -1)
    low, high = scaled.min(), scaled.max()
    scaled = (scaled - low) / (high - low) * 2 - 1 if high > low else np.zeros_like(scaled)
    scaled = resize(scaled, (SIDE, SIDE), order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    found: Segments = []
    for labels in felzenszwalb(scaled, SCALES):
        if labels.shape != image.shape[1:]:
            labels = resize(
                labels, image.shape[1:], order=0, mode="constant", preserve_range=True, anti_aliasing=False
            ).astype(int)
        for label, window in enumerate(ndimage.find_objects(labels + 1)):
            if window is not None:  # a small segment can vanish at the size of the image
                found.append(_grown(labels[window] == label, window, image.shape[1:]))
    return found


def felzenszwalb(image: np.ndarray, scales: Sequence[float]) -> list[np.ndarray]:
    """Graph-based segmentation at several scales, whose edges are weighed and sorted once.

    Args:
        image: (h, w, c) float64.
        scales: Felzenszwalb's k for values of 0 to 255.

    Returns:
        Label of each pixel (h, w) for each scale, counted from 0 in the order of first pixels; what scikit-image gives
        for each scale alone.

    Reference: Felzenszwalb and Huttenlocher 2004, algorithm 1, with 8 neighbours and the merging of small segments.
    """
    smooth = ndimage.gaussian_filter(image, (SMOOTHING, SMOOTHING, 0))
    places = np.arange(smooth[..., 0].size).reshape(image.shape[:2])
    low, high, every = slice(None, -1), slice(1, None), slice(None)
    neighbours = (((every, high), (every, low)), ((high, every), (low, every)), ((high, high), (low, low)),
                  ((high, low), (low, high)))  # fmt: skip
    ends = np.concatenate([np.stack([places[a].ravel(), places[b].ravel()], 1) for a, b in neighbours])
    weights = np.concatenate([np.sqrt(((smooth[a] - smooth[b]) ** 2).sum(-1)).ravel() for a, b in neighbours])
    order = np.argsort(weights)
    ends, weights = ends[order], weights[order]
    return [_merged(ends, weights, places.size, scale / 255, MIN_SIZE).reshape(places.shape) for scale in scales]


def regions(attribution: np.ndarray, segments: Segments, full: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint regions: each pixel belongs to the segment that took it, the best segments taking theirs first.

    Args:
        attribution: (h, w), finite.
        segments: places of each segment's pixels, see `Segments`; they need not cover the image.
        full: best by the mean over the pixels that a segment adds, or (False) over all of its pixels.

    Returns:
        Region of each pixel (h, w), and in float64 the mean attribution of each region (0 if it has no pixel).

    Raises:
        ValueError: a segment reaches beyond the image.

    Reference: Kapishnikov et al. 2019, "XRAI: better attributions through regions", algorithm 1.
    """
    values = np.asarray(attribution, np.float64).ravel()
    segments = [pixels for pixels in segments if len(pixels) >= MIN_NEW_PIXELS]
    if any(pixels[0] < 0 or pixels[-1] >= values.size for pixels in segments):
        raise ValueError(f"segments: found pixels beyond 0 to {values.size - 1}; segment the image of this attribution")
    rest = len(segments)
    if full and segments:
        starts = np.concatenate([[0], np.cumsum([len(pixels) for pixels in segments])])
        region = _by_gain(values, np.concatenate(segments), starts, 1e-9 * np.abs(values).max())
    else:
        region = np.full(values.size, rest)
        means = np.array([values[pixels].mean() for pixels in segments])
        for index in np.argsort(-means, kind="stable"):
            new = segments[index][region[segments[index]] == rest]
            if len(new) >= MIN_NEW_PIXELS:
                region[new] = index
    sums, sizes = np.bincount(region, values, rest + 1), np.bincount(region, minlength=rest + 1)
    return region.reshape(attribution.shape), sums / np.maximum(sizes, 1)


def ranked(attribution: np.ndarray, segments: Segments, full: bool = True) -> np.ndarray:
    """The map of one image: each pixel carries the mean attribution of its region, see `regions`.

    Returns:
        (h, w) in float64; pixels of no segment carry their own mean. NaN if the attribution is not finite.
    """
    if not np.isfinite(attribution).all():
        return np.full(attribution.shape, np.nan)
    region, means = regions(attribution, segments, full)
    return means[region]


@numba.njit(cache=True)
def _merged(ends: np.ndarray, weights: np.ndarray, pixels: int, scale: float, min_size: int) -> np.ndarray:
    """Segment of each pixel, from the edges of the graph by rising weight."""
    above, sizes, inner = np.arange(pixels), np.ones(pixels, np.int64), np.zeros(pixels)
    for small in (False, True):
        for edge in range(len(weights)):
            a, b = _top(above, ends[edge, 0]), _top(above, ends[edge, 1])
            if a == b:
                continue
            if small:
                joined = min(sizes[a], sizes[b]) < min_size
            else:
                joined = weights[edge] < min(inner[a] + scale / sizes[a], inner[b] + scale / sizes[b])
            if joined:
                first, other = min(a, b), max(a, b)
                above[other] = first
                sizes[first] += sizes[other]
                inner[first] = weights[edge]
    labels, count = np.empty(pixels, np.int64), 0
    for pixel in range(pixels):
        top = _top(above, pixel)
        if top == pixel:
            labels[pixel] = count
            count += 1
        else:
            labels[pixel] = labels[top]
    return labels


@numba.njit(cache=True)
def _top(above: np.ndarray, pixel: int) -> int:
    """First pixel of the segment that holds a pixel; the way to it is halved."""
    while above[pixel] != pixel:
        above[pixel] = above[above[pixel]]
        pixel = above[pixel]
    return pixel


@numba.njit(cache=True)
def _by_gain(values: np.ndarray, pixels: np.ndarray, starts: np.ndarray, rounding: float) -> np.ndarray:
    """Segment that took each pixel (their number: none), always the best by the mean over its new pixels.

    Segment s is pixels[starts[s] : starts[s + 1]]; means that differ by less than `rounding` are compared afresh.
    """
    rest, size = len(starts) - 1, len(values)
    counts, sums = np.zeros(rest, np.int64), np.zeros(rest)
    # owners[first[p] : first[p + 1]] are the segments of pixel p: when it is taken, only their sums change.
    first, owners = np.zeros(size + 2, np.int64), np.empty(len(pixels), np.int64)
    for pixel in pixels:
        first[pixel + 2] += 1
    for pixel in range(size):
        first[pixel + 2] += first[pixel + 1]
    for index in range(rest):
        for place in range(starts[index], starts[index + 1]):
            pixel = pixels[place]
            owners[first[pixel + 1]] = index
            first[pixel + 1] += 1
            counts[index] += 1
            sums[index] += values[pixel]
    region = np.full(size, rest)
    while True:
        top = -np.inf
        for index in range(rest):
            if counts[index] >= MIN_NEW_PIXELS:
                top = max(top, sums[index] / counts[index])
        best, highest = -1, -np.inf
        for index in range(rest):
            if counts[index] >= MIN_NEW_PIXELS and sums[index] / counts[index] >= top - rounding:
                # Running sums are rounded: among segments that they cannot tell apart a fresh sum decides, then order.
                total = 0.0
                for place in range(starts[index], starts[index + 1]):
                    if region[pixels[place]] == rest:
                        total += values[pixels[place]]
                if total / counts[index] > highest:
                    best, highest = index, total / counts[index]
        if best < 0:
            return region
        for place in range(starts[best], starts[best + 1]):
            pixel = pixels[place]
            if region[pixel] == rest:
                region[pixel] = best
                for owner in owners[first[pixel] : first[pixel + 1]]:
                    counts[owner] -= 1
                    sums[owner] -= values[pixel]


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
