"""Metrics of stability and tables of methods agree with closed forms, scipy and explicit resampling."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from xiqa.metrics.maps.agreement import agreement
from xiqa.metrics.maps.claims import published
from xiqa.metrics.maps.difference_of_means import difference_of_means
from xiqa.metrics.maps.dose_response import dose_response
from xiqa.metrics.maps.leaderboard import (
    BETTER,
    NOT_BETTER,
    against_controls,
    leaderboard,
    summarise,
)
from xiqa.metrics.maps.map_similarity import rank_correlation, structural_similarity
from xiqa.metrics.maps.repeatability import repeatability
from xiqa.metrics.statistics import interval, interval_of_estimate

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(0, 1, (2, 24, 37))
TIED = RNG.integers(-3, 4, (24, 37)).astype(float)
BROKEN = [np.full((24, 37), 0.3), np.where(TIED == 0, np.nan, TIED), np.where(TIED == 0, np.inf, TIED)]


# Similarity of maps


def test_rank_correlation_of_a_small_map_by_hand():
    # 1 - 6 Σd² / (n (n² - 1)) with two ranks exchanged.
    assert rank_correlation(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [4, 3]])) == pytest.approx(1 - 12 / 60)


@pytest.mark.parametrize("other", [FIRST, TIED, TIED.astype(np.float32)])
def test_rank_correlation_is_that_of_scipy_and_symmetric(other):
    mixed = SECOND + 0.5 * other
    expected = stats.spearmanr(mixed.ravel(), other.ravel()).statistic
    assert rank_correlation(mixed, other) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(other, mixed) == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_sees_order_only():
    assert rank_correlation(FIRST, np.exp(FIRST) - 7) == pytest.approx(1)
    assert rank_correlation(FIRST, -FIRST) == pytest.approx(-1)
    assert rank_correlation(FIRST, -FIRST, absolute=True) == pytest.approx(1)
    assert abs(rank_correlation(FIRST, SECOND)) < 4 / np.sqrt(FIRST.size)


@pytest.mark.parametrize("similarity", [rank_correlation, structural_similarity])
@pytest.mark.parametrize("broken", BROKEN)
def test_maps_without_range_or_with_gaps_are_not_scored(similarity, broken):
    assert similarity(FIRST, broken) is None
    assert similarity(broken, FIRST) is None


@pytest.mark.parametrize("similarity", [rank_correlation, structural_similarity])
def test_maps_of_different_shapes_are_refused(similarity):
    with pytest.raises(ValueError, match="\\(24, 37\\) and \\(37, 24\\)"):
        similarity(FIRST, SECOND.T)


def test_structural_similarity_is_its_formula():
    a, b = ((m - m.min()) / np.ptp(m) for m in (FIRST, FIRST + SECOND))

    def mean(values):
        return ndimage.gaussian_filter(values, 1.5, truncate=3.5)

    covariance = mean(a * b) - mean(a) * mean(b)
    variances = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    luminance = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
    expected = (luminance * (2 * covariance + 9e-4) / (variances + 9e-4))[5:-5, 5:-5].mean()
    assert structural_similarity(FIRST, FIRST + SECOND) == pytest.approx(expected, abs=1e-12)


def test_structural_similarity_ignores_offset_and_scale_and_falls_with_noise():
    assert structural_similarity(FIRST, 3 * FIRST - 5) == pytest.approx(1)
    assert structural_similarity(FIRST, SECOND) == pytest.approx(structural_similarity(SECOND, FIRST))
    smooth = ndimage.gaussian_filter(FIRST, 3)
    found = [structural_similarity(smooth, smooth + noise * SECOND) for noise in (0, 0.01, 0.03, 0.1)]
    assert (np.diff(found) < 0).all()
    with pytest.raises(ValueError, match="11 × 11"):
        structural_similarity(FIRST[:10], SECOND[:10])


def test_agreement_is_the_mean_over_images_of_those_that_are_scored():
    maps = {"a": RNG.normal(0, 1, (3, 5, 8))}
    maps["b"] = maps["a"] + RNG.normal(0, 1, (3, 5, 8))
    maps["c"] = np.exp(maps["a"])
    maps["b"][1] = 2.0
    maps["d"] = np.full((3, 5, 8), np.nan)
    table = agreement(maps).set_index(["first", "second"])
    expected = np.mean([rank_correlation(maps["a"][i], maps["b"][i]) for i in (0, 2)])
    assert table.loc[("a", "b"), "rank_correlation"] == pytest.approx(expected)
    assert table.loc[("a", "b"), ["n", "not_scored"]].tolist() == [2, 1]
    assert table.loc[("a", "c"), ["rank_correlation", "n"]].tolist() == pytest.approx([1, 3])
    assert table.loc[("b", "c"), "rank_correlation"] == pytest.approx(expected)
    assert np.isnan(table.loc[("a", "d"), "rank_correlation"])
    assert table.loc[("c", "d"), ["n", "not_scored"]].tolist() == [0, 3]
    assert len(table) == 6
    assert agreement({"a": maps["a"]}).empty
    with pytest.raises(ValueError, match="one shape"):
        agreement({"a": maps["a"], "b": maps["b"][:2]})


# Repeats and architectures


def test_repeatability_by_hand():
    assert repeatability([0.2, 0.4, 0.9]) == pytest.approx((0.5, np.sqrt((0.09 + 0.01 + 0.16) / 2), 3))
    assert np.isnan(repeatability([0.4]).sd)
    for wrong in ([], [0.1, np.nan]):
        with pytest.raises(ValueError, match="one finite score per repeat"):
            repeatability(wrong)


def test_the_paper_prints_sample_deviations():
    """Three accuracies of mean m deviate by at most m √2 over n, by m √3 over n - 1: one printed needs the latter."""
    table = published().query("paper == 'Özer' and table in [3, 4]")
    ratio = table["sd_or_interval"].astype(float).sub(0.0005) / table["value"].add(0.0005)
    assert np.sqrt(2) < ratio.max() < np.sqrt(3)


def test_difference_of_means_as_published():
    """Mean scores of two networks give the printed difference, up to rounding to three digits."""
    table = published().query("paper == 'Özer' and table in [5, 6]")
    checked = 0
    for _, rows in table.groupby(["study", "method"]):
        scores = rows[rows["metric"] == "pointing_game"].set_index("row")["value"]
        printed = rows.loc[rows["metric"] == "difference_of_means", "value"].item()
        found = difference_of_means({network: [score] for network, score in scores.items()})
        assert found.largest == found.mean == pytest.approx(printed, abs=0.00151)
        assert np.isnan([found.ci_low, found.ci_high]).all()
        checked += 1
    assert checked == 20


def test_difference_of_means_of_three_architectures():
    scores = {"a": [0.1, 0.3], "b": [0.5, 0.5, 0.5], "c": [0.4, 0.4]}
    found = difference_of_means(scores)
    assert found.pairs["difference"].tolist() == pytest.approx([0.3, 0.2, 0.1])
    assert (found.largest, found.mean) == pytest.approx((0.3, 0.2))
    assert found.pairs[["n_first", "n_second"]].to_numpy().tolist() == [[2, 3], [2, 2], [3, 2]]
    assert np.isnan([found.ci_low, found.ci_high]).all()  # two or three repeats are too few for an interval
    more = difference_of_means({name: np.tile(values, 3) for name, values in scores.items()})
    low, high = interval(np.tile([0.1, 0.3], 3), level=1 - 0.05 / 3)  # of the largest of three pairs; b never varies
    assert (more.largest, more.ci_low, more.ci_high) == pytest.approx((0.3, 0.5 - high, 0.5 - low))
    assert more.pairs[["ci_low", "ci_high"]].to_numpy()[2] == pytest.approx([0.1, 0.1])


def test_difference_of_means_keeps_under_shift_and_order_and_scales():
    scores = {"a": RNG.normal(0.5, 0.1, 7), "b": RNG.normal(0.6, 0.1, 6)}
    found = difference_of_means(scores)
    assert difference_of_means({"b": scores["b"], "a": scores["a"]}).largest == pytest.approx(found.largest)
    moved = difference_of_means({name: 1 - 2 * values for name, values in scores.items()})
    expected = [2 * value for value in (found.largest, found.ci_low, found.ci_high)]
    assert [moved.largest, moved.ci_low, moved.ci_high] == pytest.approx(expected)


def test_interval_of_a_difference_of_means_is_the_normal_one_in_large_samples_and_starts_at_0_where_open():
    a, b = RNG.normal(0.9, 0.1, 200), RNG.normal(0.5, 0.1, 200)
    found = difference_of_means({"a": a, "b": b})
    half = 1.96 * np.sqrt((a.var() + b.var()) / 200)
    assert (found.ci_low, found.ci_high) == pytest.approx((found.largest - half, found.largest + half), abs=0.15 * half)
    open_sign = difference_of_means({"a": a, "b": a[::-1]})
    assert open_sign.ci_low == 0 < open_sign.ci_high


@pytest.mark.parametrize("scores", [{"a": [0.1]}, {"a": [0.1], "b": []}, {"a": [0.1], "b": [np.nan]}])
def test_difference_of_means_needs_two_architectures_with_scores(scores):
    with pytest.raises(ValueError, match="expected"):
        difference_of_means(scores)


# Dose-response


def nested(noise: float, patients: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two maps of each patient, each patient of one severity, mass 0.1 + 0.4 severity."""
    rng = np.random.default_rng(1)
    names = np.repeat(np.arange(patients), 2)
    severity = np.array([0.1, 0.25, 0.5, 1.0])[names % 4]
    each = rng.normal(0, noise, patients)[names] + rng.normal(0, noise / 2, len(names))
    return 0.1 + 0.4 * severity + each, severity, names


