"""A classifier with what it needs to be used: its file, loading, prediction and embedding."""

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

Precision = Literal["float32", "bf16"]
MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Classifier:
    """A network and the meaning of its input and output.

    Attributes:
        net: (n, channels, size, size) -> logits (n, outputs).
        architecture: name that the network was built by.
        options: options that it was built with.
        classes: names in the order of their labels.
        channels: input channels; more than one hold the same gray image.
        size: rows and columns of the input.
        one_output: one logit, of the second of two classes, instead of one per class.
        input_mean: mean of the training images, prepared to 0..1.
        input_sd: standard deviation of the training images.
    """

    net: nn.Module
    architecture: str
    options: dict[str, Any]
    classes: tuple[str, ...]
    channels: int
    size: int
    one_output: bool
    input_mean: float = 0.0
    input_sd: float = 1.0

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return 1 if self.one_output else len(self.classes)

    def inputs(self, images: np.ndarray | Tensor) -> Tensor:
        """Images (n, size, size) in 0..1 -> normalised network input (n, channels, size, size), float32."""
        x = images if isinstance(images, Tensor) else torch.from_numpy(np.require(images, requirements="W"))
        x = x.to(next(self.net.parameters()).device, torch.float32)
        x = ((x - self.input_mean) / self.input_sd)[:, None].expand(-1, self.channels, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)


def write_classifier(folder: str | os.PathLike, classifier: Classifier, details: dict[str, Any]) -> None:
    """Write `weights.safetensors` and `model.json`.

    Args:
        folder: where to.
        classifier: trained or not.
        details: what `model.json` says beside the classifier's own attributes, such as where its weights come from.
    """
    files.write_tensors(Path(folder) / WEIGHTS_FILE, classifier.net.state_dict())
    files.write_json(Path(folder) / MODEL_FILE, details | description(classifier))


def description(classifier: Classifier) -> dict[str, Any]:
    """All attributes but the network, as plain values for `model.json`."""
    return {name: value for name, value in vars(classifier).items() if name != "net"}


def load_classifier(folder: str | os.PathLike, build: Callable[..., nn.Module]) -> Classifier:
    """Load a classifier from its folder (model.json, weights.safetensors).

    Args:
        folder: where `write_classifier` or `train_classifier` wrote to.
        build: makes the network: build(architecture, channels=, outputs=, seed=, options=).

    Returns:
        The classifier, its network in evaluation mode; its parameters ask for no gradient.

    Raises:
        ValueError: the weights do not belong to the network that model.json describes.
    """
    folder = Path(folder)
    model = files.read_json(folder / MODEL_FILE)
    known = {name: model[name] for name in Classifier.__dataclass_fields__ if name != "net"}
    outputs = 1 if model["one_output"] else len(model["classes"])
    net = build(
        model["architecture"], channels=model["channels"], outputs=outputs, seed=0, options=model["options"]
    ).to(memory_format=torch.channels_last)
    try:
        net.load_state_dict(files.read_tensors(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise ValueError(
            f"{folder / WEIGHTS_FILE}: found other weights than {MODEL_FILE} beside it describes; train again: {error}"
        ) from None
    return Classifier(**(known | {"net": net.eval().requires_grad_(False), "classes": tuple(model["classes"])}))


def predict(classifier: Classifier, images: np.ndarray, rows: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
    """Class probabilities of images.

    Args:
        classifier: its network is used in evaluation mode and float32.
        images: (n, size, size) in 0..1, usually a memory map.
        rows: (m,) indices of the images asked for.
        batch_size: images computed at once.

    Returns:
        (m, k) float64; rows sum to 1. One logit z gives the columns 1 - sigmoid(z) and sigmoid(z).

    Raises:
        ValueError: images do not have the classifier's size.
    """
    return probabilities(logits(classifier, images, rows, batch_size=batch_size))


def classes_to_explain(
    classifier: Classifier, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, which: str
) -> np.ndarray:
    """The class (m,) of each image that its maps speak for.

    Args:
        classifier: that is explained.
        images: (n, size, size) in 0..1, usually a memory map.
        rows: (m,) indices of the images that are explained.
        labels: (m,) their true classes.
        which: "true_class", or "predicted_class": the most probable one.
    """
    if which == "predicted_class":
        return predict(classifier, images, rows).argmax(1)
    return np.asarray(labels)


_CACHED_PIXELS = 8 * 224**2


def predictor(classifier: Classifier, precision: Precision = "float32") -> Callable[[np.ndarray], np.ndarray]:
    """A function images (b, size, size) in 0..1 -> class probabilities (b, k), for scores that ask a network often.

    It works on a copy with batch normalisation folded and activations in place, as far as this changes nothing. A CPU
    takes as many images at a time as its caches hold the activations of: that is up to 1.8 times faster than 64.

    Args:
        classifier: stays as it is.
        precision: "float32", or "bf16": twice as fast where the processor computes in it, probabilities off by some
            thousandths.
    """
    fast = replace(classifier, net=copy.deepcopy(classifier.net).eval())
    trial = fast.inputs(np.random.default_rng(0).random((1, classifier.size, classifier.size), np.float32))
    fold_batch_norm(fast.net, trial)
    work_in_place(fast.net, trial)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    net = fast.net.to(dtype, memory_format=torch.channels_last)
    at_once = max(1, _CACHED_PIXELS // classifier.size**2) if trial.device.type == "cpu" else None

    @torch.inference_mode()
    def predict_images(images: np.ndarray) -> np.ndarray:
        parts = fast.inputs(images).to(dtype).split(at_once or len(images))
        return probabilities(torch.cat([net(part) for part in parts]).float().cpu().numpy())

    return predict_images


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Logits (m, k), or (m, 1) for the second of two classes -> probabilities (m, k) or (m, 2), float64."""
    scores = np.asarray(scores, np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], 1)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def logits(classifier: Classifier, images: np.ndarray, rows: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
    """The network's output (m, outputs), float32; arguments as for `predict`."""
    return _compute(classifier, lambda net, x: net(x), images, rows, batch_size)


def embed(
    classifier: Classifier,
    images: np.ndarray,
    rows: np.ndarray,
    features: Callable[[nn.Module, Tensor], Tensor],
    *,
    batch_size: int = 16,
) -> np.ndarray:
    """Penultimate features of images.

    Args:
        classifier: as for `predict`, and so are the images and rows.
        images: (n, size, size).
        rows: (m,) indices.
        features: (network, input) -> what enters its last layer, (b, d).
        batch_size: images computed at once.

    Returns:
        (m, d) float32.
    """
    return _compute(classifier, features, images, rows, batch_size)


@torch.inference_mode()
def _compute(
    classifier: Classifier,
    function: Callable[[nn.Module, Tensor], Tensor],
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    if images.shape[1:] != (classifier.size, classifier.size):
        raise ValueError(
            f"images: found shape {images.shape}, expected (n, {classifier.size}, {classifier.size}) as in training; "
            "prepare them at that size"
        )
    net = classifier.net.eval()
    batches = read_batches(images, even_batches(np.asarray(rows), batch_size), workers=1)
    return np.concatenate([function(net, classifier.inputs(batch)).cpu().numpy() for batch in batches])
