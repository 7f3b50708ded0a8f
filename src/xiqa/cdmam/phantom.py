"""The CDMAM phantoms: what each version's data file says of it, and where each disc lies on the detector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from itertools import pairwise
from typing import Annotated, Generic, Literal, TypeVar

import numpy as np
import yaml
from numpy.typing import ArrayLike
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

CORNER_STEPS = np.array([[0, 0], [-1, 1], [1, 1], [1, -1], [-1, -1]])
"""Direction of each corner code in (diameter index, thickness index), (5, 2): 0 no cell, 1 thicker and larger, 2
thicker and smaller, 3 thinner and smaller, 4 thinner and larger."""
CORNER_STEPS.setflags(write=False)

# --------------------------------------------------------------------------------------------------------------------
# The data file of a version

Value = TypeVar("Value")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fact(_Part, Generic[Value]):
    """A value and where it is known from: keys of the file's `sources`, none where it is assumed."""

    value: Value
    known_from: tuple[str, ...]
    note: str = ""


def _falling(values):
    if not all(after < before for before, after in pairwise(values)):
        raise ValueError(f"found {values}, expected diameters that fall")
    return values


class _Row(_Part):
    diameter_mm: float = Field(gt=0)
    corners: str = Field(pattern="^[0-4]+$")
    thicknesses_nm: str = ""
    two_sources: int = Field(0, ge=0)


