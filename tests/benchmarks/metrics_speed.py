"""Speed of the localisation metrics against peers, in one run, and of all of them on the maps of a study.

python tests/benchmarks/metrics_speed.py [--images 50] [--methods 20] [--size 224] [--rounds 5]
Peers: scikit-learn's ROC area, scikit-image's Otsu threshold (256 bins; ours is exact), a Pointing Game and a relevance
rank written as toolboxes do (all distances of the image, all pixels sorted), and XRAI's greedy ranking mask by mask.
Processor time of one thread; each pair in turn, ratios are medians over rounds of single ratios, with their range.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.metrics import roc_auc_score

from xiqa.metrics.maps.localisation import score_map
from xiqa.metrics.maps.overlap import otsu_threshold
from xiqa.metrics.maps.pointing_game import pointing_game
from xiqa.metrics.maps.relevance import relevance_rank
from xiqa.metrics.maps.roc_auc import roc_auc
from xiqa.segmentation import MIN_NEW_PIXELS, ranked, segment


def image_and_mask(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured image (1, h, w) with a bright disc, and the disc."""
    rows, columns = np.mgrid[:size, :size]
    radius = rng.uniform(0.03, 0.15) * size
    row, column = rng.uniform(radius, size - radius, 2)
    mask = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    texture = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 30)
    return (texture / texture.std() + mask + rng.normal(0, 0.1, mask.shape))[None], mask


def pointing_game_of_all_pixels(saliency: np.ndarray, mask: np.ndarray) -> bool:
    """As in TorchRay, with its comparison of all pixels."""
    row, column = np.unravel_index(saliency.argmax(), mask.shape)
    rows, columns = np.meshgrid(
        (np.arange(mask.shape[0]) - row) ** 2.0, (np.arange(mask.shape[1]) - column) ** 2.0, indexing="ij"
    )
    return bool((mask & (rows + columns < 15**2)).any())


def rank_of_all_pixels(saliency: np.ndarray, mask: np.ndarray) -> float:
    """As in Quantus: all pixels sorted."""
    return mask.ravel()[np.argsort(-saliency.ravel())[: mask.sum()]].mean()


def ranked_by_masks(attribution: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """Greedy choice with one mask of the image per segment."""
    values, free, rest = np.zeros(attribution.shape), np.ones(attribution.shape, bool), list(masks)
    while rest:
        new = [mask & free for mask in rest]
        kept = [index for index, mask in enumerate(new) if mask.sum() >= MIN_NEW_PIXELS]
        if not kept:
            break
        best = max(kept, key=lambda index: attribution[new[index]].mean())
        values[new[best]] = attribution[new[best]].mean()
        free &= ~new[best]
        rest = [rest[index] for index in kept if index != best]
    values[free] = attribution[free].mean() if free.any() else 0
    return values


def seconds(run: Callable, calls: int) -> float:
    """Processor time of one call, mean over some."""
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls


def main() -> None:
    """Measure and print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--methods", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    image, mask = image_and_mask(rng, given.size)
    saliency = rng.normal(size=mask.shape)
    segments = segment(image)
    masks = []
    for pixels in segments:
        masks.append(np.zeros(mask.shape, bool))
        masks[-1].ravel()[pixels] = True
    pairs = {
        "Pointing Game": (
            lambda: pointing_game(saliency, mask),
            lambda: pointing_game_of_all_pixels(saliency, mask),
            50,
        ),
        "relevance rank": (lambda: relevance_rank(saliency, mask), lambda: rank_of_all_pixels(saliency, mask), 50),
        "ROC area": (lambda: roc_auc(saliency, mask), lambda: roc_auc_score(mask.ravel(), saliency.ravel()), 20),
        "Otsu's threshold": (lambda: otsu_threshold(saliency), lambda: threshold_otsu(saliency), 20),
        "XRAI regions": (lambda: ranked(saliency, segments), lambda: ranked_by_masks(saliency, masks), 1),
    }
    print(
        f"{given.size}², one thread, {platform.processor()}, numpy {np.__version__}, load average "
        f"{os.getloadavg()[0]:.1f}\n\n"
        "| what | ours, ms (median) | peer, ms (median) | times faster (range) |\n|---|---|---|---|"
    )
    for name, (*both, calls) in pairs.items():
        times = np.array([[seconds(run, calls) for run in both] for _ in range(given.rounds + 1)])[1:]
        ratios, middle = times[:, 1] / times[:, 0], np.median(times, axis=0) * 1e3
        print(
            f"| {name} | {middle[0]:.2f} | {middle[1]:.2f} | {np.median(ratios):.2f} "
            f"({ratios.min():.2f}-{ratios.max():.2f}) |",
            flush=True,
        )

    segmenting, scoring = 0.0, 0.0
    for _ in range(given.images):
        image, mask = image_and_mask(rng, given.size)
        noise = rng.normal(size=(given.methods, *mask.shape)).astype(np.float32)
        maps = [ndimage.gaussian_filter(values, sigma) for sigma, values in enumerate(noise)]
        start = time.process_time()
        segments = segment(image)
        middle = time.process_time()
        for values in maps:
            score_map(values, mask, tolerance_px=15, segments=segments, within=image[0] > 0)
        segmenting, scoring = segmenting + middle - start, scoring + time.process_time() - middle
    print(
        f"\n{given.images * given.methods} maps, all scores: {segmenting + scoring:.1f} s, of which segmentation "
        f"{segmenting:.1f} s\n"
        f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


if __name__ == "__main__":
    main()
