"""Upsampling is algorithm 2 of Amanova 2022; without replacement every pixel is visited equally often."""

import hashlib
import itertools
import tracemalloc

import numpy as np
import pytest
from saliency_targets import NetTarget, linear, small_net
from scipy import stats

from xiqa.datasets.sampling import sample, scatter_add
from xiqa.models.ensemble import Ensemble
from xiqa.saliency import modification, upsampling
from xiqa.saliency.upsampling import count_visits, draw, draws_per_cycle, merge, shard_ranges, upsample, upsampled_map

FULL_FRAME = (3654, 2323)


def test_visits_are_those_of_any_upsampling_with_the_same_draws():
    shape, size, seed = (23, 31), 6, 4
    for without_replacement in (False, True):
        counted = count_visits(shape, size, 40, seed, without_replacement)
        shard = upsample(np.zeros(shape), np.zeros_like, size, range(40), seed, without_replacement=without_replacement)
        assert counted.dtype == np.uint8
        np.testing.assert_array_equal(counted, shard.visits)


def visits(shape, size, numbers, seed=0, without_replacement=True):
    canvas = np.zeros(shape, np.int32)
    for number in numbers:
        scatter_add(canvas, 1, *draw(shape, size, seed, number, without_replacement))
    return canvas


# Draws


@pytest.mark.parametrize("without_replacement", [False, True])
def test_each_draw_has_distinct_sorted_rows_and_columns_inside_the_image(without_replacement):
    for number in range(160):
        for axis, length in zip(draw(FULL_FRAME, 250, 4, number, without_replacement), FULL_FRAME, strict=True):
            assert len(axis) == 250
            assert (np.diff(axis) > 0).all()
            assert axis[0] >= 0
            assert axis[-1] < length


@pytest.mark.parametrize("without_replacement", [False, True])
def test_a_draw_depends_on_seed_and_number_only(without_replacement):
    def one(seed, number):
        rows, columns = draw((90, 70), 20, seed, number, without_replacement)
        return tuple(rows.tolist()), tuple(columns.tolist())

    forwards = [one(1, number) for number in range(40)]
    assert [one(1, number) for number in reversed(range(40))] == forwards[::-1]
    assert one(2, 0) != forwards[0]
    assert len(set(forwards)) == 40


def test_each_cycle_visits_every_pixel_once_where_the_size_divides_the_image():
    shape, size = (60, 80), 20
    assert draws_per_cycle(shape, size) == 12
    for cycle in range(3):
        assert (visits(shape, size, range(12 * cycle, 12 * cycle + 12)) == 1).all()
    assert set(np.unique(visits(shape, size, range(30)))) == {2, 3}


def test_each_cycle_visits_every_pixel_once_or_twice_in_a_full_frame_image():
    assert draws_per_cycle(FULL_FRAME, 250) == 15 * 10
    counts = visits(FULL_FRAME, 250, range(150))
    assert counts.min() == 1
    assert counts.max() == 2
    assert counts.sum() == 150 * 250**2


@pytest.mark.parametrize("size", [7, 10])
@pytest.mark.parametrize("shape", [(30, 31), (35, 60), (39, 52), (71, 33), (49, 40), (36, 97)])
def test_visits_of_a_cycle_differ_by_at_most_one_for_any_remainder(shape, size):
    if shape[0] // size < 3 or shape[1] // size < 3:
        pytest.skip("the guarantee needs three whole blocks in both directions")
    for cycle in range(3):
        per_cycle = draws_per_cycle(shape, size)
        counts = visits(shape, size, range(cycle * per_cycle, (cycle + 1) * per_cycle), seed=3)
        assert counts.min() == 1
        assert counts.max() <= 2


def test_a_broken_cycle_never_leaves_a_pixel_more_than_one_visit_ahead():
    for number in range(1, 30):
        counts = visits((50, 60), 10, range(number))
        assert counts.max() - counts.min() <= 1


def test_visits_are_far_more_even_than_by_independent_draws():
    independent = visits((73, 58), 10, range(480), without_replacement=False)
    balanced = visits((73, 58), 10, range(480))
    assert independent.mean() == balanced.mean()
    assert balanced.std() < independent.std() / 2


