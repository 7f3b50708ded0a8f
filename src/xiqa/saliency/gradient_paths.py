"""Integrated gradients from the black image, and from black and white, which share the path from black."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from xiqa.saliency import integrated_gradients
from xiqa.saliency.explained import Explained


def maps(
    target: Explained, x: Tensor, names: Sequence[str], steps: int = 25, baseline: float | Tensor | None = None
) -> dict[str, Tensor]:
    """Maps (n, c, h, w) of `integrated_gradients` and `integrated_gradients_bw`.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        names: which of the two.
        steps: gradients per path.
        baseline: of `integrated_gradients`; None: black, the minimum of the image. `_bw` is the mean of the maps from
            black and from white, the maximum of the image.
    """
    black, white = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    found: dict[str, Tensor] = {}
    if baseline is None or "integrated_gradients_bw" in names:
        from_black = integrated_gradients.explain(target, x, steps, black)
    if "integrated_gradients" in names:
        given = baseline is not None
        found["integrated_gradients"] = (
            integrated_gradients.explain(target, x, steps, baseline) if given else from_black
        )
    if "integrated_gradients_bw" in names:
        found["integrated_gradients_bw"] = (from_black + integrated_gradients.explain(target, x, steps, white)) / 2
    return found


def completeness_error(target: Explained, x: Tensor, name: str, found: Tensor) -> Tensor:
    """What the sum of each map (n, h, w) lacks to the promised f(x) - f(black), or to the mean with white: (n,)."""
    start = target.value(x.amin((1, 2, 3), keepdim=True).expand_as(x).contiguous())
    if name == "integrated_gradients_bw":
        start = (start + target.value(x.amax((1, 2, 3), keepdim=True).expand_as(x).contiguous())) / 2
    return found.sum((1, 2)) - (target.value(x) - start)
