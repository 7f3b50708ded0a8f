"""`attribute`: any saliency method on any torch module, methods of one family from the same passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xiqa.saliency import (
    deconvolution,
    expected_gradients,
    grad_cam,
    guided_backprop,
    integrated_gradients,
    layer_maps,
    normgrad,
    smoothgrad,
)
from xiqa.saliency.explained import Explained, TargetOf

Maps = dict[str, Tensor]

LAYER_MAPS = {
    "grad_cam": grad_cam.layer_map,
    "normgrad_scaling": normgrad.scaling,
    "normgrad_conv1x1": normgrad.conv1x1,
    "normgrad_conv3x3": normgrad.conv3x3,
}
MULTI = {f"{name}_multi": of_layer for name, of_layer in LAYER_MAPS.items() if name != "grad_cam"}


def one_pass(
    target: Explained,
    x: Tensor,
    names: Sequence[str],
    layers: Sequence[str] = (),
    multi_layers: Sequence[str] = (),
    alignment: layer_maps.Alignment = "published",
    normalise: bool = True,
) -> Maps:
    """Gradient, input × gradient, Grad-CAM and NormGrad of one forward and one backward pass.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        names: methods.
        layers: the layer of Grad-CAM and of the single NormGrads: the last convolutional block.
        multi_layers: the layers that the `_multi` methods join; by default `layers`.
        alignment: how maps of layers lie on the image, see `layer_maps.upsample`.
        normalise: min-max the maps of layers.
    """
    joined = list(multi_layers or layers)
    single = [name for name in names if name in LAYER_MAPS]
    multi = [name for name in names if name in MULTI]
    if (single and len(layers) < 1) or (multi and not joined):
        raise ValueError(
            f"{(single + multi)[0]}: found no layer, expected layers=['<name>'] of `model.named_modules()`: the last "
            "convolutional block"
        )
    needed = list(dict.fromkeys([*(layers[-1:] if single else ()), *(joined if multi else ())]))
    wants_gradient = bool({"gradient", "input_x_gradient"} & set(names))
    size, found = x.shape[2:], {name: [] for name in names}
    for part in target.passes(x, layers=needed, gradient=wants_gradient):
        if "gradient" in found:
            found["gradient"].append(part.gradient)
        if "input_x_gradient" in found:
            found["input_x_gradient"].append(x[part.rows] * part.gradient)
        for name in single:
            found[name].append(layer_maps.upsample(LAYER_MAPS[name](part.activations[layers[-1]]), size, alignment))
        for name in multi:
            maps = [layer_maps.upsample(MULTI[name](part.activations[layer]), size, alignment) for layer in joined]
            found[name].append(normgrad.join(maps))
    maps = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: layer_maps.min_max(m) if normalise and m.ndim == 3 else m for name, m in maps.items()}


def noisy(
    target: Explained, x: Tensor, names: Sequence[str], samples: int = 15, noise_level: float = 0.15, seed: int = 0
) -> Maps:
    """SmoothGrad and its square from the same noisy copies."""
    mean, square = smoothgrad.moments(target, x, samples, noise_level, seed)
    return {name: {"smoothgrad": mean, "smoothgrad_squared": square}[name] for name in names}


def path(
    target: Explained, x: Tensor, names: Sequence[str], steps: int = 25, baseline: float | Tensor | None = None
) -> Maps:
    """Integrated gradients, and their mean from a black and a white baseline; black is the image minimum."""
    black = x.amin((1, 2, 3), keepdim=True)
    maps: Maps = {}
    start = black if baseline is None else baseline
    from_black = from_start = integrated_gradients.explain(target, x, steps, start)
    if "integrated_gradients" in names:
        maps["integrated_gradients"] = from_start
    if "integrated_gradients_bw" in names:
        if baseline is not None:
            from_black = integrated_gradients.explain(target, x, steps, black)
        white = x.amax((1, 2, 3), keepdim=True)
        maps["integrated_gradients_bw"] = (from_black + integrated_gradients.explain(target, x, steps, white)) / 2
    return maps


def guided_grad_cam(
    target: Explained,
    x: Tensor,
    layers: Sequence[str] = (),
    alignment: layer_maps.Alignment = "published",
) -> Tensor:
    """Guided backpropagation ⊙ upsampled Grad-CAM, (n, c, h, w).

    Reference: Selvaraju et al. 2017, "Grad-CAM", section 3.2.
    """
    cam = one_pass(target, x, ["grad_cam"], layers, alignment=alignment, normalise=False)["grad_cam"]
    return guided_backprop.explain(target, x) * cam[:, None]


FAMILIES: dict[Callable[..., Maps], tuple[str, ...]] = {
    one_pass: ("gradient", "input_x_gradient", *LAYER_MAPS, *MULTI),
    noisy: ("smoothgrad", "smoothgrad_squared"),
    path: ("integrated_gradients", "integrated_gradients_bw"),
}
"""Passes that several methods share."""
SINGLES: dict[str, Callable[..., Tensor]] = {
    "guided_backprop": guided_backprop.explain,
    "deconvolution": deconvolution.explain,
    "guided_grad_cam": guided_grad_cam,
    "expected_gradients": expected_gradients.explain,
}
METHODS = (*(name for names in FAMILIES.values() for name in names), *SINGLES)


def attribute(model: nn.Module, x: Tensor, target: TargetOf = None, method: str = "gradient", **options: Any) -> Tensor:
    """Explain the output of a network for each image.

    Args:
        model: (n, c, h, w) -> (n,) or (n, k). It stays as it is: the work is done on a copy.
        x: (n, c, h, w), as the network takes it.
        target: class, or (n,) classes; a callable output -> (n,); None: mean of the outputs. A single logit z takes
            the sign: (2 target - 1) z.
        method: one of `METHODS`.
        options: of the method; for all: memory_gb (bound on a batch, 2), reduce_channels (True: signed maps are
            summed over channels; False: (n, c, h, w)). Maps of layers: layers (names of `model.named_modules()`),
            alignment ("published" or "centred"), normalise (True: min-max; False: the raw definition).

    Returns:
        Maps (n, h, w) in the dtype of x.

    Raises:
        ValueError: unknown method or option; what is wrong with model, target, layers or images.
    """
    return attribute_many(model, x, target, [method], **options)[method]


def attribute_many(
    model: nn.Module, x: Tensor, target: TargetOf = None, methods: Iterable[str] = ("gradient",), **options: Any
) -> Maps:
    """The maps of several methods, those of one family from the same passes: {name: (n, h, w)}; see `attribute`.

    An option goes to each of the methods that has it.
    """
    methods = list(dict.fromkeys(methods))
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"method: found '{unknown[0]}', expected one of {', '.join(METHODS)}")
    memory_gb, reduce_channels = options.pop("memory_gb", 2.0), options.pop("reduce_channels", True)
    if isinstance(options.get("layers"), str):
        options["layers"] = [options["layers"]]
    calls = [(function, names) for function, of in FAMILIES.items() if (names := [m for m in methods if m in of])]
    calls += [(SINGLES[name], [name]) for name in methods if name in SINGLES]
    known = [set(inspect.signature(function).parameters) - {"target", "x", "names"} for function, _ in calls]
    stray = set(options) - set().union(*known)
    if stray:
        raise ValueError(f"option: found '{min(stray)}', expected some of {sorted(set().union(*known))} for {methods}")
    layers = [*options.get("layers", ()), *options.get("multi_layers", ())]
    explained = Explained(model, target, layers, memory_gb)
    maps: Maps = {}
    for (function, names), parameters in zip(calls, known, strict=True):
        given = {key: value for key, value in options.items() if key in parameters}
        if function in FAMILIES:
            maps |= function(explained, x, names, **given)
        else:
            maps[names[0]] = function(explained, x, **given)
    if reduce_channels:
        maps = {name: m.sum(1) if m.ndim == 4 else m for name, m in maps.items()}
    return {name: maps[name] for name in methods}
