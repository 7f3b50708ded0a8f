"""Methods that only look at what a network says of changed images, OMIG of modules, and controls: closed forms, captum,
and what must hold."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from xiqa.saliency import (
    controls,
    layer_maps,
    occlusion,
    omig,
    rise,
    score_cam,
    shap_lime,
)
from xiqa.saliency.explained import Explained


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear(nn.Module):
    """f = Σ weight · x + bias, with the weights of an image (c, h, w)."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x):
        return (x * self.weight).sum((1, 2, 3)) + self.bias


def small_net(seed=0):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 3),
    ).double()  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in net.parameters():
            values.normal_(0, 0.5, generator=generator)
    return net


def close(found, expected, tolerance=1e-10):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=float(tolerance * scale))


SHAP = {"segments": 6, "evaluations": 40}
METHODS = {
    "occlusion": (occlusion.explain, {"patch": 5, "stride": 3}),
    "rise": (rise.explain, {"masks": 50, "cells": 4}),
    "score_cam": (score_cam.explain, {"layers": ["3"], "channels": 3}),
    "omig": (omig.explain, {"steps": 4}),
    "kernel_shap": (shap_lime.kernel_shap, SHAP),
    "lime": (shap_lime.lime, SHAP),
}


@pytest.fixture(params=METHODS)
def method(request):
    if request.param in ("kernel_shap", "lime"):
        pytest.importorskip("captum")
    return METHODS[request.param]


# What holds for all of them


def test_batch_is_image_by_image_and_any_split_of_memory(method):
    explain, options = method
    net, x, classes = small_net(), normal(3, 2, 12, 15), torch.tensor([2, 0, 1])
    maps = explain(Explained(net, classes, ["3"]), x, **options)
    assert maps.shape in ((3, 12, 15), (3, 2, 12, 15))
    assert maps.isfinite().all()
    close(explain(Explained(net, classes, ["3"], memory_gb=2e-5), x, **options), maps)
    for number in range(3):
        alone = explain(Explained(net, int(classes[number]), ["3"]), x[number : number + 1], **options)
        close(alone[0], maps[number])


def test_single_precision_and_images_with_a_gradient_stay_apart(method):
    explain, options = method
    x = normal(2, 2, 12, 15).float().requires_grad_()
    maps = explain(Explained(small_net().float(), 1, ["3"]), x, **options)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert x.grad is None


@pytest.mark.parametrize("baseline", [None, 0.0, torch.zeros(2, 1, 1), normal(2, 2, 12, 15, seed=4)])
@pytest.mark.parametrize("name", ["occlusion", "rise", "score_cam", "kernel_shap", "lime"])
def test_baselines(name, baseline):
    if name in ("kernel_shap", "lime"):
        pytest.importorskip("captum")
    explain, options = METHODS[name]
    target, x = Explained(small_net(), 1, ["3"]), normal(2, 2, 12, 15)
    spelled_out = x.amin((1, 2, 3), keepdim=True) if baseline is None else baseline
    whole = torch.as_tensor(spelled_out, dtype=x.dtype).expand_as(x).clone()
    maps = explain(target, x, baseline=baseline, **options)
    close(maps, explain(target, x, baseline=whole, **options))


@pytest.mark.parametrize("name", ["occlusion", "rise", "score_cam", "kernel_shap", "lime"])
def test_baseline_that_does_not_fit_is_refused(name):
    if name in ("kernel_shap", "lime"):
        pytest.importorskip("captum")
    explain, options = METHODS[name]
    target, x = Explained(small_net(), 1, ["3"]), normal(2, 2, 12, 15)
    with pytest.raises(ValueError, match=r"baseline: found \(7,\)"):
        explain(target, x, baseline=torch.zeros(7), **options)


