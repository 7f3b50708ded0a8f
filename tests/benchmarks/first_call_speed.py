"""Speed of a first call on one batch against captum: what copying, folding and measuring cost when they pay least.

python tests/benchmarks/first_call_speed.py [--networks resnet18 vit_small_patch16_224] [--rounds 7] [--images 8]
prints a table in Markdown. Both sides get the same images, network and threads, in one process; the order changes from
round to round, and each call starts from the user's module. Ratios are medians over rounds of single ratios; above 1
xiqa is faster. The last column is the largest difference of the maps over the largest value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from captum import attr
from torch import Tensor

from xiqa.models.torchvision_import import import_timm
from xiqa.saliency import attribute

PATCH = 32
"""Side and stride of occlusion in pixels."""
STEPS = 8


def cases(net: torch.nn.Module, x: Tensor) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """What is computed -> xiqa's way and captum's, both (n, h, w)."""
    black = x.amin((1, 2, 3), keepdim=True).expand_as(x)
    window = (x.shape[1], PATCH, PATCH)
    return {
        "gradient": (
            lambda: attribute(net, x, 1, "gradient"),
            lambda: attr.Saliency(net).attribute(x.clone().requires_grad_(), 1, abs=False).sum(1),
        ),
        f"integrated gradients, {STEPS} steps": (
            lambda: attribute(net, x, 1, "integrated_gradients", steps=STEPS),
            lambda: attr.IntegratedGradients(net).attribute(
                x, black, 1, n_steps=STEPS, method="riemann_middle", internal_batch_size=len(x)
            ).sum(1),
        ),
        f"occlusion, {PATCH} px": (
            lambda: attribute(net, x, 1, "occlusion", patch=PATCH, stride=PATCH),
            lambda: -attr.Occlusion(net).attribute(x, window, window, black, 1)[:, 0],
        ),
    }  # fmt: skip


def compare(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int) -> tuple[list[float], float, float]:
    """Ratios captum / xiqa of each round, the median seconds of xiqa, and the difference of the maps."""
    ratios, seconds, maps = [], [], {}
    for number in range(rounds):
        taken = {}
        for name, run in [("xiqa", ours), ("captum", theirs)][:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            maps[name] = run().detach()
            taken[name] = time.perf_counter() - start
        ratios.append(taken["captum"] / taken["xiqa"])
        seconds.append(taken["xiqa"])
    difference = float((maps["xiqa"] - maps["captum"]).abs().max() / maps["captum"].abs().max())
    return ratios, float(np.median(seconds)), difference


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet18", "vit_small_patch16_224"], help="names of timm")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, captum {version('captum')}, {torch.get_num_threads()} threads\n")
    print(
        "| Network | First call | xiqa, s | captum / xiqa, median (range) | largest difference |\n|---|---|---|---|---|"
    )
    for name in arguments.networks:
        torch.manual_seed(0)
        net = import_timm().create_model(name).eval()
        x = torch.randn(arguments.images, 3, 224, 224)
        net(x[:1])  # what the first use of the library's kernels costs belongs to neither
        for what, (ours, theirs) in cases(net, x).items():
            ratios, seconds, difference = compare(ours, theirs, arguments.rounds)
            found = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {name} | {what} | {seconds:.2f} | {found} | {difference:.0e} |", flush=True)


if __name__ == "__main__":
    main()