@pytest.mark.parametrize("number", range(9))
def test_every_subset_is_equally_likely_in_each_draw_of_a_cycle_also_in_the_completed_one(number):
    # 7 rows in blocks of 3, 3 and 1 + 2 from another block: 35 subsets, chi-square over 1400 seeds.
    subsets = {rows: index for index, rows in enumerate(itertools.combinations(range(7), 3))}
    drawn = [draw((7, 7), 3, seed, number, True) for seed in range(1400)]
    for axis in (0, 1):
        counts = np.bincount([subsets[tuple(d[axis].tolist())] for d in drawn], minlength=35)
        assert stats.chisquare(counts).pvalue > 1e-3
    # Rows and columns of one draw are independent: first row kept against first column kept.
    table = np.histogram2d([0 in d[0] for d in drawn], [0 in d[1] for d in drawn], bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("without_replacement", [False, True])
def test_image_smaller_than_the_sampling_is_refused(without_replacement):
    with pytest.raises(ValueError, match="19 × 40"):
        draw((19, 40), 20, 0, 0, without_replacement)


def test_shards_share_the_draws_without_gap_or_overlap():
    ranges = shard_ranges(103, 4)
    assert [number for part in ranges for number in part] == list(range(103))
    assert {len(part) for part in ranges} == {25, 26}


# Sums


def known(truth, noise=1.0, members=None):
    """An explain function whose map is `truth` at the sampled pixels plus noise that depends on the sampled image.

    The original holds pixel numbers, so that the function sees which pixels it was given.
    """

    def explain(x):
        pixels = x.astype(int)
        maps = truth.ravel()[pixels]
        for values, image in zip(maps, pixels, strict=True):
            digest = hashlib.sha256(image.tobytes()).digest()
            values += noise * np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=image.shape)
        return maps if members is None else (maps, np.multiply.outer(members, maps))

    return explain


def pixel_numbers(shape):
    return np.arange(shape[0] * shape[1]).reshape(shape)


@pytest.mark.parametrize("without_replacement", [False, True])
def test_published_form_is_algorithm_2_as_printed(without_replacement):
    shape, size, n = (37, 45), 12, 23
    truth = np.random.default_rng(0).normal(size=shape)
    explain = known(truth)
    result = upsampled_map(
        upsample(pixel_numbers(shape), explain, size, range(n), 5, batch=4, without_replacement=without_replacement),
        "published",
    )
    upsampled = None
    for number in range(n):
        rows, columns = draw(shape, size, 5, number, without_replacement)
        change = explain(sample(pixel_numbers(shape), rows, columns)[None])[0]
        delta = np.zeros(shape)
        for i in range(size):
            for j in range(size):
                delta[rows[i], columns[j]] = change[i, j]
        upsampled = delta / n if upsampled is None else upsampled + delta / n
    np.testing.assert_allclose(result, upsampled, atol=1e-6)


def test_noise_free_map_is_recovered_exactly_by_visits_and_scaled_by_their_share_as_published():
    shape, size, n = (40, 30), 10, 24
    truth = np.random.default_rng(1).normal(size=shape)
    shard = upsample(pixel_numbers(shape), known(truth, 0), size, range(n), 0, without_replacement=True)
    np.testing.assert_allclose(upsampled_map(shard), truth, rtol=1e-5)
    # Two cycles of 12 draws: each pixel in 2 of 24 draws.
    np.testing.assert_allclose(upsampled_map(shard, "published"), truth / 12, rtol=1e-5)
    assert upsampling.mean_visits(shard) == 2


def test_pixels_never_visited_are_zero_and_have_no_standard_error():
    shape = (40, 40)
    shard = upsample(pixel_numbers(shape), known(np.ones(shape)), 10, range(2), 0)
    never = shard.visits == 0
    assert never.mean() > 0.8
    for form in ("published", "visit_normalised"):
        assert (upsampled_map(shard, form)[never] == 0).all()
    assert np.isnan(upsampling.standard_error(shard)[shard.visits < 2]).all()


def test_counts_are_normalised_batch_by_batch():
    counts = np.random.default_rng(0).integers(0, 4000, size=(30, 30)).astype(np.uint16)
    shard = upsample(counts, lambda x: x, 10, range(27), 0, normalise=lambda c: (c - 100.0) / 20)
    seen = shard.visits > 0
    np.testing.assert_allclose(upsampled_map(shard)[seen], (counts[seen] - 100.0) / 20, rtol=1e-5)


