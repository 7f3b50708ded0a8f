"""Compare the maps of one network with the ground truth, and with each other."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.datasets.body import body_mask
from xiqa.files import PackedMasks, read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.maps.agreement import agreement
from xiqa.metrics.maps.localisation import (
    curves_of_maps,
    pointing_games_of_maps,
    published_signs,
    scores_of_maps,
)
from xiqa.metrics.maps.pointing_game import inside_boxes, scaled_tolerance_px
from xiqa.registry import BASELINES, CONTROLS, FALLING, METHODS_BROCKI, MULTI, SINGLE
from xiqa.segmentation import segment

GAMES = ["image", "part", "costly", "form", "metric", "value", "valid", "reason", "method", "scoring"]


def score(
    paths: dict[str, str],
    paths_to_maps: dict[str, str],
    paths_to_published: dict[str, str],
    paths_to_severity: dict[str, str],
    images: dict[str, str],
    network: dict[str, str],
    tolerance_width: int,
    published_form: bool,
    paths_to_results: dict[str, str],
) -> None:
    """Write scores of each map, curves averaged over the test images, and the agreement of the methods.

    `images` selects, for each method, those of the chosen images that its maps show; some have maps of all images of
    rising severity besides. Where the set has boxes, the Pointing Game against them is a table of its own: of our maps
    of test images, and of Özer's methods as its code scores them.
    """
    pixels, masks, chosen = read_array(paths["images"]), PackedMasks(paths["masks"]), read_table(paths["chosen"])
    table = read_table(paths["table"])
    tolerance_px = scaled_tolerance_px(pixels.shape[2], tolerance_width)
    # Segmenting costs more than all scores together: only the images that all methods explain have regions.
    costly = chosen.loc[chosen["costly"], "row"]
    segments = {row: segment(pixels[row][None]) if masks[row].any() else [] for row in costly}
    bodies = {row: body_mask(pixels[row]) for row in chosen["row"]}
    boxes = {row: json.loads(table["boxes"].iloc[row] or "[]") for row in chosen["row"]}
    in_boxes = (
        {row: inside_boxes(found, masks.shape[1:]) for row, found in boxes.items()} if any(boxes.values()) else {}
    )
    scores, games, curves, compared = [], [], [], {}

    def game(method: str, maps: np.ndarray, explained: pd.DataFrame, scoring: str) -> None:
        truth = np.stack([in_boxes[row] for row in explained["row"]])
        found = pointing_games_of_maps(maps, truth, tolerance_px=tolerance_px)
        told = explained.loc[found.pop("image"), ["image", "part", "costly"]].reset_index(drop=True)
        games.append(pd.concat([told, found], axis=1).assign(method=method, scoring=scoring))

    for method, path in paths_to_maps.items():
        explained, maps = chosen.query(images[method]), read_array(path)
        if method in paths_to_severity:
            explained = pd.concat([explained, chosen.query("part == 'severity'")])
            maps = np.concatenate([maps, read_array(paths_to_severity[method])])
        explained, rows = explained.reset_index(drop=True), explained["row"].to_numpy()
        maps = -maps if method in FALLING else maps
        compared[method] = maps[explained["costly"].to_numpy()]
        given = {"tolerance_px": tolerance_px, "segments": [segments.get(row) for row in rows]}
        found = scores_of_maps(maps, masks[rows] > 0, **given, within=[bodies[row] for row in rows])
        told = explained.loc[found.pop("image"), ["image", "part", "costly"]].reset_index(drop=True)
        scores.append(pd.concat([told, found], axis=1).assign(method=method))
        test = explained.index[explained["part"] == "test"]
        if in_boxes:
            game(method, maps[test], explained.loc[test], "ours")
            if method in (*BASELINES, *SINGLE, *MULTI, *CONTROLS) and method not in paths_to_published:
                game(method, np.abs(maps[test]), explained.loc[test], "published")
        given["segments"] = [given["segments"][k] for k in test]
        labels = table["label"].to_numpy()[rows[test]]
        given["signs"] = published_signs(method, labels) if published_form and method in METHODS_BROCKI else None
        curves.append(curves_of_maps(maps[test], masks[rows[test]] > 0, **given).assign(method=method))
    for method, path in paths_to_published.items() if in_boxes else ():
        game(method, read_array(path), chosen.query("part == 'test'").reset_index(drop=True), "published")
    known = network | {"tolerance_px": tolerance_px}
    write_table(
        paths_to_results["pointing_games"],
        pd.concat(games or [pd.DataFrame(columns=GAMES)], ignore_index=True).assign(**known, truth="box"),
    )
    write_table(paths_to_results["scores"], pd.concat(scores, ignore_index=True).assign(**known))
    write_table(paths_to_results["curves"], pd.concat(curves, ignore_index=True))
    write_table(paths_to_results["agreement"], agreement(compared))


if "snakemake" in globals():
    names = snakemake.wildcards
    with log_to(snakemake.log[0], f"score maps of {names.architecture} on {names.dataset}"):
        score(
            paths={name: path for name, path in snakemake.input.items() if isinstance(path, str)},
            paths_to_maps={Path(path).stem: path for path in snakemake.input.maps},
            paths_to_published={Path(path).stem: path for path in snakemake.input.published},
            paths_to_severity={Path(path).stem: path for path in snakemake.input.severity},
            images=snakemake.params.images,
            network={"architecture": names.architecture, "weights": names.weights, "seed": int(names.seed)},
            tolerance_width=snakemake.params.tolerance_width,
            published_form=snakemake.params.published_form,
            paths_to_results=dict(snakemake.output.items()),
        )
