"""Training of one member of the deep ensemble: incremental, resumable, the same bytes every time."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xiqa import files
from xiqa.config import CellsNetwork, Network, Training
from xiqa.models.cdc_net import CDCNet, CurveOutputs, gaussian_nll
from xiqa.models.ensemble import MODEL_FILE, WEIGHTS_FILE, build_member, normalise
from xiqa.models.torch_settings import take_step, torch_settings
from xiqa.models.training_loop import HISTORY_FILE, Row, check_loss, end_training, run_epochs
from xiqa.seeds import stream_seed


@dataclass(frozen=True)
class TrainingStep:
    """What one step of the incremental training adds.

    Attributes:
        name: name of the step, for messages and the history.
        images: (n, K, s, s) counts, uint16 or float32, K samplings of each of n images; an array, a memory map, or
            anything with shape, dtype and indices like one (`xiqa.cdmam.samples.StackedImages`).
        labels_um: (n, 12) threshold gold thicknesses in µm.
    """

    name: str
    images: np.ndarray
    labels_um: np.ndarray


def train_member(
    steps: Sequence[TrainingStep],
    network: Network | CellsNetwork,
    training: Training,
    *,
    size: int,
    input_scale: tuple[float, float],
    seed: int,
    member: int,
    folder: str | os.PathLike,
    threads: int = 1,
    device: str = "cpu",
    validation: TrainingStep | None = None,
    progress: Callable[[dict], None] | None = None,
) -> Path:
    """Train one network and write `weights.safetensors`, `history.csv` and `model.json` into `folder`.

    Step k trains for `training.epochs[k]` epochs on the images of steps 0..k. What is random in an epoch (order,
    mirroring, dropout) follows from seed, member and epoch alone, so that a training that was killed continues from
    its last checkpoint to the bytes of an undisturbed one. A checkpoint of other data or other settings is not used.

    Args:
        steps: one step for each entry of `training.epochs`, in order.
        network: widths and form of the network.
        training: epochs, batch size, learning rate, weight decay, distance of checkpoints.
        size: rows and columns of the images.
        input_scale: mean and standard deviation of all training images in counts (`training_loop.input_statistics`).
        seed: seed of the study.
        member: number of the member; members differ in their initial weights, order, mirroring and dropout.
        folder: where the outputs go, and the checkpoints as long as the training runs.
        threads: threads of torch; bytes repeat for equal threads only.
        device: "cpu" or "cuda".
        validation: images whose error is written into the history after each epoch; never trained on.
        progress: called with each row of the history.

    Returns:
        The folder.

    Raises:
        ValueError: steps, images or labels do not fit each other or the network.
        FloatingPointError: the loss is no longer a number.

    Reference: Amanova et al. 2022, section 2.2 and appendix D; Adam with L2 on every parameter, as in torch.
    """
    folder = Path(folder)
    _check_steps(steps, validation, size, len(training.epochs))
    description = {
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json", exclude={"members", "checkpoint_epochs"}),
        "size": size,
        "input_mean": float(input_scale[0]),
        "input_sd": float(input_scale[1]),
        "seed": seed,
        "member": member,
        "threads": threads,
        "training_data": data_digest(steps),
        "validation_data": data_digest([validation]) if validation is not None else None,
    }
    with torch_settings(threads, device):
        torch.manual_seed(stream_seed(seed, "initial weights", member))
        net = build_member(size, network)
        if training.first_filters == "zero_sum" and isinstance(net, CDCNet):
            # Noise and edges, not brightness, then set the scale of the first batch normalisation.
            net.conv1.weight.data -= net.conv1.weight.data.mean((1, 2, 3), keepdim=True)
        net.set_targets(torch.tensor(np.concatenate([step.labels_um for step in steps]), dtype=torch.float32))
        _swap_feature_order(net, to_channels_last=True)
        net.to(device, memory_format=torch.channels_last)
        adam = torch.optim.Adam(_groups(net, training.variance_rate), weight_decay=training.weight_decay, fused=True)
        history = run_epochs(
            net, adam, sum(training.epochs),
            _epoch(net, adam, steps, training, _Streams(seed, member), input_scale, validation),
            folder=folder, description=description, checkpoint_epochs=training.checkpoint_epochs, progress=progress,
        )  # fmt: skip
    net.to("cpu", memory_format=torch.contiguous_format)
    _swap_feature_order(net, to_channels_last=False)
    files.write_tensors(folder / WEIGHTS_FILE, net.state_dict())
    files.write_table(folder / HISTORY_FILE, pd.DataFrame(history))
    files.write_json(folder / MODEL_FILE, description)
    end_training(folder)
    return folder


def _check_steps(steps: Sequence[TrainingStep], validation: TrainingStep | None, size: int, expected: int) -> None:
    for step in (*steps, *([validation] if validation is not None else [])):
        _check(step, size)
    if len(steps) != expected:
        raise ValueError(f"steps: found {len(steps)}, expected {expected}, one for each of training.epochs")


class _Streams(NamedTuple):
    """Where the random numbers of a training come from."""

    seed: int
    member: int


def _epoch(
    net: CurveOutputs,
    adam: torch.optim.Adam,
    steps: Sequence[TrainingStep],
    training: Training,
    streams: _Streams,
    statistics: tuple[float, float],
    validation: TrainingStep | None,
) -> Callable[[int], Row]:
    """What trains one epoch and scores it; statistics: mean and standard deviation of the input in counts."""
    plan = [number for number, epochs in enumerate(training.epochs) for _ in range(epochs)]

    def train_epoch(epoch: int) -> Row:
        data = steps[: plan[epoch] + 1]
        rng = np.random.default_rng(stream_seed(streams.seed, "batches", streams.member, epoch))
        torch.manual_seed(stream_seed(streams.seed, "dropout", streams.member, epoch))
        row = {"step": plan[epoch] + 1, "step_name": steps[plan[epoch]].name, "epoch": epoch + 1}
        batches = epoch_batches(data, epoch, training.batch_size, rng, net.mirrored)
        n_batches = math.ceil(sum(len(step.images) for step in data) / training.batch_size)
        sums = np.zeros(3)
        net.train()
        for number, (counts, labels_um) in enumerate(batches):
            rate = learning_rate(training, epoch + number / n_batches)
            for group in adam.param_groups:
                group["lr"] = rate * group["multiple"]
            x, target_um = _tensors(counts, labels_um, *statistics, net.target_scale.device)
            adam.zero_grad()
            mean, log_variance = _forward(net, x)
            loss = gaussian_nll(mean, log_variance, net.to_target(target_um))
            where = f"step {row['step']} ({row['step_name']}), epoch {row['epoch']}"
            check_loss(loss, f"member {streams.member}", where, number, n_batches)
            loss.backward()
            take_step(adam)
            sums += len(x) * _scores(net, loss, mean, log_variance, target_um)
        row |= _row("", sums / sum(len(step.images) for step in data))
        if validation is not None:
            row |= _row("validation_", _validate(net, validation, training.batch_size, *statistics))
        return row

    return train_epoch


def learning_rate(training: Training, epoch: float) -> float:
    """Learning rate after `epoch` epochs (a fraction too), by schedule and warm-up.

    The cosine schedule falls from `training.learning_rate` to zero over all epochs of all steps; the warm-up, over it,
    rises linearly from zero.
    """
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate *= 0.5 + 0.5 * math.cos(math.pi * epoch / sum(training.epochs))
    if epoch < training.warmup_epochs:
        rate *= epoch / training.warmup_epochs
    return rate


def epoch_batches(
    data: Sequence[TrainingStep],
    epoch: int,
    batch_size: int,
    rng: np.random.Generator,
    mirrored: Callable[[np.ndarray, bool, bool], np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every image of `data` once, in a random order, each mirrored up-down and left-right at random.

    Args:
        data: the steps trained on.
        epoch: 0 or more; sampling `epoch` modulo K of each image is used.
        batch_size: images per batch at most; batches differ by one image at most, because a last batch of two or
            three images would disturb batch normalisation.
        rng: source of randomness.
        mirrored: what mirrors an image (s, s) up-down and left-right, as asked.

    Returns:
        Counts (b, s, s) and labels (b, 12) in µm, per batch.
    """
    places = [(step, index) for step in data for index in range(len(step.images))]
    if not places:
        raise ValueError("training: found no images up to a step that has epochs, expected at least one")
    order = rng.permutation(len(places))
    flips = rng.random((len(places), 2)) < 0.5
    for part in np.array_split(order, math.ceil(len(places) / batch_size)):
        counts, labels_um = [], []
        for place in part:
            step, index = places[place]
            image = step.images[index, epoch % step.images.shape[1]]
            counts.append(mirrored(image, *flips[place]))
            labels_um.append(step.labels_um[index])
        yield np.stack(counts), np.stack(labels_um)


