"""Batch normalisation folded into the convolution before it: the same network with less to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def fold_batch_norm(
    net: nn.Module, x: Tensor, keep: Iterable[nn.Module] = (), run: Callable[[Tensor], Any] | None = None
) -> int:
    """Fold each batch normalisation that reads nothing but a convolution's output into that convolution, in place.

    Pairs are found in a run on `x` (1, c, h, w) with noise, because a blank image would tell little of the network.
    Convolutions in `keep` are left, because their output is asked for; so are modules that are used several times, and
    convolutions that make their weight anew in each call (weight or spectral normalisation, standardised weights). If
    the output changes by more than rounding, everything is undone. `run`: how the network is called.

    Returns:
        How many were folded.
    """
    if not any(_only_after_norm(module) is not None for module in net.modules()):
        return 0
    run, kept = run or net, set(keep)
    outputs: list[tuple[Tensor, int, nn.Module]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}

    def after_convolution(module, args, output):
        calls[module] = calls.get(module, 0) + 1
        outputs.append((output, output._version, module))

    def before_norm(module, args):
        calls[module] = calls.get(module, 0) + 1
        pairs.extend(
            (conv, module) for output, version, conv in outputs if output is args[0] and output._version == version
        )

    hooks = []
    for module in net.modules():
        if module not in kept and _is_plain_convolution(module):
            hooks.append(module.register_forward_hook(after_convolution))
        elif _only_after_norm(module) is not None and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before_norm))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(x)
    trial = x + noise * (x.std(correction=0) + 1)
    try:
        before = _outputs(run, trial)
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
        after = _outputs(run, trial)
        tolerance = 1e3 * torch.finfo(before.dtype).eps * float(before.abs().max())
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
def _outputs(run: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """All numbers that a network gives for images, of which it may give several tensors, in one vector."""
    return torch.cat([part.flatten() for part in tensors_of(run(x))])


def tensors_of(output: Any) -> Iterator[Tensor]:
    """The tensors of an output: itself, or those in tuples, lists and mappings."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | tuple | list):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from tensors_of(part)


def _is_plain_convolution(module: nn.Module) -> bool:
    """Whether a module convolves with the weight that it holds, and nothing else."""
    # Weight and spectral normalisation make the weight in a hook or a property, and hold none of this name.
    return type(module) is nn.Conv2d and isinstance(module._parameters.get("weight"), Tensor)


def _only_after_norm(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What a batch normalisation does behind normalising; None for other modules, also subclasses not known here."""
    if type(module) is nn.BatchNorm2d:
        return lambda x: x
    if isinstance(module, nn.BatchNorm2d) and type(module).__name__ == "BatchNormAct2d":  # of timm
        return lambda x: module.act(module.drop(x))
    return None
