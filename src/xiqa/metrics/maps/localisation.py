"""All localisation scores of maps at once: the long table of single maps, and curves averaged over images."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from xiqa.metrics.maps.overlap import froc
from xiqa.metrics.maps.pointing_game import chance_level, pointing_game
from xiqa.metrics.maps.region_dice import PERCENT, region_dice
from xiqa.metrics.maps.roc_auc import mean_roc, roc_auc
from xiqa.metrics.maps.scored import not_scored
from xiqa.registry import Score, score_module
from xiqa.registry import scores as registered
from xiqa.segmentation import Segments

INVERTED = ("integrated_gradients", "expected_gradients")
"""The methods of Brocki 2022 whose sign it inverts so that positive values speak for the true class."""


def published_signs(method: str, labels: np.ndarray) -> np.ndarray:
    """Factors (n,) that turn our maps of a network with one output into those of Brocki 2022.

    A single output z speaks for the second class. We explain (2 label - 1) z with every method, so that positive values
    always speak for the true class. The paper does so for integrated and expected gradients only ("targeted inversion
    of signs"; its black and white integrated gradients, whose sign "is not clear", are those of another publication),
    and explains z with all others: their maps of the first class have the opposite sign.

    Args:
        method: its name.
        labels: (n,) 0 or 1.

    Reference: Brocki 2022, section 2.
    """
    return np.ones(len(labels)) if method in INVERTED else np.where(np.asarray(labels) == 0, -1.0, 1.0)


def score_map(
    saliency: np.ndarray,
    mask: np.ndarray,
    *,
    tolerance_px: float,
    segments: Segments | None = None,
    within: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Every score of one map against its ground truth.

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool, the ground truth.
        tolerance_px: of the Pointing Game.
        segments: of the image, by `xiqa.segmentation.segment`; None: no `region_dice`.
        within: (h, w) bool, the pixels that count for `roc_auc_within`; None: no such score.

    Returns:
        Name -> value, None if not scored: pointing_game, pointing_game_smooth (1 hit, 0 miss), chance (the level of
        chance of both), those of `registry.scores()`, roc_auc_within, region_dice (maximum over the shares of the
        area).

    Raises:
        ValueError: map and mask differ in shape.
    """
    scores = pointing_games(saliency, mask, tolerance_px)
    scores |= {name: score_of(name)(saliency, mask) for name in registered()}
    if within is not None:
        scores["roc_auc_within"] = roc_auc(saliency, mask, within)
    if segments is not None:
        curve = region_dice(saliency, None, mask, segments)
        scores["region_dice"] = None if curve is None else curve.max()
    return {name: None if score is None else float(score) for name, score in scores.items()}


def score_of(name: str) -> Callable[[np.ndarray, np.ndarray], float | None]:
    """The function of a registered score."""
    return getattr(importlib.import_module(score_module(name)), name)


def pointing_games(saliency: np.ndarray, mask: np.ndarray, tolerance_px: float) -> dict[str, bool | float | None]:
    """pointing_game, pointing_game_smooth and chance of one map, as `score_map` has them."""
    hit = pointing_game(saliency, mask, tolerance_px)
    return {
        "pointing_game": hit,
        "pointing_game_smooth": pointing_game(saliency, mask, tolerance_px, smooth=True),
        "chance": None if hit is None else chance_level(mask, tolerance_px),
    }


def scores_of_maps(
    maps: np.ndarray,
    masks: np.ndarray,
    *,
    tolerance_px: float,
    segments: Sequence[Segments | None] | None = None,
    within: Sequence[np.ndarray] | None = None,
) -> pd.DataFrame:
    """Long table of the scores of the maps of one method, as they are and as absolute values.

    Args:
        maps: (n, h, w).
        masks: (n, h, w) bool.
        tolerance_px: of the Pointing Game.
        segments: of each image, None for one that gets no `region_dice`; see `score_map`.
        within: pixels of each image; see `score_map`.

    Returns:
        One row per form, image and metric: image (0 ... n - 1), form (signed: the map as it is; absolute: |map|),
        metric, value (NaN if not scored), valid, reason ("" if valid). Only the form absolute if no map of the method
        has a negative value: the forms are then the same.

    Raises:
        ValueError: maps and masks differ in shape.
    """

    def score(image: int, saliency: np.ndarray, mask: np.ndarray) -> dict[str, float | None]:
        return score_map(
            saliency,
            mask,
            tolerance_px=tolerance_px,
            segments=None if segments is None else segments[image],
            within=None if within is None else within[image],
        )

    return _long_table(maps, masks, score)


def pointing_games_of_maps(maps: np.ndarray, masks: np.ndarray, *, tolerance_px: float) -> pd.DataFrame:
    """The Pointing Game alone, for another ground truth or variant of the maps (n, h, w); as `scores_of_maps`."""
    return _long_table(maps, masks, lambda _, saliency, mask: pointing_games(saliency, mask, tolerance_px))


def curves_of_maps(
    maps: np.ndarray,
    masks: np.ndarray,
    *,
    tolerance_px: float,
    segments: Sequence[Segments | None] | None = None,
    signs: np.ndarray | None = None,
) -> pd.DataFrame:
    """Curves of the maps of one method averaged over images, in the forms of `scores_of_maps`.

    Args:
        maps: (n, h, w).
        masks: (n, h, w) bool.
        tolerance_px: of FROC.
        segments: of each image, None for one that is left out of region_dice; None: no region_dice.
        signs: (n,) of `published_signs`: maps with a sign have the form `published` as well; None: they have not.

    Returns:
        form, kind, x, y, area, n (scored images). kind roc: rates of false and true positives, area under the curve;
        roc_heights: no curve, the mean of its heights as area, as in Brocki 2022;
        region_dice: per cent of the area, mean Dice, its maximum as area; froc: false positives per image,
        sensitivity, its mean at 1/8 ... 8 as area. A kind without a scored image has no rows.

    Raises:
        ValueError: maps and masks differ in shape.

    Reference: Brocki 2022, figures 5 and 6, tables 2 and 3; see `mean_roc`, `region_dice` and `froc`.
    """
    parts = [pd.DataFrame(columns=["form", "kind", "x", "y", "area", "n"])]
    for form, formed in _forms(maps, masks, signs):
        if roc := mean_roc(formed, masks):
            curve = {"x": roc.curve["fpr"], "y": roc.curve["tpr"], "area": roc.area, "n": roc.n}
            parts.append(pd.DataFrame({"form": form, "kind": "roc", **curve}))
            heights = {"x": [np.nan], "y": np.nan, "area": roc.mean_height, "n": roc.n}
            parts.append(pd.DataFrame({"form": form, "kind": "roc_heights", **heights}))
        given = () if segments is None else zip(formed, masks, segments, strict=True)
        dice = [region_dice(saliency, None, mask, places) for saliency, mask, places in given if places is not None]
        if scored := [curve for curve in dice if curve is not None]:
            mean = np.mean(scored, axis=0)
            curve = {"x": PERCENT, "y": mean, "area": mean.max(), "n": len(scored)}
            parts.append(pd.DataFrame({"form": form, "kind": "region_dice", **curve}))
        if found := froc(formed, masks, tolerance_px):
            curve = {"x": found.curve["false_positives"], "y": found.curve["sensitivity"]}
            parts.append(pd.DataFrame({"form": form, "kind": "froc", **curve, "area": found.mean, "n": found.n}))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _undefined(metric: str) -> str:
    """Why a metric has no value where others of the same map have one."""
    if metric == "roc_auc_within":
        return "constant, or only ground truth or background, within the pixels that count"
    return registered().get(metric, Score("")).undefined


def _long_table(maps: np.ndarray, masks: np.ndarray, score: Callable[..., dict[str, float | None]]) -> pd.DataFrame:
    rows = []
    for form, formed in _forms(maps, masks):
        for image, (saliency, mask) in enumerate(zip(formed, masks, strict=True)):
            for metric, value in score(image, saliency, mask).items():
                reason = "" if value is not None else not_scored(saliency, mask) or _undefined(metric)
                rows.append(
                    (
                        image,
                        form,
                        metric,
                        float(value) if value is not None and not reason else np.nan,
                        not reason,
                        reason,
                    )
                )
    return pd.DataFrame(rows, columns=["image", "form", "metric", "value", "valid", "reason"])


def _forms(maps: np.ndarray, masks: np.ndarray, signs: np.ndarray | None = None) -> Iterator[tuple[str, np.ndarray]]:
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"maps and masks: found {maps.shape} and {masks.shape}, expected (n, h, w) twice")
    if (maps < 0).any():
        yield "signed", maps
        if signs is not None:
            yield "published", maps * np.asarray(signs, maps.dtype)[:, None, None]
    yield "absolute", np.abs(maps)
