"""Value and input gradient of the midpoint of a CDC ensemble: the number that the saliency methods explain."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch.func import functional_call, stack_module_state

from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import Ensemble

LOG = logging.getLogger(__name__)
try:
    import numba

    from xiqa.saliency import kernels

    NO_KERNELS = ""
except Exception as error:  # numba raises many kinds: no version for this Python, no place for its cache, ...
    NO_KERNELS = f"the compiled kernels cannot be loaded ({type(error).__name__}: {error})"

BACKENDS = ("auto", "fast", "plain")
PLAIN_BATCH = 32
CUDA_BATCH = 16


class MidpointGradient:
    """The ensemble midpoint as a function of the network input, with its gradient.

    The midpoint of a member is the mean of its 12 predicted threshold gold thicknesses in µm, the midpoint of the
    ensemble the mean over its members (paper 000, section 2.4).

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
        reason = _why_not_fast(ensemble, torch.device(device), dtype)
        if backend == "fast" and reason:
            raise ValueError(f'backend "fast" is not possible: {reason}; use "auto" or "plain"')
        if backend == "auto" and reason and torch.device(device).type == "cpu":
            LOG.info("gradient by plain torch: %s", reason)
        if torch.device(device).type != "cpu":
            self.backend, self._way = "batched", BatchedGradient(ensemble.members, device, dtype)
        elif backend == "plain" or reason:
            self.backend, self._way = "plain", PlainGradient(ensemble.members, dtype)
        else:
            self.backend, self._way = "fast", FastGradient(ensemble.members, self.threads)

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
            return self._way.run(self._checked(x), gradients=True)

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
                if gradients:
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
                if gradients:
                    (slope,) = torch.autograd.grad(result.sum(), batch)
                    maps[:, part] = slope[:, :, 0].double().cpu().numpy()
        return values, maps


