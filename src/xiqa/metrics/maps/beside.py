"""The papers' own numbers beside ours."""

from __future__ import annotations

import pandas as pd

from xiqa.metrics.maps.claims import published

ADDED = ["published", "published_in"]
STUDIES = {"brain_tumor_jpg": "brain_tumor"}
"""Formats that hold the images of another one."""


def with_published(tables: dict[str, pd.DataFrame], study: str) -> dict[str, pd.DataFrame]:
    """Tables with the columns `published` (the paper's number, empty without one) and `published_in`.

    Args:
        tables: by name, as `score_tables` makes them.
        study: format of the data set, which names the paper's study.
    """
    numbers = published()
    numbers = numbers[numbers["study"] == STUDIES.get(study, study)]
    place = "paper " + numbers["paper"].astype(str) + ", table " + numbers["table"].astype(str)
    numbers = numbers.assign(published=numbers["value"], published_in=place)
    return {name: _joined(table, _numbers_of(name, numbers)) for name, table in tables.items()}


def _numbers_of(name: str, numbers: pd.DataFrame) -> pd.DataFrame:
    """The numbers that belong to a table, with the columns that tell which row of it they belong to."""
    of_001 = numbers[(numbers["paper"] == "001") & (numbers["metric"] == "pointing_game")].assign(form="absolute")
    by_state = of_001[of_001["row"].isin(["trained", "semi_random", "fully_random"])].rename(columns={"row": "weights"})
    if name == "pointing_game":
        plain = of_001[of_001["row"] == "unsmoothed"].assign(weights="trained", smoothing="none")
        # The paper smooths all maps but those of table 2 that show what smoothing does.
        return pd.concat([plain, by_state.assign(smoothing="gaussian")])[
            ["method", "weights", "form", "smoothing", *ADDED]
        ]
    if name == "smoothing":
        plain = of_001[of_001["row"] == "unsmoothed"].set_index("method")["value"]
        smoothed = of_001[of_001["row"] == "smoothed"]
        difference = smoothed["method"].map(plain).astype(float) - smoothed["value"]
        return smoothed.assign(published=difference)[["method", "form", *ADDED]]
    if name == "randomisation":
        trained = by_state[by_state["weights"] == "trained"].set_index("method")["value"]
        others = by_state[by_state["weights"] != "trained"].rename(columns={"weights": "compared_with"})
        difference = others["method"].map(trained).astype(float) - others["value"]
        rows = others.assign(published=difference, metric="pointing_game_smooth")
        return rows[["metric", "method", "form", "compared_with", *ADDED]]
    if name == "difference_of_means":
        rows = numbers[numbers["metric"] == name].assign(form="absolute", metric="pointing_game_smooth")
        return rows[["metric", "method", "form", *ADDED]]
    if name in ("roc_auc", "region_dice", "fidelity"):
        return (
            numbers[numbers["metric"] == name]
            .rename(columns={"row": "form"})[["metric", "method", "form", *ADDED]]
            .assign(weights="trained")
        )
    return pd.DataFrame(columns=ADDED)


def _joined(table: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in numbers if name not in ADDED]
    if not keys:
        return table
    return table.merge(numbers, on=keys, how="left", validate="many_to_one")
