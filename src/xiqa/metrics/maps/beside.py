"""The papers' own numbers beside the results that they belong to: same study, network, state, method and quantity."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.maps.claims import published

STUDIES = {"brain_tumor_jpg": "brain_tumor"}
"""Formats that hold the images of another one."""
STATES = ("trained", "semi_random", "fully_random")
CURVES = {"roc_auc": "roc_heights", "region_dice": "region_dice", "fidelity": "fidelity"}
"""Quantities that Brocki 2022 takes from curves averaged over images -> their kind in averaged.csv."""
OF_NETWORKS = {"accuracy": 1, "auc": 1, "size": 1, "parameters": 1e6, "depth": 1}
"""What papers print about networks -> how many of our units one of theirs has; sizes are in MB."""


CLASSES = {"brain_tumor": 3, "covid_cxr": 3, "lvot": 2, "object_cxr": 2}
"""Number of classes that the papers tell apart; covid_cxr has a fourth, which makes another task."""
GAME = {"form": "absolute", "scoring": "published", "truth": "box"}
"""How Özer scores its maps."""


def ours(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of Pointing Games in our scoring and against masks; those of other variants are left out."""
    return table[(table["scoring"] == "ours") & (table["truth"] == "mask")] if "scoring" in table else table


def with_published(tables: dict[str, pd.DataFrame], study: str) -> dict[str, pd.DataFrame]:
    """Tables with columns `published...` (the paper's numbers, empty beside what the paper did not do) and
    `published_in` (where they stand).

    Args:
        tables: by name, as `score_tables` and the scripts make them. Those that no number belongs to stay as they are.
        study: format of the data set, which names the paper's study; "cdmam" is that of Amanova 2022.
    """
    numbers = published()
    numbers = numbers[numbers["study"].isin([STUDIES.get(study, study), ""])]
    # Sizes of networks stand beside those of the studies of their paper.
    numbers = numbers[numbers["paper"].isin(numbers.loc[numbers["study"] != "", "paper"])]
    return {name: _joined(name, table, numbers) if name in OF_TABLES else table for name, table in tables.items()}


def _pointing_game(numbers: pd.DataFrame) -> pd.DataFrame:
    """Özer, tables 2 (unsmoothed) and 3 to 6; what two tables print is one number."""
    rows = numbers[numbers["row"] != "smoothed"]
    state = rows["row"].where(rows["row"].isin(STATES), "trained")
    smoothing = rows["row"].eq("unsmoothed").map({True: "none", False: "gaussian"})
    rows = rows.assign(weights=state, smoothing=smoothing, **GAME)
    keys = ["architecture", "weights", "method", "smoothing", *GAME]
    return rows.groupby(keys, as_index=False).agg(
        published=("value", "first"),
        published_sd=("sd_or_interval", lambda texts: " or ".join(dict.fromkeys(texts))),
        published_in=("paper", lambda papers: _places(rows.loc[papers.index])),
    )


def _smoothing(numbers: pd.DataFrame) -> pd.DataFrame:
    """Özer, table 2."""
    rows = numbers[numbers["table"] == 2]
    keys = ["architecture", "method"]
    wide = rows.pivot(index=keys, columns="row", values="value").reindex(columns=["unsmoothed", "smoothed"])
    wide = wide.add_prefix("published_").reset_index().assign(weights="trained", **GAME)
    wide["published"] = wide["published_unsmoothed"] - wide["published_smoothed"]
    return wide.assign(published_in=_places(rows))


def _randomisation(numbers: pd.DataFrame) -> pd.DataFrame:
    """Özer, tables 3 and 4: trained less randomised."""
    rows = _pointing_game(numbers).query("smoothing == 'gaussian'")
    by = ["architecture", "method"]
    trained = rows.loc[rows["weights"] == "trained", [*by, "published"]].rename(columns={"published": "trained"})
    others = rows[rows["weights"] != "trained"].merge(trained, on=by).rename(columns={"weights": "compared_with"})
    return others.assign(metric="pointing_game_smooth", published=others["trained"] - others["published"])[
        ["metric", *by, *GAME, "compared_with", "published", "published_in"]
    ]


def _difference_of_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Özer, tables 5 and 6, for the pair of architectures in either order."""
    pairs = rows["architecture"].str.split(" and ", expand=True)
    rows = rows.assign(metric="pointing_game_smooth", published=rows["value"], published_in=_each(rows), **GAME)
    both = [rows.assign(first=pairs[i], second=pairs[1 - i]) for i in (0, 1)]
    return pd.concat(both)[["metric", "method", *GAME, "first", "second", "published", "published_in"]]


def _averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """Brocki 2022, tables 1 to 3: F, area and maximum of curves that are averaged over images."""
    rows = rows.assign(kind=rows["metric"].map(CURVES), published=rows["value"], published_in=_each(rows))
    form = rows["row"].where(rows["row"] == "absolute", "published")  # "Original", with the signs of the paper
    rows = rows.assign(form=form, weights="trained")
    return rows[["architecture", "weights", "method", "form", "kind", "published", "published_in"]]


def _classifier(rows: pd.DataFrame) -> pd.DataFrame:
    """Brima 2023, table 3, and Özer, section 4.1: trained networks, each beside its first seed."""
    wide = rows.assign(value=rows["value"] * rows["metric"].map(OF_NETWORKS))
    wide = wide.pivot(index="architecture", columns="metric", values="value").dropna(axis="columns", how="all")
    wide = wide.rename(columns={"size": "size_mb"}).add_prefix("published_").reset_index()
    classes = CLASSES[rows["study"].max()]
    return wide.assign(weights="trained", repeat=0, classes=classes, published_in=_places(rows))


def _coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Amanova 2022, section 2.2."""
    rows = rows.rename(columns={"row": "group"})
    return rows.assign(published_coverage_95=rows["value"], published_in=_each(rows))[
        ["group", "published_coverage_95", "published_in"]
    ]


OF_TABLES = {
    "pointing_game": (_pointing_game, {"pointing_game"}),
    "smoothing": (_smoothing, {"pointing_game"}),
    "randomisation": (_randomisation, {"pointing_game"}),
    "difference_of_means": (_difference_of_means, {"difference_of_means"}),
    "averaged": (_averaged, set(CURVES)),
    "classifier": (_classifier, set(OF_NETWORKS)),
    "prediction_scores": (_coverage, {"coverage_95"}),
}
"""Tables -> the metrics that belong to them, laid out with the columns that tell which row."""


def _joined(name: str, table: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    laid_out, metrics = OF_TABLES[name]
    numbers = numbers[numbers["metric"].isin(metrics)]
    if numbers.empty:
        return table.assign(published=np.nan, published_in=np.nan)
    numbers = laid_out(numbers)
    keys = [name for name in numbers if not name.startswith("published")]
    if "repeat" in keys:
        table = table.assign(repeat=table.groupby(["architecture", "weights"])["seed"].rank("dense") - 1)
    return table.merge(numbers, on=keys, how="left", validate="many_to_one").drop(columns="repeat", errors="ignore")


def _each(rows: pd.DataFrame) -> pd.Series:
    """Where each number stands."""
    section = "section " + rows["section"]
    return rows["paper"] + ", " + section.where(rows["section"] != "", "table " + rows["table"].astype(str))


def _places(rows: pd.DataFrame) -> str:
    """Where several numbers of one paper stand: `Özer, tables 3 and 5`."""
    places = list(dict.fromkeys(_each(rows)))
    if len(places) < 2:
        return "".join(places)
    return places[0].replace(" table ", " tables ") + "".join(f" and {place.split()[-1]}" for place in places[1:])
