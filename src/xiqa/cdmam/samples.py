"""Sampled images of several settings, as the stages after sampling read them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.files import read_array, read_table


def read_samples(
    paths_to_images: list[str], paths_to_tables: list[str], part: str, steps: tuple[str, ...] | None = None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Read the sampled images of one part (train or test), and of some training steps only.

    Args:
        paths_to_images: one (n, K, s, s) array of counts per setting.
        paths_to_tables: one table per setting, one row per image, in the same order.
        part: `train` or `test`.
        steps: keep the images of these steps; None keeps all.

    Returns:
        images (n, K, s, s) in memory and their table, with a column `group`: the test group that an image counts for.
        Settings may differ in K: the smallest is kept of each.
    """
    arrays, tables = [], []
    for path_to_images, path_to_table in zip(paths_to_images, paths_to_tables, strict=True):
        table = read_table(path_to_table)
        chosen = (table["part"] == part).to_numpy()
        if steps is not None:
            chosen = chosen & table["step"].isin(steps).to_numpy()
        if chosen.any():
            arrays.append(np.asarray(read_array(path_to_images)[chosen]))
            tables.append(table[chosen])
    if not arrays:
        size = read_array(paths_to_images[0]).shape[-1]
        return np.zeros((0, 1, size, size), np.uint16), read_table(paths_to_tables[0]).iloc[:0].assign(group="")
    samplings = min(array.shape[1] for array in arrays)
    table = pd.concat(tables, ignore_index=True)
    table["group"] = np.where(table["data"] == "recorded", "recorded", table["setting"])
    return np.concatenate([array[:, :samplings] for array in arrays]), table


def first_of_each_group(table: pd.DataFrame, number: int) -> np.ndarray:
    """Positions of the first `number` images of each group, in the order of the table."""
    return np.flatnonzero(table.groupby("group", sort=False).cumcount() < number)
