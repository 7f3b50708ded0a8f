"""The loop of every training: epoch by epoch, resumable, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from xiqa import files

HISTORY_FILE = "history.csv"
CHECKPOINT = "checkpoint/state.safetensors"
CHECKPOINT_SECONDS = 10.0
"""A checkpoint comes no sooner after the one before, or the start: short epochs would spend a tenth on them."""

Row = dict[str, Any]
"""What the history says of one epoch."""


def run_epochs(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    epochs: int,
    train_epoch: Callable[[int], Row],
    *,
    folder: Path,
    description: dict[str, Any],
    checkpoint_epochs: int,
    is_best: Callable[[list[Row]], bool] | None = None,
    progress: Callable[[Row], None] | None = None,
    resume: bool = True,
) -> list[Row]:
    """Train a network from its last checkpoint, or from the start, and leave the weights of the best epoch in it.

    Where what is random in an epoch follows from its number alone, a training that was killed continues to the bytes
    of an undisturbed one. A checkpoint of a training with another description is not used.

    Args:
        net: the network, on its device.
        optimiser: of its parameters.
        epochs: number of epochs.
        train_epoch: trains the epoch of this number, counted from 0, and returns its row of the history.
        folder: the checkpoint lies here as long as the training runs; `end_training` takes it away.
        description: all that the result depends on; can be written as JSON.
        checkpoint_epochs: epochs between checkpoints, see also `CHECKPOINT_SECONDS`.
        is_best: whether the last epoch of a history is the best one so far; None: the last epoch is kept.
        progress: called with each new row.
        resume: use a checkpoint if there is one.

    Returns:
        The rows of all epochs.
    """
    path, fingerprint = folder / CHECKPOINT, _fingerprint(description)
    history, best = _resume(path, fingerprint, net, optimiser) if resume else ([], {})
    saved = time.monotonic()
    for epoch in range(len(history), epochs):
        history.append(train_epoch(epoch))
        if is_best is not None and is_best(history):
            best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in net.state_dict().items()}
        if progress is not None:
            progress(history[-1])
        due = len(history) % checkpoint_epochs == 0 and len(history) < epochs
        if due and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            _save(path, fingerprint, net, optimiser, history, best)
            saved = time.monotonic()
    if best:
        net.load_state_dict(best)
    return history


def end_training(folder: Path) -> None:
    """Take the checkpoint away, once all outputs are written."""
    shutil.rmtree((folder / CHECKPOINT).parent, ignore_errors=True)


def input_statistics(images: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation over all pixels of all images, in their own unit.

    Args:
        images: arrays of any shapes, read one at a time.

    Raises:
        ValueError: the images are constant, or hold what is no number.

    Reference: Amanova et al. 2022, section 2.2: normalised by the training data set.
    """
    n, total, squares = 0, 0.0, 0.0
    for image in images:
        pixels = np.asarray(image, np.float64)
        n += pixels.size
        total += float(pixels.sum())
        squares += float(np.square(pixels).sum())
    mean = total / max(n, 1)
    variance = squares / max(n, 1) - mean**2
    if not variance > 0:
        raise ValueError(
            f"images: found variance {variance} over the training images, expected more than 0; look for pixels that "
            "are no numbers, or for images that are all alike"
        )
    return mean, math.sqrt(variance)


def check_loss(loss: Tensor, what: str, epoch: str, batch: int, batches: int) -> None:
    """Refuse a loss that is no number.

    Args:
        loss: of one batch.
        what: the training, for the message.
        epoch: which one, for the message.
        batch: number of the batch from 0.
        batches: batches of the epoch.

    Raises:
        FloatingPointError: says where it happened, and what to do.
    """
    if not math.isfinite(loss.item()):
        raise FloatingPointError(
            f"training of {what}: the loss is {loss.item()} in {epoch}, batch {batch + 1} of {batches}; lower "
            "training.learning_rate, or look for pixels that are no numbers"
        )


def _fingerprint(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _save(
    path: Path,
    fingerprint: str,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: list[Row],
    best: dict[str, Tensor],
) -> None:
    """Write weights, the optimiser's state, the best weights and the history so far, whole or not at all."""
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for name, parameter in net.named_parameters():
        slots = optimiser.state.get(parameter, {})
        tensors |= {f"optimiser.{name}.{slot}": value for slot, value in slots.items() if value is not None}
    files.write_tensors(path, tensors, {"history": json.dumps(history), "fingerprint": fingerprint})


def _resume(
    path: Path, fingerprint: str, net: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[list[Row], dict[str, Tensor]]:
    """Load a checkpoint of the same training; return its history and best weights, both empty without one."""
    if not path.is_file():
        return [], {}
    tensors: dict[str, dict[str, Tensor]] = {"net": {}, "best": {}, "optimiser": {}}
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
        if metadata["fingerprint"] != fingerprint:
            return [], {}
        for key in stored.keys():  # noqa: SIM118, a file of safetensors is no dictionary
            kind, _, name = key.partition(".")
            tensors[kind][name] = stored.get_tensor(key)
    net.load_state_dict(tensors["net"])
    parameters = dict(net.named_parameters())
    for key, value in tensors["optimiser"].items():
        name, _, slot = key.rpartition(".")
        parameter = parameters[name]
        # Moments take the parameter's own memory layout, which the file does not keep; steps stay where they were.
        like = torch.empty_like(parameter if value.shape == parameter.shape else value, device=parameter.device)
        optimiser.state[parameter][slot] = like.detach().copy_(value)
    return json.loads(metadata["history"]), tensors["best"]
