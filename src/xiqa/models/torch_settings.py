"""Torch as every training and prediction uses it: threads, speed, and random numbers of its own."""

from __future__ import annotations

import contextlib
import ctypes
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
    _keep_freed_memory()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(False)


def _keep_freed_memory() -> None:
    """Have the C library keep freed memory instead of returning it to the system after every batch.

    Activations of one batch are tens of megabytes each; faulting them in again took as long as computing them (24
    against 14 ms per image). Without glibc nothing happens.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        pass
