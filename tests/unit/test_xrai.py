"""XRAI does what its definition says, and what PAIR's library does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import dilation, disk
from skimage.segmentation import felzenszwalb
from torch import nn

from xiqa import segmentation
from xiqa.saliency import gradient_paths, xrai
from xiqa.saliency.explained import Explained

GOLDEN = Path(__file__).with_name("golden_pair_saliency.npz")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def segmented(golden):
    return [xrai.segments(image) for image in golden["x"]]


def golden_masks(golden, name):
    return np.unpackbits(golden[name], axis=1).astype(bool).reshape(-1, *golden["x"].shape[2:])


def places(*masks):
    return [np.flatnonzero(mask) for mask in masks]


def box(shape, top, bottom, left, right):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())


# PAIR's library, which takes one image at a time. Its own base, integrated gradients added up in float32 with both ends
# of the line counted fully, is not ours, so that both get the same base here.


def test_segments_are_those_of_pair(golden, segmented):
    assert [len(segments) for segments in segmented] == golden["mask_counts"].tolist()
    masks = golden_masks(golden, "masks")
    for mine, theirs in zip((pixels for segments in segmented for pixels in segments), masks, strict=True):
        np.testing.assert_array_equal(mine, np.flatnonzero(theirs))


@pytest.mark.parametrize("full", [True, False])
def test_maps_are_those_of_pair(golden, segmented, full):
    x, base = torch.tensor(golden["x"]).double(), torch.tensor(golden["blur_ig"]).double()
    maps = xrai.explain(None, x, full=full, base=base, segmented=None if full else segmented)
    close(maps, golden["xrai" if full else "xrai_fast"])


@pytest.mark.parametrize("full", [True, False])
def test_maps_of_given_masks_are_those_of_pair(golden, full):
    attribution = golden["blur_ig"][1].astype(np.float64).max(0)
    segments = places(*golden_masks(golden, "own_masks"))
    close(xrai.ranked(attribution, segments, full), golden["xrai_own"][0 if full else 1])


# The ranking


def test_full_ranks_by_new_pixels_and_fast_by_all_pixels():
    attribution = np.zeros((20, 30))
    attribution[:, :10], attribution[:, 10:20], attribution[:, 20:] = 9.0, 2.0, 3.0
    first, second, third = (box((20, 30), 0, 20, *span) for span in ((0, 10), (0, 20), (20, 30)))
    # The second has the mean 5.5, but adds only pixels of 2: it comes after the third, and then with the value 2.
    full = xrai.ranked(attribution, places(first, second, third))
    np.testing.assert_array_equal(full, attribution)
    # What two segments share tells the orders apart: fast gives it to the second, full to the third.
    third = box((20, 30), 0, 20, 15, 30)
    full, fast = (xrai.ranked(attribution, places(first, second, third), way) for way in (True, False))
    assert np.unique(full[:, 15:]) == pytest.approx(8 / 3)
    assert np.unique(full[:, 10:15]) == 2
    assert np.unique(fast[:, 10:20]) == 2
    assert np.unique(fast[:, 20:]) == 3


def test_segments_that_add_fewer_than_fifty_pixels_are_dropped():
    attribution = np.arange(400.0).reshape(20, 20)
    small, enough = box((20, 20), 13, 20, 13, 20), box((20, 20), 0, 5, 0, 10)
    for full in (True, False):
        ranked = xrai.ranked(attribution, places(small, enough), full)
        assert np.unique(ranked[enough]) == attribution[enough].mean()
        np.testing.assert_allclose(ranked[~enough], attribution[~enough].mean(), rtol=1e-14)


@pytest.mark.parametrize("full", [True, False])
def test_the_map_adds_up_to_the_attribution(golden, segmented, full):
    attribution = golden["blur_ig"][0].astype(np.float64).max(0)
    ranked = xrai.ranked(attribution, segmented[0], full)
    assert ranked.sum() == pytest.approx(attribution.sum(), rel=1e-12)


def test_no_segments_leave_the_mean():
    np.testing.assert_array_equal(xrai.ranked(np.arange(6.0).reshape(2, 3), []), np.full((2, 3), 2.5))


def test_greedy_choice_is_that_of_a_plain_search():
    rng = np.random.default_rng(12)
    for values in (rng.normal(size=(40, 44)), rng.integers(-1, 2, (40, 44)).astype(float), np.zeros((40, 44))):
        masks = [box((40, 44), *sorted(rng.integers(0, 41, 2)), *sorted(rng.integers(0, 45, 2))) for _ in range(80)]
        expected, free, rest = np.zeros(values.shape), np.ones(values.shape, bool), list(masks)
        while rest := [mask for mask in rest if (mask & free).sum() >= 50]:
            new = max(rest, key=lambda mask: values[mask & free].mean()) & free
            expected[new] = values[new].mean()
            free &= ~new
        expected[free] = values[free].mean() if free.any() else 0
        np.testing.assert_allclose(xrai.ranked(values, places(*masks)), expected, rtol=0, atol=1e-13)


def test_an_attribution_that_is_not_finite_gives_nan_for_its_image_only(golden, segmented):
    x, base = torch.tensor(golden["x"]).double(), torch.tensor(golden["blur_ig"]).double()
    broken = base.clone()
    broken[1, 0, 3, 3] = torch.nan
    maps, whole = (xrai.explain(None, x, base=values, segmented=segmented) for values in (broken, base))
    assert maps[1].isnan().all()
    np.testing.assert_array_equal(maps[::2], whole[::2])


# The segments


def test_segments_grow_by_a_disc_also_at_the_edges():
    rng = np.random.default_rng(13)
    for shape in ((31, 27), (4, 50), (3, 3)):
        mask = rng.random(shape) < 0.03
        mask[0, 0] = mask[-1, -1] = True
        grown = xrai._grown(mask, (slice(0, shape[0]), slice(0, shape[1])), shape)
        np.testing.assert_array_equal(grown, np.flatnonzero(dilation(mask, disk(5))))
    inner = box((40, 50), 20, 23, 44, 49)
    grown = xrai._grown(inner[20:23, 44:49], (slice(20, 23), slice(44, 49)), (40, 50))
    np.testing.assert_array_equal(grown, np.flatnonzero(dilation(inner, disk(5))))


@pytest.mark.parametrize("kind", ["blobs", "noise in colour", "steps with ties", "constant"])
def test_segmentations_are_those_of_scikit_image(kind):
    rng = np.random.default_rng(0)
    image = {
        "blobs": lambda: 30 * ndimage.gaussian_filter(rng.normal(size=(120, 90, 1)), (6, 6, 0)),
        "noise in colour": lambda: rng.random((50, 70, 3)),
        "steps with ties": lambda: rng.integers(0, 3, (60, 60, 1)).astype(float),
        "constant": lambda: np.zeros((30, 40, 1)),
    }[kind]()
    found = segmentation.felzenszwalb(image, segmentation.SCALES)
    for scale, labels in zip(segmentation.SCALES, found, strict=True):
        expected = felzenszwalb(image, scale=scale, sigma=segmentation.SMOOTHING, min_size=segmentation.MIN_SIZE)
        np.testing.assert_array_equal(labels, expected)
    assert kind == "constant" or max(labels.max() for labels in found) > 4


@pytest.mark.parametrize("shape", [(1, 224, 224), (3, 60, 90)])
def test_segments_of_each_scale_cover_the_image_and_do_not_depend_on_its_range(shape):
    image = np.random.default_rng(14).normal(size=shape)
    image[:, : shape[1] // 2] += 4
    segments = xrai.segments(image)
    assert len(np.unique(np.concatenate(segments))) == shape[1] * shape[2]
    assert all((np.diff(pixels) > 0).all() for pixels in segments)
    scaled = xrai.segments(torch.tensor(image) * 8 - 16)
    assert all(map(np.array_equal, segments, scaled))


def test_an_image_without_contrast_is_one_segment_at_each_scale():
    segments = xrai.segments(np.full((1, 30, 40), 3.0))
    assert [len(pixels) for pixels in segments] == [1200] * len(xrai.SCALES)


# The whole method


@pytest.fixture
def x(golden):
    return torch.tensor(golden["x"]).double()


@pytest.fixture
def target(x):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 46 * 54, 1)).double()
    return Explained(net)


def test_base_is_integrated_gradients_from_black_and_white(target, x, segmented):
    black, white = (gradient_paths.integrated(target, x, 4, end((1, 2, 3), keepdim=True)) for end in (x.amin, x.amax))
    expected = xrai.explain(None, x, base=(black + white).amax(1) / 2, segmented=segmented)
    np.testing.assert_array_equal(xrai.explain(target, x, steps=4, segmented=segmented), expected)


def test_map_of_an_image_does_not_depend_on_its_batch_and_segments_can_be_shared(target, x, segmented):
    maps = xrai.explain(target, x, steps=3, segmented=segmented)
    assert maps.shape == (3, 48, 56)
    np.testing.assert_allclose(maps[1], xrai.explain(target, x[1:2], steps=3)[0], rtol=1e-9, atol=1e-13)
    assert xrai.explain(None, x.float(), base=maps, segmented=segmented).dtype == torch.float32


def test_attribution_on_an_object_ranks_the_object_first():
    rows, columns = np.mgrid[:224, :224]
    inside = (rows - 90) ** 2 + (columns - 130) ** 2 < 40**2
    noise = np.random.default_rng(15).normal(0, 0.02, (224, 224))
    image = torch.tensor(inside + noise)[None, None]
    # Only every twentieth pixel of the object carries attribution, as in a map of gradients.
    base = torch.tensor(inside & ((rows * 224 + columns) % 20 == 0)).double()[None]
    top = xrai.explain(None, image, base=base)[0].numpy()
    shown = top >= np.quantile(top, 1 - inside.mean())
    # Dilation takes in 5 pixels around the object.
    assert (shown & inside).sum() > 0.95 * inside.sum()
    assert (shown & inside).sum() > 0.7 * shown.sum()


@pytest.mark.parametrize("shape", [(3, 48, 55), (2, 48, 56), (48, 56), (3, 1, 2, 48, 56)])
def test_a_base_of_another_shape_is_refused(x, shape):
    with pytest.raises(ValueError, match=r"base: found .* expected \(3, 48, 56\)"):
        xrai.explain(None, x, base=torch.zeros(shape))


def test_other_bad_arguments_are_refused(target, x):
    with pytest.raises(ValueError, match=r"x: found \(2, 48, 56\)"):
        xrai.explain(target, x[0])
    with pytest.raises(ValueError, match="steps: found 0"):
        xrai.explain(target, x, steps=0)
    with pytest.raises(ValueError, match="segmented: found those of 1 images, expected 3"):
        xrai.explain(None, x, base=x, segmented=[[]])
    with pytest.raises(ValueError, match="finite"):
        xrai.segments(torch.full((1, 9, 9), torch.nan))
    with pytest.raises(ValueError, match=r"found \(9, 9\), expected \(c, h, w\)"):
        xrai.segments(np.zeros((9, 9)))
    with pytest.raises(ValueError, match="beyond 0 to 99"):
        xrai.ranked(np.zeros((10, 10)), [np.arange(50, 101)])
