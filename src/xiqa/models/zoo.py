"""The classifiers by name: how each is built, and which of its layers explanations and embeddings use."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xiqa.models.small_resnet import SmallResNet
from xiqa.models.small_vgg import SmallVgg
from xiqa.models.torchvision_import import import_timm
from xiqa.registry import ARCHITECTURES
from xiqa.seeds import stream_seed


@dataclass(frozen=True)
class Entry:
    """What is known of one architecture. Names of layers are those of `net.named_modules()`.

    Attributes:
        source: timm's name of the network and, behind the dot, of its ImageNet weights; empty for our own networks.
        cam: the last feature map before pooling, behind its activation.
        multi: layers for methods that join several, coarsest last.
        classifier: the last layer; what enters it are the penultimate features.
        stride: pixels of the input per pixel of the `cam` map.
        pooled: the logits are the classifier applied to the global average of the `cam` map.
    """

    source: str
    cam: str
    multi: tuple[str, ...]
    classifier: str
    stride: int = 32
    pooled: bool = True


OWN = {"small_resnet": SmallResNet, "small_vgg": SmallVgg}
_RESNET_LAYERS = ("layer2.0", "layer3.0", "layer4.0", "layer4.2")
TABLE: dict[str, Entry] = {
    "small_resnet": Entry("", "stages.3", ("stages.0", "stages.1", "stages.2", "stages.3"), "fc"),
    "small_vgg": Entry("", "stages.4", ("stages.1", "stages.2", "stages.3", "stages.4"), "fc", stride=16),
    "resnet34": Entry("resnet34.tv_in1k", "layer4.2", _RESNET_LAYERS, "fc"),
    "resnet50": Entry("resnet50.tv_in1k", "layer4.2", _RESNET_LAYERS, "fc"),
    "efficientnet_b0": Entry(
        "efficientnet_b0.ra_in1k",
        "bn2",
        ("conv_stem", *(f"blocks.{stage}.0" for stage in range(7)), "conv_head", "bn2"),
        "classifier",
    ),
    "vgg16": Entry(
        "vgg16.tv_in1k",
        "features.29",
        ("features.8", "features.15", "features.22", "features.29"),
        "head.fc",
        stride=16,
        pooled=False,
    ),
    "vgg19": Entry(
        "vgg19.tv_in1k",
        "features.35",
        ("features.8", "features.17", "features.26", "features.35"),
        "head.fc",
        stride=16,
        pooled=False,
    ),
    "resnet50v2": Entry(
        "resnetv2_50.a1h_in1k",
        "norm",
        ("stages.1.blocks.0", "stages.2.blocks.0", "stages.3.blocks.0", "norm"),
        "head.fc",
    ),
    "densenet121": Entry(
        "densenet121.tv_in1k",
        "features.norm5",
        ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"),
        "classifier",
    ),
    "xception": Entry("legacy_xception.tf_in1k", "act4", ("block2", "block3", "block12", "act4"), "fc"),
    "inception_v3": Entry("inception_v3.tv_in1k", "Mixed_7c", ("Mixed_5d", "Mixed_6e", "Mixed_7a", "Mixed_7c"), "fc"),
    "inception_resnet_v2": Entry(
        "inception_resnet_v2.tf_in1k",
        "conv2d_7b",
        ("repeat", "repeat_1", "mixed_7a", "conv2d_7b"),
        "classif",
    ),
}


def build(
    architecture: str,
    *,
    channels: int,
    outputs: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Make a network with fresh weights.

    Args:
        architecture: a name in `TABLE`.
        channels: input channels, 1 or 3.
        outputs: logits.
        seed: seed of the weights; torch's own random numbers are neither used nor disturbed. The weights in front of
            the classifier do not depend on `outputs`.
        options: of `small_resnet`: width, blocks, first_pooling; of `small_vgg`: width. The others have none.

    Returns:
        (n, channels, h, w) -> logits (n, outputs), in training mode, on the CPU. Its activations are modules, each
        used once per pass and not in-place, so that hooks can replace them and what they saw.

    Raises:
        ValueError: unknown architecture, channels, outputs or options.
    """
    entry = _entry(architecture)
    options = dict(options or {})
    if channels not in (1, 3) or outputs < 1:
        raise ValueError(
            f"{architecture}: found {channels} channels, {outputs} outputs; expected 1 or 3, and 1 or more"
        )
    known = [] if entry.source else list(inspect.signature(OWN[architecture]).parameters)[2:]
    if not options.keys() <= set(known):
        raise ValueError(
            f"{architecture}: found options {sorted(options)}, it knows {known or 'none'}; leave out others"
        )
    if entry.source:
        timm = import_timm()
        # Without memory, and without the initialisation of timm, which takes seconds and is replaced.
        with torch.device("meta"):
            net = timm.create_model(entry.source.split(".")[0], in_chans=channels, num_classes=outputs)
    else:
        with torch.device("meta"):
            net = OWN[architecture](channels, outputs, **options)
    net.to_empty(device="cpu")
    initialise(net, seed, "initial weights", architecture)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net


@torch.no_grad()
def initialise(net: nn.Module, seed: int, *stream: str) -> None:
    """Draw all weights of a network, or of one layer, anew.

    Args:
        net: convolutions and linear layers get normal weights of variance 2 / fan-in and zero bias; batch
            normalisation gets scale 1, shift 0 and the running mean 0 and variance 1.
        seed: seed of the study.
        stream: what the draw is for.

    Raises:
        TypeError: a layer with weights is none of these.

    Reference: He et al. 2015, equation 10 (He initialisation, as Özer has it).
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, *stream))
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            raise TypeError(f"{name}: found weights of a {type(module).__name__}, which has no He initialisation here")


def cam_layer(architecture: str) -> str:
    """Name of the layer whose output is the last feature map before pooling."""
    return _entry(architecture).cam


def multi_layers(architecture: str) -> tuple[str, ...]:
    """Names of the layers that are joined by methods which use several.

    Reference: Özer, section 4.2, for the ResNets and EfficientNet-B0 (docs/reference/networks.md has both
    naming schemes); our choice for the others.
    """
    return _entry(architecture).multi


def classifier(net: nn.Module, architecture: str) -> nn.Module:
    """The last layer: a linear layer, or for `resnet50v2` a 1 x 1 convolution."""
    return net.get_submodule(_entry(architecture).classifier)


def features(net: nn.Module, x: Tensor) -> Tensor:
    """Penultimate features: x (n, channels, h, w) -> what enters the classifier, (n, d)."""
    return net.forward_head(net.forward_features(x), pre_logits=True).flatten(1)


def check_size(architecture: str, size_px: int) -> None:
    """Refuse images that are too small for a network.

    Args:
        architecture: a name in `TABLE`.
        size_px: the shorter side of the images.

    Raises:
        ValueError: says which side is the smallest.
    """
    _entry(architecture)
    smallest_px = ARCHITECTURES[architecture].smallest_px
    if size_px < smallest_px:
        raise ValueError(
            f"{architecture}: found images of {size_px} px, expected {smallest_px} px or more; raise the data set's "
            "size, or take another architecture"
        )


def _entry(architecture: str) -> Entry:
    if architecture not in TABLE:
        raise ValueError(f"architecture: found '{architecture}', expected one of {', '.join(TABLE)}")
    return TABLE[architecture]
