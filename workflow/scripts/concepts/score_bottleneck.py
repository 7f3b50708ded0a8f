"""Decide whether designed images are acceptable through named concepts only, correct these, and tell what leaks."""

from pathlib import Path

import numpy as np
import torch

from xiqa.concepts.bottleneck import of_designed
from xiqa.concepts.responses import responses
from xiqa.datasets.designed import BOTTLENECK_CONCEPTS
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.models.model import load_model
from xiqa.models.zoo import build, multi_layers


def score(paths: dict[str, str], names: dict, seed: int, written: dict[str, str]) -> None:
    """Write accuracies, leakage and intervention curves of all bottlenecks on the features of one network."""
    images, table = np.asarray(read_array(paths["images"]), np.float32), read_table(paths["table"])
    model = load_model(Path(paths["weights"]).parent, build)
    labels = torch.tensor(table["label"].to_numpy())
    seen = responses(model.net, model.inputs(images), labels, multi_layers(names["architecture"]))
    features = np.concatenate(list(seen.activations.values()), axis=1)
    scores, curves = of_designed(features, table, BOTTLENECK_CONCEPTS, seed)
    data = table["data"].iloc[0]
    for name, made in (("scores", scores), ("curves", curves)):
        for place, (column, value) in enumerate(names.items()):
            made.insert(place, column, value)
        write_table(written[name], made.assign(data=data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"bottlenecks of {snakemake.wildcards.dataset}"):
        torch.set_num_threads(snakemake.threads)
        score(
            paths=dict(snakemake.input.items()),
            names=snakemake.params.network,
            seed=snakemake.params.seed,
            written=dict(snakemake.output.items()),
        )
