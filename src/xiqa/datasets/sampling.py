"""Downsampling by random rows and columns (Amanova 2022, section 2.3.2), and its inverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xiqa.seeds import stream_seed


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


def places_of(image: str, number: int, side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (size,) of one sampling of a square image, which its id and the number tell alone.

    Args:
        image: id of the image.
        number: of the sampling, from 0.
        side: rows and columns of the image.
        size: rows and columns that are kept.
    """
    return draw_indices((side, side), size, np.random.default_rng(stream_seed(0, "sampling", image, number)))


class SampledImages:
    """One sampling of each of many images, like an array (n, size, size): drawn when it is read.

    Args:
        originals: (n, side, side), usually a memory map.
        names: (n,) ids of the images.
        number: of the sampling.
        size: rows and columns of a sampling.
    """

    def __init__(self, originals: np.ndarray, names: Sequence[str], number: int, size: int):
        self.originals, self.names, self.number = originals, list(names), number
        self.shape, self.dtype, self.ndim = (len(originals), size, size), originals.dtype, 3

    def __len__(self) -> int:
        return len(self.originals)

    def __getitem__(self, rows) -> np.ndarray:
        """(size, size) of one row, (b, size, size) of several."""
        if np.ndim(rows):
            return np.stack([self[row] for row in rows])
        image = self.originals[rows]
        return sample(image, *places_of(self.names[rows], self.number, image.shape[0], self.shape[1]))
