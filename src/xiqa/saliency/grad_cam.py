"""Grad-CAM: the maps of a layer, weighted by how much the scalar depends on each of them on average."""

from __future__ import annotations

from torch import Tensor

from xiqa.saliency.explained import Activation


def layer_map(layer: Activation) -> Tensor:
    """ReLU(Σ_k mean_uv(∂f/∂A_k) · A_k), (b, u, v) of activation and gradient (b, k, u, v).

    Reference: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    return (layer.g.mean((2, 3), keepdim=True) * layer.a).sum(1).clamp(min=0)
