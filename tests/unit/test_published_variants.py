"""What the papers' released code does, beside ours: maps, scoring, signs."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from xiqa.config import Saliency
from xiqa.metrics.maps.localisation import curves_of_maps, pointing_games_of_maps, published_signs
from xiqa.metrics.maps.pointing_game import inside_boxes, pointing_game
from xiqa.metrics.maps.roc_auc import mean_roc
from xiqa.models.model import Model, classes_to_explain
from xiqa.models.task import Classification
from xiqa.names import method_name
from xiqa.registry import FALLING, PUBLISHED_MAPS, base_method
from xiqa.saliency import attribute_many
from xiqa.saliency.published import published_map
from xiqa.saliency.xrai import best_regions
from xiqa.tracking_classification import METHOD_TABLES, classification_runs

RNG = np.random.default_rng(5)


def plain_boxes(boxes, shape):
    mask = np.zeros(shape, bool)
    for x_min, y_min, x_max, y_max in boxes:
        for row, column in np.ndindex(shape):
            mask[row, column] |= y_min <= row + 0.5 < y_max and x_min <= column + 0.5 < x_max
    return mask


def test_boxes_hold_the_pixels_whose_centres_lie_inside():
    shape = (17, 31)
    for _ in range(60):
        x, y = np.sort(RNG.uniform(-2, 33, 2)), np.sort(RNG.uniform(-2, 19, 2))
        boxes = [(x[0], y[0], x[0] + 1 + x[1], y[0] + 1 + y[1]), (3, 4, 6.5, 9.5)]
        np.testing.assert_array_equal(inside_boxes(boxes, shape), plain_boxes(boxes, shape))
    assert not inside_boxes([], shape).any()


@pytest.mark.parametrize(("box", "pixel"), [((4.6, 7.7, 4.9, 7.9), (7, 4)), ((30.6, 16.7, 31, 17), (16, 30))])
def test_a_box_too_small_for_a_centre_keeps_its_pixel(box, pixel):
    mask = inside_boxes([box], (17, 31))
    assert mask.sum() == 1
    assert mask[pixel]


def test_an_ellipse_is_missed_where_its_box_is_hit():
    rows, columns = np.ogrid[:40, :40]
    ellipse = ((rows - 19.5) / 10) ** 2 + ((columns - 19.5) / 10) ** 2 < 1
    box = inside_boxes([(10, 10, 30, 30)], (40, 40))
    corner = np.zeros((40, 40))
    corner[11, 11] = 1
    assert pointing_game(corner, box, 1)
    assert not pointing_game(corner, ellipse, 1)


def test_a_cut_hundredth_of_tied_pixels_hides_the_object_and_smoothing_finds_it():
    """Özer, table 2: input × gradient 0.000 without smoothing. The cut makes it so, not the map."""
    box = inside_boxes([(44, 50, 50, 56)], (64, 64))  # in the lower half: ties in raster order begin above it
    hits = {"plain": [], "plain smoothed": [], "cut": [], "cut smoothed": []}
    for _ in range(200):
        saliency = RNG.normal(size=(64, 64)) ** 2
        saliency[box] += 10 * RNG.random(box.sum())
        cut = published_map("input_x_gradient", {"input_x_gradient": torch.from_numpy(saliency)[None, None]})[0].numpy()
        assert (cut == cut.max()).sum() == 41  # of 4096
        for name, values in (("plain", saliency), ("cut", cut)):
            hits[name].append(pointing_game(values, box, 3))
            hits[f"{name} smoothed"].append(pointing_game(values, box, 3, smooth=True))
    shares = {name: np.mean(found) for name, found in hits.items()}
    assert 0.2 < shares["plain"] < 0.6
    assert shares["plain smoothed"] > shares["plain"] + 0.3
    assert shares["cut"] == 0
    assert shares["cut smoothed"] > 0.99


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_released_maps_are_sums_of_absolute_values_cut_at_the_99th_percentile(channels, dtype):
    found = {name: torch.from_numpy(RNG.normal(size=(4, channels, 20, 30))).to(dtype)
             for name in ("gradient", "input_x_gradient")}  # fmt: skip
    found["grad_cam"] = torch.from_numpy(RNG.random((4, 20, 30))).to(dtype)
    gradient, product, cam = (part.double().numpy() for part in found.values())
    expected = {
        "input_x_gradient": np.abs(product).sum(1),
        "guided_backprop": np.maximum(gradient, 0).sum(1),
        "guided_grad_cam": cam * np.abs(gradient).sum(1),
    }
    assert set(expected) == set(PUBLISHED_MAPS)
    for method, total in expected.items():
        given = {name: found[name] for name in PUBLISHED_MAPS[method]}
        cut = np.minimum(total, np.percentile(total, 99, axis=(1, 2), keepdims=True))
        made = published_map(method, given)
        assert made.dtype == dtype
        np.testing.assert_allclose(made.numpy(), cut, rtol=1e-5)


def test_guided_methods_of_a_network_without_relu_have_a_released_map_and_are_refused_as_ours():
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.AdaptiveAvgPool2d(1),
                              torch.nn.Flatten(), torch.nn.Linear(4, 2))  # fmt: skip
    x = torch.from_numpy(RNG.normal(size=(2, 1, 12, 12))).float()
    with pytest.raises(ValueError, match="ReLU"):
        attribute_many(net, x, 1, ["guided_backprop"])
    found = attribute_many(net, x, 1, ["gradient"], reduce_channels=False)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    made, positive = published_map("guided_backprop", found), gradient.clamp(min=0)[:, 0]
    assert torch.allclose(made, positive.minimum(made.amax((1, 2), keepdim=True)))
    assert made.max() > 0


def test_only_integrated_and_expected_gradients_keep_our_sign_in_the_papers_form():
    labels = np.array([0, 1, 0, 1])
    assert published_signs("gradient", labels).tolist() == [-1, 1, -1, 1]
    assert published_signs("integrated_gradients_bw", labels).tolist() == [-1, 1, -1, 1]
    for method in ("integrated_gradients", "expected_gradients"):
        assert published_signs(method, labels).tolist() == [1, 1, 1, 1]


def test_curves_have_the_papers_signs_as_a_form_of_their_own():
    """A gradient that speaks against the second class in images of the first: z itself, without its sign."""
    masks = np.zeros((4, 20, 20), bool)
    masks[:, 5:9, 5:9] = True
    labels = np.array([0, 1, 0, 1])
    ours = RNG.normal(size=masks.shape) + 3 * masks
    table = curves_of_maps(ours, masks, tolerance_px=3, signs=published_signs("gradient", labels))
    area = table[table["kind"] == "roc"].groupby("form")["area"].first()
    raw = ours * np.where(labels == 0, -1, 1)[:, None, None]
    assert area["published"] == mean_roc(raw, masks).area
    assert area["signed"] > 0.9 > 0.6 > area["published"]
    assert set(curves_of_maps(ours, masks, tolerance_px=3)["form"]) == {"signed", "absolute"}
    same = curves_of_maps(ours, masks, tolerance_px=3, signs=published_signs("expected_gradients", labels))
    area = same[same["kind"] == "roc"].groupby("form")["area"].first()
    assert area["published"] == area["signed"]
    assert set(curves_of_maps(np.abs(ours), masks, tolerance_px=3, signs=np.ones(4))["form"]) == {"absolute"}


def test_the_mean_of_heights_is_the_area_only_where_points_lie_evenly_along_the_false_positives():
    """Brocki 2022's area: with one threshold per pixel value it is the share of larger background, a little low."""
    mask = np.zeros((30, 30), bool)
    mask[:3] = True  # a tenth
    saliency = RNG.normal(size=mask.shape) + 2 * mask
    roc = mean_roc([saliency], [mask])
    values = np.sort(saliency.ravel())
    heights = [1.0, *((saliency[mask] > value).mean() for value in values)]
    assert roc.mean_height == pytest.approx(np.mean(heights))
    # Points along the background count the area, those along the mask a half: 0.9 area + 0.1 / 2.
    assert roc.mean_height == pytest.approx(0.9 * roc.area + 0.05, abs=2e-3)


