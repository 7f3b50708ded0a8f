"""Training of a network for any task: from a memory map, resumable, the same bytes every time."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xiqa import files
from xiqa.config import ClassifierTraining
from xiqa.datasets.sampling import SampledImages
from xiqa.models.augmentation import apply_changes, draw_changes
from xiqa.models.loader import even_batches, read_batches
from xiqa.models.model import Model, description, raw_outputs, write_model
from xiqa.models.task import Classification, Task
from xiqa.models.torch_settings import take_step, torch_settings
from xiqa.models.training_loop import HISTORY_FILE, Row, check_loss, end_training, input_statistics, run_epochs
from xiqa.seeds import stream_seed


@dataclass(frozen=True)
class TrainingImages:
    """What a network is trained on.

    Attributes:
        images: (n, size, size) in 0..1, float16 or float32, usually a memory map.
        truth: (n,) class of each image, or (n, t) standardised targets: `task.truth` of the prepared table.
        train_rows: indices of the images to train on.
        validation_rows: indices of the images that choose the epoch; empty keeps the last epoch.
        samplings: further samplings of the images, each like an array of the form of `images`; epochs train on
            `images` and on them in turn.
    """

    images: np.ndarray
    truth: np.ndarray
    train_rows: np.ndarray
    validation_rows: np.ndarray
    samplings: Sequence[np.ndarray | SampledImages] = ()

    def of_epoch(self, epoch: int) -> np.ndarray | SampledImages:
        """What an epoch, from 0, trains on, (n, size, size)."""
        number = epoch % (1 + len(self.samplings))
        return self.samplings[number - 1] if number else self.images


def train_model(
    model: Model,
    data: TrainingImages,
    training: ClassifierTraining,
    *,
    seed: int,
    folder: str | os.PathLike,
    weights_source: str = "all weights random",
    threads: int = 1,
    device: str = "cpu",
    progress: Callable[[Row], None] | None = None,
    resume: bool = True,
) -> Path:
    """Train a network and write `weights.safetensors`, `history.csv` and `model.json` into `folder`.

    What is random in an epoch (order, augmentation, dropout) follows from seed and epoch alone, so that a training
    that was killed continues from its last checkpoint to the bytes of an undisturbed one (on a CPU, for equal
    threads). A checkpoint of other data, settings or initial weights is not used. The weights kept are those of
    `best_epoch`.

    Args:
        model: with its initial weights; its network is trained in place. The statistics of its input are those of the
            training images.
        data: the images.
        training: all settings.
        seed: seed of everything random but the initial weights.
        folder: where the outputs go, and the checkpoint as long as the training runs.
        weights_source: where the initial weights come from, for model.json.
        threads: threads of torch.
        device: "cpu" or "cuda".
        progress: called with each row of the history: epoch, learning_rate (at its first batch), and for training
            images (as augmented, while the weights change) and `validation_` images the scores of the task: loss, and
            accuracy and balanced_accuracy, or rmse_over_sd.
        resume: use a checkpoint if there is one.

    Returns:
        The folder.

    Raises:
        ValueError: images, truth, rows, task and network do not fit each other.
        FloatingPointError: the loss or a weight is no longer a number.
    """
    _check(data, model.task)
    mean, sd = input_statistics(data.images[row] for row in data.train_rows)
    model = replace(model, input_mean=mean, input_sd=sd)
    net, folder = model.net, Path(folder)
    details = {
        "state": "trained",
        "weights_source": weights_source,
        "training": training.model_dump(mode="json", exclude={"precision", "workers", "checkpoint_epochs"}),
        "precision": computing_precision(training.precision, device),
        "seed": seed,
        "threads": threads,
        "device": device,
        "training_data": data_digest(data.images, data.truth, data.train_rows),
        "validation_data": data_digest(data.images, data.truth, data.validation_rows),
        "initial_weights": weights_digest(net),
    }
    if data.samplings:
        details["samplings"] = [data_digest(other, data.truth, data.train_rows) for other in data.samplings]
    with torch_settings(threads, device):
        net.to(device, memory_format=torch.channels_last)
        _check_outputs(model, data.images, data.train_rows)
        optimiser = _optimiser(net, training)
        history = run_epochs(
            net, optimiser, training.epochs, _epoch(model, data, training, optimiser, seed, device),
            folder=folder, description=details | description(model), checkpoint_epochs=training.checkpoint_epochs,
            is_best=lambda rows: best_epoch(rows, model.task) == len(rows), progress=progress, resume=resume,
        )  # fmt: skip
    net.to("cpu")
    files.write_table(folder / HISTORY_FILE, pd.DataFrame(history))
    write_model(folder, model, details | {"best_epoch": best_epoch(history, model.task)})
    end_training(folder)
    return folder


def _epoch(
    model: Model,
    data: TrainingImages,
    training: ClassifierTraining,
    optimiser: torch.optim.Optimizer,
    seed: int,
    device: str,
) -> Callable[[int], Row]:
    """What trains one epoch and scores it."""
    net, task = model.net, model.task
    bf16 = computing_precision(training.precision, device) == "bf16"
    weights = torch.tensor(task.weights(data.truth[data.train_rows], training.class_weights), dtype=torch.float32)
    weights = weights.to(device)

    def train_epoch(epoch: int) -> Row:
        plan = epoch_plan(data.train_rows, training, seed, epoch)
        batches = read_batches(data.of_epoch(epoch), [rows for rows, _ in plan], training.workers)
        first = epoch * len(plan)
        outputs, targets = [], []
        torch.manual_seed(stream_seed(seed, "dropout", epoch))
        net.train()
        for number, (batch, (rows, changes)) in enumerate(zip(batches, plan, strict=True)):
            x = apply_changes(torch.from_numpy(batch).to(device, torch.float32), changes)
            y = _truth(data.truth, rows, device)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(training, first + number, len(plan))
            optimiser.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                output = net(model.inputs(x)).float()
            loss = task.loss(output, y, weights)
            check_loss(loss, model.architecture, f"epoch {epoch + 1}", number, len(plan))
            loss.backward()
            take_step(optimiser)
            outputs.append(output.detach())
            targets.append(y)
        row = {"epoch": epoch + 1, "learning_rate": learning_rate(training, first, len(plan))}
        row |= task.scores(torch.cat(outputs), torch.cat(targets), weights)
        if len(data.validation_rows):
            found = raw_outputs(model, data.images, data.validation_rows, batch_size=training.batch_size)
            y = _truth(data.truth, data.validation_rows, device)
            scores = task.scores(torch.from_numpy(found).to(device), y, weights)
            row |= {f"validation_{name}": value for name, value in scores.items()}
        _check_numbers(model, row)
        return row

    return train_epoch


def epoch_plan(
    rows: np.ndarray, training: ClassifierTraining, seed: int, epoch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch: which images, in random order, and what happens to each (see `draw_changes`).

    Args:
        rows: (n,) indices of the training images.
        training: batch size and augmentation.
        seed: seed of the training.
        epoch: 0 or more.

    Returns:
        Indices (b,) and changes (b,) of each batch.
    """
    order = np.random.default_rng(stream_seed(seed, "order", epoch)).permutation(len(rows))
    rng = np.random.default_rng(stream_seed(seed, "augmentation", epoch))
    changes = draw_changes(len(rows), training.augmentation, rng)
    return [(rows[places], changes[places]) for places in even_batches(order, training.batch_size)]


