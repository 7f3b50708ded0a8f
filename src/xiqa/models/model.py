"""A network with what it needs to be used: its file, loading, prediction and embedding."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from xiqa import files
from xiqa.models.folding import fold_batch_norm, work_in_place
from xiqa.models.loader import even_batches, read_batches
from xiqa.models.task import Classification, Task, as_json, from_json, probabilities

Precision = Literal["float32", "bf16"]
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Model:
    """A network and the meaning of its input and output.

    Attributes:
        net: (n, channels, size, size) -> (n, task.outputs).
        architecture: name that the network was built by.
        options: options that it was built with.
        task: what its outputs mean.
        channels: input channels; more than one hold the same gray image.
        size: rows and columns of the input.
        input_mean: mean of the training images, prepared to 0..1.
        input_sd: standard deviation of the training images.
    """

    net: nn.Module
    architecture: str
    options: dict[str, Any]
    task: Task
    channels: int
    size: int
    input_mean: float = 0.0
    input_sd: float = 1.0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels; a ValueError for a regression."""
        if not isinstance(self.task, Classification):
            raise ValueError(f"{self.architecture}: found a regression, which has no classes; ask for its values")
        return self.task.classes

    def inputs(self, images: np.ndarray | Tensor) -> Tensor:
        """Images (n, size, size) in 0..1 -> normalised network input (n, channels, size, size), float32."""
        x = images if isinstance(images, Tensor) else torch.from_numpy(np.require(images, requirements="W"))
        x = x.to(next(self.net.parameters()).device, torch.float32)
        x = ((x - self.input_mean) / self.input_sd)[:, None].expand(-1, self.channels, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)


def write_model(folder: str | os.PathLike, model: Model, details: dict[str, Any]) -> None:
    """Write `weights.safetensors` and `model.json`.

    Args:
        folder: where to.
        model: trained or not.
        details: what `model.json` says beside the model's own attributes, such as where its weights come from.
    """
    files.write_tensors(Path(folder) / WEIGHTS_FILE, model.net.state_dict())
    files.write_json(Path(folder) / MODEL_FILE, details | description(model))


def description(model: Model) -> dict[str, Any]:
    """All attributes but the network, as plain values for `model.json`."""
    known = {name: value for name, value in vars(model).items() if name not in ("net", "task")}
    return known | as_json(model.task)


def load_model(folder: str | os.PathLike, build: Callable[..., nn.Module]) -> Model:
    """Load a model from its folder (model.json, weights.safetensors).

    Args:
        folder: where `write_model` or `train_model` wrote to.
        build: makes the network: build(architecture, channels=, outputs=, seed=, options=).

    Returns:
        The model, its network in evaluation mode; its parameters ask for no gradient.

    Raises:
        ValueError: the weights do not belong to the network that model.json describes.
    """
    folder = Path(folder)
    described = files.read_json(folder / MODEL_FILE)
    task = from_json(described)
    known = {name: described[name] for name in Model.__dataclass_fields__ if name not in ("net", "task")}
    net = build(
        described["architecture"], channels=described["channels"], outputs=task.outputs, seed=0,
        options=described["options"],
    ).to(memory_format=torch.channels_last)  # fmt: skip
    try:
        net.load_state_dict(files.read_tensors(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise ValueError(
            f"{folder / WEIGHTS_FILE}: found other weights than {MODEL_FILE} beside it describes; train again: {error}"
        ) from None
    return Model(net=net.eval().requires_grad_(False), task=task, **known)


def predict(model: Model, images: np.ndarray, rows: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
    """Class probabilities of images.

    Args:
        model: its network is used in evaluation mode and float32.
        images: (n, size, size) in 0..1, usually a memory map.
        rows: (m,) indices of the images asked for.
        batch_size: images computed at once.

    Returns:
        (m, k) float64; rows sum to 1. One logit z gives the columns 1 - sigmoid(z) and sigmoid(z).

    Raises:
        ValueError: images do not have the size of its input.
    """
    return probabilities(raw_outputs(model, images, rows, batch_size=batch_size))


def classes_to_explain(
    model: Model, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, which: str
) -> np.ndarray:
    """The class (m,) of each image that its maps speak for.

    Args:
        model: that is explained.
        images: (n, size, size) in 0..1, usually a memory map.
        rows: (m,) indices of the images that are explained.
        labels: (m,) their true classes.
        which: "true_class", or "predicted_class": the most probable one.
    """
    if which == "predicted_class":
        return predict(model, images, rows).argmax(1)
    return np.asarray(labels)


_CACHED_PIXELS = 8 * 224**2


def predictor(model: Model, precision: Precision = "float32") -> Callable[[np.ndarray], np.ndarray]:
    """A function images (b, size, size) in 0..1 -> class probabilities (b, k), for scores that ask a network often.

    It works on a copy with batch normalisation folded and activations in place, as far as this changes nothing. A CPU
    takes as many images at a time as its caches hold the activations of: that is up to 1.8 times faster than 64.

    Args:
        model: stays as it is.
        precision: "float32", or "bf16": twice as fast where the processor computes in it, probabilities off by some
            thousandths.
    """
    fast = replace(model, net=copy.deepcopy(model.net).eval())
    trial = fast.inputs(np.random.default_rng(0).random((1, model.size, model.size), np.float32))
    fold_batch_norm(fast.net, trial)
    work_in_place(fast.net, trial)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    net = fast.net.to(dtype, memory_format=torch.channels_last)
    at_once = max(1, _CACHED_PIXELS // model.size**2) if trial.device.type == "cpu" else None

    @torch.inference_mode()
    def predict_images(images: np.ndarray) -> np.ndarray:
        parts = fast.inputs(images).to(dtype).split(at_once or len(images))
        return probabilities(torch.cat([net(part) for part in parts]).float().cpu().numpy())

    return predict_images


def raw_outputs(model: Model, images: np.ndarray, rows: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
    """The network's output (m, outputs), float32: logits, or what a regression gives; arguments as for `predict`."""
    return _compute(model, lambda net, x: net(x), images, rows, batch_size)


def penultimate_features(
    model: Model,
    images: np.ndarray,
    rows: np.ndarray,
    features: Callable[[nn.Module, Tensor], Tensor],
    *,
    batch_size: int = 16,
) -> np.ndarray:
    """Penultimate features of images.

    Args:
        model: as for `predict`, and so are the images and rows.
        images: (n, size, size).
        rows: (m,) indices.
        features: (network, input) -> what enters its last layer, (b, d).
        batch_size: images computed at once.

    Returns:
        (m, d) float32.
    """
    return _compute(model, features, images, rows, batch_size)


@torch.inference_mode()
def _compute(
    model: Model,
    function: Callable[[nn.Module, Tensor], Tensor],
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    if images.shape[1:] != (model.size, model.size):
        raise ValueError(
            f"images: found shape {images.shape}, expected (n, {model.size}, {model.size}) as in training; "
            "prepare them at that size"
        )
    net = model.net.eval()
    batches = read_batches(images, even_batches(np.asarray(rows), batch_size), workers=1)
    return np.concatenate([function(net, model.inputs(batch)).cpu().numpy() for batch in batches])
