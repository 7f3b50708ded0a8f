"""Findings of the classification studies follow their tables."""

import numpy as np
import pandas as pd
import pytest
from printed_numbers import assert_printed

from xiqa.metrics.classification_findings import describe_checks, describe_classification, over_seeds


def scores(architecture: str, values: list[float], metric: str = "auc") -> list[dict]:
    own = {"dataset": "ct", "architecture": architecture, "weights": "trained", "metric": metric, "data": "real"}
    own |= {"class_name": None, "grouping": "patient", "ci_low": 0.5, "ci_high": 1.0, "n_images": 20, "n_patients": 11}
    return [own | {"seed": seed, "value": value} for seed, value in enumerate(values)]


def comparison(low: float) -> pd.DataFrame:
    row = {"dataset": "ct", "architecture": "net", "weights": "trained", "seed": 0, "shortcut": "header", "reason": ""}
    row |= {"shortcut_auc": 0.8, "network_auc": 0.9, "difference": 0.1, "ci_low": low, "ci_high": 0.2, "n_patients": 11}
    return pd.DataFrame([row])


NO_LEVELS = pd.DataFrame(columns=["dataset", "architecture", "weights", "seed", "severity", "value"])


def test_means_are_over_the_seeds_of_one_network():
    rows = scores("net", [0.8, 0.9]) + scores("shortcut: header", [0.5, 0.7]) + scores("net", [0.7, 0.9], "accuracy")
    rows.append(rows[0] | {"class_name": "contrast", "value": 0.1})
    found = over_seeds(pd.DataFrame(rows)).set_index(["architecture", "metric"])
    assert found.loc[("net", "auc"), "mean"] == pytest.approx(0.85)
    assert found.loc[("net", "auc"), "sd"] == pytest.approx(0.1 / 2**0.5)
    assert found.loc[("shortcut: header", "auc"), ["lowest", "highest", "seeds"]].tolist() == [0.5, 0.7, 2]
    findings = describe_classification(pd.DataFrame(rows), comparison(0.01), NO_LEVELS)
    assert findings[0] == (
        "Mean over seeds or folds",
        "ct, net, 2 seeds or folds: auc 0.850 (0.800 to 0.900), accuracy 0.800 (0.700 to 0.900).",
    )
    assert findings[1][1].startswith("ct, shortcut: header, 2 seeds or folds: auc 0.600")
    assert [heading for heading, _ in findings[2:]] == ["Test AUC"] * 2


def test_a_shortcut_that_is_not_beaten_stands_first_and_is_not_said_to_be_as_good():
    (first, shortcut), (_, auc) = describe_classification(
        pd.DataFrame(scores("net", [0.9])), comparison(-0.01), NO_LEVELS
    )
    assert first == "A shortcut may be as good"
    # 0.90 against 0.80 with an interval from -0.01 to 0.20 is no proof that both are the same.
    assert shortcut.startswith("ct: A shortcut (header) may be as good as net: AUC 0.80 against 0.90")
    assert auc.startswith(
        "ct (real images), net, seed 0: test AUC 0.900 (95 % interval 0.500 to 1.000; 11 patients, 20 images)."
    )


def test_folds_are_counted_that_no_network_won():
    rows = pd.concat([comparison(-0.01), comparison(0.01).assign(seed=1, shortcut_auc=0.6)])
    findings = describe_classification(pd.DataFrame(scores("net", [0.9, 0.9])), rows, NO_LEVELS)
    assert findings[0][1] == (
        "ct: In 1 of 2 seeds or folds net is not shown to beat every shortcut. Mean AUC 0.90 against 0.70 (header)."
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_every_number_of_a_finding_is_in_its_table(seed):
    rng = np.random.default_rng(seed)
    rows = scores("net", rng.uniform(0.5, 1, 3).tolist()) + scores(
        "shortcut: header", rng.uniform(0.4, 0.9, 3).tolist()
    )
    table = pd.DataFrame(rows)
    table["ci_low"], table["ci_high"] = table["value"] - rng.uniform(0, 0.1, 6), table["value"] + rng.uniform(0, 0.1, 6)
    table["n_patients"], table["n_images"] = rng.integers(100, 999, (2, 6))
    compared = pd.concat([
        comparison(low).assign(seed=k, network_auc=rng.uniform(0.5, 1), shortcut_auc=rng.uniform(0.5, 1))
        for k, low in enumerate((-0.0731, 0.0313, -0.0117))
    ])  # fmt: skip
    levels = pd.DataFrame({
        "dataset": "ct", "architecture": "net", "weights": "trained", "seed": 0, "severity": [0.13, 0.71],
        "value": rng.uniform(0.5, 1, 2),
    })  # fmt: skip
    found = [sentence for _, sentence in describe_classification(table, compared, levels)]
    means = compared[["network_auc", "shortcut_auc"]].mean()
    assert_printed(found, table, compared, levels, over_seeds(table), derived=[2, 3, *means])
    checks = pd.DataFrame(
        {"dataset": "ct", "weights": "trained", "method": ["a", "a", "b"], "valid": [False, True, True]}
    )
    assert_printed(describe_checks(checks)[1], derived=[1, 3])