# Shards


@pytest.mark.parametrize("without_replacement", [False, True])
def test_sharding_and_batching_change_nothing_but_rounding(without_replacement):
    shape = (50, 44)
    arguments = (pixel_numbers(shape), known(np.ones(shape), members=[0.5, 1.5]), 12)
    options = {"without_replacement": without_replacement}
    whole = upsample(*arguments, range(41), 3, batch=7, **options)
    parts = [upsample(*arguments, part, 3, batch=5, **options) for part in shard_ranges(41, 3)]
    merged = merge(iter(parts))
    assert (merged.start, merged.stop) == (0, 41)
    np.testing.assert_array_equal(merged.visits, whole.visits)
    for name in ("total", "squares", "member_totals"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_batch_size_changes_no_bit_where_the_map_of_an_image_does_not_depend_on_its_batch():
    arguments = (pixel_numbers((50, 44)), known(np.ones((50, 44))), 12, range(20), 3)
    first, second = upsample(*arguments, batch=1), upsample(*arguments, batch=6)
    np.testing.assert_array_equal(first.total, second.total)
    np.testing.assert_array_equal(first.squares, second.squares)


def test_shards_written_twice_are_the_same_bytes_and_merge_as_in_memory(tmp_path):
    shape = (30, 33)
    shards = [
        upsample(pixel_numbers(shape), known(np.ones(shape), members=[1.0, 2.0]), 10, part, 9)
        for part in shard_ranges(13, 3)
    ]
    digests = []
    for attempt in ("first", "second"):
        folders = [tmp_path / attempt / str(index) for index in range(3)]
        for folder, shard in zip(folders, shards, strict=True):
            upsampling.write_upsampling_shard(folder, shard)
        digests.append([sorted((p.name, p.read_bytes()) for p in folder.iterdir()) for folder in folders])
    assert digests[0] == digests[1]
    merged, expected = upsampling.merge_upsampling_shards(folders), merge(shards)
    for name in ("total", "squares", "visits", "member_totals"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name))
    assert (merged.start, merged.stop, merged.seed, merged.size) == (0, 13, 9, 10)


def test_merging_leaves_the_shards_as_they_were():
    shards = [upsample(pixel_numbers((20, 20)), known(np.ones((20, 20))), 10, r, 0) for r in shard_ranges(4, 2)]
    before = shards[0].total.copy()
    merge(shards)
    np.testing.assert_array_equal(shards[0].total, before)
    assert shards[0].stop == 2


def test_shards_that_do_not_belong_together_are_refused():
    def shard(numbers, seed=0, size=10):
        return upsample(pixel_numbers((20, 20)), known(np.ones((20, 20))), size, numbers, seed)

    with pytest.raises(ValueError, match="expected from 2"):
        merge([shard(range(2)), shard(range(3, 5))])
    with pytest.raises(ValueError, match="expected from 4"):
        merge([shard(range(2, 4)), shard(range(2))])
    with pytest.raises(ValueError, match="another upsampling"):
        merge([shard(range(2)), shard(range(2, 4), seed=1)])
    with pytest.raises(ValueError, match="found none"):
        merge([])


