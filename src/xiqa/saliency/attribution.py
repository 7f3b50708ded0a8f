"""`attribute`: any saliency method on any torch module, methods of one family from the same passes."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xiqa.registry import LAYERED, MODULES, added, module_of
from xiqa.saliency.base import validity
from xiqa.saliency.explained import MEMORY_GB, Explained, check_images, plain_autograd
from xiqa.saliency.layouts import name_of
from xiqa.saliency.outputs import TargetOf
from xiqa.saliency.references import noisy_copies

_FEW_PASSES = tuple(f"xiqa.saliency.{name}" for name in ("one_pass", "relu_backward", "attention", "controls"))
_MANY_IMAGES = 16
"""From so many on even a single pass is worth folding batch normalisation before."""


def attribute(
    model: nn.Module, x: Tensor | np.ndarray, target: TargetOf = None, method: str = "gradient", **options: Any
) -> Tensor:
    """Explain the output of a network for each image.

    Args:
        model: (n, c, h, w) -> (n,) or (n, k); with a callable target anything. It stays as it is: the work is done on a
            copy, in float32 at least.
        x: (n, c, h, w), as the network takes it; a tensor or an array.
        target: class, or one class for each image; "predicted": the class with the largest output; a callable raw
            output -> (n,); None: the output itself, refused where there are several. A single logit z takes the sign:
            (2 target - 1) z.
        method: one of `xiqa.saliency.methods()`.
        options: of the method, see `xiqa.saliency.options(method)`. For all: memory_gb (bound on a batch, 0.75);
            reduce_channels (True: signed maps are summed over channels; False: (n, c, h, w)); smooth_samples (0; more:
            the smooth variant of the method, the mean of its maps of that many noisy copies) and smooth_noise_level
            (0.15, over the image's range). Maps of layers: layers (modules of the model or names of
            `model.named_modules()`; by default the last spatial one), reshape (how a layer's output lies on the image,
            see `layouts.Reshape`; architectures of timm and torchvision are known), alignment ("published" or
            "centred"), normalise (True: min-max; False: the raw definition).

    Returns:
        Maps (n, h, w) in the dtype and on the device of x. NaN for an image that is not finite.

    Raises:
        ValueError: unknown method or option; what is wrong with model, target, layers or images.
    """
    return attribute_many(model, x, target, [method], **options)[method]


def attribute_many(
    model: nn.Module,
    x: Tensor | np.ndarray,
    target: TargetOf = None,
    methods: str | Iterable[str] = ("gradient",),
    **options: Any,
) -> dict[str, Tensor]:
    """The maps of several methods, those of one family from the same passes: {name: (n, h, w)}; see `attribute`.

    An option goes to each of the methods that has it.
    """
    methods = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    for name in methods:
        checked_method(name)
    families = {module_of(name) for name in methods}
    known = set().union(COMMON, *map(options_of_family, families))
    if stray := set(options) - known:
        expected = sorted(known)
        raise ValueError(f"option: found '{min(stray)}', expected some of {expected} for {methods}")
    options = {key: _listed(value) if key in ("layers", "multi_layers") else value for key, value in options.items()}
    given = as_images(x)
    with plain_autograd(given):
        samples = options.get("smooth_samples", 0)
        many = len(given) * max(1, samples) >= _MANY_IMAGES or not families <= set(_FEW_PASSES)
        explained = Explained(
            model,
            target,
            [*options.get("layers", ()), *options.get("multi_layers", ())],
            options.get("memory_gb", MEMORY_GB),
            fold=many,
            reshape=options.get("reshape"),
        )
        images, finite = _finite(explained.images(given))
        explained.decide(images)
        for key in ("layers", "multi_layers"):
            if key in options:
                options[key] = [name_of(model, layer) for layer in options[key]]
        if LAYERED & set(methods) and not options.get("layers") and not options.get("multi_layers"):
            options["layers"] = [explained.last_layer(images)]
        found = maps_of(explained, images, methods, **options)
        for maps in found.values():
            maps[~finite.to(maps.device)] = torch.nan
    return {name: found[name].to(given.device, given.dtype) for name in methods}


def maps_of(explained: Explained, images: Tensor, methods: Sequence[str], **options: Any) -> dict[str, Tensor]:
    """The maps of several methods on images that the network takes as they are; `attribute_many` prepares both.

    Args:
        explained: what is explained.
        images: (n, c, h, w), finite.
        methods: names; those of one family share their passes.
        options: as of `attribute`; layers by name.
    """
    families: dict[str, list[str]] = {}
    for name in methods:
        families.setdefault(module_of(name), []).append(name)
    samples = options.get("smooth_samples", 0)
    copies: Iterable[Tensor] = [images]
    if samples:
        copies = noisy_copies(images, samples, options.get("smooth_noise_level", 0.15), options.get("seed", 0))
    found: dict[str, Tensor] = {}
    for copy in copies:
        for family, names in families.items():
            own = {key: value for key, value in options.items() if key in options_of_family(family)}
            for name, maps in _maps(family)(explained, copy, names, **own).items():
                found[name] = maps.detach() / max(1, samples) + found.get(name, 0)
    summed = options.get("reduce_channels", True)
    return {name: maps.sum(1) if summed and maps.ndim == 4 else maps for name, maps in found.items()}


def checked_method(name: str) -> str:
    """The name of a method; a ValueError that lists the methods for any other."""
    if name not in MODULES and name not in added("xiqa.methods"):
        near = difflib.get_close_matches(str(name), MODULES, 3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ValueError(f"method: found {name!r}, expected one of {', '.join(MODULES)}{hint}")
    return name


def as_images(x: Tensor | np.ndarray) -> Tensor:
    """Images (n, c, h, w) as a tensor of floats; a ValueError for anything else."""
    if not isinstance(x, Tensor):
        x = torch.as_tensor(np.asarray(x))
    check_images(x)
    return x


def _finite(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images, each that is not finite replaced by one that is, or by zeros; and (n,) whether they are finite."""
    finite = x.isfinite().flatten(1).all(1)
    if finite.all():
        return x, finite
    other = x[finite][0] if finite.any() else torch.zeros_like(x[0])
    return torch.where(finite[:, None, None, None], x, other), finite


