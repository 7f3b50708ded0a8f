"""Golden values of LRP by zennit, and of gradients, Grad-CAM and occlusion by monai; neither is a dependency.

    pip install --no-deps --target /tmp/peers zennit==0.5.1 monai==1.6.1
    PYTHONPATH=/tmp/peers .venv/bin/python tests/golden/relevance.py tests/unit/golden_relevance.npz

One network is random, the other was trained to tell discs from rings. Both have batch normalisation; zennit folds it.
"""

import sys
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from xiqa.models.torchvision_import import import_timm

import_timm()  # torchvision, which zennit imports, may not belong to the torch that is installed
from monai import visualize  # noqa: E402
from zennit import rules  # noqa: E402
from zennit.canonizers import SequentialMergeBatchNorm  # noqa: E402
from zennit.composites import SpecialFirstLayerMapComposite  # noqa: E402
from zennit.types import Activation, AvgPool, Convolution, Linear  # noqa: E402

IMAGES, CHANNELS, SIDE, CLASSES = 3, 2, 24, 2
STABILISER = 1e-9
EPS = 1e-12  # of batch normalisation; zennit leaves it in the layer when it folds the rest
FIRST = {
    "w_squared": lambda: rules.WSquare(stabilizer=STABILISER, zero_params="bias"),
    "flat": lambda: rules.Flat(stabilizer=STABILISER),
    "epsilon": lambda: rules.Epsilon(STABILISER),
}
HIDDEN = {
    "epsilon": lambda: rules.Epsilon(STABILISER),
    "z_plus": lambda: rules.ZPlus(stabilizer=STABILISER, zero_params="bias"),
}


def network():
    """Tests build the same one and load its weights. monai finds ReLUs by their names."""
    layers = {
        "conv1": nn.Conv2d(CHANNELS, 5, 3, padding=1),
        "norm1": nn.BatchNorm2d(5, eps=EPS),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(5, 6, 3, stride=2, padding=1),
        "norm2": nn.BatchNorm2d(6, eps=EPS),
        "relu2": nn.ReLU(),
        "pool2": nn.AvgPool2d(2),
        "flatten": nn.Flatten(),
        "linear1": nn.Linear(54, 8),
        "relu3": nn.ReLU(),
        "linear2": nn.Linear(8, CLASSES),
    }
    return nn.Sequential(OrderedDict(layers)).double()


def samples(generator, n):
    """Discs (class 0) and rings (class 1) at random places under noise, (n, c, h, w) and (n,)."""
    labels = torch.randint(CLASSES, (n,), generator=generator)
    places = 7 + 10 * torch.rand((n, 2, 1, 1), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    radius = ((rows - places[:, 0]) ** 2 + (columns - places[:, 1]) ** 2).sqrt()
    shapes = (radius <= 5) & ((labels[:, None, None] == 0) | (radius >= 3))
    noise = 0.3 * torch.randn((n, CHANNELS, SIDE, SIDE), generator=generator)
    return (shapes[:, None] + noise).double(), labels


def trained(generator):
    """The network after 150 steps, with the share of new images that it tells right."""
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        x, labels = samples(generator, 32)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimiser.step()
    x, labels = samples(generator, 500)
    return net.eval(), float((net.eval()(x).argmax(1) == labels).double().mean())


def zennit_maps(net, x, targets, hidden, first):
    """Relevance (n, c, h, w) of the logit of each target."""
    composite = SpecialFirstLayerMapComposite(
        layer_map=[
            (Activation, rules.Pass()), (AvgPool, rules.Epsilon(STABILISER)), (Convolution, HIDDEN[hidden]()),
            (Linear, rules.Epsilon(STABILISER)),
        ],
        first_map=[(Convolution, FIRST[first]())],
        canonizers=[SequentialMergeBatchNorm()],
    )  # fmt: skip
    x = x.clone().requires_grad_()
    with composite.context(net) as changed:
        output = changed(x)
        start = output.detach() * nn.functional.one_hot(targets, CLASSES)
        return torch.autograd.grad(output, x, start)[0].numpy()


def monai_maps(net, x, targets):
    """Name of ours -> (n, ...) of monai. It adds up gradients in its input and overwrites it: each call has a copy."""
    found = {name: [] for name in ("gradient", "guided_backprop", "grad_cam", "occlusion")}
    same = {"upsampler": lambda size: lambda maps: maps, "postprocessing": lambda maps: maps}
    for image, label in zip(x[:, None], targets.tolist(), strict=True):
        occlusion = visualize.OcclusionSensitivity(
            net, mask_size=4, n_batch=8, mode=float(image.min()), overlap=0.0, activate=False, verbose=False
        )
        found["gradient"].append(visualize.VanillaGrad(net)(image.clone(), label)[0])
        found["guided_backprop"].append(visualize.GuidedBackpropGrad(net)(image.clone(), label)[0])
        found["grad_cam"].append(visualize.GradCAM(net, target_layers="relu2", **same)(image.clone(), label)[0, 0])
        with torch.no_grad():
            without = occlusion(image.clone())[0][0, label]  # float32
            found["occlusion"].append(torch.as_tensor(without.numpy()) - net(image)[0, label])
    return {name: np.stack([part.detach().numpy() for part in parts]) for name, parts in found.items()}


def main(path):
    """Write the file."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    random = network().eval()
    for norm in (random.norm1, random.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
        norm.running_mean.normal_(0, 0.3)
    learnt, accuracy = trained(generator)
    x, _ = samples(generator, IMAGES)
    targets = torch.tensor([0, 1, 1])
    arrays = {"x": x.numpy(), "targets": targets.numpy(), "accuracy": accuracy}
    for name, net in (("random", random), ("trained", learnt)):
        arrays |= {f"{name} weights {key}": value.numpy() for key, value in net.state_dict().items()}
        arrays |= {
            f"{name} lrp {hidden} {first}": zennit_maps(net, x, targets, hidden, first)
            for hidden in HIDDEN
            for first in FIRST
        }
        arrays |= {f"{name} {method}": maps for method, maps in monai_maps(net, x, targets).items()}
    print(f"accuracy of the trained network: {accuracy:.3f}")
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
