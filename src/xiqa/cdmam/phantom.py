"""The CDMAM 3.4 phantom: its sizes, its corner table and where each disc lies on the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIAMETERS_MM = np.array(
    [2.00, 1.60, 1.25, 1.00, 0.80, 0.63, 0.50, 0.40, 0.31, 0.25, 0.20, 0.16, 0.13, 0.10, 0.08, 0.06]
)
"""Disc diameters in mm, the rows of all (16, 16) arrays."""

CDC_DIAMETERS_MM = DIAMETERS_MM[3:15].copy()
"""The 12 diameters of the contrast-detail curve, 1.00 -> 0.08 mm."""

THICKNESSES_UM = np.array(
    [0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.13, 0.16, 0.20, 0.25, 0.36, 0.50, 0.71, 1.00, 1.42, 2.00]
)
"""Gold thicknesses in µm, the columns of all (16, 16) arrays."""

_CODES = """
0321432123000000 1123233121400000 1311441433420000 2434321323142000
1131214242233100 4214214134122410 1424421322313142 2112334144312141
3314142232432312 0242133114334411 0013424322343344 0004142244242131
0000244342312421 0000021232343434 0000003233114332 0000000422422340
"""

CORNER_CODES = np.array([[int(code) for code in row] for row in _CODES.split()], dtype=np.int8)
"""True corner of the eccentric disc (16, 16): 0 no cell, 1 thicker and larger, 2 thicker and smaller, 3 thinner and
smaller, 4 thinner and larger."""

CELL_PRESENT = CORNER_CODES > 0
"""Where the phantom has a cell (16, 16): 205 cells."""

CORNER_STEPS = np.array([[0, 0], [-1, 1], [1, 1], [1, -1], [-1, -1]])
"""Direction of each corner code in (diameter index, thickness index), (5, 2); code 0 has none."""

LABEL_GRID, LABEL_WRITING = 17, 18
"""Structure labels of grid and writing; 0 is background, 1 to 16 a disc of the diameter index + 1."""

for _table in (DIAMETERS_MM, CDC_DIAMETERS_MM, THICKNESSES_UM, CORNER_CODES, CELL_PRESENT, CORNER_STEPS):
    _table.setflags(write=False)


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

    @property
    def detector_pitch_mm(self) -> float:
        """Side of a cell on the detector in mm."""
        return self.pitch_mm * self.magnification


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
"""The presets: what the standard reader accepts (the default), and the paper's simulator."""

# Unit steps of one diameter index and one thickness index on the detector (x right, y down): the matrix stands on its
# corner with thick and large on the left, thick and small on top, thin and large at the bottom.
DIAMETER_AXIS = np.array([1.0, -1.0]) / np.sqrt(2)
THICKNESS_AXIS = np.array([-1.0, -1.0]) / np.sqrt(2)


def index_to_mm(geometry: Geometry, diameter_index: np.ndarray, thickness_index: np.ndarray) -> np.ndarray:
    """Turn (fractional) cell indices into places on the detector.

    Args:
        geometry: the preset.
        diameter_index: any shape; 0 is 2.00 mm, 15 is 0.06 mm.
        thickness_index: the same shape; 0 is 0.03 µm, 15 is 2.00 µm.

    Returns:
        (..., 2) x (right) and y (down) in mm from the matrix centre.
    """
    along = np.asarray(diameter_index, dtype=float)[..., None] - 7.5
    across = np.asarray(thickness_index, dtype=float)[..., None] - 7.5
    return geometry.detector_pitch_mm * (along * DIAMETER_AXIS + across * THICKNESS_AXIS)


def cell_centres_mm(geometry: Geometry) -> np.ndarray:
    """Centres of all 16 × 16 cells, also of those that the phantom leaves out.

    Args:
        geometry: the preset.

    Returns:
        (16, 16, 2) float64, rows diameters, columns thicknesses; x (right) and y (down) in mm on the detector from
        the matrix centre.
    """
    return index_to_mm(geometry, *np.mgrid[0:16, 0:16])


def disc_centres_mm(geometry: Geometry) -> np.ndarray:
    """Centres of the central and of the eccentric disc of each cell.

    Args:
        geometry: the preset.

    Returns:
        (2, 16, 16, 2) float64: [0] central, [1] eccentric disc; x (right) and y (down) in mm on the detector from the
        matrix centre; NaN where there is no cell.
    """
    rows, columns = np.mgrid[0:16, 0:16]
    step = geometry.eccentric_offset * CORNER_STEPS[CORNER_CODES]
    eccentric = index_to_mm(geometry, rows + step[..., 0], columns + step[..., 1])
    centres = np.stack([cell_centres_mm(geometry), eccentric])
    centres[:, ~CELL_PRESENT] = np.nan
    return centres


def corner_places_mm(geometry: Geometry) -> np.ndarray:
    """Places of the four corners of each cell in which an eccentric disc may lie.

    Args:
        geometry: the preset.

    Returns:
        (4, 16, 16, 2) float64: [k] the place of corner code k + 1; x (right) and y (down) in mm on the detector from
        the matrix centre.
    """
    rows, columns = np.mgrid[0:16, 0:16]
    steps = geometry.eccentric_offset * CORNER_STEPS[1:, :, None, None]
    return index_to_mm(geometry, rows + steps[:, 0], columns + steps[:, 1])


def grid_lines_mm(geometry: Geometry) -> np.ndarray:
    """The centre lines of the grid: each side of each cell that exists, neighbours joined to one line.

    Args:
        geometry: the preset.

    Returns:
        (n, 2, 2) float64: start and end, x (right) and y (down) in mm on the detector from the matrix centre.
    """
    lines = []
    for edge in range(17):
        for axis, cells in ((0, CELL_PRESENT), (1, CELL_PRESENT.T)):
            beside = [cells[k] for k in (edge - 1, edge) if 0 <= k < 16]
            spanned = np.flatnonzero(np.any(beside, axis=0))  # without a gap: the cut corners are straight stairs
            ends = np.array([spanned[0] - 0.5, spanned[-1] + 0.5])
            fixed = np.full(2, edge - 0.5)
            pair = (fixed, ends) if axis == 0 else (ends, fixed)
            lines.append(index_to_mm(geometry, *pair))
    return np.array(lines)


def matrix_box_mm(geometry: Geometry) -> tuple[float, float, float, float]:
    """Bounding box of the matrix: (x_min, y_min, x_max, y_max) in mm on the detector from the matrix centre.

    Its sides are 19 / √2 and 30 / √2 pitches: 13.435 and 21.213.
    """
    half_diagonal = geometry.detector_pitch_mm / np.sqrt(2)
    return -10 * half_diagonal, -15 * half_diagonal, 9 * half_diagonal, 15 * half_diagonal