def test_the_pointing_game_alone_is_that_of_all_scores():
    maps, masks = RNG.normal(size=(3, 20, 20)), np.zeros((3, 20, 20), bool)
    masks[:2, 3:6, 3:6] = True
    table = pointing_games_of_maps(maps, masks, tolerance_px=4).set_index(["image", "form", "metric"]).sort_index()
    assert table.loc[(0, "signed", "pointing_game"), "value"] == pointing_game(maps[0], masks[0], 4)
    assert table.loc[(1, "absolute", "pointing_game_smooth"), "value"] == pointing_game(
        np.abs(maps[1]), masks[1], 4, smooth=True
    )
    assert set(table.loc[2, "reason"]) == {"no ground truth"}


def test_smooth_variants_and_best_regions_are_methods_of_their_own():
    """Brima 2023, figures 8 and 9: fast XRAI 30 %, smooth guided and smooth blur integrated gradients."""
    plan = Saliency(methods=("gradient", "guided_ig", "xrai", "xrai_fast"), costly_methods=("occlusion", "blur_ig"),
                    smooth_methods=("guided_ig", "blur_ig"), xrai_top_percent=30)  # fmt: skip
    assert plan.families == {
        "one_pass": ["gradient"],
        "guided_ig": ["guided_ig"],
        "xrai": ["xrai", "xrai_fast", "xrai_fast_top"],
        "occlusion": ["occlusion"],
        "blur_ig": ["blur_ig"],
        "guided_ig_smooth": ["guided_ig_smooth"],
        "blur_ig_smooth": ["blur_ig_smooth"],
    }
    named = [m for methods in plan.families.values() for m in methods]
    assert {base_method(m) for m in named} == {*plan.methods, *plan.costly_methods}
    assert [method_name(m) for m in ("guided_ig_smooth", "xrai_fast_top", "blur_ig")] == [
        "guided IG, smooth", "XRAI (fast), best regions", "blur IG",
    ]  # fmt: skip
    assert {"occlusion", "occlusion_smooth"} <= FALLING  # a smooth map falls where its method's does


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"smooth_methods": ("guided_ig",)}, "expected some of methods"),
        ({"methods": ("random",), "smooth_methods": ("random",)}, "without random"),
        ({"methods": ("xrai",), "xrai_top_percent": 30}, "needs xrai_fast"),
    ],
)
def test_variants_of_methods_that_are_not_asked_for_are_refused(wrong, told):
    with pytest.raises(ValidationError, match=told):
        Saliency(**wrong)


