"""The tables of the papers from scores whose means, differences and orders are known."""

import numpy as np
import pandas as pd
import pytest
from printed_numbers import assert_short

from xiqa import metrics
from xiqa.metrics.maps.beside import with_published
from xiqa.metrics.maps.leaderboard import AT_CEILING
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
from xiqa.metrics.maps.trust import describe_trust, form_of, trust
from xiqa.metrics.statistics import interval
from xiqa.registry import CONTROLS

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
    # Five patients of 20 differ, all in one direction: that comes by chance in 2 of 2^5 cases, more than 5 %.
    assert smoothing["ci_low"] < -0.25 < 0 < smoothing["ci_high"] < 0.05


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
    assert lvot["pointing_game"].loc["grad_cam", "published"] == 0.061  # Özer, table 3
    assert lvot["pointing_game"].loc["grad_cam", "published_in"] == "Özer, table 3"
    assert np.isnan(lvot["pointing_game"].loc["random", "published"])
    assert lvot["smoothing"].loc["grad_cam", "published"] == pytest.approx(0.582 - 0.554)
    assert "published" not in lvot["relevance"]
    mine = with_published(tables, "folder")
    assert all(len(mine[name]) == 2 for name in tables)
    assert mine["pointing_game"]["published"].isna().all()


def study(patients: int, gains: dict[str, tuple[float, float, float]], noise=0.02, **known) -> pd.DataFrame:
    """Scores of a data set, one image per patient: what each method gains over the controls in pixel AUC, in fidelity,
    and in pixel AUC over the randomised network."""
    rng, parts = np.random.default_rng(11), []
    base = rng.normal(0.5, 0.1, patients)
    for method, (finds, faithful, depends) in (gains | dict.fromkeys(CONTROLS, (0, 0, 0))).items():
        for metric, weights, gain in (
            ("roc_auc", "trained", finds), ("fidelity", "trained", faithful),
            ("roc_auc", "fully_random", finds - depends),
        ):  # fmt: skip
            value = base + gain + rng.normal(0, noise, patients)
            rows = {"image": np.arange(patients), "patient": np.arange(patients), "value": value, "metric": metric}
            parts.append(pd.DataFrame(rows).assign(method=method, weights=weights))
    scores = pd.concat(parts, ignore_index=True).assign(dataset="d", seed=0, label_name="a", architecture="net")
    return in_both_forms(scores.assign(form="absolute", **known))


GAINS = {"good": (0.2, 0.2, 0.2), "blind": (0, 0.2, 0.2), "untrained": (0.2, 0.2, 0), "unfaithful": (0.2, -0.1, 0.2)}


def test_a_method_is_trusted_if_all_that_was_tested_holds():
    table = trust(study(12, GAINS)).set_index("method")
    assert table["trusted"].to_dict() == {"good": "yes", "blind": "no", "untrained": "no", "unfaithful": "no"}
    marks = table[["localises", "faithful", "depends_on_training"]]
    assert (marks == "passed").sum(axis=1).to_dict() == {"good": 3, "blind": 2, "untrained": 2, "unfaithful": 2}
    assert (marks == "failed").sum().to_dict() == {"localises": 1, "faithful": 1, "depends_on_training": 1}
    row = table.loc["good"]
    assert (row["faithful_score"], row["faithful_images"], row["faithful_patients"]) == ("fidelity", 12, 12)
    assert row["faithful_low"] < row["faithful_gain"] < row["faithful_high"]
    assert row["faithful_gain"] == pytest.approx(0.2, abs=0.03)
    assert row["depends_on_training_against"] == "fully_random"
    assert row["form"] == "signed"


def test_the_numbers_of_a_check_are_those_of_its_pairs():
    scores = study(9, GAINS)
    row = trust(scores).set_index("method").loc["good"]
    wide = scores.query("metric == 'roc_auc' and weights == 'trained' and form == 'signed'").pivot(
        index="patient", columns="method", values="value"
    )
    gains = wide[["good"]].to_numpy() - wide[list(CONTROLS)]
    hardest = gains.mean().idxmin()
    assert row["localises_against"] == hardest
    assert row["localises_gain"] == pytest.approx(gains[hardest].mean())
    assert row[["localises_low", "localises_high"]].tolist() == pytest.approx(interval(gains[hardest]))
    assert row["roc_auc"] == pytest.approx(wide["good"].mean())


