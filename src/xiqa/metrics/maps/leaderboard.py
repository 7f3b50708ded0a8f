"""Tables of methods: means with intervals over patients, ranks, and whether a method beats the best control."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from xiqa.config import CONTROLS
from xiqa.metrics.paired import holm

LOWER_IS_BETTER = frozenset({"deletion"})
"""Metrics of which less is better; of all others more is."""
BETTER, NOT_BETTER = "better than the best control", "not better than the best control"


@lru_cache(maxsize=4)
def patient_draws(patients: int, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """How often each patient is drawn, (draws, patients): the draws of `xiqa.metrics.statistics.bootstrap_ci`."""
    chosen = np.random.default_rng(seed).integers(0, patients, (draws, patients))
    cells = chosen + patients * np.arange(draws)[:, None]
    weights = np.bincount(cells.ravel(), minlength=draws * patients).reshape(draws, patients).astype(np.float64)
    weights.flags.writeable = False  # one array serves all callers
    return weights


def patient_interval(
    values: np.ndarray, patients: Sequence, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over whole patients: `bootstrap_ci` from sums per patient, in milliseconds.

    Args:
        values: (n,) finite.
        patients: (n,) whose value it is.
        draws: bootstrap draws.
        seed: seed of the draws.

    Returns:
        Low and high end; NaN with fewer than two patients. The order of the rows does not matter.
    """
    codes, names = pd.factorize(np.asarray(patients), sort=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    weights = patient_draws(len(names), draws, seed)
    drawn = (weights @ np.bincount(codes, values)) / (weights @ np.bincount(codes))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; 1 where all differences are 0.

    Up to 50 differences it is exact, ties included; scipy's takes half a second for a few differences with ties.

    Args:
        differences: (n,) finite; zeros are left out.

    Reference: Wilcoxon, Biometrics Bulletin 1 (1945) 80.
    """
    differences = differences[differences != 0]
    if len(differences) > 50:
        return float(stats.wilcoxon(differences, method="asymptotic").pvalue)
    # Twice the mid-ranks are whole numbers: count the choices of signs that give each sum of the positive ones.
    ranks = (2 * stats.rankdata(np.abs(differences))).astype(int)
    choices = np.zeros(ranks.sum() + 1)
    choices[0] = 1
    for rank in ranks:
        choices[rank:] += choices[:-rank]
    positive = ranks[differences > 0].sum()
    tail = choices[: min(positive, ranks.sum() - positive) + 1].sum()
    return float(min(1, 2 * tail / 2 ** len(ranks)))


def summarise(scores: pd.DataFrame, by: Sequence[str], *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean score of each group of rows, with its interval over patients.

    Args:
        scores: one row per scored map: the columns of `by`, patient, value (NaN: not scored).
        by: columns that name a group, such as dataset, metric and method.
        draws: bootstrap draws over patients.
        seed: seed of the draws.

    Returns:
        One row per group, in the order of appearance: the columns of `by`, mean, ci_low, ci_high, n (scored maps),
        not_scored, n_patients (of scored maps).

    Raises:
        ValueError: a column or a patient is missing.
    """
    scores, by = _checked(scores, [*by, "patient", "value"]), list(by)
    rows = []
    for key, part in scores.groupby(by, sort=False, dropna=False):
        values, patients = part["value"].to_numpy(float), part["patient"].to_numpy()
        scored = ~np.isnan(values)
        values, patients = values[scored], patients[scored]
        mean = values.mean() if len(values) else np.nan
        interval = patient_interval(values, patients, draws=draws, seed=seed)
        rows.append((*key, mean, *interval, len(values), len(part) - len(values), len(pd.unique(patients))))
    return pd.DataFrame(rows, columns=[*by, "mean", "ci_low", "ci_high", "n", "not_scored", "n_patients"])


def against_best_control(
    scores: pd.DataFrame,
    by: Sequence[str],
    *,
    controls: Sequence[str] = CONTROLS,
    pairs: Sequence[str] = ("image",),
    lower_is_better: Collection[str] = LOWER_IS_BETTER,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether each method is better than the best control on the same images.

    Args:
        scores: one row per scored map: the columns of `by` and `pairs`, method, patient, value (NaN: not scored).
        by: columns within which methods are compared (not method), such as dataset and metric.
        controls: methods that a method must beat; the one with the best mean in the group is taken.
        pairs: columns that tell what was scored, once per method: image, and seed where it is not in `by`.
        lower_is_better: metrics of which less is better, as the column metric, where there is one, names them.
        draws: bootstrap draws over patients.
        seed: seed of the draws.

    Returns:
        One row per group and method but the controls: the columns of `by`, method, control (None without any),
        difference (mean over pairs; positive: the method is better, also where less is), ci_low, ci_high (95 %
        bootstrap over patients), p_value (two-sided Wilcoxon on the patients' mean differences; 1 where all are 0),
        p_holm (over the methods of the group), n (pairs), n_patients, verdict: better where the interval lies above 0
        and p_holm below 0.05.

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
    rows = []
    for key, part in scores.groupby(by, sort=False, dropna=False):
        wide = part.pivot(index=unit, columns="method", values="value")
        wide *= -1 if metric and part["metric"].iloc[0] in lower_is_better else 1
        means = wide[[name for name in controls if name in wide]].mean().dropna()
        control = means.idxmax() if len(means) else None
        best = wide[control].to_numpy() if control else np.nan
        patients = wide.index.get_level_values("patient").to_numpy()
        for method in part["method"].unique():
            if method in controls:
                continue
            difference = wide[method].to_numpy() - best
            both = ~np.isnan(difference)
            difference, whose = difference[both], patients[both]
            interval = patient_interval(difference, whose, draws=draws, seed=seed)
            codes = pd.factorize(whose)[0]
            each = np.bincount(codes, difference) / np.bincount(codes)
            mean = difference.mean() if len(each) else np.nan
            rows.append((*key, method, control, mean, *interval, signed_rank_p(each), len(difference), len(each)))
    found = ["difference", "ci_low", "ci_high", "p_value", "n", "n_patients"]
    table = pd.DataFrame(rows, columns=[*by, "method", "control", *found])
    p_holm = table.groupby(by, sort=False, dropna=False)["p_value"].transform(lambda p: holm(p.to_numpy()))
    table.insert(table.columns.get_loc("n"), "p_holm", p_holm)
    better = (table["ci_low"] > 0) & (table["p_holm"] < 0.05)
    return table.assign(verdict=np.where(better, BETTER, NOT_BETTER))


def leaderboard(
    scores: pd.DataFrame,
    costs: pd.DataFrame | None = None,
    *,
    lower_is_better: Collection[str] = LOWER_IS_BETTER,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Methods by metric and data set, best first.

    Args:
        scores: one row per image, metric and method: dataset, method, metric, image, patient, value (NaN: not scored).
        costs: method (and dataset), seconds_per_map, peak_memory_mb; None leaves both NaN.
        lower_is_better: metrics of which less is better.
        draws: bootstrap draws over patients.
        seed: seed of the draws.

    Returns:
        One row per metric, data set and method: metric, dataset, method, rank (1 is best; controls are ranked too),
        mean_rank (of the method and metric over data sets), mean, ci_low, ci_high, n, not_scored, n_patients,
        beats_best_control (see `against_best_control`; False for controls), seconds_per_map, peak_memory_mb.
    """
    by, options = ["metric", "dataset"], {"draws": draws, "seed": seed}
    table = summarise(scores, [*by, "method"], **options)
    oriented = table["mean"] * np.where(table["metric"].isin(lower_is_better), -1, 1)
    rank = oriented.groupby([table[name] for name in by]).rank(method="min", ascending=False)
    table.insert(3, "rank", rank)
    table.insert(4, "mean_rank", table.groupby(["metric", "method"])["rank"].transform("mean"))
    compared = against_best_control(scores, by, lower_is_better=lower_is_better, **options)
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
