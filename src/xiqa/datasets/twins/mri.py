"""What the simulated MR sets share: slices in space, smooth random fields, soft shapes, and how a scanner sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft


@dataclass(frozen=True)
class Plane:
    """A slice: where its pixels lie in space.

    Attributes:
        origin: (3,) position of the first pixel in mm.
        down: (3,) step from a row to the next in mm.
        right: (3,) step from a column to the next in mm; at a right angle to `down`.
        shape: rows and columns.
    """

    origin: np.ndarray
    down: np.ndarray
    right: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def centred(cls, centre, down, right, shape: tuple[int, int], spacing_mm: float) -> Plane:
        """The plane through `centre` (3,) in mm along the unit vectors `down` and `right`."""
        down, right = spacing_mm * np.asarray(down, float), spacing_mm * np.asarray(right, float)
        return cls(centre - down * (shape[0] - 1) / 2 - right * (shape[1] - 1) / 2, down, right, shape)

    def coordinates(self) -> np.ndarray:
        """(3, h, w) float32 positions of the pixels in mm."""
        rows, columns = (np.arange(n, dtype=np.float32) for n in self.shape)
        down, right, origin = (v.astype(np.float32)[:, None, None] for v in (self.down, self.right, self.origin))
        return origin + down * rows[:, None] + right * columns

    def window(self, centre, reach_mm: float) -> tuple[slice, slice]:
        """Rows and columns that a ball of radius `reach_mm` around `centre` (3,) can touch; empty where it does not."""
        offset, spacing_mm = np.asarray(centre) - self.origin, np.linalg.norm(self.down)
        normal = np.cross(self.down, self.right) / spacing_mm**2
        if abs(offset @ normal) > reach_mm:
            return slice(0, 0), slice(0, 0)
        middle = offset @ self.down / spacing_mm**2, offset @ self.right / spacing_mm**2
        reach = reach_mm / spacing_mm + 1
        rows, columns = (
            slice(int(np.clip(m - reach, 0, n)), int(np.clip(m + reach + 1, 0, n)))
            for m, n in zip(middle, self.shape, strict=True)
        )
        return rows, columns

    def part(self, window: tuple[slice, slice]) -> Plane:
        """The plane of a window of it."""
        rows, columns = window
        origin = self.origin + rows.start * self.down + columns.start * self.right
        return replace(self, origin=origin, shape=(rows.stop - rows.start, columns.stop - columns.start))


@dataclass(frozen=True)
class Waves:
    """A Gaussian-like random field in space with mean 0 and standard deviation 1: a sum of plane waves.

    Attributes:
        vectors: (n, 3) wave vectors in rad/mm.
        phases: (n,) in rad.
    """

    vectors: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, wavelength_mm: float, n: int = 32, spread: float = 0.25) -> Waves:
        """Waves in all directions, wavelengths spread by the factor exp(±`spread`)."""
        directions = rng.normal(size=(n, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths_mm = wavelength_mm * np.exp(spread * rng.normal(size=(n, 1)))
        return cls(2 * np.pi / lengths_mm * directions, rng.uniform(0, 2 * np.pi, n))

    def on(self, plane: Plane) -> np.ndarray:
        """(h, w) float32 values on a plane."""
        rows, columns = (np.arange(n)[:, None] for n in plane.shape)
        down = self.phases + self.vectors @ plane.origin + rows * (self.vectors @ plane.down)
        right = columns * (self.vectors @ plane.right)
        # cos(a + b) = cos a cos b - sin a sin b: the sum over all waves is one product of matrices.
        field = np.hstack([np.cos(down), -np.sin(down)]) @ np.hstack([np.cos(right), np.sin(right)]).T
        return (field * np.sqrt(2 / len(self.phases))).astype(np.float32)


def ellipsoid(position: np.ndarray, centre, radii) -> np.ndarray:
    """Distance in mm of positions (d, ...) from the surface of an ellipsoid, negative inside, exact near it."""
    centre, radii = (np.reshape(np.asarray(v, np.float32), (-1,) + (1,) * (position.ndim - 1)) for v in (centre, radii))
    scaled = (position - centre) / radii
    level = np.sqrt(np.square(scaled).sum(0))
    slope = np.sqrt(np.square(scaled / radii).sum(0))
    return level * (level - 1) / np.maximum(slope, 1e-6)


def coverage(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """Share of each voxel inside a shape, 0 to 1, from the distance to its surface and the width of the edge."""
    return np.clip(0.5 - distance_mm / edge_mm, 0, 1)


def blend(image: np.ndarray, share: np.ndarray, value) -> None:
    """Replace the share of each voxel of `image` by `value`, in place: partial volume."""
    image += share * (value - image)


def coil_field(rng: np.random.Generator, shape: tuple[int, int], strength: float) -> np.ndarray:
    """(h, w) receive sensitivity: smooth, mean 1, standard deviation of its logarithm about `strength`."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    terms = np.stack([x, y, x * x, x * y, y * y])
    field = np.exp(np.tensordot(strength * rng.normal(size=5), terms, 1))
    return (field / field.mean()).astype(np.float32)


def acquire(
    signal: np.ndarray,
    rng: np.random.Generator,
    *,
    noise_sd: float,
    resolution: float,
    ghost: float = 0.0,
    ghost_px: int = 1,
) -> np.ndarray:
    """The magnitude image that a scanner makes of a slice.

    K-space is cut to a share of its extent with a softened edge (blur and Gibbs ringing), its rows are modulated as
    by periodic motion (two ghosts along the columns), and complex white noise is added within what was measured, so
    that the magnitude is Rician.

    Args:
        signal: (h, w) transverse magnetisation times coil sensitivity.
        rng: source of the noise and of the ghosts' phase.
        noise_sd: standard deviation of real and imaginary part per pixel, had all of k-space been measured.
        resolution: share of k-space that is measured, along each axis.
        ghost: amplitude of each ghost as a share of the image.
        ghost_px: distance of the ghosts from the image in rows.

    Returns:
        (h, w) float32.

    Reference: Gudbjartsson and Patz, Magn. Reson. Med. 34 (1995) 910.
    """
    frequencies = [np.abs(fft.fftfreq(n)) * 2 / resolution for n in signal.shape]
    # A Tukey window of 30 %, as scanners use to keep ringing low.
    down, right = (np.cos(np.pi / 2 * np.clip((f - 0.7) / 0.3, 0, 1)) ** 2 for f in frequencies)
    turns = np.arange(signal.shape[0]) * ghost_px / signal.shape[0] + rng.uniform()
    motion = 1 + 2 * ghost * np.cos(2 * np.pi * turns)
    noise = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(noise_sd * np.sqrt(signal.size))
    space = fft.fft2(signal.astype(np.complex64)) * motion.astype(np.float32)[:, None] + noise[0] + 1j * noise[1]
    return np.abs(fft.ifft2(space * np.outer(down, right).astype(np.float32)))
