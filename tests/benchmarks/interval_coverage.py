"""How often 95 % intervals cover the truth and how often verdicts are false, by simulation.

python tests/benchmarks/interval_coverage.py prints the tables of docs/reference/metrics.md, section Statistics. Some
ten minutes on one core; --repeats changes how many samples each number rests on.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from xiqa.metrics.classification import roc_band, scores
from xiqa.metrics.maps.dose_response import dose_response
from xiqa.metrics.maps.fidelity import fidelity_interval
from xiqa.metrics.maps.leaderboard import LEVEL, joint_level
from xiqa.metrics.maps.trust import CHECKS
from xiqa.metrics.paired import corrected_p
from xiqa.metrics.regression import correlation
from xiqa.metrics.shortcut_classification import auc_difference
from xiqa.metrics.statistics import interval, median_interval, proportion_interval, rmse_interval

PATIENTS = (6, 8, 11, 18, 40)
SKEWED = np.exp(0.5)

# Name: values of n patients, true mean, bounds.
MEANS: dict[str, tuple[Callable, float, tuple[float, float] | None]] = {
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0, None),
    "uniform": (lambda rng, n: rng.uniform(0, 1, n), 0.5, (0, 1)),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1, None),
    "log-normal, σ = 0.5": (lambda rng, n: rng.lognormal(0, 0.5, n), np.exp(0.125), None),
    "log-normal, σ = 1": (lambda rng, n: rng.lognormal(0, 1, n), SKEWED, None),
    "square of a normal": (lambda rng, n: rng.chisquare(1, n), 1, None),
    "Weibull, shape 0.7": (lambda rng, n: rng.weibull(0.7, n), 1.26582, None),
    "Gumbel": (lambda rng, n: rng.gumbel(0, 1, n), np.euler_gamma, None),
    "Student, 3 degrees of freedom": (lambda rng, n: rng.standard_t(3, n), 0, None),
    "beta (8, 1): near 1": (lambda rng, n: rng.beta(8, 1, n), 8 / 9, (0, 1)),
    "beta (0.5, 3): near 0": (lambda rng, n: rng.beta(0.5, 3, n), 1 / 7, (0, 1)),
    "a tenth are 0": (lambda rng, n: (rng.random(n) > 0.1) * rng.uniform(0.5, 1, n), 0.675, (0, 1)),
    "a fifth are 0": (lambda rng, n: (rng.random(n) > 0.2) * rng.uniform(0.5, 1, n), 0.6, (0, 1)),
    "four fifths are 0": (lambda rng, n: (rng.random(n) > 0.8) * rng.uniform(0.5, 1, n), 0.15, (0, 1)),
    "hits, 0.5": (lambda rng, n: rng.binomial(1, 0.5, n), 0.5, (0, 1)),
    "hits, 0.8": (lambda rng, n: rng.binomial(1, 0.8, n), 0.8, (0, 1)),
    "hits, 0.95": (lambda rng, n: rng.binomial(1, 0.95, n), 0.95, (0, 1)),
    "two hits each, 0.9": (lambda rng, n: rng.binomial(2, 0.9, n) / 2, 0.9, (0, 1)),
}


def covered(ends: tuple[float, float], truth: float) -> bool:
    return ends[0] - 1e-12 <= truth <= ends[1] + 1e-12


def mean_of(name: str, rng: np.random.Generator, n: int) -> bool:
    draw, truth, bounds = MEANS[name]
    return covered(interval(draw(rng, n), bounds=bounds), truth)


def unequal(name: str, rng: np.random.Generator, n: int) -> bool:
    """1 to 10 images of each patient."""
    draw, truth, bounds = MEANS[name]
    patients = np.repeat(np.arange(n), rng.integers(1, 11, n))
    return covered(interval(draw(rng, n)[patients], patients, bounds=bounds), truth)


def fidelity_of(rng: np.random.Generator, n: int) -> bool:
    areas = rng.beta(0.5, 1.5, n)
    correct = np.stack([np.zeros((n, 2)), np.tile(areas[:, None], 2)])
    return covered(fidelity_interval(correct, (np.arange(n) % 3 == 0).astype(int)), 0.25)


def classified(apart: float, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Normal scores of n patients of each of two classes."""
    labels = np.repeat([0, 1], n)
    p = stats.norm.cdf(rng.normal(apart * (labels - 0.5), 1))
    known = {"image": np.arange(2 * n).astype(str), "patient": np.arange(2 * n), "label": labels}
    return pd.DataFrame(known | {"probability_0": 1 - p, "probability_1": p})


