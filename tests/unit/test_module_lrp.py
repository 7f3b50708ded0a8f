"""LRP of any module: against the LRP of the CDC network, captum, closed forms, and what must hold."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import long
from torch import Tensor, nn
from torch.nn import functional

from xiqa.models.small_resnet import SmallResNet
from xiqa.models.zoo import TABLE, build
from xiqa.saliency import attribute, lrp
from xiqa.saliency.explained import Explained

EPSILON = {"convolutions": "epsilon", "linear": "epsilon", "input_layer": "epsilon"}
QUICK = ("small_resnet", "resnet34", "densenet121", "efficientnet_b0")
RULES = [{}, EPSILON, {"linear": "z_plus"}, {"input_layer": "flat"}, {"input_layer": "z_plus"}]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomise(net, seed=0, biases=True):
    """All numbers random, in float64 and evaluation mode; without biases every layer is linear and not only affine."""
    generator = torch.Generator().manual_seed(seed)
    net.double().eval()
    with torch.no_grad():
        for name, values in [*net.named_parameters(), *net.named_buffers()]:
            if not values.is_floating_point():
                continue
            if name.endswith("running_var") or (values.ndim == 1 and name.endswith("weight")):
                values.uniform_(0.5, 1.5, generator=generator)
            elif values.ndim > 1:
                values.normal_(0, (2 / values[0].numel()) ** 0.5, generator=generator)
            else:
                values.normal_(0, 0.3 if biases else 0, generator=generator)
    return net


def sequential(seed=0, biases=True):
    return randomise(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(6 * 4, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        ),
        seed,
        biases,
    )


def resnet(seed=0, biases=True, **options):
    return randomise(SmallResNet(2, 3, width=3, **options), seed, biases)


class Functional(nn.Module):
    """The same residual network by functions: additions in all spellings, constants, concatenation, two branches."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.third = nn.Conv2d(8, 4, 1, bias=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = functional.relu(self.first(x), inplace=True)
        y = self.second(x)
        y += x
        y = functional.leaky_relu(y - 0.1 * x)
        y = torch.cat([y, torch.add(x, y, alpha=0.5)], 1)
        y = self.third(y).relu_().add(0.3) / 2
        left, right = functional.max_pool2d(y, 2).chunk(2, 2)
        pooled = torch.cat([functional.adaptive_avg_pool2d(left, 1), right.mean((2, 3), keepdim=True)], 1)
        return self.last(pooled.flatten(1))


