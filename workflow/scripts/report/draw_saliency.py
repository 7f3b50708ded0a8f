"""Draw what the saliency methods say about three test images of one network: rows chosen by rule, not by hand."""

from pathlib import Path

import numpy as np

from xiqa.figures.attributions import plot_attributions
from xiqa.figures.style import data_of
from xiqa.files import PackedMasks, read_array, read_table, write_figure
from xiqa.logs import log_to
from xiqa.metrics.maps.score_tables import in_both_forms
from xiqa.metrics.maps.trust import form_of
from xiqa.registry import CONTROLS, FALLING


def draw(paths: dict[str, str], paths_to_maps: dict[str, str], images: dict[str, str], path_to_panel: str) -> None:
    """Show the images whose ground truth the methods find best, as the median, and worst, by mean pixel AUC.

    `images` selects, for each method, those of the chosen images that it explained.
    """
    pixels, masks, table = read_array(paths["images"]), PackedMasks(paths["masks"]), read_table(paths["table"])
    chosen, scores = read_table(paths["chosen"]), read_table(paths["scores"])
    explained = {method: chosen.query(query)["row"].to_numpy() for method, query in images.items()}
    common = chosen[chosen["row"].isin(set.intersection(*map(set, explained.values())))]
    scores = in_both_forms(scores)
    judged = (scores["metric"] == "roc_auc") & (scores["form"] == scores["method"].map(form_of))
    auc = scores[judged & ~scores["method"].isin(CONTROLS)].groupby("image")["value"].mean()
    found = common.assign(auc=common["image"].map(auc)).query("part == 'test'")
    found = found.sort_values("auc", ascending=False, kind="stable", na_position="last")
    last = max(0, found["auc"].count() - 1)
    shown = {"best": found.iloc[0], "median": found.iloc[last // 2], "worst": found.iloc[last]}
    rows = [image["row"] for image in shown.values()]
    titles = [
        f"{name}\n{table['label_name'].iloc[image['row']]}"
        + ("" if np.isnan(image["auc"]) else f"\npixel AUC {image['auc']:.2f}")
        for name, image in shown.items()
    ]
    maps = {}
    for method, path in paths_to_maps.items():
        place = {row: k for k, row in enumerate(explained[method])}
        values = read_array(path)[[place[row] for row in rows]]
        maps[method] = -values if method in FALLING else values
    data = data_of(table["data"])
    write_figure(path_to_panel, plot_attributions(pixels[rows], masks[rows], maps, titles, data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw saliency of {snakemake.wildcards.dataset}"):
        draw(
            paths={name: path for name, path in snakemake.input.items() if name != "maps"},
            paths_to_maps={Path(path).stem: path for path in snakemake.input.maps},
            images=snakemake.params.images,
            path_to_panel=snakemake.output.panel,
        )
