"""What concepts show, in sentences: which of them the output follows, and how far the estimates are true."""

from __future__ import annotations

import pandas as pd

from xiqa.metrics.measures import MEASURES

NAMES = {
    "severity": "severity of what decides the class",
    "noise": "noise that was added",
    "blur": "blur that was added",
    "noise_level": "noise level",
    "exposure_mas": "exposure in mAs",
    "tube_voltage_kv": "tube voltage",
    "blur_px": "blur of the detector",
}
LEAST_R, MOST_RANDOM = 0.9, 0.2
"""Expectations that were fixed beforehand: correlation with the true effects, and effects in a random network in SD."""
MOST_BELOW, LEAST_CORRECTED = 0.05, 0.95
"""Of bottlenecks whose concepts are complete: how far they may stay below the black box, and what they must reach."""


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


def describe_curve_concepts(effects: pd.DataFrame, agreement: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """What the curve of an ensemble follows; rows of concept_effects.csv and concept_agreement.csv of the phantom."""
    layer = chosen_layer(effects)
    trained = effects[(effects["weights"] == "trained") & (effects["layer"] == layer)]
    findings: list[tuple[str, str | pd.DataFrame]] = []
    question = "Does the predicted curve follow the physics?"
    for concept, rows in trained.groupby("concept", sort=False):
        network, physics = rows["true_effect"].mean(), rows["physics_effect"].iloc[0]
        clear = (rows["true_effect"].abs() > 2 * rows["true_se"]).all()
        words = "in the direction of the physics" if network * physics > 0 else "against the physics"
        findings.append(
            (question, f"One standard deviation of {concept_name(str(concept))} changes the midpoint that the ensemble "
             f"predicts by {network:+.3f} µm, {words} ({physics:+.3f} µm)"
             + ("." if clear else "; not all members tell it from 0."))
        )  # fmt: skip
    question = "Are the estimates from inside the networks true?"
    at = agreement[(agreement["layer"] == layer) & (agreement["weights"] == "trained")]
    for estimate, rows in at.groupby("estimate", sort=False):
        findings.append(
            (question, f"At {layer}, {estimate} has the sign of the network's own slope in "
             f"{_share(rows['sign_right'].mean())} of the clear effects (mean of {len(rows)} members).")
        )  # fmt: skip
    columns = ["member", "concept", "effect", "p_holm", "true_effect", "true_se", "physics_effect", "r_squared", "tcav"]
    findings.append((f"Effects at {layer}, in µm of the midpoint per standard deviation", trained[columns].round(4)))
    return findings


def describe_bottlenecks(scores: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """What bottlenecks of concepts reach and what leaks past them; rows of bottleneck_scores.csv of one network."""
    findings: list[tuple[str, str | pd.DataFrame]] = []
    complete, _, control = (part for _, part in scores.groupby("concepts", sort=False))
    of = {name: part.set_index("bottleneck") for name, part in (("complete", complete), ("control", control))}
    question = "Can the network decide by named concepts alone?"
    own, black = of["complete"].loc["sequential"], of["complete"].loc["black box"]
    below = black.accuracy - own.accuracy
    findings.append(
        (question, f"Through noise and blur alone, {_share(own.accuracy)} of images are decided rightly, by the same "
         f"features without concepts {_share(black.accuracy)}. Expected were at most {100 * MOST_BELOW:.0f} points "
         f"less: {'met' if below <= MOST_BELOW else 'missed'}.")
    )  # fmt: skip
    findings.append(
        (question, f"With both concepts set right by hand it is {_share(own.all_corrected)}; expected were "
         f"{_share(LEAST_CORRECTED)} or more: {'met' if own.all_corrected >= LEAST_CORRECTED else 'missed'}.")
    )  # fmt: skip
    question = "Does anything leak past the names of the concepts?"
    most = of["control"].loc["majority"].accuracy
    lightest = control[control["bottleneck"] == "joint"].sort_values("joint_weight").iloc[0]
    findings.append(
        (question, f"Severity and class say nothing of the decision, and yet a joint bottleneck of them (weight "
         f"{lightest.joint_weight:g}) is right in {_share(lightest.accuracy)}, where the majority is "
         f"{_share(most)}: " + ("its concepts carry more than their names." if lightest.ci_low > most else
                                "no leak was shown."))
    )  # fmt: skip
    kept = of["control"].loc["sequential"]
    findings.append(
        (question, f"The sequential bottleneck of them is right in {_share(kept.accuracy)}: "
         + ("it leaks, too." if kept.ci_low > most else "no leak can be told from the majority."))
    )  # fmt: skip
    side = of["complete"].loc["side channel"]
    findings.append(
        (question, f"A side channel beside noise and blur is right in {_share(side.accuracy)}, and in "
         f"{_share(side.deleted)} with both concepts deleted: what it decides is not told by them.")
    )  # fmt: skip
    columns = ["concepts", "bottleneck", "joint_weight", "accuracy", "ci_low", "ci_high", "concept_r_squared",
               "over_true", "all_corrected", "deleted"]  # fmt: skip
    findings.append(("Bottlenecks", scores[columns].round(3)))
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
