"""Expected gradients: integrated gradients from many references, one random place on each line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.gradient_paths import gradients
from xiqa.saliency.references import generators


def explain(target: Explained, x: Tensor, references: Tensor, samples: int = 100, seed: int = 0) -> Tensor:
    """Mean of (x - x') ⊙ ∇f(x' + α (x - x')), (n, c, h, w); x' drawn from the references, α from U(0, 1).

    Args:
        target: what is explained.
        x: (n, c, h, w).
        references: (r, c, h, w), usually training images.
        samples: draws per image.
        seed: of the draws.

    Raises:
        ValueError: no samples, or references of another shape.

    Reference: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors",
    equation 3.
    """
    if samples < 1 or references.ndim != 4 or references.shape[1:] != x.shape[1:] or not len(references):
        raise ValueError(
            f"found samples={samples} and references {tuple(references.shape)}, expected at least 1 and "
            f"(r, {', '.join(map(str, x.shape[1:]))}), such as training images"
        )
    drawn = generators(len(x), seed, "expected gradients")
    differences: deque[Tensor] = deque()

    def places() -> Iterator[Tensor]:
        for _ in range(samples):
            chosen = [int(torch.randint(len(references), (), generator=g)) for g in drawn]
            alpha = torch.stack([torch.rand((1, 1, 1), generator=g, dtype=torch.float64) for g in drawn]).to(x)
            differences.append(x - references[chosen].to(x))
            yield x - (1 - alpha) * differences[-1]

    return sum(differences.popleft() * gradient for gradient in gradients(target, places())) / samples


def completeness_error(
    target: Explained, x: Tensor, name: str, found: Tensor, references: Tensor | None = None
) -> Tensor | None:
    """What the sum of each map (n, h, w) lacks to f(x) - mean of f(x') over the references, (n,); None without them.

    The promise holds in expectation: with few samples the references drawn are not all of them.
    """
    if references is None:
        return None
    of = torch.arange(len(x), device=x.device).repeat_interleave(len(references))
    values = target.value(references.to(x).repeat(len(x), 1, 1, 1), of).reshape(len(x), -1)
    return found.flatten(1).sum(1) - (target.value(x) - values.mean(1))