def test_dose_response_is_that_of_scipy_and_of_least_squares():
    mass, severity, patients = nested(0.1)
    mass = mass.round(1)  # ties
    found = dose_response(mass, severity, patients)
    assert found.correlation == pytest.approx(stats.spearmanr(mass, severity).statistic, abs=1e-12)
    assert found.slope == pytest.approx(stats.linregress(severity, mass).slope, abs=1e-12)
    assert found.correlation_low < found.correlation < found.correlation_high
    assert found.slope_low < found.slope < found.slope_high
    assert (found.n, found.not_scored, found.n_patients) == (48, 0, 24)


@pytest.mark.parametrize("crossed", [False, True])
def test_dose_response_intervals_are_those_of_leaving_out_each_patient(crossed):
    mass, severity, patients = nested(0.15)
    mass = mass.round(1)
    if crossed:
        patients = np.arange(48) // 4 % 12
    found = dose_response(mass, severity, patients)
    assert found.p_value < 0.05

    def expected(statistic):
        whole, names = statistic(mass, severity), np.unique(patients)
        without = [statistic(mass[patients != one], severity[patients != one]) for one in names]
        return interval_of_estimate(whole, len(names) * whole - (len(names) - 1) * np.array(without))

    ranked = expected(lambda m, s: np.arctanh(stats.spearmanr(m, s).statistic))
    line = expected(lambda m, s: stats.linregress(s, m).slope)
    assert (found.correlation_low, found.correlation_high) == pytest.approx(np.tanh(ranked), abs=1e-10)
    assert (found.slope_low, found.slope_high) == pytest.approx(line, abs=1e-10)


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("number", [6, 9])
def test_dose_response_is_seldom_seen_where_there_is_none(number, crossed):
    rng, levels, seen, p_values = np.random.default_rng(8), np.array([0.1, 0.25, 0.5, 1.0]), [], []
    for _ in range(150):
        patients = np.repeat(np.arange(number), 4 if crossed else 2)
        severity = np.tile(levels, number) if crossed else levels[rng.permutation(np.arange(number) % 4)][patients]
        mass = rng.exponential(0.1, number)[patients] + rng.exponential(0.05, len(patients))
        found = dose_response(mass, severity, patients, draws=199)
        seen.append(
            found.correlation_low > 0 or found.correlation_high < 0 or found.slope_low > 0 or found.slope_high < 0
        )
        p_values.append(found.p_value)
    assert np.mean(seen) <= 0.05
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_dose_response_needs_six_patients():
    few = dose_response(*(values[:10] for values in nested(0.02)))
    assert (few.n_patients, few.n) == (5, 10)
    assert np.isfinite(few.correlation)
    assert np.isnan([few.correlation_low, few.slope_high, few.p_value]).all()


