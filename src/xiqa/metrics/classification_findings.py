"""What the classification studies found, in sentences made from their tables: shortcuts first."""

from __future__ import annotations

import pandas as pd

from xiqa.metrics.shortcut_classification import verdict

WEAKEST_AUC, ENOUGH_AUC = 0.75, 0.9


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of each score over seeds, which with cross-validation are its folds.

    Args:
        scores: scores.csv of all data sets with the column `dataset`.

    Returns:
        One row per dataset, architecture, weights and metric, over all classes: mean, sd (between seeds, NaN for a
        single one), lowest, highest, seeds (how many), data, grouping.
    """
    groups = ["dataset", "architecture", "weights", "metric"]
    overall = scores[scores["class_name"].fillna("") == ""].groupby(groups, sort=False)
    return overall.agg(
        mean=("value", "mean"), sd=("value", "std"), lowest=("value", "min"), highest=("value", "max"),
        seeds=("seed", "nunique"), data=("data", "first"), grouping=("grouping", "first"),
    ).reset_index()  # fmt: skip


def describe_classification(
    scores: pd.DataFrame, comparison: pd.DataFrame, by_severity: pd.DataFrame
) -> list[tuple[str, str]]:
    """Sentences with their numbers, whichever way they came out.

    Args:
        scores: scores.csv of all data sets with the column `dataset`; trained networks of all seeds, and shortcuts.
        comparison: comparison.csv of all data sets with the column `dataset`.
        by_severity: auc_by_severity.csv of all data sets with the column `dataset`; may be empty.

    Returns:
        (heading, sentence) pairs: first each network that is not shown to beat a shortcut; then means over seeds, the
        AUC of each network, its dose-response.
    """
    shortcuts, means, results, doses = [], [], [], []
    trained = comparison[comparison["weights"] == "trained"]
    for (dataset, architecture), rows in trained.groupby(["dataset", "architecture"], sort=False):
        found = [verdict(of_seed, architecture) for _, of_seed in rows.groupby("seed", sort=False)]
        unbeaten = [sentence for sentence in found if sentence]
        if unbeaten and len(found) == 1:
            shortcuts.append(f"{dataset}: {unbeaten[0]}")
        elif unbeaten:
            auc = rows.groupby("shortcut", sort=False)["shortcut_auc"].mean()
            shortcuts.append(
                f"{dataset}: In {len(unbeaten)} of {len(found)} seeds or folds {architecture} is not shown to beat "
                f"every shortcut. Mean AUC {rows['network_auc'].mean():.2f} against {auc.max():.2f} ({auc.idxmax()})."
            )
    overall = scores[(scores["metric"] == "auc") & scores["class_name"].fillna("").eq("")]
    overall = overall[(overall["weights"] == "trained") & ~overall["architecture"].str.startswith("shortcut")]
    several = over_seeds(scores).query("weights == 'trained' and seeds > 1 and metric in ('accuracy', 'auc')")
    for (dataset, architecture), rows in several.groupby(["dataset", "architecture"], sort=False):
        texts = [f"{row.metric} {row.mean:.3f} ({row.lowest:.3f} to {row.highest:.3f})" for row in rows.itertuples()]
        means.append(f"{dataset}, {architecture}, {rows['seeds'].iloc[0]} seeds or folds: {', '.join(texts)}.")
    for row in overall.itertuples():
        name = f"{row.dataset} ({row.data} images), {row.architecture}, seed {row.seed}"
        who = "patients" if row.grouping == "patient" else "proxy groups (no patient ids)"
        interval = f"95 % interval {row.ci_low:.3f} to {row.ci_high:.3f}" if pd.notna(row.ci_low) else "no interval"
        results.append(f"{name}: test AUC {row.value:.3f} ({interval}; {row.n_patients} {who}, {row.n_images} images).")
        levels = by_severity[
            (by_severity["dataset"] == row.dataset)
            & (by_severity["architecture"] == row.architecture)
            & (by_severity["weights"] == "trained")
            & (by_severity["seed"] == row.seed)
        ].sort_values("severity")
        if len(levels):
            steps = ", ".join(f"{level.value:.2f} at {level.severity:g}" for level in levels.itertuples())
            doses.append(f"{name}: {steps}.")
    parts = {
        "A shortcut may be as good": shortcuts,
        "Mean over seeds or folds": means,
        "Test AUC": results,
        "AUC against the severity of the defect": doses,
    }
    return [(heading, sentence) for heading, sentences in parts.items() for sentence in sentences]


def describe_checks(checks: pd.DataFrame) -> tuple[str, str]:
    """How many saliency maps say nothing: heading and sentence.

    Args:
        checks: saliency_checks.csv of all data sets with the column `dataset`: architecture, weights, seed, method,
            valid.
    """
    invalid = checks[~checks["valid"].astype(bool)]
    sentence = f"{len(invalid)} of {len(checks)} maps are constant or not finite"
    if len(invalid):
        worst = invalid.groupby(["dataset", "weights", "method"], sort=False).size().nlargest(5)
        sentence += ", most of them of " + "; ".join(f"{' '.join(key)} ({count})" for key, count in worst.items())
    return "Saliency maps", f"{sentence}."
