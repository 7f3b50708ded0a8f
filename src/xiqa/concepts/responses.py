"""What a network makes of images, layer by layer: the one pass that all concept scores rest on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from xiqa.concepts.scores import Responses
from xiqa.models.model import Model
from xiqa.saliency.attribution import plain_autograd
from xiqa.saliency.explained import Explained


def responses(
    model: Model, images: np.ndarray, labels: np.ndarray, layers: Sequence[str], batch: int = 64
) -> Responses:
    """The logit of each image's own class, activations of layers, and the logit's gradient by them.

    Args:
        model: a trained classifier.
        images: (n, size, size) within 0-1.
        labels: (n,) classes.
        layers: names of layers, of `model.net.named_modules()`.
        batch: images given to the network at a time; it may split them.

    Raises:
        ValueError: a layer that does not exist.
    """
    known = dict(model.net.named_modules())
    if missing := [name for name in layers if name not in known]:
        near = ", ".join(name for name in known if name and "." not in name)
        raise ValueError(f"layer: found no {missing[0]} in {model.architecture}, expected one such as {near}")
    output = np.empty(len(images))
    found: dict[str, tuple[list, list]] = {name: ([], []) for name in layers}
    with plain_autograd(torch.zeros(0)):
        for start in range(0, len(images), batch):
            rows = slice(start, min(start + batch, len(images)))
            target = torch.tensor(np.asarray(labels[rows], np.int64))
            explained = Explained(model.net, target, layers, fold=False)
            for part in explained.passes(model.inputs(images[rows]), layers=layers, gradient=False):
                output[start + part.rows.start : start + part.rows.stop] = part.value.cpu().numpy()
                for name in layers:
                    of_layer = part.activations[name]
                    found[name][0].append(of_layer.a.mean((2, 3)).cpu().numpy())
                    found[name][1].append(of_layer.g.sum((2, 3)).cpu().numpy())
    # All places of a layer move alike along a direction: activations are their mean, gradients their sum.
    activations, gradients = ({name: np.concatenate(both[k]) for name, both in found.items()} for k in (0, 1))
    return Responses(output, activations, gradients)
