"""Explain the true class of test images with the methods of one family, for one classifier."""

from pathlib import Path

import numpy as np
import torch

from xiqa.datasets.splits import explained_images
from xiqa.files import read_array, read_table, write_array, write_table
from xiqa.logs import log_to
from xiqa.models.classifier import load_classifier
from xiqa.models.zoo import build, cam_layer, multi_layers
from xiqa.saliency.attribution import attribute_many, checks, options_of

REFERENCES = 64


def explain(
    paths: dict[str, str], methods: list[str], images: int, options: dict, path_to_maps: str, path_to_checks: str
) -> None:
    """Write the maps of each method (k, h, w) float32 into a folder, and one row of validity flags per map."""
    classifier = load_classifier(Path(paths["weights"]).parent, build)
    pixels, table, part = read_array(paths["images"]), read_table(paths["table"]), read_table(paths["split"])["part"]
    rows = explained_images(table, part.to_numpy(), images)
    x, target = classifier.inputs(pixels[rows]), torch.tensor(table["label"].to_numpy()[rows])
    options = options | {
        "layers": [cam_layer(classifier.architecture)],
        "multi_layers": list(multi_layers(classifier.architecture)),
        "references": classifier.inputs(pixels[np.flatnonzero(part == "train")[:REFERENCES]]),
    }
    known = set().union(*map(options_of, methods))
    options = {name: value for name, value in options.items() if name in known}
    maps = attribute_many(classifier.net, x, target, methods, **options)
    for method, values in maps.items():
        write_array(Path(path_to_maps) / f"{method}.npy", values.numpy().astype(np.float32))
    rows_of_checks = checks(classifier.net, x, target, maps)
    named = rows_of_checks.assign(image=table["image"].to_numpy()[rows][rows_of_checks["image"]])
    write_table(path_to_checks, named)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"explain {snakemake.wildcards.architecture} on {snakemake.wildcards.dataset}"):
        torch.set_num_threads(snakemake.threads)
        explain(
            paths=dict(snakemake.input.items()),
            methods=snakemake.params.methods,
            images=snakemake.params.images,
            options=snakemake.params.options,
            path_to_maps=snakemake.params.folder,
            path_to_checks=snakemake.output.checks,
        )
