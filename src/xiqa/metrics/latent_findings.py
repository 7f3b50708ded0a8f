"""What latent codes stand for, in sentences: the autoencoder beside principal components and supervised codes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.disentanglement import LEAST_SD, explained

NAMES = {
    "corner": "corner of the disc",
    "log_diameter": "diameter",
    "log_thickness": "thickness",
    "noise_level": "noise",
}
TOLD = 0.8
"""From here on a property counts as told by the codes: R², or accuracy over chance."""


def code_names(codes: np.ndarray, factors: pd.DataFrame) -> list[str]:
    """What each code (n, K) stands for: the property that has most in common with it, and how much."""
    named, sd = [], codes.std(0)
    for number, code in enumerate(codes.T):
        shares = {str(name): explained(code, factors[name]) for name in factors}
        best = max(shares, key=lambda name: shares[name])
        unused = " (not used)" if sd[number] < LEAST_SD * sd.max() else ""
        named.append(f"code {number + 1}: {NAMES.get(best, best)}\n{100 * shares[best]:.0f} % in common{unused}")
    return named


def describe_latent(scores: pd.DataFrame, factors: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """The findings of one latent space, for `xiqa.report.pages.write_findings`.

    Args:
        scores: rows of latent_scores.csv: codes, score, value, floor.
        factors: rows of latent_factors.csv: codes, factor, informativeness, code, explained.
    """
    findings: list[tuple[str, str | pd.DataFrame]] = []
    own = factors[factors["codes"] == "β-VAE"]
    question = "What do the codes of the autoencoder tell?"
    for row in own.itertuples():
        words = "tell" if row.informativeness >= TOLD else "do not tell"
        findings.append(
            (question, f"They {words} the {NAMES.get(row.factor, row.factor)} ({row.informativeness:.2f}); the nearest "
             f"code has {100 * row.explained:.0f} % of its variance in common with it.")
        )  # fmt: skip
    question = "Does one code stand for one property?"
    for name, part in scores.groupby("score", sort=False):
        at = part.set_index("codes")["value"]
        if not {"β-VAE", "PCA"} <= set(at.index) or name == "DCI informativeness":
            continue
        winner = "the autoencoder" if at["β-VAE"] > at["PCA"] else "PCA"
        others = ", ".join(f"{other} {at[other]:.2f}" for other in at.index if other != "β-VAE")
        findings.append((question, f"By {name}, {winner} is ahead: β-VAE {at['β-VAE']:.2f}, {others}."))
    findings.append(("Scores, beside those of permuted properties", scores.round(3)))
    findings.append(("Properties", factors.round(3)))
    return findings
