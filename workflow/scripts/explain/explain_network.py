"""Explain a class, or a predicted number, of the chosen images with the methods of one family, for one network."""

import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.datasets.splits import reference_images
from xiqa.files import read_array, read_table, write_array, write_table
from xiqa.logs import log_to
from xiqa.models.model import load_model
from xiqa.models.zoo import build
from xiqa.registry import PUBLISHED_MAPS, base_method
from xiqa.saliency.attribution import attribute_many, checks, known_options
from xiqa.saliency.base import validity
from xiqa.saliency.of_model import explained_output, layers_of
from xiqa.saliency.published import published_map
from xiqa.saliency.xrai import best_regions

REFERENCES = 64


def explain(
    paths: dict[str, str], methods: list[str], published: list[str], images: str, severity: bool, options: dict,
    explained: dict, top_percent: float | None, path_to_maps: str, path_to_checks: str, path_to_cost: str,
) -> None:  # fmt: skip
    """Write the maps of each method (k, h, w) float32 into a folder, a row of validity flags per map, and their cost.

    `images` selects the chosen images in the form of a pandas query. `methods` may be variants: all smooth ones, and
    the best regions of fast XRAI. Maps as Özer released them, of the methods `published`, have their own folder, and
    so have those of images of rising severity, where they are asked for.
    """
    model = load_model(Path(paths["weights"]).parent, build)
    pixels, label = read_array(paths["images"]), read_table(paths["table"])["label"].to_numpy()
    chosen = read_table(paths["chosen"])
    shown = chosen.query(images)
    chosen = pd.concat([shown, chosen.query("part == 'severity'")]) if severity else shown
    rows = chosen["row"].to_numpy()
    x = model.inputs(pixels[rows])
    net, target, names = explained_output(model, pixels, rows, label, explained)
    references = reference_images(label, read_table(paths["split"]), REFERENCES, options["seed"])
    black = model.inputs(np.zeros_like(pixels[:1])) if options.get("baseline") == "zero" else None
    options = options | layers_of(model) | {"references": model.inputs(pixels[references]), "baseline": black}
    start = time.perf_counter()
    sources = (source for method in published for source in PUBLISHED_MAPS[method])
    asked = dict.fromkeys([*map(base_method, methods), *sources])
    found = attribute_many(net, x, target, asked, **known_options(asked, options), reduce_channels=False)
    seconds = time.perf_counter() - start
    maps = {}
    for method in methods:
        values = found[base_method(method)]
        values = values.sum(1) if values.ndim == 4 else values
        maps[method] = best_regions(values, top_percent) if method.endswith("_top") else values
    kinds = {
        "": {method: values[: len(shown)] for method, values in maps.items()},
        "published": {method: published_map(method, found)[: len(shown)] for method in published},
        "severity": {method: values[len(shown) :] for method, values in maps.items() if severity},
    }
    for kind, of_methods in kinds.items():
        for method, values in of_methods.items():
            write_array(Path(path_to_maps) / kind / f"{method}.npy", values.numpy().astype(np.float32))
    # Variants promise no completeness.
    plain = {method: values for method, values in maps.items() if method == base_method(method)}
    parts = [pd.DataFrame(validity(maps[m].numpy())).assign(method=m) for m in methods if m not in plain]
    rows_of_checks = pd.concat([*([checks(net, x, target, plain, baseline=black)] if plain else []), *parts])
    number = rows_of_checks["image"].to_numpy()
    named = rows_of_checks.assign(image=chosen["image"].to_numpy()[number], explained=names[number])
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
            severity=bool(snakemake.output.severity),
            options=snakemake.params.options,
            explained=snakemake.params.explained,
            top_percent=snakemake.params.top_percent,
            path_to_maps=snakemake.params.folder,
            path_to_checks=snakemake.output.checks,
            path_to_cost=snakemake.output.cost,
        )
