"""The compiled way to the input gradient of a CDC ensemble: packed weights, and the kernels in their order."""

from __future__ import annotations

import copy

import numba
import numpy as np
import torch

from xiqa.models.cdc_net import CDCNet
from xiqa.models.midpoint import kernels


class FastGradient:
    """The compiled kernels, member after member, on the CPU; not to be shared by several Python threads."""

    def __init__(self, members: list[CDCNet], threads: int):
        self.size = members[0].size
        # Images per batch: enough to spread the reading of the weights, whole panels, work for all threads.
        self.lanes = max(64, -(-threads * kernels.LANES // kernels.PANEL) * kernels.PANEL)
        self.threads = min(threads, numba.config.NUMBA_NUM_THREADS)
        self.members = [_FoldedMember(member) for member in members]
        self.scratch: dict[str, np.ndarray] = {}

    def only(self, member: int) -> FastGradient:
        """The same way for one member alone; it shares the weights and the scratch memory."""
        part = copy.copy(self)
        part.members = self.members[member : member + 1]
        return part

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
                    values[index, part] = self._run(member, x[part], None if maps is None else maps[index, part])
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
        kernels.convolutions(
            x, member.forward, member.biases, member.counts, ring0, ring1, pooled, codes1, codes2, features
        )
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
            rings = (
                scratch("ring3", c3, 4, quarter + 4, lanes),
                scratch("ring2", c2, 4, half + 4, lanes),
                scratch("ring1_", c1, 4, size + 12, lanes),
            )
            gradients = scratch("grad2", c2, quarter, quarter, lanes), scratch("grad1", c1, half, half, lanes)
            kernels.convolutions_backward(
                features, codes1, codes2, member.zeros, member.backward, member.counts, rings, gradients,
                scratch("strip", 2, size, lanes), out,
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
        self.forward = tuple(kernels.pack_convolution(weight) for weight, _ in folded)
        self.biases = tuple(np.pad(bias, (0, -len(bias) % kernels.OUT_BLOCK)) for _, bias in folded)
        self.backward = (
            kernels.pack_turned(folded[2][0]),
            kernels.pack_turned(folded[1][0]),
            kernels.pack_turned(folded[0][0], 1),
        )
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


def _folded(convolution: torch.nn.Conv2d, normalisation: torch.nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Weights (out, in, 3, 3) and bias (out,) of the convolution with its batch normalisation, float32."""
    double = {key: value.double() for key, value in normalisation.state_dict().items()}
    scale = double["weight"] / torch.sqrt(double["running_var"] + normalisation.eps)
    weight = convolution.weight.detach().double() * scale[:, None, None, None]
    bias = (convolution.bias.detach().double() - double["running_mean"]) * scale + double["bias"]
    return weight.float().cpu().numpy(), bias.float().cpu().numpy()
