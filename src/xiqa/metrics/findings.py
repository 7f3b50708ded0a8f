"""The findings of a study in sentences, each computed from its tables: what a reader must know first comes first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import DIAMETERS_MM
from xiqa.metrics.calibration import ALL
from xiqa.metrics.modified_image import ENOUGH_FOR_A_TEST, REFERENCE_FORM
from xiqa.metrics.prediction import POOLED, POOLED_GROUPS, STOOD_FOR
from xiqa.metrics.statistics import FEWEST_PATIENTS
from xiqa.names import group_name, method_name

IMAGE_SHARE = 0.10
"""Below this share of its variance (of the logarithm) between images, an uncertainty hardly depends on the image."""

SIGNIFICANT = 0.05


def describe_findings(
    curves: pd.DataFrame,
    scores: pd.DataFrame,
    uncertainty: pd.DataFrame,
    calibration: pd.DataFrame,
    methods: pd.DataFrame,
    modified: pd.DataFrame,
    shares: pd.DataFrame,
    designs: pd.DataFrame,
) -> list[tuple[str, str]]:
    """Sentences with their numbers, whichever way they came out; lists that would make a sentence long stay in tables.

    Args:
        curves: cdc.csv.
        scores: prediction_scores.csv.
        uncertainty: uncertainty_dependence.csv.
        calibration: uncertainty_calibration.csv.
        methods: curve_methods.csv.
        modified: modified_image_summary.csv.
        shares: structure_share_summary.csv.
        designs: upsampling_designs.csv.

    Returns:
        (heading, sentence) pairs in the order of their weight; a heading may come several times in a row.
    """
    parts = {
        "Shortcut": _shortcut(scores),
        "Accuracy": _accuracy(scores),
        "Uncertainty": [_dependence(uncertainty), *_coverage(scores, calibration)],
        "Ways to a curve": _ways(methods),
        "Censoring": [_censoring(curves, list(scores["group"]))],
        "Modified image": _modified(modified),
        "Structures": _structures(shares),
        "Precision of the maps": _precision(designs),
    }
    return [(heading, sentence) for heading, sentences in parts.items() for sentence in sentences]


def _shortcut(scores: pd.DataFrame) -> list[str]:
    rows = _by_verdict(scores, "against_shortcut")
    sentences = []
    if len(worse := rows["worse"]):
        sentences.append(
            f"On {_groups(worse)} background mean and SD alone predict better ({_errors(worse, 'shortcut')}). "
            "Accuracy there is no evidence of looking at discs."
        )
    if len(better := rows["better"]):
        sentences.append(
            f"On {_groups(better)} the ensemble predicts better than background mean and SD alone "
            f"({_errors(better, 'shortcut')})."
        )
    if len(equal := rows["not told apart"]):
        sentences.append(
            f"On {_groups(equal)} the ensemble is not shown to predict better than background mean and SD alone "
            f"({_errors(equal, 'shortcut')})."
        )
    return sentences


def _accuracy(scores: pd.DataFrame) -> list[str]:
    rows = _by_verdict(scores, "against_train_mean")
    sentences = []
    if len(better := rows["better"]):
        sentences.append(
            f"On {_groups(better)} the ensemble's RMSE of the midpoint is "
            f"{_span(better['rmse_over_train_mean'], '.2f')} times that of predicting the training mean."
        )
    if len(worse := rows["worse"]):
        sentences.append(
            f"On {_groups(worse)} the training mean, which sees no image, predicts better "
            f"({_errors(worse, 'train_mean')})."
        )
    if len(equal := rows["not told apart"]):
        sentences.append(
            f"On {_groups(equal)} the ensemble is not shown to predict better than the training mean "
            f"({_errors(equal, 'train_mean')})."
        )
    return sentences


def _dependence(uncertainty: pd.DataFrame) -> str:
    row = uncertainty.iloc[0]
    if row["n"] < 2:
        return "Whether the predicted uncertainty depends on the image is not testable with one test image."
    varies = f"{100 * row['image_variation']:.0f} % over the {row['n']:.0f} test images"
    if np.isnan(row["image_share"]):
        return f"The predicted uncertainty is one number at each diameter (it varies by {varies})."
    if row["image_share"] < IMAGE_SHARE:
        return (
            f"At a given diameter the predicted uncertainty varies by only {varies}: it depends on the diameter, "
            "hardly on the image."
        )
    return f"At a given diameter the predicted uncertainty varies by {varies}: it depends on the image too."


def _coverage(scores: pd.DataFrame, calibration: pd.DataFrame) -> list[str]:
    scored = scores[(scores["group"] != POOLED) & scores["coverage_95"].notna()]
    known = scored[scored["group"].isin(STOOD_FOR)]
    foreign = scored[~scored["group"].isin(STOOD_FOR)]
    used = calibration[calibration["setting"] == ALL]
    sentences = [
        f"Bands of ± 1.96 predicted uncertainties cover {_percent(scored['coverage_95'])} of the points per test "
        "group; 95 % would be right."
    ]
    if used.empty or used["scale"].isna().any():
        return [*sentences, "They are not calibrated: no validation setting has a measured point."]
    row = used.iloc[0]
    low, high = row["error_over_uncertainty_low"], row["error_over_uncertainty_high"]
    width = "too wide" if high < 1 else "too narrow" if low > 1 else "not shown to be too wide or too narrow"
    sentences.append(
        f"On {row['settings']:.0f} validation settings errors are {row['error_over_uncertainty']:.2f} times the "
        f"predicted uncertainty (95 % interval {low:.2f} to {high:.2f}): the bands are {width}."
    )
    left_out = (
        f"{_percent([row['coverage_95_calibrated']])} of the validation settings, each left out,"
        if pd.notna(row["coverage_95_calibrated"])
        else "an unknown share of new settings"
    )
    on_known = f" and {_percent(known['coverage_95_calibrated'])} of {_groups(known)}" if len(known) else ""
    sentences.append(f"Calibrated by a factor of {row['scale']:.2f} they cover {left_out}{on_known}.")
    if len(foreign):
        sentences.append(
            f"No validation setting stands for {_groups(foreign)}: there calibrated bands cover "
            f"{_each_percent(foreign['coverage_95_calibrated'])}, uncalibrated ones "
            f"{_each_percent(foreign['coverage_95'])}."
        )
    return sentences


def _ways(methods: pd.DataFrame) -> list[str]:
    """Error of each way to a curve over the systems, and coverage of those that give intervals."""
    sentences = []
    for method, rows in methods.dropna(subset=["relative_error"]).groupby("method", sort=False):
        number, covered = int(rows["images"].max()), rows["coverage_95"].dropna()
        which = "one image" if number == 1 else f"{number} images"
        what = f"Curves from {which} by {method} are off by {_percent(rows['relative_error'])} of the analytic curve"
        told = f"their 95 % intervals hold it at {_percent(covered)} of the diameters" if len(covered) else ""
        sentences.append(f"{what}; {told}." if told else f"{what}.")
    return sentences or ["No way to a curve is scored: no test group is simulated, so no analytic curve is known."]


def _censoring(curves: pd.DataFrame, groups: list[str]) -> str:
    # The images of group `recorded` carry the names of their settings.
    shown = curves["setting"].isin(groups) | curves["setting"].str.startswith("recording_")
    counts = curves[shown].groupby("setting", sort=False)["censored"].agg(["sum", "size"])
    parts = [f"{group_name(group).removeprefix('scenario ')} {row['sum']:.0f}" for group, row in counts.iterrows()]
    if not counts["sum"].any():
        return "No threshold of the test groups is censored: labels were measured at all diameters."
    return (
        "Thresholds outside the phantom's range of 0.03-2 µm are bounds, left out of errors "
        f"(of {counts['size'].max()} diameters: {', '.join(parts)})."
    )


def _modified(modified: pd.DataFrame) -> list[str]:
    rows = modified[modified["group"] == "all"].set_index(["method", "form"])
    first = rows.index[0][0]
    name = method_name(first)
    own = rows.loc[(first, REFERENCE_FORM)]
    n = int(own["n"])
    sentences = [
        f"Adding the {name} map in our form (divided by the visits of each pixel) lowered the midpoint in "
        f"{_of(own)} ({_change(own)})."
    ]
    if (first, "published") in rows.index:
        printed = rows.loc[(first, "published")]
        sentences.append(
            f"In the form printed in the paper (divided by all draws) it lowered the midpoint in {_of(printed)} "
            f"({_change(printed)})."
        )
    others = [
        (f"the {name} map shuffled" if form == "permuted" else f"the map of {method_name(method)} at equal norm", row)
        for (method, form), row in rows.iterrows()
        if form == "permuted" or method != first
    ]
    sentences += [
        f"For comparison, {what} lowered it in {_of(row)} (median {row['median_change_um']:+.3g} µm)."
        for what, row in others
    ]
    if n < ENOUGH_FOR_A_TEST:
        images = "One image proves" if n == 1 else f"{n} images prove"
        sentences.append(f"{images} little: no test of these differences could be significant.")
        return sentences
    # Bonferroni's correction for as many comparisons as the sentence names.
    by_more = [what for what, row in others if row["p_value"] < SIGNIFICANT / len(others)]
    not_shown = [what for what, row in others if what not in by_more]
    if by_more:
        sentences.append(f"Our {name} map lowers it by more than {_and(by_more)} (Wilcoxon, corrected p below 0.05).")
    if not_shown:
        sentences.append(f"Our {name} map is not shown to lower it by more than {_and(not_shown)}.")
    return sentences


def _structures(shares: pd.DataFrame) -> list[str]:
    first = shares["method"].iloc[0]
    rows = shares[(shares["group"] == "all") & (shares["method"] == first)]
    n = int(rows["n"].max())
    if n < FEWEST_PATIENTS:
        images = "one image" if n == 1 else f"{n} images"
        return [f"Where the {method_name(first)} map lies is not testable with {images}."]
    sentences = []
    for verdict, words in (("more", "more"), ("less", "less")):
        part = rows[rows["lies_there"] == verdict]
        if len(part):
            sentences.append(
                f"On {_names(part)} lies {words} of the {method_name(first)} map than by area "
                f"({_span(part['enrichment'], '.2f')} times as much, {n} images)."
            )
    part = rows[rows["lies_there"] == "not told apart"]
    if len(part):
        sentences.append(f"On {_names(part)} its share is not told apart from that of the area ({n} images).")
    return sentences


def _precision(designs: pd.DataFrame) -> list[str]:
    most = designs[designs["draws"] == designs["draws"].max()].set_index("without_replacement")
    errors = {way: 100 * most["relative_error_between_repeats"].get(way, np.nan) for way in (False, True)}
    return [
        f"A {method_name(designs['method'].iloc[0])} map upsampled from {most['draws'].iloc[0]:.0f} draws has a "
        f"relative error of {errors[True]:.0f} % between repeats, drawn without replacement, and {errors[False]:.0f} % "
        "drawn with."
    ]


def _by_verdict(scores: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Rows of each verdict; scenarios #1-#3 stand as one row where all three share the verdict of the pooled one."""
    pooled, single = scores[scores["group"] == POOLED], scores[scores["group"].isin(POOLED_GROUPS)]
    same = len(pooled) and set(single[column]) == set(pooled[column])
    out = list(POOLED_GROUPS) if same else [POOLED]
    kept = pd.concat([pooled, scores[scores["group"] != POOLED]])
    kept = kept[~kept["group"].isin(out)]
    return {verdict: kept[kept[column] == verdict] for verdict in ("better", "worse", "not told apart")}


