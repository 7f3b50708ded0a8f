"""Tables of methods: means with intervals over patients, ranks, and whether a method beats every control."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xiqa.metrics.paired import corrected_p, smallest_p
from xiqa.metrics.statistics import FEWEST_PATIENTS, NOTHING, Interval, interval
from xiqa.registry import CONTROLS, scores

LOWER_IS_BETTER = frozenset({"deletion", *(name for name, score in scores().items() if score.lower_is_better)})
"""Metrics of which less is better; of all others more is."""
BETTER, NOT_BETTER = "better than the best control", "not better than the best control"
NOT_TESTABLE = "not testable with {} patients"
AT_CEILING = "cannot be beaten: a control is right in nearly all patients"
LEVEL = 0.05
COMPARED = (
    "control", "difference", "ci_low", "ci_high", "least_low", "p_corrected", "n", "n_patients", "room", "verdict",
)  # fmt: skip


def summarise(scores: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean score of each group of rows, with its interval over patients.

    Args:
        scores: one row per scored map: the columns of `by`, patient, value (NaN: not scored; -1 to 1).
        by: columns that name a group, such as dataset, metric and method.

    Returns:
        One row per group, in the order of appearance: the columns of `by`, mean, ci_low, ci_high (see
        `xiqa.metrics.statistics.interval`; NaN: too few patients), n (scored maps), not_scored, n_patients (of scored
        maps).

    Raises:
        ValueError: a column or a patient is missing.
    """
    scores, by = _checked(scores, [*by, "patient", "value"]), list(by)
    rows = []
    for key, part in scores.groupby(by, sort=False, dropna=False):
        scored = part[part["value"].notna()]
        low, high = score_interval(scored["value"].to_numpy(), scored["patient"])
        mean = scored["value"].mean() if len(scored) else np.nan
        rows.append((*key, mean, low, high, len(scored), len(part) - len(scored), scored["patient"].nunique()))
    return pd.DataFrame(rows, columns=[*by, "mean", "ci_low", "ci_high", "n", "not_scored", "n_patients"])


def score_interval(values: np.ndarray, patients: ArrayLike, *, level: float = 1 - LEVEL) -> Interval:
    """`interval` of a mean of scores or of differences of scores, which lie within 0 to 1 or -1 to 1."""
    if not len(values):
        return NOTHING
    bounds = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (-1.0, 1.0)
    inside = np.abs(values).max() <= 1
    return interval(values, patients, bounds=bounds if inside else None, level=level)


def against_controls(
    scores: pd.DataFrame,
    by: Sequence[str],
    *,
    controls: Sequence[str] = CONTROLS,
    pairs: Sequence[str] = ("image",),
    lower_is_better: Collection[str] = LOWER_IS_BETTER,
    tests: int = 1,
) -> pd.DataFrame:
    """Whether each method is better than every control on the same images.

    A method must beat each of the controls (intersection of tests), so that none is chosen on these data. The test of
    signs is exact where differences lie symmetric about 0; where many are slightly above 0 and few far below, it
    alone would find their mean above 0 too often. Intervals that hold for all methods together guard against that.

    Args:
        scores: one row per scored map: the columns of `by` and `pairs`, method, patient, value (NaN: not scored).
        by: columns within which methods are compared (not method), such as dataset and metric.
        controls: methods that a method must beat.
        pairs: columns that tell what was scored, once per method: image, and seed where it is not in `by`.
        lower_is_better: metrics of which less is better, as the column metric, where there is one, names them.
        tests: how many such tests are made together (checks of a data set); Bonferroni's correction.

    Returns:
        One row per group and method but the controls: the columns of `by`, method, control (the one from which it
        differs least; None without any), difference (mean over pairs; positive: the method is better, also where less
        is), ci_low, ci_high, least_low (the lowest end over all controls of intervals that hold for all methods and
        tests together), p_corrected (the largest over controls of `xiqa.metrics.paired.corrected_p` over all methods
        of the group, times the tests), n (pairs), n_patients, room (patients in whom
        a perfect map would be better than each control), verdict: better where least_low lies above 0 and p_corrected
        below 0.05; "not testable with n patients" where no result could be, and `AT_CEILING` where not
        even a perfect map could be significant.

    Raises:
        ValueError: a column or a patient is missing, or a method scored the same pair twice.
    """
    by, unit = list(by), list(dict.fromkeys([*pairs, "patient"]))
    metric = ["metric"] if "metric" in scores else []
    scores = _checked(scores, dict.fromkeys([*by, *metric, "method", *unit, "value"]))
    twice = scores.duplicated([*by, "method", *unit])
    if twice.any():
        raise ValueError(
            f"scores: found {int(twice.sum())} rows that repeat others in {[*by, 'method', *unit]}, expected one score "
            "each; name what tells them apart in by or pairs (seed, architecture, form, smoothing)"
        )
    tables = [
        _tested(part, unit, controls, lower_is_better, tests).assign(**dict(zip(by, key, strict=True)))
        for key, part in scores.groupby(by, sort=False, dropna=False)
    ]
    columns = [*by, "method", *COMPARED]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _tested(
    part: pd.DataFrame, unit: Sequence[str], controls: Sequence[str], lower_is_better: Collection[str], tests: int
) -> pd.DataFrame:
    """One row per method of one group; see `against_controls`."""
    metric = part["metric"].iat[0] if "metric" in part else ""
    wide = part.pivot(index=unit, columns="method", values="value")
    scored = {name: column.to_numpy() * (-1 if metric in lower_is_better else 1) for name, column in wide.items()}
    patients = pd.factorize(wide.index.get_level_values("patient"), sort=True)[0]
    present = [name for name in controls if name in scored and not np.isnan(scored[name]).all()]
    against: list[str | None] = [*present] or [None]
    methods = [name for name in part["method"].unique() if name not in controls]
    gains, each, best = {}, [], 0 if metric in lower_is_better else 1
    # Patients in whom a perfect map would be better than a control: the others cannot speak for any method.
    rooms = {name: len(set(patients[scored[name] < best - 1e-12])) for name in present}
    for method in methods:
        for control in against:
            gain = scored[method] - (scored[control] if control else np.nan)
            both = ~np.isnan(gain)
            gain, whose = gain[both], patients[both]
            gains[method, control] = gain, whose
            with np.errstate(invalid="ignore"):
                numbers = np.bincount(whose, minlength=patients.max(initial=-1) + 1)
                each.append(np.bincount(whose, gain, minlength=len(numbers)) / numbers)
    p_values = dict(zip(gains, corrected_p(np.column_stack(each)) if each else (), strict=True))
    rows = []
    for method in methods:
        own = {control: gains[method, control] for control in against}
        means = {control: gain.mean() if len(gain) else np.inf for control, (gain, _) in own.items()}
        intervals = {control: score_interval(*pair) for control, pair in own.items()}
        control, number = min(means, key=means.__getitem__), min(len(set(whose)) for _, whose in own.values())
        p = min(1, tests * max(p_values[method, name] for name in own))
        together = joint_level(len(methods), tests)
        least = np.min([score_interval(*pair, level=together)[0] for pair in own.values()])
        room, testable = min([number, *rooms.values()]), can_pass(number, tests=tests)
        verdict = AT_CEILING if testable else NOT_TESTABLE.format(number)
        verdict = NOT_BETTER if can_pass(room, tests=tests) else verdict
        verdict = BETTER if p < LEVEL and least > 0 else verdict
        difference = means[control] if np.isfinite(means[control]) else np.nan
        found = (*intervals[control], least, p, len(own[control][0]), number, room, verdict)
        rows.append((method, control, difference, *found))
    return pd.DataFrame(rows, columns=["method", *COMPARED])


