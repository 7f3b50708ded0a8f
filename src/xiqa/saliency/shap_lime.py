"""KernelSHAP and LIME on superpixels, by captum: linear models of f over which segments of the image are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.layer_maps import min_max
from xiqa.saliency.references import baseline_image, copies_at_once
from xiqa.seeds import stream_seed


def kernel_shap(
    target: Explained,
    x: Tensor,
    segments: int = 50,
    evaluations: int = 500,
    compactness: float = 0.3,
    seed: int = 0,
    baseline: float | Tensor | None = None,
) -> Tensor:
    """Shapley values of superpixels, estimated by weighted least squares; every pixel has the value of its segment.

    The values of the segments of an image sum up to f(x) - f(baseline).

    Args:
        target: what is explained; only its values are used.
        x: (n, c, h, w).
        segments: how many superpixels SLIC aims at.
        evaluations: sets of segments per image for which f is computed.
        compactness: of SLIC on the image from 0 to 1, smoothed by a pixel; the larger, the squarer the segments.
        seed: of the sets, the same for all images of a call. The state of torch's random numbers is restored.
        baseline: what hidden segments show, a number or a tensor that broadcasts to x; None: the minimum of each image.

    Returns:
        Maps (n, h, w) in the unit of f.

    Raises:
        ValueError: captum is missing; segments, evaluations or compactness out of range; SLIC finds one segment only.

    Reference: Lundberg and Lee 2017, section 4.1; segments: Achanta et al. 2012.
    """
    attr = _captum()
    return _segment_wise(target, x, segments, evaluations, compactness, seed, baseline, attr.KernelShap)


def lime(
    target: Explained,
    x: Tensor,
    segments: int = 50,
    evaluations: int = 500,
    alpha: float = 0.01,
    compactness: float = 0.3,
    seed: int = 0,
    baseline: float | Tensor | None = None,
) -> Tensor:
    """Coefficients of superpixels in a lasso regression of f; every pixel has the coefficient of its segment.

    Each segment is hidden with probability 1/2; a set of segments weighs by captum's default, an exponential kernel of
    width 1 of the cosine distance between what is seen and the image.

    Args:
        target, x, segments, evaluations, compactness, seed, baseline: as in `kernel_shap`.
        alpha: weight of the lasso penalty, in the unit of f.

    Returns:
        Maps (n, h, w) in the unit of f.

    Raises:
        ValueError: as `kernel_shap`; alpha is not positive.

    Reference: Ribeiro et al. 2016, "Why should I trust you?", equation 1 and algorithm 1.
    """
    attr = _captum()
    if alpha <= 0:
        raise ValueError(f"alpha: found {alpha}, expected more than 0")
    from captum._utils.models.linear_model import SkLearnLasso

    return _segment_wise(
        target, x, segments, evaluations, compactness, seed, baseline, lambda f: attr.Lime(f, SkLearnLasso(alpha=alpha))
    )


def maps(
    target: Explained,
    x: Tensor,
    names: Sequence[str],
    segments: int = 50,
    evaluations: int = 500,
    alpha: float = 0.01,
    compactness: float = 0.3,
    seed: int = 0,
    baseline: float | Tensor | None = None,
) -> dict[str, Tensor]:
    """Maps of `kernel_shap` and `lime`, see there, (n, h, w)."""
    shared: dict[str, Any] = {
        "segments": segments,
        "evaluations": evaluations,
        "compactness": compactness,
        "seed": seed,
        "baseline": baseline,
    }
    make = {
        "kernel_shap": lambda: kernel_shap(target, x, **shared),
        "lime": lambda: lime(target, x, alpha=alpha, **shared),
    }
    return {name: make[name]() for name in names}


def _captum() -> ModuleType:
    try:
        import captum.attr
    except ImportError as error:
        raise ValueError(
            f"kernel_shap and lime: found no captum ({error}), expected it installed: pip install 'captum>=0.8'"
        ) from error
    return captum.attr


@torch.no_grad()
def _segment_wise(
    target: Explained,
    x: Tensor,
    segments: int,
    evaluations: int,
    compactness: float,
    seed: int,
    baseline: float | Tensor | None,
    method: Callable,
) -> Tensor:
    if segments < 2 or evaluations < 2 or compactness <= 0:
        raise ValueError(
            f"found segments={segments}, evaluations={evaluations}, compactness={compactness}, expected at "
            "least 2, at least 2, and more than 0"
        )
    start, size, maps = baseline_image(x, baseline), copies_at_once(target, x), []
    for number, image in enumerate(x):
        found = torch.from_numpy(_superpixels(image, segments, compactness)).to(x.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "superpixels"))
            values = method(_value_of(target, number)).attribute(
                image[None],
                baselines=start[number][None],
                feature_mask=found[None, None],
                n_samples=evaluations,
                perturbations_per_eval=min(size, evaluations),
            )
        maps.append(values[0, 0])
    return torch.stack(maps).to(x.dtype)


def _value_of(target: Explained, number: int) -> Callable[[Tensor], Tensor]:
    """f of copies of image `number`, without a gradient."""
    return lambda copies: target.value(copies, torch.full((len(copies),), number, device=copies.device))


def _superpixels(image: Tensor, segments: int, compactness: float) -> np.ndarray:
    """Labels (h, w) from 0 without gaps, of an image (c, h, w)."""
    flat = min_max(image.detach().double().cpu().flatten(1)[None]).reshape(image.shape)
    # Without smoothing, noise tears the segments into pieces, which SLIC then merges into few.
    labels = slic(
        flat.numpy(),
        n_segments=segments,
        compactness=compactness,
        sigma=1,
        convert2lab=False,
        channel_axis=0,
        start_label=0,
    )
    names, labels = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"segments: SLIC found {len(names)} segment, expected at least 2; raise segments (found {segments})"
        )
    return labels.reshape(image.shape[1:])
