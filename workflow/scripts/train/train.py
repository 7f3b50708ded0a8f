"""Train one member of the deep ensemble in the four steps of Amanova 2022."""

from pathlib import Path

from xiqa.cdmam.labels import training_labels_um
from xiqa.cdmam.samples import map_samples
from xiqa.config import STEPS, Network, Training
from xiqa.files import read_table
from xiqa.logs import Progress, log_to
from xiqa.models.training import TrainingStep, pixels_of, train_member
from xiqa.models.training_loop import input_statistics


def train(
    path_to_curves: str,
    paths_to_images: list[str],
    paths_to_tables: list[str],
    settings: dict,
    member: int,
    threads: int,
    folder: str,
    progress: Progress,
) -> None:
    """Collect the training images of each step with their labels, and train; a killed training continues."""
    network, training = Network(**settings["network"]), Training(**settings["training"])
    curves = read_table(path_to_curves)
    steps = []
    for step in STEPS:
        images, table = map_samples(paths_to_images, paths_to_tables, "train", (step,))
        if len(table):
            steps.append(TrainingStep(step, images, training_labels_um(curves, table)))
    epochs = [number for step, number in zip(STEPS, training.epochs, strict=True) if step in {s.name for s in steps}]
    training = training.model_copy(update={"epochs": tuple(epochs)})
    mean, sd = input_statistics(pixels_of(steps))

    def show(row: dict) -> None:
        progress(row["epoch"], sum(epochs), f"epochs, step {row['step_name']}, rmse {row['rmse_midpoint_um']:.4f} µm")

    train_member(
        steps, network, training, size=settings["size"], input_scale=(mean, sd), seed=settings["seed"],
        member=member, folder=folder, threads=threads, device=settings["device"], progress=show,
    )  # fmt: skip


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"train member {snakemake.wildcards.member}") as progress:
        train(
            path_to_curves=snakemake.input.curves,
            paths_to_images=list(snakemake.input.images),
            paths_to_tables=list(snakemake.input.tables),
            settings=snakemake.params.training,
            member=int(snakemake.wildcards.member),
            threads=snakemake.threads,
            folder=str(Path(snakemake.output.weights).parent),
            progress=progress,
        )
