"""Value and input gradient of the midpoint of a CDC ensemble: the number that the saliency methods explain."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, Self

import numpy as np
import torch
from torch.func import functional_call, stack_module_state

from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import Ensemble

LOG = logging.getLogger(__name__)

BACKENDS = ("auto", "fast", "plain")
PLAIN_BATCH = 32
CUDA_BATCH = 16


class _Way(Protocol):
    """A way of computing midpoints and gradients."""

    @property
    def size(self) -> int | None:
        """Side of the images; None: any."""
        ...

    def run(self, x: np.ndarray, gradients: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Midpoints (M, n) and gradients (M, n, s, s), or None, of x (n, s, s)."""
        ...

    def only(self, member: int) -> Self:
        """The same way for one member alone; it shares the weights."""
        ...


class MidpointGradient:
    """The ensemble midpoint as a function of the network input, with its gradient.

    The midpoint of a member is the mean of its 12 predicted threshold gold thicknesses in µm, the midpoint of the
    ensemble the mean over its members (Amanova 2022, section 2.4).

    Three ways of computing the same numbers:

    - fast: compiled kernels on the CPU, float32, batch normalisation folded into the convolutions. A result depends
      neither on the other images of a call nor on the number of threads. Needs one more copy of the weights.
    - plain: torch's automatic differentiation, any floating dtype. With torch.float64 it is the exact way; with
      torch.bfloat16 the gradient is off by about a tenth (`make bench` prints the error): not for results.
    - on a CUDA device: torch's automatic differentiation, all members at once.

    Args:
        ensemble: trained members. A member needs `predict_um(x (n, 1, s, s))`, which returns (mean in µm (n, k), ...).
        backend: "fast", "plain", or "auto": fast where it is possible, otherwise plain, the reason in the log.
        device: "cpu" or "cuda". A CUDA device has one way only; backend must be "auto" or "plain" there.
        dtype: torch dtype of the computation.
        threads: threads used; None: as many as torch uses.

    Attributes:
        ensemble: the ensemble itself, for methods that look inside its networks.
        backend: the way in use: "fast", "plain" or "batched".

    Raises:
        ValueError: unknown backend, no member, or "fast" asked for where it is not possible.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        backend: str = "auto",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        threads: int | None = None,
    ):
        if backend not in BACKENDS:
            raise ValueError(f"backend: found {backend!r}, expected one of {', '.join(BACKENDS)}")
        if not ensemble.members:
            raise ValueError("ensemble: found no member, expected at least one")
        if threads is not None and threads < 1:
            raise ValueError(f"threads: found {threads}, expected at least 1")
        self.ensemble = ensemble
        self.threads = threads or torch.get_num_threads()
        self.dtype = dtype
        reason = "plain was asked for" if backend == "plain" else _why_not_fast(ensemble, torch.device(device), dtype)
        if backend == "fast" and reason:
            raise ValueError(f'backend "fast" is not possible: {reason}; use "auto" or "plain"')
        if backend == "auto" and reason and torch.device(device).type == "cpu":
            LOG.info("gradient by plain torch: %s", reason)
        self._way: _Way
        if torch.device(device).type != "cpu":
            self.backend, self._way = "batched", BatchedGradient(ensemble.members, device, dtype)
        elif backend == "plain" or reason:
            self.backend, self._way = "plain", PlainGradient(ensemble.members, dtype)
        else:
            from xiqa.models.midpoint.fast import FastGradient

            self.backend, self._way = "fast", FastGradient(ensemble.members, self.threads)

    def of_members(self) -> list[MidpointGradient]:
        """The midpoint of each member alone, computed in the same way."""
        parts = []
        for number, member in enumerate(self.ensemble.members):
            part = copy.copy(self)
            part.ensemble = replace(self.ensemble, members=[member])
            part._way = self._way.only(number)
            parts.append(part)
        return parts

    def value(self, x: np.ndarray) -> np.ndarray:
        """Ensemble midpoint.

        Args:
            x: (n, s, s) normalised network input, any n.

        Returns:
            (n,) µm, float32 (float64 where the computation is).
        """
        return self.member_values(x).mean(0)

    def member_values(self, x: np.ndarray) -> np.ndarray:
        """Midpoint of each member, (M, n) µm, of x (n, s, s)."""
        with _use_threads(self.threads):
            return self._way.run(self._checked(x), gradients=False)[0]

    def member_gradients(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Midpoint of each member and its gradient with respect to the input.

        Args:
            x: (n, s, s) normalised network input, any n; it is worked through in batches.

        Returns:
            values (M, n) in µm and gradients (M, n, s, s) in µm per training standard deviation, float32 (float64
            where the computation is).
        """
        with _use_threads(self.threads):
            values, maps = self._way.run(self._checked(x), gradients=True)
        assert maps is not None, "asked for above"
        return values, maps

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Gradient of the ensemble midpoint, (n, s, s), of x (n, s, s)."""
        return self.member_gradients(x)[1].mean(0)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float64 if self.dtype == torch.float64 else np.float32)
        size = self._way.size
        if x.ndim != 3 or x.shape[1] != x.shape[2] or (size and x.shape[1] != size):
            wanted = f"(n, {size}, {size})" if size else "(n, s, s)"
            raise ValueError(f"x: found shape {x.shape}, expected {wanted}")
        if not np.isfinite(x).all():
            raise ValueError("x: found values that are not finite; check the image and its normalisation")
        return x


class PlainGradient:
    """torch's automatic differentiation, member after member, on the CPU."""

    def __init__(self, members: list[torch.nn.Module], dtype: torch.dtype):
        self.members = members
        self.dtype = dtype
        self.size = getattr(members[0], "size", None)

    def only(self, member: int) -> PlainGradient:
        """The same way for one member alone."""
        return PlainGradient(self.members[member : member + 1], self.dtype)

    def run(self, x: np.ndarray, gradients: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Midpoints (M, n) and gradients (M, n, s, s), or None, of x (n, s, s)."""
        kind = x.dtype
        values = np.empty((len(self.members), len(x)), kind)
        maps = np.empty((len(self.members), *x.shape), kind) if gradients else None
        for index, member in enumerate(self.members):
            if next(member.parameters()).dtype != self.dtype:
                # Converted for the time of use only: in float64 ten members would fill 5 GB.
                member = copy.deepcopy(member).to(self.dtype)
            for start in range(0, len(x), PLAIN_BATCH):
                part = slice(start, start + PLAIN_BATCH)
                batch = torch.tensor(x[part, None], dtype=self.dtype, requires_grad=gradients)
                with torch.set_grad_enabled(gradients), _evaluating(member):
                    midpoint = member.predict_um(batch)[0].mean(1)
                values[index, part] = midpoint.detach().to(torch.float64).numpy()
                if maps is not None:
                    (slope,) = torch.autograd.grad(midpoint.sum(), batch)
                    maps[index, part] = slope[:, 0].to(torch.float64 if kind == np.float64 else torch.float32).numpy()
        return values, maps


class BatchedGradient:
    """torch's automatic differentiation, all members at once (convolutions in groups, batched products)."""

    def __init__(self, members: list[torch.nn.Module], device: str | torch.device, dtype: torch.dtype):
        self.device = torch.device(device)
        self.dtype = dtype
        self.size = getattr(members[0], "size", None)
        self.n_members = len(members)
        state = stack_module_state(members)
        self.state = [
            {
                f"network.{key}": value.detach().to(self.device, self.dtype if value.is_floating_point() else None)
                for key, value in part.items()
            }
            for part in state
        ]
        self.skeleton = _Midpoint(copy.deepcopy(members[0]).to("meta").eval())

    def only(self, member: int) -> BatchedGradient:
        """The same way for one member alone; it shares the weights."""
        part = copy.copy(self)
        part.n_members = 1
        part.state = [{key: value[member : member + 1] for key, value in kind.items()} for kind in self.state]
        return part

    def run(self, x: np.ndarray, gradients: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Midpoints (M, n) and gradients (M, n, s, s), or None, of x (n, s, s)."""

        def midpoint(parameters: dict, buffers: dict, batch: torch.Tensor) -> torch.Tensor:
            return functional_call(self.skeleton, (parameters, buffers), (batch,))

        over_members = torch.func.vmap(midpoint, in_dims=(0, 0, 0))
        values = np.empty((self.n_members, len(x)), x.dtype)
        maps = np.empty((self.n_members, *x.shape), x.dtype) if gradients else None
        for start in range(0, len(x), CUDA_BATCH):
            part = slice(start, start + CUDA_BATCH)
            batch = torch.tensor(x[part, None], dtype=self.dtype, device=self.device)
            batch = batch.expand(self.n_members, *batch.shape).clone().requires_grad_(gradients)
            # cuDNN would round the factors of float32 convolutions to 10 bits (TF32) if it were let.
            exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            with exact, torch.set_grad_enabled(gradients):
                result = over_members(*self.state, batch)
                values[:, part] = result.detach().double().cpu().numpy()
                if maps is not None:
                    (slope,) = torch.autograd.grad(result.sum(), batch)
                    maps[:, part] = slope[:, :, 0].double().cpu().numpy()
        return values, maps


class _Midpoint(torch.nn.Module):
    """A member's midpoint as a module, so that torch.func can exchange its weights."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.predict_um(x)[0].mean(1)


def why_no_kernels() -> str:
    """Why the compiled kernels cannot be loaded, or an empty text; they are loaded where they are asked for only."""
    try:
        from xiqa.models.midpoint import fast  # noqa: F401
    except Exception as error:  # numba raises many kinds: no version for this Python, no place for its cache, ...
        return f"the compiled kernels cannot be loaded ({type(error).__name__}: {error})"
    return ""


def _why_not_fast(ensemble: Ensemble, device: torch.device, dtype: torch.dtype) -> str:
    """Why the compiled kernels cannot be used, or an empty text."""
    if device.type != "cpu":
        return f"the compiled kernels run on the CPU, found device {device}"
    if dtype != torch.float32:
        return f"the compiled kernels compute in float32, found {dtype}"
    if reason := why_no_kernels():
        return reason
    for member in ensemble.members:
        if type(member) is not CDCNet:
            return f"the compiled kernels know CDCNet, found {type(member).__name__}"
    return ""


@contextlib.contextmanager
def _use_threads(threads: int) -> Iterator[None]:
    """Let torch use that many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _evaluating(member: torch.nn.Module) -> Iterator[None]:
    """Dropout off, batch normalisation by its running statistics, for a while."""
    before = member.training
    member.eval()
    try:
        yield
    finally:
        member.train(before)
