"""What the classification studies found, in sentences made from their tables: shortcuts first."""

from __future__ import annotations

import pandas as pd

from xiqa.metrics.shortcut_classification import verdict

WEAKEST_AUC, ENOUGH_AUC = 0.75, 0.9


def describe_classification(scores: pd.DataFrame, comparison: pd.DataFrame, by_severity: pd.DataFrame) -> list[str]:
    """One sentence per finding.

    Args:
        scores: scores.csv of all data sets with the column `dataset`; trained networks of all seeds, and shortcuts.
        comparison: comparison.csv of all data sets with the column `dataset`.
        by_severity: auc_by_severity.csv of all data sets with the column `dataset`; may be empty.

    Returns:
        First each network that a shortcut equals; then the AUC of each network, and its dose-response.
    """
    shortcuts, results, doses = [], [], []
    trained = comparison[comparison["weights"] == "trained"]
    for (dataset, architecture, seed), rows in trained.groupby(["dataset", "architecture", "seed"], sort=False):
        sentence = verdict(rows, f"{architecture} (seed {seed})")
        if sentence:
            shortcuts.append(f"{dataset}: {sentence}")
    overall = scores[(scores["metric"] == "auc") & scores["class_name"].fillna("").eq("")]
    overall = overall[(overall["weights"] == "trained") & ~overall["architecture"].str.startswith("shortcut")]
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
            doses.append(f"{name}: AUC against the severity of the defect: {steps}.")
    return [*shortcuts, *results, *doses]
