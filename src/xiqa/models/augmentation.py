"""Random changes of training images: mirroring, one affine warp, brightness and contrast."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xiqa.config import Augmentation

CHANGE = np.dtype(
    [
        ("flip", bool),
        ("brightness", float),
        ("contrast", float),
        ("rotate_deg", float),
        ("shift_x", float),
        ("shift_y", float),
        ("scale", float),
    ]
)
"""What happens to one image: mirrored left-right; factors of brightness and contrast; turned counter-clockwise, shifted
right and down as a share of the size, magnified about its centre by a factor."""


def draw_changes(n: int, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draw what happens to each of n images.

    Each quantity is uniform up to its limit in both directions. All are drawn whatever the limits are, so that one
    setting does not move the random numbers of another.

    Args:
        n: number of images.
        augmentation: limits; at zero strength the image stays as it is.
        rng: source of randomness.

    Returns:
        (n,) of dtype `CHANGE`.
    """
    changes = np.empty(n, CHANGE)
    changes["flip"] = augmentation.flip & (rng.random(n) < 0.5)
    limits = {
        "brightness": (1, augmentation.jitter),
        "contrast": (1, augmentation.jitter),
        "rotate_deg": (0, augmentation.rotate_deg),
        "shift_x": (0, augmentation.translate),
        "shift_y": (0, augmentation.translate),
        "scale": (1, augmentation.scale),
    }
    for name, (centre, limit) in limits.items():
        changes[name] = centre + limit * rng.uniform(-1, 1, n)
    return changes


def apply_changes(images: Tensor, changes: np.ndarray) -> Tensor:
    """Change images: brightness and contrast first, then mirroring, then the warp.

    Contrast stretches an image about its mean, brightness multiplies it. Nothing is clipped to 0..1: that would take
    structure out of bright regions, and networks take any number. The warp interpolates once, bilinearly; what
    comes from outside the image is 0, the darkest value.

    Args:
        images: (n, h, w) float32.
        changes: (n,) of dtype `CHANGE`.

    Returns:
        (n, h, w) float32.

    Reference: the augmentations named by Özer, section 4.1, which gives no strengths.
    """
    gain = changes["brightness"] * changes["contrast"]
    offset = changes["brightness"] - gain
    gain, offset, flip = (
        torch.from_numpy(value[:, None, None]).to(images.device)
        for value in (gain.astype(np.float32), offset.astype(np.float32), changes["flip"].copy())
    )
    images = gain * images + offset * images.mean((1, 2), keepdim=True)
    images = torch.where(flip, images.flip(2), images)
    moved = any(changes[name].any() for name in ("rotate_deg", "shift_x", "shift_y")) or (changes["scale"] != 1).any()
    return _warp(images, changes) if moved else images


def _warp(images: Tensor, changes: np.ndarray) -> Tensor:
    """Turn, magnify and shift: each output pixel asks where in the image it comes from."""
    n, height, width = images.shape
    angle = np.deg2rad(changes["rotate_deg"])
    cos, sin = np.cos(angle) / changes["scale"], np.sin(angle) / changes["scale"]
    # In torch's coordinates each side runs from -1 to 1, whatever its length.
    inverse = np.array([[cos, -sin * height / width], [sin * width / height, cos]]).transpose(2, 0, 1)
    shift = 2 * np.stack([changes["shift_x"], changes["shift_y"]], 1)[:, :, None]
    theta = torch.from_numpy(np.concatenate([inverse, -inverse @ shift], 2)).to(images)
    grid = F.affine_grid(theta, (n, 1, height, width), align_corners=False)
    return F.grid_sample(images[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]
