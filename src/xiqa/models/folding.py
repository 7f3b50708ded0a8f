"""Batch normalisation folded into the convolution before it: the same network with less to compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def fold_batch_norm(net: nn.Module, x: Tensor, keep=(), ask: Callable[[Tensor], Any] | None = None) -> int:
    """Fold each batch normalisation that reads nothing but a convolution's output into that convolution, in place.

    Pairs are found in a run on `x` (1, c, h, w). Convolutions in `keep` are left, because their output is asked for;
    so are modules that are used several times. If the output changes by more than rounding, everything is undone.
    `ask`: how the folded network is run on `x`, for what else can be learnt from that run.

    Returns:
        How many were folded.
    """
    kept = set(keep)
    outputs: list[tuple[Tensor, nn.Module]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}

    def after_convolution(module, args, output):
        calls[module] = calls.get(module, 0) + 1
        outputs.append((output, module))

    def before_norm(module, args):
        calls[module] = calls.get(module, 0) + 1
        pairs.extend((conv, module) for output, conv in outputs if output is args[0])

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module not in kept:
            hooks.append(module.register_forward_hook(after_convolution))
        elif _only_after_norm(module) is not None and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        before = _outputs(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    undo = []
    for conv, norm in pairs:
        if calls[conv] > 1 or calls[norm] > 1:
            continue
        undo.append((conv, conv.weight, conv.bias, norm, norm.forward))
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean * scale
        shift = shift if norm.bias is None else shift + norm.bias
        bias = shift if conv.bias is None else shift + conv.bias * scale
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(bias, requires_grad=False)
        norm.forward = _only_after_norm(norm)
    if undo:
        after = _joined(ask(x)) if ask else _outputs(net, x)
        tolerance = 1e3 * torch.finfo(before.dtype).eps * float(before.abs().max() + 1)
        if not torch.allclose(before, after, rtol=0, atol=tolerance):
            for conv, weight, bias, norm, _ in undo:
                conv.weight, conv.bias = weight, bias
                del norm.forward
            return 0
    return len(undo)


def work_in_place(net: nn.Module, x: Tensor) -> bool:
    """Let the activations overwrite what they read, unless something else of the network reads it too.

    Args:
        net: changed; not for networks whose gradients or activations are asked for.
        x: (1, c, h, w) input on which the output must stay the same; otherwise nothing is changed.

    Returns:
        Whether they do.
    """
    before = _outputs(net, x)
    activations = [module for module in net.modules() if getattr(module, "inplace", None) is False]
    for module in activations:
        module.inplace = True
    same = torch.equal(before, _outputs(net, x.clone()))
    for module in activations:
        module.inplace = same
    return same


@torch.no_grad()
def _outputs(net: nn.Module, x: Tensor) -> Tensor:
    return _joined(net(x))


def _joined(output: Tensor | Sequence[Tensor]) -> Tensor:
    """All outputs of a network, of which there may be several, in one vector."""
    return torch.cat([part.flatten() for part in ([output] if isinstance(output, Tensor) else output)])


def _only_after_norm(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What a batch normalisation does behind normalising; None for other modules, also subclasses not known here."""
    if type(module) is nn.BatchNorm2d:
        return lambda x: x
    if isinstance(module, nn.BatchNorm2d) and type(module).__name__ == "BatchNormAct2d":  # of timm
        return lambda x: module.act(module.drop(x))
    return None
