"""Guided Grad-CAM: where Grad-CAM looks, in the detail of guided backpropagation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from xiqa.saliency import guided_backprop, layer_maps, one_pass
from xiqa.saliency.explained import Explained


def explain(
    target: Explained,
    x: Tensor,
    layers: Sequence[str] = (),
    alignment: layer_maps.Alignment = "published",
) -> Tensor:
    """Guided backpropagation ⊙ upsampled Grad-CAM, (n, c, h, w).

    Reference: Selvaraju et al. 2017, "Grad-CAM", section 3.2.
    """
    cam = one_pass.maps(target, x, ["grad_cam"], layers, alignment=alignment, normalise=False)["grad_cam"]
    return guided_backprop.explain(target, x) * cam[:, None]
