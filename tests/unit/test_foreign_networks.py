"""Maps of networks of other shapes are those of the plainest computation, in float64 and float32."""

import copy
import importlib

import numpy as np
import pytest
import torch
from cases import long
from foreign_networks import CLASSES, FOREIGN, SIDE, Wrapped, body, foreign, images, lesion_area, plainly
from torch import nn
from torch.nn import functional

from xiqa.registry import METHODS
from xiqa.saliency import attribute, attribute_many, checks
from xiqa.saliency.attribution import LAYERED
from xiqa.saliency.explained import Explained

OPTIONS = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 5},
    "expected_gradients": {"samples": 4, "references": images(4).flip(0)},
    "guided_ig": {"steps": 8},
    "blur_ig": {"steps": 5, "max_sigma": 3.0},
    "xrai": {"steps": 4},
    "occlusion": {"patch": 5, "stride": 3},
    "occlusion_pixel": {"stride": 5},
    "rise": {"masks": 20},
    "score_cam": {"channels": 4},
    "omig": {"steps": 4},
    "shap_lime": {"segments": 6, "evaluations": 20},
}
"""Fewer passes than by default, by family or method."""
CHOOSES = {"guided_ig", "xrai", "xrai_fast", "omig", "kernel_shap", "lime"}
"""Methods in which rounding may decide which pixel, segment or set is taken."""
REFUSED = {
    ("relu_backward", name): "found no ReLU"
    for name in ("vit", "vit_with_registers", "swin", "torchvision_vit", "torchvision_swin")
}
"""Family and network -> why there is no map."""
FAMILIES = {
    family: [m for m in METHODS if METHODS[m].module == family]
    for family in dict.fromkeys(entry.module for entry in METHODS.values())
}
# Rollout explains attention only, and is tested for itself; of LRP the rules decide what is supported.
SLOW = ("xrai", "shap_lime")
COMPARED = [family for family in FAMILIES if family not in ("attention", "lrp", "controls")]


def options_of(family):
    return OPTIONS.get(family, {}) | {k: v for m in FAMILIES[family] for k, v in OPTIONS.get(m, {}).items()}


def expected_maps(name, net, x, family, methods):
    """Maps by the methods' own formulas on values and gradients that are taken in the plainest way."""
    module, options = importlib.import_module(f"xiqa.saliency.{family}"), dict(options_of(family))
    if LAYERED & set(methods):
        options["layers"] = [FOREIGN[name].layer]
    if "references" in options:
        options["references"] = options["references"].to(x)
    if hasattr(module, "maps"):
        found = module.maps(plainly(name, net), x, methods, **options)
    else:
        found = {methods[0]: module.explain(plainly(name, net), x, **options)}
    return {method: maps.sum(1) if maps.ndim == 4 else maps for method, maps in found.items()}


def distance(found, expected):
    return float((found - expected).double().norm() / expected.double().norm().clamp(min=1e-30))


@pytest.mark.parametrize(
    ("name", "family"),
    # Segmentation is slow, and knows nothing of the network. Each network meets each family in the long tests, and a
    # third of them in the quick ones, as each family a third of the networks.
    [
        (name, family) if (row + column) % 3 == 0 else long(name, family)
        for row, name in enumerate(FOREIGN)
        for column, family in enumerate(COMPARED)
        if family not in SLOW or name in ("view", "squeezed", "vit", "segmentation")
    ],
)
def test_maps_of_foreign_networks_are_the_plain_ones(name, family):
    net, x, methods = foreign(name), images(), FAMILIES[family]
    if (family, name) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[family, name]):
            attribute_many(net, x, FOREIGN[name].target, methods, **options_of(family))
        return
    expected = expected_maps(name, net, x, family, methods)
    before = copy.deepcopy(getattr(net, "_orig_mod", net).state_dict())
    found = attribute_many(net, x, FOREIGN[name].target, methods, **options_of(family))
    single = attribute_many(net.float(), x.float(), FOREIGN[name].target, methods, **options_of(family))
    for method in methods:
        assert distance(found[method], expected[method]) < (1e-3 if method in CHOOSES else 1e-9), method
        assert single[method].dtype == torch.float32
        # A ReLU or a maximum may tip over by rounding.
        assert distance(single[method], expected[method]) < (0.3 if method in CHOOSES else 2e-3), method
    assert all(torch.equal(value.double(), before[key].double().float().double())
               for key, value in getattr(net, "_orig_mod", net).state_dict().items())  # fmt: skip


