"""Ask trained and randomised networks which concepts their outputs follow, layer by layer, against the truth."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.concepts.responses import responses
from xiqa.concepts.scores import concept_agreement, concept_effects
from xiqa.datasets.designed import FACTORS
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import Progress, log_to
from xiqa.models.model import Model, load_model
from xiqa.models.weights import initial_state
from xiqa.models.zoo import build, multi_layers


def score(
    paths: dict[str, str], networks: dict[str, dict], measures: list[str], permutations: int, seed: int,
    written: dict[str, str], progress: Progress,
) -> None:  # fmt: skip
    """Write the effects of all concepts, how they agree with the truth, and the outputs along the ladders."""
    images, table = np.asarray(read_array(paths["images"]), np.float32), read_table(paths["table"])
    concepts = [*FACTORS, *(f"measured_{name}" for name in measures)]
    effects, ladders = [], []
    asked = list(with_random(networks))
    for number, (names, model) in enumerate(asked):
        labels = torch.tensor(table["label"].to_numpy())
        found = responses(model.net, model.inputs(images), labels, multi_layers(names["architecture"]))
        scores = concept_effects(found, table, concepts, seed=seed, permutations=permutations)
        effects.append(pd.DataFrame({**names, **dict(scores.items())}))
        ladder = table.assign(output=found.output).query("part == 'ladder'")
        columns = ["ladder", "label_name", "severity", "output", "data"]
        ladders.append(pd.DataFrame({**names, **dict(ladder[columns].items())}))
        progress(number + 1, len(asked), "networks")
    whole = pd.concat(effects, ignore_index=True).assign(data=table["data"].iloc[0])
    write_table(written["effects"], whole)
    write_table(written["agreement"], concept_agreement(whole).assign(data=table["data"].iloc[0]))
    write_table(written["ladders"], pd.concat(ladders, ignore_index=True))


def with_random(networks: dict[str, dict]) -> Iterator[tuple[dict, Model]]:
    """The networks, and of each architecture one with random weights: what the scores make of nothing learnt."""
    for path, names in networks.items():
        model = load_model(Path(path).parent, build)
        yield names, model
        made = {other["weights"] for other in networks.values() if other["architecture"] == names["architecture"]}
        if names["weights"] == "trained" and "fully_random" not in made:
            given = {"channels": model.channels, "outputs": model.task.outputs, "options": model.options}
            net, _ = initial_state(model.architecture, seed=names["seed"], **given)
            yield names | {"weights": "fully_random"}, replace(model, net=net.eval())


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"score concepts of {snakemake.wildcards.dataset}") as progress:
        torch.set_num_threads(snakemake.threads)
        score(
            paths={name: snakemake.input[name] for name in ("images", "table")},
            networks=dict(zip(snakemake.input.weights, snakemake.params.networks, strict=True)),
            measures=snakemake.params.measures,
            permutations=snakemake.params.permutations,
            seed=snakemake.params.seed,
            written=dict(snakemake.output.items()),
            progress=progress,
        )
