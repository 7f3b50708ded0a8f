"""A copy of a network to work on, so that the user's module stays as it is."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin


def working_copy(model: nn.Module, keep_half: bool = False) -> nn.Module:
    """A copy in evaluation mode that shares the weights of `model` and asks for no gradient of them.

    Wrappers that only say how a network is run (`DataParallel`, `torch.compile`) are taken off, and no module works in
    place. Buffers are copied. Weights of half precision become float32, because gradients underflow in it, unless they
    are kept. Nothing may write into the weights of the copy; they may be replaced.

    Raises:
        ValueError: the module is compiled to TorchScript, has weights that are not made yet, cannot be copied, or
            normalises by the batch, so that images have no output of their own.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("found a compiled module, whose layers cannot be reached; give the one it was made from")
    model = unwrapped(model)
    memo = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if isinstance(weight, UninitializedTensorMixin):
            raise ValueError(f"model: found weights that are not made yet ({name}); call the network once before")
        memo[id(weight)] = nn.Parameter(_usable(weight), requires_grad=False)
    for module in model.modules():
        # What weight normalisation computed in the last call has a history, which cannot be copied.
        for value in [*vars(module).values(), *module._buffers.values()]:
            if isinstance(value, Tensor) and (value.grad_fn is not None or value.is_inference()):
                memo[id(value)] = value.detach().clone()
        if plain := _plain_copy(module, memo):
            memo[id(module)] = plain
    try:
        net = copy.deepcopy(model, memo)
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} cannot be copied ({error}); explanations work on a copy, so that the module "
            "itself stays as it is. Remove tensors with a history from its attributes"
        ) from error
    for name, module in list(net.named_modules()):
        plain = unwrapped(module)
        if plain is not module:
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, plain)
    net.eval()
    for name, module in net.named_modules():
        module._compiled_call_impl = None
        for flag in ("inplace", "grad_checkpointing"):  # what is computed again on the way back is seen by no hook
            if getattr(module, flag, False) is True:
                setattr(module, flag, False)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"model: found {type(module).__name__} '{name}' without running statistics, expected them: the output "
                "of an image would depend on the others of its batch. Keep track_running_stats=True, or take GroupNorm"
            )
    if not keep_half and dtype_of(net) in (torch.float16, torch.bfloat16):
        net.float()
    return net


def _plain_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module | None:
    """What `copy.deepcopy` makes of a layer of torch that holds numbers and weights alone, at a tenth of its time."""
    values = {name: value for name, value in vars(module).items() if name not in ("_parameters", "_buffers")}
    if not type(module).__module__.startswith("torch.nn.modules."):
        return None
    if not all(isinstance(value, _NUMBERS) or (type(value) in _EMPTY and not value) for value in values.values()):
        return None
    kind: Any = type(module)
    made = kind.__new__(kind)
    vars(made).update(
        {name: type(value)() if type(value) in _EMPTY else value for name, value in values.items()},
        _parameters={name: memo.get(id(weight)) for name, weight in module._parameters.items()},
        _buffers={name: copy.deepcopy(value, memo) for name, value in module._buffers.items()},
    )
    return made


_NUMBERS = (bool, int, float, str, tuple, torch.dtype, torch.device, type(None))
_EMPTY = {dict, OrderedDict, set}
"""Types of a layer's lists of hooks and children."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` and `torch.compile`."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return model


def dtype_of(net: nn.Module) -> torch.dtype | None:
    """The floating type of the first weight or buffer that has one."""
    values = (value for part in (net.parameters(), net.buffers()) for value in part)
    return next((value.dtype for value in values if value.is_floating_point()), None)


def _usable(weight: Tensor) -> Tensor:
    """The same numbers without a history; a copy of those that were made in inference mode, which have no gradient."""
    return weight.detach().clone() if weight.is_inference() else weight.detach()
