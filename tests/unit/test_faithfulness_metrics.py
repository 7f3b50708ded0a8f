"""Fidelity, insertion, deletion, ROAD of networks whose answers are known, against plain loops and another library."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, signal, sparse, special
from scipy.sparse.linalg import spsolve

from xiqa.metrics.maps.fidelity import (
    class_balanced,
    fidelity,
    fidelity_area,
    fidelity_ends,
    fidelity_interval,
)
from xiqa.metrics.maps.insertion_deletion import insertion_deletion
from xiqa.metrics.maps.masking import pixel_ranks
from xiqa.metrics.maps.road import linear_imputation, road
from xiqa.metrics.statistics import interval

HEIGHT, WIDTH = 10, 12  # 120 pixels: 40 steps of 3
REGION = np.zeros((HEIGHT, WIDTH), bool)
REGION[2:7, 4:10] = True  # 30 pixels


class Network:
    """Class probabilities by a function of images in float64; remembers what it was asked for."""

    def __init__(self, function):
        self.function, self.asked = function, []

    def __call__(self, images):
        assert images.dtype == np.float32
        self.asked.append(images.copy())
        return self.function(images.astype(np.float64))

    @property
    def images(self):
        return np.concatenate(self.asked)


def region_network(region=REGION):
    """Probability of class 1 = mean of the region."""
    return Network(lambda x: np.stack([1 - x[:, region].mean(1), x[:, region].mean(1)], 1))


def linear_network(classes=3, scale=0.3, seed=0):
    """softmax(readout · x)"""
    readout = np.random.default_rng(seed).normal(0, scale, (classes, HEIGHT, WIDTH))
    return Network(lambda x: special.softmax(np.einsum("bhw,khw->bk", x, readout), axis=1)), readout


def random_case(n=7, seed=1):
    rng = np.random.default_rng(seed)
    images = rng.random((n, HEIGHT, WIDTH)).astype(np.float32)
    return images, rng.integers(0, 3, n), rng.normal(size=images.shape)


def clear_images(labels):
    """Images of ones for class 1 and of zeros for class 0, and what takes their evidence away."""
    labels = np.asarray(labels)
    return np.tile(labels[:, None, None].astype(np.float32), (1, HEIGHT, WIDTH)), labels, 1.0 - labels


def scores(predict, images, labels, maps, **options):
    """One number per image and metric: F of the probability, insertion, deletion, ROAD."""
    of_fidelity = fidelity(predict, images, labels, maps, images.mean((1, 2)), **options)
    both = insertion_deletion(predict, images, labels, maps, **options)
    return np.stack([fidelity_area(of_fidelity.probability), *both, road(predict, images, labels, maps, **options)])


# Fidelity


def test_curves_of_a_network_that_looks_at_a_known_region():
    images, labels, replacement = clear_images([1, 0, 1])
    found = fidelity(region_network(), images, labels, np.tile(REGION * 1.0, (3, 1, 1)), replacement)
    masked = 3 * np.arange(41)
    most, least = 1 - np.minimum(masked, 30) / 30, 1 - np.maximum(masked - 90, 0) / 30
    expected = np.broadcast_to(np.stack([most, least])[:, None], (2, 3, 41))
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    decided = abs(expected - 0.5) > 1e-6  # at one half it is a draw
    np.testing.assert_array_equal(found.correct[decided], (expected > 0.5)[decided])
    # Right up to step 5 when the region goes first, up to step 35 when it goes last.
    np.testing.assert_allclose(fidelity_area(found.correct), 30 / 40)
    np.testing.assert_allclose(fidelity_area(found.probability), 0.75, atol=1e-6)
    assert found.scored.all()


def plain_fidelity(predict, images, labels, maps, replacement, steps):
    """One image at a time, pixel by pixel, with the definition's own words."""
    correct, probability = np.empty((2, 2, len(images), steps + 1))
    for i, (image, label, saliency) in enumerate(zip(images, labels, maps, strict=True)):
        for order, sign in enumerate((-1, 1)):
            sequence = np.argsort(sign * saliency.ravel())
            for step in range(steps + 1):
                changed = image.astype(np.float64).ravel().copy()
                for pixel in sequence[: round(step / steps * image.size)]:
                    changed[pixel] = np.broadcast_to(replacement[i], image.shape).ravel()[pixel]
                answer = predict(changed.reshape(1, *image.shape).astype(np.float32))[0]
                correct[order, i, step], probability[order, i, step] = answer.argmax() == label, answer[label]
    return correct, probability


