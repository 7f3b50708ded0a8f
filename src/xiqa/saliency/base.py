"""What a saliency method is: the target that it explains, how it is loaded by name, and the checks of its maps."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from xiqa.registry import ENSEMBLE_METHODS


@runtime_checkable
class Target(Protocol):
    """A scalar function of an image, with gradients: for the CDC ensemble, the midpoint of the curve in µm.

    All methods take and return numpy arrays; x is (n, s, s), normalised by the training set. Methods that look inside
    the network (LRP, the incremental single-pixel occlusion) also need `target.ensemble.members`.
    """

    def value(self, x: np.ndarray) -> np.ndarray:
        """The scalar of each image, (n,)."""
        ...

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The gradient of the scalar, (n, s, s)."""
        ...

    def member_gradients(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scalars (M, n) and gradients (M, n, s, s) of each member; their means over M are `value` and `gradient`."""
        ...


def load_method(name: str) -> Callable[..., Any]:
    """The `explain` function of a saliency method; only the module of that method is imported.

    Args:
        name: one of `xiqa.registry.ENSEMBLE_METHODS`; the module of the method carries the same name.

    Returns:
        explain(target, x (n, s, s), **options) -> maps (n, s, s).

    Raises:
        ValueError: no method has this name.
    """
    if name not in ENSEMBLE_METHODS:
        raise ValueError(f"saliency method: found '{name}', expected one of {sorted(ENSEMBLE_METHODS)}")
    return importlib.import_module(f"xiqa.saliency.{name}").explain


def completeness_error(name: str, target: Target, x: np.ndarray, maps: np.ndarray, **options: Any) -> np.ndarray | None:
    """What the sum of each map lacks to what the method promises, (n,) in µm; None where nothing is promised.

    Args:
        name: one of `xiqa.registry.ENSEMBLE_METHODS`.
        target, x, maps: as given to `explain`, and what it returned.
        options: of `explain`; those that the promise depends on are used.
    """
    load_method(name)
    check = getattr(importlib.import_module(f"xiqa.saliency.{name}"), "completeness_error", None)
    if check is None:
        return None
    known = inspect.signature(check).parameters
    return check(target, x, maps, **{key: value for key, value in options.items() if key in known})


def methods_of(family: str) -> list[str]:
    """Names of the methods of one family, in the order of `registry.ENSEMBLE_METHODS`.

    Raises:
        ValueError: there is no such family.
    """
    methods = [name for name, entry in ENSEMBLE_METHODS.items() if entry.module == family]
    if not methods:
        known = sorted({entry.module for entry in ENSEMBLE_METHODS.values()})
        raise ValueError(f"saliency family: found '{family}', expected one of {known}")
    return methods


def supports_members(explain: Callable[..., Any]) -> bool:
    """Whether a method takes `members=True` and then returns (maps, member maps (M, n, s, s)) instead of maps."""
    return "members" in inspect.signature(explain).parameters


def as_images(x: np.ndarray) -> np.ndarray:
    """Network input as (n, s, s), from (n, s, s) or (n, 1, s, s); tensors (n, c, h, w) stay as they are.

    Raises:
        ValueError: another shape.
    """
    if _is_tensor(x):
        return x
    x = np.asarray(x)
    if x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 3:
        raise ValueError(f"x: found shape {x.shape}, expected (n, s, s) or (n, 1, s, s)")
    return x


def like(x, value):
    """A number as it is; an array in the dtype of x, so that float32 images stay float32."""
    return value if _is_tensor(x) or np.isscalar(value) else np.asarray(value, x.dtype)


def _is_tensor(x) -> bool:
    # Without importing torch, which stages that only compute scores do not need.
    return hasattr(x, "requires_grad")


def validity(maps: np.ndarray, completeness_error: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Validity flags of maps, one table row per map.

    Args:
        maps: (n, h, w).
        completeness_error: (n,), the sum of the map less what the method promises it to be, where it promises it.

    Returns:
        Rows with `image` (index), `constant` (no two pixels differ: the map says nothing), `non_finite` (number of NaN
        or infinite pixels), `completeness_error` (None where nothing is promised) and `valid` (neither constant nor
        non-finite).
    """
    rows = []
    for index, values in enumerate(maps):
        finite = np.isfinite(values)
        constant = bool(finite.all() and values.min() == values.max())
        non_finite = int(values.size - np.count_nonzero(finite))
        error = None if completeness_error is None else float(completeness_error[index])
        rows.append(
            {
                "image": index,
                "constant": constant,
                "non_finite": non_finite,
                "completeness_error": error,
                "valid": not constant and non_finite == 0,
            }
        )
    return rows
