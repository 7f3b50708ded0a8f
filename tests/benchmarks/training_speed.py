"""Speed of training from the memory map against a bare loop over tensors in memory, with the same network and batch.

python tests/benchmarks/training_speed.py [--network small_resnet] [--size 96] [--images 256] [--rounds 7]
Epochs of both are run in turn in one process, and the medians are compared, because other processes may share the
machine. Neither augments or validates; ours reads the memory map, normalises, weighs classes, checks losses and keeps
the best weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from xiqa.config import TRAINING_PRESETS, ClassifierTraining
from xiqa.models.model import Model
from xiqa.models.model_training import TrainingImages, computing_precision, train_model
from xiqa.models.task import Classification
from xiqa.models.zoo import build


def bare_loop(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, training: ClassifierTraining):
    """A function that trains one epoch: nothing but what the network needs."""
    net = net.to(memory_format=torch.channels_last).train()
    if training.optimiser == "adam":
        optimiser = torch.optim.Adam(net.parameters(), training.learning_rate, fused=True)
    else:
        optimiser = torch.optim.SGD(net.parameters(), training.learning_rate, training.momentum, fused=True)
    bf16 = computing_precision(training.precision, "cpu") == "bf16"

    def epoch() -> None:
        for part in torch.randperm(len(x)).split(training.batch_size):
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = net(x[part])
            F.cross_entropy(output.float(), y[part]).backward()
            optimiser.step()

    return epoch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small_resnet")
    parser.add_argument("--size", type=int, default=96, help="rows and columns of the images")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--images", type=int, default=256, help="training images")
    parser.add_argument("--preset", choices=sorted(TRAINING_PRESETS), default="quick", help="batch size and optimiser")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    parser.add_argument("--workers", type=int, default=1, help="threads that read ahead")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each whose median counts")
    given = parser.parse_args()
    training = ClassifierTraining(
        preset=given.preset, epochs=given.rounds + 1, batch_size=given.batch_size, precision=given.precision,
        workers=given.workers, augmentation={"flip": False, "rotate_deg": 0, "translate": 0, "scale": 0, "jitter": 0},
    )  # fmt: skip

    task = Classification(("0", "1"))

    def fresh() -> torch.nn.Module:
        return build(given.network, channels=given.channels, outputs=2, seed=0)

    labels = np.arange(given.images) % 2
    images = np.random.default_rng(0).random((given.images, given.size, given.size)).astype(np.float16)
    x = torch.from_numpy(images).float()[:, None].expand(-1, given.channels, -1, -1) - 0.5
    bare = bare_loop(fresh(), x.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels), training)
    clocks = (time.perf_counter, time.process_time)
    marks, times = [0.0, 0.0], {"bare": [], "ours": []}

    def progress(row: dict) -> None:
        start = [clock() for clock in clocks]
        bare()
        end = [clock() for clock in clocks]
        if row["epoch"] > 1:  # the first epoch of each warms up
            times["ours"].append(np.subtract(start, marks))
            times["bare"].append(np.subtract(end, start))
        marks[:] = end

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.npy")
        np.save(path, images)
        mapped = np.load(path, mmap_mode="r")
        train_model(
            Model(fresh(), given.network, {}, task, given.channels, given.size),
            TrainingImages(mapped, labels, np.arange(given.images), np.zeros(0, int)), training, seed=0, folder=folder,
            threads=given.threads, progress=progress,
        )  # fmt: skip
    ours, bare_seconds = (np.median(times[name], axis=0) for name in ("ours", "bare"))
    ratios = np.array(times["bare"])[:, 0] / np.array(times["ours"])[:, 0]
    print(
        f"{given.network}, {given.size} px, {given.channels} channel(s), batch {given.batch_size}, "
        f"{computing_precision(given.precision, 'cpu')}, {given.threads} thread(s), {given.rounds} rounds of "
        f"{given.images} images; load average {os.getloadavg()[0]:.1f}\n"
        f"bare loop {given.images / bare_seconds[0]:.1f} images/s, ours {given.images / ours[0]:.1f} images/s: "
        f"{bare_seconds[0] / ours[0]:.1%} of the bare loop (single rounds {ratios.min():.0%} to {ratios.max():.0%}); "
        f"by processor time {bare_seconds[1] / ours[1]:.1%}"
    )


if __name__ == "__main__":
    main()
