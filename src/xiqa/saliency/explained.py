"""A scalar output of any torch module, with its gradients and activations: what `attribute` explains."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xiqa.models.folding import fold_batch_norm

TargetOf = int | Tensor | Callable[[Tensor], Tensor] | None
"""Which output is explained: a class, a class for each image, a function outputs -> (n,), or None: their mean."""

MEMORY_GB = 0.75
"""Bound on the memory of a batch. On a CPU larger batches are slower, because they leave its caches."""


class Activation(NamedTuple):
    """What one layer gave, and how the explained scalar changes with it.

    Attributes:
        a: (b, k, u, v) output of the layer.
        g: (b, k, u, v) ∂f/∂a.
    """

    a: Tensor
    g: Tensor


class Pass(NamedTuple):
    """One forward and one backward pass of a batch.

    Attributes:
        rows: which images of the call.
        value: (b,) the explained scalar f.
        gradient: (b, c, h, w) ∂f/∂x; None if it was not asked for.
        activations: layer name -> its output and gradient.
    """

    rows: slice
    value: Tensor
    gradient: Tensor | None
    activations: dict[str, Activation]


class Explained:
    """A scalar f of a network's output, image by image.

    The network is a copy of the user's module in evaluation mode, so that the module itself, its mode, hooks,
    gradients and flags stay as they are, whatever happens, and calls in several threads do not meet. In the copy
    nothing works in place, parameters ask for no gradient, batch normalisation is folded into the convolution before
    it, as far as this leaves the output the same, and float32 images lie channels last in memory.

    Args:
        model: (n, c, h, w) -> (n,) or (n, k); anything, if the target is a callable that takes it.
        target: int, or (n,) tensor: logit of that class; of a single logit z the sign is taken, (2 target - 1) z. A
            callable maps outputs to (n,). None: mean over the outputs.
        layers: layers whose output may be asked for; they are left as they are.
        memory_gb: bound on the memory of a batch; batches are split accordingly, down to one image.
        fold: fold batch normalisation.

    Raises:
        ValueError: the module cannot be copied, or a layer does not exist.
    """

    def __init__(
        self,
        model: nn.Module,
        target: TargetOf = None,
        layers: Sequence[str] = (),
        memory_gb: float = MEMORY_GB,
        fold: bool = True,
    ):
        if isinstance(model, torch.jit.ScriptModule):
            raise ValueError("found a compiled module, whose layers cannot be reached; give the one it was made from")
        if memory_gb <= 0:
            raise ValueError(f"memory_gb: found {memory_gb}, expected more than 0")
        try:
            net = copy.deepcopy(model)
        except Exception as error:
            raise ValueError(
                f"{type(model).__name__} cannot be copied ({error}); explanations work on a copy, so that the module "
                "itself stays as it is. Remove tensors with a history from its attributes"
            ) from error
        net.eval().requires_grad_(False)
        for module in net.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        self.net = net
        self.target = target
        self.memory_bytes = memory_gb * 2**30
        self._layers = {name: self._layer(name) for name in layers}
        self._fold = fold
        self._batch: dict[tuple, int] = {}

    def value(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """f (n,) of images (n, c, h, w); `of` (n,) tells the index of the target of each, 0..n-1 by default."""
        self._prepare(x)
        size = self._batch_size(x)
        with torch.no_grad():
            parts = [self._scalar(self.net(self._laid(x[rows])), _of(of, rows), rows) for rows in _slices(len(x), size)]
        return torch.cat(parts)

    def gradient(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """∂f/∂x (n, c, h, w)."""
        gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part in self.passes(x, of):
            gradient[part.rows] = part.gradient
        return gradient

    def passes(
        self, x: Tensor, of: Tensor | None = None, layers: Sequence[str] = (), gradient: bool = True
    ) -> Iterator[Pass]:
        """Forward and backward, batch by batch.

        Args:
            x: (n, c, h, w).
            of: (n,) index of the target of each row, for rows that are variants of fewer images.
            layers: names of layers, out of those given at the start, whose output and gradient are wanted.
            gradient: whether the gradient of the input is wanted.

        Raises:
            ValueError: a layer was not reached, or its output is not (n, k, u, v).
        """
        self._prepare(x)
        for rows in _slices(len(x), self._batch_size(x)):
            part = self._laid(x[rows]).detach().requires_grad_(gradient)
            found: dict[str, Tensor] = {}
            hooks = [self._layers[name].register_forward_hook(_keep(found, name)) for name in layers]
            try:
                with torch.enable_grad():
                    value = self._scalar(self.net(part), _of(of, rows), rows)
            finally:
                for hook in hooks:
                    hook.remove()
            for name in layers:
                if name not in found or found[name].ndim != 4:
                    shape = tuple(found[name].shape) if name in found else "no output"
                    raise ValueError(f"layer {name}: found {shape}, expected maps (n, k, u, v); name another layer")
            wanted = [*found.values(), *([part] if gradient else [])]
            given = torch.autograd.grad(value.sum(), wanted)
            activations = {name: Activation(a.detach(), g) for (name, a), g in zip(found.items(), given, strict=False)}
            yield Pass(rows, value.detach(), given[-1] if gradient else None, activations)

    def _layer(self, name: str) -> nn.Module:
        modules = dict(self.net.named_modules())
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, 5) or list(modules)[-5:]
            raise ValueError(f"layers: found '{name}', expected a name of `model.named_modules()`, such as {near}")
        return modules[name]

    def _scalar(self, output: Tensor, of: Tensor | None, rows: slice) -> Tensor:
        if callable(self.target):
            value = self.target(output)
            images = len(output if isinstance(output, Tensor) else output[0])
            if value.shape != (images,):
                raise ValueError(f"target: found values {tuple(value.shape)}, expected ({images},)")
            return value
        if not isinstance(output, Tensor):
            raise ValueError(f"target: found {len(output)} outputs, expected a callable that makes (n,) of them")
        output = output.flatten(1) if output.ndim > 1 else output[:, None]
        if self.target is None:
            return output.mean(1)
        if isinstance(self.target, Tensor):
            target = self.target.to(output.device)[rows if of is None else of]
        else:
            target = torch.full((len(output),), int(self.target), device=output.device)
        classes = max(2, output.shape[1])
        if len(target) != len(output) or target.min() < 0 or target.max() >= classes:
            raise ValueError(f"target: found {target.tolist()}, expected {len(output)} classes of 0 to {classes - 1}")
        if output.shape[1] == 1:
            return (2 * target - 1).to(output.dtype) * output[:, 0]
        return output.gather(1, target[:, None].long())[:, 0]

    def _prepare(self, x: Tensor) -> None:
        """Check the input; fold at the first call, because which layers follow each other is seen in a run."""
        check_images(x)
        if self._fold:
            self._fold = False
            fold_batch_norm(self.net, x[:1], keep=self._layers.values(), ask=self._count)

    def _laid(self, x: Tensor) -> Tensor:
        """Images as the convolutions read them fastest: a tenth to a third faster, in float32."""
        if x.dtype != torch.float32:
            return x
        self.net.to(memory_format=torch.channels_last)
        return x.contiguous(memory_format=torch.channels_last)

    def _batch_size(self, x: Tensor) -> int:
        """Images whose saved tensors fit into the bound, by what one image saves for the backward pass."""
        key = (*x.shape[1:], x.dtype)
        if len(x) == 1:
            return 1
        if key not in self._batch:
            self._count(x[:1])
        return self._batch[key]

    def _count(self, x: Tensor) -> Any:
        """Output for one image (1, c, h, w); tells how many such images may go through at once."""
        saved: dict[tuple[int, int], int] = {}

        def count(tensor: Tensor) -> Tensor:
            if tensor.ndim and tensor.shape[0] == 1:  # weights are saved once, whatever the batch
                saved[(tensor.data_ptr(), tensor.numel())] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            output = self.net(x.detach().requires_grad_(True))
        # Gradients on the way back and workspace come on top of what was saved.
        per_image = 1.5 * sum(saved.values()) + 4 * x.numel() * x.element_size()
        self._batch[(*x.shape[1:], x.dtype)] = max(1, int(self.memory_bytes // per_image))
        return output


def check_images(x: Tensor) -> None:
    """Refuse what is not (n, c, h, w) of floats."""
    if x.ndim != 4 or not x.is_floating_point() or not len(x):
        raise ValueError(f"x: found {tuple(x.shape)} {x.dtype}, expected (n, c, h, w) of floats, n > 0")


def _keep(found: dict[str, Tensor], name: str) -> Callable:
    def hook(module, args, output):
        if isinstance(output, Tensor) and not output.requires_grad:
            # Nothing in front of the first layer is saved; a copy, because what follows may work in place.
            output = output.detach().requires_grad_(True).clone()
        found[name] = output
        return output

    return hook


def _of(of: Tensor | None, rows: slice) -> Tensor | None:
    return None if of is None else of[rows]


def _slices(n: int, size: int) -> list[slice]:
    """As few parts as `size` allows, of about equal lengths: a last small batch would use the cores badly."""
    size = -(-n // -(-n // size))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
