"""The methods of one forward and one backward pass: gradient, input × gradient, Grad-CAM and all NormGrads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xiqa.saliency import grad_cam, layer_maps, normgrad
from xiqa.saliency.explained import Explained

LAYER_MAPS = {
    "grad_cam": grad_cam.layer_map,
    "normgrad_scaling": normgrad.scaling,
    "normgrad_conv1x1": normgrad.conv1x1,
    "normgrad_conv3x3": normgrad.conv3x3,
}
MULTI = {f"{name}_multi": of_layer for name, of_layer in LAYER_MAPS.items() if name != "grad_cam"}


def maps(
    target: Explained,
    x: Tensor,
    names: Sequence[str],
    layers: Sequence[str] = (),
    multi_layers: Sequence[str] = (),
    alignment: layer_maps.Alignment = "published",
    normalise: bool = True,
) -> dict[str, Tensor]:
    """Gradient, input × gradient, Grad-CAM and NormGrad of one forward and one backward pass.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        names: methods.
        layers: the layer of Grad-CAM and of the single NormGrads: the last convolutional block.
        multi_layers: the layers that the `_multi` methods join; by default `layers`.
        alignment: how maps of layers lie on the image, see `layer_maps.onto_image`.
        normalise: min-max the maps of layers.
    """
    joined = list(multi_layers or layers)
    single = [name for name in names if name in LAYER_MAPS]
    multi = [name for name in names if name in MULTI]
    layers = list(layers or multi_layers)
    if (single or multi) and not layers:
        raise ValueError(
            f"{(single + multi)[0]}: found no layer, expected layers=['<name>'] of `model.named_modules()`"
        )
    needed = list(dict.fromkeys([*(layers[-1:] if single else ()), *(joined if multi else ())]))
    wants_gradient = bool({"gradient", "input_x_gradient"} & set(names))
    size = x.shape[2:]
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in target.passes(x, layers=needed, gradient=wants_gradient):
        if "gradient" in found:
            found["gradient"].append(part.gradient)
        if "input_x_gradient" in found:
            found["input_x_gradient"].append(x[part.rows] * part.gradient)
        for name in single:
            found[name].append(layer_maps.onto_image(LAYER_MAPS[name](part.activations[layers[-1]]), size, alignment))
        for name in multi:
            of_layers = [
                layer_maps.onto_image(MULTI[name](part.activations[layer]), size, alignment) for layer in joined
            ]
            found[name].append(normgrad.join(of_layers))
    joined_parts = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: layer_maps.min_max(m) if normalise and m.ndim == 3 else m for name, m in joined_parts.items()}
