"""Speed and memory of the saliency methods against captum, PAIR's saliency, monai and grad-cam, in one run.

python tests/benchmarks/saliency_speed.py [--networks resnet50 efficientnet_b0] [--images 16] [--only XRAI ...]
prints tables in Markdown. captum comes with the extra `oracles`; the other peers need a folder of their own,
    pip install --no-deps --target PEERS saliency==0.2.1 monai==1.6.1 grad-cam==1.5.7 ttach opencv-python-headless
and PYTHONPATH=PEERS; rows of a peer that is not there are left out.

Both sides get the same images, network, threads and settings. Each runs in a process of its own, which starts from the
same state; they run in turn, and the order changes from round to round. Ratios are medians over rounds of single
ratios. Memory is the peak above what the process had before its first call. Peers run as their documentation shows,
with batches where they offer them; PAIR's and monai's take one image at a time. Where maps promise to be the same the
last column has their largest difference over the largest value; random draws, other sums or other scalings have "-".
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import multiprocessing
import os
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from captum import attr
from torch import Tensor, nn
from torch.nn import functional

from xiqa.models.zoo import build, cam_layer, multi_layers
from xiqa.saliency import attribute_many, layer_maps, normgrad, shap_lime
from xiqa.saliency.explained import Activation

ONE_PASS = (
    "gradient", "input_x_gradient", "grad_cam", "normgrad_scaling", "normgrad_conv1x1", "normgrad_conv3x3",
    "normgrad_scaling_multi", "normgrad_conv1x1_multi", "normgrad_conv3x3_multi",
)  # fmt: skip
PEERS = {"captum": "captum", "PAIR": "saliency", "monai": "monai", "grad-cam": "pytorch_grad_cam"}
"""Name here -> module."""
PATCH = 32
"""Side and stride of occlusion in pixels."""

Run = Callable[[], list[Tensor]]


class Case(NamedTuple):
    """A method and its peer.

    Attributes:
        what: method and settings.
        images: how many.
        peer: a name of PEERS, and how it is used.
        ours, theirs: make the maps.
        same: whether the maps promise to be the same.
    """

    what: str
    images: int
    peer: str
    ours: Run
    theirs: Run
    same: bool = False


class Elementwise(nn.Module):
    """f = ±Σ w x²: what a method takes beside it is the method's own work."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, size, size, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        value = (self.weight * x.square()).flatten(1).sum(1)
        return torch.stack([value, -value], 1)