def test_dose_response_of_an_exact_law():
    mass, severity, patients = nested(0)
    found = dose_response(mass, severity, patients)
    assert (found.correlation, found.correlation_low, found.correlation_high) == pytest.approx((1, 1, 1))
    assert (found.slope, found.slope_low, found.slope_high) == pytest.approx((0.4, 0.4, 0.4))
    bent = dose_response(mass**5, severity, patients)
    assert bent.correlation == pytest.approx(1)
    assert dose_response(-mass, severity, patients).correlation == pytest.approx(-1)


def test_dose_response_of_noise_covers_0_and_more_maps_of_the_same_patients_add_nothing():
    mass, severity, patients = nested(0.2)
    found = dose_response(np.random.default_rng(2).permutation(mass), severity, patients)
    assert found.correlation_low < 0 < found.correlation_high
    once, often = (dose_response(*(np.repeat(x, k) for x in (mass, severity, patients))) for k in (1, 5))
    assert (often.slope_low, often.slope_high) == pytest.approx((once.slope_low, once.slope_high))


def test_dose_response_where_nothing_can_be_said():
    mass, severity, patients = nested(0.1)
    flat = dose_response(mass, np.full(48, 0.1), patients)
    assert np.isnan([flat.correlation, flat.slope, flat.slope_low, flat.correlation_high]).all()
    constant = dose_response(np.full(48, 0.3), severity, patients)
    assert np.isnan(constant.correlation)
    assert constant.slope == pytest.approx(0)
    one = dose_response(mass, severity, np.zeros(48))
    assert np.isfinite(one.correlation)
    assert np.isnan([one.correlation_low, one.slope_high]).all()
    gaps = dose_response(np.where(patients < 3, np.nan, mass), severity, patients)
    assert (gaps.n, gaps.not_scored, gaps.n_patients) == (42, 6, 21)
    assert gaps.slope == pytest.approx(stats.linregress(severity[6:], mass[6:]).slope)
    empty = dose_response([np.nan], [0.1], ["p"])
    assert np.isnan(empty.correlation)
    assert (empty.n, empty.n_patients) == (0, 0)
    with pytest.raises(ValueError, match="one mass, one finite severity and one patient"):
        dose_response(mass, severity[:-1], patients)
    with pytest.raises(ValueError, match="finite severities: False"):
        dose_response(mass, np.full(48, np.nan), patients)