class _Cells(_Part):
    known_from: tuple[str, ...]
    second_source: str = ""
    note: str = ""
    thicknesses_nm: str = ""
    rows: tuple[_Row, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _fit(self):
        _falling([row.diameter_mm for row in self.rows])
        for row in self.rows:
            thicknesses = self.thicknesses_of(row)
            rising = all(a < b for a, b in pairwise(thicknesses))
            if not (
                len(thicknesses) == len(row.corners) == len(self.rows[0].corners) and rising and thicknesses[0] > 0
            ):
                raise ValueError(
                    f"row of {row.diameter_mm} mm: found {len(row.corners)} corners and thicknesses {thicknesses} nm, "
                    "expected as many rising thicknesses above 0 as corners, and the same number in each row"
                )
        return self

    def thicknesses_of(self, row: _Row) -> list[float]:
        """Thicknesses of a row in nm."""
        return [float(word) for word in (row.thicknesses_nm or self.thicknesses_nm).split()]


class Markers(_Part):
    """Round marks of paint at every so many lines between the columns, above and below each block of rows."""

    every_columns: int = Field(ge=1)
    beyond_cells: float = Field(gt=0)
    diameter_mm: float = Field(gt=0)
    hidden: int = Field(ge=0)


class _GeometryFacts(_Part):
    axes: Fact[tuple[tuple[float, float], tuple[float, float]]]
    blocks: Fact[tuple[Annotated[int, Field(ge=1)], ...]]
    gap_cells: Fact[Annotated[float, Field(ge=0)]]
    pitch_mm: Fact[Annotated[float, Field(gt=0)]]
    eccentric_offset: Fact[Annotated[float, Field(gt=0, lt=0.5)]]
    grid_line_mm: Fact[Annotated[float, Field(gt=0)]]
    plates: Fact[str]
    markers: Fact[Markers] | None = None


class _CurveFacts(_Part):
    diameters_mm: Fact[Literal["all"] | Annotated[tuple[float, ...], AfterValidator(_falling)]]
    smoothing: Fact[Literal["binomial", "gaussian"]]
    floor_first: Fact[bool]
    slope_diameters_mm: Fact[tuple[float, ...]]
    human_multiplies: Fact[Literal["thickness", "contrast"]]
    human_factors: Fact[tuple[Annotated[float, Field(gt=0)], ...]]


class PhantomFile(_Part):
    """The data file of a version of the phantom, as `phantoms/cdmam_*.yaml` hold it."""

    version: str
    sources: dict[str, str]
    conflicts: tuple[str, ...] = ()
    cells: _Cells
    geometry: _GeometryFacts
    curve: _CurveFacts

    @property
    def facts(self) -> dict[str, Fact]:
        """All facts by name, those of the cells left out."""
        parts = {**dict(self.geometry), **dict(self.curve)}
        return {name: fact for name, fact in parts.items() if fact is not None}

    @model_validator(mode="after")
    def _consistent(self):
        named = {*self.cells.known_from, *filter(None, [self.cells.second_source])}
        named = named.union(*(fact.known_from for fact in self.facts.values()))
        if named - set(self.sources):
            raise ValueError(f"known_from: found {sorted(named - set(self.sources))}, expected keys of sources")
        rows, blocks = len(self.cells.rows), self.geometry.blocks.value
        if sum(blocks) != rows:
            raise ValueError(f"blocks: found {blocks}, {sum(blocks)} rows together; the phantom has {rows}")
        diameters = [row.diameter_mm for row in self.cells.rows]
        curve = diameters if self.curve.diameters_mm.value == "all" else self.curve.diameters_mm.value
        if set(curve) - set(diameters) or set(self.curve.slope_diameters_mm.value) - set(curve):
            raise ValueError("curve: found diameters that no row of cells has")
        if len(self.curve.human_factors.value) != len(curve):
            raise ValueError(
                f"human_factors: found {len(self.curve.human_factors.value)}, expected one for each of the curve's "
                f"{len(curve)} diameters"
            )
        return self


# --------------------------------------------------------------------------------------------------------------------
# A version of the phantom


@dataclass(frozen=True, eq=False)
class Phantom:
    """A version of the phantom; D diameters (rows) by T thicknesses (columns) of cells.

    Attributes:
        file: what the data file says, with where each fact is known from.
        diameters_mm: (D,) disc diameters, falling.
        thicknesses_um: (D, T) gold thickness of each cell, rising along each row.
        corner_codes: (D, T) int8 true corner of the eccentric disc, see `CORNER_STEPS`; 0 no cell.
        present: (D, T) where the phantom has a cell.
        single_source: (D, T) cells whose corner and thickness are known from one source alone.
        row_places: (D,) places of the rows in cells from the first one, gaps between blocks of rows included.
        axes: (2, 2) unit steps on the detector (x right, y down) toward smaller and toward thicker discs, as the
            phantom nominally stands.
        curve_rows: (n,) rows of the contrast-detail curve.
    """

    file: PhantomFile
    diameters_mm: np.ndarray
    thicknesses_um: np.ndarray
    corner_codes: np.ndarray
    present: np.ndarray
    single_source: np.ndarray
    row_places: np.ndarray
    axes: np.ndarray
    curve_rows: np.ndarray

    def __reduce__(self):
        return phantom, (self.version,)  # one object per version in each process

    @property
    def version(self) -> str:
        """Its name, such as "3.4"."""
        return self.file.version

    @cached_property
    def cell_places(self) -> np.ndarray:
        """(2, D, T) row place and column place of each cell, in cells from the first one."""
        return _constant(np.array(np.meshgrid(self.row_places, np.arange(self.present.shape[1]), indexing="ij")))

    @cached_property
    def own_corners(self) -> np.ndarray:
        """(2, D, T, 2) directions of a cell's central and eccentric disc, in diameter and thickness index."""
        return _constant(np.stack([np.zeros((*self.present.shape, 2), int), CORNER_STEPS[self.corner_codes]]))

    @cached_property
    def empty_corners(self) -> np.ndarray:
        """(4, D, T) which of the corners 1-4 of each cell hold no disc."""
        return _constant(self.present & (np.arange(1, 5)[:, None, None] != self.corner_codes))

    @property
    def curve_diameters_mm(self) -> np.ndarray:
        """(n,) diameters of the contrast-detail curve, falling."""
        return self.diameters_mm[self.curve_rows]

    @property
    def label_grid(self) -> int:
        """Structure label of the grid; 0 is background, 1 to D a disc of the diameter index + 1."""
        return len(self.diameters_mm) + 1

    @property
    def label_writing(self) -> int:
        """Structure label of the writing."""
        return len(self.diameters_mm) + 2

    @cached_property
    def materials_um(self) -> np.ndarray:
        """(m,) the different gold thicknesses, rising."""
        return _constant(np.unique(self.thicknesses_um))

    @cached_property
    def material_of_cell(self) -> np.ndarray:
        """(D, T) index of each cell's thickness in `materials_um`."""
        return _constant(np.searchsorted(self.materials_um, self.thicknesses_um))

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Row place and column place of the matrix centre."""
        return float(self.row_places[-1]) / 2, (self.corner_codes.shape[1] - 1) / 2

    @cached_property
    def statements(self) -> tuple[str, ...]:
        """Sentences on what is known from one source alone or assumed, for every output; none for a settled version."""
        file, count = self.file, int(self.single_source.sum())
        if not count:
            return ()
        said = [
            f"Corner and thickness of {count} of the {int(self.present.sum())} cells of CDMAM {self.version} are known "
            f"from one source alone ({', '.join(file.cells.known_from)}): a slip may remain."
        ]
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, fact in file.facts.items():
            if len(fact.known_from) < 2:
                groups.setdefault(fact.known_from, []).append(_TITLES[name])
        for sources, titles in groups.items():
            known = (
                f"Known from one source alone ({sources[0]})" if sources else "Assumed, because no source gives them"
            )
            said.append(f"{known}: {', '.join(titles)}.")
        return (*said, *(f"Open conflict. {conflict}" for conflict in file.conflicts))


_TITLES = {
    "axes": "orientation",
    "blocks": "blocks of rows",
    "gap_cells": "gap between the blocks",
    "pitch_mm": "pitch of the cells",
    "eccentric_offset": "offset of the eccentric discs",
    "grid_line_mm": "width of the grid lines",
    "plates": "thickness of the plates",
    "markers": "round markers",
    "diameters_mm": "diameters of the curve",
    "smoothing": "smoothing of the hit rates",
    "floor_first": "order of smoothing and guess rate",
    "slope_diameters_mm": "diameters that settle the slope",
    "human_multiplies": "what the human factors multiply",
    "human_factors": "human factors",
}


def _constant(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def phantom_of(file: PhantomFile) -> Phantom:
    """The phantom that a data file describes."""
    rows = file.cells.rows
    codes = np.array([[int(code) for code in row.corners] for row in rows], dtype=np.int8)
    columns = np.arange(codes.shape[1])
    two = np.array([columns >= len(columns) - row.two_sources for row in rows])
    diameters = np.array([row.diameter_mm for row in rows])
    blocks = file.geometry.blocks.value
    axes = np.array(file.geometry.axes.value)
    chosen = file.curve.diameters_mm.value
    curve_rows = np.arange(len(rows)) if chosen == "all" else np.searchsorted(-diameters, -np.array(chosen))
    return Phantom(
        file=file,
        diameters_mm=_constant(diameters),
        thicknesses_um=_constant(np.array([file.cells.thicknesses_of(row) for row in rows]) / 1000),
        corner_codes=_constant(codes),
        present=_constant(codes > 0),
        single_source=_constant((codes > 0) & (len(file.cells.known_from) < 2) & ~two),
        row_places=_constant(
            np.arange(len(rows)) + file.geometry.gap_cells.value * np.repeat(range(len(blocks)), blocks)
        ),
        axes=_constant(axes / np.sqrt((axes**2).sum(axis=1, keepdims=True))),
        curve_rows=_constant(curve_rows),
    )


VERSIONS = ("3.4", "4.0")
"""Versions of the phantom that have a data file."""


@cache
def phantom(version: str) -> Phantom:
    """A version of the CDMAM phantom from its data file.

    Args:
        version: one of `VERSIONS`.

    Raises:
        ValueError: no such version, or a data file that contradicts itself.
    """
    if version not in VERSIONS:
        raise ValueError(f"phantom: found version {version!r}, expected one of {', '.join(VERSIONS)}")
    text = files("xiqa.cdmam").joinpath(f"phantoms/cdmam_{version}.yaml").read_text(encoding="utf-8")
    return phantom_of(PhantomFile.model_validate(yaml.safe_load(text)))


def version_of_diameters(diameters_mm: np.ndarray) -> str:
    """The version of the phantom that has these diameters (D,).

    Raises:
        ValueError: none has.
    """
    for version in VERSIONS:
        if np.array_equal(phantom(version).diameters_mm, diameters_mm):
            return version
    raise ValueError(f"diameters: found {len(diameters_mm)}, expected those of CDMAM {' or '.join(VERSIONS)}")


_CDMAM_34 = phantom("3.4")

DIAMETERS_MM = _CDMAM_34.diameters_mm
"""Disc diameters of CDMAM 3.4 in mm, the rows of all (16, 16) arrays."""

CDC_DIAMETERS_MM = _constant(_CDMAM_34.curve_diameters_mm)
"""The 12 diameters of its contrast-detail curve, 1.00 -> 0.08 mm."""

THICKNESSES_UM = _CDMAM_34.thicknesses_um[0]
"""Its gold thicknesses in µm, the columns of all (16, 16) arrays."""

CORNER_CODES = _CDMAM_34.corner_codes
"""Its true corners of the eccentric disc (16, 16), see `CORNER_STEPS`."""

CELL_PRESENT = _CDMAM_34.present
"""Where it has a cell (16, 16): 205 cells."""

LABEL_GRID, LABEL_WRITING = _CDMAM_34.label_grid, _CDMAM_34.label_writing
"""Its structure labels of grid and writing; 0 is background, 1 to 16 a disc of the diameter index + 1."""

DIAMETER_AXIS, THICKNESS_AXIS = _CDMAM_34.axes
"""Its unit steps of one diameter index and one thickness index on the detector (x right, y down): the matrix stands on
its corner with thick and large on the left, thick and small on top, thin and large at the bottom."""

# --------------------------------------------------------------------------------------------------------------------
# Where it lies, and what the beam passes


@dataclass(frozen=True)
class Geometry:
    """Where the phantom's parts lie, in its own plane, how they are projected, and what the beam passes.

    Attributes:
        name: name of the preset.
        pitch_mm: side of a cell.
        magnification: detector plane over phantom plane.
        eccentric_offset: distance of the eccentric disc from the cell's centre along each side of the cell, as a
            fraction of the pitch.
        grid_line_mm: width of the grid lines.
        paint_gold_um: thickness of gold that absorbs as much as the radio-opaque paint of grid and writing.
        source_detector_mm: distance of the focal spot from the detector.
        absorbers: (material, mm) between the anode and the detector, besides the tube's filter and the gold.
        filter_mm: (filter material, mm) where the tube's filter is not of the usual thickness.
        detector_material: what absorbs the X rays in the detector.
        detector_mm: its thickness.
        response: what a photon adds to the signal: "energy" (its energy) or "photons" (the same for all).
        version: version of the phantom.
    """

    name: str
    pitch_mm: float
    magnification: float
    eccentric_offset: float
    grid_line_mm: float = 0.5
    paint_gold_um: float = 2.5
    source_detector_mm: float = 650.0
    absorbers: tuple[tuple[str, float], ...] = (("Be", 0.5), ("Air", 600.0), ("PMMA", 43.0), ("Al", 0.5))
    filter_mm: tuple[tuple[str, float], ...] = ()
    detector_material: str = "Se"
    detector_mm: float = 0.2
    response: str = "energy"
    version: str = "3.4"

    @property
    def detector_pitch_mm(self) -> float:
        """Side of a cell on the detector in mm."""
        return self.pitch_mm * self.magnification

    @property
    def phantom(self) -> Phantom:
        """The phantom that lies there."""
        return phantom(self.version)


GEOMETRIES: dict[str, Geometry] = {
    "standard_reader": Geometry("standard_reader", pitch_mm=10.0, magnification=1.035, eccentric_offset=0.300),
    "ptb": Geometry(
        "ptb",
        pitch_mm=9.3,
        magnification=700 / 629,
        eccentric_offset=2.49 / 9.3,
        source_detector_mm=700.0,
        absorbers=(("Be", 0.3), ("PMMA", 2.35)),
        filter_mm=(("Mo", 0.0275),),
        detector_material="CsI",
        detector_mm=0.25,
        response="photons",
    ),
}
"""The presets for CDMAM 3.4: what the standard reader accepts (the default), and the paper's simulator."""


def geometry_of(version: str, preset: str = "standard_reader") -> Geometry:
    """A preset with a version of the phantom in it.

    Args:
        version: one of `VERSIONS`. Pitch, offset and lines of a version other than 3.4 are those of its data file.
        preset: key of `GEOMETRIES`: beam, distances and detector.
    """
    if version == "3.4":
        return GEOMETRIES[preset]
    facts = phantom(version).file.geometry
    return replace(
        GEOMETRIES[preset],
        name=f"{preset}, CDMAM {version}",
        pitch_mm=facts.pitch_mm.value,
        eccentric_offset=facts.eccentric_offset.value,
        grid_line_mm=facts.grid_line_mm.value,
        version=version,
    )


def place_to_mm(geometry: Geometry, row_place: ArrayLike, column_place: ArrayLike) -> np.ndarray:
    """Turn (fractional) places in the matrix into places on the detector.

    Args:
        geometry: the preset.
        row_place: any shape, in cells from the first row (the largest discs) toward smaller discs (`row_places`).
        column_place: the same shape, in cells from the first column (the thinnest discs).

    Returns:
        (..., 2) x (right) and y (down) in mm from the matrix centre.
    """
    version = geometry.phantom
    along = np.asarray(row_place, dtype=float)[..., None] - version.middle[0]
    across = np.asarray(column_place, dtype=float)[..., None] - version.middle[1]
    return geometry.detector_pitch_mm * (along * version.axes[0] + across * version.axes[1])


def cell_centres_mm(geometry: Geometry) -> np.ndarray:
    """Centres of all cells, also of those that the phantom leaves out.

    Args:
        geometry: the preset.

    Returns:
        (D, T, 2) float64, rows diameters, columns thicknesses; x (right) and y (down) in mm on the detector from
        the matrix centre.
    """
    return place_to_mm(geometry, *geometry.phantom.cell_places)


def disc_centres_mm(geometry: Geometry) -> np.ndarray:
    """Centres of the central and of the eccentric disc of each cell.

    Args:
        geometry: the preset.

    Returns:
        (2, D, T, 2) float64: [0] central, [1] eccentric disc; x (right) and y (down) in mm on the detector from the
        matrix centre; NaN where there is no cell.
    """
    rows, columns = geometry.phantom.cell_places
    step = geometry.eccentric_offset * CORNER_STEPS[geometry.phantom.corner_codes]
    eccentric = place_to_mm(geometry, rows + step[..., 0], columns + step[..., 1])
    centres = np.stack([cell_centres_mm(geometry), eccentric])
    centres[:, ~geometry.phantom.present] = np.nan
    return centres


def corner_places_mm(geometry: Geometry) -> np.ndarray:
    """Places of the four corners of each cell in which an eccentric disc may lie.

    Args:
        geometry: the preset.

    Returns:
        (4, D, T, 2) float64: [k] the place of corner code k + 1; x (right) and y (down) in mm on the detector from
        the matrix centre.
    """
    rows, columns = geometry.phantom.cell_places
    steps = geometry.eccentric_offset * CORNER_STEPS[1:, :, None, None]
    return place_to_mm(geometry, rows + steps[:, 0], columns + steps[:, 1])


def block_rows(version: Phantom) -> list[slice]:
    """The rows of each block: blocks have a grid of their own, with gaps between them."""
    ends = np.cumsum(version.file.geometry.blocks.value)
    return [
        slice(int(end) - size, int(end)) for size, end in zip(version.file.geometry.blocks.value, ends, strict=True)
    ]


def grid_lines_mm(geometry: Geometry) -> np.ndarray:
    """The centre lines of the grid: each side of each cell that exists, neighbours in a block joined to one line.

    Args:
        geometry: the preset.

    Returns:
        (n, 2, 2) float64: start and end, x (right) and y (down) in mm on the detector from the matrix centre.
    """
    version = geometry.phantom
    lines = []
    for rows in block_rows(version):
        present, first = version.present[rows], np.array([version.row_places[rows.start], 0.0])
        for edge in range(max(present.shape) + 1):
            for axis, cells in ((0, present), (1, present.T)):
                if edge > len(cells):
                    continue
                beside = [cells[k] for k in (edge - 1, edge) if 0 <= k < len(cells)]
                spanned = np.flatnonzero(np.any(beside, axis=0))  # without a gap: the cut corners are straight stairs
                ends = np.array([spanned[0] - 0.5, spanned[-1] + 0.5])
                fixed = np.full(2, edge - 0.5)
                pair = (fixed, ends) if axis == 0 else (ends, fixed)
                lines.append(place_to_mm(geometry, first[0] + pair[0], pair[1]))
    return np.array(lines)


def _markers(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Places (lines, columns, 2) of all round markers in mm, and which of them the writing hides."""
    version, fact = geometry.phantom, geometry.phantom.file.geometry.markers
    if fact is None:
        return np.zeros((0, 0, 2)), np.zeros((0, 0), bool)
    markers = fact.value
    columns = np.arange(0, version.present.shape[1] + 1, markers.every_columns) - 0.5
    above = [version.row_places[rows.start] - 0.5 - markers.beyond_cells for rows in block_rows(version)]
    rows = np.array([*above, version.row_places[-1] + 0.5 + markers.beyond_cells])
    places = place_to_mm(geometry, *np.meshgrid(rows, columns, indexing="ij"))
    hidden = np.zeros(places.shape[:2], bool)
    start = (len(columns) - markers.hidden) // 2
    hidden[0, start : start + markers.hidden] = True
    return places, hidden


def marker_centres_mm(geometry: Geometry) -> np.ndarray:
    """Centres of the round markers above and below each block of rows that can be seen; none for CDMAM 3.4.

    Args:
        geometry: the preset.

    Returns:
        (n, 2) float64: x (right) and y (down) in mm on the detector from the matrix centre.
    """
    places, hidden = _markers(geometry)
    return places[~hidden]


def hidden_markers_mm(geometry: Geometry) -> np.ndarray:
    """The same for those that the writing hides: the middle ones above the matrix, as which they are is not known."""
    places, hidden = _markers(geometry)
    return places[hidden]


def matrix_box_mm(geometry: Geometry) -> tuple[float, float, float, float]:
    """Bounding box of the matrix: (x_min, y_min, x_max, y_max) in mm on the detector from the matrix centre.

    The sides of CDMAM 3.4 are 19 / √2 and 30 / √2 pitches: 13.435 and 21.213.
    """
    ends = grid_lines_mm(geometry).reshape(-1, 2)
    (x_min, y_min), (x_max, y_max) = ends.min(axis=0), ends.max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)
