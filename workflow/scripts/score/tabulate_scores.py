"""Put the scores of all maps of a data set into the tables of the papers."""

import pandas as pd

from xiqa.datasets.base import mask_of
from xiqa.files import read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.maps import score_tables
from xiqa.metrics.maps.beside import with_published
from xiqa.registry import scores as registered

COMPARED = ("pointing_game", "pointing_game_smooth", "roc_auc")
LOCALISATION = (
    "pointing_game", "smoothing", "randomisation", "roc_auc", "region_dice", "relevance", "averaged", "dose_response",
)  # fmt: skip
"""Tables of scores against the masks; they say what the masks show."""
METRICS_OF = {
    "roc_auc": ["roc_auc", "roc_auc_within"],
    "region_dice": ["region_dice"],
    "relevance": [name for name, score in registered().items() if score.table == "relevance"],
    "fidelity": ["fidelity", "insertion", "deletion", "road"],
}


def tabulate(
    paths_to_scores: list[str],
    paths_to_games: list[str],
    paths_to_cascades: list[str],
    paths_of_first: dict[str, str],
    path_to_images: str,
    study: str,
    first: dict[str, str],
    paths: dict[str, str],
) -> None:
    """Write the tables, the papers' numbers beside ours; each says whether its images are simulated or real."""
    images = read_table(path_to_images)
    scores = pd.concat([read_table(path) for path in paths_to_scores], ignore_index=True)
    told = images.reindex(columns=["image", "patient", "label_name", "severity"])
    scores = score_tables.in_both_forms(scores.merge(told, on="image"))
    test = scores[scores["part"] == "test"]
    games = pd.concat([read_table(path) for path in paths_to_games], ignore_index=True).merge(told, on="image")
    tables = _of_pointing_games(test, games[games["part"] == "test"])
    tables["dose_response"] = score_tables.dose_response_table(scores)
    tables["agreement"] = read_table(paths_of_first["agreement"])
    masking = read_table(paths_of_first["masking"]).drop(columns="area").rename(columns={"area_over_classes": "area"})
    areas = pd.concat([read_table(paths_of_first["curves"]), masking.assign(kind="fidelity")])
    areas = areas[["method", "form", "kind", "area", "n"]].drop_duplicates(ignore_index=True)
    others = ["signed", *(["published"] if (areas["form"] == "published").any() else [])]
    tables["averaged"] = score_tables.in_both_forms(areas.assign(**first), others)
    for name, metrics in METRICS_OF.items():
        parts = [score_tables.methods_table(test, metric).assign(metric=metric) for metric in metrics]
        tables[name] = pd.concat(parts, ignore_index=True)
    cascades = [read_table(path) for path in paths_to_cascades]
    if cascades:
        cascade = pd.concat(cascades, ignore_index=True).merge(images[["image", "patient"]], on="image")
        tables["cascade"] = score_tables.cascade_table(cascade)
    data = "simulated" if (images["data"] == "simulated").all() else "real"
    tables = with_published(tables, study)
    for name in LOCALISATION:
        tables[name] = tables[name].assign(mask_of=mask_of(images))
    for name, path in paths.items():
        write_table(path, tables[name].assign(data=data))


def _of_pointing_games(test: pd.DataFrame, games: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of Özer: in our scoring against masks and boxes, in the paper's against boxes."""
    groups = [("ours", "mask", test, COMPARED)]
    for (scoring, truth), rows in games.groupby(["scoring", "truth"], sort=False):
        rows = score_tables.in_both_forms(rows) if scoring == "ours" else rows
        groups.append((scoring, truth, rows, COMPARED[:2]))
    parts = {"pointing_game": [], "smoothing": [], "randomisation": [], "difference_of_means": []}
    for scoring, truth, rows, compared in groups:
        tables = {
            "pointing_game": score_tables.pointing_game_table(rows),
            "smoothing": score_tables.smoothing_table(rows),
            "randomisation": score_tables.randomisation_table(rows, compared),
            "difference_of_means": score_tables.difference_of_means_table(rows, compared),
        }
        for name, table in tables.items():
            parts[name].append(table.assign(scoring=scoring, truth=truth))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"tabulate scores of {snakemake.wildcards.dataset}"):
        tabulate(
            paths_to_scores=list(snakemake.input.scores),
            paths_to_games=list(snakemake.input.pointing_games),
            paths_to_cascades=list(snakemake.input.cascades),
            paths_of_first={name: snakemake.input[name] for name in ("agreement", "curves", "masking")},
            path_to_images=snakemake.input.table,
            study=snakemake.params.study,
            first=snakemake.params.first,
            paths=dict(snakemake.output.items()),
        )
