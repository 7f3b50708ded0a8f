"""Train one member of one kind of network on the drawn settings."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.labels import labels_of
from xiqa.cdmam.samples import StackedImages
from xiqa.config import CellsNetwork, Network, Training
from xiqa.files import read_array, read_table
from xiqa.logs import Progress, log_to
from xiqa.models.training import TrainingStep, train_member
from xiqa.models.training_loop import input_statistics


def train(
    paths_to_images: list[str],
    paths_to_curves: list[str],
    settings: dict,
    kind: str,
    member: int,
    threads: int,
    folder: str,
    progress: Progress,
) -> None:
    """All images are one step of the training; the steps of the paper that would follow are empty."""
    network = (CellsNetwork if kind == "cells" else Network)(**settings["network"])
    arrays = [read_array(path) for path in paths_to_images]
    images = StackedImages([(array, np.arange(len(array))) for array in arrays])
    curves = pd.concat([read_table(path).query("kind == 'label'") for path in paths_to_curves], ignore_index=True)
    labels, _ = labels_of(curves, list(np.repeat(curves["setting"].unique(), [len(array) for array in arrays])))
    drawn = TrainingStep("drawn", images, labels)
    nothing = np.zeros((0, *images.shape[1:]), images.dtype)
    steps = [drawn, *(TrainingStep(f"empty {number}", nothing, labels[:0]) for number in (2, 3, 4))]
    mean, sd = input_statistics(images)
    training = Training(**settings["training"])

    def show(row: dict) -> None:
        progress(row["epoch"], sum(training.epochs), f"epochs, rmse {row['rmse_midpoint_um']:.4f} µm")

    train_member(
        steps, network, training, size=images.shape[2], input_scale=(mean, sd), seed=settings["seed"],
        member=member, folder=folder, threads=threads, device=settings["device"], progress=show,
    )  # fmt: skip


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"train {snakemake.params.kind} member {snakemake.wildcards.member}") as progress:
        train(
            paths_to_images=list(snakemake.input.images),
            paths_to_curves=list(snakemake.input.curves),
            settings=snakemake.params.training,
            kind=snakemake.params.kind,
            member=int(snakemake.wildcards.member),
            threads=snakemake.threads,
            folder=str(Path(snakemake.output.weights).parent),
            progress=progress,
        )
