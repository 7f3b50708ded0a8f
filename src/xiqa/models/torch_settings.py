"""Torch as every training and prediction uses it: threads, speed, and random numbers of its own."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch.optim import Optimizer


@contextlib.contextmanager
def torch_settings(threads: int, device: str = "cpu") -> Iterator[None]:
    """Let torch compute with that many threads, fast and reproducibly; threads and random state are put back after.

    Nothing is compiled there: an optimiser that takes its steps by `take_step` does without torch's compiler, whose
    loading takes more than a second.

    Args:
        threads: threads of torch on the CPU.
        device: "cpu" or "cuda", whose random state is put back too.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        with (
            _without_compiler(),
            torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []),
        ):
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(False)


@torch.no_grad()
def take_step(optimiser: Optimizer) -> None:
    """`optimiser.step()` without its wrappers: hooks, which nobody sets here, and a mark for torch's compiler."""
    inspect.unwrap(type(optimiser).step)(optimiser)


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Optimisers do not load torch's compiler only to tell it to leave them alone.

    On its first call each of these methods asks the compiler for a form of itself that is not compiled, and keeps it
    under the name below. Outside of the compiler that form is the method itself.
    """
    kept = "__dynamo_disable"
    methods = [getattr(Optimizer, name) for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")]
    plain = [m.__wrapped__ for m in methods if hasattr(m, "__wrapped__") and not hasattr(m.__wrapped__, kept)]
    for method in plain:
        setattr(method, kept, method)
    try:
        yield
    finally:
        for method in plain:
            delattr(method, kept)
