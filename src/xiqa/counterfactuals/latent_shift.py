"""Counterfactuals by a shift of an autoencoder's latent code, with the residual kept and as published."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from xiqa.counterfactuals.margin import Logits, decisions, gradient, lengths, margin, runner_up

SHORTEST, LONGEST = 0.05, 3.2
"""Shifts that are tried, over the length of the code: each is twice the one before it."""
BISECTIONS = 7


class Codec(Protocol):
    """What a counterfactual needs of a generative model; a user's own may be any."""

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, ...) of images (n, ...)."""

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes."""


class Shift(NamedTuple):
    """Counterfactuals of images.

    Attributes:
        images: (n, ...) x'; where none was found, the image of the longest shift.
        valid: (n,) bool: decided as the class asked for.
        length: (n,) λ of the unit vector u, in the unit of the code.
        relative: (n,) λ over the length of the code.
        decided: (n,) class of the image that the search starts from, the reconstruction in the published form.
        asked: (n,) class asked for.
    """

    images: Tensor
    valid: Tensor
    length: Tensor
    relative: Tensor
    decided: Tensor
    asked: Tensor


def latent_shift(
    net: Logits,
    codec: Codec,
    x: Tensor,
    to: Tensor | None = None,
    *,
    residual: bool = True,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Shift:
    """The shortest shift of the code, against the gradient of the decision, that changes the decision.

    u = -∇m/‖∇m‖ by the code, with m = f_c - f_d of the class c that an image is given and the class d asked for. λ is
    doubled from 0.05‖z‖ to 3.2‖z‖ until d is the most probable class, then bisected seven times. A margin of logits is
    taken because a probability near 1 has no gradient left.

    Args:
        net: images -> logits.
        codec: an autoencoder; x and its images have one shape.
        x: (n, c, h, w).
        to: (n,) classes asked for; None: the second most probable one of each image.
        residual: x' = x + D(z + λu) - D(z), so that what the autoencoder loses stays in the image. Without it x' =
            D(z + λu), as published, starts from the reconstruction, whatever that is decided as.
        bounds: gray values that an image may have; x' is cut there before it is decided.

    Raises:
        ValueError: an image is given the class that is asked for, so that nothing would change.

    Reference: Cohen et al., Gifsplanation via latent shift, MIDL 2021.
    """
    with torch.no_grad():
        z = codec.encode(x)
        rest = x - codec.decode(z) if residual else torch.zeros_like(x)

    def image(code: Tensor) -> Tensor:
        return cut(rest + codec.decode(code), bounds)

    c, second = runner_up(net, x)
    d = second if to is None else to
    if (same := (c == d).nonzero()).numel():
        raise ValueError(f"to: found class {int(d[same[0]])} for an image of that class, expected another one")
    with torch.no_grad():
        start = image(z)
    slope = gradient(lambda code: margin(net, rest + codec.decode(code), c, d), z)
    u = -slope / lengths(slope).clamp_min(torch.finfo(slope.dtype).tiny)
    length, valid = shortest(lambda lam: decisions(net, _image(image, z, lam, u)) == d, lengths(z).flatten())
    with torch.no_grad():
        images = _image(image, z, length, u)
    decided = decisions(net, start)
    return Shift(images, valid, length, length / lengths(z).flatten(), decided, d)


def shortest(flipped: Callable[[Tensor], Tensor], unit: Tensor) -> tuple[Tensor, Tensor]:
    """The shortest λ (n,) that flips each decision, by doubling and bisection, and whether one does (n,).

    Args:
        flipped: λ (n,) -> (n,) bool.
        unit: (n,) length of the codes, of which λ is a multiple.
    """
    high, found = SHORTEST * unit, torch.zeros_like(unit, dtype=torch.bool)
    low, step = torch.zeros_like(unit), SHORTEST
    while step <= LONGEST * (1 + 1e-9):
        # Those that are found keep their length.
        found = found | flipped(high)
        step *= 2
        if step <= LONGEST * (1 + 1e-9):
            low = torch.where(found, low, high)
            high = torch.where(found, high, step * unit)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        beyond = flipped(middle)
        high = torch.where(found & beyond, middle, high)
        low = torch.where(found & ~beyond, middle, low)
    return high, found


def random_shift(
    net: Logits, codec: Codec, x: Tensor, shift: Shift, seed: int, bounds: tuple[float, float] | None = (0.0, 1.0)
) -> Shift:
    """The control: shifts of the same length along a random direction of the code, with the residual kept."""
    with torch.no_grad():
        z = codec.encode(x)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=z.dtype).to(z.device)
        moved = z + shift.length.reshape(-1, *[1] * (z.ndim - 1)) * noise / lengths(noise)
        images = cut(x + codec.decode(moved) - codec.decode(z), bounds)
    return shift._replace(images=images, valid=decisions(net, images) == shift.asked)


def cut(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Gray values within bounds."""
    return x if bounds is None else x.clamp(*bounds)


def _image(image: Callable[[Tensor], Tensor], z: Tensor, length: Tensor, u: Tensor) -> Tensor:
    with torch.no_grad():
        return image(z + length.reshape(-1, *[1] * (z.ndim - 1)) * u)
