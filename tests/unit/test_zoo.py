"""Every network is the one its name says, and its layers can be found, hooked and differentiated."""

import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from cases import long
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from xiqa.models import zoo
from xiqa.models.torchvision_import import import_timm
from xiqa.registry import ARCHITECTURES

ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.Sigmoid)
INCEPTIONS = ("inception_v3", "inception_resnet_v2")


class Operations(TorchDispatchMode):
    """Counts torch's operations, whoever calls them."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count[operation._schema.name.removeprefix("aten::")] += 1
        return operation(*args, **(kwargs or {}))


def map_side(architecture: str, side: int) -> int:
    """Side of the last feature map, from the layers that the papers of the architectures describe."""

    def valid(side: int, stride: int) -> int:
        return (side - 3) // stride + 1

    if architecture in INCEPTIONS:
        for stride in (2, 1, 2, 1, 2, 2, 2):  # 3 x 3 without padding; what lies between keeps the size
            side = valid(side, stride)
        return side
    if architecture == "xception":
        side = valid(valid(side, 2), 1)
        return -(-side // 16)
    return side // 16 if "vgg" in architecture else -(-side // 32)


# Of those that are large, one like them is left: vgg16, inception_v3.
LARGE = ("vgg19", "inception_resnet_v2")


@pytest.fixture(scope="module", params=[long(name) if name in LARGE else name for name in ARCHITECTURES])
def passed(request):
    """One architecture after one pass forward and backward, with everything that hooks saw."""
    name = request.param
    net = zoo.build(name, channels=1, outputs=2, seed=1).eval().requires_grad_(False)
    side = 107 if name in INCEPTIONS else 32 if name.startswith("vgg") else 64
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    maps, forward, backward = {}, Counter(), Counter()
    activations = {key: module for key, module in net.named_modules() if isinstance(module, ACTIVATIONS)}
    hooks = []
    for key, module in activations.items():
        hooks.append(module.register_forward_hook(lambda *_, key=key: forward.update([key])))
        hooks.append(module.register_full_backward_hook(lambda *_, key=key: backward.update([key])))
    for layer in {*zoo.multi_layers(name), zoo.cam_layer(name)}:
        module = net.get_submodule(layer)
        hooks.append(module.register_forward_hook(lambda *args, layer=layer: maps.update({layer: args[2]})))
    with Operations() as operations:
        logits = net(x)
    gradients = dict(zip(maps, torch.autograd.grad(logits[0, 1], [*maps.values()], retain_graph=True), strict=True))
    backward.clear()
    logits[0, 1].backward()
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(**locals())


def test_every_configured_architecture_is_in_the_table():
    assert list(zoo.TABLE) == list(ARCHITECTURES)


def test_last_map_has_the_side_that_follows_from_the_paper(passed):
    features = passed.maps[zoo.cam_layer(passed.name)]
    assert features.shape[2:] == (map_side(passed.name, passed.side),) * 2


def test_stated_stride_is_the_limit_for_large_images(passed):
    entry, side = zoo.TABLE[passed.name], 32 * 1000
    assert side / map_side(passed.name, side) == pytest.approx(entry.stride, rel=0.005)


def test_every_named_layer_gives_a_map_with_a_gradient(passed):
    layers = zoo.multi_layers(passed.name)
    sides = [passed.maps[layer].shape[2] for layer in layers]
    assert sides == sorted(sides, reverse=True)
    assert len(set(layers)) == len(layers) >= 4
    assert layers[-1] == zoo.cam_layer(passed.name)
    for gradient in passed.gradients.values():
        assert gradient.ndim == 4
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_classifier_of_the_pooled_map_gives_the_logits(passed):
    entry, last = zoo.TABLE[passed.name], zoo.classifier(passed.net, passed.name)
    penultimate = zoo.features(passed.net, passed.x)
    assert penultimate.shape == (1, last.weight[0].numel())
    if entry.pooled:
        torch.testing.assert_close(penultimate, passed.maps[entry.cam].mean((2, 3)))
    torch.testing.assert_close(penultimate @ last.weight.flatten(1).T + last.bias, passed.logits)


def test_every_activation_is_a_module_used_once_and_not_in_place(passed):
    assert passed.forward == passed.backward == dict.fromkeys(passed.activations, 1)
    used = {key: n for key, n in passed.operations.count.items() if any(a in key for a in ("relu", "silu", "sigmoid"))}
    kinds = Counter(type(module).__name__.lower() for module in passed.activations.values())
    assert used == kinds


def test_gradient_reaches_the_input_through_activations_only(passed):
    assert passed.x.grad.isfinite().all()
    assert passed.x.grad.abs().max() > 0
    x = passed.x.detach().requires_grad_()
    hooks = [m.register_full_backward_hook(lambda *args: (0 * args[1][0],)) for m in passed.activations.values()]
    passed.net(x).sum().backward()
    for hook in hooks:
        hook.remove()
    assert (x.grad == 0).all()


def test_smallest_input_gives_a_map(passed):
    smallest = ARCHITECTURES[passed.name].smallest_px
    assert passed.net(torch.zeros(1, 1, smallest, smallest)).shape == (1, 2)
    assert map_side(passed.name, smallest) >= 1
    if passed.name in INCEPTIONS:
        assert map_side(passed.name, smallest - 1) < 1
    zoo.check_size(passed.name, smallest)
    with pytest.raises(ValueError, match=f"{passed.name}: found images of {smallest - 1} px, expected {smallest} px"):
        zoo.check_size(passed.name, smallest - 1)


def test_layers_are_those_that_timm_names(passed):
    entry = zoo.TABLE[passed.name]
    if not entry.source:
        pytest.skip("our own network")
    pretrained = import_timm().get_pretrained_cfg(entry.source)
    assert pretrained.classifier == entry.classifier
    # xiqa.models.weights takes the first convolution of the network for the one at the input.
    first = next(name for name, module in passed.net.named_modules() if isinstance(module, nn.Conv2d))
    assert pretrained.first_conv == first
    assert passed.net.get_submodule(first).in_channels == 1


def test_efficientnet_layers_are_those_of_paper_ozer():
    """The paper counts in torchvision's network: with its weights, ours has the same maps at the same places."""
    import_timm()
    from torchvision.models import efficientnet_b0

    with torch.device("meta"):
        theirs = efficientnet_b0(num_classes=2)
    zoo.initialise(theirs.to_empty(device="cpu"), 3)
    ours = zoo.build("efficientnet_b0", channels=3, outputs=2, seed=0)
    pairs = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(pairs))
    paper = ["features.0.0", *(f"features.{k}.0" for k in range(1, 8)), "features.8.0", "features.8.2"]
    seen = {}
    for net, layers in ((ours, zoo.multi_layers("efficientnet_b0")), (theirs, paper)):
        for place, layer in enumerate(layers):
            # Copied: torchvision's activations write over their input.
            net.get_submodule(layer).register_forward_hook(
                lambda *args, key=(net is ours, place): seen.update({key: args[2].clone()})
            )
        net.eval()(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(seen) == 20
    for place in range(10):
        torch.testing.assert_close(seen[True, place], seen[False, place])


@pytest.mark.parametrize("architecture", ["small_resnet", "efficientnet_b0"])
def test_weights_follow_from_the_seed_alone(architecture):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = zoo.build(architecture, channels=1, outputs=2, seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected), "torch's own random numbers were used"
    same = zoo.build(architecture, channels=1, outputs=1, seed=1).state_dict()
    other = zoo.build(architecture, channels=1, outputs=2, seed=2).state_dict()
    last = zoo.TABLE[architecture].classifier
    assert all(torch.equal(first[name], same[name]) for name in first if not name.startswith(last))
    drawn = [name for name in first if first[name].ndim > 1]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_weights_have_the_variance_of_he_initialisation():
    net = zoo.build("resnet34", channels=3, outputs=1000, seed=0)
    for layer, fan_in in (("layer4.2.conv1", 512 * 9), ("fc", 512), ("conv1", 3 * 49)):
        weight = net.get_submodule(layer).weight
        assert weight.var().item() == pytest.approx(2 / fan_in, rel=5 * (2 / weight.numel()) ** 0.5)
    assert (net.bn1.weight == 1).all()
    assert (net.layer4[2].bn2.weight == 1).all(), "a block that starts as identity would hide random weights"
    assert (net.bn1.running_var == 1).all()


def test_layer_of_unknown_kind_is_not_left_without_weights():
    with pytest.raises(TypeError, match="LayerNorm"):
        zoo.initialise(nn.Sequential(nn.LayerNorm(3)), 0)


def test_options_of_the_small_network():
    x = torch.rand(2, 3, 96, 96)
    coarse = zoo.build("small_resnet", channels=3, outputs=4, seed=0).eval()
    fine = zoo.build("small_resnet", channels=3, outputs=4, seed=0, options={"first_pooling": False}).eval()
    assert coarse.forward_features(x).shape == (2, 128, 3, 3)
    assert fine.forward_features(x).shape == (2, 128, 6, 6)
    wide = zoo.build("small_resnet", channels=3, outputs=4, seed=0, options={"width": 8, "blocks": 2})
    assert zoo.features(wide, x).shape == (2, 64)
    # Per stage and block two convolutions; three stages change their shape; and the stem.
    assert sum(isinstance(module, nn.Conv2d) for module in wide.modules()) == 4 * 2 * 2 + 3 + 1
    torch.testing.assert_close(coarse.to(memory_format=torch.channels_last)(x), coarse(x.contiguous()))


@pytest.mark.parametrize(
    ("architecture", "given", "message"),
    [
        ("resnet18", {}, "found 'resnet18', expected one of small_resnet, small_vgg, resnet34"),
        ("resnet34", {"channels": 2}, "resnet34: found 2 channels, 2 outputs; expected 1 or 3"),
        ("resnet34", {"outputs": 0}, "found 1 channels, 0 outputs; expected 1 or 3, and 1 or more"),
        ("resnet34", {"options": {"first_pooling": False}}, "found options \\['first_pooling'\\], it knows none"),
        ("small_resnet", {"options": {"depth": 2}}, "'width', 'blocks', 'first_pooling'"),
    ],
)
def test_wrong_requests_are_refused(architecture, given, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(architecture, **({"channels": 1, "outputs": 2, "seed": 0} | given))


def test_small_network_needs_no_timm():
    code = """
import sys
from xiqa.models.zoo import build
build("small_resnet", channels=1, outputs=2, seed=0)
print(sorted({"timm", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_operator_says_so_when_called():
    import_timm()
    if not hasattr(import_timm, "declared"):
        pytest.skip("torchvision's operators belong to this torch")
    with pytest.raises(NotImplementedError, match="torchvision::nms"):
        torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
