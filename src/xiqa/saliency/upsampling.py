"""Upsampling of saliency maps to the resolution of the original image (Amanova 2022, algorithm 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import lcm
from pathlib import Path
from typing import Literal

import numpy as np

from xiqa import files
from xiqa.datasets.sampling import draw_indices, sample, scatter_add

Form = Literal["published", "visit_normalised"]
SHARD_FILE = "shard.json"
# First words of the random streams: independent draws, and cycles of draws without replacement.
_INDEPENDENT, _CYCLE = 1, 2


@dataclass
class Shard:
    """What a consecutive range of draws added up to, in the resolution of the original image.

    Attributes:
        start, stop: draw numbers start, ..., stop - 1.
        seed, size, without_replacement: what the draws were made from.
        total: (h, w) float32, sum of the map values that fell on each pixel.
        squares: (h, w) float32, sum of their squares.
        visits: (h, w) int32, how many draws visited each pixel.
        member_totals: (M, h, w) float32, `total` of each member of the ensemble, or None.
    """

    start: int
    stop: int
    seed: int
    size: int
    without_replacement: bool
    total: np.ndarray
    squares: np.ndarray
    visits: np.ndarray
    member_totals: np.ndarray | None = None

    @property
    def draws(self) -> int:
        """Number of draws."""
        return self.stop - self.start


# Draws


def draw(
    shape: tuple[int, int], size: int, seed: int, number: int, without_replacement: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of one draw, a pure function of the arguments.

    Independent draws are those of the paper. Without replacement, draws come in cycles of A × B: a random
    permutation of the rows is cut into A blocks of `size`, one of the columns into B blocks, and each block of rows
    meets each block of columns once, so that every pixel is visited once per cycle. Where the height is no multiple
    of `size`, the last block is completed with rows of another block, and likewise the columns; whole blocks are
    assigned as donors such that no pixel is visited more than twice per cycle (guaranteed where the image is at least
    three times `size` in both directions, or where one direction needs no completion). Each single draw is distributed
    as an independent one: `size` distinct rows and columns, all subsets equally likely.

    Args:
        shape: (height, width) of the original image in pixels.
        size: rows and columns per draw.
        seed: of all draws.
        number: of this draw, from 0.
        without_replacement: draw without replacement across draws.

    Returns:
        rows (size,) and columns (size,), int32, strictly rising.

    Raises:
        ValueError: the image is smaller than `size`.
    """
    if not without_replacement:
        return draw_indices(shape, size, np.random.default_rng([_INDEPENDENT, seed, number]))
    if min(shape) < size:
        raise ValueError(f"image of {shape[0]} × {shape[1]} pixels cannot give {size} rows and columns; lower size")
    cycle, position = divmod(number, draws_per_cycle(shape, size))
    row_order, column_order = _orders(tuple(shape), seed, cycle)
    n_rows, n_columns = -(-shape[0] // size), -(-shape[1] // size)
    # Along the diagonals, so that a broken cycle, too, spreads its draws over all rows and all columns.
    row_block = position % n_rows
    column_block = (position + position // lcm(n_rows, n_columns)) % n_columns
    whole_rows, whole_columns = shape[0] // size, shape[1] // size
    last = row_block == whole_rows and column_block == whole_columns
    row_donor = 0 if last else column_block % whole_rows
    column_donor = 2 % whole_columns if last else (row_block + 1) % whole_columns
    return (
        _block(row_order, size, row_block, row_donor),
        _block(column_order, size, column_block, column_donor),
    )


def draws_per_cycle(shape: tuple[int, int], size: int) -> int:
    """Draws without replacement after which every pixel was visited."""
    return -(-shape[0] // size) * -(-shape[1] // size)


def shard_ranges(draws: int, shards: int) -> list[range]:
    """Split the draw numbers 0, ..., draws - 1 into consecutive ranges whose lengths differ by at most one."""
    edges = [draws * index // shards for index in range(shards + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


@lru_cache(maxsize=8)
def _orders(shape: tuple[int, int], seed: int, cycle: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([_CYCLE, seed, cycle])
    return rng.permutation(shape[0]), rng.permutation(shape[1])


def _block(order: np.ndarray, size: int, block: int, donor: int) -> np.ndarray:
    """One block of a permutation, sorted; a short last block is completed from the donor block."""
    taken = order[block * size : (block + 1) * size]
    completion = order[donor * size : donor * size + size - len(taken)]
    return np.sort(np.concatenate([taken, completion])).astype(np.int32)


def count_visits(
    shape: tuple[int, int], size: int, draws: int, seed: int, without_replacement: bool = False
) -> np.ndarray:
    """How many of the draws 0, ..., draws - 1 visit each pixel, (h, w), in the smallest unsigned type that holds them.

    They are the same for every method, since none plays a part in a draw. Arguments as of `draw`.
    """
    visits = np.zeros(shape, np.min_scalar_type(draws))
    for number in range(draws):
        scatter_add(visits, 1, *draw(shape, size, seed, number, without_replacement))
    return visits.astype(np.min_scalar_type(visits.max(initial=0)))


# Streaming sums


def upsample(
    original: np.ndarray,
    explain: Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, np.ndarray]],
    size: int,
    draws: range,
    seed: int,
    batch: int = 32,
    without_replacement: bool = False,
    normalise: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Shard:
    """Explain sampled images of one original and add the maps up where their pixels came from.

    Memory besides the original: 12 bytes per pixel, 4 more per pixel and member, and one batch of sampled images.

    Args:
        original: (h, w), counts or normalised.
        explain: sampled images (n, size, size) -> maps (n, size, size), or (maps, member maps (M, n, size, size)).
        size: rows and columns of a sampled image.
        draws: consecutive draw numbers; disjoint ranges give the shards of one upsampling.
        seed: of the draws.
        batch: sampled images explained at once.
        without_replacement: see `draw`.
        normalise: counts -> network input, applied to each batch; None where `original` is normalised.
        progress: called with (draws done, draws of this range) after each batch.

    Returns:
        The sums over `draws`.

    Raises:
        ValueError: `draws` is empty or not consecutive, or `explain` returned another shape.

    Reference: Amanova et al. 2022, algorithm 2.
    """
    if draws.step != 1 or len(draws) == 0:
        raise ValueError(f"draws: found {draws}, expected a range of one or more consecutive numbers")
    shape = original.shape
    shard = Shard(
        draws.start, draws.stop, seed, size, without_replacement,
        np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int32),
    )  # fmt: skip
    for start in range(draws.start, draws.stop, batch):
        places = [
            draw(shape, size, seed, number, without_replacement)
            for number in range(start, min(start + batch, draws.stop))
        ]
        x = np.stack([sample(original, *place) for place in places])
        result = explain(x if normalise is None else normalise(x))
        maps, member_maps = result if isinstance(result, tuple) else (result, None)
        if maps.shape != x.shape:
            raise ValueError(f"explain: found maps of shape {maps.shape}, expected {x.shape}")
        if member_maps is not None and shard.member_totals is None:
            shard.member_totals = np.zeros((len(member_maps), *shape), np.float32)
        for index, place in enumerate(places):
            scatter_add(shard.total, maps[index], *place)
            scatter_add(shard.squares, np.square(maps[index], dtype=np.float64), *place)
            scatter_add(shard.visits, 1, *place)
            if member_maps is not None and shard.member_totals is not None:
                for total, member_map in zip(shard.member_totals, member_maps, strict=True):
                    scatter_add(total, member_map[index], *place)
        if progress is not None:
            progress(start - draws.start + len(places), len(draws))
    return shard


def merge(shards: Iterable[Shard]) -> Shard:
    """Add up shards of one upsampling, in the order of their draws; the order makes the sum reproducible.

    Args:
        shards: one after the other; an iterator keeps only one of them in memory beside the sum.

    Raises:
        ValueError: no shards, or they do not belong together or leave out draws.
    """
    merged = None
    for shard in shards:
        if merged is None:
            members = None if shard.member_totals is None else np.array(shard.member_totals)
            sums = (np.array(shard.total), np.array(shard.squares), np.array(shard.visits), members)
            merged = Shard(shard.start, shard.stop, shard.seed, shard.size, shard.without_replacement, *sums)
            continue
        if shard.start != merged.stop:
            raise ValueError(f"shards: found draws from {shard.start}, expected from {merged.stop}; give all, in order")
        if _identity(shard) != _identity(merged):
            raise ValueError(f"shards: found {_identity(shard)}, expected {_identity(merged)}: of another upsampling")
        merged.stop = shard.stop
        merged.total += shard.total
        merged.squares += shard.squares
        merged.visits += shard.visits
        if merged.member_totals is not None and shard.member_totals is not None:
            for total, addend in zip(merged.member_totals, shard.member_totals, strict=True):
                total += addend
    if merged is None:
        raise ValueError("shards: found none, expected at least one")
    return merged


def _identity(shard: Shard) -> dict:
    """What shards of one upsampling share."""
    return {
        "seed": shard.seed,
        "size": shard.size,
        "without_replacement": shard.without_replacement,
        "shape": list(shard.total.shape),
        "members": 0 if shard.member_totals is None else len(shard.member_totals),
    }


# Results


def upsampled_map(shard: Shard, form: Form = "visit_normalised") -> np.ndarray:
    """The upsampled map, (h, w) float32.

    Args:
        shard: sums over all draws.
        form: `published`, the sum over draws divided by their number N, as printed: a pixel that is visited in 0.74 %
            of the draws keeps 1/136 of its value. `visit_normalised`, the sum divided by the visits of the pixel: the
            mean map value, comparable with a map of a sampled image; 0 where a pixel was never visited.
    """
    return _divide_form(shard.total, shard, form)


def standard_error(shard: Shard, form: Form = "visit_normalised") -> np.ndarray:
    """Standard error of the upsampled map over draws, (h, w) float32, NaN where it cannot be estimated.

    Visit-normalised: the sample standard deviation of the values on a pixel divided by the root of the visits; needs
    two visits. Published: with independent draws, the same over all N draws with zeros where the pixel was not
    visited; without replacement the visits are given by design, which leaves √visits · standard deviation / N.
    """
    if form == "published" and not shard.without_replacement:
        n = shard.draws
        if n < 2:
            return np.full(shard.total.shape, np.nan, np.float32)
        excess = shard.squares - np.square(shard.total, dtype=np.float64) / n
        return np.sqrt(np.maximum(excess, 0) / (n * (n - 1.0))).astype(np.float32)
    factor = 1 / np.maximum(shard.visits, 1) if form == "visit_normalised" else shard.visits / shard.draws**2
    with np.errstate(invalid="ignore"):
        return np.sqrt(_variance(shard) * factor).astype(np.float32)


def disagreement(shard: Shard, form: Form = "visit_normalised") -> np.ndarray:
    """Standard deviation over the ensemble's members of their upsampled maps (population form), (h, w) float32.

    Raises:
        ValueError: the maps of the members were not collected.
    """
    if shard.member_totals is None:
        raise ValueError("disagreement: found no member maps, expected an explain function called with members=True")
    mean = np.zeros(shard.total.shape)
    squares = np.zeros(shard.total.shape)
    for index, total in enumerate(shard.member_totals, 1):
        # Welford's update: one member in memory at a time, and no difference of large squares.
        deviation = total - mean
        mean += deviation / index
        squares += deviation * (total - mean)
    return _divide_form(np.sqrt(squares / len(shard.member_totals)), shard, form)


def mean_visits(shard: Shard) -> float:
    """Visits per pixel, mean over the image."""
    return float(shard.visits.mean())


def relative_standard_error(shard: Shard, form: Form = "visit_normalised") -> float:
    """Root mean square of the standard error over that of the map, over all pixels; 1 is nothing but noise.

    A pixel with a single visit takes the variance pooled over the pixels with more. A pixel without a visit counts with
    an error as large as the map is elsewhere: it was reported as 0.

    Returns:
        The ratio; NaN where the variance cannot be estimated (no pixel has two visits) or the map is zero.
    """
    visited = shard.visits > 0
    values = np.square(upsampled_map(shard, form)[visited], dtype=np.float64)
    signal = values.mean() if values.size else 0.0
    if signal == 0 or shard.visits.max() < 2:
        return float("nan")
    squared = np.square(standard_error(shard, form), dtype=np.float64)
    if form == "visit_normalised" or shard.without_replacement:
        variance = _variance(shard)
        weight = np.maximum(shard.visits - 1.0, 0)
        pooled = np.nansum(variance * weight) / weight.sum()
        factor = 1.0 if form == "visit_normalised" else 1 / shard.draws**2
        squared[shard.visits == 1] = pooled * factor
        squared[~visited] = signal
    return float(np.sqrt(squared.mean() / signal))


def _variance(shard: Shard) -> np.ndarray:
    """Sample variance of the values on each pixel, float64, NaN below two visits."""
    visits = shard.visits.astype(np.float64)
    excess = shard.squares - np.square(shard.total, dtype=np.float64) / np.maximum(visits, 1)
    return np.maximum(excess, 0) / np.where(visits > 1, visits - 1, np.nan)


def _divide_form(total: np.ndarray, shard: Shard, form: Form) -> np.ndarray:
    if form not in ("published", "visit_normalised"):
        raise ValueError(f"form: found '{form}', expected published or visit_normalised")
    divisor = shard.draws if form == "published" else np.maximum(shard.visits, 1)
    return (total / divisor).astype(np.float32)


# Files


def write_upsampling_shard(folder: str | os.PathLike, shard: Shard) -> None:
    """Write a shard as a folder: total.npy, squares.npy, visits.npy, member_totals.npy (if any), shard.json (last)."""
    folder = Path(folder)
    files.write_array(folder / "total.npy", shard.total)
    files.write_array(folder / "squares.npy", shard.squares)
    files.write_array(folder / "visits.npy", shard.visits)
    if shard.member_totals is not None:
        files.write_array(folder / "member_totals.npy", shard.member_totals)
    files.write_json(folder / SHARD_FILE, {"start": shard.start, "stop": shard.stop, **_identity(shard)})


def read_upsampling_shard(folder: str | os.PathLike) -> Shard:
    """Open a shard that `write_upsampling_shard` wrote; its arrays are read-only memory maps.

    Raises:
        ValueError: the folder holds arrays of another shape than it says.
    """
    folder = Path(folder)
    meta = files.read_json(folder / SHARD_FILE)
    total, squares, visits = (files.read_array(folder / f"{name}.npy") for name in ("total", "squares", "visits"))
    members = files.read_array(folder / "member_totals.npy") if meta["members"] else None
    shard = Shard(
        meta["start"], meta["stop"], meta["seed"], meta["size"], meta["without_replacement"],
        total, squares, visits, members,
    )  # fmt: skip
    if _identity(shard) != {key: meta[key] for key in _identity(shard)}:
        raise ValueError(f"{folder}: found arrays {_identity(shard)}, expected {meta}; upsample again")
    return shard


def merge_upsampling_shards(folders: Sequence[str | os.PathLike]) -> Shard:
    """Read and add up the shards of one upsampling, given in the order of their draws."""
    return merge(read_upsampling_shard(folder) for folder in folders)
