"""The tables of Özer, Brima 2023 and Brocki 2022 from the scores of single maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xiqa.metrics.maps.difference_of_means import difference_of_means
from xiqa.metrics.maps.dose_response import dose_response
from xiqa.metrics.maps.leaderboard import against_controls, score_interval, summarise
from xiqa.metrics.maps.repeatability import repeatability

NETWORK = ["architecture", "weights"]
MAP = [*NETWORK, "method", "form"]
"""What a row of a table stands for; seeds are pooled, their spread is beside."""


def in_both_forms(scores: pd.DataFrame, others: Sequence[str] = ("signed",)) -> pd.DataFrame:
    """Rows of maps without a sign, which have one form, under the others as well, so that forms can be compared."""
    both = scores.groupby([*NETWORK, "method"])["form"].transform("nunique") > 1
    return pd.concat([scores, *(scores[~both].assign(form=form) for form in others)], ignore_index=True)


def methods_table(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean of one metric for each network and method, and whether it beats the best control.

    Args:
        scores: one row per map: architecture, weights, seed, method, form, metric, image, patient, label_name, value.
        metric: which rows.

    Returns:
        One row per architecture, weights, method and form: mean, ci_low, ci_high (95 % over patients), n,
        not_scored, n_patients, mean_over_classes (each class counts the same), sd_over_seeds, seeds; control (the best
        one), gain (mean difference to it on the same images), gain_low, gain_high, p_corrected,
        verdict; see `leaderboard.against_controls`.
    """
    rows = scores[scores["metric"] == metric]
    by_class = rows.groupby([*MAP, "label_name"])["value"].mean().groupby(MAP).mean()
    table = summarise(rows, MAP).merge(by_class.rename("mean_over_classes").reset_index(), on=MAP, how="left")
    table = table.merge(_over_seeds(rows), on=MAP, how="left")
    compared = against_controls(rows, [*NETWORK, "form"], pairs=["image", "seed"])
    compared = compared.rename(columns={"difference": "gain", "ci_low": "gain_low", "ci_high": "gain_high"})
    return table.merge(
        compared[[*MAP, "control", "gain", "gain_low", "gain_high", "p_corrected", "verdict"]], on=MAP, how="left"
    )


def pointing_game_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Pointing Game accuracy with and without smoothing, beside its mean over classes and the level of chance.

    Reference: Özer, tables 2-4.
    """
    parts = []
    for smoothing, metric in (("none", "pointing_game"), ("gaussian", "pointing_game_smooth")):
        parts.append(methods_table(scores, metric).rename(columns={"mean": "accuracy"}).assign(smoothing=smoothing))
    chance = scores.loc[scores["metric"] == "chance", "value"].mean()
    return pd.concat(parts, ignore_index=True).assign(
        chance=chance, tolerance_px=scores["tolerance_px"].iloc[0] if len(scores) else np.nan
    )


def smoothing_table(scores: pd.DataFrame) -> pd.DataFrame:
    """What smoothing does to the Pointing Game, on the same maps; see `paired_table`.

    Reference: Özer, table 2.
    """
    rows = scores[scores["metric"].isin(["pointing_game", "pointing_game_smooth"])]
    names = {"pointing_game": "unsmoothed", "pointing_game_smooth": "smoothed"}
    return paired_table(rows.assign(metric=rows["metric"].map(names)), MAP, "metric", "unsmoothed", ["smoothed"])


def randomisation_table(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Scores of trained networks against those of randomised ones on the same images; see `paired_table`.

    Reference: Özer, tables 3 and 4.
    """
    by = ["metric", "architecture", "method", "form"]
    rows = scores[scores["metric"].isin(metrics)]
    return paired_table(rows, by, "weights", "trained", ["semi_random", "fully_random"])


