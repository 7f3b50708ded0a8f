"""A scalar output of any torch module, with its gradients and activations: what `attribute` explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from xiqa.models.folding import fold_batch_norm, tensors_of
from xiqa.models.working_copy import dtype_of, working_copy
from xiqa.saliency.layouts import Reshape, as_maps, last_spatial_layer, name_of
from xiqa.saliency.outputs import TargetOf, as_target, predicted, scalar

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
    gradients and flags stay as they are, whatever happens, and calls in several threads do not meet; see
    `models.working_copy`. It is made fast as far as its output stays the same: float32 images and weights lie channels
    last in memory, and batch normalisation is folded into the convolution before it, which pays for many passes.

    Args:
        model: (n, c, h, w) -> (n,) or (n, k); anything, if the target is a callable that takes it.
        target: see `outputs.TargetOf`. Of a single logit z the sign is taken, (2 target - 1) z. "predicted" is decided
            by `decide`. None: the output itself, where there is one number for each image.
        layers: modules of the model, or their names, whose output may be asked for; they are left as they are.
        memory_gb: bound on the memory of a batch; batches are split accordingly, down to one image.
        fold: fold batch normalisation and try one image before; without, the first batch is measured while it runs.
        reshape: how the outputs of layers lie on the image, see `layouts.Reshape`.

    Raises:
        ValueError: the module cannot be copied, or a layer does not exist.
    """

    curve_networks: Sequence[nn.Module] = ()
    """Of an ensemble that predicts curves its members, for methods that know a shorter way through them."""

    def __init__(
        self,
        model: nn.Module,
        target: TargetOf = None,
        layers: Sequence[str | nn.Module] = (),
        memory_gb: float = MEMORY_GB,
        fold: bool = True,
        reshape: Reshape = None,
    ):
        if memory_gb <= 0:
            raise ValueError(f"memory_gb: found {memory_gb}, expected more than 0")
        self.target = as_target(target)
        self.net = working_copy(model)
        self.memory_bytes = memory_gb * 2**30
        self.reshape = reshape
        self._layers = [name_of(model, layer) for layer in layers]
        self._fold = self._trial = fold
        self._batch: dict[tuple, int] = {}
        self._alone: tuple[int, Any] | None = None
        self._format: torch.memory_format | None = None
        # Vision transformers have one, which only gets slower in another order of memory.
        self._few_convolutions = sum(isinstance(module, nn.Conv2d) for module in self.net.modules()) < 2
        makers = {type(module).__module__.partition(".")[0] for module in self.net.modules()}
        # Of these libraries' own networks it is known that no image of a batch changes another's output.
        self._well_known = makers <= {"torch", *_MAKERS} and type(self.net).__module__.partition(".")[0] in _MAKERS

    def images(self, x: Tensor) -> Tensor:
        """Images as the network takes them: on its device, in the wider of both floating types, float32 at least."""
        check_images(x)
        own = dtype_of(self.net) or x.dtype
        dtype = torch.promote_types(torch.promote_types(own, x.dtype), torch.float32)
        if own != dtype:
            self.net.to(dtype)
        device = next((p.device for p in self.net.parameters()), x.device)
        x = x.detach().to(device, dtype)
        return x.clone() if x.is_inference() else x

    def decide(self, x: Tensor) -> None:
        """Replace the target "predicted" by the classes that the network gives images (n, c, h, w)."""
        if isinstance(self.target, str):
            parts = []
            for rows in self._parts(x):
                with torch.no_grad():
                    output = self._run(x[rows])
                parts.append(predicted(output, len(x[rows])))
                self._compare(scalar(output, parts[-1], len(x[rows])), parts[-1], rows)
            self.target = torch.cat(parts)

    def last_layer(self, x: Tensor) -> str:
        """Name of the last layer with places, which from now on may be asked for; see `layouts.last_spatial_layer`."""
        name = last_spatial_layer(self.net, x[:1], self.reshape, self._run)
        self._layers.append(name)
        return name

    def value(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """f (n,) of images (n, c, h, w); `of` (n,) tells the index of the target of each, 0..n-1 by default."""
        self._prepare(x, of)
        with torch.no_grad():
            parts = [self._scalar(self._run(x[rows]), _of(of, rows), rows) for rows in self._parts(x)]
        return torch.cat(parts)

    def gradient(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """∂f/∂x (n, c, h, w)."""
        gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part in self.passes(x, of):
            gradient[part.rows] = part.gradient
        return gradient

    def member_gradients(self, x: Tensor) -> Tensor:
        """∂f/∂x of each member of an ensemble (m, n, c, h, w), whose mean is the gradient; of one network, of it."""
        return self.gradient(x)[None]

    def networks(self) -> Sequence[Explained]:
        """What is explained as networks that a method may look into: this one; of an ensemble its members."""
        return [self]

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
            ValueError: a layer was not reached or reached several times, its output is not maps (n, k, u, v), or the
                scalar has no gradient.
        """
        self._prepare(x, of)
        if len(x) > 1 and not self._trial and (*x.shape[1:], x.dtype) not in self._batch:
            if not self._well_known:
                with torch.no_grad():
                    self._alone = len(x), self._run(x[-1:])
            try:
                whole = self._pass(x, slice(0, len(x)), of, layers, gradient)
            except _TooMuchMemory:
                pass  # one image is measured instead, by `_batch_size`
            else:
                yield whole
                return
        for rows in self._parts(x):
            yield self._pass(x, rows, of, layers, gradient)

    def _pass(self, x: Tensor, rows: slice, of: Tensor | None, layers: Sequence[str], gradient: bool) -> Pass:
        part = x[rows].detach()
        leaf = part.requires_grad_() if gradient else part
        found: dict[str, Any] = {}
        calls: list[str] = []
        hooks = [self.net.get_submodule(name).register_forward_hook(_keep(found, calls, name)) for name in layers]
        try:
            with torch.enable_grad():
                value = self._scalar(self._run(leaf, calls), _of(of, rows), rows)
        finally:
            for hook in hooks:
                hook.remove()
        for name in layers:
            if calls.count(name) != 1:
                raise ValueError(
                    f"layer {name}: found {calls.count(name)} calls in a pass, expected one; name another layer"
                )
        activations = {name: as_maps(found[name], self.reshape, self.net, name, part) for name in layers}
        wanted = [*(_tensor(found[name]) for name in layers), *([leaf] if gradient else [])]
        if not value.requires_grad:
            raise ValueError(f"gradient: {_CUT}")
        given = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
        for name, of_layer in zip(layers, given, strict=False):
            if of_layer is None:
                raise ValueError(f"layer {name}: found no way from it to the explained output; name another layer")
            activations[name] = Activation(
                activations[name].detach(), as_maps(of_layer, self.reshape, self.net, name, part)
            )
        if gradient and given[-1] is None:
            raise ValueError(f"gradient: {_CUT}")
        return Pass(rows, value.detach(), given[-1] if gradient else None, activations)

    def _scalar(self, output: Any, of: Tensor | None, rows: slice) -> Tensor:
        target, n = self.target, rows.stop - rows.start
        if isinstance(target, Tensor):
            target = target[rows] if of is None else target.to(of.device)[of]
        value = scalar(output, target, n)
        self._compare(value, target, rows)
        return value

    def _compare(self, value: Tensor, target: TargetOf, rows: slice) -> None:
        """Once: the last image, which was tried alone, must have the same value among the others of its batch."""
        if self._alone is not None and self._alone[0] == rows.stop:
            alone, self._alone = self._alone[1], None
            _check_alone(value, scalar(alone, target[-1:] if isinstance(target, Tensor) else target, 1))

    def _prepare(self, x: Tensor, of: Tensor | None) -> None:
        """Check the input; fold at the first call, because which layers follow each other is seen in a run."""
        check_images(x)
        if of is None and isinstance(self.target, Tensor) and len(self.target) != len(x):
            raise ValueError(f"target: found {self.target.tolist()}, expected {len(x)} classes, one for each image")
        if self._fold:
            self._fold = False
            keep = [self.net.get_submodule(name) for name in self._layers]
            with torch.no_grad():
                fold_batch_norm(self.net, x[:1], keep=keep, run=self._run)

    def _run(self, x: Tensor, calls: list | None = None) -> Any:
        """The raw output for images, which stay as they are whatever the network does in place.

        Args:
            x: (b, c, h, w).
            calls: is emptied should the run begin again, for hooks that fill it.

        Raises:
            ValueError: the network is random, or normalises by the batch.
        """
        if x.dtype != torch.float32 or self._few_convolutions:
            return self._measured(x.clone(memory_format=torch.contiguous_format))
        if self._format is None:
            self._lay(torch.channels_last)  # a tenth to a third faster
        try:
            return self._measured(x.clone(memory_format=self._format))
        except RuntimeError:
            if self._format == torch.contiguous_format:
                raise
            # Such as `.view(n, -1)`, which takes no other order of memory.
            self._lay(torch.contiguous_format)
            if calls is not None:
                calls.clear()
            return self._run(x)

    def _measured(self, x: Tensor) -> Any:
        """Output for images; the first run of a shape with gradients tells how many may go through at once."""
        before, key = torch.get_rng_state(), (*x.shape[1:], x.dtype)
        if key in self._batch:
            output = self.net(x)
        elif not torch.is_grad_enabled():
            with self._own_statistics():
                output = self.net(x)
        else:
            known = {value.untyped_storage().data_ptr() for value in [*self.net.parameters(), *self.net.buffers()]}
            saved: list[int] = []

            def count(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in known:  # weights are saved once, whatever the batch
                    known.add(storage.data_ptr())
                    saved.append(storage.nbytes())
                    if len(x) > 1 and 1.5 * sum(saved) > self.memory_bytes:
                        raise _TooMuchMemory
                return tensor

            with self._own_statistics(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                output = self.net(x)
            # Gradients on the way back and workspace come on top of what was saved.
            per_image = 1.5 * sum(saved) / len(x) + 4 * x[0].numel() * x.element_size()
            self._batch[key] = max(1, int(self.memory_bytes // per_image))
        if not torch.equal(before, torch.get_rng_state()):
            _check_not_random(self.net, x)
        return output

    def _own_statistics(self) -> AbstractContextManager:
        return nullcontext() if self._well_known else _OwnStatistics()

    def _lay(self, memory_format: torch.memory_format) -> None:
        self._format = memory_format
        for weight in self.net.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=memory_format)

    def _parts(self, x: Tensor) -> list[slice]:
        return _slices(len(x), self._batch_size(x))

    def _batch_size(self, x: Tensor) -> int:
        """Images whose saved tensors fit into the bound, by what one image saves for the backward pass."""
        key = (*x.shape[1:], x.dtype)
        if len(x) == 1:
            return 1
        if key not in self._batch:
            with torch.enable_grad():
                self._alone = len(x), self._run(x[-1:].detach().requires_grad_())
        return self._batch[key]


class _TooMuchMemory(Exception):
    """The images of a batch do not go through at once."""


_MAKERS = {"timm", "torchvision", "xiqa"}
_CUT = (
    "found none from the explained output to the image, expected one; the network leaves autograd on the way (no_grad, "
    "detach, rounding). Take a method that only asks for outputs, such as occlusion or rise"
)


@contextmanager
def plain_autograd(x: Tensor) -> Iterator[None]:
    """Within it gradients are taken, in full precision, whatever the caller has set for itself."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        yield


def check_images(x: Tensor) -> None:
    """Refuse what is not (n, c, h, w) of floats."""
    if x.ndim != 4 or not x.is_floating_point() or not len(x):
        raise ValueError(f"x: found {tuple(x.shape)} {x.dtype}, expected (n, c, h, w) of floats, n > 0")


def _check_alone(value: Tensor, alone: Tensor) -> None:
    """The last image must have among others the output (n,) that it has alone (1,), but for rounding."""
    value, alone = value.detach(), alone.detach()
    allowed = torch.finfo(value.dtype).eps ** 0.5 * float(value.abs().max())
    if not torch.allclose(value[-1:], alone, rtol=0, atol=allowed, equal_nan=True) and value.isfinite().all():
        raise ValueError(
            f"model: found the output {float(value[-1]):.6g} for an image among others and {float(alone):.6g} for it "
            "alone, expected the same; the network lets the images of a batch depend on each other"
        )


def _check_not_random(net: nn.Module, x: Tensor) -> None:
    """Random numbers were drawn, by the network or by another thread."""
    with torch.no_grad():
        first, second = ([*tensors_of(net(x.detach().clone()))] for _ in range(2))
    if not all(map(torch.equal, first, second)):
        raise ValueError(
            f"model: found a {type(net).__name__} whose output for one image changes from call to call, expected the "
            "same in evaluation mode; turn off what is random in it, such as dropout(training=True)"
        )


class _OwnStatistics(TorchFunctionMode):
    """Within it normalisation by the batch is refused."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is functional.batch_norm and (args[5] if len(args) > 5 else kwargs.get("training", False)):
            raise ValueError(
                "model: found batch_norm(training=True), expected running statistics: the output of an image would "
                "depend on the others of its batch"
            )
        return function(*args, **kwargs)


def _keep(found: dict[str, Any], calls: list[str], name: str) -> Callable:
    def hook(module, args, output):
        calls.append(name)
        if isinstance(output, Tensor) and output.is_floating_point() and not output.requires_grad:
            output = output.detach().requires_grad_()  # nothing in front of the first layer is saved
        found[name] = output
        # What follows gets a copy: it may work in place.
        return output.clone() if isinstance(output, Tensor) else output

    return hook


def _tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else next(part for part in output if isinstance(part, Tensor))


def _of(of: Tensor | None, rows: slice) -> Tensor | None:
    return None if of is None else of[rows]


def _slices(n: int, size: int) -> list[slice]:
    """As few parts as `size` allows, of about equal lengths: a last small batch would use the cores badly."""
    size = -(-n // -(-n // size))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
