"""`attribute`: any saliency method on any torch module, methods of one family from the same passes."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from xiqa.config import ATTRIBUTIONS
from xiqa.saliency.base import validity
from xiqa.saliency.explained import MEMORY_GB, Explained, TargetOf
from xiqa.saliency.references import noisy_copies


def attribute(model: nn.Module, x: Tensor, target: TargetOf = None, method: str = "gradient", **options: Any) -> Tensor:
    """Explain the output of a network for each image.

    Args:
        model: (n, c, h, w) -> (n,) or (n, k). It stays as it is: the work is done on a copy.
        x: (n, c, h, w), as the network takes it.
        target: class, or (n,) classes; a callable output -> (n,); None: mean of the outputs. A single logit z takes
            the sign: (2 target - 1) z.
        method: one of `xiqa.config.ATTRIBUTIONS`.
        options: of the method. For all: memory_gb (bound on a batch, 0.75); reduce_channels (True: signed maps are
            summed over channels; False: (n, c, h, w)); smooth_samples (0; more: the smooth variant of the method, the
            mean of its maps of that many noisy copies) and smooth_noise_level (0.15, over the image's range). Maps of
            layers: layers (names of `model.named_modules()`), alignment ("published" or "centred"), normalise (True:
            min-max; False: the raw definition).

    Returns:
        Maps (n, h, w) in the dtype of x.

    Raises:
        ValueError: unknown method or option; what is wrong with model, target, layers or images.
    """
    return attribute_many(model, x, target, [method], **options)[method]


def attribute_many(
    model: nn.Module, x: Tensor, target: TargetOf = None, methods: Iterable[str] = ("gradient",), **options: Any
) -> dict[str, Tensor]:
    """The maps of several methods, those of one family from the same passes: {name: (n, h, w)}; see `attribute`.

    An option goes to each of the methods that has it.
    """
    methods = list(dict.fromkeys(methods))
    unknown = [name for name in methods if name not in ATTRIBUTIONS]
    if unknown:
        raise ValueError(f"method: found '{unknown[0]}', expected one of {', '.join(ATTRIBUTIONS)}")
    memory_gb, reduce_channels = options.pop("memory_gb", MEMORY_GB), options.pop("reduce_channels", True)
    samples, noise_level = options.pop("smooth_samples", 0), options.pop("smooth_noise_level", 0.15)
    copies = noisy_copies(x, samples, noise_level, options.get("seed", 0)) if samples else [x]
    if isinstance(options.get("layers"), str):
        options["layers"] = [options["layers"]]
    families = {ATTRIBUTIONS[name]: [m for m in methods if ATTRIBUTIONS[m] == ATTRIBUTIONS[name]] for name in methods}
    modules = {family: importlib.import_module(f"xiqa.saliency.{family}") for family in families}
    known = {family: _options(module) for family, module in modules.items()}
    stray = set(options) - set().union(*known.values())
    if stray:
        raise ValueError(
            f"option: found '{min(stray)}', expected some of {sorted(set().union(*known.values()))} for {methods}"
        )
    layers = [*options.get("layers", ()), *options.get("multi_layers", ())]
    explained = Explained(model, target, layers, memory_gb)
    found: dict[str, Tensor] = {}
    for copy in copies:
        for family, names in families.items():
            given = {key: value for key, value in options.items() if key in known[family]}
            for name, maps in _maps(modules[family])(explained, copy, names, **given).items():
                found[name] = maps / max(1, samples) + found.get(name, 0)
    if reduce_channels:
        found = {name: m.sum(1) if m.ndim == 4 else m for name, m in found.items()}
    return {name: found[name] for name in methods}


COMMON = ("memory_gb", "reduce_channels", "smooth_samples", "smooth_noise_level")


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

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = [member(x) for member in self.members]
        if isinstance(outputs[0], Tensor):
            return torch.stack(outputs).mean(0)
        return tuple(torch.stack(parts).mean(0) for parts in zip(*outputs, strict=True))


def attribute_ensemble(
    members: Sequence[nn.Module], x: Tensor, target: TargetOf = None, method: str = "gradient", **options: Any
) -> EnsembleMaps:
    """Explain the mean output of an ensemble, and each member; see `attribute`.

    A callable target is given the mean output; members with several outputs, such as `CDCNet`, the mean of each.

    Raises:
        ValueError: fewer than two members; as `attribute`.
    """
    if len(members) < 2:
        raise ValueError(f"members: found {len(members)}, expected at least 2; use `attribute` for one network")
    maps = torch.stack([attribute(member, x, target, method, **options) for member in members])
    of_mean = None if options.get("layers") else attribute(_Mean(members), x, target, method, **options)
    return EnsembleMaps(of_mean, maps.mean(0), maps.std(0))


def known_options(methods: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that at least one of the methods has."""
    modules = [importlib.import_module(f"xiqa.saliency.{ATTRIBUTIONS[method]}") for method in methods]
    known = set(COMMON).union(*map(_options, modules))
    return {name: value for name, value in options.items() if name in known}


def checks(model: nn.Module, x: Tensor, target: TargetOf, maps: Mapping[str, Tensor]) -> pd.DataFrame:
    """Validity flags of maps (n, h, w) that were made with default baselines, one row per method and image.

    Returns:
        Columns image (number), constant, non_finite, completeness_error (in units of the output; empty where the
        method promises nothing), valid, method; see `base.validity`.
    """
    explained, parts = Explained(model, target), []
    for name, found in maps.items():
        check = getattr(importlib.import_module(f"xiqa.saliency.{ATTRIBUTIONS[name]}"), "completeness_error", None)
        error = check(explained, x, name, found).numpy() if check else None
        parts.append(pd.DataFrame(validity(found.numpy(), error)).assign(method=name))
    return pd.concat(parts, ignore_index=True)


def _maps(module: ModuleType) -> Callable[..., dict[str, Tensor]]:
    """`maps` of a family; of a module with one method its `explain`."""
    if hasattr(module, "maps"):
        return module.maps
    return lambda target, x, names, **options: {names[0]: module.explain(target, x, **options)}


def _options(module: ModuleType) -> set[str]:
    function = module.maps if hasattr(module, "maps") else module.explain
    return set(inspect.signature(function).parameters) - {"target", "x", "names"}