# Tables of methods


def long(patients: int = 12, images: int = 2, **methods) -> pd.DataFrame:
    """Scores of one data set and metric: each keyword is a function (n,) noise -> (n,) values."""
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 1, patients * images)
    tables = []
    for method, value in methods.items():
        rows = {"image": np.arange(patients * images), "patient": np.arange(patients * images) // images}
        tables.append(pd.DataFrame(rows).assign(method=method, value=value(shared + rng.normal(0, 0.1, len(shared)))))
    return pd.concat(tables, ignore_index=True).assign(dataset="set", metric="relevance_mass")


def test_summary_of_each_group_has_the_interval_of_its_patients():
    scores = long(a=lambda x: x, b=lambda x: 2 * x + 1)
    scores.loc[:2, "value"] = np.nan, np.inf, np.nan  # patient 0 and an image of patient 1
    table = summarise(scores.sample(frac=1, random_state=0), ["dataset", "method"]).set_index("method")
    for method, n, patients in (("a", 21, 11), ("b", 24, 12)):
        rows = scores[(scores["method"] == method) & np.isfinite(scores["value"])]
        assert table.loc[method, "mean"] == pytest.approx(rows["value"].mean())
        expected = interval(rows["value"].to_numpy(), rows["patient"].to_numpy())
        assert table.loc[method, ["ci_low", "ci_high"]].tolist() == pytest.approx(expected, abs=1e-12)
        assert table.loc[method, ["n", "not_scored", "n_patients"]].tolist() == [n, 24 - n, patients]


def test_summary_of_nothing_and_of_faulty_tables():
    scores = long(a=lambda x: np.full_like(x, np.nan))
    row = summarise(scores, ["method"]).iloc[0]
    assert row[["mean", "ci_low", "ci_high"]].isna().all()
    assert row[["n", "not_scored", "n_patients"]].tolist() == [0, 24, 0]
    assert summarise(scores[:0], ["method"]).empty
    with pytest.raises(ValueError, match="expected also \\['architecture'\\]"):
        summarise(scores, ["architecture"])
    with pytest.raises(ValueError, match="found 24 rows without"):
        summarise(scores.assign(patient=None), ["method"])


METHODS = {
    "random": lambda x: 0 * x,
    "edges": lambda x: x + 1,
    "good": lambda x: x + 2,
    "same": lambda x: x + 1,
    "bad": lambda x: x,
}


def test_a_method_is_better_where_it_beats_the_best_control():
    table = against_controls(long(**METHODS), ["dataset", "metric"]).set_index("method")
    assert table.index.tolist() == ["good", "same", "bad"]
    assert (table["control"] == "edges").all()
    assert table["verdict"].tolist() == [BETTER, NOT_BETTER, NOT_BETTER]
    assert table["difference"].tolist() == pytest.approx([1, 0, -1], abs=0.15)
    assert table.loc["good", "p_corrected"] == 2 / 2**12  # of all changes of signs two give some method as much
    assert (table.loc[["same", "bad"], "p_corrected"] > 0.05).all()
    assert (table[["n", "n_patients"]] == [24, 12]).all(axis=None)


def test_less_is_better_of_deletion():
    scores = long(**METHODS)
    scores = scores.assign(value=(scores["value"] + 5) / 12)  # within 0 to 1, as scores are
    raised = against_controls(scores, ["metric"]).set_index("method")
    turned = scores.assign(metric="deletion", value=1 - scores["value"])
    pd.testing.assert_frame_equal(
        raised.drop(columns="metric"),
        against_controls(turned, ["metric"]).set_index("method").drop(columns="metric"),
    )
    wrong = against_controls(scores.assign(metric="deletion"), ["dataset"]).set_index("method")
    assert wrong.loc["good", "verdict"] == NOT_BETTER
    assert (wrong["control"] == "random").all()


def test_pairs_are_images_that_both_scored():
    scores = long(**METHODS)
    hidden = (scores["method"] == "good") & (scores["image"] < 3)
    table = against_controls(scores.assign(value=scores["value"].mask(hidden)), ["dataset"]).set_index("method")
    rows = scores[scores["image"] >= 3].pivot(index=["image", "patient"], columns="method", values="value")
    difference = (rows["good"] - rows["edges"]).reset_index()
    assert table.loc["good", "difference"] == pytest.approx(difference[0].mean())
    expected = interval(difference[0].to_numpy(), difference["patient"].to_numpy())
    assert table.loc["good", ["ci_low", "ci_high"]].tolist() == pytest.approx(expected, abs=1e-12)
    assert table.loc["good", ["n", "n_patients"]].tolist() == [21, 11]
    assert table.loc["same", "n"] == 24


def test_scores_of_several_networks_need_their_column():
    scores = pd.concat([long(**METHODS).assign(seed=seed) for seed in (0, 1)])
    with pytest.raises(ValueError, match="found 120 rows that repeat others"):
        against_controls(scores, ["dataset"])
    together = against_controls(scores, ["dataset"], pairs=("seed", "image"))
    assert (together["n"] == 48).all()
    assert (together["n_patients"] == 12).all()
    assert len(against_controls(scores, ["dataset", "seed"])) == 6


def test_without_a_control_or_without_scores_nothing_is_better():
    for scores in (long(good=lambda x: x + 5), long(random=lambda x: x, good=lambda x: np.full_like(x, np.nan))):
        row = against_controls(scores, ["dataset"]).iloc[0]
        assert np.isnan(row["difference"])
        assert (row["verdict"], row["n"], row["p_corrected"]) == ("not testable with 0 patients", 0, 1)
    two = long(patients=2, random=lambda x: x, good=lambda x: x + 5)
    assert against_controls(two, ["dataset"])["verdict"].item() == "not testable with 2 patients"
    assert against_controls(two[:0], ["dataset"]).empty


def test_methods_that_are_no_better_are_seldom_called_better():
    names = ["random", "edges", *(f"method_{k}" for k in range(8))]
    groups = []
    for group in range(25):
        values = np.random.default_rng(group).normal(0, 1, (20, len(names)))
        groups.append(pd.DataFrame(values, columns=names).melt(var_name="method").assign(group=group))
    scores = pd.concat(groups).assign(image=np.tile(np.arange(20), 250), patient=np.tile(np.arange(20), 250))
    found = against_controls(scores, ["group"])
    assert (found["verdict"] == BETTER).groupby(found["group"]).any().sum() <= 2  # 5 % of the groups would be right


def test_leaderboard():
    first = long(**METHODS)
    second = long(**METHODS | {"good": lambda x: x - 3}).assign(dataset="other")
    turned = first.assign(metric="deletion", value=-first["value"])
    costs = pd.DataFrame({"method": ["good", "bad"], "seconds_per_map": [0.5, 2.0], "peak_memory_mb": [100.0, 900.0]})
    table = leaderboard(pd.concat([first, second, turned]), costs).set_index(["metric", "dataset", "method"])
    assert len(table) == 15
    ranks = table.loc[("relevance_mass", "set"), "rank"]
    assert ranks["good"] == 1
    assert ranks["same"] < ranks["bad"]
    assert table.loc[("relevance_mass", "other", "good"), "rank"] == 5
    assert (table.xs("good", level="method").loc["relevance_mass", "mean_rank"] == 3).all()
    assert table.loc[("deletion", "set"), "rank"].equals(ranks)
    assert table.index[table["beats_best_control"]].tolist() == [
        ("deletion", "set", "good"),
        ("relevance_mass", "set", "good"),
    ]
    assert table.xs("bad", level="method")["seconds_per_map"].eq(2).all()
    assert table.xs("same", level="method")["peak_memory_mb"].isna().all()
    assert leaderboard(first)["seconds_per_map"].isna().all()
    for _, rows in table.groupby(level=["metric", "dataset"]):
        assert rows["rank"].is_monotonic_increasing
