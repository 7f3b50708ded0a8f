"""Layer-wise relevance propagation (LRP) through the members of a CDC ensemble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xiqa.models.cdc_net import CDCNet, folded_convolutions
from xiqa.saliency.base import as_images

HiddenRule = Literal["epsilon", "z_plus"]
InputRule = Literal["w_squared", "flat", "epsilon", "z_plus"]


class Relevance(NamedTuple):
    """Relevance of one network.

    Attributes:
        maps: (n, s, s), relevance of the pixels.
        output: (n,), relevance that entered at the output.
        absorbed: (n,), what biases, the stabiliser and dead units took on the way: output = maps.sum() + absorbed.
    """

    maps: np.ndarray
    output: np.ndarray
    absorbed: np.ndarray


def explain(
    target,
    x: np.ndarray,
    convolutions: HiddenRule = "z_plus",
    linear: HiddenRule = "epsilon",
    input_layer: InputRule = "w_squared",
    epsilon: float = 1e-6,
    members: bool = False,
    batch: int = 32,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """LRP maps of the midpoint of the ensemble: the mean of the maps of its members.

    Args:
        target: has `ensemble.members`, a list of CDCNet in evaluation mode.
        x: (n, s, s), normalised.
        convolutions: rule of the second and third convolution.
        linear: rule of the fully connected layers.
        input_layer: rule of the first convolution. Its inputs have both signs, so z_plus is not the usual choice.
        epsilon: stabiliser of the epsilon rule, in the unit of the layer's output.
        members: also return the maps of each member.
        batch: images computed at once.

    Returns:
        Maps (n, s, s) in µm, in the members' dtype; with `members` also the members' maps (M, n, s, s).

    Raises:
        ValueError: the target gives no access to its networks, or an unknown rule.

    Reference: Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al. 2019, "Layer-wise relevance
    propagation: an overview" (z⁺ rule, and w² rule for the input).
    """
    rules = {"convolutions": convolutions, "linear": linear, "input_layer": input_layer, "epsilon": epsilon}
    ensemble = getattr(target, "ensemble", None)
    if ensemble is None:
        raise ValueError(
            "lrp: found a target without `ensemble`, expected one with its networks; LRP walks their layers"
        )
    parts = np.stack([relevance(member, x, batch=batch, **rules).maps for member in ensemble.members])
    maps = parts.mean(axis=0)
    return (maps, parts) if members else maps


def completeness_error(target, x: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Sum of each map less the midpoint f(x), (n,) in µm: minus what biases, stabiliser and dead units took."""
    return maps.sum(axis=(1, 2), dtype=np.float64) - np.asarray(target.value(as_images(x)), np.float64)


@torch.no_grad()
def relevance(
    member: CDCNet,
    x: np.ndarray,
    convolutions: HiddenRule = "z_plus",
    linear: HiddenRule = "epsilon",
    input_layer: InputRule = "w_squared",
    epsilon: float = 1e-6,
    batch: int = 32,
) -> Relevance:
    """Relevance of one member, with the account of where relevance was lost.

    The last layer, the standardisation of the targets and the mean over the 12 points are one linear neuron, whose
    value, the midpoint in µm, is the relevance that enters. For a logarithmic target this neuron is the first-order
    model Σ g_k t_k with t_k the logarithmic outputs and g_k = exp(t_k) / 12 the slope of the midpoint.

    Args:
        member: network in evaluation mode; batch normalisation is folded into the convolutions.
        x: (n, s, s), normalised.
        convolutions, linear, input_layer, epsilon, batch: as in `explain`.

    Raises:
        ValueError: an unknown rule.
    """
    if {convolutions, linear} - {"epsilon", "z_plus"} or input_layer not in ("w_squared", "flat", "epsilon", "z_plus"):
        raise ValueError(
            f"LRP rules: found convolutions={convolutions}, linear={linear}, input_layer={input_layer}, "
            "expected epsilon or z_plus (input_layer also w_squared or flat)"
        )
    weight = member.fc1.weight
    x = as_images(x)
    results = []
    for start in range(0, len(x), batch):
        part = torch.as_tensor(x[start : start + batch, None]).to(weight.device, weight.dtype)
        results.append(_propagate(member, part, convolutions, linear, input_layer, epsilon))
    return Relevance(*(torch.cat(tensors).cpu().numpy() for tensors in zip(*results, strict=True)))


def _propagate(
    member: CDCNet, x: Tensor, convolutions: str, linear: str, input_layer: str, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    folded = folded_convolutions(member)
    activate = functional.relu if member.network.hidden_activation == "relu" else (lambda z: z)

    # Forward, keeping what enters each layer.
    first = functional.relu(_conv(x, *folded[0]))
    pooled_first, places_first = functional.max_pool2d(first, 2, return_indices=True)
    second = functional.relu(_conv(pooled_first, *folded[1]))
    pooled_second, places_second = functional.max_pool2d(second, 2, return_indices=True)
    features = functional.relu(_conv(pooled_second, *folded[2])).flatten(1)
    hidden_first = activate(functional.linear(features, member.fc1.weight, member.fc1.bias))
    hidden_second = activate(functional.linear(hidden_first, member.fc2.weight, member.fc2.bias))
    outputs = member.target_offset + member.target_scale * member.mean(hidden_second)

    # Midpoint as one neuron per image: row weights (n, hidden) and bias (n, 1).
    slopes = torch.ones_like(outputs) if member.network.target == "linear" else torch.exp(outputs)
    slopes = slopes / outputs.shape[1]
    weights = (slopes * member.target_scale) @ member.mean.weight
    bias = (slopes * (member.target_scale * member.mean.bias + member.target_offset)).sum(1, keepdim=True)
    output = (slopes * outputs).sum(1, keepdim=True)

    # Backward.
    current = relevance_below(
        linear, hidden_second, output, epsilon,
        lambda a, w, b: (a * w).sum(1, keepdim=True) + b, lambda s, w: s * w, weights, bias,
    )  # fmt: skip
    for layer, entered in ((member.fc2, hidden_first), (member.fc1, features)):
        current = relevance_below(
            linear, entered, current, epsilon, functional.linear, lambda s, w: s @ w, layer.weight, layer.bias
        )
    side = pooled_second.shape[-1]
    current = current.reshape(len(x), -1, side, side)
    current = relevance_below(convolutions, pooled_second, current, epsilon, _conv, _conv_back, *folded[2])
    current = functional.max_unpool2d(current, places_second, 2, output_size=second.shape)
    current = relevance_below(convolutions, pooled_first, current, epsilon, _conv, _conv_back, *folded[1])
    current = functional.max_unpool2d(current, places_first, 2, output_size=first.shape)
    maps = relevance_below(input_layer, x, current, epsilon, _conv, _conv_back, *folded[0])[:, 0]
    return maps, output[:, 0], output[:, 0] - maps.sum((1, 2))


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


def _conv(a: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.conv2d(a, weight, bias, padding=1)


def _conv_back(s: Tensor, weight: Tensor) -> Tensor:
    return functional.conv_transpose2d(s, weight, padding=1)
