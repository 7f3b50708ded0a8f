"""Networks of shapes that are not xiqa's own, and the plainest way to their gradients, which ours is compared with."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from xiqa.models.torchvision_import import import_timm
from xiqa.saliency.explained import Activation, Pass

CLASSES = 3
SIDE = 16


class View(nn.Module):
    """The layout of common tutorials: `view` in front of the linear layer, functional ReLUs."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 64, CLASSES)

    def forward(self, x):
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return self.fc(x.view(x.size(0), -1))


class Overwritten(nn.Module):
    """The asked layer's output is overwritten by what follows, as in torchvision's DenseNet; so is the image."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x):
        x.mul_(0.7).sub_(0.1)
        features = self.features(x)
        functional.relu(features, inplace=True)
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(features, (1, 1)), 1))


def body(conv: Callable[[nn.Conv2d], nn.Module] = lambda conv: conv) -> nn.Sequential:
    """Two convolutions, the first in front of batch normalisation, passed through `conv`."""
    return nn.Sequential(
        conv(nn.Conv2d(2, 6, 3, padding=1)), nn.BatchNorm2d(6), nn.ReLU(),
        conv(nn.Conv2d(6, 8, 3, stride=2, padding=1)), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    )  # fmt: skip


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised in every call."""

    def forward(self, x):
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Shared(nn.Module):
    """One convolution and one ReLU that are used twice; batch normalisation behind the first use only."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.relu, self.fc = nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(self.norm(self.conv(x)))
        return self.fc((x + self.conv(x)).mean((2, 3)))


class Volume(nn.Module):
    """Channels as slices of a volume: a Conv3d inside."""

    def __init__(self):
        super().__init__()
        self.conv3d, self.conv = nn.Conv3d(1, 4, 3, padding=1), nn.Conv2d(8, 5, 3, stride=2, padding=1)
        self.fc = nn.Linear(5, CLASSES)

    def forward(self, x):
        x = functional.relu(self.conv3d(x[:, None])).flatten(1, 2)
        return self.fc(functional.relu(self.conv(x)).mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM over the columns of the features."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.lstm, self.fc = nn.LSTM(4 * 8, 10, batch_first=True), nn.Linear(10, CLASSES)

    def forward(self, x):
        x = functional.relu(self.conv(x))
        return self.fc(self.lstm(x.permute(0, 3, 1, 2).flatten(2))[0][:, -1])


class Patches(nn.Module):
    """Patches through torch's own encoder, which has a fast path where no gradient is asked for."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, stride=4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder, self.fc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.fc(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Wrapped(nn.Module):
    """A network whose output is put into something else."""

    def __init__(self, wrap: Callable[[Tensor], object]):
        super().__init__()
        self.net, self.wrap = body(), wrap

    def forward(self, x):
        return self.wrap(self.net(x))


class Squeezed(nn.Module):
    """A binary network that ends in `.squeeze()`: the axis of the batch vanishes for one image."""

    def __init__(self):
        super().__init__()
        self.net, self.fc = body()[:-1], nn.Linear(8, 1)

    def forward(self, x):
        return self.fc(self.net(x)).squeeze()


class Segmentation(nn.Module):
    """(n, classes, h, w)."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1),
            nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, stride=2), nn.PReLU(), nn.Conv2d(4, 2, 1),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x)


def lesion_area(output: Tensor) -> Tensor:
    """Mean of the second class's map."""
    return output[:, 1].mean((-2, -1))


def old_weight_norm(conv: nn.Conv2d) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old kind is deprecated, and in many networks
        return nn.utils.weight_norm(conv)


def vit() -> nn.Module:
    return import_timm().models.VisionTransformer(
        img_size=SIDE, patch_size=4, in_chans=2, num_classes=CLASSES, embed_dim=12, depth=2, num_heads=2
    )


def vit_with_registers() -> nn.Module:
    return import_timm().models.VisionTransformer(
        img_size=SIDE, patch_size=4, in_chans=2, num_classes=CLASSES, embed_dim=12, depth=2, num_heads=2, reg_tokens=4,
        global_pool="avg",
    )  # fmt: skip


def swin() -> nn.Module:
    return import_timm().models.SwinTransformer(
        img_size=SIDE, patch_size=2, in_chans=2, num_classes=CLASSES, embed_dim=8, depths=(2, 1), num_heads=(2, 2),
        window_size=4,
    )  # fmt: skip


def torchvision_vit() -> nn.Module:
    import_timm()
    from torchvision.models import VisionTransformer

    net = VisionTransformer(SIDE, 4, 2, 2, 12, 24, num_classes=CLASSES)
    net.conv_proj = nn.Conv2d(2, 12, 4, stride=4)
    nn.init.normal_(net.heads.head.weight)
    return net


def torchvision_swin() -> nn.Module:
    import_timm()
    from torchvision.models import SwinTransformer

    net = SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=CLASSES)
    net.features[0][0] = nn.Conv2d(2, 8, 2, stride=2)
    return net


class Foreign(NamedTuple):
    """A network of another shape.

    Attributes:
        make: the network, with random weights.
        layer: name of the layer that Grad-CAM takes by default; empty where there is none.
        target: what is explained.
        maps: output of that layer -> (n, k, u, v).
    """

    make: Callable[[], nn.Module]
    layer: str
    target: int | Callable = 1
    maps: Callable[[Tensor], Tensor] = lambda output: output


