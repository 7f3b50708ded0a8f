"""Torch as every training and prediction uses it: threads, speed, and random numbers of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def torch_settings(threads: int, device: str = "cpu") -> Iterator[None]:
    """Let torch compute with that many threads, fast and reproducibly; threads and random state are put back after.

    Args:
        threads: threads of torch on the CPU.
        device: "cpu" or "cuda", whose random state is put back too.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(False)
