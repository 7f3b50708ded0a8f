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
        (heading, sentence) pairs: first each network that a shortcut equals; then means over seeds, the AUC of each
        network, its dose-response.
    """
    shortcuts, means, results, doses = [], [], [], []
    trained = comparison[comparison["weights"] == "trained"]
    for (dataset, architecture, seed), rows in trained.groupby(["dataset", "architecture", "seed"], sort=False):
        sentence = verdict(rows, f"{architecture} (seed {seed})")
        if sentence:
            shortcuts.append(f"{dataset}: {sentence}")
    overall = scores[(scores["metric"] == "auc") & scores["class_name"].fillna("").eq("")]
    overall = overall[(overall["weights"] == "trained") & ~overall["architecture"].str.startswith("shortcut")]
    several = over_seeds(scores).query("weights == 'trained' and seeds > 1 and metric in ('accuracy', 'auc')")
    for (dataset, architecture), rows in several.groupby(["dataset", "architecture"], sort=False):
        texts = [f"{row.metric} {row.mean:.3f} ({row.lowest:.3f} to {row.highest:.3f})" for row in rows.itertuples()]
        means.append(f"{dataset}, {architecture}, {rows['seeds'].iloc[0]} seeds or folds: {', '.join(texts)}.")
    for row in overall.itertuples():
        name = f"{row.dataset} ({row.data} images), {row.architecture}, seed {row.seed}"
        proxy = "; no patient ids, divided by proxy groups" if row.grouping == "proxy" else ""
        results.append(
            f"{name}: test AUC {row.value:.3f} (95 % interval {row.ci_low:.3f} to {row.ci_high:.3f} over "
            f"{row.n_patients} patients, {row.n_images} images{proxy})."
        )
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
        "A shortcut is as good": shortcuts,
        "Mean over seeds or folds": means,
        "Test AUC": results,
        "AUC against the severity of the defect": doses,
    }
    return [(heading, sentence) for heading, sentences in parts.items() for sentence in sentences]
