"""Explain many samplings of one large image and add the maps up where their pixels came from (algorithm 2)."""

from pathlib import Path

import numpy as np

from xiqa.datasets.splits import upsampled_images
from xiqa.files import PackedMasks, read_array, read_table
from xiqa.logs import Progress, log_to
from xiqa.models.model import load_model
from xiqa.models.zoo import build
from xiqa.saliency.attribution import attribute
from xiqa.saliency.of_model import explained_output
from xiqa.saliency.upsampling import shard_ranges, upsample, write_upsampling_shard
from xiqa.seeds import stream_seed


def upsample_shard(
    paths: dict[str, str], method: str, number: int, shard: int, sampling: dict, explained: dict, seed: int,
    path_to_shard: str, progress: Progress,
) -> None:  # fmt: skip
    """Write the sums over this shard's draws; the draws are the same however many shards there are.

    What is explained, such as the predicted class, is that of the first sampling, in all draws.
    """
    model = load_model(Path(paths["weights"]).parent, build)
    table = read_table(paths["table"])
    rows = upsampled_images(read_table(paths["chosen"]), PackedMasks(paths["masks"]))[number : number + 1]
    if not len(rows):
        raise ValueError(
            f"{paths['chosen']}: found fewer than {number + 1} explained test images, expected one for each of "
            "sampling.images; lower it, or raise saliency.images"
        )
    images = read_array(paths["images"])
    net, target, _ = explained_output(model, images, rows, table["label"].to_numpy(), explained)

    def explain(x: np.ndarray) -> np.ndarray:
        classes = None if target is None else target.expand(len(x))
        return attribute(net, model.inputs(x), classes, method).numpy()

    result = upsample(
        np.asarray(read_array(paths["originals"])[rows[0]], np.float32),
        explain,
        sampling["size"],
        shard_ranges(sampling["draws"], sampling["shards"])[shard],
        stream_seed(seed, "upsampling", str(table["image"].iloc[rows[0]])),
        batch=sampling["batch"],
        without_replacement=True,
        progress=lambda done, total: progress(done, total, "draws"),
    )
    write_upsampling_shard(path_to_shard, result)


if "snakemake" in globals():
    names = snakemake.wildcards
    with log_to(snakemake.log[0], f"upsample {names.method} of {names.dataset}, shard {names.shard}") as progress:
        upsample_shard(
            paths=dict(snakemake.input.items()),
            method=names.method,
            number=int(names.index),
            shard=int(names.shard),
            sampling=snakemake.params.sampling,
            explained=snakemake.params.explained,
            seed=snakemake.params.seed,
            path_to_shard=snakemake.output.shard,
            progress=progress,
        )
