"""What a regression shows, in sentences: errors against shortcuts, uncertainty, and where the maps lie."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from xiqa.datasets.base import DEFECT
from xiqa.metrics.regression import TRAINING_MEAN
from xiqa.names import method_name
from xiqa.registry import CONTROLS

Findings = list[tuple[str, str | pd.DataFrame]]


def describe_regression(
    scores: pd.DataFrame, comparison: pd.DataFrame, shares: pd.DataFrame | None, units: Mapping[str, str]
) -> Findings:
    """The findings of one data set of a regression, for `xiqa.report.pages.write_findings`.

    The network that they speak of is the ensemble where there is one, else the only network; of several architectures
    the first.

    Args:
        scores: rows of the table scores.csv.
        comparison: rows of comparison.csv.
        shares: rows of structure_share_summary.csv; None where no map was made.
        units: target -> its unit.
    """
    scores = scores.assign(seed=scores["seed"].astype(str))
    networks = scores[~scores["architecture"].str.startswith("shortcut") & (scores["weights"] == "trained")]
    first = networks.iloc[0]["architecture"]
    own = networks[networks["architecture"] == first]
    seed = "ensemble" if (own["seed"] == "ensemble").any() else own.iloc[0]["seed"]
    who = "the ensemble" if seed == "ensemble" else "the network"
    findings: Findings = []
    for target, unit in units.items():
        told = own[(own["seed"] == seed) & (own["target"] == target)].set_index("metric")
        against = comparison[
            (comparison["architecture"] == first)
            & (comparison["weights"] == "trained")
            & (comparison["seed"].astype(str) == seed)
            & (comparison["target"] == target)
        ]
        name = target.removeprefix("target_").replace("_", " ")
        findings.append((f"Does {who} predict the {name}?", _error(told, who, unit)))
        findings.append((f"Does {who} predict the {name}?", _verdict(against, who)))
        findings.append((f"Is its uncertainty right? ({name})", _uncertainty(told)))
    if shares is not None and len(shares):
        findings += [("Where do the maps lie?", sentence) for sentence in _shares(shares)]
    columns = ["architecture", "seed", "target", "metric", "value", "ci_low", "ci_high", "n_images", "n_patients"]
    findings.append(("Scores", scores[scores["weights"] == "trained"][columns].round(3)))
    return findings


def _error(told: pd.DataFrame, who: str, unit: str) -> str:
    rmse, correlation = told.loc["rmse"], told.loc["pearson"]
    of_unit = f" {unit}" if unit and unit != "1" else ""
    return (
        f"On {rmse['n_images']} test images of {rmse['n_patients']} patients the root mean square error of {who} is "
        f"{_value(rmse)}{of_unit}, and its correlation with the truth is {_value(correlation)}."
    )


def _verdict(against: pd.DataFrame, who: str) -> str:
    unbeaten = against[against["verdict"] != "better"]
    rows = against if unbeaten.empty else unbeaten
    strongest = rows.loc[rows["shortcut_rmse"].idxmin()]
    name = strongest["shortcut"]
    what = "the mean of the training images" if name == TRAINING_MEAN else f"the shortcut that sees {name}"
    errors = f"RMSE {strongest['network_rmse']:.3g} against {strongest['shortcut_rmse']:.3g}"
    if unbeaten.empty:
        others = "all other shortcuts" if name == TRAINING_MEAN else "all others"
        return f"{who.capitalize()} is better than {what} ({errors}) and than {others}."
    if np.isnan(strongest["ci_low"]):
        return f"Whether {who} is better than {what} cannot be said with {strongest['n_patients']} patients ({errors})."
    found = "is worse than" if strongest["verdict"] == "worse" else "is not told apart from"
    return f"{who.capitalize()} {found} {what} ({errors})."


def _uncertainty(told: pd.DataFrame) -> str:
    covered, ratio, rank = (
        told.loc[name] for name in ("coverage_95", "error_over_uncertainty", "error_with_uncertainty")
    )
    if np.isnan(covered["ci_low"]):
        verdict = "whether that differs from the 95 % it should be cannot be said"
    elif covered["ci_low"] > 0.95:
        verdict = "it is stated too large"
    elif covered["ci_high"] < 0.95:
        verdict = "it is stated too small"
    else:
        verdict = "that is not told apart from the 95 % it should be"
    tells = "tells" if rank["ci_low"] > 0 else "is not shown to tell"
    return (
        f"The share of errors within 1.96 standard uncertainties is {_value(covered)}: {verdict}. "
        f"Errors are {_value(ratio)} times the uncertainty, "
        f"which {tells} large errors from small ones (rank correlation {_value(rank)})."
    )


def _shares(shares: pd.DataFrame) -> list[str]:
    structure = DEFECT if (shares["structure"] == DEFECT).any() else shares["structure"].iloc[0]
    rows = shares[shares["structure"] == structure]
    groups = list(dict.fromkeys(rows["group"]))
    group = "ensemble" if "ensemble" in groups else groups[0]
    own = rows[rows["group"] == group]
    alone = rows[(rows["group"] == groups[0]) & ~rows["method"].isin(own["method"])]
    own = pd.concat([own, alone])
    where = "the defect" if structure == DEFECT else f"the {structure}"
    sentences = []
    for kind, chosen in (("methods", ~own["method"].isin(CONTROLS)), ("controls", own["method"].isin(CONTROLS))):
        part = own[chosen]
        if part.empty:
            continue
        more = part[part["lies_there"] == "more"].sort_values("enrichment", ascending=False)
        named = f": {', '.join(_of_method(row) for _, row in more.iterrows())}" if len(more) else ""
        sentences.append(
            f"Maps of {len(more)} of {len(part)} {kind} lie on {where} more than by its area alone{named}."
        )
    return [
        *sentences,
        f"The numbers are the share of the absolute map on {where} over its share of the area, means over up to "
        f"{own['n'].max()} images with 95 % intervals. The maps are those of "
        + ("the ensemble" if group == "ensemble" else group)
        + (f", and of {groups[0]} for the {len(alone)} methods that explain it alone." if len(alone) else "."),
    ]


def _of_method(row: pd.Series) -> str:
    value, low, high = row["enrichment"], row["enrichment_low"], row["enrichment_high"]
    return f"{method_name(row['method'])} {value:.1f} ({low:.1f} to {high:.1f})"


def _value(row: pd.Series) -> str:
    if np.isnan(row["value"]):
        return "not defined"
    if np.isnan(row["ci_low"]):
        return f"{row['value']:.3g} (no interval: {row['reason']})"
    return f"{row['value']:.3g} (95 % interval {row['ci_low']:.3g} to {row['ci_high']:.3g})"