@pytest.mark.parametrize(
    ("explain", "options", "message"),
    [
        (occlusion.explain, {"patch": 4, "stride": 5}, "stride <= patch"),
        (occlusion.explain, {"stride": 0}, "stride <= patch"),
        (rise.explain, {"masks": 0}, "masks=0"),
        (rise.explain, {"cells": 0}, "cells=0"),
        (rise.explain, {"probability": 1.0}, "probability=1.0"),
        (score_cam.explain, {}, "no layer"),
        (score_cam.explain, {"layers": ["3"], "channels": 0}, "channels: found 0"),
        (score_cam.explain, {"layers": ["3"], "alignment": "left"}, "alignment: found 'left'"),
        (score_cam.explain, {"layers": ["7"]}, "layer 7"),
        (omig.explain, {"steps": 0}, "steps=0"),
        (omig.explain, {"orientation": "up"}, "orientation: found 'up'"),
        (shap_lime.kernel_shap, {"segments": 1}, "segments=1"),
        (shap_lime.kernel_shap, {"compactness": 0}, "compactness=0"),
        (shap_lime.lime, {"evaluations": 1}, "evaluations=1"),
        (shap_lime.lime, {"alpha": 0}, "alpha: found 0"),
    ],
)
def test_bad_arguments_are_refused(explain, options, message):
    if explain in (shap_lime.kernel_shap, shap_lime.lime):
        pytest.importorskip("captum")
    with pytest.raises(ValueError, match=message):
        explain(Explained(small_net(), 1, ["3", "7"]), normal(1, 2, 12, 15), **options)


def test_images_of_another_shape_are_refused(method):
    explain, options = method
    with pytest.raises(ValueError, match=r"x: found \(2, 12, 15\)"):
        explain(Explained(small_net(), 1, ["3"]), normal(2, 12, 15), **options)


# Occlusion


@pytest.mark.parametrize(("patch", "stride"), [(16, 8), (6, 6), (5, 3), (4, 1), (30, 10), (1, 1)])
def test_occlusion_of_a_linear_model_is_the_mean_of_the_patches_on_a_pixel(patch, stride):
    weight, x = normal(2, 13, 17), normal(2, 2, 13, 17, seed=1)
    maps = occlusion.explain(Explained(Linear(weight, 3.0)), x, patch, stride, baseline=0.5)
    share = ((0.5 - x) * weight).sum(1)
    total, covered = torch.zeros_like(share), torch.zeros_like(share)
    # Patches at multiples of the stride, until one reaches the border.
    tops, lefts = (
        [start for start in range(0, side, stride) if start == 0 or start - stride + patch < side] for side in (13, 17)
    )
    for top in tops:
        for left in lefts:
            window = (slice(None), slice(top, top + patch), slice(left, left + patch))
            total[window] += share[window].sum((1, 2), keepdim=True)
            covered[window] += 1
    close(maps, total / covered)


def test_single_pixel_occlusion_of_a_linear_model():
    weight, x = normal(2, 6, 7), normal(3, 2, 6, 7, seed=1)
    maps = occlusion.explain(Explained(Linear(weight)), x, patch=1, stride=1, baseline=0.0)
    close(maps, -(x * weight).sum(1))


@pytest.mark.parametrize(("patch", "stride"), [(3, 3), (4, 4), (5, 3)])
def test_occlusion_is_the_negative_of_captum(patch, stride):
    captum = pytest.importorskip("captum.attr", reason="captum is not installed: pip install -e '.[oracles]'")
    net, x = small_net(2).eval(), normal(2, 2, 12, 15)
    theirs = captum.Occlusion(net).attribute(
        x, (2, patch, patch), strides=(2, stride, stride), baselines=-0.3, target=1
    )
    # captum adds up occlusions in float32.
    close(occlusion.explain(Explained(net, 1), x, patch, stride, baseline=-0.3), -theirs[:, 0].double(), 1e-6)


# RISE