def pixels_of(steps: Sequence[TrainingStep]) -> Iterator[np.ndarray]:
    """The images of all steps, one after the other, for `input_statistics`."""
    return (image for step in steps for image in step.images)


def data_digest(steps: Sequence[TrainingStep]) -> str:
    """SHA-256 over the images and labels of all steps in order, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for step in steps:
        digest.update(f"{step.name} {step.images.shape} {step.images.dtype}".encode())
        for image in step.images:
            digest.update(np.ascontiguousarray(image).data)
        digest.update(np.ascontiguousarray(step.labels_um, np.float64).data)
    return digest.hexdigest()


def _check(step: TrainingStep, size: int) -> None:
    n = len(step.labels_um)
    if step.images.ndim != 4 or step.images.shape[0] != n or step.images.shape[2:] != (size, size):
        raise ValueError(
            f"training step {step.name}: found images {step.images.shape}, expected ({n}, K, {size}, {size}): one "
            "entry per label, and the sampling size of the configuration"
        )
    if step.labels_um.shape != (n, 12) or not (np.isfinite(step.labels_um) & (step.labels_um > 0)).all():
        raise ValueError(
            f"training step {step.name}: found labels {step.labels_um.shape}, expected ({n}, 12) thicknesses in µm, "
            "finite and above 0; read out the setting again"
        )


def _tensors(
    counts: np.ndarray, labels_um: np.ndarray, mean: float, sd: float, device: str | torch.device
) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(normalise(counts, mean, sd)[:, None]).to(device)
    return x, torch.tensor(labels_um, dtype=torch.float32, device=device)


def _forward(net: CurveOutputs, x: Tensor) -> tuple[Tensor, Tensor]:
    """`net.forward` for weights in the order of `_swap_feature_order`: spares a transposition of all features."""
    if not isinstance(net, CDCNet):
        return net(x)
    return net.in_target_units(*net.heads(net.features(x).permute(0, 2, 3, 1).flatten(1)))


def _swap_feature_order(net: CurveOutputs, to_channels_last: bool) -> None:
    """Bring the columns of fc1 of a CDCNet from (channel, row, column) to (row, column, channel) order, or back."""
    if not isinstance(net, CDCNet):
        return
    side = net.size // 2 // 2
    shape = (-1, net.conv3.out_channels, side, side) if to_channels_last else (-1, side, side, net.conv3.out_channels)
    weight = net.fc1.weight.data.reshape(shape)
    axes = (0, 2, 3, 1) if to_channels_last else (0, 3, 1, 2)
    net.fc1.weight.data = weight.permute(axes).flatten(1).contiguous()


@torch.no_grad()
def _scores(net: CurveOutputs, loss: Tensor, mean: Tensor, log_variance: Tensor, target_um: Tensor) -> np.ndarray:
    """NLL, mean square error of the 12 thicknesses, and of their mean, the midpoint, in µm²."""
    error = net.to_um(mean, log_variance)[0] - target_um
    return np.array([loss.item(), error.square().mean().item(), error.mean(1).square().mean().item()])


def _row(prefix: str, means: np.ndarray) -> dict[str, float]:
    nll, square, midpoint_square = means
    return {
        f"{prefix}nll": float(nll),
        f"{prefix}rmse_um": math.sqrt(square),
        f"{prefix}rmse_midpoint_um": math.sqrt(midpoint_square),
    }


@torch.no_grad()
def _validate(net: CurveOutputs, step: TrainingStep, batch_size: int, mean: float, sd: float) -> np.ndarray:
    net.eval()
    sums = np.zeros(3)
    for start in range(0, len(step.images), batch_size):
        part = slice(start, start + batch_size)
        x, target_um = _tensors(step.images[part, 0], step.labels_um[part], mean, sd, net.target_scale.device)
        predicted = _forward(net, x)
        sums += len(x) * _scores(net, gaussian_nll(*predicted, net.to_target(target_um)), *predicted, target_um)
    return sums / len(step.images)


def _groups(net: CurveOutputs, variance_rate: float) -> list[dict]:
    """Adam's parameter groups: the network, and the homoscedastic variance with its own multiple of the rate."""
    named = dict(net.named_parameters())
    variance = [named.pop("log_variance")] if "log_variance" in named else []
    groups = [{"params": list(named.values()), "multiple": 1.0}]
    # Adam moves a parameter by about the learning rate per batch; with few batches the variance would not arrive.
    return [*groups, {"params": variance, "multiple": variance_rate}] if variance else groups
