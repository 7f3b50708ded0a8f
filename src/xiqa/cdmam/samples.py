"""Sampled images of several settings, as the stages after sampling read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xiqa.files import read_array, read_table

if TYPE_CHECKING:
    import pandas as pd


class StackedImages:
    """Images of several memory maps as one array (n, K, s, s); an image is loaded when it is asked for.

    It offers what training needs of an array: `shape`, `ndim`, `dtype`, length, iteration, and `stack[image]` or
    `stack[image, sampling]`. A training set larger than the memory can so be used as it lies on disk.

    Args:
        parts: (memory map (m, K', s, s), positions in it) pairs; the smallest K' is kept of each.
    """

    ndim = 4

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray]]):
        self._places = [(array, position) for array, positions in parts for position in positions]
        arrays = [array for array, _ in parts]
        samplings = min(array.shape[1] for array in arrays)
        self.shape = (len(self._places), samplings, *arrays[0].shape[2:])
        self.dtype = np.result_type(*arrays)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: int | tuple[int, int]) -> np.ndarray:
        index, sampling = key if isinstance(key, tuple) else (key, slice(self.shape[1]))
        array, position = self._places[index]
        return np.asarray(array[position, sampling], self.dtype)


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
    stack, table = map_samples(paths_to_images, paths_to_tables, part, steps)
    return np.stack(list(stack)) if len(stack) else np.zeros(stack.shape, stack.dtype), table


def map_samples(
    paths_to_images: list[str], paths_to_tables: list[str], part: str, steps: tuple[str, ...] | None = None
) -> tuple[StackedImages, pd.DataFrame]:
    """The same as `read_samples`, with the images left on disk."""
    import pandas as pd  # not in each start of Snakemake, which shares images out

    parts, tables = [], []
    for path_to_images, path_to_table in zip(paths_to_images, paths_to_tables, strict=True):
        table = read_table(path_to_table)
        chosen = (table["part"] == part).to_numpy()
        if steps is not None:
            chosen = chosen & table["step"].isin(steps).to_numpy()
        if chosen.any():
            parts.append((read_array(path_to_images), np.flatnonzero(chosen)))
            tables.append(table[chosen])
    if not parts:
        parts, tables = [(read_array(paths_to_images[0]), np.zeros(0, int))], [read_table(paths_to_tables[0]).iloc[:0]]
    table = pd.concat(tables, ignore_index=True)
    table["group"] = np.where(table["data"] == "recorded", "recorded", table["setting"])
    return StackedImages(parts), table


def parts_of_recordings(number: int, split: str | dict[str, int]) -> list[str]:
    """The part (train or test) of each of `number` recordings of one setting, in the order of their files.

    Args:
        number: how many recordings there are.
        split: train or test for all of them, by_image for every second one each, or how many of each part, which are
            spread evenly: {"train": 48, "test": 24} tests one of three.

    Raises:
        ValueError: the sizes are not those of the folder.
    """
    if isinstance(split, str):
        split = {"train": (number + 1) // 2, "test": number // 2} if split == "by_image" else {split: number}
    train, test = split.get("train", 0), split.get("test", 0)
    if train + test != number:
        raise ValueError(
            f"cdmam.recordings_split: found {number} recordings in the folder, expected {train} + {test} = "
            f"{train + test} for training and test; change the sizes, or leave them out"
        )
    return ["train" if place * train % number < train else "test" for place in range(number)]


def even_shares(total: int, parts: int) -> list[int]:
    """`total` shared evenly by `parts`: whole numbers whose sum is `total`, the first ones larger by 1 at most."""
    return [total // parts + (place < total % parts) for place in range(parts)]


def first_of_each_group(table: pd.DataFrame, number: int) -> np.ndarray:
    """Positions of the first `number` images of each group, in the order of the table."""
    return np.flatnonzero(table.groupby("group", sort=False).cumcount() < number)