RULES = {"linear": "epsilon", "convolutions": "epsilon", "input_layer": "epsilon"}
WITHOUT_RULE = {
    "overwritten", "group_norm_silu", "conv3d", "lstm", "encoder", "two_outputs", "segmentation", "vit",
    "vit_with_registers", "swin", "torchvision_vit", "torchvision_swin",
}  # fmt: skip
"""Networks that LRP has no rules for."""


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_lrp_of_foreign_networks_hands_on_the_output_or_is_refused_by_name(name):
    net, x = foreign(name).requires_grad_(False), images()
    if name in WITHOUT_RULE:
        with pytest.raises(ValueError, match=r"LRP: .*found .*expected"):
            attribute(net, x, FOREIGN[name].target, "lrp", **RULES)
        return
    relevance, plain = importlib.import_module("xiqa.saliency.lrp").relevance, plainly(name, net)
    for target, fold in ((plain, None), (Explained(net, FOREIGN[name].target), True)):
        found = relevance(target, x, **RULES)
        torch.testing.assert_close(found.output, plain.value(x), rtol=1e-9, atol=1e-12)
        assert fold is None or torch.equal(found.maps.sum(1), attribute(net, x, FOREIGN[name].target, "lrp", **RULES))


AROUND = ("no_grad", "inference_mode", "autocast", "channels_last", "training", "numpy", "default_dtype")


