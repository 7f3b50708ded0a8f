"""Two records side by side: the ratio of their curves, and how well one image stands for many."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.qc.record import ImageRecord, Point, Record, read_record

Z_95 = 1.959964
RESULTS = "results.json"


def find_records(place: str | os.PathLike) -> dict[str, Record]:
    """Records of a results.json, or of a folder and the folders below it: path in the folder -> record.

    Raises:
        ValueError: no such place, no record in it, or a file that is none.
    """
    place = Path(place)
    if not place.exists():
        raise ValueError(f"{place}: found no such file or folder, expected results of xiqa read")
    paths = sorted(place.rglob(RESULTS)) if place.is_dir() else [place]
    if not paths:
        raise ValueError(f"{place}: found no {RESULTS} in it, expected results of xiqa read")
    return {path.relative_to(place).as_posix() if place.is_dir() else path.name: read_record(path) for path in paths}


def pairs_of(first: dict[str, Record], second: dict[str, Record]) -> list[tuple[Record, Record]]:
    """Pairs of records to compare: the only two, or those of equal exposure settings.

    Raises:
        ValueError: several records, and no exposure setting that both sides have once.
    """
    if len(first) == len(second) == 1:
        return list(zip(first.values(), second.values(), strict=True))
    sides = [[record.exposure.name for record in side.values()] for side in (first, second)]
    shared = [name for name in dict.fromkeys(sides[0]) if sides[0].count(name) == sides[1].count(name) == 1]
    if not shared:
        raise ValueError(
            f"found the settings {', '.join(sides[0])} and {', '.join(sides[1])}, expected one on each side, or "
            "settings of the same name; name the folders of the two that belong together"
        )
    by_name = [{record.exposure.name: record for record in side.values()} for side in (first, second)]
    return [(by_name[0][name], by_name[1][name]) for name in shared]


def log_error(point: Point) -> float:
    """Standard error of ln cdc_um from the 95 % interval, or from its one end; NaN where it has none."""
    ends = [end for end in (point.ci_low_um, point.ci_high_um) if end]
    if len(ends) == 2:
        return math.log(ends[1] / ends[0]) / (2 * Z_95)
    return abs(math.log(ends[0] / point.cdc_um)) / Z_95 if ends else math.nan


LEAST_PAIRS = 4
"""Images that must be in both records, for their correlation to be known."""


def shared_images(first: Record, second: Record) -> list[tuple[ImageRecord, ImageRecord]]:
    """The images that are in both records, by their pixels."""
    there = {image.pixel_digest: image for image in second.images}
    return [(image, there[image.pixel_digest]) for image in first.images if image.pixel_digest in there]


def correlation(first: Record, second: Record) -> float:
    """Correlation of the logarithms of both curves that comes from images which are in both records.

    It is that of the curves of single images, over the shared images and all diameters together, times the share of
    the images that is shared; 0 where fewer than `LEAST_PAIRS` are.
    """
    pairs = shared_images(first, second)
    sizes = [[point.diameter_mm for point in record.curve] for record in (first, second)]
    if len(pairs) < LEAST_PAIRS or sizes[0] != sizes[1]:
        return 0.0
    logs = np.log([[image.cdc_um for image in pair] for pair in pairs])
    a, b = np.moveaxis(logs - logs.mean(axis=0), 1, 0)
    spread = math.sqrt(np.sum(a**2) * np.sum(b**2))
    share = len(pairs) / math.sqrt(len(first.images) * len(second.images))
    return float(np.sum(a * b) / spread) * share if spread > 0 else 0.0


def ratios(first: Record, second: Record) -> pd.DataFrame:
    """Ratio of two curves, first over second: below 1, the first sees thinner discs.

    Returns:
        A row for each diameter that both have: diameter_mm; first_um and second_um, the curves; ratio; ci_low and
        ci_high, its 95 % interval from both intervals and, where images are in both records, their `correlation`;
        verdict: "lower", "higher" or "no difference shown", and "not measured" where one of the thresholds lies
        outside the phantom's discs.
    """
    rows = []
    together = correlation(first, second)
    beside = {point.diameter_mm: point for point in second.curve}
    for a, b in ((point, beside[point.diameter_mm]) for point in first.curve if point.diameter_mm in beside):
        ratio, errors = a.cdc_um / b.cdc_um, (log_error(a), log_error(b))
        error = math.sqrt(max(errors[0] ** 2 + errors[1] ** 2 - 2 * together * errors[0] * errors[1], 0))
        low, high = ratio * math.exp(-Z_95 * error), ratio * math.exp(Z_95 * error)
        verdict = "lower" if high < 1 else "higher" if low > 1 else "no difference shown"
        if a.censored or b.censored:
            ratio = low = high = math.nan
            verdict = "not measured"
        elif math.isnan(error):
            verdict = "no interval"
        rows.append((a.diameter_mm, a.cdc_um, b.cdc_um, ratio, low, high, verdict))
    columns = ["diameter_mm", "first_um", "second_um", "ratio", "ci_low", "ci_high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def one_against_many(first: Record, second: Record) -> pd.DataFrame:
    """Each image's own curve in the first record, against the curve of all images in the second.

    Returns:
        One row per image and diameter that the second record measures: image, diameter_mm, one_um, many_um and ratio.
    """
    rows = [
        (image.name, point.diameter_mm, one, point.cdc_um, one / point.cdc_um)
        for image in first.images
        for one, point in zip(image.cdc_um, second.curve, strict=True)
        if not point.censored
    ]
    return pd.DataFrame(rows, columns=["image", "diameter_mm", "one_um", "many_um", "ratio"])


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Bias and 95 % limits of agreement of one-image curves, as ratios, by diameter and in all.

    Args:
        table: of `one_against_many`.

    Returns:
        diameter_mm (NaN: all together), images, bias, and lower and upper, which hold 95 % of the images' ratios.

    Reference:
        Bland and Altman, Lancet 327, 307-310 (1986), on the logarithms.
    """
    rows = []
    for diameter, part in [*table.groupby("diameter_mm", sort=False), (math.nan, table)]:
        logs = np.log(part["ratio"])
        mean, spread = logs.mean(), logs.std(ddof=1) if len(logs) > 1 else math.nan
        rows.append((diameter, part["image"].nunique(), *np.exp([mean, mean - Z_95 * spread, mean + Z_95 * spread])))
    return pd.DataFrame(rows, columns=["diameter_mm", "images", "bias", "lower", "upper"])


def remarks(first: Record, second: Record) -> list[str]:
    """What makes the comparison doubtful."""
    found = []
    if first.options.human != second.options.human:
        found.append("the human factor multiplies different quantities in the two records")
    if first.options.method != second.options.method:
        found.append(f"the methods differ: {first.options.method} and {second.options.method}")
    if first.counting_equivalent != second.counting_equivalent:
        found.append("only one of the curves is that of counted hits: an observer who knows the places sees more")
    shared = len(shared_images(first, second))
    if 0 < shared < LEAST_PAIRS:
        are = "image is" if shared == 1 else "images are"
        found.append(f"{shared} {are} in both records, too few to allow for it: the interval of the ratio is too wide")
    for words, a, b in (
        ("pixel size", first.exposure.pixel_mm, second.exposure.pixel_mm),
        ("kind of pixels", first.exposure.for_presentation, second.exposure.for_presentation),
        ("phantom", first.phantom, second.phantom),
    ):
        if a != b:
            found.append(f"the {words} differs: {a} and {b}")
    return found
