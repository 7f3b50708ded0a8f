"""Midpoints that the saliency tests explain: closed forms, and small networks by plain float64 autograd."""

from types import SimpleNamespace

import numpy as np
import torch

from xiqa.config import Network
from xiqa.models.cdc_net import CDCNet
from xiqa.saliency.of_ensemble import ExplainedEnsemble, explain_ensemble


def explain(midpoint, x, method, members=False, **options):
    """Maps (n, s, s) of the scalar -midpoint, with the members' parts where they are asked for; 0 is wiped in."""
    found = explain_ensemble(ExplainedEnsemble(midpoint), x, method, members, **{"baseline": 0.0, **options})
    return found if members else found[0]


class FormulaTarget:
    """Members given as pairs of functions of x (n, s, s): value (n,) and gradient (n, s, s); counts its calls."""

    def __init__(self, *members, dtype=torch.float64):
        self.members = members
        self.ensemble = SimpleNamespace(members=list(members))
        self.dtype = dtype
        self.gradient_calls = 0

    def of_members(self):
        return [FormulaTarget(member, dtype=self.dtype) for member in self.members]

    def value(self, x):
        return np.mean([value(x) for value, _ in self.members], axis=0)

    def gradient(self, x):
        return self.member_gradients(x)[1].mean(0)

    def member_gradients(self, x):
        self.gradient_calls += 1
        return np.stack([v(x) for v, _ in self.members]), np.stack([g(x) for _, g in self.members])


def linear(*weights, bias=0.0):
    """Target whose members are f(x) = sum(w * x) + bias."""
    return FormulaTarget(
        *(
            (lambda x, w=w: (x * w).sum((1, 2)) + bias, lambda x, w=w: np.broadcast_to(w, x.shape).astype(x.dtype))
            for w in weights
        ),
        dtype=torch.from_numpy(weights[0]).dtype,
    )


def small_net(seed=0, size=22, **network):
    """A CDCNet in float64 with all its numbers random, batch normalisation included, so that none of them hides."""
    rng = np.random.default_rng(seed)
    net = CDCNet(size, Network(channels=(3, 4, 5), hidden=16, **network)).double()
    with torch.no_grad():
        for name, values in [*net.named_parameters(), *net.named_buffers()]:
            if not values.is_floating_point():
                continue
            if name.endswith(("running_var", "target_scale")):
                random = rng.uniform(0.5, 2, values.shape)
            else:
                # He's scale keeps the signal alive from layer to layer.
                random = rng.normal(0, np.sqrt(2 / max(values[0].numel(), 1)) if values.ndim > 1 else 0.5, values.shape)
            values.copy_(torch.tensor(random))
    return net.eval().requires_grad_(False)


class NetTarget:
    """The ensemble midpoint in float64 by plain autograd, one member after the other."""

    dtype = torch.float64

    def __init__(self, *nets):
        self.ensemble = SimpleNamespace(members=list(nets))

    def of_members(self):
        return [NetTarget(net) for net in self.ensemble.members]

    def value(self, x):
        return self.member_gradients(x)[0].mean(0)

    def gradient(self, x):
        return self.member_gradients(x)[1].mean(0)

    @torch.enable_grad()
    def member_gradients(self, x):
        values, gradients = [], []
        for net in self.ensemble.members:
            tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            midpoints = net.predict_um(tensor[:, None])[0].mean(1)
            gradients.append(torch.autograd.grad(midpoints.sum(), tensor)[0].numpy())
            values.append(midpoints.detach().numpy())
        return np.stack(values), np.stack(gradients)