def enlarged(grid, shift, size):
    """A mask by linear interpolation between cell middles, pixel by pixel, from the description in the paper."""
    cells = len(grid)
    weights = []
    for side, move in zip(size, shift, strict=True):
        whole = (cells + 1) * -(-side // cells)
        places = ((np.arange(side) + move + 0.5) * cells / whole - 0.5).clip(0, cells - 1)
        weights.append(np.stack([np.interp(places, np.arange(cells), row) for row in np.eye(cells)], axis=1))
    return weights[0] @ grid @ weights[1].T


def test_rise_masks_are_enlarged_grids_at_random_places():
    grids, shifts = rise._draw(400, 3, 0.3, 5, (7, 11))
    assert grids.float().mean() == pytest.approx(0.3, abs=0.03)
    # Cells of 3 x 4 pixels.
    assert sorted(set(shifts[:, 0].tolist())) == [0, 1, 2]
    assert sorted(set(shifts[:, 1].tolist())) == [0, 1, 2, 3]
    masks = rise._enlarge(grids.double(), shifts, (7, 11))
    for mask, grid, shift in zip(masks, grids, shifts, strict=True):
        np.testing.assert_allclose(mask, enlarged(grid.double().numpy(), shift.tolist(), (7, 11)), atol=1e-12)


def test_rise_of_a_linear_model_has_the_expected_map():
    # E[f(b + M (x - b)) M(λ)] / p = f(b) + Σ_μ w_μ (x_μ - b_μ) E[M_μ M_λ] / p. Cells are independent, and 0 or 1:
    # E[M_μ M_λ | place] = p² + p (1 - p) Σ_cells W_μ W_λ.
    size, cells, p, masks = (5, 6), 2, 0.4, 40000
    weight, x = normal(1, *size), normal(1, 1, *size, seed=1)
    products = []
    for down in range(3):
        for right in range(3):
            columns = [enlarged(cell.reshape(cells, cells), (down, right), size).ravel() for cell in np.eye(cells**2)]
            influence = np.stack(columns, axis=1)
            products.append(p**2 + p * (1 - p) * influence @ influence.T)
    share = (weight * (x - 0.2)).numpy().ravel()
    constant = 0.5
    expected = constant + np.mean(products, axis=0) @ share / p
    found = (
        rise.explain(
            Explained(Linear(weight, constant - float((weight * 0.2).sum()))), x, masks, cells, p, baseline=0.2
        )
        .numpy()
        .ravel()
    )
    np.testing.assert_allclose(found, expected, atol=0.04)
    assert np.ptp(expected) > 0.4


def test_rise_of_a_constant_is_the_coverage_of_the_masks():
    target, x = Explained(Linear(torch.zeros(1, 8, 8, dtype=torch.float64), 2.0)), normal(2, 1, 8, 8)
    maps = rise.explain(target, x, masks=30, cells=4, probability=0.3, seed=1)
    masks = rise._enlarge(
        *(v.double() if v.dtype == torch.bool else v for v in rise._draw(30, 4, 0.3, 1, (8, 8))), (8, 8)
    )
    close(maps, (2 * masks.mean(0) / 0.3).expand(2, 8, 8))


def test_rise_seeds():
    target, x = Explained(small_net(), 1), normal(1, 2, 12, 15)
    torch.manual_seed(3)
    first = rise.explain(target, x, masks=20, seed=1)
    torch.manual_seed(4)
    assert torch.equal(rise.explain(target, x, masks=20, seed=1), first)
    assert not torch.allclose(rise.explain(target, x, masks=20, seed=2), first)


# Score-CAM


class Channels(nn.Module):
    """Layer `maps` gives fixed multiples of the image; f is linear in the image."""

    def __init__(self, factors, weight):
        super().__init__()
        self.maps = nn.Conv2d(1, len(factors), 1, bias=False).double()
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor(factors).reshape(-1, 1, 1, 1))
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        # The maps are computed, and reach f only by nothing.
        return (x * self.weight).sum((1, 2, 3)) + 0 * self.maps(x).sum((1, 2, 3))


def test_score_cam_by_hand():
    # Maps x, -2x and 0 at full resolution; masks x, 1 - x and nothing, of an image from 0 to 1.
    x = torch.tensor([[0.0, 1.0], [0.25, 0.5]], dtype=torch.float64)[None, None]
    weight = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)[None]
    target = Explained(Channels([1.0, -2.0, 0.0], weight), None, ["maps"])
    scores = [(weight * x * x).sum(), (weight * x * (1 - x)).sum(), torch.zeros(())]
    a = torch.tensor(scores, dtype=torch.float64).softmax(0)
    assert a[0] > 2 * a[1]
    expected = (a[0] - 2 * a[1]) * x[:, 0]
    close(score_cam.explain(target, x, ["maps"], normalise=False), expected)
    close(score_cam.explain(target, x, ["maps"]), x[:, 0])
    # The scores are those above f(baseline), here 0; another baseline changes what is behind the masks.
    behind = [-1 + (x + 1) * mask for mask in (x, 1 - x, 0 * x)]
    other = torch.tensor([(weight * image).sum() for image in behind], dtype=torch.float64).softmax(0)
    found = score_cam.explain(target, x, ["maps"], baseline=-1.0, normalise=False)
    close(found, (other[0] - 2 * other[1]) * x[:, 0])
    # The two channels of the largest variance: 0 is left out.
    a = torch.tensor(scores[:2], dtype=torch.float64).softmax(0)
    found = score_cam.explain(target, x, ["maps"], channels=2, normalise=False)
    close(found, (a[0] - 2 * a[1]) * x[:, 0])
    # -2x alone: nothing positive.
    assert not score_cam.explain(target, x, ["maps"], channels=1, normalise=False).any()


