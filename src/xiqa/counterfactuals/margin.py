"""Decisions of a classifier as margins between two classes, which all searches for counterfactuals share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Logits: TypeAlias = Callable[[Tensor], Tensor]
"""Images (n, ...) -> logits (n, k), or (n, 1) of a network with one output z; differentiable."""


def class_logits(net: Logits, x: Tensor) -> Tensor:
    """Logits (n, k) of k >= 2 classes; of one output z they are (0, z)."""
    f = net(x)
    return torch.cat([torch.zeros_like(f), f], 1) if f.shape[1] == 1 else f


def decisions(net: Logits, x: Tensor) -> Tensor:
    """Most probable class (n,) of images."""
    with torch.no_grad():
        return class_logits(net, x).argmax(1)


def margin(net: Logits, x: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """m (n,) = f_c - f_d of classes c and d (n,) of each image: where it is below 0, d is more probable than c."""
    f = class_logits(net, x)
    return (f.gather(1, c[:, None]) - f.gather(1, d[:, None]))[:, 0]


def runner_up(net: Logits, x: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable class (n,) of each image, and the second."""
    with torch.no_grad():
        order = class_logits(net, x).argsort(1, descending=True)
    return order[:, 0], order[:, 1]


def lengths(of: Tensor) -> Tensor:
    """Euclidean norm of each (n, ...), in a shape that multiplies them."""
    return of.flatten(1).norm(dim=1).reshape(-1, *[1] * (of.ndim - 1))


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Gradient (n, ...) of the sum of a function (n,) at (n, ...)."""
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return found