def tokens(prefix: int) -> Callable[[Tensor], Tensor]:
    return lambda output: output[:, prefix:].transpose(1, 2).unflatten(2, (4, 4))


def rows_first(output: Tensor) -> Tensor:
    return output.permute(0, 3, 1, 2)


FOREIGN: dict[str, Foreign] = {
    "view": Foreign(View, "conv2"),
    "overwritten": Foreign(Overwritten, "features"),
    "weight_norm": Foreign(lambda: body(parametrizations.weight_norm), "3"),
    "weight_norm_old": Foreign(lambda: body(old_weight_norm), "3"),
    "spectral_norm": Foreign(lambda: body(parametrizations.spectral_norm), "3"),
    "spectral_norm_old": Foreign(lambda: body(nn.utils.spectral_norm), "3"),
    "standardised": Foreign(
        lambda: body(lambda conv: Standardised(conv.in_channels, conv.out_channels, 3, conv.stride, 1)), "3"
    ),
    "group_norm_silu": Foreign(
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(inplace=True), nn.Conv2d(6, 8, 3, padding=1),
            nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 64, CLASSES),
        ), "4",
    ),
    "dilated_grouped": Foreign(
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=2, dilation=2), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.BatchNorm2d(6), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(6, CLASSES),
        ), "4",
    ),
    "shared": Foreign(Shared, "norm"),
    "conv3d": Foreign(Volume, "conv"),
    "lstm": Foreign(Recurrent, "conv"),
    "encoder": Foreign(Patches, "patches"),
    "dict": Foreign(lambda: Wrapped(lambda z: OrderedDict(logits=z, loss=None)), "net.3"),
    "tuple": Foreign(lambda: Wrapped(lambda z: (z, None)), "net.3"),
    "two_outputs": Foreign(lambda: Wrapped(lambda z: (z, z * 2)), "net.3", lambda output: output[1][:, 0]),
    "squeezed": Foreign(Squeezed, "net.3"),
    "segmentation": Foreign(Segmentation, "net.6", lesion_area),
    "data_parallel": Foreign(lambda: nn.DataParallel(body()), "3"),
    "compiled": Foreign(lambda: torch.compile(body()), "3"),
    "frozen": Foreign(lambda: body().requires_grad_(False), "3"),
    "vit": Foreign(vit, "blocks.1.norm1", 1, tokens(1)),
    "vit_with_registers": Foreign(vit_with_registers, "blocks.1.norm1", 1, tokens(5)),
    "swin": Foreign(swin, "norm", 1, rows_first),
    "torchvision_vit": Foreign(torchvision_vit, "encoder.layers.encoder_layer_1.ln_1", 1, tokens(1)),
    "torchvision_swin": Foreign(torchvision_swin, "norm", 1, rows_first),
}  # fmt: skip


def foreign(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A foreign network with random weights and statistics that hide nothing, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, name)))
        net = FOREIGN[name].make()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.data.uniform_(0.5, 2)
                module.bias.data.normal_()
    return net.eval().to(dtype)


def images(n: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(4), dtype=torch.float64).to(dtype)


class PlainlyExplained:
    """What `Explained` is, in the plainest way: the module itself, one image at a time, autograd, nothing else.

    Args:
        net: as the user has it; a wrapper is taken off by hand.
        of_output: raw output for one image -> its scalar.
        maps: output of the layer -> (n, k, u, v).
    """

    memory_bytes = 2**20
    curve_networks = ()

    def __init__(self, net: nn.Module, of_output: Callable, maps: Callable[[Tensor], Tensor]):
        net = getattr(net, "_orig_mod", net)
        self.net = net.module if isinstance(net, nn.DataParallel) else net
        self.of_output, self.maps = of_output, maps

    def value(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            return torch.stack([self.of_output(self.net(image[None].clone())) for image in x])

    def gradient(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        return torch.cat([part.gradient for part in self.passes(x)])

    def member_gradients(self, x: Tensor) -> Tensor:
        return self.gradient(x)[None]

    def passes(self, x: Tensor, of: Tensor | None = None, layers=(), gradient: bool = True):
        for number, image in enumerate(x):
            image, found = image[None].clone().requires_grad_(), {}
            hooks = [self.net.get_submodule(name).register_forward_hook(_keep(found, name)) for name in layers]
            with torch.enable_grad():
                value = self.of_output(self.net(image.clone()))
            for hook in hooks:
                hook.remove()
            *of_layers, of_image = torch.autograd.grad(value, [*found.values(), image])
            activations = {
                name: Activation(self.maps(a).detach(), self.maps(g))
                for (name, a), g in zip(found.items(), of_layers, strict=True)
            }
            yield Pass(slice(number, number + 1), value.detach()[None], of_image, activations)


def _keep(found: dict[str, Tensor], name: str) -> Callable:
    def hook(module, args, output):
        found[name] = output
        return output.clone()

    return hook


def plainly(name: str, net: nn.Module) -> PlainlyExplained:
    """The oracle of a foreign network."""
    target = FOREIGN[name].target

    def of_output(output):
        if callable(target):
            return target(output)[0]
        if isinstance(output, dict):
            output = output["logits"]
        if isinstance(output, tuple):
            output = output[0]
        return output.flatten()[target] if output.numel() > 1 else (2 * target - 1) * output.reshape(())

    return PlainlyExplained(net, of_output, FOREIGN[name].maps)
