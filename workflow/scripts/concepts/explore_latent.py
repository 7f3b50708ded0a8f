"""Train a β-VAE on cells of the phantom, and score which of its codes stand for which property, beside other codes."""

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.figures.latent import plot_traversals
from xiqa.files import write_figure, write_table
from xiqa.latent.cells import FACTORS, draw_batches, draw_factors, render_cells
from xiqa.latent.vae import supervised_codes, train_vae, untrained_codes
from xiqa.logs import Progress, log_to
from xiqa.metrics.disentanglement import disentanglement, factor_vae_score
from xiqa.metrics.latent_findings import code_names, describe_latent
from xiqa.report.pages import write_findings

BATCH = 32
VALUES_SD = (-2.0, -1.0, 0.0, 1.0, 2.0)


def explore(geometry: str, latent: dict, seed: int, threads: int, written: dict[str, str], progress: Progress) -> None:
    """Write scores, what is known of each property, the history of the training, traversals and a page."""
    phantom = GEOMETRIES[geometry]
    tables = {
        part: draw_factors(latent[name], seed, part) for part, name in (("train", "cells"), ("test", "test_cells"))
    }
    votes = {part: draw_batches(latent["batches"], BATCH, seed, part) for part in ("votes", "scored")}
    images = {part: render_cells(table, phantom, seed, progress) for part, table in tables.items()}
    images |= {part: render_cells(table, phantom, seed + 1, progress) for part, (table, _) in votes.items()}
    vae, history = train_vae(
        images["train"], latent["codes"], latent["beta"], latent["variance"], latent["epochs"], seed, threads=threads,
        progress=progress,
    )  # fmt: skip
    codes = {"β-VAE": {part: vae.encode(x) for part, x in images.items()}}
    flat = {part: x.reshape(len(x), -1) for part, x in images.items()}
    pca = PCA(latent["codes"], svd_solver="randomized", random_state=seed).fit(flat["train"])
    codes["PCA"] = {part: pca.transform(x) for part, x in flat.items()}
    codes["untrained"] = {part: untrained_codes(x, vae, seed) for part, x in images.items()}
    targets = pd.get_dummies(tables["train"]).astype(float)
    targets = ((targets - targets.mean()) / targets.std()).to_numpy()
    others = {part: x for part, x in images.items() if part != "train"}
    told = supervised_codes(
        images["train"], targets, np.concatenate(list(others.values())), latent["epochs"], seed, threads=threads
    )
    codes["supervised"] = dict(
        zip(others, np.split(told, np.cumsum([len(x) for x in others.values()])[:-1]), strict=True)
    )
    half, test = latent["test_cells"] // 2, tables["test"]
    scores, factors = [], []
    for name, of in codes.items():
        own, found = disentanglement(of["test"][:half], of["test"][half:], test[:half], test[half:], seed)
        batches = [(of[part].reshape(latent["batches"], BATCH, -1), votes[part][1]) for part in votes]
        chance = {
            "score": "FactorVAE",
            "value": factor_vae_score(*batches, of["test"].std(0)),
            "floor": 1 / len(FACTORS),
        }
        scores.append(pd.concat([own, pd.DataFrame([chance])]).assign(codes=name))
        factors.append(found.assign(codes=name))
    made = {"scores": pd.concat(scores), "factors": pd.concat(factors), "history": pd.DataFrame(history)}
    for name, table in made.items():
        write_table(written[name], table.assign(data="simulated"))
    mean, sd = codes["β-VAE"]["train"].mean(0), codes["β-VAE"]["train"].std(0)
    moved = np.array([[mean + np.eye(len(mean))[k] * value * sd for value in VALUES_SD] for k in range(len(mean))])
    decoded = vae.decode(moved.reshape(-1, len(mean))).reshape(*moved.shape[:2], *images["test"].shape[1:])
    write_figure(written["figure"], plot_traversals(decoded, VALUES_SD, code_names(codes["β-VAE"]["test"], test)))
    title = "Codes of single cells of the phantom (simulated images)"
    findings = describe_latent(made["scores"], made["factors"])
    write_findings(title, findings, written["page"], written["findings"], picture=written["figure"])


if "snakemake" in globals():
    with log_to(snakemake.log[0], "latent space of cells") as progress:
        torch.set_num_threads(snakemake.threads)
        explore(
            geometry=snakemake.params.geometry,
            latent=snakemake.params.latent,
            seed=snakemake.params.seed,
            threads=snakemake.threads,
            written=dict(snakemake.output.items()),
            progress=progress,
        )
