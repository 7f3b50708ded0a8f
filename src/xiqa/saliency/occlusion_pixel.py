"""Single-pixel occlusion: the change of the explained scalar when one pixel of the image is wiped out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from xiqa.models.cdc_net import CDCNet, folded_convolutions
from xiqa.saliency.explained import Explained
from xiqa.saliency.references import baseline_image, copies_at_once

# The 4 × 4 pixels of a block (two poolings by 2) reach the same 5 × 5 units of the third convolution; these see the
# image through 34 × 34 pixels, of which 15 lie before the block. Going up: 34 -> 32 | 16 -> 14 | 7 -> 5.
BLOCK, WINDOW, BEFORE, REACH = 4, 34, 15, 5


@torch.no_grad()
def explain(target: Explained, x: Tensor, stride: int = 1, baseline: float | Tensor | None = None) -> Tensor:
    """Maps f(x with the pixel, in all channels, set to the baseline) - f(x).

    Of an ensemble that predicts contrast-detail curves only the units that a pixel can reach are recomputed, for all
    pixels: the exact map at about a tenth of the cost of a forward pass per pixel. Of any other network each pixel
    costs one forward pass; `stride` then evaluates a grid only.

    Args:
        target: what is explained; only its values are used.
        x: (n, c, h, w).
        stride: 1, the exact map. Larger: pixels 0, stride, 2 · stride, ... of each axis by forward passes; the pixels
            in between repeat the value of the grid pixel before them.
        baseline: what is put into the pixel, a number or a tensor that broadcasts to x; None: the minimum of each
            image.

    Returns:
        Maps (n, h, w) in the unit of f. Negative: the pixel speaks for the class, without it f is lower.

    Raises:
        ValueError: stride below 1; the baseline does not fit to the images.

    Reference: Amanova et al. 2022, section 3 (occlusion sensitivity).
    """
    if stride < 1:
        raise ValueError(f"stride: found {stride}, expected at least 1")
    wiped = baseline_image(x, baseline)
    members = [member for member in target.curve_networks if isinstance(member, CDCNet)]
    if stride == 1 and members and len(members) == len(target.curve_networks):
        return -torch.stack([_changes(member, x, wiped) for member in members]).mean(0)
    (height, width), n = x.shape[2:], len(x)
    rows, columns = (torch.arange(0, side, stride, device=x.device) for side in (height, width))
    places = len(rows) * len(columns)
    total, size = n * places, copies_at_once(target, x)
    before, after = target.value(x), []
    for start in range(0, total, size):
        number = torch.arange(start, min(start + size, total), device=x.device)
        image, row = number // places, rows[number % places // len(columns)]
        column = columns[number % len(columns)]
        occluded = x[image]
        occluded[torch.arange(len(number)), :, row, column] = wiped[image, :, row, column]
        after.append(target.value(occluded, image))
    grid = torch.cat(after).reshape(n, len(rows), len(columns)) - before[:, None, None]
    return grid.repeat_interleave(stride, 1).repeat_interleave(stride, 2)[:, :height, :width]


def _changes(member: CDCNet, x: Tensor, wiped: Tensor) -> Tensor:
    """Change of the midpoint in µm that one member predicts, by each pixel of x (n, 1, s, s): (n, s, s) float64."""
    walker = _PixelWalker(member)
    return torch.stack([walker.changes(image[0], other[0]) for image, other in zip(x, wiped, strict=True)])


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
    def changes(self, image: Tensor, wiped: Tensor) -> Tensor:
        """Change of the member's midpoint by each pixel of one image (s, s), to that of `wiped`: (s, s) float64."""
        member, size = self.member, self.member.size
        blocks = -(-size // BLOCK)
        x, other = image.to(self.device, self.dtype), wiped.to(self.device, self.dtype)
        features = member.features(x[None, None]).flatten(1)
        first = functional.linear(features, member.fc1.weight, member.fc1.bias).double()
        reached = BLOCK * (blocks - 1) + WINDOW
        around = (BEFORE, reached - BEFORE - size, BEFORE, reached - BEFORE - size)
        padded = torch.stack([functional.pad(values, around) for values in (x, other)])
        result = torch.empty(blocks, blocks, BLOCK, BLOCK, dtype=torch.float64, device=self.device)
        for block_row in range(blocks):
            strips = padded[:, BLOCK * block_row : BLOCK * block_row + WINDOW]
            windows, others = strips.unfold(2, WINDOW, BLOCK).permute(0, 2, 1, 3)
            moved = self._third_layer_changes(windows, others, block_row)
            change = self._first_hidden_changes(moved, block_row)
            result[block_row] = self._midpoint_changes(first, change).reshape(blocks, BLOCK, BLOCK)
        return result.permute(0, 2, 1, 3).reshape(BLOCK * blocks, -1)[:size, :size]

    def _third_layer_changes(self, windows: Tensor, others: Tensor, block_row: int) -> Tensor:
        """Windows (blocks, 34, 34) of image and baseline -> changes of the third layer, pixel by pixel.

        Returns:
            (blocks, 16, channels, 5, 5).
        """
        blocks = len(windows)
        # The unchanged window comes along as the 17th, so that what a pixel does not reach cancels exactly.
        x = windows[:, None].repeat(1, BLOCK**2 + 1, 1, 1)
        for pixel in range(BLOCK**2):
            row, column = BEFORE + pixel // BLOCK, BEFORE + pixel % BLOCK
            x[:, pixel, row, column] = others[:, row, column]
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
