"""Cells of the phantom cut out at full resolution, where a registration says that the discs lie."""

from __future__ import annotations

import numpy as np

from xiqa.cdmam.phantom import CELL_PRESENT, CORNER_CODES, CORNER_STEPS
from xiqa.cdmam.reader import Registration

PLACES = 2
"""Places along each side of a cell in the mosaic: centre and one empty corner above another one and the true corner."""


def mosaic_size(patch_px: int) -> int:
    """Rows and columns of the mosaic: two places of `patch_px` pixels for each of 16 cells."""
    return len(CELL_PRESENT) * PLACES * patch_px


def mosaic_pixels(registration: Registration, patch_px: int, shape: tuple[int, int]) -> np.ndarray:
    """Which pixel of an image lies where in the mosaic of its cells.

    Cell (i, j) of the matrix has the block (i, j) of the mosaic: its central disc upper left, its eccentric disc lower
    right, and the two corners beside the eccentric disc, which are empty. Each place is a square of whole pixels about
    the place that the registration gives, wherever the discs lie against the grid, turned as the phantom lies in the
    image: an image in any other of the eight orientations has the same mosaic.

    Args:
        registration: where the phantom lies, standing on its corner.
        patch_px: side of a square in pixels, even.
        shape: (h, w) of the image.

    Returns:
        (s, s) int64 indices into the flat image, s = `mosaic_size(patch_px)`; -1 where there is no cell. A square that
        reaches beyond the image repeats its edge.

    Raises:
        ValueError: `patch_px` is odd.
    """
    if patch_px < 2 or patch_px % 2:
        raise ValueError(f"patch_px: found {patch_px}, expected an even number of pixels")
    first, smaller, thicker = np.asarray(registration.disc_frame_px, float)
    # The matrix stands on its corner: sum and difference of its steps lie along the sides of the image.
    axes = [np.rint(step / np.abs(step).max()) for step in (smaller + thicker, smaller - thicker)]
    i, j = np.indices(CELL_PRESENT.shape)[:, :, :, None]
    centres = first + i * smaller + j * thicker
    codes = CORNER_CODES[CELL_PRESENT]
    turned = {(0, 0): np.zeros_like(codes), (0, 1): codes % 4 + 1, (1, 0): (codes + 2) % 4 + 1, (1, 1): codes}
    offsets = np.arange(patch_px) - (patch_px - 1) / 2
    within = offsets[:, None, None] * axes[0] + offsets[None, :, None] * axes[1]
    pixels = np.full((len(CELL_PRESENT), PLACES, patch_px, len(CELL_PRESENT), PLACES, patch_px), -1)
    for (a, b), chosen in turned.items():
        steps = CORNER_STEPS[chosen] * registration.eccentric_offset
        places = centres[CELL_PRESENT] + steps[:, :1] * smaller + steps[:, 1:] * thicker
        # An even square is centred between pixels.
        x, y = np.moveaxis(np.floor(places)[:, None, None] + 0.5 + within, -1, 0)
        column, row = (np.clip(np.rint(v).astype(int), 0, n - 1) for v, n in ((x, shape[1]), (y, shape[0])))
        block = np.full((*CELL_PRESENT.shape, patch_px, patch_px), -1)
        block[CELL_PRESENT] = row * shape[1] + column
        pixels[:, a, :, :, b] = block.transpose(0, 2, 1, 3)
    return pixels.reshape(2 * [mosaic_size(patch_px)])


def cut(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The mosaic (s, s) of an image (h, w), in its dtype; 0 where there is no cell. `pixels` from `mosaic_pixels`."""
    return np.where(pixels < 0, 0, np.ravel(image)[pixels]).astype(image.dtype)


def scatter_back(values: np.ndarray, pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map of the mosaic (s, s) on the image that it was cut from, (h, w) float64; 0 where the mosaic has nothing."""
    seen = pixels >= 0
    return np.bincount(pixels[seen], values[seen], shape[0] * shape[1]).reshape(shape)
