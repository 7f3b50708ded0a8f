"""Search for images that would be decided otherwise, hold them against those that are rendered so, and draw them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.config import Dataset
from xiqa.counterfactuals.autoencoder import train_autoencoder
from xiqa.counterfactuals.deepfool import deepfool
from xiqa.counterfactuals.latent_shift import latent_shift, random_shift
from xiqa.counterfactuals.margin import decisions, runner_up
from xiqa.datasets.designed import exact_counterfactuals
from xiqa.figures.counterfactuals import plot_counterfactuals, plot_reconstructions
from xiqa.files import read_array, read_table, write_figure, write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics.counterfactual import of_images, passes_gate, summary
from xiqa.metrics.counterfactual_findings import describe_counterfactuals
from xiqa.models.model import load_model
from xiqa.models.zoo import build, features
from xiqa.report.pages import write_findings

SHOWN = 4


def score(
    paths: dict[str, str], names: dict, settings: dict, seed: int, written: dict[str, str], progress: Progress
) -> None:
    """Write scores by method and direction, the counterfactuals of each image, a figure and a page."""
    dataset, table, images = Dataset(**settings), read_table(paths["table"]), read_array(paths["images"])
    asked, part = dataset.counterfactuals, read_table(paths["split"])["part"].to_numpy()
    model = load_model(Path(paths["weights"]).parent, build)

    def net(x: torch.Tensor) -> torch.Tensor:
        return model.net(model.inputs(x[:, 0]))

    codec = train_autoencoder(
        images, np.flatnonzero(part == "train"), seed=seed, epochs=asked.epochs, feature_weight=asked.feature_weight,
        features=lambda x: features(model.net, model.inputs(x[:, 0])), progress=progress,
    )  # fmt: skip
    test = table[(part == "test") & (table["part"] != "severity")]
    x = torch.from_numpy(np.array(images[test.index], np.float32))[:, None]
    decided, label = decisions(net, x), torch.tensor(test["label"].to_numpy())
    agreement, passed = passes_gate(decided.numpy(), decisions(net, codec(x)).numpy())
    # The first image of each patient that the network decides rightly.
    right = (
        test.assign(row=np.arange(len(test)))[(decided == label).numpy()].groupby("patient", sort=False)["row"].first()
    )
    rows = right.to_numpy()[: asked.images]
    if not len(rows):
        raise ValueError("counterfactuals: found no test image that is decided rightly; train the network longer")
    x, own = x[rows], decided[rows]
    to = runner_up(net, x)[1]
    _, true, masks = exact_counterfactuals(dataset, table, test.index.to_numpy()[rows], to.numpy(), seed, progress)
    shift = latent_shift(net, codec, x, to)
    fooled, random = deepfool(net, x), random_shift(net, codec, x, shift, seed)
    published = latent_shift(net, codec, x, to, residual=False)
    found = {
        "latent shift": (shift.images, shift.valid),
        "as published": (published.images, published.valid),
        "DeepFool": (fooled.images, fooled.valid),
        "random shift": (random.images, random.valid),
        "exact": (torch.from_numpy(true)[:, None], decisions(net, torch.from_numpy(true)[:, None]) == to),
    }
    start, patient = x[:, 0].numpy(), test["patient"].to_numpy()[rows]
    label_name = dict(zip(test["label"], test["label_name"], strict=True))
    direction = np.array([f"{label_name[int(a)]} to {label_name[int(b)]}" for a, b in zip(own, to, strict=True)])
    scores, single = [], []
    for method, (made, valid) in found.items():
        change = made[:, 0].numpy() - start
        of = of_images(change, valid.numpy(), masks, true - start)
        single.append(
            pd.DataFrame({"image": test["image"].to_numpy()[rows], "direction": direction, "method": method}).join(of)
        )
        for name in dict.fromkeys(direction):
            at = direction == name
            scores.append(summary(of[at], patient[at]).assign(direction=name, method=method))
    gate = {"method": "reconstruction", "metric": "agreement", "value": agreement, "n_images": len(test)}
    gate["n_patients"] = test["patient"].nunique()
    flipped = {"method": "as published", "metric": "decided otherwise before any shift",
               "value": float((published.decided != own).float().mean()), "n_images": len(rows)}  # fmt: skip
    data = table["data"].iloc[0]
    made = pd.concat([pd.DataFrame([gate, flipped]), *scores], ignore_index=True)
    write_table(written["scores"], pd.DataFrame({**names, **dict(made.items())}).assign(data=data))
    write_table(written["images"], pd.concat(single, ignore_index=True).assign(data=data))
    if passed:
        shown = np.flatnonzero(shift.valid.numpy())[:SHOWN]
        titles = [text.replace("_", " ") for text in direction[shown]]
        changed = shift.images[:, 0].numpy()[shown]
        figure = plot_counterfactuals(start[shown], changed, (true - start)[shown], titles, agreement, data)
    else:
        figure = plot_reconstructions(start[:SHOWN], codec(x[:SHOWN])[:, 0].numpy(), agreement, data)
    write_figure(written["figure"], figure)
    title = f"Images that would be decided otherwise ({data} images)"
    write_findings(
        title, describe_counterfactuals(made), written["page"], written["findings"], picture=written["figure"]
    )


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"counterfactuals of {snakemake.wildcards.dataset}") as progress:
        torch.set_num_threads(snakemake.threads)
        score(
            paths=dict(snakemake.input.items()),
            names=snakemake.params.network,
            settings=snakemake.params.dataset,
            seed=snakemake.params.seed,
            written=dict(snakemake.output.items()),
            progress=progress,
        )