def classifier(metric: str, apart: float, rng: np.random.Generator, n: int) -> bool:
    found = scores(classified(apart, n, rng), ["a", "b"], draws=400, seed=int(rng.integers(1 << 30)))
    ends = found.set_index("metric").loc[metric, ["ci_low", "ci_high"]]
    return covered(tuple(ends), stats.norm.cdf(apart / (np.sqrt(2) if metric == "auc" else 2)))


def band(apart: float, rng: np.random.Generator, n: int) -> bool:
    """The ROC band at a false-positive rate of 0.1."""
    found = roc_band(classified(apart, n, rng), ["a", "b"], draws=300, seed=int(rng.integers(1 << 30))).iloc[10]
    return covered((found["tpr_low"], found["tpr_high"]), stats.norm.cdf(apart - stats.norm.ppf(0.9)))


def difference(first: float, second: float, rng: np.random.Generator, n: int) -> bool:
    sides = [classified(apart, n, rng) for apart in (first, second)]
    found = auc_difference(*sides, ["a", "b"], draws=400, seed=int(rng.integers(1 << 30)))
    truth = np.diff(stats.norm.cdf(np.array([second, first]) / np.sqrt(2)))[0]
    return covered((found["ci_low"], found["ci_high"]), truth)


OTHERS: dict[str, Callable[[np.random.Generator, int], bool]] = {
    "exponential, 1 to 10 images each": lambda rng, n: unequal("exponential", rng, n),
    "normal, 1 to 10 images each": lambda rng, n: unequal("normal", rng, n),
    "log-normal, σ = 1, 1 to 10 images each": lambda rng, n: unequal("log-normal, σ = 1", rng, n),
    "RMSE of normal errors": lambda rng, n: covered(rmse_interval(rng.normal(0, 1, n) ** 2), 1),
    "median of log-normal values": lambda rng, n: covered(median_interval(rng.lognormal(0, 1, n)), 1),
    "proportion, 0.9": lambda rng, n: covered(proportion_interval(rng.binomial(n, 0.9), n), 0.9),
    "fidelity F over two classes": fidelity_of,
    "AUC 0.76 (n of each class)": lambda rng, n: classifier("auc", 1, rng, n),
    "AUC 0.98 (n of each class)": lambda rng, n: classifier("auc", 3, rng, n),
    "balanced accuracy 0.84 (n of each class)": lambda rng, n: classifier("balanced_accuracy", 2, rng, n),
    "ROC band at FPR 0.1, AUC 0.92 (n of each class)": lambda rng, n: band(2, rng, n),
    "AUC difference 0.92 - 0.76": lambda rng, n: difference(2, 1, rng, n),
    "AUC difference 0.98 - 0.98": lambda rng, n: difference(3, 3, rng, n),
}


def false_dose(crossed: bool, rng: np.random.Generator, n: int) -> bool:
    """Whether an interval leaves out 0 where the mass does not depend on the severity."""
    levels = np.array([0.1, 0.25, 0.5, 1.0])
    patients = np.repeat(np.arange(n), 4 if crossed else 2)
    severity = np.tile(levels, n) if crossed else levels[rng.permutation(np.arange(n) % 4)][patients]
    mass = rng.exponential(0.1, n)[patients] + rng.exponential(0.05, len(patients))
    found = dose_response(mass, severity, patients, draws=399, seed=int(rng.integers(1 << 30)))
    ends = ((found.correlation_low, found.correlation_high), (found.slope_low, found.slope_high))
    return any(low > 0 or high < 0 for low, high in ends)


NULLS = {
    "nothing is true": (0.0, 0.0, 0.0),
    "all find the object, nothing else": (0.2, 0.0, 0.0),
    "all find it and are faithful, none depends": (0.2, 0.2, 0.0),
    "all are faithful and depend, none finds it": (0.0, 0.2, 0.2),
}


