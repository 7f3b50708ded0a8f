"""Train one network on the training part of a data set."""

from pathlib import Path

import numpy as np

from xiqa.config import ClassifierTraining, NetworkPlan
from xiqa.datasets.sampling import SampledImages
from xiqa.files import read_array, read_table
from xiqa.logs import Progress, log_to
from xiqa.models.model import Model
from xiqa.models.model_training import TrainingImages, train_model
from xiqa.models.task import task_of
from xiqa.models.weights import initial_state
from xiqa.models.zoo import check_size


def train(
    paths: dict[str, str], settings: dict, seed: int, threads: int, device: str, folder: str, progress: Progress
) -> None:
    """Start from the configured weights and train; a killed training continues."""
    network, training = NetworkPlan(**settings["network"]), ClassifierTraining(**settings["training"])
    images, table = read_array(paths["images"]), read_table(paths["table"])
    check_size(network.architecture, images.shape[1])
    part = read_table(paths["split"])["part"].to_numpy()
    rows = [np.flatnonzero(part == name) for name in ("train", "validation")]
    task = task_of(table, rows[0], one_output=training.one_output, units=settings["target_units"])
    net, source = initial_state(
        network.architecture, channels=network.channels, outputs=task.outputs, seed=seed, options=network.options,
        weights=network.weights,
    )  # fmt: skip

    # The prepared images are the first sampling.
    sampling = settings["sampling"]
    originals = read_array(paths["originals"]) if sampling else images
    samplings = [
        SampledImages(originals, table["image"], number, sampling["size"])
        for number in range(1, sampling["samplings"] if sampling else 1)
    ]

    def show(row: dict) -> None:
        score = "balanced_accuracy" if "balanced_accuracy" in row else "rmse_over_sd"
        value = row.get(f"validation_{score}", row[score])
        progress(row["epoch"], training.epochs, f"epochs, {score.replace('_', ' ')} {value:.3f}")

    train_model(
        Model(net, network.architecture, network.options, task, network.channels, images.shape[1]),
        TrainingImages(images, task.truth(table), *rows, samplings), training, seed=seed, folder=folder,
        weights_source=source, threads=threads, device=device, progress=show,
    )  # fmt: skip


if "snakemake" in globals():
    names = snakemake.wildcards
    with log_to(snakemake.log[0], f"train {names.architecture} on {names.dataset}, seed {names.seed}") as progress:
        train(
            paths=dict(snakemake.input.items()),
            settings=snakemake.params.training,
            seed=int(names.seed),
            threads=snakemake.threads,
            device=snakemake.params.training["device"],
            folder=str(Path(snakemake.output.weights).parent),
            progress=progress,
        )
