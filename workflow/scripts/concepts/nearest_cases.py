"""Show the training cases that a network holds to be most like its test images, and score what they say."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.figures.cases import plot_nearest_cases
from xiqa.files import read_array, read_table, write_figure, write_table
from xiqa.logs import log_to
from xiqa.metrics.statistics import interval
from xiqa.models.model import load_model, penultimate_features, predict
from xiqa.models.zoo import build, features
from xiqa.prototypes.nearest import nearest_cases, purity, vote

SHOWN = 5
"""Test images of the figure: spread evenly from the purest to the least pure."""


def score(paths: dict[str, str], names: dict, k: int, written: dict[str, str]) -> None:
    """Write the nearest cases of each test image, purity and accuracy with intervals over patients, and a figure."""
    model = load_model(Path(paths["weights"]).parent, build)
    images, table = read_array(paths["images"]), read_table(paths["table"])
    part = read_table(paths["split"])["part"].to_numpy()
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    label, patient = table["label"].to_numpy(), table["patient"].to_numpy()
    kinds = {
        "features": [penultimate_features(model, images, rows, features) for rows in (train, test)],
        "pixels": [np.asarray(images[rows], np.float32).reshape(len(rows), -1) for rows in (train, test)],
    }
    right = {"network": predict(model, images, test).argmax(1) == label[test]}
    scores, found = [], {}
    for kind, (of_train, of_test) in kinds.items():
        found[kind] = nearest_cases(of_train, of_test, patient[train], patient[test], k)
        labels = label[train][found[kind].rows]
        scores.append(("purity", kind, purity(labels, label[test])))
        right[f"vote of nearest, {kind}"] = vote(labels) == label[test]
    scores += [("accuracy", who, values.astype(float)) for who, values in right.items()]
    rows = []
    for metric, who, values in scores:
        low, high = interval(values, patient[test], bounds=(0, 1))
        rows.append({**names, "metric": metric, "of": who, "value": values.mean(), "ci_low": low, "ci_high": high,
                     "n_images": len(test), "n_patients": len(set(patient[test]))})  # fmt: skip
    data = table["data"].iloc[0]
    write_table(written["scores"], pd.DataFrame(rows).assign(k=k, data=data))
    best, name = found["features"], table["label_name"].to_numpy()
    cases = {f"case_{n + 1}": table["image"].to_numpy()[train[best.rows[:, n]]] for n in range(k)}
    distances = {f"distance_{n + 1}": best.distance[:, n] for n in range(k)}
    pure = purity(label[train][best.rows], label[test])
    listed = {"image": table["image"].to_numpy()[test], "label_name": name[test], "purity": pure, **cases, **distances}
    write_table(written["cases"], pd.DataFrame(listed).assign(data=data))
    order = np.argsort(-pure, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]
    figure = plot_nearest_cases(
        np.asarray(images[test[shown]], np.float32),
        np.stack([np.asarray(images[train[best.rows[row]]], np.float32) for row in shown]),
        [f"{name[test[row]].replace('_', ' ')}\npurity {pure[row]:.1f}" for row in shown],
        [[text.replace("_", " ") for text in name[train[best.rows[row]]]] for row in shown],
        best.distance[shown],
        data,
    )
    write_figure(written["figure"], figure)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"nearest cases of {snakemake.wildcards.dataset}"):
        score(
            paths=dict(snakemake.input.items()),
            names=snakemake.params.network,
            k=snakemake.params.neighbours,
            written=dict(snakemake.output.items()),
        )
