"""Slices of volumes (NIfTI, MetaImage): one reader of their values, whatever header describes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xiqa.datasets.base import DataError, Loaded, faults_named
from xiqa.datasets.limits import check_size, inflated
from xiqa.datasets.orientation import NOWHERE, Place, Turn, standard_turn


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a volume as stored.

    Attributes:
        length: how many values it has.
        spacing_mm: distance between them; None where the header gives none. Of time it means nothing.
        step_mm: (3,) from one value to the next in LPS; None where the header does not say, and for time.
    """

    length: int
    spacing_mm: float | None = None
    step_mm: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """How the values of a volume lie in its files, as its header says.

    Attributes:
        kind: "NIfTI" or "MetaImage".
        path: the file that was named.
        files: all files that the volume is made of; the last one holds the values.
        axes: from the one that runs fastest.
        origin_mm: (3,) of the first value in LPS; None where the header does not say how the volume lies.
        dtype: of a stored value, with its byte order.
        slope: value = slope × stored + intercept.
        intercept: see slope.
        start: byte of the file where the values, or the packed data, begin.
        packing: None, or the kind of packed data as `limits.inflated` names it.
        skip: unpacked bytes ahead of the values.
    """

    kind: str
    path: Path
    files: tuple[Path, ...]
    axes: tuple[Axis, ...]
    origin_mm: np.ndarray | None
    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0
    start: int = 0
    packing: int | None = None
    skip: int = 0


@dataclass(frozen=True, eq=False)
class Volume:
    """Slices in the standard orientation (`orientation`), one after the other as the file has them.

    Attributes:
        stored: how the values lie in the file; its `axes` are columns, rows and slices.
        affine: (4, 4) from (column, row, slice, 1) as stored to mm in LPS; None where the file does not say.
        turn: what turns a stored slice.
    """

    stored: Stored
    affine: np.ndarray | None
    turn: Turn

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the volume is made of."""
        return self.stored.files

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns after the turn."""
        columns, rows, slices = (axis.length for axis in self.stored.axes)
        return (slices, columns, rows) if self.turn.exchange else (slices, rows, columns)

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Distance of rows and of columns after the turn; None where the header gives none."""
        columns, rows = (axis.spacing_mm for axis in self.stored.axes[:2])
        return None if rows is None or columns is None else self.turn.pair(rows, columns)

    @property
    def transverse(self) -> bool:
        """Whether the slices are transverse, as far as the header says."""
        return self.affine is None or np.abs(np.cross(*self.affine[:3, :2].T)).argmax() == 2

    def place(self, index: int) -> Place:
        """How a slice lies in the patient."""
        if self.affine is None:
            return NOWHERE
        columns, rows, _ = (axis.length for axis in self.stored.axes)
        affine = self.affine.copy()
        affine[:, 3] += index * affine[:, 2]
        return Place(self.turn.affine(affine, (rows, columns)), self.turn != Turn())

    def index_at(self, place: np.ndarray | None, index: int) -> int:
        """The index of the slice nearest to where another image's (4, 4) affine lies; `index` if nothing says so."""
        if place is None or self.affine is None or not np.linalg.det(self.affine):
            return index
        nearest = round(float((np.linalg.inv(self.affine) @ place[:, 3])[2]))
        return min(max(nearest, 0), self.shape[0] - 1)

    def slice(self, index: int) -> Loaded:
        """Read one slice without keeping the others (packed data are unpacked whole, to verify their checksum).

        Returns:
            Pixels (h, w), spacing and place.

        Raises:
            DataError: there is no such slice; the data are truncated, damaged, or not finite.
        """
        slices = self.shape[0]
        if not 0 <= index < slices:
            raise DataError(self.stored.path, f"found {slices} slices, expected one with index {index}, from 0")
        columns, rows, _ = (axis.length for axis in self.stored.axes)
        values = _values(self.stored, index * rows * columns, rows * columns).reshape(rows, columns)
        if (self.stored.slope, self.stored.intercept) != (1, 0):
            values = values * np.float64(self.stored.slope) + self.stored.intercept
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = np.ascontiguousarray(self.turn.pixels(values), np.float32)
        bad = pixels.size - np.count_nonzero(np.isfinite(pixels))
        if bad:
            problem = f"found {bad} values in slice {index} that are NaN or infinite, expected numbers"
            raise DataError(self.stored.path, f"{problem}; export it again")
        return Loaded(pixels, spacing_mm=self.spacing_mm, place=self.place(index))


