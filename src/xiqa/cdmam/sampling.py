"""Downsampling by random rows and columns (Amanova 2022, section 2.3.2), and its inverse."""

from __future__ import annotations

import numpy as np


def draw_indices(shape: tuple[int, int], size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `size` distinct rows and `size` distinct columns, each sorted.

    Args:
        shape: (height, width) of the original image in pixels.
        size: number of rows and of columns to keep.
        rng: source of randomness; equal states give equal indices.

    Returns:
        rows (size,) and columns (size,), int32, strictly rising.

    Raises:
        ValueError: the image has fewer rows or columns than `size`.

    Reference: Amanova et al. 2022, section 2.3.2: randomly selected pixels, original order kept.
    """
    height, width = shape
    if min(height, width) < size:
        raise ValueError(f"image of {height} × {width} pixels cannot give {size} rows and columns; lower sampling.size")
    rows = np.sort(rng.choice(height, size, replace=False)).astype(np.int32)
    columns = np.sort(rng.choice(width, size, replace=False)).astype(np.int32)
    return rows, columns


def sample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Keep the crossings of `rows` and `columns` of an (h, w) image: (len(rows), len(columns))."""
    return image[rows[:, None], columns[None, :]]


def scatter_add(canvas: np.ndarray, values: np.ndarray | int, rows: np.ndarray, columns: np.ndarray) -> None:
    """Add `values` (len(rows), len(columns)) or a number in place onto `canvas` (h, w) where they were sampled from."""
    canvas[rows[:, None], columns[None, :]] += values
