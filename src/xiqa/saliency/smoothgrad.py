"""SmoothGrad and its square: mean of the gradient, or of its square, over noisy copies of the image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.gradient_paths import gradients
from xiqa.saliency.references import noisy_copies


def moments(
    target: Explained, x: Tensor, samples: int = 15, noise_level: float = 0.15, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the gradient over noisy copies, from the same passes.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        samples: copies of each image.
        noise_level: standard deviation of the noise over max - min of the image.
        seed: of the noise; that of an image depends on neither the others nor the batch.

    Returns:
        Two tensors (n, c, h, w).

    Raises:
        ValueError: no samples, or a negative noise level.

    Reference: Smilkov et al. 2017, "SmoothGrad"; squared: Hooker et al. 2019, section 3.
    """
    copies = noisy_copies(x, samples, noise_level, seed)
    mean, square = x.new_zeros(x.shape), x.new_zeros(x.shape)
    for number, gradient in enumerate(gradients(target, copies), 1):
        mean += (gradient - mean) / number
        square += (gradient.square() - square) / number
    return mean, square


def maps(
    target: Explained, x: Tensor, names: Sequence[str], samples: int = 15, noise_level: float = 0.15, seed: int = 0
) -> dict[str, Tensor]:
    """`smoothgrad` and `smoothgrad_squared` (n, c, h, w) from the same noisy copies; see `moments`."""
    mean, square = moments(target, x, samples, noise_level, seed)
    return {name: {"smoothgrad": mean, "smoothgrad_squared": square}[name] for name in names}
