"""Make the randomised states of a trained classifier: a fresh last layer, or all weights fresh."""

from dataclasses import replace
from pathlib import Path

from xiqa.config import NetworkPlan
from xiqa.logs import log_to
from xiqa.models.model import load_model, write_model
from xiqa.models.weights import initial_state, semi_random_state
from xiqa.models.zoo import build


def randomise(path_to_trained: str, state: str, settings: dict, seed: int, folder: str) -> None:
    """Write the network with its weights drawn anew, and in model.json where the rest comes from."""
    network, trained = NetworkPlan(**settings), load_model(Path(path_to_trained).parent, build)
    given = {"channels": network.channels, "outputs": trained.task.outputs, "seed": seed, "options": network.options}
    if state == "semi_random":
        given |= {"weights": network.weights, "trained": path_to_trained}
        net, source = semi_random_state(network.architecture, **given)
    else:
        net, source = initial_state(network.architecture, **given)
    write_model(folder, replace(trained, net=net), {"state": state, "weights_source": source, "seed": seed})


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"randomise {snakemake.wildcards.dataset}"):
        randomise(
            path_to_trained=snakemake.input.trained,
            state=snakemake.wildcards.weights,
            settings=snakemake.params.network,
            seed=int(snakemake.wildcards.seed),
            folder=str(Path(snakemake.output.weights).parent),
        )