def _errors(rows: pd.DataFrame, other: str) -> str:
    """RMSE of the other answer against the ensemble's, of up to two groups; of more, their ratio."""
    if len(rows) > 2:
        return f"the ensemble's RMSE is {_span(rows[f'rmse_over_{other}'], '.2f')} times as large"
    pairs = [
        f"{theirs:.2g} against the ensemble's {own:.2g}" if number == 0 else f"{theirs:.2g} against {own:.2g}"
        for number, (theirs, own) in enumerate(zip(rows[f"rmse_{other}_um"], rows["rmse_midpoint_um"], strict=True))
    ]
    return f"RMSE of the midpoint {'; '.join(pairs)} µm"


def _groups(rows: pd.DataFrame) -> str:
    """Names of test groups in one phrase, in the order of the rows: scenarios #1-#3 and #4, OOD."""
    scenarios = [group for group in rows["group"] if group.startswith("scenario_")]
    numbers = [int(group.removeprefix("scenario_")) for group in scenarios if group != POOLED]
    parts = ["#1-#3"] if POOLED in scenarios else []
    for first, last in _runs(numbers):
        # A pair is named one by one: errors are then listed one by one too.
        parts += [f"#{first}-#{last}"] if last > first + 1 else [f"#{number}" for number in range(first, last + 1)]
    if parts:
        parts[0] = f"scenario{'s' if len(parts) > 1 or '-' in parts[0] else ''} {parts[0]}"
    return _and([*parts, *(group_name(group) for group in rows["group"] if group not in scenarios)])


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of whole numbers that follow each other."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    return [(int(run[0]), int(run[-1])) for run in np.split(np.asarray(numbers), breaks) if len(run)]


