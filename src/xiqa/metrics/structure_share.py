"""How much of a saliency map lies on each named structure: parts of the phantom, or the masks of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import DIAMETERS_MM
from xiqa.metrics.statistics import interval

BOUNDS = {"share_abs": (0, 1), "share_signed": (-1, 1), "enrichment": (0, np.inf), "balance": (-1, 1)}
"""Least and largest possible value of each mean."""

STRUCTURES = ("background", *["disc"] * len(DIAMETERS_MM), "grid", "writing")
"""Name of each structure label 0..18."""

COLUMNS = ("image", "group", "method", "structure", "diameter_mm", "share_abs", "share_signed", "share_area")


def structure_share(saliency: np.ndarray, structure: np.ndarray, names: Sequence[str] = STRUCTURES) -> pd.DataFrame:
    """Share of a map on each structure.

    Args:
        saliency: (h, w) map; pixels that are not finite (never visited) are left out of map and area.
        structure: (h, w) uint8 labels; of the phantom 0 background, 1..16 disc of diameter index + 1, 17 grid, 18
            writing.
        names: name of each label.

    Returns:
        One row per structure that has pixels: structure (disc, grid, writing, background), diameter_mm (discs only),
        share_abs = Σ_S |map| / Σ |map|, share_signed = Σ_S map / Σ |map|, share_area = pixels of S / pixels. The
        share_abs and the share_area each sum to 1, the share_signed to Σ map / Σ |map|. A map of zeros has no shares
        (NaN).

    Raises:
        ValueError: map and labels differ in shape, a label is unknown, or no pixel is finite.
    """
    if saliency.shape != structure.shape:
        raise ValueError(f"map: found shape {saliency.shape}, expected {structure.shape} as of the structure labels")
    if structure.max(initial=0) >= len(names):
        raise ValueError(f"structure: found label {structure.max()}, expected 0 to {len(names) - 1}")
    finite = np.isfinite(saliency)
    labels, values = structure[finite], np.asarray(saliency[finite], np.float64)
    if not len(values):
        raise ValueError("map: found no finite pixel, expected at least one; raise upsampling.draws")
    number = len(names)
    area = np.bincount(labels, minlength=number)
    absolute = np.bincount(labels, np.abs(values), number)
    signed = np.bincount(labels, values, number)
    total = absolute.sum()
    total = total if total > 0 else np.nan
    table = pd.DataFrame(
        {
            "structure": names,
            "diameter_mm": [np.nan, *DIAMETERS_MM, np.nan, np.nan] if names is STRUCTURES else np.nan,
            "share_abs": absolute / total,
            "share_signed": signed / total,
            "share_area": area / len(values),
        }
    )
    # Discs by falling diameter first, then grid, writing, background.
    return table[area > 0].sort_index(key=lambda label: (label - 1) % number).reset_index(drop=True)


def structure_share_rows(
    saliency: np.ndarray,
    structure: np.ndarray,
    names: Sequence[str] = STRUCTURES,
    *,
    image: str,
    group: str,
    method: str,
) -> pd.DataFrame:
    """Rows of the table structure_share.csv for one map; see `structure_share`."""
    table = structure_share(saliency, structure, names).assign(image=image, group=group, method=method)
    return table[list(COLUMNS)]


def summarise_structure_share(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean shares over images, with 95 % intervals over images, or over patients where they are known.

    Args:
        rows: rows of structure_share.csv of any number of images, groups and methods; with the column `patient`, images
            of one patient are not independent.

    Returns:
        One row per group, method and structure: n (images), share_abs, share_signed and share_area (means over
        images); enrichment, the mean over images of share_abs / share_area, both of one image (1: as expected from
        area alone), and `lies_there`: `more` or `less` than by area where its interval leaves out 1, else `not told
        apart`; balance, the mean over images of share_signed / share_abs (+1: the map is positive there, -1:
        negative; NaN where the map has nothing). Each but the area has columns _low and _high (NaN with fewer
        than six images). Maps of zeros are left out.
    """
    rows = rows.dropna(subset=["share_abs"])
    rows = rows.assign(
        enrichment=rows["share_abs"] / rows["share_area"],
        balance=rows["share_signed"] / rows["share_abs"].where(rows["share_abs"] > 0),
    )
    keys = ["group", "method", "structure", "diameter_mm"]
    summary = []
    for key, part in rows.groupby(keys, sort=False, dropna=False):
        row = dict(zip(keys, key, strict=True)) | {"n": len(part)}
        for name in ("share_abs", "share_signed", "enrichment", "balance"):
            known = part[part[name].notna()]
            values = known[name].to_numpy()
            low, high = interval(values, known.get("patient"), bounds=BOUNDS[name])
            row |= {name: values.mean() if len(values) else np.nan, f"{name}_low": low, f"{name}_high": high}
        row["share_area"] = part["share_area"].mean()
        # Both comparisons are False where fewer than six images leave no interval (NaN).
        more, less = row["enrichment_low"] > 1, row["enrichment_high"] < 1
        row["lies_there"] = "more" if more else "less" if less else "not told apart"
        summary.append(row)
    shares = ["share_abs", "share_abs_low", "share_abs_high", "share_signed", "share_signed_low", "share_signed_high"]
    rest = ["share_area", "enrichment", "enrichment_low", "enrichment_high", "lies_there"]
    return pd.DataFrame(summary, columns=[*keys, "n", *shares, *rest, "balance", "balance_low", "balance_high"])
