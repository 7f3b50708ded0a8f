"""Findings of the classification studies follow their tables."""

import numpy as np
import pandas as pd
import pytest
from printed_numbers import assert_printed, assert_short

from xiqa.metrics.classification_findings import (
    SHORTCUTS,
    describe_checks,
    describe_classification,
    describe_shortcuts,
    over_seeds,
)


def scores(architecture: str, values: list[float], metric: str = "auc") -> list[dict]:
    own = {"dataset": "ct", "architecture": architecture, "weights": "trained", "metric": metric, "data": "real"}
    own |= {"class_name": None, "grouping": "patient", "ci_low": 0.5, "ci_high": 1.0, "n_images": 20, "n_patients": 11}
    return [own | {"seed": seed, "value": value} for seed, value in enumerate(values)]


def comparison(low: float) -> pd.DataFrame:
    row = {"dataset": "ct", "architecture": "net", "weights": "trained", "seed": 0, "shortcut": "header", "reason": ""}
    row |= {"shortcut_auc": 0.8, "network_auc": 0.9, "difference": 0.1, "ci_low": low, "ci_high": 0.2, "n_patients": 11}
    return pd.DataFrame([row])


NO_LEVELS = pd.DataFrame(columns=["dataset", "architecture", "weights", "seed", "severity", "value"])


def sentences(findings) -> list[str]:
    return [told for _, told in findings if isinstance(told, str)]


def cells(findings, heading: str) -> pd.DataFrame:
    """The one table below a heading."""
    (table,) = [told for name, told in findings if name == heading and isinstance(told, pd.DataFrame)]
    return table


def test_means_are_over_the_seeds_of_one_network():
    rows = scores("net", [0.8, 0.9]) + scores("shortcut: header", [0.5, 0.7]) + scores("net", [0.7, 0.9], "accuracy")
    rows.append(rows[0] | {"class_name": "contrast", "value": 0.1})
    found = over_seeds(pd.DataFrame(rows)).set_index(["architecture", "metric"])
    assert found.loc[("net", "auc"), "mean"] == pytest.approx(0.85)
    assert found.loc[("net", "auc"), "sd"] == pytest.approx(0.1 / 2**0.5)
    assert found.loc[("shortcut: header", "auc"), ["lowest", "highest", "seeds"]].tolist() == [0.5, 0.7, 2]
    findings = describe_classification(pd.DataFrame(rows), comparison(0.01), NO_LEVELS)
    assert cells(findings, "Test AUC").iloc[0].tolist() == [
        "ct (real)", "net", 2, "0.850", "0.800 to 0.900", "0.800", 11, 20,
    ]  # fmt: skip
    assert list(dict.fromkeys(heading for heading, _ in findings)) == [SHORTCUTS, "Test AUC"]


def test_the_first_finding_says_whether_the_network_beat_the_shortcuts():
    table = pd.DataFrame(scores("net", [0.9]))
    beaten, not_shown = (describe_classification(table, comparison(low), NO_LEVELS) for low in (0.01, -0.01))
    assert beaten[0] == (
        SHORTCUTS,
        "ct: net beats every shortcut: AUC 0.90 against 0.80 of the best (header), difference 0.10 (95 % interval 0.01 "
        "to 0.20).",
    )
    # 0.90 against 0.80 with an interval from -0.01 to 0.20 is no proof that both are the same.
    assert not_shown[0][1].startswith("ct: A shortcut (header) may be as good as net: AUC 0.80 against 0.90")
    undefined = comparison(np.nan).assign(ci_high=np.nan, reason="too few patients of a class: fewer than 6")
    assert describe_shortcuts(undefined)[0][1] == (
        "ct: Whether net beats a shortcut (header) cannot be said: too few patients of a class: fewer than 6."
    )
    assert cells(describe_shortcuts(undefined), SHORTCUTS)["difference"].tolist() == ["0.10 (no interval)"]


def test_sets_where_a_shortcut_is_not_beaten_come_first():
    rows = pd.concat([comparison(0.01), comparison(-0.01).assign(dataset="mri")])
    assert [text.split(":")[0] for text in sentences(describe_shortcuts(rows))] == ["mri", "ct"]


def test_several_networks_share_a_sentence_and_have_a_row_each():
    rows = pd.concat([comparison(0.01), comparison(-0.01).assign(architecture="vgg", network_auc=0.7)])
    findings = describe_shortcuts(rows)
    assert sentences(findings) == ["ct: 1 of 2 networks beats every shortcut; vgg is not shown to."]
    table = cells(findings, SHORTCUTS).set_index("network")
    assert table["beats every shortcut"].to_dict() == {"net": "1 of 1", "vgg": "0 of 1"}
    assert table["AUC"].to_dict() == {"net": "0.90", "vgg": "0.70"}
    assert table.loc["vgg", "difference"] == "0.10 (-0.01 to 0.20)"


def test_folds_are_counted_that_no_network_won():
    rows = pd.concat([comparison(-0.01), comparison(0.01).assign(seed=1, shortcut_auc=0.6)])
    findings = describe_classification(pd.DataFrame(scores("net", [0.9, 0.9])), rows, NO_LEVELS)
    assert findings[0][1] == (
        "ct: In 1 of 2 seeds or folds net is not shown to beat every shortcut. Mean AUC 0.90 against 0.70 (header)."
    )
    won = pd.concat([comparison(0.02), comparison(0.01).assign(seed=1, shortcut_auc=0.6)])
    assert describe_shortcuts(won)[0][1].startswith("ct: In all 2 seeds or folds net beats every shortcut.")


def test_doses_are_a_sentence_and_a_row():
    levels = pd.DataFrame({
        "dataset": "ct", "architecture": "net", "weights": "trained", "seed": 0, "severity": [0.1, 0.5, 1.0],
        "value": [0.55, 0.7, 0.95],
    })  # fmt: skip
    findings = describe_classification(pd.DataFrame(scores("net", [0.9])), comparison(0.01), levels)
    heading = "AUC against the severity of the defect"
    assert (heading, "ct: from severity 0.1 to 1 the AUC of net goes from 0.55 to 0.95.") in findings
    assert cells(findings, heading).iloc[0].tolist() == ["ct", "net", "0.55", "0.70", "0.95"]


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
    found = describe_classification(table, compared, levels)
    assert_short(told for _, told in found)
    # Cells of a table are checked as the sentences are; names of columns hold the severities.
    rows = [
        " ".join(map(str, [*told.columns, *told.to_numpy().ravel()])) for _, told in found if not isinstance(told, str)
    ]
    means = compared[["network_auc", "shortcut_auc", "difference"]].mean()
    assert_printed([*sentences(found), *rows], table, compared, levels, over_seeds(table), derived=[2, 3, *means])
    checks = pd.DataFrame(
        {"dataset": "ct", "weights": "trained", "method": ["a", "a", "b"], "valid": [False, True, True]}
    )
    (_, sentence), (_, worst) = describe_checks(checks)
    assert_printed(sentence, derived=[1, 3])
    assert worst.iloc[0].tolist() == ["ct", "trained", "a", 1]
