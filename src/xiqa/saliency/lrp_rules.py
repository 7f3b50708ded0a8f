"""The rules of layer-wise relevance propagation (LRP): how a linear layer hands relevance down to what entered it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

HiddenRule = Literal["epsilon", "z_plus"]
InputRule = Literal["w_squared", "flat", "epsilon", "z_plus"]


def relevance_below(
    rule: str,
    entered: Tensor,
    relevance_out: Tensor,
    epsilon: float,
    forward: Callable[..., Tensor],
    backward: Callable[[Tensor, Tensor], Tensor],
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """Relevance one layer down; `entered` is what went into the layer, `forward` and `backward` its linear maps."""
    if rule == "epsilon":
        z = forward(entered, weight, bias)
        z = z + torch.where(z >= 0, epsilon, -epsilon)
        return entered * backward(quotient(relevance_out, z), weight)
    nothing = torch.zeros_like(bias)
    if rule == "z_plus":
        # Only contributions that raise the output: positive inputs over positive weights, negative over negative.
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        z = forward(entered.clamp(min=0), positive, nothing)
        mixed = bool((entered < 0).any())
        if mixed:
            z = z + forward(entered.clamp(max=0), negative, nothing)
        share = quotient(relevance_out, z)
        lower = entered.clamp(min=0) * backward(share, positive)
        return lower + entered.clamp(max=0) * backward(share, negative) if mixed else lower
    # Rules that do not look at the input: shares by squared weight, or equal shares.
    share_weight = weight**2 if rule == "w_squared" else torch.ones_like(weight)
    z = forward(torch.ones_like(entered), share_weight, nothing)
    return backward(quotient(relevance_out, z), share_weight)


def quotient(relevance_out: Tensor, z: Tensor) -> Tensor:
    """Quotient, 0 where the denominator is 0: a unit that nothing entered has nothing to hand on."""
    dead = z == 0
    return torch.where(dead, 0, relevance_out / torch.where(dead, 1, z))