@pytest.mark.parametrize("alignment", ["published", "centred"])
def test_score_cam_of_a_network_channel_by_channel(alignment):
    net, x = small_net(5), normal(2, 2, 12, 15)
    found = score_cam.explain(Explained(net, 2, ["2"]), x, ["0", "2"], alignment=alignment, normalise=False)
    for image, cam in zip(x, found, strict=True):
        a = net[:3](image[None])[0].detach()
        scores = []
        for channel in a:
            mask = layer_maps.onto_image(channel[None], (12, 15), alignment)
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            scores.append(net(image.min() + (image[None] - image.min()) * mask)[0, 2].detach())
        small = functional.relu(torch.einsum("k,kuv->uv", torch.stack(scores).softmax(0), a))
        close(cam, layer_maps.onto_image(small[None], (12, 15), alignment)[0])


# OMIG


def test_omig_away_is_omig_of_the_lowered_scalar():
    class Quadratic(nn.Module):
        def forward(self, x):
            return (normal(1, 9, 8) * x**2).sum((1, 2, 3))

    x, options = normal(2, 1, 9, 8, seed=1), {"c": 0.3, "steps": 7, "outlier_z": 1.5}
    away = omig.explain(Explained(Quadratic()), x, orientation="away", **options)
    close(away, omig.explain(Explained(Quadratic(), lambda output: -output), x, **options))


@pytest.mark.parametrize(("orientation", "sign"), [("towards", 1), ("away", -1)])
def test_omig_of_a_linear_model_is_the_gradient_with_its_outliers_cut(orientation, sign):
    weight, x = normal(3, 5, 4), normal(2, 3, 5, 4, seed=1)
    weight[1, 2, 3] = 100
    maps = omig.explain(Explained(Linear(weight)), x, c=0.5, steps=10, orientation=orientation)
    expected = 0.5 * weight
    expected[1, 2, 3] /= 10
    close(maps, sign * expected.expand(2, 3, 5, 4))


def test_omig_raises_or_lowers_the_logit_of_each_image():
    target, x = Explained(small_net(1), torch.tensor([0, 2])), normal(2, 2, 12, 15)
    before = target.value(x)
    assert (target.value(x + omig.explain(target, x)) > before).all()
    assert (target.value(x + omig.explain(target, x, orientation="away")) < before).all()


# Superpixels


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_kernel_shap_and_lime_of_a_linear_model_are_the_sums_over_segments(channels):
    pytest.importorskip("captum")
    weight, x = normal(channels, 12, 15), normal(2, channels, 12, 15, seed=1)
    target = Explained(Linear(weight, 3.0))
    expected = torch.zeros(2, 12, 15, dtype=torch.float64)
    for number in range(2):
        labels = torch.from_numpy(shap_lime._superpixels(x[number], 6, 0.3))
        share = (weight * (x[number] - 0.2)).sum(0)
        for label in labels.unique():
            expected[number][labels == label] = share[labels == label].sum()
    # captum solves in float32.
    close(shap_lime.kernel_shap(target, x, 6, evaluations=200, baseline=0.2), expected, 1e-4)
    close(shap_lime.lime(target, x, 6, evaluations=200, baseline=0.2, alpha=1e-6), expected, 1e-3)


def test_kernel_shap_is_complete():
    pytest.importorskip("captum")
    target, x = Explained(small_net(), 1), normal(1, 2, 12, 15)
    maps = shap_lime.kernel_shap(target, x, 6, evaluations=200, baseline=0.0)
    labels = torch.from_numpy(shap_lime._superpixels(x[0], 6, 0.3))
    total = sum(maps[0][labels == label][0] for label in labels.unique())
    assert total.item() == pytest.approx(float(target.value(x) - target.value(0 * x)), abs=1e-4)