def false_pass(
    truth: tuple[float, float, float] | None, rng: np.random.Generator, n: int, methods: int = 26, skewed: bool = False
) -> bool:
    """Whether any method passes a check without right, by the rule of `xiqa.metrics.maps.trust`.

    Args:
        truth: mean gain of all methods in each check; None: each method fails one check, by turns.
        skewed: gains are seldom far below and mostly just above their mean, as scores near 1 are.
    """
    gains = np.tile(truth or (0.2, 0.2, 0.2), (methods, 1))
    if truth is None:
        gains[np.arange(methods), np.arange(methods) % 3] = 0

    def scored(mean: np.ndarray) -> np.ndarray:
        """(n, methods and three controls); methods are alike: a part of the noise is common to all of one kind."""
        kinds = rng.normal(0, 0.05, (n, 3))[:, np.arange(methods + 3) % 3]
        noise = 0.05 * rng.standard_t(4, (n, methods + 3))
        if skewed:
            noise[:, :methods] = 0.5 * (rng.beta(5, 1, (n, methods)) - 5 / 6)
        return np.r_[mean, [0] * 3] + kinds + noise

    for check in range(3):
        values = scored(gains[:, check])
        if check < 2:
            against = values[:, :methods, None] - values[:, None, methods:]
        else:
            against = (values - scored(np.zeros(methods)))[:, :methods, None]
        p_values = corrected_p(against.reshape(n, -1)).reshape(methods, -1).max(1)
        level = joint_level(methods, len(CHECKS))
        for method in np.flatnonzero((p_values * len(CHECKS) < LEVEL) & (gains[:, check] == 0)):
            if min(interval(gain, level=level)[0] for gain in against[:, method].T) > 0:
                return True
    return False


def correlation_of(rho: float, rng: np.random.Generator, n: int, *, ranks: bool) -> bool:
    """Two images of each patient, whose values have a part in common, from a bivariate normal distribution."""
    patients = np.repeat(np.arange(n), 2)
    shared, own = rng.normal(size=(n, 2))[patients], rng.normal(size=(2 * n, 2))
    x, noise = ((shared + own) / np.sqrt(2)).T
    y = rho * x + np.sqrt(1 - rho**2) * noise
    truth = 6 / np.pi * np.arcsin(rho / 2) if ranks else rho
    return covered(correlation(x, y, patients, ranks=ranks)[1:], truth)


def table_of(title: str, rows: dict[str, Callable], repeats: int) -> None:
    print(f"\n| {title} | " + " | ".join(f"n = {n}" for n in PATIENTS) + " |\n|---|" + "---|" * len(PATIENTS))
    for number, (name, once) in enumerate(rows.items()):
        shares = [
            np.mean([once(rng, n) for _ in range(repeats)])
            for n in PATIENTS
            for rng in [np.random.default_rng([number, n])]
        ]
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="samples of each number of the first table")
    repeats = parser.parse_args().repeats
    means = {name: lambda rng, n, name=name: mean_of(name, rng, n) for name in MEANS}
    table_of("Coverage of the 95 % interval of a mean", means, repeats)
    table_of("Coverage of other 95 % intervals", OTHERS, repeats // 4)
    correlations = {
        f"{name}, ρ = {rho}": lambda rng, n, rho=rho, ranks=ranks: correlation_of(rho, rng, n, ranks=ranks)
        for name, ranks in (("Pearson", False), ("Spearman", True))
        for rho in (0.0, 0.5, 0.9)
    }
    table_of("Coverage of the 95 % interval of a correlation", correlations, repeats // 4)
    doses = {
        "dose-response, each patient at one severity": lambda rng, n: false_dose(False, rng, n),
        "dose-response, each patient at four": lambda rng, n: false_dose(True, rng, n),
    }
    table_of("False positives", doses, repeats // 4)
    trusts = {name: lambda rng, n, truth=truth: false_pass(truth, rng, n) for name, truth in NULLS.items()}
    trusts["each method fails one check, by turns"] = lambda rng, n: false_pass(None, rng, n)
    trusts["nothing is true, gains skewed"] = lambda rng, n: false_pass((0.0, 0.0, 0.0), rng, n, skewed=True)
    trusts["fails by turns, gains skewed"] = lambda rng, n: false_pass(None, rng, n, skewed=True)
    table_of("Any false pass among 26 methods and three checks", trusts, repeats // 2)


if __name__ == "__main__":
    main()
