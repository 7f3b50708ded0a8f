"""Guided backpropagation and deconvolution: another backward pass of the ReLU, wherever a network applies it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_RELUS = {
    torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu, functional.relu_,
}  # fmt: skip


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

    Reference: Springenberg et al. 2015, "Striving for simplicity"; Zeiler and Fergus 2014.
    """

    def __init__(self, rule: str):
        super().__init__()
        self.relu = {"guided": _Guided, "deconvolution": _Deconvolution}[rule].apply
        self.replaced = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _RELUS:
            self.replaced += 1
            return self.relu(args[0] if args else kwargs["input"])
        return function(*args, **(kwargs or {}))
