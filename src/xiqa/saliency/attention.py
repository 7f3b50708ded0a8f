"""Attention rollout and its gradient-weighted form, for vision transformers that attend among all their tokens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from xiqa.saliency import layer_maps
from xiqa.saliency.explained import Explained
from xiqa.saliency.outputs import scalar

_SOFTMAX = {torch.softmax, Tensor.softmax, functional.softmax, torch.special.softmax}
_FUSE = {"mean": lambda a: a.mean(1), "max": lambda a: a.amax(1), "min": lambda a: a.amin(1)}


def maps(
    target: Explained,
    x: Tensor,
    names: Sequence[str],
    head_fusion: Literal["mean", "max", "min"] = "mean",
    discard_ratio: float = 0.0,
    normalise: bool = True,
) -> dict[str, Tensor]:
    """Which patches flow into the output through the attention of all layers, and with which gradient.

    `attention_rollout` is the product over the layers of A/2 + 1/2, A the attention fused over heads and the rows
    scaled to sum to 1. It shows where the network looks, the same for every class. `gradient_attention_rollout` is the
    product of 1 + mean over heads of (∂f/∂A ⊙ A)⁺, and depends on the class. Of both the row is taken of the tokens
    that the output is read from, such as the class token, or the mean of the rows of several.

    How many tokens stand beside the patches, how the patches lie on the image and which tokens are read is found by
    trying: from the convolution in front of the first attention, images that differ in a corner, and a gradient.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        names: methods.
        head_fusion: of the rollout; the gradient-weighted form takes the mean.
        discard_ratio: share of the smallest entries of each fused attention that the rollout sets to 0.
        normalise: min-max the maps.

    Raises:
        ValueError: an option out of range; no attention was found, or none among all patches of one grid.

    Reference: Abnar and Zuidema 2020, "Quantifying attention flow in transformers", section 3; Chefer et al. 2021,
    "Generic attention-model explainability", equations 5 and 6.
    """
    if head_fusion not in _FUSE or not 0 <= discard_ratio < 1:
        raise ValueError(
            f"found head_fusion '{head_fusion}' and discard_ratio {discard_ratio}, expected one of {list(_FUSE)}, and "
            "0 to less than 1"
        )
    target._prepare(x, None)
    tokens = _tokens(target, x)
    weighted = "gradient_attention_rollout" in names
    # Attention, its logits, gradients and their products come on top of what a pass takes without them.
    at_once = max(1, min(target._batch_size(x), int(target.memory_bytes // (6 * tokens.bytes_per_image))))
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, len(x), at_once):
        rows = slice(start, min(start + at_once, len(x)))
        attentions, gradients, _ = _attend(target, x[rows], partial(target._scalar, of=None, rows=rows), weighted)
        if weighted:
            steps = [(a * g).clamp(min=0).mean(1) for a, g in zip(attentions, gradients, strict=True)]
            found["gradient_attention_rollout"].append(_relevance(steps, tokens))
        if "attention_rollout" in found:
            steps = [_with_residual(_kept(_FUSE[head_fusion](a), discard_ratio)) for a in attentions]
            found["attention_rollout"].append(_rollout(steps, tokens))
    whole = {name: layer_maps.onto_image(torch.cat(parts).to(x.dtype), x.shape[2:]) for name, parts in found.items()}
    return {name: layer_maps.min_max(m) if normalise else m for name, m in whole.items()}


class _Tokens(NamedTuple):
    """Where a network's tokens lie and which of them it reads.

    Attributes:
        first: number of the first patch.
        grid: rows and columns of patches, which follow each other row by row.
        read: (t,) share of each token in what is read.
        bytes_per_image: of the attention of all layers.
    """

    first: int
    grid: tuple[int, int]
    read: Tensor
    bytes_per_image: int


def _rollout(steps: Sequence[Tensor], tokens: _Tokens) -> Tensor:
    """What of each patch arrives in the tokens that are read, (b, *grid), through the steps (b, t, t) of all layers.

    The product of the steps is taken from the last layer on, for the row that is asked for: t times as fast as the
    product of matrices. A last step (b, 1, t), of attention that pools the tokens, is that row itself.
    """
    row, layers = _start(steps, tokens)
    for step in reversed(layers):
        row = row @ step
    return _on_grid(row, tokens)


def _relevance(steps: Sequence[Tensor], tokens: _Tokens) -> Tensor:
    """The same for the product of 1 + steps, less the 1, which is the same for all patches."""
    start, layers = _start(steps, tokens)
    pooled = len(layers) < len(steps)
    # Kept apart from what it starts with, beside which small steps would be lost in rounding.
    more = torch.zeros_like(start)
    for step in reversed(layers):
        more = more + (start + more) @ step
    return _on_grid(start + more if pooled else more, tokens)


def _start(steps: Sequence[Tensor], tokens: _Tokens) -> tuple[Tensor, Sequence[Tensor]]:
    """The share of each token in what is read, (b, 1, t), and the steps in front of it."""
    if steps[-1].shape[1] < steps[-1].shape[2]:
        return steps[-1], steps[:-1]
    return tokens.read.to(steps[0]).expand(len(steps[0]), 1, -1), steps


def _on_grid(row: Tensor, tokens: _Tokens) -> Tensor:
    return row[:, 0, tokens.first : tokens.first + math.prod(tokens.grid)].unflatten(1, tokens.grid)


def _with_residual(fused: Tensor) -> Tensor:
    """(A + 1) with rows that sum to 1; attention that pools has no residual connection beside it."""
    square = fused.shape[1] == fused.shape[2]
    whole = fused + torch.eye(fused.shape[1], dtype=fused.dtype, device=fused.device) if square else fused
    return whole / whole.sum(-1, keepdim=True)


def _kept(fused: Tensor, discard_ratio: float) -> Tensor:
    """Attention (b, q, k) without that share of its smallest entries."""
    number = int(discard_ratio * fused[0].numel())
    if not number:
        return fused
    cut = fused.flatten(1).kthvalue(number).values[:, None, None]
    return torch.where(fused > cut, fused, 0)


def _attend(
    target: Explained, x: Tensor, value: Callable[[Any], Tensor], weighted: bool
) -> tuple[list[Tensor], list[Tensor], list[tuple[int, int]]]:
    """Attention (b, heads, t, t) of all layers in order, gradients of `value` of the output, and `_Watch.grids`."""
    with torch.set_grad_enabled(weighted), _Watch() as watch:
        values = value(target._run(x, watch.found))
    if not watch.found:
        _refuse(target, "no attention")
    gradients = []
    if weighted:
        if not values.requires_grad or not all(one.requires_grad for one in watch.found):
            _refuse(target, "no way for gradients from the output to all attention (no_grad, detach)")
        given = torch.autograd.grad(values.sum(), watch.found, allow_unused=True)
        gradients = [torch.zeros_like(a) if g is None else g for a, g in zip(watch.found, given, strict=True)]
    laid = [[_by_image(target, one.detach(), len(x)) for one in some] for some in (watch.found, gradients)]
    return laid[0], laid[1], watch.grids


def _by_image(target: Explained, attention: Tensor, images: int) -> Tensor:
    """Attention (b, heads, q, k), from (b · heads, q, k) too."""
    if attention.ndim == 3 and len(attention) % images == 0:
        return attention.unflatten(0, (images, -1))
    if attention.ndim != 4 or len(attention) != images:
        _refuse(target, f"attention {tuple(attention.shape)} for {images} images, such as within windows")
    return attention


def _refuse(target: Explained, found: str) -> NoReturn:
    raise ValueError(
        f"attention rollout: found {found} in {type(target.net).__name__}, expected a vision transformer whose layers "
        "all attend among all patches, by scaled_dot_product_attention, nn.MultiheadAttention or a softmax; use a "
        "method that looks at no attention, such as 'integrated_gradients'"
    )


def _tokens(target: Explained, x: Tensor) -> _Tokens:
    """Find out how a network's tokens lie, by noise instead of images: those may be blank."""
    noise = torch.randn(1, *x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    of_first = target.target[:1] if isinstance(target.target, Tensor) else target.target
    attentions, gradients, grids = _attend(target, noise, lambda output: scalar(output, of_first, 1), weighted=True)
    shapes = [tuple(one.shape[2:]) for one in attentions]
    count = shapes[0][1]
    pooled = len(shapes) > 1 and shapes[-1] == (1, count)
    if any(shape != (count, count) for shape in (shapes[:-1] if pooled else shapes)):
        _refuse(target, f"attention from and to {sorted(set(shapes))} tokens")
    first, grid = _patches(target, x, count, grids)
    strength = gradients[-2 if pooled else -1].abs().amax((0, 1, 3))
    read = (strength > 1e-6 * strength.max()).to(x)
    if not read.any():  # such as behind weights of 0: as transformers are made
        read[: 1 if first else math.prod(grid)] = 1
    size = sum(one.numel() * one.element_size() for one in attentions)
    return _Tokens(first, grid, read / read.sum(), size)


def _patches(target: Explained, x: Tensor, count: int, grids: Sequence[tuple[int, int]]) -> tuple[int, tuple[int, int]]:
    """Number of the first patch, and rows and columns of patches."""
    height, width = x.shape[2:]
    proportional = [(math.isqrt(n * height // width), n) for n in range(count, max(0, count - 9), -1)]
    guesses = [grid for grid in reversed(grids) if math.prod(grid) <= count]
    guesses += [(r, n // r) for r, n in proportional if r and r * (n // r) == n and r * width == n // r * height]
    for grid in dict.fromkeys(guesses):
        first = _first_patch(target, x, grid)
        if first is not None:
            return first, grid
    _refuse(target, f"{count} tokens that are no grid of patches, row by row, for images of {height} x {width} pixels")


def _first_patch(target: Explained, x: Tensor, grid: tuple[int, int]) -> int | None:
    """Number of the first patch if the tokens hold a grid of patches row by row, else None.

    Images that differ in one corner are given, and seen is which tokens change their product of query and key with
    themselves in the first attention: the corner's own most, and none before the first or behind the last.
    """
    rows, columns = grid
    high, wide = (-(-side // cells) for side, cells in zip(x.shape[2:], grid, strict=True))
    generator = torch.Generator().manual_seed(1)
    base, other = torch.randn(2, *x.shape[1:], generator=generator)
    corners = base.repeat(5, 1, 1, 1)
    for number, (above, left) in enumerate(itertools.product((True, False), repeat=2), 1):
        place = (..., slice(high) if above else slice(-high, None), slice(wide) if left else slice(-wide, None))
        corners[number][place] = other[place]
    try:
        with torch.no_grad(), _Watch(stop=True):
            target._run(corners.to(x))
    except _FirstAttention as stopped:
        logits = _by_image(target, stopped.logits, 5)
    own = logits.diagonal(dim1=2, dim2=3)
    change = (own[1:] - own[0]).abs().amax(1)  # (corner, token)
    seen = change > 1e-3 * change.amax(1, keepdim=True)
    if not seen.any(1).all():
        return None
    first, last = int(seen[0].nonzero()[0]), int(seen[3].nonzero()[-1])
    at = change.argmax(1) - first
    down, right = at // columns * 2 - (rows - 1), at % columns * 2 - (columns - 1)  # below 0 in the upper, left half
    in_place = (down[:2] <= 0).all() and (down[2:] >= 0).all() and (right[::2] <= 0).all() and (right[1::2] >= 0).all()
    in_place &= bool(seen[1, first + columns - 1] and seen[2, first + (rows - 1) * columns])
    if not in_place or last - first + 1 != rows * columns:
        return None
    _check_no_other_way(target, corners.to(x), change == 0)
    return first


def _check_no_other_way(target: Explained, corners: Tensor, still: Tensor) -> None:
    """Refuse tokens that learn of each other by other means than the attention that is seen.

    Each token is let attend to itself alone. Tokens that do not change in the first attention, `still` (corner, token),
    then do not in the last.
    """
    with torch.no_grad(), _Watch(apart=True) as watch:
        target._run(corners, watch.found)
    logits = [_by_image(target, one, len(corners)) for one in watch.found]
    own = next(one for one in reversed(logits) if one.shape[2:] == logits[0].shape[2:]).diagonal(dim1=2, dim2=3)
    change = (own[1:] - own[0]).abs().amax(1)
    if (change[still] > 1e-3 * change.max()).any():
        _refuse(target, "tokens that change each other by other means than the attention that can be seen")


class _FirstAttention(Exception):
    """Ends a pass at its first attention, whose logits it carries."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = logits


class _Watch(TorchFunctionMode):
    """Within it the attention of this thread is computed step by step, and kept.

    Args:
        stop: raise `_FirstAttention` instead.
        apart: let each token attend to itself alone, and keep the logits.

    Attributes:
        found: attention of each call in order, (b, heads, q, k) or (b · heads, q, k); gradients can be taken of it.
        grids: rows and columns of what each convolution in front of the first attention gave.
    """

    def __init__(self, stop: bool = False, apart: bool = False):
        super().__init__()
        self.stop, self.apart = stop, apart
        self.found: list[Tensor] = []
        self.grids: list[tuple[int, int]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if function is functional.multi_head_attention_forward:
            return self._multi_head()(*args, **kwargs)
        if function in _SOFTMAX:
            return self._softmax(function, *args, **kwargs)
        output = function(*args, **kwargs)
        if function is functional.conv2d and not self.found:
            self.grids.append(tuple(output.shape[-2:]))
        return output

    def _attend(
        self, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ):  # as torch names them
        if enable_gqa:
            k, v = (one.repeat_interleave(q.shape[-3] // one.shape[-3], -3) for one in (k, v))
        logits = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        return functional.dropout(self._keep(logits, logits.softmax(-1)), dropout_p) @ v

    def _softmax(self, function, input: Any, *args, **kwargs):
        output = function(input, *args, **kwargs)
        dim = args[0] if args else kwargs.get("dim")
        if output.ndim < 3 or dim not in (-1, output.ndim - 1):
            return output
        square = output.shape[-1] == output.shape[-2] > 1
        pooling = bool(self.found) and output.shape[-2:] == (1, self.found[-1].shape[-1])
        return self._keep(input, output) if square or pooling else output

    def _keep(self, logits: Tensor, attention: Tensor) -> Tensor:
        if self.stop:
            raise _FirstAttention(logits)
        if self.apart:
            self.found.append(logits)
            return torch.eye(*logits.shape[-2:], dtype=logits.dtype, device=logits.device).expand_as(logits)
        if torch.is_grad_enabled() and not attention.requires_grad:
            attention.requires_grad_()
        self.found.append(attention)
        return attention.clone()  # what follows may work in place

    def _multi_head(self):
        """torch's own multi-head attention around ours; by itself it would call its own where no mode looks."""
        own = functional.multi_head_attention_forward
        names = vars(functional) | {
            "has_torch_function": lambda tensors: False,
            "scaled_dot_product_attention": self._attend,
            "softmax": lambda *args, **kwargs: self._softmax(functional.softmax, *args, **kwargs),
        }
        return FunctionType(own.__code__, names, argdefs=own.__defaults__)