def test_what_too_few_patients_cannot_decide_is_not_testable():
    table = trust(study(5, GAINS))
    assert (table[["localises", "faithful", "depends_on_training"]] == "not testable").all(axis=None)
    assert (table["trusted"] == "not testable").all()
    told = describe_trust(table.assign(data="simulated", mask_of="defect"), CLAIMS_FOUND)
    last = dict(told)  # the last sentence of each heading
    assert last["d (simulated images)"] == "No method passes all checks, so none is called trusted."
    sentences = [sentence for _, sentence in told]
    assert (
        sentences[1]
        == "None is shown to be faithful when pixels are masked: 5 images of 5 patients are too few to decide."
    )
    six = trust(study(6, {"good": (0.2, 0.2, 0.2)}))
    assert six["trusted"].tolist() == ["yes"]


def test_checks_that_a_study_did_not_make_are_not_tested():
    scores = study(12, {"good": (0.2, 0.2, 0.2)}).query("metric == 'roc_auc' and weights == 'trained'")
    row = trust(scores).iloc[0]
    assert row[["localises", "faithful", "depends_on_training"]].tolist() == [
        "passed",
        "not tested",
        "not tested",
    ]
    assert row["trusted"] == "no"
    assert row["faithful_images"] == 0


def test_the_form_of_a_method_is_fixed_beforehand():
    scores = study(12, {"gradient": (0.0, 0, 0), "lrp": (0.0, 0, 0)})
    signed = scores["form"] == "signed"
    # Signed maps of both find the object, absolute ones do not; the gradient counts without its sign.
    scores.loc[signed & ~scores["method"].isin(CONTROLS), "value"] += 0.3
    found = trust(scores).set_index("method")["localises"]
    assert found.to_dict() == {"gradient": "failed", "lrp": "passed"}
    assert form_of("smoothgrad") == "absolute"
    assert form_of("xrai") == form_of("occlusion") == form_of("integrated_gradients") == "signed"


def trusted_by_chance(truth: tuple[float, float, float], seeds: range) -> list[bool]:
    """In which trials any of six methods alike passes a check that it does not deserve to pass."""
    false = []
    for seed in seeds:
        scores = study(8, {f"m{k}": truth for k in range(6)}, noise=0.0)
        rng = np.random.default_rng(seed)
        shared = rng.normal(0, 0.1, (8, 1))[scores["patient"]].ravel()
        scores = scores.assign(value=scores["value"] + shared + rng.normal(0, 0.05, len(scores)))
        table = trust(scores)
        checks = ("localises", "faithful", "depends_on_training")
        nulls = [name for name, gain in zip(checks, truth, strict=True) if not gain]
        false.append(bool((table[nulls] == "passed").any(axis=None)))
    return false


TRUTHS = [(0, 0, 0), (0.2, 0.2, 0), (0, 0.2, 0.2)]
"""The global null and two partial ones."""


def seldom(false: list[bool]) -> bool:
    return np.mean(false) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(false))


@pytest.mark.long
@pytest.mark.ci
def test_methods_are_seldom_trusted_by_chance():
    assert seldom([wrong for k, truth in enumerate(TRUTHS) for wrong in trusted_by_chance(truth, range(k, 24, 3))])


@pytest.mark.long
@pytest.mark.parametrize("truth", TRUTHS)
def test_methods_are_seldom_trusted_by_chance_under_each_null(truth):
    assert seldom(trusted_by_chance(truth, range(40)))


def hits(patients: int, missed: int) -> pd.DataFrame:
    """Pointing Game of a perfect method beside a centre prior that misses in some patients, and two poor controls."""
    scores = study(patients, {"xrai": (0.2, 0.2, 0.2)})
    pointing = scores[(scores["metric"] == "roc_auc") & (scores["weights"] == "trained")].assign(metric="pointing_game")
    right = {"xrai": 1.0, "centre_prior": (pointing["patient"] >= missed).astype(float), "random": 0.0, "edges": 0.0}
    for method, values in right.items():
        pointing.loc[pointing["method"] == method, "value"] = values
    return pd.concat([scores, pointing], ignore_index=True)


