"""What concepts show, in sentences: which of them the output follows, and how far the estimates are true."""

from __future__ import annotations

import pandas as pd

from xiqa.metrics.measures import MEASURES

NAMES = {
    "severity": "severity of what decides the class",
    "noise": "noise that was added",
    "blur": "blur that was added",
}
LEAST_R, MOST_RANDOM = 0.9, 0.2
"""Expectations that were fixed beforehand: correlation with the true effects, and effects in a random network in SD."""


def concept_name(concept: str) -> str:
    """A concept as figures and sentences print it."""
    if concept in NAMES:
        return NAMES[concept]
    return f"measured {MEASURES[concept.removeprefix('measured_')].label}"


def chosen_layer(effects: pd.DataFrame) -> str:
    """The layer that is told of: the last but one of those asked, fixed beforehand.

    Behind the last one follow only the mean over places and a linear layer, where an effect is the slope by definition.
    """
    layers = list(dict.fromkeys(effects["layer"]))
    return layers[-2] if len(layers) > 1 else layers[0]


def describe_concepts(effects: pd.DataFrame, agreement: pd.DataFrame, correlations: pd.DataFrame):
    """The findings of one data set, for `xiqa.report.pages.write_findings`.

    Args:
        effects: rows of concept_effects.csv.
        agreement: rows of concept_agreement.csv.
        correlations: rows of measure_correlations.csv.
    """
    first = effects["architecture"].iloc[0]
    layer = chosen_layer(effects[effects["architecture"] == first])
    own = effects[(effects["architecture"] == first) & (effects["layer"] == layer)]
    trained = own[own["weights"] == "trained"]
    findings: list[tuple[str, str | pd.DataFrame]] = []
    question = "Which concepts does the output follow?"
    for name, rows in trained.groupby("class", sort=False):
        sure = rows[rows["p_holm"] <= 0.05].sort_values("effect", key=abs, ascending=False)
        told = [f"{concept_name(row.concept)} ({row.effect:+.2f})" for row in sure.head(3).itertuples()]
        if told:
            findings.append(
                (question, f"The logit of {name} follows {', '.join(told)}: logits per standard deviation.")
            )
        else:
            findings.append((question, f"For {name}, no concept has an effect that stands out of permuted ones."))
    at = agreement[(agreement["architecture"] == first) & (agreement["layer"] == layer)].set_index("weights")
    question = "Are the estimates true?"
    pattern = at[at["estimate"] == "pattern"].loc["trained"]
    findings.append((question, _agreement(pattern)))
    for estimate in ("TCAV", "regression vector"):
        row = at[at["estimate"] == estimate].loc["trained"]
        words = f"As published, {estimate} has the right sign in {_share(row.sign_right)} of them"
        findings.append((question, f"{words}; its correlation with the truth is {_number(row.r)}."))
    for state, words in (("fully_random", "A network with random weights"),):
        if state in at.index:
            row = at[at["estimate"] == "pattern"].loc[state]
            kept = "as expected" if row.largest_over_sd < MOST_RANDOM else "not as expected"
            findings.append(
                ("Do they depend on the network?", f"{words} has effects of at most {row.largest_over_sd:.2f} standard "
                 f"deviations of its output; {kept}, which was less than {MOST_RANDOM}.")
            )  # fmt: skip
    columns = [
        "class",
        "concept",
        "effect",
        "p_holm",
        "true_effect",
        "true_se",
        "r_squared",
        "tcav",
        "rcv_sensitivity",
        "br",
    ]
    findings.append((f"Effects at {layer}", trained[columns].round(3)))
    dropped = correlations[~correlations["kept"]].drop_duplicates("measure")
    if len(dropped):
        words = ", ".join(f"{MEASURES[row.measure].label} ({row.because})" for row in dropped.itertuples())
        findings.append(("Measures that say the same again", f"Left out by rank correlation: {words}."))
    return findings


def _agreement(row: pd.Series) -> str:
    if not row.beyond:
        return "No true effect is beyond two standard errors, so that nothing can be said of the estimates."
    met = row.sign_right == 1 and row.r >= LEAST_R
    return (
        f"Of {int(row.beyond)} true effects beyond two standard errors, {_share(row.sign_right)} have the estimated "
        f"sign; all effects correlate by {_number(row.r)}. Expected were all signs and {LEAST_R}: "
        f"{'met' if met else 'missed'}."
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _number(value: float) -> str:
    return "nothing" if pd.isna(value) else f"{value:.2f}"
