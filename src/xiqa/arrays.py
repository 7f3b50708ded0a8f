"""Tensors where arrays are wanted, without importing torch."""

from __future__ import annotations

from typing import Any


def as_array(value: Any) -> Any:
    """A torch tensor as a numpy array, on the CPU and without its history; anything else as it is."""
    if not hasattr(value, "requires_grad") or not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