def joint_level(methods: int, tests: int) -> float:
    """Level of an interval whose low ends hold for all methods and tests together (Bonferroni)."""
    return 1 - 2 * LEVEL / max(methods * tests, 1)


def can_pass(patients: int, *, tests: int = 1) -> bool:
    """Whether any result of these patients could be significant, were it corrected for several tests."""
    return patients >= FEWEST_PATIENTS and tests * smallest_p(patients) < LEVEL


def leaderboard(
    scores: pd.DataFrame,
    costs: pd.DataFrame | None = None,
    *,
    lower_is_better: Collection[str] = LOWER_IS_BETTER,
) -> pd.DataFrame:
    """Methods by metric and data set, best first.

    Args:
        scores: one row per image, metric and method: dataset, method, metric, image, patient, value (NaN: not scored).
        costs: method (and dataset), seconds_per_map, peak_memory_mb; None leaves both NaN.
        lower_is_better: metrics of which less is better.

    Returns:
        One row per metric, data set and method: metric, dataset, method, rank (1 is best; controls are ranked too),
        mean_rank (of the method and metric over data sets), mean, ci_low, ci_high, n, not_scored, n_patients,
        beats_best_control (see `against_controls`; False for controls), seconds_per_map, peak_memory_mb.
    """
    by = ["metric", "dataset"]
    table = summarise(scores, [*by, "method"])
    oriented = table["mean"] * np.where(table["metric"].isin(lower_is_better), -1, 1)
    rank = oriented.groupby([table[name] for name in by]).rank(method="min", ascending=False)
    table.insert(3, "rank", rank)
    table.insert(4, "mean_rank", table.groupby(["metric", "method"])["rank"].transform("mean"))
    compared = against_controls(scores, by, lower_is_better=lower_is_better)
    winners = pd.MultiIndex.from_frame(compared.loc[compared["verdict"] == BETTER, [*by, "method"]])
    table["beats_best_control"] = pd.MultiIndex.from_frame(table[[*by, "method"]]).isin(winners)
    measured = ["seconds_per_map", "peak_memory_mb"]
    if costs is None:
        table[measured] = np.nan
    else:
        keys = [name for name in ("dataset", "method") if name in costs]
        table = table.merge(costs[[*keys, *measured]], on=keys, how="left", validate="many_to_one")
    return table.sort_values([*by, "rank"], kind="stable", ignore_index=True)


def _checked(scores: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The columns needed, with values that are not finite as NaN."""
    missing = [name for name in columns if name not in scores]
    if missing:
        raise ValueError(f"scores: found columns {list(scores.columns)}, expected also {missing}")
    if scores["patient"].isna().any():
        raise ValueError(f"patient: found {int(scores['patient'].isna().sum())} rows without, expected one in each row")
    return scores[list(columns)].assign(value=scores["value"].astype(float).replace([np.inf, -np.inf], np.nan))