def learning_rate(training: ClassifierTraining, batch: int, batches_per_epoch: int) -> float:
    """Learning rate of a batch, counted from 0 over all epochs.

    `step` multiplies by `step_factor` every `step_epochs` epochs; `cosine` falls to zero over all epochs;
    `inverse_time` divides by 1 + decay × batches so far.

    Reference: Özer, section 4.1 (step); Brima 2023, table 4 (decay, as Keras' SGD defines it).
    """
    factor = {
        "constant": lambda: 1.0,
        "step": lambda: training.step_factor ** (batch // batches_per_epoch // training.step_epochs),
        "cosine": lambda: 0.5 + 0.5 * math.cos(math.pi * batch / (training.epochs * batches_per_epoch)),
        "inverse_time": lambda: 1 / (1 + training.decay * batch),
    }
    return training.learning_rate * factor[training.schedule]()


def best_epoch(history: Sequence[dict], task: Task) -> int:
    """The epoch, from 1, that `task.rank` prefers, the earlier one of equals; the last one without validation."""
    if "validation_loss" not in history[-1]:
        return len(history)
    ranks = [task.rank(row) for row in history]
    return ranks.index(max(ranks)) + 1


def computing_precision(precision: str, device: str) -> str:
    """Resolve `training.precision`: "auto" is "bf16" where the processor computes in it, else "float32".

    Elsewhere bf16 is emulated: right, but slow. Processors with AMX have the instructions asked for, too.
    """
    if precision != "auto":
        return precision
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "float32"


def data_digest(images: np.ndarray | SampledImages, truth: np.ndarray, rows: np.ndarray) -> str:
    """SHA-256 over the images and truth of `rows` in order, 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{images.shape[1:]} {images.dtype}".encode())
    for row in rows:
        digest.update(np.ascontiguousarray(images[row]).data)
    digest.update(np.ascontiguousarray(truth[rows], np.int64 if truth.ndim == 1 else np.float32).data)
    return digest.hexdigest()


def weights_digest(net: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all weights, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()


def _check(data: TrainingImages, task: Task) -> None:
    images, truth = data.images, data.truth
    if images.ndim != 3 or images.shape[1] != images.shape[2] or truth.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"found images {images.shape} and truth {truth.shape}, expected (n, size, size) and n rows; prepare again"
        )
    used = truth[np.concatenate([data.train_rows, data.validation_rows])]
    if isinstance(task, Classification):
        _check_labels(used, task)
    elif truth.ndim != 2 or not np.isfinite(used).all():
        raise ValueError(f"targets: found {truth.shape} with NaN or infinity, expected (n, t) finite; prepare again")
    if len(data.train_rows) < 2:
        raise ValueError(f"found {len(data.train_rows)} training images, expected at least 2; change the split")
    shared = np.intersect1d(data.train_rows, data.validation_rows)
    if len(shared):
        raise ValueError(f"found {len(shared)} images both in training and validation, expected none; split again")


def _check_labels(labels: np.ndarray, task: Classification) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(task.classes):
        raise ValueError(
            f"labels: found {sorted(set(labels.ravel().tolist()))}, expected whole numbers from 0 to "
            f"{len(task.classes) - 1}, one for each of {list(task.classes)}"
        )
    if task.one_output and len(task.classes) != 2:
        raise ValueError(f"training.one_output: found {len(task.classes)} classes, expected 2; set it to false")


def _check_outputs(model: Model, images: np.ndarray, rows: np.ndarray) -> None:
    found, expected = raw_outputs(model, images, rows[:1]).shape[1], model.task.outputs
    if found != expected:
        raise ValueError(
            f"{model.architecture}: found {found} outputs, expected {expected}: one per class (a single one for "
            "training.one_output), or a mean and a log variance per target; build the network so"
        )


def _check_numbers(model: Model, row: dict[str, float]) -> None:
    """Refuse an epoch whose scores or weights are no numbers, which no loss of a training batch has told."""
    broken = [name for name, value in row.items() if not math.isfinite(value)]
    broken += [name for name, tensor in model.net.state_dict().items() if not tensor.sum().isfinite()]
    if broken:
        raise FloatingPointError(
            f"training of {model.architecture}: {broken[0]} is no number after epoch {row['epoch']}; lower "
            "training.learning_rate, or look for pixels that are no numbers"
        )


def _truth(truth: np.ndarray, rows: np.ndarray, device: str) -> Tensor:
    return torch.tensor(truth[rows], dtype=torch.int64 if truth.ndim == 1 else torch.float32, device=device)


def _optimiser(net: nn.Module, training: ClassifierTraining) -> torch.optim.Optimizer:
    options = {"lr": training.learning_rate, "weight_decay": training.weight_decay, "fused": True}
    if training.optimiser == "adam":
        return torch.optim.Adam(net.parameters(), **options)
    return torch.optim.SGD(net.parameters(), momentum=training.momentum, **options)
