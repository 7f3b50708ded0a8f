"""One rule for the orientation of every image whose file says how it lies in the patient.

Of a slice (h, w), columns run to the patient's left and rows to the back, as transverse images are shown; where the
slice lies otherwise, columns run to the left (or to the back), and rows to the feet. An axis counts as the direction
that it is nearest to. Files that do not say how they lie are taken as stored.

Positions are in mm in the patient's system of DICOM (LPS: x to the left, y to the back, z to the head).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

_WANTED = np.array([1, 1, -1])
"""Signs of left, back and feet in LPS."""


@dataclass(frozen=True)
class Turn:
    """What brings a slice as stored into the standard orientation: first axes are reversed, then exchanged."""

    flip_rows: bool = False
    flip_columns: bool = False
    exchange: bool = False

    def pixels(self, array: np.ndarray) -> np.ndarray:
        """Turn (..., h, w)."""
        array = array[..., :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return array.swapaxes(-1, -2) if self.exchange else array

    def pair(self, rows: float, columns: float) -> tuple[float, float]:
        """Numbers of rows and columns, or their spacing, after the turn."""
        return (columns, rows) if self.exchange else (rows, columns)

    def affine(self, affine: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The affine (4, 4) of a turned slice, from that of the slice as stored with `shape` (h, w)."""
        to_stored = np.eye(4)
        for axis, length, flip in ((0, shape[1], self.flip_columns), (1, shape[0], self.flip_rows)):
            if flip:
                to_stored[axis, [axis, 3]] = -1, length - 1
        return affine @ (to_stored[:, [1, 0, 2, 3]] if self.exchange else to_stored)


@dataclass(frozen=True, eq=False)
class Place:
    """How a slice lies in the patient.

    Attributes:
        affine: (4, 4) from (column, row, slice, 1) after the turn to mm in LPS; None where the file does not say.
        turned: whether the pixels lie otherwise than the file stores them.
    """

    affine: np.ndarray | None = None
    turned: bool = False


NOWHERE = Place()
"""Of an image whose file does not say how it lies."""


def standard_turn(affine: np.ndarray | None) -> Turn:
    """The turn into the standard orientation.

    Args:
        affine: (4, 4), from (column, row, slice, 1) as stored to mm in LPS; None where the file does not say.
    """
    if affine is None:
        return Turn()
    steps = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)

    def nearness(axes: tuple[int, int]) -> tuple[float, bool]:
        # Rounded, so that of two assignments that are as near the one without exchange is taken.
        return round(abs(steps[axes[0], 0]) + abs(steps[axes[1], 1]), 6), axes[0] < axes[1]

    column, row = max(permutations(range(3), 2), key=nearness)
    rows_back, columns_back = steps[row, 1] * _WANTED[row] < 0, steps[column, 0] * _WANTED[column] < 0
    return Turn(bool(rows_back), bool(columns_back), column > row)
