"""Rank the saliency methods over all data sets, say which can be trusted, and test the claims of the papers."""

import pandas as pd

from xiqa.datasets.base import mask_of
from xiqa.figures.map_scores import plot_trust
from xiqa.files import read_table, write_figure, write_table
from xiqa.logs import log_to
from xiqa.metrics.classification_findings import describe_shortcuts
from xiqa.metrics.maps.beside import ours
from xiqa.metrics.maps.claims import published, test_claims
from xiqa.metrics.maps.leaderboard import leaderboard
from xiqa.metrics.maps.score_tables import in_both_forms
from xiqa.metrics.maps.trust import describe_trust, trust
from xiqa.report.pages import write_findings

VALUES = {"roc_auc": "roc_auc", "region_dice": "region_dice", "fidelity": "fidelity"}


def compare(
    paths_to_scores: dict[str, list[str]],
    paths_to_games: dict[str, list[str]],
    paths_to_costs: dict[str, list[str]],
    paths_to_images: dict[str, str],
    paths_to_comparisons: dict[str, str],
    paths_to_tables: dict[str, dict[str, str]],
    first: dict[str, dict],
    paths: dict[str, str],
) -> None:
    """Write leaderboard, verdicts, claims, published numbers, a page and a figure.

    The leaderboard compares methods on the images that all of them explained, for the first network of each data set.
    """
    scores, data, truth = [], {}, {}
    for dataset, files in paths_to_scores.items():
        images = read_table(paths_to_images[dataset])
        data[dataset] = "simulated" if (images["data"] == "simulated").all() else "real"
        truth[dataset] = mask_of(images)
        rows = pd.concat([read_table(path) for path in files], ignore_index=True).query("part == 'test'")
        rows = rows.merge(images[["image", "patient"]], on="image").assign(dataset=dataset)
        scores.append(in_both_forms(rows))
    scores = pd.concat(scores, ignore_index=True)
    costs = pd.concat(
        [read_table(path).assign(dataset=name) for name, files in paths_to_costs.items() for path in files],
        ignore_index=True,
    )
    networks = scores["dataset"].map(lambda name: tuple(first[name].values()))
    own = pd.Series(list(zip(scores["architecture"], scores["weights"], scores["seed"], strict=True)), scores.index)
    common = scores[(networks == own) & scores["costly"] & (scores["metric"] != "chance")]
    ranks = pd.concat(
        [leaderboard(rows, costs).assign(form=form) for form, rows in common.groupby("form", sort=False)],
        ignore_index=True,
    )
    tables = {
        name: pd.concat(
            [ours(read_table(path)).assign(dataset=dataset) for dataset, path in files.items()], ignore_index=True
        )
        for name, files in paths_to_tables.items()
    }
    judged = scores[scores["architecture"] == scores["dataset"].map(lambda name: first[name]["architecture"])]
    verdicts = trust(judged, costs)
    verdicts = verdicts.assign(mask_of=verdicts["dataset"].map(truth), data=verdicts["dataset"].map(data))
    games = pd.concat(
        [
            read_table(path).assign(dataset=name).merge(read_table(paths_to_images[name])[["image", "patient"]])
            for name, files in paths_to_games.items()
            for path in files
        ],
        ignore_index=True,
    ).query("part == 'test' and scoring == 'published'")
    claims = test_claims(_for_claims(scores, games, tables)).assign(data=lambda rows: rows["dataset"].map(data))
    write_table(paths["leaderboard"], ranks.assign(data=ranks["dataset"].map(data)))
    write_table(paths["trust"], verdicts)
    write_table(paths["claims"], claims)
    write_table(paths["published"], published())
    kinds = set(data.values())
    write_figure(paths["figure"], plot_trust(verdicts, kinds.pop() if len(kinds) == 1 else "mixed"))
    comparison = [read_table(path).assign(dataset=name) for name, path in paths_to_comparisons.items()]
    # A map of a network that a shortcut beats may show how the shortcut works: this comes first.
    findings = [*describe_shortcuts(pd.concat(comparison)), *describe_trust(verdicts, claims)]
    title = "Which saliency methods can be trusted"
    write_findings(title, findings, paths["page"], paths["findings"], picture=paths["figure"])


def _for_claims(scores: pd.DataFrame, games: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables as `test_claims` takes them."""
    given = {}
    for name, rows in (("localisation", scores), ("published", games)):
        rows = rows[rows["metric"].isin(["pointing_game", "pointing_game_smooth"])]
        smoothing = (rows["metric"] == "pointing_game_smooth").astype(int)
        given[name] = rows.assign(metric="pointing_game", smoothing=smoothing)
    for name, metric in VALUES.items():
        rows = tables[name][(tables[name]["metric"] == metric) & (tables[name]["weights"] == "trained")]
        given[name] = rows.rename(columns={"mean": "value"})
    means = tables["difference_of_means"]
    means = means[(means["metric"] == "pointing_game_smooth") & means["largest"].astype(bool)]
    given["difference_of_means"] = means.rename(columns={"difference": "value"})
    return given


if "snakemake" in globals():
    with log_to(snakemake.log[0], "compare methods"):
        compare(**snakemake.params.paths, first=snakemake.params.first, paths=dict(snakemake.output.items()))