def paired_table(scores: pd.DataFrame, by: list[str], column: str, first: str, others: Sequence[str]) -> pd.DataFrame:
    """Mean scores under several conditions and their differences on the same images.

    Args:
        scores: one row per map: the columns of `by`, `column`, seed, image, patient, value.
        by: what a row of the table stands for.
        column: holds the condition.
        first: the condition that the others are compared with.
        others: the other conditions; those without a row are left out.

    Returns:
        One row per group of `by` and other condition: the mean and spread over seeds under both, difference (first
        less other) with its 95 % interval over patients, n, not_scored, n_patients.
    """
    rows = []
    for key, part in scores.groupby(by, sort=False):
        wide = part.pivot(index=["patient", "image", "seed"], columns=column, values="value")
        for other in others:
            if first not in wide or other not in wide:
                continue
            pair = wide[[first, other]].dropna()
            difference = (pair[first] - pair[other]).to_numpy()
            patients = pair.index.get_level_values("patient")
            repeats = {name: repeatability(pair[name].groupby("seed").mean()) for name in (first, other) if len(pair)}
            low, high = score_interval(difference, patients)
            rows.append(
                dict(zip(by, key, strict=True))
                | {
                    "compared_with": other,
                    first: pair[first].mean(),
                    f"{first}_sd_over_seeds": repeats[first].sd if repeats else np.nan,
                    "other": pair[other].mean(),
                    "other_sd_over_seeds": repeats[other].sd if repeats else np.nan,
                    "difference": difference.mean() if len(pair) else np.nan,
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(pair),
                    "not_scored": len(wide) - len(pair),
                    "n_patients": patients.nunique(),
                    "seeds": repeats[first].n if repeats else 0,
                }
            )
    columns = [
        *by, "compared_with", first, f"{first}_sd_over_seeds", "other", "other_sd_over_seeds", "difference", "ci_low",
        "ci_high", "n", "not_scored", "n_patients", "seeds",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def difference_of_means_table(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """How far the score of each method depends on the architecture of the trained network.

    Returns:
        One row per metric, method, form and pair of architectures (first, second): mean_first, mean_second,
        difference of the two with its interval over repeats (empty for a single repeat), whether it is the largest
        of the method's pairs, repeats (the fewer of both). Empty where one architecture is trained.

    Reference: Özer, tables 5 and 6.
    """
    rows = []
    trained = scores[(scores["weights"] == "trained") & scores["metric"].isin(metrics)].dropna(subset=["value"])
    for key, part in trained.groupby(["metric", "method", "form"], sort=False):
        means = part.groupby(["architecture", "seed"])["value"].mean()
        repeats = {name: values.tolist() for name, values in means.groupby("architecture")}
        if len(repeats) > 1:
            for pair in difference_of_means(repeats).pairs.itertuples():
                averages = [np.mean(repeats[name]) for name in (pair.first, pair.second)]
                told = (pair.first, pair.second, *averages, pair.difference, pair.ci_low, pair.ci_high)
                rows.append((*key, *told, min(pair.n_first, pair.n_second)))
    by = ["metric", "method", "form"]
    columns = [*by, "first", "second", "mean_first", "mean_second", "difference", "ci_low", "ci_high", "repeats"]
    table = pd.DataFrame(rows, columns=columns)
    largest = table.groupby(by)["difference"].transform(lambda values: values.index == values.idxmax())
    return table.assign(largest=largest.astype(bool))


def dose_response_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Whether the share of the map on the defect grows with its severity, trained networks; see `dose_response`.

    Args:
        scores: rows of the dose-response part with severity; of them those of relevance_mass are used.
    """
    rows = []
    mass = scores[(scores["part"] == "severity") & (scores["metric"] == "relevance_mass")]
    for key, part in mass.groupby([*MAP, "seed"], sort=False):
        found = dose_response(part["value"], part["severity"], part["patient"])
        levels = part.groupby("severity")["value"].mean()
        text = " ".join(f"{level:g}={value:.3f}" for level, value in levels.items())
        rows.append(dict(zip([*MAP, "seed"], key, strict=True)) | vars(found) | {"mass_by_severity": text})
    return pd.DataFrame(rows)


def cascade_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Likeness of maps to those of the trained network, by number of randomised blocks, with intervals over patients.

    Args:
        scores: one row per number of blocks, method and image: blocks, block, rank_correlation,
            rank_correlation_absolute, structural_similarity, and architecture, seed, patient.
    """
    by = ["architecture", "blocks", "block", "method"]
    measures = ["rank_correlation", "rank_correlation_absolute", "structural_similarity"]
    long = scores.melt([*by, "patient"], measures, var_name="measure")
    return summarise(long, [*by, "measure"])


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Spread of the mean between seeds, and how many there are."""
    means = rows.dropna(subset=["value"]).groupby([*MAP, "seed"])["value"].mean()
    found = {key: repeatability(values) for key, values in means.groupby(MAP)}
    return pd.DataFrame([(*key, f.sd, f.n) for key, f in found.items()], columns=[*MAP, "sd_over_seeds", "seeds"])
