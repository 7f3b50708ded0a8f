"""Which scalar of a network's output is explained: a class, the predicted class, or what a function makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

TargetOf: TypeAlias = int | Sequence[int] | np.ndarray | Tensor | Callable[[Any], Tensor] | Literal["predicted"] | None
"""A class, a class for each image, "predicted", a function of the raw output -> (n,), or None for single outputs."""

ASK = "a callable that makes (n,) of the output"


def as_target(target: TargetOf) -> int | Tensor | Callable[[Any], Tensor] | Literal["predicted"] | None:
    """A target in one of its plain forms: classes become an int or a tensor (n,) of int64.

    Raises:
        ValueError: what is neither classes nor a callable.
    """
    if target is None or callable(target) or (isinstance(target, str) and target == "predicted"):
        return target
    expected = f"expected a class, one class for each image, 'predicted', or {ASK}"
    try:
        classes = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"target: found {target!r}, {expected}") from None
    if classes.ndim == 2 and classes.shape[1] == 1:
        classes = classes[:, 0]
    whole = not classes.is_complex() and torch.equal(classes, classes.to(torch.int64).to(classes.dtype))
    if classes.ndim > 1 or not whole:
        hint = "; of one-hot rows give target.argmax(1)" if classes.ndim == 2 else ""
        raise ValueError(f"target: found {tuple(classes.shape)} {classes.dtype}, {expected}{hint}")
    return classes.to(torch.int64) if classes.ndim else int(classes)


def scalar(output: Any, target: int | Tensor | Callable | None, n: int) -> Tensor:
    """The explained scalar (n,) of the output for n images; `target` as `as_target` gives it, with n classes.

    Raises:
        ValueError: the output or the target is not what one class can be taken of; the message says what to give.
    """
    if callable(target):
        value = target(_with_batch(output, n))
        if not isinstance(value, Tensor) or value.shape not in {(n,), (n, 1)}:
            found = f"values {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"target: found {found}, expected ({n},), one number for each image")
        return value.reshape(n)
    output = logits(output, n)
    outputs = output.shape[1]
    if target is None:
        if outputs > 1:
            raise ValueError(
                f"target: found None for {outputs} outputs, expected a class, one for each image, 'predicted' (of "
                "logits), or a callable such as lambda output: output.mean(1)"
            )
        return output[:, 0]
    classes = max(2, outputs)
    chosen = torch.full((n,), target) if isinstance(target, int) else target
    stray = [number for number in chosen.tolist() if not 0 <= number < classes]
    if stray:
        raise ValueError(f"target: found class {stray[0]}, expected 0 to {classes - 1}")
    chosen = chosen.to(output.device)
    if outputs == 1:
        return (2 * chosen - 1).to(output.dtype) * output[:, 0]
    return output.gather(1, chosen[:, None])[:, 0]


def predicted(output: Any, n: int) -> Tensor:
    """The class (n,) with the largest logit; of a single logit its sign decides."""
    output = logits(output, n)
    return output.argmax(1) if output.shape[1] > 1 else (output[:, 0] > 0).to(torch.int64)


def logits(output: Any, n: int) -> Tensor:
    """(n, k) numbers of an output that plainly is that, perhaps squeezed, or the one tensor of a tuple or mapping.

    Raises:
        ValueError: it is something else, such as a segmentation, or several tensors.
    """
    output = only_tensor(output)
    output = _with_batch(output, n)
    found = tuple(output.shape)
    if not found or found[0] != n or not output.is_floating_point():
        raise ValueError(
            f"target: found an output {found} {output.dtype} for {n} images, expected ({n}, classes) of floats; give "
            f"{ASK}"
        )
    if output.numel() != n * (found[1] if len(found) > 1 else 1):
        raise ValueError(
            f"target: found an output {found}, expected ({n}, classes): a class is no single number of it. Give {ASK}, "
            "such as lambda output: output[:, 1].mean((-2, -1)) for class 1 of a segmentation"
        )
    return output.reshape(n, -1)


def only_tensor(output: Any) -> Tensor:
    """The output itself, or the one tensor of a tuple, list or mapping.

    Raises:
        ValueError: there is none, or there are several.
    """
    if isinstance(output, Tensor):
        return output
    parts = _parts(output)
    tensors = [part for part in parts.values() if isinstance(part, Tensor)]
    if len(tensors) != 1:
        shapes = [f"{key}: {tuple(part.shape) if isinstance(part, Tensor) else part}" for key, part in parts.items()]
        named = f"{type(output).__name__} ({', '.join(shapes)})"
        raise ValueError(f"target: found an output of {named}, expected one tensor; give {ASK}")
    return tensors[0]


def with_tensor(output: Any, tensor: Tensor) -> Any:
    """The output with another tensor in the place of its only one."""
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        changed.update({key: tensor for key, part in output.items() if isinstance(part, Tensor)})
        return changed
    return tuple(tensor if isinstance(part, Tensor) else part for part in output)


def _with_batch(output: Any, n: int) -> Any:
    """The output of one image with its first axis, which networks that end in `.squeeze()` take away."""
    if n == 1 and isinstance(output, Tensor) and (not output.ndim or len(output) != 1):
        return output[None]
    return output


def _parts(output: Any) -> Mapping[Any, Any]:
    if isinstance(output, Mapping):
        return output
    return dict(enumerate(output)) if isinstance(output, tuple | list) else {}
