"""How maps change while the blocks of a trained network are randomised one after the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.maps.map_similarity import rank_correlation, structural_similarity
from xiqa.models.cascade import cascade
from xiqa.models.model import load_model
from xiqa.models.zoo import build
from xiqa.saliency.attribution import attribute_many, known_options
from xiqa.saliency.of_model import explained_output, layers_of, with_readout


def run(
    paths: dict[str, str],
    methods: list[str],
    alignment: str,
    explained: dict,
    seed: int,
    network: dict,
    path_to_scores: str,
) -> None:
    """Write one row per number of randomised blocks, method and image: likeness to the map of the trained network."""
    model = load_model(Path(paths["weights"]).parent, build)
    chosen = read_table(paths["chosen"]).query("costly")
    rows = chosen["row"].to_numpy()
    pixels, labels = read_array(paths["images"]), read_table(paths["table"])["label"].to_numpy()
    x = model.inputs(pixels[rows])
    target = explained_output(model, pixels, rows, labels, explained).target

    def maps_of(net: torch.nn.Module) -> dict[str, np.ndarray]:
        state = replace(model, net=net)
        options = known_options(methods, layers_of(state) | {"alignment": alignment})
        maps = attribute_many(with_readout(state, explained), x, target, methods, **options)
        return {name: values.numpy() for name, values in maps.items()}

    trained, scores = maps_of(model.net), []
    for number, (block, net) in enumerate(cascade(model.net, seed), 1):
        for method, maps in maps_of(net).items():
            for image, before, after in zip(chosen["image"], trained[method], maps, strict=True):
                scores.append(
                    {
                        "blocks": number,
                        "block": block,
                        "method": method,
                        "image": image,
                        "rank_correlation": rank_correlation(before, after),
                        "rank_correlation_absolute": rank_correlation(before, after, absolute=True),
                        "structural_similarity": structural_similarity(before, after),
                    }
                )
    write_table(path_to_scores, pd.DataFrame(scores).assign(**network))


if "snakemake" in globals():
    names = snakemake.wildcards
    with log_to(snakemake.log[0], f"cascade {names.architecture} on {names.dataset}"):
        torch.set_num_threads(snakemake.threads)
        run(
            paths=dict(snakemake.input.items()),
            methods=snakemake.params.methods,
            alignment=snakemake.params.alignment,
            explained=snakemake.params.explained,
            seed=snakemake.params.seed,
            network={"architecture": names.architecture, "weights": names.weights, "seed": int(names.seed)},
            path_to_scores=snakemake.output.scores,
        )
