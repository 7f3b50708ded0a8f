"""How much it matters where maps of layers lie: tiled as published, or centred where the strides have their cells."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.figures.attributions import plot_attributions
from xiqa.figures.style import data_of
from xiqa.files import PackedMasks, read_array, read_table, write_figure, write_table
from xiqa.logs import log_to
from xiqa.metrics.maps.pointing_game import pointing_game, scaled_tolerance_px
from xiqa.metrics.maps.roc_auc import roc_auc
from xiqa.metrics.maps.score_tables import paired_table
from xiqa.models.model import load_model
from xiqa.models.zoo import build
from xiqa.names import method_name
from xiqa.saliency.attribution import attribute_many, known_options
from xiqa.saliency.of_model import explained_output, layers_of

ALIGNMENTS = ("published", "centred")


def compare(
    paths: dict[str, str], methods: list[str], explained: dict, tolerance_width: int, path_to_table: str,
    path_to_panel: str,
) -> None:  # fmt: skip
    """Write Pointing Game and pixel AUC under both alignments, paired on the same images, and show three of them."""
    model = load_model(Path(paths["weights"]).parent, build)
    table, pixels = read_table(paths["table"]), read_array(paths["images"])
    rows = read_table(paths["chosen"]).query("part == 'test'")["row"].to_numpy()
    masks, told = PackedMasks(paths["masks"])[rows], table.iloc[rows]
    tolerance_px = scaled_tolerance_px(pixels.shape[2], tolerance_width)
    x = model.inputs(pixels[rows])
    net, target, _ = explained_output(model, pixels, rows, table["label"].to_numpy(), explained)
    scores, shown, chosen = [], {}, np.linspace(0, len(rows) - 1, 3).round().astype(int)
    for alignment in ALIGNMENTS:
        options = known_options(methods, layers_of(model) | {"alignment": alignment})
        for method, maps in attribute_many(net, x, target, methods, **options).items():
            shown[f"{method_name(method)} {alignment}"] = maps.numpy()[chosen]
            for image, patient, found, mask in zip(told["image"], told["patient"], maps.numpy(), masks, strict=True):
                values = {"pointing_game": pointing_game(found, mask, tolerance_px), "roc_auc": roc_auc(found, mask)}
                known = {"method": method, "alignment": alignment, "image": image, "patient": patient, "seed": 0}
                scores += [known | {"metric": metric, "value": value} for metric, value in values.items()]
    scores = pd.DataFrame(scores).astype({"value": float})
    compared = paired_table(scores, ["metric", "method"], "alignment", "centred", ["published"])
    data = data_of(table["data"])
    write_table(path_to_table, compared.rename(columns={"other": "published"}).assign(data=data))
    pairs = {name: shown[name] for name in sorted(shown)}
    titles = [f"{told['label_name'].iloc[k]}" for k in chosen]
    write_figure(path_to_panel, plot_attributions(pixels[rows[chosen]], masks[chosen], pairs, titles, data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"compare alignment on {snakemake.wildcards.dataset}"):
        torch.set_num_threads(snakemake.threads)
        compare(
            paths=dict(snakemake.input.items()),
            methods=snakemake.params.methods,
            explained=snakemake.params.explained,
            tolerance_width=snakemake.params.tolerance_width,
            path_to_table=snakemake.output.table,
            path_to_panel=snakemake.output.panel,
        )
