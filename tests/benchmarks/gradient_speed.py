"""Speed and error of the input gradient of the CDC ensemble: compiled kernels against plain automatic differentiation.

Run by `make bench`, or: python tests/benchmarks/gradient_speed.py [--threads 2] [--rounds 9] [--size 250].
The ways are measured in turn, round after round, and the medians are compared, because other processes may share the
machine. The network is that of Amanova 2022 (table 2) with random weights and batch-normalisation statistics.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import Ensemble
from xiqa.models.midpoint import MidpointGradient

PAPER_GRADIENTS = 50 * 5000 * 10  # L steps, N draws, M members (Amanova 2022, sections 2.4 and 3)
MATRIX = 2048


def random_member(size: int, seed: int) -> CDCNet:
    """The network with batch-normalisation statistics that differ between channels, as after training."""
    torch.manual_seed(seed)
    member = CDCNet(size)
    for layer in (member.bn1, member.bn2, member.bn3):
        layer.running_mean.normal_(0, 0.2)
        layer.running_var.uniform_(0.3, 1.5)
        torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
        torch.nn.init.normal_(layer.bias, 0, 0.2)
    return member.eval().requires_grad_(False)


def operations(member: CDCNet) -> float:
    """Floating-point operations of one value and gradient, every multiplication and addition counted, zeros too."""
    size, (first, second, third) = member.size, member.network.channels
    half, quarter = size // 2, size // 4
    convolutions = 9 * (size**2 * first + half**2 * first * second + quarter**2 * second * third)
    linear = member.fc1.weight.numel() + member.fc2.weight.numel() + member.mean.weight.numel()
    return 4.0 * (convolutions + linear)  # two operations each, forward and backward


def seconds(work) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def relative_errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Relative L2 error of each of (n, s, s) maps."""
    axes = (1, 2)
    return np.linalg.norm(found - exact, axis=axes) / np.linalg.norm(exact, axis=axes)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--rounds", type=int, default=9, help="rounds of measurements whose median counts")
    parser.add_argument("--size", type=int, default=250, help="rows and columns of the network input")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    member = random_member(arguments.size, 0)
    ensemble = Ensemble([member], 0.0, 1.0)
    x = np.random.default_rng(0).normal(size=(64, arguments.size, arguments.size)).astype(np.float32)
    plain = MidpointGradient(ensemble, "plain", threads=arguments.threads)
    fast = MidpointGradient(ensemble, "auto", threads=arguments.threads)
    low = MidpointGradient(ensemble, "plain", dtype=torch.bfloat16, threads=arguments.threads)
    ways = {
        ("plain autograd, float32", 32): plain,
        (f"{fast.backend}, float32", 32): fast,
        (f"{fast.backend}, float32", 64): fast,
        ("plain autograd, bfloat16", 32): low,
    }
    console = Console(width=120)
    with console.status("compiling and warming up"):
        first_call = seconds(lambda: fast.member_gradients(x[:1]))
        for (_, batch), way in ways.items():
            way.member_gradients(x[:batch])
    times = {key: [] for key in ways}
    matrices = torch.randn(2, MATRIX, MATRIX)
    peaks = []
    with console.status("measuring"):
        for _ in range(arguments.rounds):
            for key, way in ways.items():
                times[key].append(seconds(lambda way=way, key=key: way.member_gradients(x[: key[1]])) / key[1])
            peaks += [2.0 * MATRIX**3 / seconds(lambda: matrices[0] @ matrices[1]) for _ in range(2)]
    with console.status("comparing with float64"):
        exact = MidpointGradient(ensemble, "plain", dtype=torch.float64).gradient(x[:32])
        errors = {key: relative_errors(way.gradient(x[:32]), exact) for key, way in ways.items()}

    work, peak = operations(member), statistics.median(peaks)
    baseline = statistics.median(times["plain autograd, float32", 32])
    table = Table(
        title=f"Gradient of one member's midpoint, input {arguments.size} × {arguments.size}, "
        f"{arguments.threads} thread(s), median of {arguments.rounds} rounds"
    )
    for head in ("way", "batch", "ms", "times faster", "share of peak", "median error", "worst error", "hours, paper"):
        table.add_column(head, justify="left" if head == "way" else "right")
    for key in ways:
        taken = statistics.median(times[key])
        table.add_row(
            key[0],
            str(key[1]),
            f"{1e3 * taken:.2f}",
            f"{baseline / taken:.1f}",
            f"{work / taken / peak:.0%}",
            f"{np.median(errors[key]):.1e}",
            f"{errors[key].max():.1e}",
            f"{PAPER_GRADIENTS * taken / 3600:.1f}",
        )
    console.print(table)
    console.print(
        f"{work / 1e9:.3f} GFLOP per gradient; peak: float32 matrix product of {MATRIX} × {MATRIX}, median "
        f"{peak / 1e9:.0f} GFLOP/s (best {max(peaks) / 1e9:.0f}).\n"
        "Error: relative L2 error of the gradient of 32 images against float64. The worst image may sit near a tie of "
        "ReLU or pooling, where every float32 path may take the other side.\n"
        f"Paper's setting: L = 50, N = 5,000, M = 10: {PAPER_GRADIENTS / 1e6:.1f} million gradients. "
        "bfloat16 is shown for its error, not for use.\n"
        f"First call of the compiled kernels (compiling, or loading from the cache): {first_call:.1f} s. "
        f"{platform.machine()}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores."
    )
    if os.getloadavg()[0] > os.cpu_count() + 0.5:
        console.print("Other processes shared the cores: times and hours are too long, the ratios are what counts.")


if __name__ == "__main__":
    main()
