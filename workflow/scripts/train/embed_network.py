"""Show the test images in a network's feature space, before and after training."""

from pathlib import Path

import numpy as np

from xiqa.config import NetworkPlan
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics import embedding
from xiqa.models.model import load_model, penultimate_features
from xiqa.models.weights import initial_state
from xiqa.models.zoo import build, features


def embed_images(paths: dict[str, str], settings: dict, seed: int, path_to_points: str, path_to_scores: str) -> None:
    """Write PCA and t-SNE of the penultimate features, and the silhouette score of the classes."""
    classifier, network = load_model(Path(paths["weights"]).parent, build), NetworkPlan(**settings)
    before, _ = initial_state(
        network.architecture, channels=network.channels, outputs=classifier.task.outputs, seed=seed,
        options=network.options, weights=network.weights,
    )  # fmt: skip
    images, table = read_array(paths["images"]), read_table(paths["table"])
    rows = np.flatnonzero(read_table(paths["split"])["part"] == "test")
    found = {"after training": penultimate_features(classifier, images, rows, features)}
    classifier.net.load_state_dict(before.state_dict())
    found = {"before training": penultimate_features(classifier, images, rows, features)} | found
    points, scores = embedding.embed(found, table.iloc[rows], seed=seed)
    write_table(path_to_points, points)
    write_table(path_to_scores, scores)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"embed {snakemake.wildcards.dataset}"):
        embed_images(
            paths=dict(snakemake.input.items()),
            settings=snakemake.params.network,
            seed=int(snakemake.wildcards.seed),
            path_to_points=snakemake.output.points,
            path_to_scores=snakemake.output.scores,
        )