def open_volume(path: str | Path) -> Volume:
    """Read and check the header of a NIfTI or MetaImage file; which of them it is follows from the content.

    Axes of length 1 are left out. The first of the others gives the columns, the second the rows, the third the
    slices (of depth or of time); so (x, y), (x, y, 1), (1, y, z), (x, y, z), (x, y, t) and (x, y, 1, t) are read.

    Raises:
        DataError: neither of them, colour, another number of axes, more than the data set's limit, a file of another
            size than the header says, or one outside the data set.
    """
    from xiqa.datasets import metaimage, nifti

    path = Path(path)
    with faults_named(path):
        stored = metaimage.stored(path) if metaimage.is_metaimage(path) else nifti.stored(path)
        claimed = [axis.length for axis in stored.axes]
        if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
            raise DataError(path, f"found values of type {stored.dtype}, expected grey values")
        expected = stored.skip + check_size(path, claimed, stored.dtype.itemsize)
        shape = " × ".join(map(str, claimed))
        columns, rows, slices, *others = [*sorted(stored.axes, key=lambda axis: axis.length == 1), Axis(1), Axis(1)]
        if any(axis.length > 1 for axis in others):
            raise DataError(path, f"found {shape} values, expected (x, y), (x, y, slices) or (x, y, 1, times)")
        found = stored.files[-1].stat().st_size - stored.start
        if stored.packing is None and found != expected:
            problem = f"found {found} bytes of values, expected {expected} for {shape} of type {stored.dtype}"
            raise DataError(stored.files[-1], f"{problem}: truncated, or a wrong header; copy or export it again")
        stored = replace(stored, axes=(columns, rows, slices))
        affine = _affine(stored)
        return Volume(stored, affine, standard_turn(affine))


def _affine(stored: Stored) -> np.ndarray | None:
    """From (column, row, slice, 1) to mm; times of a series lie at the same place."""
    columns, rows, slices = (axis.step_mm for axis in stored.axes)
    if stored.origin_mm is None or columns is None or rows is None:
        return None
    affine = np.eye(4)
    affine[:3] = np.column_stack([columns, rows, np.zeros(3) if slices is None else slices, stored.origin_mm])
    area = np.linalg.norm(np.cross(columns, rows))
    if not (np.isfinite(affine).all() and area > 1e-3 * np.linalg.norm(columns) * np.linalg.norm(rows) > 0):
        raise DataError(stored.path, "found an affine without meaning, expected how the volume lies; export it again")
    return affine


def _values(stored: Stored, first: int, count: int) -> np.ndarray:
    """(count,) values from the given one on; of packed data also all others are unpacked, and forgotten."""
    wanted, size = bytearray(), stored.dtype.itemsize
    begin, path = stored.skip + first * size, stored.files[-1]
    end = begin + count * size
    with path.open("rb") as file:
        if stored.packing is None:
            file.seek(stored.start + begin)
            wanted += file.read(end - begin)
        else:
            file.seek(stored.start)
            expected, done = stored.skip + math.prod(axis.length for axis in stored.axes) * size, 0
            for piece in inflated(path, file, stored.packing, expected):
                wanted += piece[max(begin - done, 0) : max(end - done, 0)]
                done += len(piece)
            if done != expected:
                raise DataError(path, f"unpacks to {done} bytes, expected {expected} as its header says; copy it again")
    if len(wanted) != end - begin:
        raise DataError(path, f"ends {end - begin - len(wanted)} bytes too early: truncated; copy it again")
    return np.frombuffer(wanted, stored.dtype)