def images(n: int, size: int) -> Tensor:
    """(n, 3, size, size): smooth structures and a tenth of noise, so that segmentations find segments."""
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(draw(n, 3, size // 8, size // 8), (size, size), mode="bicubic")
    return smooth + 0.1 * draw(n, 3, size, size)


def cases(architecture: str, x: Tensor, target: Tensor) -> Iterator[Case]:
    """Whole methods on a network."""
    net = build(architecture, channels=3, outputs=10, seed=0).eval()
    cam, layers = cam_layer(architecture), list(multi_layers(architecture))
    n, few, two = len(x), max(1, len(x) // 4), min(len(x), 2)
    captum, pair = Captum(net, x, target, cam, layers), functools.partial(pair_maps, net)

    def ours(*methods: str, k: int = n, **options) -> Run:
        return lambda: list(attribute_many(net, x[:k], target[:k], methods, **options).values())

    def each(call: Callable[[Tensor, int], Tensor], k: int) -> Run:
        return lambda: [torch.cat([call(x[i : i + 1].clone(), int(target[i])) for i in range(k)])]

    def ten() -> list[Tensor]:
        found = ours(*ONE_PASS, layers=[cam], multi_layers=layers, normalise=False, reduce_channels=False)()
        return [found[0].abs(), *found]

    what = "one pass: ten maps"
    yield Case(what, n, "captum, each map by itself", ten, captum.ten, True)
    yield Case(what, n, "captum, gradient and layers once", ten, captum.ten_shared, True)
    gradient, raw = ours("gradient", reduce_channels=False), ours("grad_cam", layers=[cam], normalise=False)
    yield Case("gradient", n, "captum", gradient, lambda: [captum.gradient()], True)
    yield Case("gradient", n, "PAIR", gradient, lambda: [pair("GradientSaliency", x, target)], True)
    yield Case("gradient", n, "monai", gradient, each(monai(net, "VanillaGrad"), n), True)
    yield Case("Grad-CAM", n, "captum", raw, lambda: [captum.grad_cam()], True)
    yield Case("Grad-CAM", n, "grad-cam", ours("grad_cam", layers=[cam]), grad_cam(net, "GradCAM", cam, x, target))
    yield Case("Grad-CAM", n, "monai", raw, each(monai(net, "GradCAM", target_layers=cam), n))

    what, mine = "integrated gradients, 5 steps", ours("integrated_gradients", steps=5, reduce_channels=False)
    yield Case(what, n, "captum", mine, captum.integrated_gradients, True)
    given = {"x_steps": 5, "batch_size": 20}
    yield Case(what, n, "PAIR, batches of 20", mine, lambda: [pair("IntegratedGradients", x, target, **given)])
    what = "SmoothGrad, 5 copies"
    yield Case(what, n, "captum", ours("smoothgrad", samples=5), lambda: [captum.tunnel("smoothgrad")])
    smooth = monai(net, "SmoothGrad", n_samples=5, magnitude=False, verbose=False)
    yield Case(what, few, "monai", ours("smoothgrad", samples=5, k=few), each(smooth, few))
    both = ours("smoothgrad", "smoothgrad_squared", samples=5)
    yield Case(
        "SmoothGrad and its square",
        n,
        "captum",
        both,
        lambda: [captum.tunnel(f"smoothgrad{end}") for end in ("", "_sq")],
    )
    mine = ours("expected_gradients", samples=5, references=x.flip(0))
    # captum puts all samples of all images into one batch.
    yield Case("expected gradients, 5 samples", n, "captum", mine, lambda: [captum.expected_gradients()])

    given = {"fraction": 0.5, "max_dist": 1.0}
    yield Case(
        "guided IG, 25 steps", few, "PAIR", ours("guided_ig", steps=25, k=few, **given),
        lambda: [pair("GuidedIG", x[:few], target, x_steps=25, **given)],
    )  # fmt: skip
    yield Case(
        "blur IG, 20 steps", few, "PAIR, batches of 20", ours("blur_ig", steps=20, k=few, reduce_channels=False),
        lambda: [pair("BlurIG", x[:few], target, steps=20, batch_size=20)], True,
    )  # fmt: skip
    for names, ways in ((["xrai"], ["full"]), (["xrai", "xrai_fast"], ["full", "fast"])):
        yield Case(
            f"XRAI {' and '.join(ways)}, 2 × 20 steps", two, "PAIR, batches of 20", ours(*names, steps=20, k=two),
            lambda ways=ways: [pair("XRAI", x[:two], target, steps=20, algorithm=way, batch_size=20) for way in ways],
        )  # fmt: skip

    if any(isinstance(module, nn.ReLU) for module in net.modules()):
        for name, peer in (("guided_backprop", attr.GuidedBackprop), ("deconvolution", attr.Deconvolution)):
            mine = ours(name, reduce_channels=False)
            yield Case(name, n, "captum", mine, lambda peer=peer: [peer(net).attribute(x, target)], True)
        mine = ours("guided_grad_cam", layers=[cam], reduce_channels=False)
        yield Case("guided Grad-CAM", n, "captum", mine, lambda: [captum.guided_grad_cam()], True)

    what, mine = f"occlusion, patches of {PATCH}", ours("occlusion", patch=PATCH, stride=PATCH, k=few)
    yield Case(what, few, "captum", mine, lambda: [captum.occlusion(few)], True)
    yield Case(what, few, "monai", mine, each(functools.partial(monai_occlusion, net), few), True)
    early = {"resnet50": "layer1.2", "efficientnet_b0": "blocks.3.0"}.get(architecture, layers[0])
    mine = ours("score_cam", layers=[early], baseline=0.0, k=1)
    yield Case(f"Score-CAM at {early}", 1, "grad-cam", mine, grad_cam(net, "ScoreCAM", early, x[:1], target))
    mine = ours("kernel_shap", evaluations=100, k=two)
    yield Case("KernelSHAP, 100 sets of segments", two, "captum", mine, lambda: [captum.kernel_shap(two)])


def cases_without_network(x: Tensor) -> Iterator[Case]:
    """The own work of PAIR's methods, with its defaults."""
    x, target = x[:4], torch.zeros(len(x), dtype=torch.long)
    net, base = Elementwise(x.shape[-1]), torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    for what, mine, given, theirs, same in (
        ("guided IG, 200 steps", "guided_ig", {}, "GuidedIG", {}),
        ("blur IG, 100 steps", "blur_ig", {}, "BlurIG", {}),
        ("XRAI full of a base", "xrai", {"base": base}, "XRAI", {"base": base, "algorithm": "full"}),
        ("XRAI fast of a base", "xrai_fast", {"base": base}, "XRAI", {"base": base, "algorithm": "fast"}),
    ):
        ours = functools.partial(attribute_many, net, x, target, [mine], reduce_channels=False, **given)
        theirs = functools.partial(pair_maps, net, theirs, x, target, **same)
        yield Case(what, len(x), "PAIR", lambda ours=ours: [*ours().values()], lambda peer=theirs: [peer()], True)


class Captum:
    """captum's methods on one network and batch."""

    def __init__(self, net: nn.Module, x: Tensor, target: Tensor, cam: str, layers: list[str]):
        self.net, self.x, self.target, self.cam, self.layers = net, x, target, cam, layers
        self.size, self.black = x.shape[2:], x.amin((1, 2, 3), keepdim=True).expand_as(x).contiguous()

    def gradient(self) -> Tensor:
        return attr.Saliency(self.net).attribute(self.x, self.target, abs=False)

    def grad_cam(self) -> Tensor:
        method = attr.LayerGradCam(self.net, self.net.get_submodule(self.cam))
        found = method.attribute(self.x, self.target, relu_attributions=True).detach()
        return attr.LayerAttribution.interpolate(found, self.size, "bilinear")[:, 0]

    def layer(self, name: str) -> Activation:
        """NormGrad has no peer; this is how captum gives what it is made of."""
        layer = self.net.get_submodule(name)
        a = attr.LayerActivation(self.net, layer).attribute(self.x).detach()  # with its graph, memory would run out
        method = attr.LayerGradientXActivation(self.net, layer, multiply_by_inputs=False)
        return Activation(a, method.attribute(self.x, self.target).detach())

    def product(self, name: str) -> Tensor:
        method = attr.LayerGradientXActivation(self.net, self.net.get_submodule(name))
        return method.attribute(self.x, self.target).detach().norm(dim=1)

    def norms(self, scaling: Callable[[str], Tensor], layer: Callable[[str], Activation]) -> list[Tensor]:
        """The six NormGrads, from functions of a layer's name."""
        found = []
        for norm in (scaling, lambda name: normgrad.conv1x1(layer(name)), lambda name: normgrad.conv3x3(layer(name))):
            single, *joined = (layer_maps.onto_image(norm(name), self.size) for name in [self.cam, *self.layers])
            found += [single, normgrad.join(joined)]
        return [*found[::2], *found[1::2]]

    def ten(self) -> list[Tensor]:
        first = [attr.Saliency(self.net).attribute(self.x, self.target), self.gradient()]
        product = attr.InputXGradient(self.net).attribute(self.x, self.target).detach()
        return [*first, product, self.grad_cam(), *self.norms(self.product, self.layer)]

    def ten_shared(self) -> list[Tensor]:
        gradient, layer = self.gradient(), functools.cache(self.layer)
        norms = self.norms(lambda name: normgrad.scaling(layer(name)), layer)
        return [gradient.abs(), gradient, self.x * gradient, self.grad_cam(), *norms]

    def integrated_gradients(self) -> list[Tensor]:
        method, options = attr.IntegratedGradients(self.net), {"method": "riemann_middle", "n_steps": 5}
        return [method.attribute(self.x, self.black, self.target, internal_batch_size=len(self.x), **options)]

    def tunnel(self, kind: str) -> Tensor:
        options = {"nt_samples": 5, "nt_samples_batch_size": 1, "stdevs": 0.15 * float(self.x.max() - self.x.min())}
        method = attr.NoiseTunnel(attr.Saliency(self.net))
        return method.attribute(self.x, nt_type=kind, target=self.target, abs=False, **options)

    def expected_gradients(self) -> Tensor:
        method = attr.GradientShap(self.net)
        return method.attribute(self.x, self.x.flip(0), n_samples=5, stdevs=0.0, target=self.target)

    def guided_grad_cam(self) -> Tensor:
        method = attr.GuidedGradCam(self.net, self.net.get_submodule(self.cam))
        return method.attribute(self.x, self.target, interpolate_mode="bilinear")

    def occlusion(self, k: int) -> Tensor:
        patch = (self.x.shape[1], PATCH, PATCH)
        method, options = attr.Occlusion(self.net), {"strides": patch, "baselines": self.black[:k]}
        return -method.attribute(self.x[:k], patch, target=self.target[:k], **options)[:, 0]

    def kernel_shap(self, k: int) -> Tensor:
        found = []
        for image, black, label in zip(self.x[:k], self.black, self.target.tolist(), strict=False):
            options = {"feature_mask": torch.from_numpy(shap_lime._superpixels(image, 50, 0.3))[None, None]}
            method = attr.KernelShap(self.net)
            found.append(method.attribute(image[None], black[None], label, n_samples=100, **options)[:, 0])
        return torch.cat(found)


def pair_maps(net: nn.Module, method: str, x: Tensor, target: Tensor, **options) -> Tensor:
    """(n, c, h, w) of PAIR's library, for XRAI (n, h, w): one image at a time, as its notebook for PyTorch has it."""
    from saliency import core

    def call(batch: np.ndarray, call_model_args: int, expected_keys: list[str]) -> dict[str, np.ndarray]:
        x = torch.tensor(np.moveaxis(batch, -1, 1), dtype=torch.float32).requires_grad_(True)
        output = net(x)[:, call_model_args]
        (gradient,) = torch.autograd.grad(output, x, grad_outputs=torch.ones_like(output))
        return {expected_keys[0]: torch.movedim(gradient, 1, -1).numpy()}

    found, base = [], options.pop("base", None)
    if method == "XRAI":
        of_method = {name: options.pop(name) for name in ("steps", "algorithm") if name in options}
        options["extra_parameters"] = core.XRAIParameters(**of_method)
    for index, image in enumerate(np.moveaxis(x.numpy(), 1, -1)):
        if method in ("GuidedIG", "IntegratedGradients"):
            options["x_baseline"] = np.full_like(image, image.min())
        if base is not None:
            options["base_attribution"] = np.moveaxis(base[index].numpy(), 0, -1)
        found.append(getattr(core, method)().GetMask(image, call, int(target[index]), **options))
    maps = torch.from_numpy(np.stack(found))
    return maps if maps.ndim == 3 else maps.movedim(-1, 1)


def adapt_numpy() -> None:
    """PAIR's guided IG calls np.quantile with `interpolation`, which numpy 2.4 has dropped for `method`."""
    quantile = np.quantile
    np.quantile = lambda values, q, interpolation="linear", **more: quantile(
        values, q, **{"method": interpolation} | more
    )


def monai(net: nn.Module, name: str, **options) -> Callable[[Tensor, int], Tensor]:
    """A method of monai: image (1, c, h, w) and class -> map."""

    def call(image: Tensor, label: int) -> Tensor:
        from monai import visualize

        return getattr(visualize, name)(net, **options)(image, label)

    return call


@torch.no_grad()
def monai_occlusion(net: nn.Module, image: Tensor, label: int) -> Tensor:
    """monai gives the output of the network without a patch."""
    from monai import visualize

    options = {"mask_size": PATCH, "n_batch": 16, "mode": float(image.min()), "overlap": 0.0, "activate": False}
    found = visualize.OcclusionSensitivity(net, verbose=False, **options)(image)[0]
    return torch.as_tensor(found[:, label].numpy()) - net(image)[:, label]


def grad_cam(net: nn.Module, name: str, layer: str, x: Tensor, target: Tensor) -> Run:
    """A method of grad-cam."""

    def call() -> list[Tensor]:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        quiet = contextlib.redirect_stderr(io.StringIO())  # of its progress bar
        with quiet, getattr(pytorch_grad_cam, name)(model=net, target_layers=[net.get_submodule(layer)]) as method:
            return [torch.from_numpy(method(x, [ClassifierOutputTarget(int(label)) for label in target[: len(x)]]))]

    return call


def serve(pipe, run: Run, threads: int) -> None:
    """Run whenever asked, in a copy of the calling process; answer (wall-clock s, processor s), peak GiB, maps."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    adapt_numpy()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    while pipe.recv():
        try:
            start = np.array([time.perf_counter(), time.process_time()])
            maps = run()
            seconds = np.array([time.perf_counter(), time.process_time()]) - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            pipe.send((seconds, peak / 2**30, [part.detach().float().numpy() for part in maps]))
        except Exception:
            pipe.send(traceback.format_exc())


def measure(case: Case, threads: int, rounds: int, limit: float) -> str:
    """A row of the table; `limit` as on the command line."""
    context, pipes, processes = multiprocessing.get_context("fork"), [], []
    for run in (case.ours, case.theirs):
        here, there = context.Pipe()
        pipes.append(here)
        processes.append(context.Process(target=serve, args=(there, run, threads), daemon=True))
        processes[-1].start()
        there.close()  # so that a side that was killed ends the wait for it
    seconds, difference = [], "-"
    while len(seconds) < rounds and (len(seconds) < 2 or np.sum(seconds, axis=0)[:, 0].sum() < limit):
        answers = [None, None]
        for side in (0, 1) if len(seconds) % 2 == 0 else (1, 0):
            pipes[side].send(True)
            answers[side] = pipes[side].recv()
            if isinstance(answers[side], str):
                raise RuntimeError(f"{case.what}, {('ours', case.peer)[side]}: {answers[side]}")
        seconds.append([answer[0] for answer in answers])
        if case.same:
            parts = zip(answers[0][2], answers[1][2], strict=True)
            difference = f"{max(np.abs(a - b).max() / np.abs(b).max() for a, b in parts):.0e}"
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()
    wall, processor = np.moveaxis(np.array(seconds), -1, 0)  # each (rounds, sides)
    ours, theirs = np.median(wall, axis=0)
    ratios = wall[:, 1] / wall[:, 0]
    return (
        f"| {case.what} | {case.images} | {case.peer} | {ours:.2f} | {theirs:.2f} | {np.median(ratios):.2f} "
        f"({ratios.min():.2f}-{ratios.max():.2f}, {len(ratios)}) | {np.median(processor[:, 1] / processor[:, 0]):.2f} "
        f"| {answers[0][1]:.2f} / {answers[1][1]:.2f} | {difference} |"
    )


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=["resnet50", "efficientnet_b0"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--limit", type=float, default=30, help="two rounds do for a row that has taken so many seconds"
    )
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--only", nargs="*", default=[""], help="parts of what is measured, such as XRAI or PAIR")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a copy of a process inherits no running threads
    there = [peer for peer, module in PEERS.items() if importlib.util.find_spec(module)]
    versions = [
        f"{name} {version(name)}" for name in ("torch", "numpy", *(PEERS[p] if p == "PAIR" else p for p in there))
    ]
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    print(
        f"{processor[0].split(': ')[1] if processor else 'unknown processor'}, {given.threads} threads, images of "
        f"{given.size}², {', '.join(versions)}, load average at the start {os.getloadavg()[0]:.1f}"
    )
    x, target = images(given.images, given.size), torch.arange(given.images) % 10
    for name in [*given.networks, None]:
        print(
            f"\n{name or 'No network: f is a sum over pixels'}\n\n| what | images | peer | ours, s | peer, s "
            "| times faster (range, rounds) | by processor time | memory, GiB: ours / peer | difference of maps |\n"
            "|---|---|---|---|---|---|---|---|---|"
        )
        for case in cases(name, x, target) if name else cases_without_network(x):
            wanted = any(part in f"{case.what} {case.peer}" for part in given.only)
            if wanted and case.peer.split(",")[0] in there:
                print(measure(case, given.threads, given.rounds, given.limit), flush=True)


if __name__ == "__main__":
    main()