@pytest.mark.parametrize("steps", [2, 8, 40])
@pytest.mark.parametrize("blurred", [False, True])
def test_batches_and_shared_passes_change_nothing(steps, blurred):
    images, labels, maps = random_case()
    replacement = ndimage.gaussian_filter(images, (0, 3, 3)) if blurred else np.linspace(0, 1, len(images))
    network, _ = linear_network()
    expected = plain_fidelity(network, images, labels, maps, replacement, steps)
    ends = fidelity_ends(network, images, labels, replacement, batch=3)
    for batch, shared in ((1, None), (7, ends), (64, None), (1000, ends)):
        network.asked.clear()
        found = fidelity(network, images, labels, maps, replacement, steps, batch, shared)
        np.testing.assert_array_equal(found.correct, expected[0])
        np.testing.assert_allclose(found.probability, expected[1], atol=1e-6)
        assert max(map(len, network.asked)) <= batch
        assert len(network.images) == len(images) * (2 * (steps - 1) + (2 if shared is None else 0))


def test_random_maps_have_no_fidelity_and_the_true_region_has_the_most():
    rng = np.random.default_rng(3)
    images, labels, replacement = clear_images(np.arange(60) % 2)
    maps = {
        "region": np.tile(REGION * 1.0, (60, 1, 1)) + 0.5 * rng.random(images.shape),
        "noisy": np.tile(REGION * 1.0, (60, 1, 1)) + rng.normal(0, 1, images.shape),
        "random": rng.random(images.shape),
    }
    maps["inverted"] = -maps["region"]
    network = region_network()
    ends = fidelity_ends(network, images, labels, replacement)
    found = {name: fidelity(network, images, labels, m, replacement, ends=ends).correct for name, m in maps.items()}
    areas = {name: float(fidelity_area(class_balanced(correct, labels))) for name, correct in found.items()}
    low, high = fidelity_interval(found["random"], labels)
    assert low < 0 < high < 0.1
    assert areas["region"] > areas["noisy"] > high
    assert areas["inverted"] == pytest.approx(-areas["region"])


def test_class_balance_weighs_classes_not_images():
    values = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.0], [np.nan, np.nan]])
    labels = np.array([0, 0, 0, 2, 2])
    np.testing.assert_allclose(class_balanced(values, labels), [0.5, 0.25])
    both = np.stack([values, 1 - values])
    np.testing.assert_allclose(class_balanced(both, labels), [[0.5, 0.25], [0.5, 0.75]])
    assert np.isnan(class_balanced(values[-1:], labels[-1:])).all()


def test_area_is_linear_in_images():
    rng = np.random.default_rng(4)
    correct, labels = rng.integers(0, 2, (2, 9, 11)) * 1.0, np.array([0, 0, 1, 1, 1, 1, 2, 2, 2])
    of_images = fidelity_area(correct)
    of_curves = fidelity_area(class_balanced(correct, labels))
    assert of_curves == pytest.approx(np.mean([of_images[labels == c].mean() for c in range(3)]))
    assert fidelity_area(np.stack([np.zeros(41), np.ones(41)])) == pytest.approx(1)


def test_interval_of_fidelity_is_that_of_the_mean_where_classes_are_equal():
    rng = np.random.default_rng(5)
    correct = (rng.random((2, 24, 5)) < [[[0.3]], [[0.7]]]) * 1.0
    patients, labels = np.arange(24) // 2, np.arange(24) % 2  # each patient has an image of each class
    expected = interval(fidelity_area(correct), patients)
    assert fidelity_interval(correct, labels, patients) == pytest.approx(expected)


