"""Controls for tensors: maps that know nothing of the network, by the functions of the control_ modules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xiqa.saliency import control_centre, control_edge, control_uniform
from xiqa.saliency.explained import Explained


def random_map(x: Tensor, seed: int = 0) -> Tensor:
    """Independent uniform numbers in [0, 1), (n, h, w) in the dtype of x; see `control_uniform`.

    Args:
        x: (n, c, h, w). The channel mean of an image only chooses its random stream.
        seed: of the random numbers.

    Raises:
        ValueError: x has another shape.
    """
    return _as_tensor(control_uniform.explain(None, _channel_mean(x), seed), x)


def centre_prior(x: Tensor, width: float = 0.25) -> Tensor:
    """A Gaussian at the image centre, (n, h, w) in (0, 1] in the dtype of x; see `control_centre`.

    Args:
        x: (n, c, h, w); only its shape counts.
        width: σ as a fraction of the shorter side of the image.

    Raises:
        ValueError: x has another shape; width is not positive.
    """
    return _as_tensor(control_centre.explain(None, _channel_mean(x), width), x)


def edges(x: Tensor) -> Tensor:
    """Sobel gradient magnitude of the channel mean, (n, h, w) in units of x per pixel; see `control_edge`.

    Args:
        x: (n, c, h, w).

    Raises:
        ValueError: x has another shape.
    """
    return _as_tensor(control_edge.explain(None, _channel_mean(x)), x)


def maps(target: Explained, x: Tensor, names: Sequence[str], seed: int = 0, width: float = 0.25) -> dict[str, Tensor]:
    """The controls `random`, `centre_prior` and `edges` as methods, (n, h, w); the target is not used."""
    make = {
        "random": lambda: random_map(x, seed),
        "centre_prior": lambda: centre_prior(x, width),
        "edges": lambda: edges(x),
    }
    return {name: make[name]() for name in names}


def _channel_mean(x: Tensor) -> np.ndarray:
    if x.ndim != 4:
        raise ValueError(f"x: found {tuple(x.shape)}, expected (n, c, h, w)")
    # By numpy in one memory order: the bytes of an image must not depend on the batch that it lies in.
    return np.ascontiguousarray(x.detach().cpu().numpy()).mean(axis=1)


def _as_tensor(maps: np.ndarray, x: Tensor) -> Tensor:
    return torch.from_numpy(maps).to(x)