def test_memory_is_bounded_by_the_accumulators():
    shape, size, members = (1500, 1000), 50, 10
    original = np.zeros(shape, np.uint16)

    def explain(x):
        maps = x.astype(np.float32)
        return maps, np.broadcast_to(maps, (members, *maps.shape))

    tracemalloc.start()
    try:
        upsample(original, explain, size, range(8), 0, batch=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    per_pixel = 12 + 4 * members
    # One megabyte for the batch; at 8.5 million pixels the accumulators are 0.44 GB.
    assert peak < per_pixel * 1500 * 1000 + 1e6


# Errors


@pytest.fixture(scope="module")
def problem():
    """A small problem with a known mean map: value 2 ± 1 per pixel, noise 3, five visits per pixel."""
    shape, size, n = (120, 90), 10, 540
    truth = 2 + np.random.default_rng(2).normal(size=shape)
    shards = {
        name: upsample(pixel_numbers(shape), known(truth, 3.0), size, range(n), 1, without_replacement=balanced)
        for name, balanced in (("independent", False), ("balanced", True))
    }
    return truth, size, n, shards


def test_equal_visits_lower_the_error_of_the_visit_normalised_map_as_theory_says(problem):
    truth, size, n, shards = problem
    share = size**2 / truth.size
    count = np.arange(1, 60)
    probability = stats.binom.pmf(count, n, share)
    never = stats.binom.pmf(0, n, share)
    expected = {
        "independent": (probability * 9 / count).sum() + never * np.mean(truth**2),
        "balanced": 9 / (n * share),
    }
    for name, shard in shards.items():
        measured = np.mean((upsampled_map(shard) - truth) ** 2)
        assert measured == pytest.approx(expected[name], rel=0.05)
    assert expected["balanced"] < 0.8 * expected["independent"]


def test_equal_visits_lower_the_error_of_the_published_map_as_theory_says(problem):
    truth, size, n, shards = problem
    share = size**2 / truth.size
    expected = {
        "independent": np.mean(share * (9 + truth**2) - share**2 * truth**2) / n,
        "balanced": share * 9 / n,
    }
    for name, shard in shards.items():
        measured = np.mean((upsampled_map(shard, "published") - share * truth) ** 2)
        assert measured == pytest.approx(expected[name], rel=0.05)
    assert expected["balanced"] < 0.8 * expected["independent"]


@pytest.mark.parametrize("form", ["visit_normalised", "published"])
@pytest.mark.parametrize("name", ["independent", "balanced"])
def test_standard_error_is_the_error_that_was_made(problem, name, form):
    truth, size, _, shards = problem
    wanted = truth if form == "visit_normalised" else truth * size**2 / truth.size
    error = upsampling.standard_error(shards[name], form).astype(float)
    usable = np.isfinite(error)
    squared = (upsampled_map(shards[name], form) - wanted)[usable] ** 2
    assert usable.mean() > 0.9
    assert np.mean(error[usable] ** 2) == pytest.approx(squared.mean(), rel=0.06)


@pytest.mark.parametrize("form", ["visit_normalised", "published"])
def test_relative_standard_error_tells_the_true_error_and_the_gain(problem, form):
    truth, size, _, shards = problem
    wanted = truth if form == "visit_normalised" else truth * size**2 / truth.size
    reported = {}
    for name, shard in shards.items():
        result = upsampled_map(shard, form)
        true = np.sqrt(np.mean((result - wanted) ** 2) / np.mean(result[shard.visits > 0] ** 2))
        reported[name] = upsampling.relative_standard_error(shard, form)
        assert reported[name] == pytest.approx(true, rel=0.1)
    assert reported["balanced"] < 0.9 * reported["independent"]


def test_relative_standard_error_of_pure_noise_is_one_and_of_a_single_visit_unknown():
    shape = (60, 60)
    noise = upsample(pixel_numbers(shape), known(np.zeros(shape)), 20, range(90), 0, without_replacement=True)
    assert upsampling.relative_standard_error(noise) == pytest.approx(1, rel=0.03)
    single = upsample(pixel_numbers(shape), known(np.zeros(shape)), 20, range(9), 0, without_replacement=True)
    assert np.isnan(upsampling.relative_standard_error(single))


def test_disagreement_is_the_spread_of_the_members_maps():
    shape = (30, 30)
    truth = np.random.default_rng(4).normal(size=shape)
    factors = [0.5, 1.0, 1.5, 3.0]
    explain = known(truth, 0, members=factors)
    shard = upsample(pixel_numbers(shape), explain, 10, range(18), 0, without_replacement=True)
    expected = np.abs(truth) * np.std(factors)
    np.testing.assert_allclose(upsampling.disagreement(shard), expected, rtol=1e-4)
    np.testing.assert_allclose(upsampling.disagreement(shard, "published"), expected / 9, rtol=1e-4)


def test_disagreement_needs_the_members_maps():
    shard = upsample(pixel_numbers((20, 20)), known(np.ones((20, 20))), 10, range(2), 0)
    with pytest.raises(ValueError, match="members=True"):
        upsampling.disagreement(shard)


def test_wrong_arguments_are_refused():
    original, explain = pixel_numbers((20, 20)), known(np.ones((20, 20)))
    with pytest.raises(ValueError, match="consecutive"):
        upsample(original, explain, 10, range(0, 4, 2), 0)
    with pytest.raises(ValueError, match="consecutive"):
        upsample(original, explain, 10, range(0), 0)
    with pytest.raises(ValueError, match="maps of shape"):
        upsample(original, lambda x: x[:, :-1], 10, range(2), 0)
    with pytest.raises(ValueError, match="'sum'"):
        upsampled_map(upsample(original, explain, 10, range(2), 0), "sum")


def test_progress_is_told_after_each_batch():
    told = []
    original, explain = pixel_numbers((20, 20)), known(np.ones((20, 20)))
    upsample(original, explain, 10, range(3, 10), 0, batch=3, progress=lambda done, of: told.append((done, of)))
    assert told == [(3, 7), (6, 7), (7, 7)]


# Modified image (figure 13)


def test_map_in_units_of_the_input_is_added_in_counts():
    original = np.full((4, 5), 1000, np.uint16)
    change = modification.modify(original, np.full((4, 5), -0.5), sd=80.0)
    assert change.dtype == np.float32
    np.testing.assert_array_equal(change, 960)
    with pytest.raises(ValueError, match=r"\(5, 4\)"):
        modification.modify(original, np.zeros((5, 4)), 80.0)


def test_midpoint_before_and_after_are_sampled_at_the_same_pixels():
    image = np.random.default_rng(0).normal(1000, 50, size=(60, 50))
    target = linear(np.full((20, 20), 1 / 400))
    arguments = {"mean": 1000.0, "sd": 50.0, "size": 20, "samplings": 12, "seed": 1}
    before = modification.midpoints_over_samplings(target, image, **arguments)
    modified = modification.modify(image, np.full(image.shape, 0.25), 50.0)
    after = modification.midpoints_over_samplings(target, modified, batch=5, **arguments)
    assert before.std() > 0.01
    np.testing.assert_allclose(after - before, 0.25, atol=1e-5)


def test_mean_midpoint_and_its_standard_error_are_those_of_random_samplings():
    image = np.random.default_rng(3).normal(size=(40, 40))
    target = linear(np.full((10, 10), 1 / 100))
    mean, error = modification.midpoint_over_samplings(target, image, 0.0, 1.0, 10, 400, 0)
    assert abs(mean - image.mean()) < 4 * error
    assert error == pytest.approx(
        np.std(modification.midpoints_over_samplings(target, image, 0, 1, 10, 400, 0)) / 20, rel=0.01
    )
    assert np.isnan(modification.midpoint_over_samplings(target, image, 0.0, 1.0, 10, 1, 0)[1])


def test_mean_of_the_curve_is_the_mean_midpoint_of_the_same_samplings():
    nets = [small_net(1), small_net(2)]
    image = np.random.default_rng(0).normal(1000, 50, size=(60, 50))
    arguments = {"image": image, "mean": 990.0, "sd": 60.0, "size": 22, "samplings": 7, "seed": 1, "batch": 3}
    curve = modification.curves_over_samplings(Ensemble(nets, 990.0, 60.0), **arguments)
    assert curve.shape == (12,)
    midpoint, _ = modification.midpoint_over_samplings(NetTarget(*nets), **arguments)
    assert curve.mean() == pytest.approx(midpoint, rel=1e-9)


def test_permuted_map_has_the_same_values_elsewhere():
    saliency = np.random.default_rng(0).normal(size=(30, 20))
    permuted = modification.permute(saliency, seed=2)
    np.testing.assert_array_equal(np.sort(permuted.ravel()), np.sort(saliency.ravel()))
    assert (permuted != saliency).mean() > 0.9
    np.testing.assert_array_equal(permuted, modification.permute(saliency, seed=2))


def test_scaled_map_has_the_norm_of_the_other_and_its_own_direction():
    rng = np.random.default_rng(0)
    saliency, reference = rng.normal(size=(2, 30, 20))
    scaled = modification.scale_to_norm(saliency, reference)
    assert np.linalg.norm(scaled) == pytest.approx(np.linalg.norm(reference))
    np.testing.assert_allclose(scaled / saliency, scaled[0, 0] / saliency[0, 0])
    np.testing.assert_array_equal(modification.scale_to_norm(np.zeros((3, 3)), np.ones((3, 3))), 0)