class Mean(nn.Module):
    """The curve of a CDC network, without its variances, as one output for each point."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)[0]


def close(found, expected, tolerance=1e-9):
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=float(tolerance * scale))


# Closed forms


def test_two_layers_by_hand():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
        net[0].bias.copy_(torch.tensor([1.0, 0.0]))
        net[2].weight.copy_(torch.tensor([[2.0, 4.0]]))
        net[2].bias.copy_(torch.tensor([1.0]))
    # x = (1, 2): hidden (1 + 4 + 1, 3 - 2) = (6, 1), output 12 + 4 + 1 = 17, hidden relevance (12, 4).
    # First unit: 12 · (1, 4) / 6; second: 4 · (3, -2) / 1.
    x = torch.tensor([1.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    target = Explained(nn.Sequential(nn.Flatten(), net.double()))
    found = lrp.relevance(target, x, **EPSILON, epsilon=1e-12)
    close(found.maps.flatten(), torch.tensor([2.0 + 12, 8 - 8], dtype=torch.float64))
    # The biases: 1 of the output, 12 · 1 / 6 of the first unit.
    close(found.absorbed, torch.tensor([3.0], dtype=torch.float64))
    close(lrp.completeness_error(target, x, "lrp", found.maps), torch.tensor([-3.0], dtype=torch.float64))
    # z⁺ on the first layer: 12 · (1, 4) / 5, and all 4 to the first pixel.
    found = lrp.explain(target, x, linear="epsilon", input_layer="z_plus", epsilon=1e-12)
    close(found.flatten(), torch.tensor([12 / 5 + 4, 48 / 5], dtype=torch.float64))
    # w²: 12 · (1, 4) / 5 + 4 · (9, 1) / 10; flat: halves.
    found = lrp.explain(target, x, input_layer="w_squared", epsilon=1e-12)
    close(found.flatten(), torch.tensor([12 / 5 + 36 / 10, 48 / 5 + 4 / 10], dtype=torch.float64))
    found = lrp.explain(target, x, input_layer="flat", epsilon=1e-12)
    close(found.flatten(), torch.tensor([8.0, 8.0], dtype=torch.float64))


def test_an_addition_splits_relevance_in_proportion_to_the_summands():
    class Around(nn.Module):
        def forward(self, x):
            return (x + 3 * x[:, :, :, [1, 0]]).flatten(1)

    x = torch.tensor([1.0, 5.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    # Outputs 1 + 15 and 5 + 3; the first has its relevance 16 from 1 and 15.
    found = lrp.explain(Explained(Around(), 0), x, epsilon=1e-12)
    close(found.flatten(), torch.tensor([1.0, 15.0], dtype=torch.float64))


def test_max_pooling_gives_all_to_the_winner():
    x = torch.tensor([[1.0, 7.0], [3.0, 2.0]], dtype=torch.float64)[None, None]
    found = lrp.explain(Explained(nn.MaxPool2d(2)), x)
    close(found[0, 0], torch.tensor([[0.0, 7.0], [0.0, 0.0]], dtype=torch.float64))


def test_batch_norm_in_front_shares_by_absolute_values():
    net = nn.Sequential(nn.BatchNorm2d(2, eps=0), nn.ReLU(), nn.Flatten()).double().eval()
    with torch.no_grad():
        net[0].running_mean.copy_(torch.tensor([2.0, 1.0]))
        net[0].running_var.copy_(torch.tensor([4.0, 1.0]))
        net[0].weight.copy_(torch.tensor([6.0, 2.0]))
        net[0].bias.copy_(torch.tensor([1.0, 5.0]))
    # 3 x - 5 and 2 x + 3: of 4 the input 3 gets 9 / 14, of 7 the input 2 gets 4 / 7; a dead unit hands nothing on.
    for x, expected in (([3.0, 2.0], [4 * 9 / 14, 4.0]), ([1.0, -1.0], [0.0, 1 * 2 / 5])):
        x = torch.tensor(x, dtype=torch.float64).reshape(1, 2, 1, 1)
        found = lrp.relevance(Explained(net, lambda output: output.sum(1)), x)
        close(found.maps.flatten(), torch.tensor(expected, dtype=torch.float64))
        close(found.maps.sum((1, 2, 3)) + found.absorbed, found.output)


def test_batch_norm_by_keywords_is_the_same():
    class Keywords(nn.Module):
        def forward(self, x):
            given = {"running_mean": x.new_tensor([1.0, 2.0]), "running_var": x.new_tensor([4.0, 9.0])}
            return functional.batch_norm(x, **given).flatten(1)

    net = nn.Sequential(nn.BatchNorm2d(2, affine=False), nn.Flatten()).double().eval()
    net[0].running_mean.copy_(torch.tensor([1.0, 2.0]))
    net[0].running_var.copy_(torch.tensor([4.0, 9.0]))
    x = normal(2, 2, 4, 4)
    close(lrp.explain(Explained(Keywords(), 3), x), lrp.explain(Explained(net, 3), x))


def test_gates_are_constant_factors():
    class Gated(nn.Module):
        """Squeeze and excitation, with the gates of one image or computed from it."""

        def __init__(self, gate):
            super().__init__()
            self.conv, self.gate, self.last = nn.Conv2d(2, 4, 3), gate, nn.Linear(4, 3)

        def forward(self, x):
            x = functional.silu(self.conv(x))
            gate = self.gate if isinstance(self.gate, Tensor) else self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
            return self.last((x * gate).mean((2, 3)))

    net, x = randomise(Gated(nn.Conv2d(4, 4, 1))), normal(1, 2, 8, 8)
    gates = net.gate(functional.silu(net.conv(x)).mean((2, 3), keepdim=True)).sigmoid().detach()
    constant = Gated(gates).double()
    constant.load_state_dict(net.state_dict(), strict=False)
    close(lrp.explain(Explained(net, 1), x), lrp.explain(Explained(constant, 1), x))


@pytest.mark.parametrize(
    "net", [sequential(1), resnet(2), resnet(3, blocks=2, first_pooling=False), randomise(Functional())]
)
@pytest.mark.parametrize("target", [lambda output: output.mean(1), 2])
def test_epsilon_rule_everywhere_without_stabiliser_is_input_x_gradient(net, target):
    # Ancona et al. 2018, proposition 1; it holds for any way through additions, poolings and factors.
    x = normal(3, 2, 16, 16)
    explained = Explained(net, target)
    maps = lrp.explain(explained, x, **EPSILON, epsilon=1e-300)
    close(maps, x * explained.gradient(x))


def test_output_of_a_single_logit_takes_its_sign():
    net, x = nn.Sequential(nn.Flatten(), randomise(nn.Linear(8, 1))), normal(1, 2, 2, 2)
    raised, lowered = (lrp.explain(Explained(net, target), x) for target in (1, 0))
    close(raised, -lowered)


# What must hold


@pytest.mark.parametrize("make", [sequential, resnet])
@pytest.mark.parametrize("rules", RULES)
def test_relevance_is_conserved_without_biases(make, rules):
    target, x = Explained(make(4, biases=False), 1), normal(2, 2, 16, 16)
    found = lrp.relevance(target, x, **rules, epsilon=1e-12)
    close(found.maps.sum((1, 2, 3)), target.value(x), 1e-6)
    assert lrp.completeness_error(target, x, "lrp", found.maps).abs().max() < 1e-6 * target.value(x).abs().max()


@pytest.mark.parametrize("rules", RULES)
def test_what_biases_take_is_accounted_for(rules):
    target, x = Explained(resnet(4), 1), normal(2, 2, 16, 16)
    found = lrp.relevance(target, x, **rules)
    close(found.output, target.value(x))
    close(found.maps.sum((1, 2, 3)) + found.absorbed, found.output)
    close(lrp.completeness_error(target, x, "lrp", found.maps), -found.absorbed)


def test_batch_is_image_by_image_and_any_split_of_memory():
    net, x = resnet(5), normal(5, 2, 16, 16)
    classes = torch.tensor([0, 2, 1, 1, 0])
    maps = lrp.explain(Explained(net, classes), x)
    close(lrp.explain(Explained(net, classes, memory_gb=1e-6), x), maps, 1e-12)
    for number in range(5):
        close(lrp.explain(Explained(net, int(classes[number])), x[number : number + 1])[0], maps[number], 1e-12)


def test_the_target_is_as_it_was_afterwards():
    target, x = Explained(resnet(6), 0), normal(2, 2, 16, 16)
    before = target.gradient(x)
    maps = lrp.explain(target, x)
    assert torch.equal(target.gradient(x), before)
    assert torch.equal(lrp.explain(target, x), maps)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in target.net.modules())


@pytest.mark.parametrize("architecture", [name if name in QUICK else long(name) for name in TABLE if "vgg" not in name])
def test_every_architecture_accounts_for_all_relevance(architecture):
    net = randomise(build(architecture, channels=1, outputs=2, seed=0))
    target, x = Explained(net, 1), normal(1, 1, 75, 75)
    found = lrp.relevance(target, x)
    close(found.output, target.value(x))
    close(found.maps.sum((1, 2, 3)) + found.absorbed, found.output)
    assert found.maps.isfinite().all()
    assert found.maps.abs().max() > 0


# Independent implementations


class Residual(nn.Module):
    """A block whose addition is `addition`, for captum a module."""

    def __init__(self, addition):
        super().__init__()
        self.addition = addition
        self.before, self.inner, self.last = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 3)
        self.first_relu, self.second_relu = nn.ReLU(), nn.ReLU()
        self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x):
        x = self.first_relu(self.before(x))
        return self.last(self.flat(self.pool(self.second_relu(self.addition(self.inner(x), x)))))


def captum_lrp(net, x, convolutions="epsilon"):
    """Its epsilon rule 1e-9 everywhere, or z⁺ for all convolutions but the first, from output 1."""
    from captum.attr import LRP
    from captum.attr._utils import lrp_rules

    first = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer is not first and convolutions == "z_plus":
            layer.rule = lrp_rules.Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif not any(layer.children()) and not isinstance(layer, nn.ReLU | nn.Dropout):
            layer.rule = lrp_rules.EpsilonRule(epsilon=1e-9)
    return LRP(net).attribute(x.clone().requires_grad_(), target=1).detach()


@pytest.mark.parametrize("convolutions", ["epsilon", "z_plus"])
@pytest.mark.parametrize("residual", [False, True])
def test_network_as_captum(convolutions, residual):
    pytest.importorskip("captum.attr", reason="captum is not installed: pip install -e '.[oracles]'")
    from captum.attr._utils.custom_modules import Addition_Module

    x, options = normal(3, 2, 16, 16), EPSILON | {"convolutions": convolutions, "epsilon": 1e-9}
    net = randomise(Residual(torch.add), 8) if residual else sequential(7)
    theirs_net = Residual(Addition_Module()).double() if residual else sequential(7)
    theirs_net.load_state_dict(net.state_dict())
    ours = lrp.explain(Explained(net, 1), x, **options)
    close(ours, captum_lrp(theirs_net, x, convolutions), 1e-6)


@pytest.fixture(scope="module", params=["random", "trained"])
def golden(request):
    """The network of tests/golden/relevance.py and its maps there."""
    with np.load(Path(__file__).with_name("golden_relevance.npz")) as arrays:
        maps = {key: torch.from_numpy(arrays[key]) for key in arrays if arrays[key].ndim}
    start = f"{request.param} "
    weights = {key.removeprefix(f"{start}weights "): maps.pop(key) for key in list(maps) if f"{start}weights " in key}
    layers = {
        "conv1": nn.Conv2d(2, 5, 3, padding=1), "norm1": nn.BatchNorm2d(5, eps=1e-12), "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2), "conv2": nn.Conv2d(5, 6, 3, stride=2, padding=1),
        "norm2": nn.BatchNorm2d(6, eps=1e-12), "relu2": nn.ReLU(), "pool2": nn.AvgPool2d(2), "flatten": nn.Flatten(),
        "linear1": nn.Linear(54, 8), "relu3": nn.ReLU(), "linear2": nn.Linear(8, 2),
    }  # fmt: skip
    net = nn.Sequential(OrderedDict(layers)).double().eval()
    net.load_state_dict(weights)
    return net, maps["x"], maps["targets"], {key.removeprefix(start): value for key, value in maps.items()}


@pytest.mark.parametrize("hidden", ["epsilon", "z_plus"])
@pytest.mark.parametrize("first", ["w_squared", "flat", "epsilon"])
def test_network_as_zennit(golden, hidden, first):
    net, x, targets, theirs = golden
    rules = {"convolutions": hidden, "linear": "epsilon", "input_layer": first, "epsilon": 1e-9}
    close(lrp.explain(Explained(net, targets), x, **rules), theirs[f"lrp {hidden} {first}"], 1e-6)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gradient", {"reduce_channels": False}),
        ("guided_backprop", {"reduce_channels": False}),
        ("grad_cam", {"layers": ["relu2"], "normalise": False}),
        ("occlusion", {"patch": 4, "stride": 4}),
    ],
)
def test_network_as_monai(golden, method, options):
    net, x, targets, theirs = golden
    ours, expected = attribute(net, x, targets, method, **options), theirs[method]
    if method == "grad_cam":
        expected = functional.interpolate(expected[:, None], x.shape[2:], mode="bilinear")[:, 0]
    close(ours, expected.double(), 5e-6 if method == "occlusion" else 1e-6)  # occlusion is float32 there


# Refusals


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.LogSigmoid(), r"found log_sigmoid in module '1' \(LogSigmoid\)"),
        (nn.BatchNorm2d(4), None),
        (nn.Softmax(1), "explain a logit"),
        (nn.GroupNorm(2, 4), r"found group_norm in module '1' \(GroupNorm\)"),
        (nn.ConvTranspose2d(4, 4, 3), r"conv_transpose2d in module '1'"),
    ],
)
def test_layers_without_a_rule_are_named(layer, message):
    net = randomise(nn.Sequential(nn.Conv2d(2, 4, 3), layer, nn.Flatten()))
    target, x = Explained(net, 0), normal(1, 2, 8, 8)
    if message is None:
        assert lrp.explain(target, x).shape == x.shape
    else:
        with pytest.raises(ValueError, match=message):
            lrp.explain(target, x)


class _NormalisesByBatch(nn.Module):
    """Batch normalisation by the batch, with running statistics that it only updates."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("variance", torch.ones(2))

    def forward(self, x):
        return nn.functional.batch_norm(x, self.mean, self.variance, training=True)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(2, track_running_stats=False), _NormalisesByBatch()])
