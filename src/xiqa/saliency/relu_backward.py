"""Guided backpropagation, guided Grad-CAM and deconvolution: another backward pass of the ReLU, module or function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from xiqa.saliency import layer_maps, one_pass
from xiqa.saliency.explained import Explained

_RELUS = {
    torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu, functional.relu_,
}  # fmt: skip

_IN_PLACE = {torch.relu_, Tensor.relu_, functional.relu_}


def maps(
    target: Explained,
    x: Tensor,
    names: Sequence[str],
    layers: Sequence[str] = (),
    alignment: layer_maps.Alignment = "published",
) -> dict[str, Tensor]:
    """Guided backpropagation, guided Grad-CAM from the same pass, and deconvolution, each (n, c, h, w).

    The gradient of a network whose ReLUs hand back p · 1[x > 0] · 1[p > 0] (guided) or p · 1[p > 0] (deconvolution);
    guided Grad-CAM is the guided gradient ⊙ upsampled Grad-CAM.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        names: methods.
        layers: the layer of Grad-CAM: the last convolutional block.
        alignment: how maps of layers lie on the image, see `layer_maps.onto_image`.

    Raises:
        ValueError: the network applies no ReLU: the maps would be the plain gradient; no layer for guided Grad-CAM.

    Reference: Springenberg et al. 2015, "Striving for simplicity", section 3.4; Selvaraju et al. 2017, "Grad-CAM",
    section 3.2; Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 2.1.
    """
    found = {}
    if {"guided_backprop", "guided_grad_cam"} & set(names):
        found["guided_backprop"] = _gradient(target, x, "guided")
    if "guided_grad_cam" in names:
        cam = one_pass.maps(target, x, ["grad_cam"], layers, alignment=alignment, normalise=False)["grad_cam"]
        found["guided_grad_cam"] = found["guided_backprop"] * cam[:, None]
    if "deconvolution" in names:
        found["deconvolution"] = _gradient(target, x, "deconvolution")
    return {name: found[name] for name in names}


def _gradient(target: Explained, x: Tensor, rule: str) -> Tensor:
    with ReluBackward(rule) as mode:
        gradient = target.gradient(x)
    if not mode.replaced:
        raise ValueError(
            f"{rule} backpropagation: found no ReLU in {type(target.net).__name__}, expected at least one; without it "
            "the map would be the plain gradient: use method 'gradient'"
        )
    return gradient


class _Guided(torch.autograd.Function):
    """Backward p · 1[x > 0] · 1[p > 0]."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, p):
        return torch.where(ctx.saved_tensors[0], p.clamp(min=0), 0)


class _Deconvolution(torch.autograd.Function):
    """Backward p · 1[p > 0]."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, p):
        return p.clamp(min=0)


class ReluBackward(TorchFunctionMode):
    """Within it, every ReLU of this thread, module or function, in place or not, has the backward pass of `rule`.

    Args:
        rule: "guided" or "deconvolution".

    Attributes:
        replaced: how many ReLUs were met.
    """

    def __init__(self, rule: str):
        super().__init__()
        function: Any = {"guided": _Guided, "deconvolution": _Deconvolution}[rule]
        self.relu = function.apply
        self.replaced = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function not in _RELUS:
            return function(*args, **(kwargs or {}))
        self.replaced += 1
        x, kwargs = args[0] if args else kwargs["input"], kwargs or {}
        in_place = function in _IN_PLACE or kwargs.get("inplace") or args[1:2] == (True,)
        # Some networks call it for what it does to its input.
        return x.copy_(self.relu(x)) if in_place else self.relu(x)