@pytest.mark.parametrize("patients", [6, 11, 40])
def test_interval_of_fidelity_covers_the_truth_as_often_as_stated(patients):
    rng, covered = np.random.default_rng(6), []
    for _ in range(200):
        # Patients of 3 slices with one value of F each, skewed: 1/4 on average; a third of them of one class.
        level = np.repeat(rng.beta(0.5, 1.5, patients), 3)
        correct = np.stack([np.zeros((3 * patients, 2)), np.tile(level[:, None], 2)])
        label = np.repeat(np.arange(patients) % 3 == 0, 3).astype(int)
        low, high = fidelity_interval(correct, label, np.arange(3 * patients) // 3)
        covered.append(low <= 0.25 <= high)
    assert np.mean(covered) >= 0.93


def test_interval_of_fidelity_leaves_out_what_was_not_scored_and_needs_two_patients_of_each_class():
    rng = np.random.default_rng(7)
    correct, labels = rng.integers(0, 2, (2, 12, 6)) * 1.0, np.arange(12) % 2
    more = np.concatenate([correct, np.full((2, 3, 6), np.nan)], 1)
    assert fidelity_interval(more, np.arange(15) % 2) == fidelity_interval(correct, labels)
    assert np.isnan(fidelity_interval(correct, labels, ["a"] * 12)).all()
    assert np.isnan(fidelity_interval(correct, np.arange(12) == 0)).all()
    with pytest.raises(ValueError, match="found 2 entries, expected 12"):
        fidelity_interval(correct, labels, ["a", "b"])


# Insertion and deletion


def test_insertion_and_deletion_of_a_network_that_looks_at_a_known_region():
    images, labels, _ = clear_images([1, 1])
    maps = np.stack([REGION, ~REGION])
    insertion, deletion = insertion_deletion(
        region_network(), images, labels, maps, blurred=np.zeros_like(images), gray=np.zeros(2)
    )
    # A quarter of the pixels carries everything: the ramp is 1/4 wide, at the beginning or at the end.
    np.testing.assert_allclose(insertion, [0.875, 0.125], atol=1e-6)
    np.testing.assert_allclose(deletion, [0.125, 0.875], atol=1e-6)


def test_insertion_starts_from_the_blurred_image_and_deletion_ends_in_gray():
    images, labels, maps = random_case(n=1)
    network, _ = linear_network()
    insertion_deletion(network, images, labels, maps, steps=4)
    line = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    kernel = np.outer(line, line) / line.sum() ** 2
    blurred = signal.convolve2d(images[0], kernel, mode="same", boundary="symm")
    asked = network.images
    assert len(asked) == 9
    np.testing.assert_allclose(asked[0], blurred, atol=1e-6)
    np.testing.assert_array_equal(asked[4], images[0])
    np.testing.assert_allclose(asked[8], images[0].mean(), atol=1e-6)
    changed = maps[0] >= np.sort(maps[0].ravel())[-30]  # the first of four steps: 30 pixels
    np.testing.assert_allclose(asked[1], np.where(changed, images[0], blurred), atol=1e-6)
    np.testing.assert_allclose(asked[5], np.where(changed, images[0].mean(), images[0]), atol=1e-6)


# ROAD


def test_road_agrees_with_pytorch_grad_cam():
    golden = np.load(Path(__file__).with_name("golden_road.npz"))
    images, imputed, readout = golden["images"], golden["imputed"], golden["readout"]
    for image, versions in zip(images, imputed, strict=True):
        for version in versions.reshape(-1, *image.shape):
            np.testing.assert_allclose(linear_imputation(image, version != image), version, atol=1e-6)
    network = Network(lambda x: special.softmax(np.einsum("bhw,khw->bk", x, readout), axis=1))
    for batch in (2, 64):
        found = road(network, images, golden["labels"], golden["maps"], batch=batch, noise=0)
        np.testing.assert_allclose(found, golden["road"], atol=1e-6)


def test_imputation_restores_a_plane_inside_and_fills_in_the_only_value_left():
    rows, columns = np.mgrid[:30, :44]
    plane = 0.2 + 0.01 * rows - 0.03 * columns
    removed = np.zeros(plane.shape, bool)
    removed[1:-1, 1:-1] = np.random.default_rng(0).random((28, 42)) < 0.97
    noisy = plane + removed * np.random.default_rng(1).normal(size=plane.shape)  # what is removed has no say
    np.testing.assert_allclose(linear_imputation(noisy, removed), plane, atol=1e-6)
    alone = np.ones(plane.shape, bool)
    alone[11, 5] = False
    np.testing.assert_allclose(linear_imputation(plane, alone), plane[11, 5], atol=1e-6)
    with pytest.raises(ValueError, match="all pixels"):
        linear_imputation(plane, np.ones_like(alone))


def test_imputation_is_the_solution_of_its_equations():
    rng = np.random.default_rng(2)
    image = rng.random((41, 50))
    hole = ndimage.gaussian_filter(rng.normal(size=image.shape), 6)
    removed = hole > np.quantile(hole, 0.2)
    weights = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    # Row by row: the impulse in pixel i tells what its neighbours see of it.
    system = sparse.lil_array((image.size, image.size))
    for i in range(image.size):
        impulse = np.zeros(image.shape)
        impulse.flat[i] = 1
        system[[i]] = ndimage.correlate(impulse, weights, mode="constant").reshape(1, -1)
    seen = ndimage.correlate(np.ones(image.shape), weights, mode="constant").ravel()
    gone = removed.ravel()
    equations = (sparse.diags_array(seen) - system).tocsr()[gone]
    right = -(equations[:, ~gone] @ image.ravel()[~gone])
    found = linear_imputation(image, removed)
    np.testing.assert_allclose(found.ravel()[gone], spsolve(equations[:, gone].tocsc(), right), atol=1e-6)
    np.testing.assert_array_equal(found[~removed], image[~removed])


def test_road_scores_every_image_of_every_batch():
    images, labels, maps = random_case(n=9)
    network, _ = linear_network()
    found = road(network, images, labels, maps, batch=4, noise=0)
    alone = [road(network, images[[i]], labels[[i]], maps[[i]], noise=0)[0] for i in range(9)]
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert len(np.unique(np.round(found, 9))) == 9


def test_road_adds_noise_to_imputed_pixels_alone():
    images, labels, maps = random_case(n=40)
    quiet, loud = linear_network()[0], linear_network()[0]
    road(quiet, images, labels, maps, noise=0)
    road(loud, images, labels, maps)
    difference = loud.images.astype(np.float64) - quiet.images
    removed = (quiet.images.reshape(40, 18, HEIGHT, WIDTH) != images[:, None]).reshape(difference.shape)
    assert (difference[~removed] == 0).all()
    assert difference[removed].std() == pytest.approx(0.01, rel=0.05)
    assert removed.mean() == pytest.approx(0.5, abs=1e-3)
    first = difference.reshape(40, 18, HEIGHT, WIDTH)[:, 8]
    assert abs(np.corrcoef(first[0].ravel(), first[1].ravel())[0, 1]) < 0.3  # each image has its own noise


def test_road_is_positive_for_the_region_that_is_looked_at():
    rng = np.random.default_rng(8)
    images = (0.2 * rng.random((4, HEIGHT, WIDTH)) + 0.8 * REGION).astype(np.float32)
    maps = REGION + 0.1 * rng.random(images.shape)
    found = road(region_network(), images, np.ones(4, int), maps, noise=0)
    assert (found > 0.15).all()
    inverted = road(region_network(), images, np.ones(4, int), -maps, noise=0)
    np.testing.assert_allclose(inverted, -found, atol=1e-6)


@pytest.mark.parametrize("percentiles", [[0], [100], [], [10, 99.9]])
def test_road_refuses_percentiles_that_leave_nothing(percentiles):
    images, labels, maps = random_case(n=1)
    with pytest.raises(ValueError, match="take pixels and leave pixels"):
        road(linear_network()[0], images, labels, maps, percentiles)


# All of them


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("change", [np.exp, lambda m: 3 * m - 70, lambda m: np.sign(m) * m**2, lambda m: m])
def test_only_the_order_of_pixels_counts(batch, change):
    images, labels, maps = random_case(n=3)
    network, _ = linear_network()
    expected = scores(network, images, labels, maps)
    np.testing.assert_allclose(scores(network, images, labels, change(maps), batch=batch), expected, atol=1e-6)


def test_maps_without_an_order_are_not_scored_and_leave_the_others_alone():
    images, labels, maps = random_case(n=5)
    network, _ = linear_network()
    expected = scores(network, images, labels, maps)
    bad = maps.copy()
    bad[0, 3, 3], bad[2], bad[3, 0, 0] = np.nan, 0.25, -np.inf
    found = scores(network, images, labels, bad)
    assert np.isnan(found[:, [0, 2, 3]]).all()
    np.testing.assert_array_equal(found[:, [1, 4]], expected[:, [1, 4]])
    result = fidelity(network, images, labels, bad, np.zeros(5))
    np.testing.assert_array_equal(result.scored, [False, True, False, False, True])
    np.testing.assert_array_equal(np.isnan(result.correct).all((0, 2)), ~result.scored)
    assert not np.isnan(result.correct[:, result.scored]).any()


def test_a_set_without_any_map_has_no_score():
    images, labels, maps = random_case(n=2)
    network, _ = linear_network()
    assert np.isnan(scores(network, images, labels, np.zeros_like(maps))).all()
    nothing = fidelity(network, images, labels, np.zeros_like(maps), np.zeros(2)).correct
    assert np.isnan(fidelity_interval(nothing, labels)).all()


def test_equal_values_do_not_favour_a_corner():
    ties = np.zeros((40, 60))
    ties[20, 30] = 1
    ranks = pixel_ranks(ties, np.random.default_rng(0))
    assert ranks[20, 30] == 0
    np.testing.assert_array_equal(np.sort(ranks.ravel()), np.arange(2400))
    quarters = ranks.reshape(2, 20, 2, 30).mean((1, 3))
    # A quarter's mean rank has a standard deviation of about 24.
    np.testing.assert_allclose(quarters, 1199.5, atol=100)
    np.testing.assert_array_equal(ranks, pixel_ranks(ties, np.random.default_rng(0)))
    assert (ranks != pixel_ranks(ties, np.random.default_rng(1))).any()
    # A network that looks at the corner only: maps that say next to nothing have no fidelity.
    corner = np.zeros((HEIGHT, WIDTH), bool)
    corner[:5, :6] = True
    images, labels, replacement = clear_images(np.arange(80) % 2)
    maps = np.zeros(images.shape)
    maps[:, 9, 11] = 1
    found = fidelity(region_network(corner), images, labels, maps, replacement)
    assert fidelity_area(found.probability).mean() == pytest.approx(0, abs=0.03)


def test_seeds_repeat_and_matter_where_values_are_equal():
    images, labels, maps = random_case(n=3)
    network, _ = linear_network()
    coarse = np.round(maps)
    found, again, other = (scores(network, images, labels, coarse, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(found, again)
    assert (found != other).any(axis=1).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_of_images_and_masks_as_maps(dtype):
    images, labels, _ = random_case(n=3)
    network, _ = linear_network()
    images, mask = images.astype(dtype), np.tile(REGION, (3, 1, 1))
    expected = scores(network, images.astype(np.float64), labels, mask.astype(float))
    np.testing.assert_allclose(scores(network, images, labels, mask), expected, atol=1e-3 if dtype == np.float16 else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": np.zeros((7, HEIGHT, HEIGHT))}, r"maps \(7, 10, 10\)"),
        ({"labels": np.zeros(6, int)}, r"labels \(6,\)"),
        ({"labels": np.zeros(7)}, "expected integers"),
        ({"labels": np.full(7, -1)}, "expected integers from 0"),
        ({"labels": np.full(7, 3)}, "one of the 3 classes"),
        ({"images": np.full((7, HEIGHT, WIDTH), np.nan)}, "NaN or infinity in image 0"),
        ({"predict": lambda x: np.full((len(x), 1), 1.0)}, "1 - p and p"),
        ({"predict": lambda x: np.full((len(x), 3), 2.0)}, "apply the softmax"),
        ({"predict": lambda x: np.full((len(x), 3), np.nan)}, "apply the softmax"),
        ({"predict": lambda x: np.full((1 + len(x), 3), 1 / 3)}, "expected"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    images, labels, maps = random_case()
    given = {"predict": linear_network()[0], "images": images, "labels": labels, "maps": maps} | change
    for metric in (lambda **k: fidelity(**k, replacement=np.zeros(7)), insertion_deletion, road):
        with pytest.raises(ValueError, match=message):
            metric(**given)


def test_replacements_and_steps_must_fit():
    images, labels, maps = random_case()
    network, _ = linear_network()
    with pytest.raises(ValueError, match=r"replacement: found \(3,\)"):
        fidelity(network, images, labels, maps, np.zeros(3))
    with pytest.raises(ValueError, match="expected 2 or more"):
        fidelity(network, images, labels, maps, np.zeros(7), steps=1)
    with pytest.raises(ValueError, match="expected 1 or more"):
        insertion_deletion(network, images, labels, maps, steps=0)
    with pytest.raises(ValueError, match=r"gray: found \(3,\)"):
        insertion_deletion(network, images, labels, maps, gray=np.zeros(3))
    with pytest.raises(ValueError, match=r"blurred: found \(7, 10\)"):
        insertion_deletion(network, images, labels, maps, blurred=np.zeros((7, 10)))
