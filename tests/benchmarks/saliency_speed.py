"""Speed of the saliency methods against captum, in one run: same images, same network, same two cores.

python tests/benchmarks/saliency_speed.py [--network resnet50] [--size 224] [--images 16] [--rounds 3]
Peers run as their documentation shows. NormGrad has no peer with one call: for it captum's gradient at the layer and
the layer's activation are counted (LayerGradientXActivation), one call per map and layer, as its users would do.
Each pair is run in turn; ratios are medians over rounds of single ratios, with their range.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import captum
import numpy as np
import torch
from captum import attr

from xiqa.models.zoo import build, cam_layer, multi_layers
from xiqa.saliency import attribute_many


def pairs(net: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, architecture: str) -> dict[str, tuple]:
    """Name -> (ours, peer), two functions without arguments that compute the same maps."""
    layer, layers = cam_layer(architecture), list(multi_layers(architecture))
    references = x.flip(0)
    black = x.amin((1, 2, 3), keepdim=True).expand_as(x).contiguous()

    def ours(*methods: str, **options) -> Callable:
        return lambda: attribute_many(net, x, target, methods, **options)

    def each(*calls: Callable) -> Callable:
        return lambda: [call() for call in calls]

    at_layer = {name: attr.LayerGradientXActivation(net, net.get_submodule(name)) for name in {layer, *layers}}
    normgrad_peer = [
        *[lambda: at_layer[layer].attribute(x, target) for _ in range(3)],
        *[lambda name=name: at_layer[name].attribute(x, target) for _ in range(3) for name in layers],
    ]
    one_pass = (
        "gradient", "input_x_gradient", "grad_cam", "normgrad_scaling", "normgrad_conv1x1", "normgrad_conv3x3",
        "normgrad_scaling_multi", "normgrad_conv1x1_multi", "normgrad_conv3x3_multi",
    )  # fmt: skip
    tunnel = {"n_samples": 15, "nt_samples_batch_size": 1, "nt_type": "smoothgrad"}
    spread = 0.15 * float(x.max() - x.min())
    return {
        "one pass (9 maps)": (
            ours(*one_pass, layers=[layer], multi_layers=layers),
            each(
                lambda: attr.Saliency(net).attribute(x, target, abs=False),
                lambda: attr.InputXGradient(net).attribute(x, target),
                lambda: attr.LayerGradCam(net, net.get_submodule(layer)).attribute(x, target),
                *normgrad_peer,
            ),
        ),
        "gradient": (ours("gradient"), lambda: attr.Saliency(net).attribute(x, target, abs=False)),
        "integrated gradients, 25 steps": (
            ours("integrated_gradients", steps=25),
            lambda: attr.IntegratedGradients(net).attribute(
                x, black, target, n_steps=25, method="riemann_middle", internal_batch_size=len(x)
            ),
        ),
        "SmoothGrad and its square, 15 copies": (
            ours("smoothgrad", "smoothgrad_squared"),
            each(
                lambda: attr.NoiseTunnel(attr.Saliency(net)).attribute(
                    x, target=target, abs=False, stdevs=spread, **tunnel
                ),
                lambda: attr.NoiseTunnel(attr.Saliency(net)).attribute(
                    x, target=target, abs=False, stdevs=spread, **tunnel | {"nt_type": "smoothgrad_sq"}
                ),
            ),
        ),
        "SmoothGrad, 15 copies": (
            ours("smoothgrad"),
            lambda: attr.NoiseTunnel(attr.Saliency(net)).attribute(
                x, target=target, abs=False, stdevs=spread, **tunnel
            ),
        ),
        "expected gradients, 15 samples": (
            ours("expected_gradients", samples=15, references=references),
            lambda: attr.GradientShap(net).attribute(x, references, target=target, n_samples=15, stdevs=0.0),
        ),
    }


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--only", default="", help="part of the name of what is measured")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = build(given.network, channels=3, outputs=10, seed=0).eval()
    x = torch.randn(given.images, 3, given.size, given.size, generator=torch.Generator().manual_seed(0))
    target = torch.arange(given.images) % 10
    print(
        f"{given.network}, {given.images} images of {given.size}², {given.threads} threads, {platform.processor()}, "
        f"torch {torch.__version__}, captum {captum.__version__}, load average {os.getloadavg()[0]:.1f}\n\n"
        "| what | ours, s (median) | captum, s (median) | times faster (range) |\n|---|---|---|---|"
    )
    for name, (ours, peer) in pairs(net, x, target, given.network).items():
        if given.only not in name:
            continue
        seconds = []
        for _ in range(given.rounds):
            single = []
            for run in (ours, peer):
                start = time.perf_counter()
                run()
                single.append(time.perf_counter() - start)
            seconds.append(single)
        seconds = np.array(seconds)
        ratios = seconds[:, 1] / seconds[:, 0]
        middle = np.median(seconds, axis=0)
        print(
            f"| {name} | {middle[0]:.2f} | {middle[1]:.2f} | {np.median(ratios):.2f} "
            f"({ratios.min():.2f}-{ratios.max():.2f}) |",
            flush=True,
        )
    print(f"\npeak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