def test_batch_norm_by_the_batch_is_named(layer):
    net = randomise(nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 2)))
    name = type(layer).__name__
    found = rf"found batch_norm in module '0' \({name}\)|found {name} '0' without|batch_norm\(training=True\)"
    with pytest.raises(ValueError, match=rf"({found}).*running statistics"):
        lrp.explain(Explained(net, 0), normal(1, 2, 4, 4))


def test_probabilities_are_refused():
    net = randomise(nn.Sequential(nn.Flatten(), nn.Linear(8, 1), nn.Sigmoid()))
    with pytest.raises(ValueError, match="expected logits"):
        lrp.explain(Explained(net), normal(1, 2, 2, 2))


@pytest.mark.parametrize("forward", [lambda x: x * x, lambda x: 1 / x, lambda x: x * x.mean((2, 3), keepdim=True)])
def test_products_of_activations_are_refused(forward):
    class Product(nn.Module):
        def forward(self, x):
            return forward(x).flatten(1)

    with pytest.raises(ValueError, match=r"in forward \(Product\)"):
        lrp.explain(Explained(Product()), normal(1, 2, 4, 4))


def test_functions_called_for_what_they_do_in_place_are_noticed():
    class InPlace(nn.Module):
        def forward(self, x):
            y = 2 * x
            y.add_(1)
            return y.flatten(1)

    with pytest.raises(ValueError, match="without using what it returns"):
        lrp.explain(Explained(InPlace(), 0), normal(1, 2, 4, 4))


def test_compiled_modules_are_refused():
    target = Explained(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0)
    target.net[1] = torch.jit.script(target.net[1])
    with pytest.raises(ValueError, match="compiled module '1'"):
        lrp.explain(target, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize(
    "options", [{"convolutions": "flat"}, {"linear": "w_squared"}, {"input_layer": "gamma"}, {"epsilon": 0.0}]
)
def test_unknown_rules_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        lrp.explain(Explained(sequential(), 0), normal(1, 2, 16, 16), **options)
