"""Explain the true class of the chosen images with the methods of one family, for one classifier."""

import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.config import PUBLISHED_MAPS
from xiqa.datasets.splits import reference_images
from xiqa.files import read_array, read_table, write_array, write_table
from xiqa.logs import log_to
from xiqa.models.classifier import load_classifier
from xiqa.models.zoo import build, cam_layer, multi_layers
from xiqa.saliency.attribution import attribute_many, checks, known_options
from xiqa.saliency.published import published_map

REFERENCES = 64


def explain(
    paths: dict[str, str], methods: list[str], published: list[str], images: str, options: dict, path_to_maps: str,
    path_to_checks: str, path_to_cost: str,
) -> None:  # fmt: skip
    """Write the maps of each method (k, h, w) float32 into a folder, a row of validity flags per map, and their cost.

    `images` selects the chosen images in the form of a pandas query. Maps as paper 001 released them, of the methods
    `published`, go into a folder of their own.
    """
    classifier = load_classifier(Path(paths["weights"]).parent, build)
    pixels, label = read_array(paths["images"]), read_table(paths["table"])["label"].to_numpy()
    chosen = read_table(paths["chosen"]).query(images)
    rows = chosen["row"].to_numpy()
    x, target = classifier.inputs(pixels[rows]), torch.tensor(label[rows])
    references = reference_images(label, read_table(paths["split"]), REFERENCES, options["seed"])
    options = options | {
        "layers": [cam_layer(classifier.architecture)],
        "multi_layers": list(multi_layers(classifier.architecture)),
        "references": classifier.inputs(pixels[references]),
    }
    start = time.perf_counter()
    asked = dict.fromkeys([*methods, *(source for method in published for source in PUBLISHED_MAPS[method])])
    found = attribute_many(classifier.net, x, target, asked, **known_options(asked, options), reduce_channels=False)
    seconds = time.perf_counter() - start
    maps = {method: found[method].sum(1) if found[method].ndim == 4 else found[method] for method in methods}
    kinds = {"": maps, "published": {method: published_map(method, found) for method in published}}
    for kind, of_methods in kinds.items():
        for method, values in of_methods.items():
            write_array(Path(path_to_maps) / kind / f"{method}.npy", values.numpy().astype(np.float32))
    rows_of_checks = checks(classifier.net, x, target, maps)
    named = rows_of_checks.assign(image=chosen["image"].to_numpy()[rows_of_checks["image"]])
    write_table(path_to_checks, named)
    # Methods of a family share their passes: each costs what all of them cost together.
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = {"method": methods, "maps": len(x), "seconds_per_map": seconds / len(x), "peak_memory_mb": memory_mb}
    write_table(path_to_cost, pd.DataFrame(cost))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"explain {snakemake.wildcards.architecture} on {snakemake.wildcards.dataset}"):
        torch.set_num_threads(snakemake.threads)
        explain(
            paths=dict(snakemake.input.items()),
            methods=snakemake.params.methods,
            published=snakemake.params.published,
            images=snakemake.params.images,
            options=snakemake.params.options,
            path_to_maps=snakemake.params.folder,
            path_to_checks=snakemake.output.checks,
            path_to_cost=snakemake.output.cost,
        )
