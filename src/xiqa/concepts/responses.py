"""What a network makes of images, layer by layer: the one pass that all concept scores rest on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from xiqa.concepts.scores import Responses
from xiqa.saliency.attribution import plain_autograd
from xiqa.saliency.explained import Explained
from xiqa.saliency.outputs import TargetOf


def responses(net: nn.Module, x: Tensor, target: TargetOf, layers: Sequence[str]) -> Responses:
    """The explained output of each image, activations of layers, and the output's gradient by them.

    Args:
        net: any module; it stays as it is.
        x: (n, c, h, w) images as it takes them.
        target: which output, as of `saliency.attribute`: one class, or one for each image.
        layers: names of layers, of `net.named_modules()`.

    Raises:
        ValueError: a layer that does not exist, or what `attribute` refuses.
    """
    known = dict(net.named_modules())
    if missing := [name for name in layers if name not in known]:
        near = ", ".join(name for name in known if name and "." not in name)
        raise ValueError(f"layer: found no {missing[0]} in {type(net).__name__}, expected one such as {near}")
    output = np.empty(len(x))
    found: dict[str, tuple[list, list]] = {name: ([], []) for name in layers}
    with plain_autograd(x):
        explained = Explained(net, target, layers)
        images = explained.images(x)
        explained.decide(images)
        for part in explained.passes(images, layers=layers, gradient=False):
            output[part.rows] = part.value.cpu().numpy()
            for name, (activations, gradients) in found.items():
                # All places of a layer move alike along a direction: activations are their mean, gradients their sum.
                activations.append(part.activations[name].a.mean((2, 3)).cpu().numpy())
                gradients.append(part.activations[name].g.sum((2, 3)).cpu().numpy())
    both = [{name: np.concatenate(parts[k]) for name, parts in found.items()} for k in (0, 1)]
    return Responses(output, *both)
