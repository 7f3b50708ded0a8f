"""`attribute` on torch modules: exact against captum, autograd and closed forms; the module stays as it is."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import long
from saliency_targets import small_net
from torch import nn
from torch.nn import functional

from xiqa.models.folding import fold_batch_norm, work_in_place
from xiqa.models.midpoint import PlainGradient
from xiqa.models.zoo import build
from xiqa.registry import ARCHITECTURES, METHODS, WITHOUT_RELU
from xiqa.saliency import attribute, attribute_ensemble, attribute_many, normgrad
from xiqa.saliency.explained import Activation, Explained
from xiqa.saliency.layer_maps import onto_image
from xiqa.saliency.references import noisy_copies
from xiqa.saliency.relu_backward import ReluBackward

CALLS = []
LAYERS = {"layers": ["second"], "multi_layers": ["first", "second"]}


class Net(nn.Module):
    """Convolutions with batch normalisation; one in-place ReLU module used three times."""

    def __init__(self, outputs: int = 3):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(8 * 16, 10)
        self.out = nn.Linear(10, outputs)

    def forward(self, x):
        CALLS.append(len(x))
        x = self.relu(self.norm(self.first(x)))
        x = self.pool(self.relu(self.second(x)))
        return self.out(self.relu(self.hidden(x.flatten(1))))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(32.0, dtype=torch.float64).reshape(2, 4, 4) / 7 - 2)

    def forward(self, x):
        return (x * self.weight).sum((1, 2, 3), keepdim=False) + 0.5


@pytest.fixture
def net():
    torch.manual_seed(1)
    net = Net().double()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.fixture
def x():
    return torch.randn(3, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


TARGET = torch.tensor([0, 2, 1])


def close(found, expected, tolerance=1e-6):
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def plain(net):
    """A copy that captum can hook: no ReLU in place or used twice."""

    class Plain(Net):
        def __init__(self):
            super().__init__()
            self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))

        def forward(self, x):
            x = self.relus[0](self.norm(self.first(x)))
            x = self.pool(self.relus[1](self.second(x)))
            return self.out(self.relus[2](self.hidden(x.flatten(1))))

    other = Plain().double().eval()
    other.load_state_dict(net.state_dict())
    return other


@pytest.mark.parametrize("name", ["net", long("resnet34"), long("efficientnet_b0")])
def test_agrees_with_captum(name, net, x):
    captum = pytest.importorskip("captum.attr")
    given_targets = TARGET if name == "net" else TARGET[:2]
    layer = "second"
    if name != "net":
        net = build(name, channels=1, outputs=3, seed=0).double().eval()
        layer = {"resnet34": "layer4.1", "efficientnet_b0": "blocks.5"}[name]
        x = functional.interpolate(x[:2, :1], (32, 32))
    other = plain(net) if name == "net" else copy.deepcopy(net)
    given = x.clone().requires_grad_(True)
    black = x.amin((1, 2, 3), keepdim=True).expand_as(x)
    cam = captum.LayerGradCam(other, other.get_submodule(layer)).attribute(given, given_targets, relu_attributions=True)
    expected = {
        "gradient": captum.Saliency(other).attribute(given, given_targets, abs=False),
        "input_x_gradient": captum.InputXGradient(other).attribute(given, given_targets),
        "integrated_gradients": captum.IntegratedGradients(other).attribute(
            given, black, given_targets, n_steps=25, method="riemann_middle"
        ),
        "grad_cam": functional.interpolate(cam, x.shape[2:], mode="bilinear")[:, 0],
    }
    if name != "efficientnet_b0":
        expected["guided_backprop"] = captum.GuidedBackprop(other).attribute(given, given_targets)
        expected["deconvolution"] = captum.Deconvolution(other).attribute(given, given_targets)
        expected["guided_grad_cam"] = expected["guided_backprop"] * expected["grad_cam"][:, None]
    found = attribute_many(net, x, given_targets, list(expected), layers=layer, normalise=False, reduce_channels=False)
    for method, maps in expected.items():
        # captum's steps of the path are float32.
        close(found[method], maps.detach(), 1e-6)


def test_normgrad_is_the_norm_of_the_gradient_of_a_virtual_layer(net, x):
    a = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    g = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    windows = functional.unfold(a, 3, padding=1).reshape(2, 45, 6, 7)
    identity1 = torch.eye(5, dtype=torch.float64)[None, None, None].repeat(2, 6, 7, 1, 1).requires_grad_(True)
    identity3 = torch.zeros(2, 6, 7, 5, 45, dtype=torch.float64)
    for channel in range(5):
        identity3[..., channel, 9 * channel + 4] = 1
    identity3.requires_grad_(True)
    scale = torch.ones(2, 6, 7, 5, dtype=torch.float64, requires_grad=True)
    places = "npqij,njpq->nipq"
    for function, weight, output in (
        (normgrad.conv1x1, identity1, torch.einsum(places, identity1, a)),
        (normgrad.conv3x3, identity3, torch.einsum(places, identity3, windows)),
        (normgrad.scaling, scale, scale.permute(0, 3, 1, 2) * a),
    ):
        torch.testing.assert_close(output, a)
        (gradient,) = torch.autograd.grad((output * g).sum(), weight)
        close(function(Activation(a, g)), gradient.flatten(3).norm(dim=3), 1e-12)


def test_layer_gradients_are_those_of_autograd(net, x):
    target = Explained(net, 1, ["first", "second"])
    (part,) = target.passes(x, layers=["first", "second"])
    other = plain(net)
    a = other.first(x).detach().requires_grad_(True)
    hidden = other.pool(functional.relu(other.second(functional.relu(other.norm(a)))))
    other.out(functional.relu(other.hidden(hidden.flatten(1))))[:, 1].sum().backward()
    close(part.activations["first"].a, a.detach(), 1e-12)
    close(part.activations["first"].g, a.grad, 1e-12)


def test_maps_of_layers_alone_are_those_with_the_gradient_of_the_image():
    class Adds(torch.nn.Module):
        """What follows the first layer works in place; the second one reads it."""

        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

        def forward(self, x):
            y = self.first(x)
            y += x
            return self.second(y).relu().mean((2, 3))

    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names, layers = ["grad_cam", "normgrad_conv1x1_multi"], {"layers": ["first"], "multi_layers": ["first", "second"]}
    net = Adds().double()
    alone, beside = (attribute_many(net, x, 0, [*more, *names], **layers) for more in ([], ["gradient"]))
    for name in names:
        torch.testing.assert_close(alone[name], beside[name], rtol=1e-12, atol=1e-15)


def test_joined_maps_leave_out_layers_without_range():
    maps = torch.rand(2, 4, 4, dtype=torch.float64)
    flat = torch.full((2, 4, 4), 3.0, dtype=torch.float64)
    close(normgrad.join([maps, flat]), normgrad.join([maps]), 1e-12)
    close(normgrad.join([maps, maps**2]), (normgrad.min_max(maps) * normgrad.min_max(maps**2)).sqrt(), 1e-12)


def test_closed_forms_of_a_linear_model():
    model, x = Linear(), torch.randn(2, 2, 4, 4, dtype=torch.float64)
    references = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    maps = attribute_many(
        model, x, None, ["gradient", "integrated_gradients", "integrated_gradients_bw", "smoothgrad_squared"],
        reduce_channels=False,
    )  # fmt: skip
    weight = model.weight.detach()
    close(maps["gradient"], weight.expand_as(x), 1e-12)
    close(maps["integrated_gradients"], (x - x.amin((1, 2, 3), keepdim=True)) * weight, 1e-12)
    middle = (x.amin((1, 2, 3), keepdim=True) + x.amax((1, 2, 3), keepdim=True)) / 2
    close(maps["integrated_gradients_bw"], (x - middle) * weight, 1e-12)
    close(maps["smoothgrad_squared"], weight.square().expand_as(x), 1e-12)
    expected = attribute(model, x, None, "expected_gradients", references=references, samples=4000)
    close(expected, ((x - references.mean(0)) * weight).sum(1), 0.1)


def test_completeness(net, x):
    maps = attribute(net, x, TARGET, "integrated_gradients", steps=400, baseline=0.0)
    rows = torch.arange(3)
    expected = net(x)[rows, TARGET] - net(torch.zeros_like(x))[rows, TARGET]
    close(maps.sum((1, 2)), expected.detach(), 0.01)


def test_guided_backpropagation_is_not_the_gradient_and_needs_a_relu(net, x):
    maps = attribute_many(net, x, 0, ["gradient", "guided_backprop"])
    assert (maps["gradient"] - maps["guided_backprop"]).abs().max() > 0.01 * maps["gradient"].abs().max()
    smooth = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Flatten(), nn.Linear(3 * 14 * 14, 2)).double()
    with pytest.raises(ValueError, match="found no ReLU in Sequential"):
        attribute(smooth, x, 0, "guided_backprop")


@pytest.mark.parametrize("name", [long(name) if name.startswith("vgg") else name for name in ARCHITECTURES])
def test_architectures_without_relu_are_known(name):
    net = build(name, channels=1, outputs=2, seed=0).eval()
    with torch.no_grad(), ReluBackward("guided") as mode:
        net(torch.zeros(1, 1, 96, 96))
    assert (mode.replaced == 0) == (name in WITHOUT_RELU)


def test_functional_relus_are_guided_too(net, x):
    class Functional(Net):
        def forward(self, x):
            x = torch.relu(self.norm(self.first(x)))
            x = self.pool(self.second(x).relu_())
            return self.out(functional.relu(self.hidden(x.flatten(1)), inplace=True))

    other = Functional().double().eval()
    other.load_state_dict(net.state_dict())
    for method in ("guided_backprop", "deconvolution"):
        close(attribute(other, x, 1, method), attribute(net, x, 1, method), 1e-12)


def test_the_module_stays_as_it_is(net, x):
    net.train()
    net.first.weight.requires_grad_(False)
    net(x).sum().backward()
    seen = []
    net.second.register_forward_hook(lambda *_: seen.append(1))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    flags = {name: p.requires_grad for name, p in net.named_parameters()}

    def unchanged():
        assert [net.training, net.norm.training, net.relu.inplace] == [True] * 3
        assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
        assert all(torch.equal(gradients[name], p.grad) for name, p in net.named_parameters() if name in gradients)
        assert flags == {name: p.requires_grad for name, p in net.named_parameters()}
        assert [len(module._forward_hooks) for module in net.modules()].count(0) == len(list(net.modules())) - 1
        assert x.grad is None

    attribute_many(net, x, 1, ["gradient", "grad_cam", "guided_backprop", "smoothgrad"], **LAYERS)
    unchanged()
    with pytest.raises(ValueError, match="target"):
        attribute(net, x, 7, "grad_cam", layers="second")
    with pytest.raises(ZeroDivisionError):
        attribute(net, x, lambda output: 1 / 0, "guided_backprop")
    unchanged()
    assert functional.relu(torch.tensor([-1.0])).item() == 0


def test_methods_in_threads_do_not_meet(net, x):
    jobs = ["gradient", "guided_backprop", "deconvolution", "grad_cam", "normgrad_scaling", "smoothgrad"] * 4
    alone = {name: attribute(net, x, 1, name, **(LAYERS if "grad_" in name or "cam" in name else {})) for name in jobs}
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(
            lambda name: attribute(net, x, 1, name, **(LAYERS if "grad_" in name or "cam" in name else {})), jobs
        )
        for name, maps in zip(jobs, found, strict=True):
            assert torch.equal(maps, alone[name])


def test_one_forward_and_one_backward_for_the_family(net, x):
    names = [
        "gradient",
        "input_x_gradient",
        "grad_cam",
        *(name for name in METHODS if name.startswith("normgrad")),
    ]
    assert len(names) == 9

    def images(methods):
        CALLS.clear()
        attribute_many(net, x, 1, methods, **LAYERS if len(methods) > 1 else {})
        return sum(CALLS)

    # Folding and the measurement of memory look at the first image.
    assert len(x) <= images(names) <= images(["gradient"]) <= len(x) + 3


@pytest.mark.parametrize("method", [m for m in METHODS if m in (
    "gradient", "grad_cam", "normgrad_conv3x3_multi", "smoothgrad", "integrated_gradients_bw", "guided_grad_cam",
    "expected_gradients",
)])  # fmt: skip
def test_maps_depend_neither_on_the_batch_nor_on_memory(method, net, x):
    options = {}
    if method in ("grad_cam", "normgrad_conv3x3_multi"):
        options = LAYERS
    if method == "guided_grad_cam":
        options = {"layers": ["second"]}
    if method == "expected_gradients":
        options = {"references": x.flip(0), "samples": 5}
    together = attribute(net, x, TARGET, method, **options)
    close(attribute(net, x, TARGET, method, memory_gb=1e-9, **options), together, 1e-10)
    close(attribute(net, x[:1], TARGET[:1], method, **options), together[:1], 1e-10)


def test_targets(net, x):
    out = net(x)
    for target, value in (
        (1, out[:, 1]),
        (TARGET, out[torch.arange(3), TARGET]),
        (lambda output: output.square().sum(1), out.square().sum(1)),
        (lambda output: output.mean(1), out.mean(1)),
    ):
        close(Explained(net, target).value(x), value.detach(), 1e-10)
    torch.manual_seed(0)
    single = Net(1).double().eval()
    logit = single(x)[:, 0].detach()
    close(Explained(single, 0).value(x), -logit, 1e-10)
    close(Explained(single, torch.tensor([1, 0, 1])).value(x), logit * torch.tensor([1.0, -1, 1]), 1e-10)


@pytest.mark.parametrize("name", ["resnet34", "efficientnet_b0", long("vgg16"), "small_resnet"])
def test_folded_networks_are_the_same(name):
    net = build(name, channels=1, outputs=2, seed=0).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    folded = copy.deepcopy(net)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert fold_batch_norm(folded, x[:1]) == norms
    close(folded(x).detach(), net(x).detach(), 1e-9)


@pytest.mark.parametrize("name", ["small_resnet", "resnet34", "xception"])
def test_working_in_place_changes_nothing_or_is_not_done(name):
    net = build(name, channels=1, outputs=3, seed=0).eval()
    torch.manual_seed(0)
    trial, other = torch.randn(1, 1, 96, 96), torch.randn(2, 1, 96, 96)
    expected = net(other)
    work_in_place(net, trial)
    torch.testing.assert_close(net(other), expected)


def test_a_convolution_that_others_read_too_is_not_folded(x):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return (y + self.norm(y)).sum((2, 3))

    net = Both().double().eval()
    net.norm.running_mean.normal_()
    assert fold_batch_norm(net, x[:1]) == 0
    assert torch.equal(net.norm(net.conv(x)), functional.batch_norm(
        net.conv(x), net.norm.running_mean, net.norm.running_var, net.norm.weight, net.norm.bias
    ))  # fmt: skip


def test_alignment_puts_a_cell_where_the_stride_has_it():
    maps = torch.zeros(1, 4, 4, dtype=torch.float64)
    maps[0, 1, 2] = 1
    centred = onto_image(maps, (32, 32), "centred")[0]
    assert divmod(int(centred.argmax()), 32) == (8, 16)
    published = onto_image(maps, (32, 32), "published")[0]
    weights = published / published.sum()
    rows = torch.arange(32, dtype=torch.float64)
    assert float((weights.sum(1) * rows).sum()) == pytest.approx(11.5)  # (stride - 1) / 2 lower
    assert float((weights.sum(0) * rows).sum()) == pytest.approx(19.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "grad"}, "method: found 'grad', expected one of gradient, "),
        ({"method": "grad_cam", "layers": "secnd"}, "layers: found 'secnd', expected a name .* such as .'second'"),
        ({"method": "grad_cam", "layers": "hidden"}, r"layer hidden: found \(3, 10\), expected maps"),
        ({"method": "gradient", "samples": 3}, "option: found 'samples'"),
        ({"method": "gradient", "memory_gb": 0}, "memory_gb: found 0"),
        ({"method": "smoothgrad", "samples": 0}, "samples=0"),
        ({"method": "grad_cam", "layers": "second", "alignment": "left"}, "alignment: found 'left'"),
        ({"method": "gradient", "target": torch.tensor([0, 1])}, "expected 3 classes"),
    ],
)
def test_what_is_wrong_is_said(net, x, options, message):
    with pytest.raises(ValueError, match=message):
        attribute(net, x, options.pop("target", 0), **options)
    with pytest.raises(ValueError, match="expected \\(n, c, h, w\\) of floats"):
        attribute(net, x[0], 0)


def test_ensembles_have_a_map_of_the_mean_a_mean_of_maps_and_a_spread(net, x):
    torch.manual_seed(5)
    members = [net, Net().double().eval(), Net().double().eval()]
    single = torch.stack([attribute(member, x, TARGET) for member in members])
    found = attribute_ensemble(members, x, TARGET)
    close(found.mean, single.mean(0), 1e-12)
    close(found.spread, single.std(0), 1e-12)
    close(found.of_mean, single.mean(0), 1e-10)  # the gradient is linear
    guided = attribute_ensemble(members, x, TARGET, "grad_cam", layers=["second"])
    assert guided.of_mean is None
    assert guided.mean.shape == (3, 16, 16)
    with pytest.raises(ValueError, match="members: found 1"):
        attribute_ensemble(members[:1], x, TARGET)


def midpoint_um(outputs):
    """Mean of the twelve predicted thicknesses."""
    return outputs[0].mean(1)


def test_contrast_detail_curves_are_explained_through_the_same_verb():
    members = [small_net(seed).double().eval() for seed in range(3)]
    x = torch.randn(2, 1, 22, 22, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = PlainGradient(members, torch.float64)
    gradients = torch.from_numpy(exact.run(x[:, 0].numpy(), gradients=True)[1])
    found = attribute_ensemble(members, x, midpoint_um)
    close(found.mean, gradients.mean(0), 1e-10)
    close(found.spread, gradients.std(0), 1e-10)
    close(found.of_mean, gradients.mean(0), 1e-10)
    maps = attribute_many(
        members[0], x, midpoint_um, ["integrated_gradients", "normgrad_conv1x1_multi", "grad_cam"],
        steps=50, layers=["conv3"], multi_layers=["conv2", "conv3"],
    )  # fmt: skip
    assert all(values.shape == (2, 22, 22) for values in maps.values())
    black = x.amin((1, 2, 3), keepdim=True).expand_as(x)
    promised = midpoint_um(members[0](x)) - midpoint_um(members[0](black))
    close(maps["integrated_gradients"].sum((1, 2)), promised.detach(), 0.02)


def test_smooth_variants_are_means_over_noisy_copies(net, x):
    expected = attribute(net, x, TARGET, "smoothgrad", samples=4, noise_level=0.1)
    close(attribute(net, x, TARGET, "gradient", smooth_samples=4, smooth_noise_level=0.1), expected, 1e-10)
    smooth = attribute(net, x, TARGET, "blur_ig", steps=3, smooth_samples=4, smooth_noise_level=0.1)
    copies = noisy_copies(x, 4, 0.1, 0)
    close(smooth, torch.stack([attribute(net, copy, TARGET, "blur_ig", steps=3) for copy in copies]).mean(0), 1e-10)
    assert not torch.equal(expected, attribute(net, x, TARGET, "gradient"))
    with pytest.raises(ValueError, match="found a compiled module"):
        attribute(torch.jit.trace(net, x), x, TARGET)
