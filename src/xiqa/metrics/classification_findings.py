"""What the classification studies found, in sentences made from their tables: shortcuts first."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.shortcut_classification import verdict

Finding = tuple[str, str | pd.DataFrame]
"""A heading with a sentence, or with a table of what would make a sentence long."""

SHORTCUTS = "Does the network beat the shortcuts?"
FEW = 3
"""So many names at most stand in a sentence."""


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


def describe_shortcuts(comparison: pd.DataFrame) -> list[Finding]:
    """Whether the networks beat the shortcuts, whichever way it came out: the first finding of a study on images.

    Args:
        comparison: comparison.csv of all data sets with the column `dataset`.

    Returns:
        (heading, sentence) pairs, one sentence per data set, those first where a shortcut is not beaten; then the
        heading with a table of all networks. Of several seeds or folds a network counts as better where it is so in
        each.
    """
    told, rows = [], []
    trained = comparison[comparison["weights"] == "trained"]
    for dataset, of_dataset in trained.groupby("dataset", sort=False):
        beats, sentences = {}, {}
        for architecture, own in of_dataset.groupby("architecture", sort=False):
            found = [verdict(of_seed, architecture) for _, of_seed in own.groupby("seed", sort=False)]
            won = sum(won for won, _ in found)
            beats[architecture], (_, sentences[architecture]) = won == len(found), found[0]
            best = own.groupby("shortcut", sort=False)["shortcut_auc"].mean().nlargest(1)
            name = best.index[0] if len(best) else own["shortcut"].iloc[0]
            if len(found) > 1:
                said = "beats every shortcut" if beats[architecture] else "is not shown to beat every shortcut"
                where = f"all {won}" if beats[architecture] else f"{len(found) - won} of {len(found)}"
                auc = f"{own['network_auc'].mean():.2f} against {best.max():.2f} ({name})"
                sentences[architecture] = f"In {where} seeds or folds {architecture} {said}. Mean AUC {auc}."
            rows.append(
                {
                    "data set": dataset, "network": architecture, "seeds or folds": len(found),
                    "AUC": f"{own['network_auc'].mean():.2f}", "best shortcut": name,
                    "its AUC": f"{best.max():.2f}", "difference": _interval(own[own["shortcut"] == name]),
                    "beats every shortcut": f"{won} of {len(found)}",
                }
            )  # fmt: skip
        if len(beats) > 1:
            unbeaten = [name for name, won in beats.items() if not won]
            won = len(beats) - len(unbeaten)
            sentence = f"{won} of {len(beats)} networks {'beats' if won == 1 else 'beat'} every shortcut"
            named = f"; {', '.join(unbeaten)} {'is' if len(unbeaten) == 1 else 'are'} not shown to"
            sentence += f"{named if 0 < len(unbeaten) <= FEW else ''}."
        else:
            sentence = next(iter(sentences.values()))
        told.append((all(beats.values()), f"{dataset}: {sentence}"))
    # Sorting keeps the order of the data sets.
    found = [(SHORTCUTS, sentence) for _, sentence in sorted(told, key=lambda item: item[0])]
    return [*found, (SHORTCUTS, pd.DataFrame(rows))] if rows else found


def _interval(rows: pd.DataFrame) -> str:
    """The difference of a network and a shortcut with its 95 % interval; of several seeds or folds with its range."""
    low, high = rows["ci_low"].iloc[0], rows["ci_high"].iloc[0]
    if len(rows) > 1:
        low, high = rows["difference"].min(), rows["difference"].max()
    ends = "no interval" if np.isnan(low) else f"{low:.2f} to {high:.2f}"
    return f"{rows['difference'].mean():.2f} ({ends})"


def describe_classification(scores: pd.DataFrame, comparison: pd.DataFrame, by_severity: pd.DataFrame) -> list[Finding]:
    """One sentence and one table for each question, with their numbers, whichever way they came out.

    Args:
        scores: scores.csv of all data sets with the column `dataset`; trained networks of all seeds, and shortcuts.
        comparison: comparison.csv of all data sets with the column `dataset`.
        by_severity: auc_by_severity.csv of all data sets with the column `dataset`; may be empty.

    Returns:
        (heading, sentence or table) pairs: whether each network beats the shortcuts; the AUC of each; its
        dose-response.
    """
    return [*describe_shortcuts(comparison), *_describe_auc(scores), *_describe_doses(scores, by_severity)]


def _describe_auc(scores: pd.DataFrame) -> list[Finding]:
    overall = scores[scores["class_name"].fillna("").eq("") & (scores["weights"] == "trained")]
    overall = overall[~overall["architecture"].str.startswith("shortcut")]
    rows, auc = [], overall[overall["metric"] == "auc"]
    for (dataset, architecture), own in auc.groupby(["dataset", "architecture"], sort=False):
        several, row = len(own) > 1, own.iloc[0]
        low, high = (own["value"].min(), own["value"].max()) if several else (row["ci_low"], row["ci_high"])
        interval = f"{low:.3f} to {high:.3f}" if pd.notna(low) else "none"
        accuracy = overall.query("metric == 'accuracy' and dataset == @dataset and architecture == @architecture")
        rows.append(
            {
                "data set": f"{dataset} ({row['data']})", "network": architecture, "seeds or folds": len(own),
                "AUC": f"{own['value'].mean():.3f}", "95 % interval; of several seeds lowest to highest": interval,
                "accuracy": f"{accuracy['value'].mean():.3f}" if len(accuracy) else "",
                "patients": row["n_patients"] if row["grouping"] == "patient" else f"{row['n_patients']} proxy groups",
                "images": row["n_images"],
            }
        )  # fmt: skip
    if not rows:
        return []
    if len(rows) == 1:
        sentence = f"{rows[0]['network']} has a test AUC of {rows[0]['AUC']} on {rows[0]['images']} images."
    else:
        means = [row["AUC"] for row in rows]
        sentence = f"The test AUC of {len(rows)} networks lies between {min(means)} and {max(means)}."
    return [("Test AUC", sentence), ("Test AUC", pd.DataFrame(rows))]


def _describe_doses(scores: pd.DataFrame, by_severity: pd.DataFrame) -> list[Finding]:
    heading, levels = "AUC against the severity of the defect", by_severity
    if len(levels):
        shown = scores[["dataset", "architecture", "seed"]].drop_duplicates()
        levels = levels[levels["weights"] == "trained"].merge(shown, on=["dataset", "architecture", "seed"])
    if levels.empty:
        return []
    told: list[Finding] = []
    for (dataset, architecture), own in levels.groupby(["dataset", "architecture"], sort=False):
        # The first network of each set; the table has all.
        if not any(text.startswith(f"{dataset}: ") for _, text in told):
            means = own.groupby("severity")["value"].mean()
            ends = f"from {means.iloc[0]:.2f} to {means.iloc[-1]:.2f}"
            severities = f"from severity {means.index[0]:g} to {means.index[-1]:g}"
            told.append((heading, f"{dataset}: {severities} the AUC of {architecture} goes {ends}."))
    wide = levels.pivot_table("value", ["dataset", "architecture"], "severity", sort=False).sort_index(axis=1)
    wide.columns = [f"severity {level:g}" for level in wide.columns]
    wide = wide.map(lambda value: f"{value:.2f}" if pd.notna(value) else "").reset_index()
    return [*told, (heading, wide.rename(columns={"dataset": "data set", "architecture": "network"}))]


def describe_checks(checks: pd.DataFrame) -> list[Finding]:
    """How many saliency maps say nothing: a sentence, and a table of the methods with most of them.

    Args:
        checks: saliency_checks.csv of all data sets with the column `dataset`: architecture, weights, seed, method,
            valid.
    """
    invalid = checks[~checks["valid"].astype(bool)]
    found = [("Saliency maps", f"{len(invalid)} of {len(checks)} maps are constant or not finite.")]
    if len(invalid):
        worst = invalid.groupby(["dataset", "weights", "method"], sort=False).size().nlargest(5)
        table = worst.rename("maps").reset_index().rename(columns={"dataset": "data set", "weights": "network is"})
        found.append(("Saliency maps", table))
    return found
