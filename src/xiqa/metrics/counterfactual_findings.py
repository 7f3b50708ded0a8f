"""What counterfactuals show, in sentences: the gate first, then how they compare with the truth and with controls."""

from __future__ import annotations

import pandas as pd

from xiqa.metrics.counterfactual import LEAST_AGREEMENT


def describe_counterfactuals(scores: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """The findings of one data set, for `xiqa.report.pages.write_findings`; rows of counterfactual_scores.csv."""
    agreement = scores[scores["metric"] == "agreement"]["value"].iloc[0]
    flipped = scores[scores["metric"] == "decided otherwise before any shift"]["value"].iloc[0]
    passed = agreement >= LEAST_AGREEMENT
    question = "May counterfactuals be shown?"
    findings: list[tuple[str, str | pd.DataFrame]] = [
        (question, f"The network decides {100 * agreement:.0f} % of the reconstructions of test images as the images "
         f"themselves; {100 * LEAST_AGREEMENT:.0f} % are asked for: " + ("passed." if passed else "not passed."))
    ]  # fmt: skip
    words = f"In the published form, {100 * flipped:.0f} % of images are decided otherwise before anything is shifted"
    findings.append((question, f"{words}: its counterfactuals start from the reconstruction."))
    if not passed:
        findings.append((question, "So none is shown; the scores below say what they would have been worth."))
    question = "Do they change what would truly change?"
    by = scores.dropna(subset=["direction"]).set_index(["direction", "metric", "method"])["value"]
    for direction in dict.fromkeys(scores["direction"].dropna()):
        of = by[direction]
        shift, random = of["valid", "latent shift"], of["valid", "random shift"]
        findings.append(
            (question, f"{direction}: {100 * shift:.0f} % of shifts change the decision, {100 * random:.0f} % of "
             f"random ones of the same length, {100 * of['valid', 'exact']:.0f} % of images that are rendered so.")
        )  # fmt: skip
        findings.append(
            (question, f"Their change correlates with the true one by {of['r_with_truth', 'latent shift']:.2f}, that "
             f"of DeepFool by {of['r_with_truth', 'DeepFool']:.2f}; {100 * of['on_mask', 'latent shift']:.0f} % of it "
             f"lies on the defect, whose area is {100 * of['mask_area', 'latent shift']:.0f} %.")
        )  # fmt: skip
    columns = ["direction", "method", "metric", "value", "ci_low", "ci_high", "n_images"]
    findings.append(("Scores", scores[columns].round(3)))
    return findings
