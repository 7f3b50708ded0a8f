"""The curve that a deep ensemble predicts, as what saliency methods explain: the midpoint, towards lower thresholds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xiqa.models.cdc_net import CurveOutputs
from xiqa.models.midpoint import MidpointGradient
from xiqa.registry import LINEAR, OF_ONE_NETWORK, module_of
from xiqa.saliency.attribution import known_options, maps_of
from xiqa.saliency.explained import MEMORY_GB, Explained, Pass, check_images, plain_autograd


class ExplainedEnsemble(Explained):
    """f = -midpoint in µm of the mean curve of an ensemble: maps show what speaks for a lower, better, curve.

    It is `Explained` with the gradients of `MidpointGradient`, compiled where that is possible, instead of autograd's.

    Args:
        midpoint: of the ensemble.

    Reference: Amanova 2022, section 2.4.
    """

    def __init__(self, midpoint: MidpointGradient):
        self.midpoint = midpoint
        self.curve_networks = midpoint.ensemble.members
        self.memory_bytes = MEMORY_GB * 2**30

    @property
    def net(self) -> nn.Module:  # type: ignore[override]
        """Refused: what a method would find there is not what the gradients come from."""
        raise ValueError(
            "ensemble: found a method that looks inside a network, expected one that asks for outputs and gradients; "
            "explain each of `networks()`"
        )

    def images(self, x: Tensor) -> Tensor:
        """Images (n, 1, s, s) in float32, or float64 where the midpoint is computed so."""
        check_images(x)
        return x.detach().to(torch.float64 if self.midpoint.dtype == torch.float64 else torch.float32)

    def value(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """f (n,) of images (n, 1, s, s)."""
        return -torch.from_numpy(self.midpoint.value(_array(x))).to(x.device)

    def gradient(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """∂f/∂x (n, 1, s, s), the mean over the members."""
        return self.member_gradients(x).mean(0)

    def member_gradients(self, x: Tensor) -> Tensor:
        """∂f/∂x of each member, (m, n, 1, s, s)."""
        return -torch.from_numpy(self.midpoint.member_gradients(_array(x))[1])[:, :, None].to(x.device)

    def passes(
        self, x: Tensor, of: Tensor | None = None, layers: Sequence[str] = (), gradient: bool = True
    ) -> Iterator[Pass]:
        """Values and gradients of all images at once; a ValueError if layers are asked for: the mean has none."""
        if layers:
            raise ValueError(f"layers: found {list(layers)}, expected none: the mean of an ensemble has no layers")
        values, gradients = self.midpoint.member_gradients(_array(x))
        slope = -torch.from_numpy(gradients.mean(0))[:, None].to(x.device)
        yield Pass(slice(0, len(x)), -torch.from_numpy(values.mean(0)).to(x.device), slope if gradient else None, {})

    def members(self) -> list[ExplainedEnsemble]:
        """Each member as an ensemble of one, with the gradients of this one."""
        return [ExplainedEnsemble(midpoint) for midpoint in self.midpoint.of_members()]

    def networks(self) -> Sequence[Explained]:
        """Each member as a network whose layers can be walked."""
        return [Explained(_Curve(member), _falling(member)) for member in self.midpoint.ensemble.members]


def explain_ensemble(
    target: ExplainedEnsemble, x: np.ndarray, method: str, members: bool = False, **options: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Maps of sampled images, and what each member contributed to them.

    Args:
        target: the ensemble.
        x: (n, s, s), normalised.
        method: one that does not look inside a network (`registry.OF_ONE_NETWORK`).
        members: also return the members' parts.
        options: of the method; those that it does not have are left out.

    Returns:
        Maps (n, s, s); the members' parts (m, n, s, s), whose mean over m is the map, where they are asked for and the
        method has them, otherwise None.

    Raises:
        ValueError: the method looks inside a network, and the mean of several has no inside.
    """
    if OF_ONE_NETWORK.get(method):
        raise ValueError(
            f"method: found '{method}', which looks inside one network, expected one that asks for outputs and "
            "gradients, such as gradient, or occlusion: the mean of several networks has no inside"
        )
    images = torch.from_numpy(np.ascontiguousarray(x))[:, None]
    with plain_autograd(images):
        images = target.images(images)
        parts: Tensor | None = None
        module = importlib.import_module(module_of(method))
        if members and hasattr(module, "contributions"):
            own = known_options([method], options)
            maps, parts = (found[..., 0, :, :] for found in module.contributions(target, images, **own))
        elif members and LINEAR.get(method):
            parts = torch.stack([maps_of(one, images, [method], **options)[method] for one in target.members()])
            maps = parts.mean(0)
        else:
            maps = maps_of(target, images, [method], **options)[method]
    return maps.cpu().numpy(), None if parts is None else parts.cpu().numpy()


class _Curve(nn.Module):
    """The mean outputs (n, k) of a member, without its variances."""

    def __init__(self, member: CurveOutputs):
        super().__init__()
        self.member = member

    def forward(self, x: Tensor) -> Tensor:
        return self.member(x)[0]


def _falling(member: CurveOutputs) -> Callable[[Tensor], Tensor]:
    """What makes -midpoint in µm (n,) of the outputs of `_Curve`."""
    return (lambda output: -output.mean(1)) if member.target == "linear" else (lambda output: -output.exp().mean(1))


def _array(x: Tensor) -> np.ndarray:
    return x.detach()[:, 0].cpu().numpy()
