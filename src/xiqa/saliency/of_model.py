"""Which scalar of a trained network a study's maps explain: a class, or a number that it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xiqa.models.model import Model, classes_to_explain
from xiqa.models.task import Regression
from xiqa.models.zoo import cam_layer, multi_layers


class ExplainedOutput(NamedTuple):
    """What `attribute` is given.

    Attributes:
        net: gives the outputs.
        target: class of each image (n,); None where the net gives one number.
        names: (n,) what is explained of each image, for tables.
    """

    net: nn.Module
    target: Tensor | None
    names: np.ndarray


def explained_output(
    model: Model, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, explain: Mapping
) -> ExplainedOutput:
    """The scalar that maps of a model explain.

    Args:
        model: that is explained.
        images: (n, size, size) prepared images, usually a memory map.
        rows: (m,) those that are explained.
        labels: (n,) labels of all images.
        explain: of a classification: explained_class (true_class or predicted_class); of a regression: target and
            direction.

    Raises:
        ValueError: there is no such target.
    """
    net = with_readout(model, explain)
    if isinstance(model.task, Regression):
        return ExplainedOutput(net, None, np.full(len(rows), f"{explain['target']}, {explain['direction']}", object))
    classes = classes_to_explain(model, images, rows, labels[rows], explain["explained_class"])
    return ExplainedOutput(net, torch.tensor(classes), np.array(model.classes)[classes])


def with_readout(model: Model, explain: Mapping) -> nn.Module:
    """The network of a classification; that of a regression with a last layer that reads out the explained number.

    It is a linear layer, so that every method, LRP too, passes through it: the explained mean in standard deviations of
    the target, its negative where maps show what speaks for a lower value.
    """
    if not isinstance(model.task, Regression):
        return model.net
    readout = nn.Linear(model.task.outputs, 1, bias=False)
    readout.weight.data = model.task.readout(explain["target"], explain["direction"] == "lower")[None]
    return nn.Sequential(model.net, readout.requires_grad_(False)).eval()


def layers_of(model: Model) -> dict[str, list[nn.Module]]:
    """The options `layers` and `multi_layers` of methods that look at layers: those of the architecture."""
    return {
        "layers": [model.net.get_submodule(cam_layer(model.architecture))],
        "multi_layers": [model.net.get_submodule(name) for name in multi_layers(model.architecture)],
    }
