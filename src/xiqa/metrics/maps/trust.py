"""Which methods can be trusted: they find the defect, tell what the network uses, and depend on its training."""

from __future__ import annotations

import pandas as pd

LOCALISATION = ("pointing_game", "pointing_game_smooth", "roc_auc", "roc_auc_within", "relevance_rank", "region_dice")
MASKING = ("fidelity", "road")
RULE = (
    "A method finds the defect if it beats the best control (random, centre prior, edges) in a localisation score; it "
    "is faithful if it beats it when pixels are masked (fidelity, ROAD); it depends on training if the trained network "
    "scores above the fully randomised one. Beats: the 95 % interval over patients of the paired difference lies above "
    "0, and Holm's test over all methods of that score agrees. Trusted: all that was tested holds, at least two were."
)


def trust(ranks: pd.DataFrame, randomisation: pd.DataFrame) -> pd.DataFrame:
    """Verdict on each method for each data set, by `RULE`; the better of the two forms counts.

    Args:
        ranks: leaderboards of both forms: dataset, method, form, metric, mean, ci_low, ci_high, n, beats_best_control,
            seconds_per_map.
        randomisation: randomisation.csv of all data sets with the column dataset.

    Returns:
        One row per data set and method: form, finds_the_defect, faithful, depends_on_training ("yes", "no", "not
        tested"), trusted ("yes", "no"), pointing_game, roc_auc, fidelity with _low and _high, n, seconds_per_map.
    """
    rows = []
    for (dataset, method), own in ranks.groupby(["dataset", "method"], sort=False):
        forms = [_of_form(part, _depends(randomisation, dataset, method, form)) | {"form": form}
                 for form, part in own.groupby("form", sort=True)]  # fmt: skip
        best = max(forms, key=lambda found: sum(found[name] == "yes" for name in CHECKS))
        rows.append({"dataset": dataset, "method": method} | best)
    return pd.DataFrame(rows)


CHECKS = ("finds_the_defect", "faithful", "depends_on_training")


def _of_form(own: pd.DataFrame, depends: str) -> dict:
    found = {
        "finds_the_defect": _any(own, LOCALISATION),
        "faithful": _any(own, MASKING),
        "depends_on_training": depends,
    }
    tested = [value for value in found.values() if value != "not tested"]
    found["trusted"] = "yes" if len(tested) > 1 and set(tested) == {"yes"} else "no"
    for metric in ("pointing_game", "roc_auc", "fidelity"):
        row = own[own["metric"] == metric]
        values = row.iloc[0] if len(row) else pd.Series(dtype=float)
        found |= {f"{metric}{end}": values.get(name, float("nan"))
                  for end, name in (("", "mean"), ("_low", "ci_low"), ("_high", "ci_high"))}  # fmt: skip
    return found | {"n": int(own["n"].max()), "seconds_per_map": own["seconds_per_map"].iloc[0]}


def _any(own: pd.DataFrame, metrics: tuple[str, ...]) -> str:
    rows = own[own["metric"].isin(metrics) & (own["n"] > 0)]
    return "not tested" if not len(rows) else "yes" if rows["beats_best_control"].any() else "no"


def _depends(randomisation: pd.DataFrame, dataset: str, method: str, form: str) -> str:
    rows = randomisation[
        (randomisation["dataset"] == dataset) & (randomisation["method"] == method) & (randomisation["form"] == form)
    ]
    rows = rows[(rows["compared_with"] == "fully_random") & (rows["n"] > 0)]
    return "not tested" if not len(rows) else "yes" if (rows["ci_low"] > 0).any() else "no"


def describe_trust(verdicts: pd.DataFrame, claims: pd.DataFrame) -> list[tuple[str, str]]:
    """What a reader wants to know first: which methods can be trusted here, how sure, at what cost.

    Args:
        verdicts: see `trust`, with the column data (simulated or real).
        claims: see `claims.test_claims`.

    Returns:
        (heading, sentence) pairs.
    """
    sentences = []
    for (dataset, data), own in verdicts.groupby(["dataset", "data"], sort=False):
        name, trusted = f"{dataset} ({data} images)", own[own["trusted"] == "yes"]
        if trusted.empty:
            finders = own[own["finds_the_defect"] == "yes"]["method"].tolist()
            told = f"only {', '.join(finders)} find the defect better than the best control" if finders else (
                "none finds the defect better than the best control"
            )  # fmt: skip
            sentences.append((f"{name}: none", f"No method passes all checks; {told} ({own['n'].max()} images)."))
        for row in trusted.sort_values("seconds_per_map").itertuples():
            cost = f"{row.seconds_per_map:.2g} s per map"
            names = {"roc_auc": "pixel AUC", "pointing_game": "Pointing Game", "fidelity": "fidelity"}
            scores = [
                f"{label} {own.at[row.Index, name]:.2f} "
                f"({own.at[row.Index, f'{name}_low']:.2f} to {own.at[row.Index, f'{name}_high']:.2f})"
                for name, label in names.items()
            ]
            text = f"{row.method} ({row.form}): {', '.join(scores)}; {row.n} images, {cost}."
            sentences.append((f"{name}: trusted", text))
    sentences.append(("The rule", RULE))
    for (paper, sentence), own in claims.groupby(["paper", "sentence"], sort=False):
        found = {kind: own.loc[own["holds"] == kind, "dataset"].tolist() for kind in ("yes", "no")}
        told = [f"{kind} on {', '.join(names)}" for kind, names in found.items() if names]
        if told:
            sentences.append(
                ("Do the papers' claims hold here?", f"Paper {paper}: {sentence} Here: {'; '.join(told)}.")
            )
    open_claims = (claims.groupby("sentence")["holds"].agg(set) == {"not testable"}).sum()
    rest = (
        f"{open_claims} other claims are not decided by these data; claims.csv has each claim, its rule and evidence."
    )
    return [*sentences, ("Do the papers' claims hold here?", rest)]
