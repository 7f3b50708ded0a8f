"""Occlusion of single pixels, as in Amanova 2022, through the small part of the network that a pixel reaches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xiqa.models.cdc_net import CDCNet, folded_convolutions
from xiqa.saliency.base import Target, as_images

# The 4 × 4 pixels of a block (two poolings by 2) reach the same 5 × 5 units of the third convolution; these see the
# image through 34 × 34 pixels, of which 15 lie before the block. Going up: 34 -> 32 | 16 -> 14 | 7 -> 5.
BLOCK, WINDOW, BEFORE, REACH = 4, 34, 15, 5


def explain(target: Target, x: np.ndarray, stride: int = 1, baseline: float = 0.0, batch: int = 32) -> np.ndarray:
    """Single-pixel occlusion maps f(x with the pixel set to the baseline) - f(x).

    Where the target gives access to its networks (`target.ensemble.members`, CDCNet) only the units that a pixel can
    reach are recomputed, for all pixels: the exact map at about a tenth of the cost of a forward pass per pixel.
    Otherwise each pixel costs one forward pass of the target; `stride` then evaluates a grid only.

    Args:
        target: what is explained.
        x: (n, s, s), normalised.
        stride: 1, the exact map. Larger: pixels 0, stride, 2·stride, ... of each axis by forward passes; the
            pixels in between repeat the value of the grid pixel before them.
        baseline: value put into the pixel; 0 is the training mean.
        batch: occluded images computed at once, without access to the networks.

    Returns:
        Maps (n, s, s) float64 in µm. Positive: without the pixel the midpoint is higher (the quality worse).

    Raises:
        ValueError: stride below 1.

    Reference: Amanova et al. 2022, section 3 (occlusion sensitivity).
    """
    if stride < 1:
        raise ValueError(f"stride: found {stride}, expected at least 1")
    x = as_images(x)
    members = getattr(getattr(target, "ensemble", None), "members", ())
    if stride == 1 and members and all(isinstance(member, CDCNet) for member in members):
        maps = np.zeros(x.shape)
        for member in members:
            walker = _PixelWalker(member)
            for image, values in zip(x, maps, strict=True):
                values += walker.changes(image, baseline) / len(members)
        return maps
    return np.stack([_by_forward_passes(target, image, stride, baseline, batch) for image in x])


def _by_forward_passes(target: Target, image: np.ndarray, stride: int, baseline: float, batch: int) -> np.ndarray:
    rows, columns = (
        axis.ravel() for axis in np.meshgrid(*(np.arange(0, n, stride) for n in image.shape), indexing="ij")
    )
    changes = np.empty(len(rows))
    before = float(target.value(image[None])[0])
    for start in range(0, len(rows), batch):
        part = slice(start, min(start + batch, len(rows)))
        occluded = np.repeat(image[None], part.stop - start, axis=0)
        occluded[np.arange(len(occluded)), rows[part], columns[part]] = baseline
        changes[part] = np.asarray(target.value(occluded), np.float64) - before
    grid = changes.reshape(-(-image.shape[0] // stride), -(-image.shape[1] // stride))
    return np.repeat(np.repeat(grid, stride, axis=0), stride, axis=1)[: image.shape[0], : image.shape[1]]


class _PixelWalker:
    """One member, prepared for changes of single pixels."""

    def __init__(self, member: CDCNet):
        self.member = member
        self.convolutions = folded_convolutions(member)
        self.device, self.dtype = member.fc1.weight.device, member.fc1.weight.dtype
        self.side = member.size // 2 // 2
        # Weights of the first fully connected layer by place: (row, column, channel, unit).
        weight = member.fc1.weight.reshape(-1, self.convolutions[2][0].shape[0], self.side, self.side)
        self.by_place = weight.permute(2, 3, 1, 0).contiguous()
        self.tail = [
            (layer.weight.double(), layer.bias.double()) for layer in (member.fc2, member.mean)
        ]  # fmt: skip

    @torch.no_grad()
    def changes(self, image: np.ndarray, baseline: float) -> np.ndarray:
        """Change of the member's midpoint by each pixel of one image, (s, s) float64."""
        member, size = self.member, self.member.size
        blocks = -(-size // BLOCK)
        x = torch.as_tensor(image).to(self.device, self.dtype)
        features = member.features(x[None, None]).flatten(1)
        first = functional.linear(features, member.fc1.weight, member.fc1.bias).double()
        reached = BLOCK * (blocks - 1) + WINDOW
        padded = functional.pad(x, (BEFORE, reached - BEFORE - size, BEFORE, reached - BEFORE - size))
        result = torch.empty(blocks, blocks, BLOCK, BLOCK, dtype=torch.float64, device=self.device)
        for block_row in range(blocks):
            strip = padded[BLOCK * block_row : BLOCK * block_row + WINDOW]
            moved = self._third_layer_changes(strip.unfold(1, WINDOW, BLOCK).permute(1, 0, 2), block_row, baseline)
            change = self._first_hidden_changes(moved, block_row)
            result[block_row] = self._midpoint_changes(first, change).reshape(blocks, BLOCK, BLOCK)
        return result.permute(0, 2, 1, 3).reshape(BLOCK * blocks, -1)[:size, :size].cpu().numpy()

    def _third_layer_changes(self, windows: Tensor, block_row: int, baseline: float) -> Tensor:
        """Windows (blocks, 34, 34) -> changes of the third layer (blocks, 16, channels, 5, 5), pixel by pixel."""
        blocks = len(windows)
        # The unchanged window comes along as the 17th, so that what a pixel does not reach cancels exactly.
        x = windows[:, None].repeat(1, BLOCK**2 + 1, 1, 1)
        for pixel in range(BLOCK**2):
            x[:, pixel, BEFORE + pixel // BLOCK, BEFORE + pixel % BLOCK] = baseline
        x = x.reshape(-1, 1, WINDOW, WINDOW)
        size = self.member.size
        for level, (weight, bias) in enumerate(self.convolutions):
            x = functional.relu(functional.conv2d(x, weight, bias))
            if level < 2:
                x = functional.max_pool2d(x, 2)
            # What lies outside the layer is padding, 0: rows and columns by their place in the whole layer.
            size = size // 2 if level < 2 else size
            stride, before = ((2, 7), (1, 3), (1, 2))[level]
            inside = torch.arange(x.shape[-1], device=self.device) - before
            row = inside + stride * block_row
            column = inside + stride * torch.arange(blocks, device=self.device)[:, None]
            inside_row = ((row >= 0) & (row < size))[None, :, None]
            inside_column = ((column >= 0) & (column < size))[:, None, :]
            mask = (inside_row & inside_column).repeat_interleave(BLOCK**2 + 1, 0)[:, None]
            x = x * mask
        x = x.reshape(blocks, BLOCK**2 + 1, -1, REACH, REACH)
        return x[:, :-1] - x[:, -1:]

    def _first_hidden_changes(self, moved: Tensor, block_row: int) -> Tensor:
        """Changes of the first hidden layer before its activation, (blocks * 16, hidden) float64."""
        blocks = len(moved)
        change = moved.new_zeros(blocks, BLOCK**2, self.by_place.shape[-1])
        for row in range(REACH):
            place_row = block_row + row - REACH // 2
            if not 0 <= place_row < self.side:
                continue
            for column in range(REACH):
                shift = column - REACH // 2
                start, stop = max(0, -shift), min(blocks, self.side - shift)
                if start < stop:
                    weight = self.by_place[place_row, start + shift : stop + shift]
                    change[start:stop] += moved[start:stop, :, :, row, column] @ weight
        return change.double().flatten(0, 1)

    def _midpoint_changes(self, first: Tensor, change: Tensor) -> Tensor:
        """Changes of the midpoint in µm from changes (k, hidden) of the first hidden layer at `first` (1, hidden)."""
        member = self.member
        (weight, bias), (mean_weight, mean_bias) = self.tail
        activate = functional.relu if member.network.hidden_activation == "relu" else (lambda z: z)
        # Differences are carried, not values: a pixel's effect lies far below the resolution of the midpoint.
        before = activate(first)
        change = activate(first + change) - before
        second = functional.linear(before, weight, bias)
        change = activate(second + change @ weight.T) - activate(second)
        scale = member.target_scale.double()
        change = scale * (change @ mean_weight.T)
        if member.network.target == "linear":
            return change.mean(1)
        output = member.target_offset.double() + scale * functional.linear(activate(second), mean_weight, mean_bias)
        return (torch.exp(output) * torch.expm1(change)).mean(1)
