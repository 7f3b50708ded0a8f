"""Train one classifier on the training part of a data set."""

from pathlib import Path

import numpy as np

from xiqa.config import ClassifierTraining, NetworkPlan
from xiqa.datasets.base import classes_of
from xiqa.files import read_array, read_table
from xiqa.logs import Progress, log_to
from xiqa.models.classifier import Classifier
from xiqa.models.classifier_training import LabelledImages, train_classifier
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
    classes = classes_of(table)
    net, source = initial_state(
        network.architecture, channels=network.channels, outputs=1 if training.one_output else len(classes), seed=seed,
        options=network.options, weights=network.weights,
    )  # fmt: skip

    def show(row: dict) -> None:
        accuracy = row.get("validation_balanced_accuracy", row["balanced_accuracy"])
        progress(row["epoch"], training.epochs, f"epochs, balanced accuracy {accuracy:.3f}")

    rows = [np.flatnonzero(part == name) for name in ("train", "validation")]
    train_classifier(
        Classifier(
            net, network.architecture, network.options, tuple(classes), network.channels, images.shape[1],
            training.one_output,
        ),
        LabelledImages(images, table["label"].to_numpy(), *rows), training, seed=seed, folder=folder,
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