def test_a_control_that_is_right_everywhere_cannot_be_beaten_and_is_not_said_to_win():
    found = {}
    for missed in (0, 2, 8):
        scores = hits(12, missed)
        row = methods_table(scores, "pointing_game").set_index(["method", "form"]).loc["xrai", "signed"]
        table = trust(scores).assign(data="simulated", mask_of="heart and vessels")
        told = " ".join(text for _, text in describe_trust(table, CLAIMS_FOUND) if isinstance(text, str))
        found[missed] = row["verdict"], "no method can beat" in told
        assert table["pointing_game_room"].tolist() == [missed]
        assert "find the defect" not in told
        if missed == 2:
            assert "the centre prior: it points right into the heart and vessels in 10 of 12 patients." in told
    assert found[8] == ("better than the best control", False)
    # Were xrai perfect, as it is, two patients could not show it.
    assert found[0] == found[2] == (AT_CEILING, True)
    few = methods_table(hits(5, 0), "pointing_game")["verdict"].dropna().unique()
    assert few.tolist() == ["not testable with 5 patients"]


def test_a_check_is_not_testable_where_a_control_is_perfect():
    scores = study(12, {"good": (0.0, 0.2, 0.2)})
    scores.loc[(scores["method"] == "edges") & (scores["metric"] == "roc_auc"), "value"] = 1.0
    table = trust(scores)
    assert table["localises"].tolist() == ["not testable"]
    assert table["localises_room"].tolist() == [0]
    assert table["faithful"].tolist() == ["passed"]
    told = [sentence for _, sentence in describe_trust(table.assign(data="real", mask_of="lungs"), CLAIMS_FOUND)]
    assert told[0] == (
        "None can be shown to point into the lungs better than random, centre and edges: "
        "a perfect map would be better than all rivals in only "
        "0 of 12 patients."
    )


CLAIMS_FOUND = pd.DataFrame({
    "holds": ["yes", "no", "not testable", "not testable"], "dataset": ["d", "e", "f", "d"], "paper": "Brocki 2022",
    "sentence": ["A.", "A.", "A.", "B."], "evidence": "B.",
})  # fmt: skip


def test_findings_say_what_decided_and_on_how_many():
    table = trust(study(12, GAINS), pd.DataFrame({"dataset": "d", "method": list(GAINS), "seconds_per_map": 0.25}))
    told = describe_trust(table.assign(data="simulated", mask_of="defect"), CLAIMS_FOUND)
    assert told[0] == (
        "d (simulated images)", "3 of 4 methods find the defect better than random, centre and edges (12 images)."
    )  # fmt: skip
    row = table.set_index("method").loc["good"]
    assert told[3][1] == "1 of 4 methods is trusted: good."
    gains = told[4][1].set_index("method").loc["good"]
    assert gains["its map counts"] == "signed"
    assert gains["seconds per map"] == "0.25"
    assert gains["faithful: fidelity above"] == (
        f"{row['faithful_against'].replace('_', ' ')} by {row['faithful_gain']:.2f} ({row['faithful_low']:.2f} to "
        f"{row['faithful_high']:.2f}; p {row['faithful_p']:.2g}; 12 images, 12 patients)"
    )
    heading, sentence = told[-2]
    assert heading == "Do the papers' claims hold here?"
    assert sentence == "Of 2 claims 1 are decided on some data set; claims.csv has all with evidence."
    assert told[-1][1].to_dict("records") == [
        {"paper": "Brocki 2022", "claim": "A.", "yes": "d", "no": "e", "undecided": "f"}
    ]
    assert_short(sentence for _, sentence in told)


@pytest.mark.parametrize(("patients", "gain", "expected"), [
    (12, 0.2, "The one method tested finds the defect (12 images)."),
    (12, 0.0, "The one method tested is not shown to find the defect better than random, centre and edges (12 "
     "images)."),
    (1, 0.2, "The one method tested is not shown to find the defect better than random, centre and edges: 1 image of 1 "
     "patient are too few to decide."),
])  # fmt: skip
def test_one_method_is_not_called_none_of_one(patients, gain, expected):
    table = trust(study(patients, {"only": (gain, gain, gain)})).assign(data="simulated", mask_of="defect")
    told = [text for _, text in describe_trust(table, CLAIMS_FOUND) if isinstance(text, str)]
    assert told[0] == expected
    assert "of 1 methods" not in " ".join(told)


def test_scores_of_single_maps_are_had_by_name():
    saliency, mask = np.eye(20), np.eye(20) > 0
    assert metrics.pointing_game(saliency, mask) is True
    assert metrics.pointing_game(saliency, np.zeros_like(mask)) is None
    assert metrics.roc_auc(saliency, mask) == 1
    assert metrics.region_dice(saliency, saliency, mask).shape == (100,)
    assert metrics.difference_of_means({"a": [0.5, 0.7], "b": [0.4]}).largest == pytest.approx(0.2)
    with pytest.raises(AttributeError, match="no attribute 'accuracy'"):
        _ = metrics.accuracy