def _listed(layers: Any) -> list[str | nn.Module]:
    if layers is None:
        return []
    return [layers] if isinstance(layers, str | nn.Module) else list(layers)


COMMON: dict[str, tuple[Any, str]] = {
    "memory_gb": (MEMORY_GB, "float"),
    "reduce_channels": (True, "bool"),
    "reshape": (None, "Reshape"),
    "smooth_samples": (0, "int"),
    "smooth_noise_level": (0.15, "float"),
}
"""Options of all methods, with their defaults and types."""


class EnsembleMaps(NamedTuple):
    """What an ensemble says.

    Attributes:
        of_mean: (n, h, w) map of the mean output; None for maps of layers, which the mean has not.
        mean: (n, h, w) mean of the members' maps.
        spread: (n, h, w) standard deviation over the members.
    """

    of_mean: Tensor | None
    mean: Tensor
    spread: Tensor


class _Mean(nn.Module):
    """Mean of the outputs of members."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Any:
        return _mean([member(x) for member in self.members])


def _mean(outputs: Sequence[Any]) -> Any:
    """Mean of outputs of one form: tensors, or tuples, lists and mappings of them."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.stack(list(outputs)).mean(0)
    if isinstance(first, Mapping):
        return {key: _mean([output[key] for output in outputs]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_mean(parts) for parts in zip(*outputs, strict=True))
    return first


def attribute_ensemble(
    members: Sequence[nn.Module],
    x: Tensor | np.ndarray,
    target: TargetOf = None,
    method: str = "gradient",
    **options: Any,
) -> EnsembleMaps:
    """Explain the mean output of an ensemble, and each member; see `attribute`.

    A callable target is given the mean output; members with several outputs, such as `CDCNet`, the mean of each.
    "predicted" is the class that the mean output predicts, for all members.

    Raises:
        ValueError: fewer than two members; as `attribute`.
    """
    if len(members) < 2:
        raise ValueError(f"members: found {len(members)}, expected at least 2; use `attribute` for one network")
    if isinstance(target, str):
        target = predicted_classes(_Mean(members), x) if target == "predicted" else target
    maps = torch.stack([attribute(member, x, target, method, **options) for member in members])
    of_mean = None if method in LAYERED else attribute(_Mean(members), x, target, method, **options)
    return EnsembleMaps(of_mean, maps.mean(0), maps.std(0))


def predicted_classes(model: nn.Module, x: Tensor | np.ndarray) -> Tensor:
    """The classes (n,) that a network predicts for images (n, c, h, w): those of the target "predicted"."""
    given = as_images(x)
    with plain_autograd(given):
        explained = Explained(model, "predicted", fold=False)
        explained.decide(_finite(explained.images(given))[0])
        return torch.as_tensor(explained.target).to(given.device)


def known_options(methods: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that at least one of the methods has."""
    known = set(COMMON).union(*(options_of_family(module_of(method)) for method in methods))
    return {name: value for name, value in options.items() if name in known}


def checks(
    model: nn.Module, x: Tensor | np.ndarray, target: TargetOf, maps: Mapping[str, Tensor], **options: Any
) -> pd.DataFrame:
    """Validity flags of maps (n, h, w), one row per method and image.

    Args:
        model, x, target: as given to `attribute`.
        maps: method -> maps, as `attribute_many` returned them.
        options: as given to `attribute`: the promise of some methods depends on baseline, references or max_sigma.

    Returns:
        Columns image (number), constant, non_finite, completeness_error (sum of the map less what the method promises
        it to be, in units of the output: the convergence delta; empty where it promises nothing), valid, method.
    """
    given = as_images(x)
    with plain_autograd(given):
        explained = Explained(model, target, fold=False)
        images, finite = _finite(explained.images(given))
        explained.decide(images)
        return checks_of(explained, images, maps, finite, **options)


def checks_of(
    explained: Explained, images: Tensor, maps: Mapping[str, Tensor], finite: Tensor | None = None, **options: Any
) -> pd.DataFrame:
    """Validity flags of maps as of `checks`, on images that the network takes as they are.

    Args:
        explained: what is explained.
        images: (n, c, h, w); where one is not finite, another stands in its place, and `finite` (n,) says so.
        maps, options: as of `checks`.
    """
    parts = []
    for name, found in maps.items():
        error, check = None, getattr(_module(module_of(checked_method(name))), "completeness_error", None)
        if check:
            known = inspect.signature(check).parameters
            own = {key: value for key, value in options.items() if key in known}
            error = check(explained, images, name, torch.as_tensor(found).to(images), **own)
        if error is not None:
            error = (error if finite is None else torch.where(finite, error, torch.nan)).cpu().numpy()
        parts.append(
            pd.DataFrame(validity(np.asarray(torch.as_tensor(found).float().cpu()), error)).assign(method=name)
        )
    return pd.concat(parts, ignore_index=True)


def _module(family: str) -> ModuleType:
    """A module of methods that share their passes, by its full name."""
    return importlib.import_module(family)


def _maps(family: str) -> Callable[..., dict[str, Tensor]]:
    """`maps` of a family; of a module with one method its `explain`."""
    module = _module(family)
    if hasattr(module, "maps"):
        return module.maps
    return lambda target, x, names, **options: {names[0]: module.explain(target, x, **options)}


def options_of_family(family: str) -> dict[str, inspect.Parameter]:
    """The options that the methods of a family take, beside those of all methods."""
    module = _module(family)
    parameters = inspect.signature(module.maps if hasattr(module, "maps") else module.explain).parameters
    return {name: p for name, p in parameters.items() if name not in ("target", "x", "names")}