@pytest.mark.parametrize(
    ("name", "around"),
    [
        (name, around) if (row + column) % 3 == 0 else long(name, around)
        for row, name in enumerate(["view", "overwritten", "vit", "squeezed", "segmentation"])
        for column, around in enumerate(AROUND)
    ],
)
def test_what_is_set_around_the_call_changes_no_map(name, around):
    net, x = foreign(name, torch.float32), images(dtype=torch.float32)
    methods = ["gradient", "grad_cam", "occlusion"]
    expected = attribute_many(net, x, FOREIGN[name].target, methods)
    given = {"channels_last": x.contiguous(memory_format=torch.channels_last), "numpy": x.numpy()}.get(around, x)
    contexts = {
        "no_grad": torch.no_grad, "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }  # fmt: skip
    if around == "training":
        net.train()
    with contexts.get(around, torch.enable_grad)():
        if around == "inference_mode":
            given = given.clone()
            assert given.is_inference()
        if around == "default_dtype":
            torch.set_default_dtype(torch.float64)
        try:
            found = attribute_many(net, given, FOREIGN[name].target, methods)
        finally:
            torch.set_default_dtype(torch.float32)
    assert net.training == (around == "training")
    for method in methods:
        assert torch.equal(found[method], expected[method]), method


def test_networks_made_in_inference_mode_are_explained():
    with torch.inference_mode():
        net = foreign("overwritten")
    plain = foreign("overwritten")
    assert torch.equal(attribute(net, images(), 1), attribute(plain, images(), 1))


def test_bfloat16_is_computed_in_float32_and_returned_as_asked():
    for name in ("view", "weight_norm", "vit"):
        net, x = foreign(name, torch.bfloat16), images(dtype=torch.bfloat16)
        methods = ["gradient", "grad_cam", "omig", "xrai_fast", "guided_ig", "edges", "random", "rise"]
        found = attribute_many(net, x, 1, methods, steps=4, masks=10)
        expected = attribute_many(net.float(), x.float(), 1, methods, steps=4, masks=10)
        for method in methods:
            assert found[method].dtype == torch.bfloat16
            assert torch.equal(found[method], expected[method].bfloat16()), (name, method)


def test_images_and_network_of_different_types_meet_in_the_wider_one():
    net, x = foreign("view"), images()
    assert torch.equal(attribute(net, x.float(), 1), attribute(net, x.float().double(), 1).float())
    single = foreign("view", torch.float32)
    assert torch.equal(attribute(single, x, 1), attribute(foreign("view", torch.float32).double(), x, 1))


def test_the_images_of_the_caller_stay_as_they_are():
    net, x = foreign("overwritten"), images()
    before = x.clone()
    attribute_many(net, x, 1, ["gradient", "occlusion", "grad_cam"])
    assert torch.equal(x, before)


# What is explained


def test_a_target_is_required_where_there_are_several_outputs():
    net, x = foreign("view"), images()
    with pytest.raises(ValueError, match="target: found None for 3 outputs, expected a class"):
        attribute(net, x)
    assert torch.equal(attribute(foreign("squeezed"), x), attribute(foreign("squeezed"), x, 1))


def test_the_predicted_class_is_explained():
    net, x = foreign("view"), images(8)
    net.fc.bias.data -= net(x).mean(0).detach()
    classes = net(x).argmax(1)
    assert len(classes.unique()) > 1
    for method in ("grad_cam", "integrated_gradients", "rise"):
        found, expected = (attribute(net, x, target, method) for target in ("predicted", classes))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    single = foreign("squeezed")
    single.fc.bias.data -= single(x).mean().detach()
    signs = (single(x) > 0).long()
    assert len(signs.unique()) > 1
    assert torch.equal(attribute(single, x, "predicted", "occlusion"), attribute(single, x, signs, "occlusion"))


@pytest.mark.parametrize("name", ["dict", "tuple"])
def test_outputs_with_one_tensor_are_plain_and_callables_see_the_raw_output(name):
    net, x = foreign(name), images()
    key = "logits" if name == "dict" else 0
    assert torch.equal(attribute(net, x, 2), attribute(net, x, lambda output: output[key][:, 2]))
    assert torch.equal(attribute(net, x, "predicted"), attribute(net, x, net(x)[key].argmax(1)))


def test_segmentations_and_several_outputs_are_refused_without_a_callable():
    with pytest.raises(ValueError, match=r"output \(3, 2, 16, 16\).*a class is no single number.*callable"):
        attribute(foreign("segmentation"), images(), 1)
    with pytest.raises(ValueError, match=r"tuple \(0: \(3, 3\), 1: \(3, 3\)\), expected one tensor; give a callable"):
        attribute(foreign("two_outputs"), images(), 1)
    with pytest.raises(ValueError, match=r"found values \(3, 16, 16\), expected \(3,\)"):
        attribute(foreign("segmentation"), images(), lambda output: output[:, 1])
    assert attribute(foreign("segmentation"), images(), lesion_area).shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("target", [[0, 2, 1], (0, 2, 1), np.array([0, 2, 1]), torch.tensor([[0], [2], [1]]),
                                    torch.tensor([0.0, 2.0, 1.0]), np.array([0, 2, 1], np.uint8)])  # fmt: skip
def test_classes_of_any_plain_form_are_taken(target):
    net, x = foreign("view"), images()
    assert torch.equal(attribute(net, x, target), attribute(net, x, torch.tensor([0, 2, 1])))


@pytest.mark.parametrize("target", [torch.tensor(2), np.int64(2), np.array(2), torch.tensor([2, 2, 2])])
def test_one_class_for_all_of_any_plain_form_is_taken(target):
    net, x = foreign("view"), images()
    assert torch.equal(attribute(net, x, target), attribute(net, x, 2))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("best", "target: found 'best', expected a class"),
        (torch.eye(3), r"found \(3, 3\).*one-hot rows give target.argmax\(1\)"),
        ([0.5, 1, 2], "expected a class"),
        ([0, 1], r"found \[0, 1\], expected 3 classes"),
        ([0, 1, 2, 0], "expected 3 classes"),
        (3, "found class 3, expected 0 to 2"),
        ({"class": 1}, "expected a class"),
    ],
)
def test_targets_that_are_not_plain_are_refused_in_one_sentence(target, message):
    with pytest.raises(ValueError, match=message):
        attribute(foreign("view"), images(), target)