@pytest.mark.parametrize("explain", [shap_lime.kernel_shap, shap_lime.lime])
def test_superpixel_seeds_leave_torch_as_it_was(explain):
    pytest.importorskip("captum")
    target, x = Explained(small_net(), 1), normal(1, 2, 12, 15)
    state = torch.get_rng_state()
    first = explain(target, x, **SHAP, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(explain(target, x, **SHAP, seed=1), first)
    assert not torch.allclose(explain(target, x, **SHAP, seed=2), first)


def test_superpixels_have_labels_without_gaps():
    labels = shap_lime._superpixels(normal(1, 40, 50), 20, 0.3)
    assert labels.shape == (40, 50)
    assert sorted(set(labels.ravel())) == list(range(labels.max() + 1))
    assert 5 < labels.max() < 60


@pytest.mark.parametrize("explain", [shap_lime.kernel_shap, shap_lime.lime])
def test_missing_captum_is_told_with_what_to_install(explain, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ValueError, match=r"found no captum.*pip install 'captum"):
        explain(Explained(small_net(), 1), normal(1, 2, 12, 15))


# Controls


def test_random_control_is_uniform_and_seeded():
    x = normal(2, 1, 200, 200)
    maps = controls.random_map(x, seed=3)
    counts = torch.histc(maps, 20, 0, 1)
    assert counts.sum() == maps.numel()
    assert ((counts - 4000) ** 2 / 4000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert torch.equal(maps, controls.random_map(x, seed=3))
    assert not torch.equal(maps, controls.random_map(x, seed=4))
    assert not torch.equal(maps[0], maps[1])


def test_centre_prior_falls_from_the_centre_as_a_gaussian():
    values = controls.centre_prior(torch.zeros(2, 1, 41, 41, dtype=torch.float64), width=0.25)[1].numpy()
    assert values[20, 20] == 1
    sigma = 0.25 * 41
    np.testing.assert_allclose(values[20, 30], np.exp(-(10**2) / (2 * sigma**2)), rtol=1e-6)
    np.testing.assert_allclose(values, values.T)
    np.testing.assert_allclose(values, values[::-1, ::-1])


def test_edges_are_the_slope_of_a_ramp_in_any_direction_whatever_the_channels():
    rows, columns = np.mgrid[:12, :15].astype(float)
    ramp = 3 * rows + 4 * columns
    maps = controls.edges(torch.tensor(np.array([[0.5 * ramp, 1.5 * ramp], [np.ones((12, 15))] * 2])))
    np.testing.assert_allclose(maps[0, 1:-1, 1:-1], 5)
    np.testing.assert_array_equal(maps[1], 0)


@pytest.mark.parametrize("name", ["random", "centre_prior", "edges"])
def test_controls_as_methods(name):
    def explain(x):
        return controls.maps(None, x, [name])[name]

    x = normal(3, 3, 12, 15).float()
    maps = explain(x)
    assert maps.shape == (3, 12, 15)
    assert maps.dtype == x.dtype
    assert torch.equal(explain(x[1:2])[0], maps[1])
    # In another order of memory, too.
    assert torch.equal(explain(x.to(memory_format=torch.channels_last)), maps)
    with pytest.raises(ValueError, match="x: found"):
        explain(x[0])


def test_options_reach_the_methods_of_a_family():
    x = normal(2, 2, 12, 15)
    found = controls.maps(None, x, ["edges", "random", "centre_prior"], seed=4, width=0.1)
    assert list(found) == ["edges", "random", "centre_prior"]
    assert torch.equal(found["random"], controls.random_map(x, 4))
    assert torch.equal(found["centre_prior"], controls.centre_prior(x, 0.1))
    pytest.importorskip("captum")
    target, options = Explained(small_net(), 1), {**SHAP, "compactness": 0.5, "seed": 2, "baseline": 0.1}
    found = shap_lime.maps(target, x, ["lime", "kernel_shap"], alpha=0.1, **options)
    assert torch.equal(found["kernel_shap"], shap_lime.kernel_shap(target, x, **options))
    assert torch.equal(found["lime"], shap_lime.lime(target, x, alpha=0.1, **options))


def test_width_of_the_centre_prior_is_positive():
    with pytest.raises(ValueError, match="width: found 0"):
        controls.centre_prior(normal(1, 1, 4, 4), 0)