def _names(rows: pd.DataFrame) -> str:
    """Names of structures; discs that follow each other by diameter as one range."""
    place = {round(diameter, 3): number for number, diameter in enumerate(DIAMETERS_MM)}
    discs = sorted(place[round(diameter, 3)] for diameter in rows.loc[rows["structure"] == "disc", "diameter_mm"])
    ranges = [
        f"{DIAMETERS_MM[first]:g}" + (f" to {DIAMETERS_MM[last]:g}" if first != last else "")
        for first, last in _runs(discs)
    ]
    parts = [f"discs of {_and(ranges)} mm"] if ranges else []
    return _and([*parts, *rows.loc[rows["structure"] != "disc", "structure"]])


def _of(row: pd.Series) -> str:
    n, lowered = int(row["n"]), int(row["lowered"])
    if lowered == n > 1:
        return "both images" if n == 2 else f"all {n} images"
    return f"{lowered} of {n} images"


def _change(row: pd.Series) -> str:
    return f"median {row['median_change_um']:+.3g} µm, {row['median_change_percent']:+.2g} %"


def _span(values: pd.Series, digits: str) -> str:
    low, high = (format(end, digits) for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _percent(shares: Sequence[float] | pd.Series) -> str:
    return f"{_span(100 * pd.Series(shares, dtype=float), '.0f')} %"


def _each_percent(shares: pd.Series) -> str:
    return f"{_and([f'{100 * share:.0f}' for share in shares])} %"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