def test_best_regions_keep_their_share_of_the_area():
    maps = torch.from_numpy(RNG.permuted(np.tile(np.arange(400.0), (3, 1)), axis=1)).reshape(3, 20, 20)
    top = best_regions(maps, 30)
    for one, kept in zip(maps, top, strict=True):
        assert (kept > 0).sum() == 120
        assert torch.equal(kept[one >= 280], one[one >= 280])
        assert (kept[one < 280] == 0).all()


@pytest.mark.parametrize("one_output", [True, False])
def test_the_explained_class_is_the_true_or_the_predicted_one(one_output):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1 if one_output else 2, bias=False))
    with torch.no_grad():
        net[1].weight[:] = 1.0 if one_output else torch.tensor([[0.0], [1.0]])  # bright images are of class 1
    classifier = Model(net, "a", {}, Classification(("dark", "bright"), one_output), 1, 4, 0.5, 0.25)
    images, rows, labels = (
        np.stack([np.full((4, 4), v) for v in (0.9, 0.1, 0.8)]),
        np.array([0, 1, 2]),
        np.array([0, 0, 1]),
    )
    assert classes_to_explain(classifier, images, rows, labels, "true_class").tolist() == [0, 0, 1]
    assert classes_to_explain(classifier, images, rows, labels, "predicted_class").tolist() == [1, 0, 1]
    assert classes_to_explain(classifier, images, rows[1:], labels[1:], "predicted_class").tolist() == [0, 1]


def test_variants_are_labelled_where_runs_are_tracked(tmp_path):
    known = {"architecture": "net", "weights": "trained", "method": "grad_cam", "form": "absolute", "data": "simulated"}
    tables = {name: pd.DataFrame([known | {"metric": name, "mean": 0.1}]) for name in METHOD_TABLES[1:]}
    variants = {("ours", "mask"): 0.2, ("ours", "box"): 0.3, ("published", "box"): 0.4}
    tables["pointing_game"] = pd.DataFrame(
        known | {"scoring": scoring, "truth": truth, "accuracy": value, "smoothing": "none"}
        for (scoring, truth), value in variants.items()
    )
    score = known | {"seed": 0, "metric": "auc", "class_name": "", "value": 0.9}
    tables["scores"] = pd.DataFrame([score, score | {"architecture": "shortcut: header"}])
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    runs = classification_runs("set", {}, [], [str(tmp_path / f"{name}.csv") for name in tables], [])
    found = {name: value for name, value in runs[-1].metrics.items() if name.startswith("pointing")}
    assert found == {"pointing_game": 0.2, "pointing_game_box": 0.3, "pointing_game_published": 0.4}
    assert runs[-1].metrics["roc_auc"] == 0.1