class FastGradient:
    """The compiled kernels, member after member, on the CPU; not to be shared by several Python threads."""

    def __init__(self, members: list[CDCNet], threads: int):
        self.size = members[0].size
        # Images per batch: enough to spread the reading of the weights, whole panels, work for all threads.
        self.lanes = max(64, -(-threads * kernels.LANES // kernels.PANEL) * kernels.PANEL)
        self.threads = min(threads, numba.config.NUMBA_NUM_THREADS)
        self.members = [_FoldedMember(member) for member in members]
        self.scratch: dict[str, np.ndarray] = {}

    def run(self, x: np.ndarray, gradients: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Midpoints (M, n) and gradients (M, n, s, s), or None, of x (n, s, s)."""
        values = np.empty((len(self.members), len(x)), np.float32)
        maps = np.empty((len(self.members), *x.shape), np.float32) if gradients else None
        before = numba.get_num_threads()
        numba.set_num_threads(self.threads)
        try:
            for index, member in enumerate(self.members):
                for start in range(0, len(x), self.lanes):
                    part = slice(start, start + self.lanes)
                    values[index, part] = self._run(member, x[part], maps[index, part] if gradients else None)
        finally:
            numba.set_num_threads(before)
        return values, maps

    def _run(self, member: _FoldedMember, x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """Midpoint (n,) of x (n, s, s), n at most self.lanes; writes the gradient to `out` if given."""
        groups = -(-len(x) // kernels.LANES)
        panels = -(-len(x) // kernels.PANEL)
        size, half, quarter = self.size, self.size // 2, self.size // 4
        c1, c2, c3 = (-(-c // kernels.OUT_BLOCK) * kernels.OUT_BLOCK for c in member.channels)

        def scratch(name: str, *shape: int, count: int = groups, kind: type = np.float32) -> np.ndarray:
            held = self.scratch.get(name)
            wanted = int(np.prod(shape))
            if held is None or held.shape[0] < count or held.shape[1] != wanted:
                held = self.scratch[name] = np.zeros((count, wanted), kind)
            return held[:count]

        lanes, panel = kernels.LANES, kernels.PANEL
        ring0 = scratch("ring0", 4, size + 4, lanes)
        ring1 = scratch("ring1", c1, 4, half + 4, lanes)
        pooled = scratch("pooled", c2, quarter + 4, quarter + 4, lanes)
        codes1 = scratch("codes1", c1, half, half, lanes, kind=np.uint8)
        codes2 = scratch("codes2", c2, quarter, quarter, lanes, kind=np.uint8)
        features = scratch("features", member.fc1.columns, panel, count=panels)
        hidden1 = scratch("hidden1", member.fc2.columns, panel, count=panels)
        hidden2 = scratch("hidden2", member.mean.columns, panel, count=panels)
        raw = scratch("raw", member.mean.rows, panel, count=panels)
        kernels.convolutions(x, *member.forward, member.counts, ring0, ring1, pooled, codes1, codes2, features)
        for layer, source, target, rectify in (
            (member.fc1, features, hidden1, member.rectified),
            (member.fc2, hidden1, hidden2, member.rectified),
            (member.mean, hidden2, raw, False),
        ):
            kernels.linear(source, layer.weight, layer.bias, rectify, self.threads, target)
        value, slope = member.midpoint(raw.reshape(panels, member.mean.rows, panel))
        if out is not None:
            raw[:] = slope.reshape(panels, -1)
            for layer, source, target, rectified in (
                (member.mean, raw, hidden2, member.rectified),
                (member.fc2, hidden2, hidden1, member.rectified),
                (member.fc1, hidden1, features, True),
            ):
                kernels.linear_backward(source, layer.weight, layer.rows, rectified, target)
            kernels.convolutions_backward(
                features, codes1, codes2, member.zeros, *member.backward, member.counts,
                scratch("ring3", c3, 4, quarter + 4, lanes), scratch("grad2", c2, quarter, quarter, lanes),
                scratch("ring2", c2, 4, half + 4, lanes), scratch("grad1", c1, half, half, lanes),
                scratch("ring1_", c1, 4, size + 12, lanes), scratch("strip", 2, size, lanes), out,
            )  # fmt: skip
        return value[: len(x)]


class _PackedLinear:
    """A linear layer in the order of the kernels."""

    def __init__(self, layer: torch.nn.Linear, columns: int = 0):
        weight = layer.weight.detach().float().cpu().numpy()
        self.weight = kernels.pack_linear(weight, max(columns, weight.shape[1]))
        self.bias = np.zeros(-(-len(weight) // kernels.ROW_BLOCK) * kernels.ROW_BLOCK, np.float32)
        self.bias[: len(weight)] = layer.bias.detach().float().cpu().numpy()
        self.rows = len(self.bias)
        self.columns = self.weight.size // self.rows


class _FoldedMember:
    """One member's weights with batch normalisation folded in, in the order of the kernels."""

    def __init__(self, member: CDCNet):
        self.channels = member.network.channels
        self.counts = np.array(self.channels, np.int64)
        self.rectified = member.network.hidden_activation == "relu"
        self.logarithmic = member.network.target == "log"
        folded = [_folded(getattr(member, f"conv{i}"), getattr(member, f"bn{i}")) for i in (1, 2, 3)]
        self.forward: list[np.ndarray] = []
        for weight, bias in folded:
            padded = np.zeros(-(-len(bias) // kernels.OUT_BLOCK) * kernels.OUT_BLOCK, np.float32)
            padded[: len(bias)] = bias
            self.forward += [kernels.pack_convolution(weight), padded]
        self.backward = [
            kernels.pack_turned(folded[2][0]),
            kernels.pack_turned(folded[1][0]),
            kernels.pack_turned(folded[0][0], 1),
        ]
        self.zeros = np.zeros(kernels.OUT_BLOCK, np.float32)
        third = -(-self.channels[2] // kernels.OUT_BLOCK) * kernels.OUT_BLOCK
        self.fc1 = _PackedLinear(member.fc1, third * (member.size // 4) ** 2)
        self.fc2 = _PackedLinear(member.fc2)
        self.mean = _PackedLinear(member.mean)
        self.outputs = member.mean.out_features
        self.offset = member.target_offset.double().cpu().numpy()[:, None]
        self.scale = member.target_scale.double().cpu().numpy()[:, None]

    def midpoint(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Midpoint (panels * PANEL,) and its derivative by raw (panels, rows, PANEL), the last layer's output."""
        target = self.offset + self.scale * raw[:, : self.outputs].astype(np.float64)
        slope = np.zeros_like(raw)
        if self.logarithmic:
            target = np.exp(target)
            slope[:, : self.outputs] = self.scale * target / self.outputs
        else:
            slope[:, : self.outputs] = self.scale / self.outputs
        return target.mean(1).ravel().astype(np.float32), slope


class _Midpoint(torch.nn.Module):
    """A member's midpoint as a module, so that torch.func can exchange its weights."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.predict_um(x)[0].mean(1)


def _folded(convolution: torch.nn.Conv2d, normalisation: torch.nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Weights (out, in, 3, 3) and bias (out,) of the convolution with its batch normalisation, float32."""
    double = {key: value.double() for key, value in normalisation.state_dict().items()}
    scale = double["weight"] / torch.sqrt(double["running_var"] + normalisation.eps)
    weight = convolution.weight.detach().double() * scale[:, None, None, None]
    bias = (convolution.bias.detach().double() - double["running_mean"]) * scale + double["bias"]
    return weight.float().cpu().numpy(), bias.float().cpu().numpy()


def _why_not_fast(ensemble: Ensemble, device: torch.device, dtype: torch.dtype) -> str:
    """Why the compiled kernels cannot be used, or an empty text."""
    if device.type != "cpu":
        return f"the compiled kernels run on the CPU, found device {device}"
    if dtype != torch.float32:
        return f"the compiled kernels compute in float32, found {dtype}"
    if NO_KERNELS:
        return NO_KERNELS
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
