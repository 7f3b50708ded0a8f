"""The tables of the papers from scores whose means, differences and orders are known."""

import numpy as np
import pandas as pd
import pytest

from xiqa import metrics
from xiqa.metrics.maps.beside import with_published
from xiqa.metrics.maps.score_tables import (
    cascade_table,
    difference_of_means_table,
    dose_response_table,
    in_both_forms,
    methods_table,
    paired_table,
    pointing_game_table,
    randomisation_table,
    smoothing_table,
)
from xiqa.metrics.maps.trust import describe_trust, trust

IMAGES = 40


def scores_of(values: dict, metric="roc_auc", **known) -> pd.DataFrame:
    """One row per image: two images of each patient; `values` maps a method to its (n,) scores."""
    parts = []
    for method, of_images in values.items():
        of_images = np.broadcast_to(of_images, IMAGES).astype(float)
        parts.append(
            pd.DataFrame({
                "image": [f"i{k}" for k in range(IMAGES)], "patient": np.arange(IMAGES) // 2, "method": method,
                "label_name": np.where(np.arange(IMAGES) < 30, "a", "b"), "value": of_images, "metric": metric,
            })
        )  # fmt: skip
    defaults = {"architecture": "net", "weights": "trained", "seed": 0, "form": "absolute", "part": "test"}
    return pd.concat(parts, ignore_index=True).assign(**(defaults | {"tolerance_px": 5.0, "severity": np.nan} | known))


def noisy(mean, seed):
    return mean + np.random.default_rng(seed).normal(0, 0.02, IMAGES)


def test_maps_without_a_sign_stand_in_both_forms():
    rows = pd.concat([scores_of({"signed": 0.5}, form=form) for form in ("signed", "absolute")])
    both = in_both_forms(pd.concat([rows, scores_of({"unsigned": 0.7})], ignore_index=True))
    counts = both.groupby(["method", "form"]).size()
    assert (counts == IMAGES).all()
    assert len(counts) == 4