@pytest.mark.parametrize("name", ["squeezed", "view"])
def test_one_image_has_the_map_that_it_has_among_others(name):
    net, x = foreign(name), images()
    for method in ("gradient", "occlusion", "grad_cam", "rise"):
        target = (lambda output: output.reshape(len(output), -1)[:, 0]) if name == "view" else (lambda output: output)
        for given in (1, target):
            alone = attribute(net, x[:1], given, method)
            torch.testing.assert_close(alone, attribute(net, x, given, method)[:1], rtol=1e-10, atol=1e-14)


# Layers


def test_layers_are_modules_or_names_and_by_default_the_last_spatial_one():
    net, x = foreign("data_parallel"), images()
    expected = attribute(net, x, 1, "grad_cam", layers="module.3")
    for layers in (None, "3", ["3"], net.module[3], [net.module[3]], ("3",)):
        assert torch.equal(attribute(net, x, 1, "grad_cam", layers=layers), expected)
    multi = attribute(net, x, 1, "normgrad_scaling_multi", multi_layers=[net.module[0], "module.3"])
    assert torch.equal(multi, attribute(net, x, 1, "normgrad_scaling_multi", multi_layers=["0", "3"]))
    assert torch.equal(
        attribute(net, x, 1, "normgrad_scaling_multi", multi_layers="3"),
        attribute(net, x, 1, "normgrad_scaling_multi", layers="3"),
    )
    with pytest.raises(ValueError, match="found a Conv2d that is not in the model"):
        attribute(net, x, 1, "grad_cam", layers=nn.Conv2d(1, 1, 1))


def test_methods_may_be_one_name():
    net, x = foreign("view"), images()
    assert list(attribute_many(net, x, 1, "gradient")) == ["gradient"]
    with pytest.raises(ValueError, match=r"found 'gradcam'.*did you mean grad_cam"):
        attribute(net, x, 1, "gradcam")


def test_a_layer_that_is_called_twice_is_refused():
    with pytest.raises(ValueError, match="layer conv: found 2 calls in a pass, expected one"):
        attribute(foreign("shared"), images(), 1, "grad_cam", layers="conv")
    with pytest.raises(ValueError, match="layer relu: found 2 calls"):
        attribute(foreign("shared"), images(), 1, "grad_cam", layers="relu")


@pytest.mark.parametrize(
    ("name", "layer", "reshape"), [("vit", "blocks.0", "tokens"), ("swin", "layers.0", "channels_last")]
)
def test_tokens_and_channels_last_are_laid_out_alike_however_it_is_said(name, layer, reshape):
    net, x = foreign(name), images()
    expected = attribute(net, x, 1, "normgrad_scaling", layers=layer)
    by_hand = FOREIGN[name].maps
    for given in (reshape, by_hand):
        assert torch.equal(attribute(net, x, 1, "normgrad_scaling", layers=layer, reshape=given), expected)