def test_a_method_beats_the_best_control_or_it_does_not():
    values = {"good": noisy(0.9, 1), "poor": noisy(0.5, 2), "random": noisy(0.5, 3), "centre_prior": noisy(0.7, 4)}
    table = methods_table(scores_of(values), "roc_auc").set_index("method")
    assert table.loc["good", "mean"] == pytest.approx(values["good"].mean())
    assert table.loc["good", "gain"] == pytest.approx(np.mean(values["good"] - values["centre_prior"]))
    assert table.loc["good", ["control", "verdict"]].tolist() == ["centre_prior", "better than the best control"]
    assert table.loc["poor", "verdict"] == "not better than the best control"
    assert table.loc["good", "ci_low"] < table.loc["good", "mean"] < table.loc["good", "ci_high"]
    assert table.loc["good", ["n", "n_patients", "seeds"]].tolist() == [IMAGES, IMAGES // 2, 1]
    assert pd.isna(table.loc["random", "verdict"])


def test_seeds_are_pooled_and_their_spread_is_told():
    rows = pd.concat([scores_of({"m": value, "random": 0.1}, seed=seed) for seed, value in enumerate((0.4, 0.6, 0.8))])
    row = methods_table(rows, "roc_auc").set_index("method").loc["m"]
    assert row["mean"] == pytest.approx(0.6)
    assert (row["sd_over_seeds"], row["seeds"]) == (pytest.approx(0.2), 3)


def test_pointing_game_is_told_with_and_without_smoothing_by_image_and_by_class():
    hits = (np.arange(IMAGES) < 30).astype(float)  # all of class a, none of class b
    rows = pd.concat([
        scores_of({"m": hits, "random": 0.0}, "pointing_game"),
        scores_of({"m": 1.0, "random": 0.0}, "pointing_game_smooth"),
        scores_of({"m": 0.1, "random": 0.1}, "chance"),
    ])  # fmt: skip
    table = pointing_game_table(rows).query("method == 'm'").set_index("smoothing")
    assert table.loc["none", ["accuracy", "mean_over_classes", "chance", "tolerance_px"]].tolist() == pytest.approx(
        [0.75, 0.5, 0.1, 5]
    )
    assert table.loc["gaussian", "accuracy"] == 1
    smoothing = smoothing_table(rows).set_index("method").loc["m"]
    assert (smoothing["unsmoothed"], smoothing["difference"]) == (0.75, -0.25)
    assert smoothing["ci_low"] < -0.25 < smoothing["ci_high"] < 0


def test_trained_networks_are_compared_with_randomised_ones_on_the_same_images():
    rows = pd.concat([
        scores_of({"m": noisy(0.9, 1)}), scores_of({"m": noisy(0.6, 2)}, weights="semi_random"),
        scores_of({"m": noisy(0.5, 3)}, weights="fully_random"),
    ])  # fmt: skip
    missing = rows["image"].eq("i0") & rows["weights"].eq("semi_random")
    rows.loc[missing, "value"] = np.nan
    table = randomisation_table(rows, ["roc_auc"]).set_index("compared_with")
    assert table.loc["fully_random", "difference"] == pytest.approx(0.4, abs=0.02)
    assert table.loc["semi_random", ["n", "not_scored"]].tolist() == [IMAGES - 1, 1]
    assert (table["ci_low"] > 0).all()


def test_conditions_without_rows_are_left_out():
    assert paired_table(scores_of({"m": 0.5}), ["method"], "weights", "trained", ["semi_random"]).empty


def test_difference_of_means_needs_two_architectures():
    first, second = scores_of({"m": 0.9}), scores_of({"m": 0.6}, architecture="other")
    assert difference_of_means_table(first, ["roc_auc"]).empty
    row = difference_of_means_table(pd.concat([first, second]), ["roc_auc"]).iloc[0]
    assert row[["mean_first", "mean_second", "difference"]].tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert row[["first", "second", "repeats", "largest"]].tolist() == ["net", "other", 1, True]


def test_difference_of_means_has_a_row_for_each_pair_and_marks_the_largest():
    rows = [
        scores_of({"m": value, "n": 0.5}, architecture=name) for name, value in (("a", 0.9), ("b", 0.6), ("c", 0.8))
    ]
    table = difference_of_means_table(pd.concat(rows), ["roc_auc"]).set_index("method")
    found = table.loc["m"].set_index(["first", "second"])
    assert found["difference"].to_dict() == pytest.approx({("a", "b"): 0.3, ("a", "c"): 0.1, ("b", "c"): 0.2})
    assert found.index[found["largest"]].tolist() == [("a", "b")]
    assert table.loc["n", "largest"].sum() == 1


def test_mass_that_grows_with_severity_is_seen():
    severity = np.repeat([0.1, 0.25, 0.5, 1.0], IMAGES // 4)
    rows = scores_of({"grows": severity / 2, "does not": noisy(0.3, 1)}, "relevance_mass", part="severity")
    table = dose_response_table(rows.assign(severity=np.tile(severity, 2))).set_index("method")
    assert table.loc["grows", "correlation"] == pytest.approx(1)
    assert table.loc["grows", "slope"] == pytest.approx(0.5)
    assert table.loc["does not", "correlation_low"] < 0.3


def test_cascade_has_an_interval_for_each_number_of_blocks():
    rows = pd.DataFrame({
        "architecture": "net", "blocks": np.repeat([1, 2], IMAGES), "block": "b", "method": "m",
        "patient": np.tile(np.arange(IMAGES), 2), "rank_correlation": np.repeat([0.8, 0.1], IMAGES),
        "rank_correlation_absolute": 0.5, "structural_similarity": 0.2,
    })  # fmt: skip
    table = cascade_table(rows)
    means = table[table["measure"] == "rank_correlation"].set_index("blocks")["mean"]
    assert means.to_dict() == pytest.approx({1: 0.8, 2: 0.1})


def test_the_papers_numbers_stand_beside_ours():
    known = {"method": ["grad_cam", "random"], "form": "absolute", "architecture": "resnet50"}
    known |= {"scoring": "published", "truth": "box"}
    tables = {
        "pointing_game": pd.DataFrame(known | {"weights": "semi_random", "smoothing": "gaussian"}),
        "smoothing": pd.DataFrame(known | {"weights": "trained"}),
        "randomisation": pd.DataFrame(known | {"metric": "pointing_game_smooth", "compared_with": "fully_random"}),
        "relevance": pd.DataFrame(known),
    }
    lvot = {name: table.set_index("method") for name, table in with_published(tables, "lvot").items()}
    assert lvot["pointing_game"].loc["grad_cam", "published"] == 0.061  # paper 001, table 3
    assert lvot["pointing_game"].loc["grad_cam", "published_in"] == "paper 001, table 3"
    assert np.isnan(lvot["pointing_game"].loc["random", "published"])
    assert lvot["smoothing"].loc["grad_cam", "published"] == pytest.approx(0.582 - 0.554)
    assert "published" not in lvot["relevance"]
    mine = with_published(tables, "folder")
    assert all(len(mine[name]) == 2 for name in tables)
    assert mine["pointing_game"]["published"].isna().all()


def ranks_of(beaten: dict[str, dict[str, bool]]) -> pd.DataFrame:
    rows = [
        {"dataset": "d", "method": method, "form": "absolute", "metric": metric, "mean": 0.8, "ci_low": 0.7,
         "ci_high": 0.9, "n": 30, "beats_best_control": beats, "seconds_per_map": 0.1}
        for method, metrics in beaten.items() for metric, beats in metrics.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_method_is_trusted_if_all_that_was_tested_holds():
    ranks = ranks_of({
        "good": {"roc_auc": True, "fidelity": True}, "blind": {"roc_auc": False, "fidelity": True},
        "untrained": {"roc_auc": True, "fidelity": True}, "half": {"roc_auc": True},
    })  # fmt: skip
    randomisation = pd.DataFrame({
        "dataset": "d", "method": ["good", "untrained"], "form": "absolute", "compared_with": "fully_random",
        "ci_low": [0.1, -0.1], "n": 30,
    })  # fmt: skip
    table = trust(ranks, randomisation).set_index("method")
    assert table["trusted"].to_dict() == {"good": "yes", "blind": "no", "untrained": "no", "half": "no"}
    assert table.loc["blind", "depends_on_training"] == "not tested"
    assert table.loc["half", "faithful"] == "not tested"
    claims = pd.DataFrame(
        {"holds": ["yes", "no"], "dataset": ["d", "e"], "paper": "004", "sentence": "A.", "evidence": "B."}
    )
    told = describe_trust(table.reset_index().assign(data="simulated"), claims)
    assert told[0][0] == "d (simulated images): trusted"
    assert told[0][1].startswith("good (absolute): pixel AUC 0.80 (0.70 to 0.90)")
    assert told[-2] == ("Do the papers' claims hold here?", "Paper 004: A. Here: yes on d; no on e.")


def test_scores_of_single_maps_are_had_by_name():
    saliency, mask = np.eye(20), np.eye(20) > 0
    assert metrics.pointing_game(saliency, mask) is True
    assert metrics.pointing_game(saliency, np.zeros_like(mask)) is None
    assert metrics.roc_auc(saliency, mask) == 1
    assert metrics.region_dice(saliency, saliency, mask).shape == (100,)
    assert metrics.difference_of_means({"a": [0.5, 0.7], "b": [0.4]}).largest == pytest.approx(0.2)
    with pytest.raises(AttributeError, match="no attribute 'accuracy'"):
        _ = metrics.accuracy