class RowsFirst(nn.Module):
    """Features with channels last, in a network that nobody knows."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.fc = nn.Conv2d(2, 12, 4, stride=4), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.fc(functional.gelu(self.mix(self.embed(x).permute(0, 2, 3, 1))).mean((1, 2)))


class Tokens(RowsFirst):
    """The same as tokens."""

    def forward(self, x):
        return self.fc(functional.gelu(self.mix(self.embed(x).flatten(2).transpose(1, 2))).mean(1))


def test_layers_that_could_lie_otherwise_are_refused_by_name_and_taken_when_it_is_said():
    torch.manual_seed(0)
    rows, x = RowsFirst().double().eval(), images()
    one_by_one = Tokens().double().eval()
    one_by_one.load_state_dict(rows.state_dict())
    with pytest.raises(ValueError, match=r"layer mix: found \(3, 4, 4, 12\).*looks like \(n, u, v, k\).*reshape="):
        attribute(rows, x, 1, "grad_cam", layers="mix")
    with pytest.raises(ValueError, match=r"layer mix: found \(3, 16, 12\), expected maps.*reshape="):
        attribute(one_by_one, x, 1, "grad_cam", layers="mix")
    expected = attribute(rows, x, 1, "grad_cam", layers="mix", reshape="channels_last")
    assert torch.equal(attribute(rows, x, 1, "grad_cam", reshape="channels_last"), expected)
    found = attribute(one_by_one, x, 1, "grad_cam", layers="mix", reshape="tokens")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    # Without a word the last layer that plainly holds maps is taken: the embedding.
    embedded = attribute(rows, x, 1, "grad_cam", layers="embed")
    assert torch.equal(attribute(rows, x, 1, "grad_cam"), embedded)
    with pytest.raises(ValueError, match="reshape: found 'rows'"):
        attribute(rows, x, 1, "grad_cam", layers="mix", reshape="rows")


def test_anisotropic_maps_are_maps():
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=(2, 1), padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).double()
    assert attribute(net, images(), 1, "grad_cam", layers="0").shape == (3, SIDE, SIDE)


# What has no map is said


def test_an_image_that_is_not_finite_has_a_map_of_nan_and_the_others_their_own():
    net, x = foreign("view"), images()
    methods = [m for m in METHODS if METHODS[m].module not in ("attention", "shap_lime", "expected_gradients")]
    options = {"steps": 3, "masks": 5, "samples": 2}
    expected = attribute_many(net, x, 1, methods, **options)
    for wrong in (torch.nan, torch.inf):
        broken = x.clone()
        broken[1, 0, 3, 3] = wrong
        found = attribute_many(net, broken, 1, methods, **options)
        for method in methods:
            assert found[method][1].isnan().all(), method
            assert torch.equal(found[method][::2], expected[method][::2]), method
        flags = checks(net, broken, 1, {"grad_cam": found["grad_cam"]})
        assert flags["valid"].tolist() == [True, False, True]
    alone = attribute(net, torch.full_like(x[:1], torch.nan), 1, "grad_cam")
    assert alone.isnan().all()


class Detached(nn.Module):
    """Its features are computed without a gradient."""

    def __init__(self, cut):
        super().__init__()
        self.net, self.fc, self.cut = body()[:-1], nn.Linear(8, CLASSES), cut

    def forward(self, x):
        return self.fc(self.cut(self.net, x))


def without_gradient(net, x):
    with torch.no_grad():
        return net(x)


@pytest.mark.parametrize("cut", [without_gradient, lambda net, x: net(x).detach(), lambda net, x: net(x.detach())])
def test_a_network_that_leaves_autograd_is_refused_by_gradient_methods_and_occluded(cut):
    net, x = Detached(cut).double().eval(), images()
    for method in ("gradient", "integrated_gradients", "guided_backprop"):
        with pytest.raises(ValueError, match="found none from the explained output to the image"):
            attribute(net, x, 1, method)
    assert attribute(net, x, 1, "occlusion").abs().max() > 0


def test_networks_whose_images_depend_on_each_other_are_refused():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    with pytest.raises(ValueError, match="BatchNorm2d '1' without running statistics"):
        attribute(net, images(dtype=torch.float32), 1)
    with pytest.raises(ValueError, match="weights that are not made yet"):
        attribute(nn.Sequential(nn.LazyConv2d(3, 3), nn.Flatten()), images(dtype=torch.float32), 1)


@pytest.mark.parametrize("method", ["gradient", "occlusion", "integrated_gradients", "guided_backprop"])
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: functional.dropout(z, 0.5, training=True), "changes from call to call"),
        (lambda z: z + 0.1 * torch.randn_like(z), "changes from call to call"),
        (lambda z: functional.batch_norm(z, None, None, training=True), r"batch_norm\(training=True\)"),
    ],
)
def test_random_networks_and_normalisation_by_the_batch_are_refused(function, message, method):
    with pytest.raises(ValueError, match=message):
        attribute(Wrapped(function).eval(), images(dtype=torch.float32), 1, method)


@pytest.mark.parametrize("target", [1, "predicted"])
@pytest.mark.parametrize("method", ["gradient", "grad_cam", "occlusion", "integrated_gradients", "guided_backprop"])
@pytest.mark.parametrize(
    "function",
    [
        lambda z: z - z.mean(0),
        lambda z: z / z.norm(),
        lambda z: z.softmax(0),
        lambda z: z.roll(1, 0),
        lambda z: z.cumsum(0),  # as a recurrent layer that takes images for steps in time
        lambda z: z + z.flip(0),
    ],
)
def test_images_that_depend_on_each_other_are_refused(function, method, target):
    with pytest.raises(ValueError, match="images of a batch depend on each other"):
        attribute(Wrapped(function).double().eval(), images(), target, method)


def test_random_numbers_that_others_draw_make_no_network_random():
    class Draws(nn.Module):
        def forward(self, x):
            torch.rand(3)
            return x.flatten(1)

    assert torch.equal(attribute(Draws(), images(), 1).count_nonzero((1, 2)), torch.ones(3, dtype=torch.int64))


def test_in_place_relus_whose_return_is_not_used_are_guided_too():
    class ForItsEffect(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(2, 6, 3), nn.Linear(6, CLASSES)

        def forward(self, x):
            x = self.conv(x)
            functional.relu_(x)
            return self.fc(x.mean((2, 3)))

    class ForItsReturn(ForItsEffect):
        def forward(self, x):
            return self.fc(functional.relu(self.conv(x)).mean((2, 3)))

    effect, returned = ForItsEffect().double(), ForItsReturn().double()
    returned.load_state_dict(effect.state_dict())
    for method in ("guided_backprop", "deconvolution"):
        assert torch.equal(attribute(effect, images(), 1, method), attribute(returned, images(), 1, method))
    maps = attribute_many(effect, images(), 1, ["gradient", "guided_backprop"])
    assert not torch.equal(maps["gradient"], maps["guided_backprop"])


def test_folding_is_verified_on_noise_as_well_as_on_the_first_image():
    class Hidden(nn.Module):
        """What reads the convolution beside its batch normalisation is silent on a blank image."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return (self.norm(y) + y).mean((2, 3))

    net, x = Hidden().double().eval(), images()
    net.norm.running_var.fill_(2.0)
    x[0] = 0
    assert torch.equal(Explained(net, 1).value(x), net(x)[:, 1].detach())


def test_checks_take_the_baseline_that_was_used():
    net, x = foreign("view"), images()
    for method, promise in (("integrated_gradients", 0.02), ("guided_ig", 0.15)):
        options = {"baseline": 0.4, "steps": 400}
        maps = attribute_many(net, x, 1, [method], **options)
        right, wrong = checks(net, x, 1, maps, **options), checks(net, x, 1, maps)
        assert right["completeness_error"].abs().max() < promise * wrong["completeness_error"].abs().max()
    references = images(4).flip(0)
    maps = attribute_many(net, x, 1, ["expected_gradients"], references=references, samples=3000)
    right = checks(net, x, 1, maps, references=references)["completeness_error"]
    assert right.abs().max() < 0.1 * (net(x)[:, 1] - net(references)[:, 1].mean()).abs().max()
    assert checks(net, x, 1, maps)["completeness_error"].isna().all()
