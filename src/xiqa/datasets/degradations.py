"""Degradations of prepared images, by the physics of the acquisition, each with its exact map of where it acted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from xiqa.seeds import stream_seed

Degraded = tuple[np.ndarray, np.ndarray]
"""The degraded image (h, w), and its ground truth (h, w): by how much each pixel was changed, |degraded - image|."""

_POSES = 6


def degrade(
    images: np.ndarray, name: str, strength: float, seed: int, *, regions: np.ndarray | None = None, first: int = 0
) -> Degraded:
    """Degrade one image or a stack; an image has the same random stream at any strength and in any batch.

    Args:
        images: (h, w) or (n, h, w) within 0-1, also a memory map or a part of it.
        name: key of `DEGRADATIONS`.
        strength: 0 or more, in the unit of that degradation; 0 changes nothing.
        seed: the study's seed.
        regions: of the shape of `images`, within 0-1, where a local degradation acts; None draws a soft disc for each.
        first: number of the first image in its set, where `images` is a part of it.

    Returns:
        Degraded images and ground truths, both of the shape of `images`; not clipped to 0-1.

    Raises:
        ValueError: an unknown name, images or regions of a wrong shape or range, a negative strength, or regions for a
            degradation that acts everywhere.
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"degradation: found '{name}', expected one of {', '.join(DEGRADATIONS)}")
    if images.ndim not in (2, 3):
        raise ValueError(f"images: found shape {images.shape}, expected (h, w) or (n, h, w)")
    if regions is not None and (name not in LOCAL or regions.shape != images.shape):
        found = f"shape {regions.shape} for {images.shape}" if name in LOCAL else f"some for '{name}'"
        raise ValueError(f"regions: found {found}, expected one as large as its image, for {', '.join(LOCAL)} alone")
    stack = images[None] if images.ndim == 2 else images
    results = []
    for number, image in enumerate(stack):
        rng = np.random.default_rng(stream_seed(seed, "degradation", name, first + number))
        region = {} if regions is None else {"region": regions if images.ndim == 2 else regions[number]}
        results.append(DEGRADATIONS[name](image, strength, rng, **region))
    degraded, truth = (np.stack(part) for part in zip(*results, strict=True))
    return (degraded[0], truth[0]) if images.ndim == 2 else (degraded, truth)


def motion(image: np.ndarray, strength: float, rng: np.random.Generator) -> Degraded:
    """Translation while the phase-encode lines (rows of k-space) are taken: breathing and sudden shifts in MRI.

    Args:
        image: (h, w) within 0-1.
        strength: largest displacement in pixels, against the pose at the centre of k-space.
        rng: random numbers.
    """
    image = _checked(image, strength)
    x_px, y_px = _drawn_path(len(image), strength, rng)
    return _result(image, np.abs(translated(image, x_px, y_px)))


def rotation(image: np.ndarray, strength: float, rng: np.random.Generator) -> Degraded:
    """Rotation about the centre while the phase-encode lines are taken: a head that turns between a few poses in MRI.

    Args:
        image: (h, w) within 0-1.
        strength: displacement in pixels half the image's height from the centre that no pose exceeds.
        rng: random numbers.
    """
    image = _checked(image, strength)
    angles = np.degrees(strength / (len(image) / 2)) * np.append(rng.uniform(-1, 1, _POSES - 1), 0)
    pose = np.searchsorted(np.sort(rng.random(_POSES - 2)), np.linspace(0, 1, len(image)))
    pose[pose == pose[len(image) // 2]] = _POSES - 1
    turned = [image if angle == 0 else ndimage.rotate(image, angle, reshape=False) for angle in angles]
    return _result(image, np.abs(acquired(np.array(turned), pose)))


def organ_motion(
    image: np.ndarray, strength: float, rng: np.random.Generator, *, region: np.ndarray | None = None
) -> Degraded:
    """One organ moves while the rest holds still, as a heart does; its ghosts spread along the columns, as they do.

    The cause lies in the region, its effect does not: use `local_motion` where the truth must end at the region.

    Args:
        image: (h, w) within 0-1.
        strength: largest displacement in pixels.
        rng: random numbers.
        region: (h, w) within 0-1, share of the pixel that moves; None draws a soft disc.
    """
    image = _checked(image, strength)
    organ = image * _region(image, region, rng)
    moved = translated(organ, *_drawn_path(len(image), strength, rng))
    return _result(image, np.abs(image - organ + moved))


def local_motion(
    image: np.ndarray, strength: float, rng: np.random.Generator, *, region: np.ndarray | None = None
) -> Degraded:
    """As `motion`, blended into a region: outside it nothing changes.

    Args:
        image: (h, w) within 0-1.
        strength: largest displacement in pixels.
        rng: random numbers.
        region: (h, w) within 0-1, weight of the moved image; None draws a soft disc.
    """
    weight = _region(image, region, rng)
    return _blended(_checked(image, strength), motion(image, strength, rng)[0], weight)


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> Degraded:
    """Gaussian blur.

    Args:
        image: (h, w) within 0-1.
        strength: standard deviation in pixels.
        rng: not used.
    """
    image = _checked(image, strength)
    return _result(image, ndimage.gaussian_filter(image, strength, truncate=6))


def local_blur(
    image: np.ndarray, strength: float, rng: np.random.Generator, *, region: np.ndarray | None = None
) -> Degraded:
    """Gaussian blur, blended into a region: outside it nothing changes.

    Args:
        image: (h, w) within 0-1.
        strength: standard deviation in pixels.
        rng: random numbers.
        region: (h, w) within 0-1, weight of the blurred image; None draws a soft disc.
    """
    weight = _region(image, region, rng)
    return _blended(_checked(image, strength), blur(image, strength, rng)[0], weight)


def downsampling(image: np.ndarray, strength: float, rng: np.random.Generator) -> Degraded:
    """Fewer, larger pixels (area mean), interpolated back to the old grid.

    Args:
        image: (h, w) within 0-1.
        strength: how many pixels become one in each direction; 1 or less changes nothing.
        rng: not used.
    """
    image = _checked(image, strength)
    small = tuple(max(1, round(n / max(strength, 1))) for n in image.shape[::-1])
    if small == image.shape[::-1]:
        return _result(image, image)
    coarse = Image.fromarray(image.astype(np.float32)).resize(small, Image.Resampling.BOX)
    return _result(image, np.asarray(coarse.resize(image.shape[::-1], Image.Resampling.BILINEAR)))


def rician(image: np.ndarray, strength: float, rng: np.random.Generator) -> Degraded:
    """Noise of a magnitude MR image: Gaussian in both channels of the receiver.

    Args:
        image: (h, w) within 0-1.
        strength: standard deviation in each channel, in units of the image.
        rng: random numbers.

    Reference: Gudbjartsson and Patz, Magn. Reson. Med. 34 (1995) 910.
    """
    image = _checked(image, strength)
    real, imaginary = strength * rng.standard_normal((2, *image.shape))
    return _result(image, np.hypot(image + real, imaginary))


def local_rician(
    image: np.ndarray, strength: float, rng: np.random.Generator, *, region: np.ndarray | None = None
) -> Degraded:
    """Noise of a magnitude MR image, blended into a region: outside it nothing changes.

    Args:
        image: (h, w) within 0-1.
        strength: standard deviation in each channel, in units of the image.
        rng: random numbers.
        region: (h, w) within 0-1, weight of the noisy image; None draws a soft disc.
    """
    weight = _region(image, region, rng)
    return _blended(_checked(image, strength), rician(image, strength, rng)[0], weight)


def quantum_noise(
    image: np.ndarray,
    strength: float,
    rng: np.random.Generator,
    *,
    counts: float = 20_000.0,
    attenuation: float = 4.0,
) -> Degraded:
    """Lower dose in projection X-ray: photons are taken away at random.

    The image is the attenuation: a pixel of value v was reached by n = counts · exp(-attenuation · v) photons. Each
    is kept with probability d, which turns Poisson counts of mean n into Poisson counts of mean d · n, exactly. Fewer
    than half a photon cannot be told from half a photon.

    Args:
        image: (h, w) within 0-1, bright = dense; it carries the noise of the full dose already, or none.
        strength: variance that is added, relative to that of the full dose: 1 / d - 1 (1: half the dose, 9: a tenth).
        rng: random numbers.
        counts: photons per pixel in air at full dose.
        attenuation: line integral at value 1: exp(-attenuation) of the photons get through.
    """
    image = _checked(image, strength)
    dose = 1 / (1 + strength)
    expected = counts * np.exp(-attenuation * image)
    photons = np.rint(expected).astype(np.int64)
    # Whole photons are drawn; the fraction that rounding took is given back, so that full dose changes nothing.
    kept = rng.binomial(photons, dose) + dose * (expected - photons)
    return _result(image, np.log(counts * dose / np.maximum(kept, min(0.5, dose * expected.min()))) / attenuation)


def low_dose_ct(
    image: np.ndarray, strength: float, rng: np.random.Generator, *, noise: float = 0.02, blur_px: float = 0.7
) -> Degraded:
    """Lower dose in CT: noise with the spectrum that filtered back-projection gives it, ramp times kernel.

    Args:
        image: (h, w) within 0-1, a slice in a window of Hounsfield units; it carries the noise of the full dose.
        strength: variance that is added, relative to that of the full dose: 1 / d - 1 (1: half the dose, 9: a tenth).
        rng: random numbers.
        noise: standard deviation at full dose in units of the image (0.02: 10 HU in a window of 500 HU).
        blur_px: standard deviation of the reconstruction kernel's Gaussian apodisation in pixels.

    Reference: Riederer, Pelc and Chesler, Phys. Med. Biol. 23 (1978) 446: the power spectrum is the ramp times the
    squared kernel.
    """
    image = _checked(image, strength)
    h, w = image.shape
    frequency = np.hypot(fft.fftfreq(h)[:, None], fft.fftfreq(w))
    transfer = np.sqrt(frequency) * np.exp(-2 * (math.pi * blur_px * frequency) ** 2)
    transfer *= noise * math.sqrt(strength) / np.sqrt(np.mean(transfer**2))
    return _result(image, image + fft.ifft2(fft.fft2(rng.standard_normal((h, w))) * transfer).real)


def translated(image: np.ndarray, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """What is reconstructed where the object moves from line to line.

    Args:
        image: (h, w).
        x_px, y_px: (h,) displacement to the right and downwards while each phase-encode line is taken, the lines in
            order of rising frequency.

    Returns:
        (h, w) complex.

    Reference: the shift theorem; line k_y of the object displaced by (x, y) is F(k) · exp(-2πi (k_x x + k_y y)).
    """
    h, w = image.shape
    x_px, y_px = fft.ifftshift(x_px)[:, None], fft.ifftshift(y_px)[:, None]
    phase = fft.fftfreq(w) * x_px + fft.fftfreq(h)[:, None] * y_px
    return fft.ifft2(fft.fft2(image) * np.exp(-2j * math.pi * phase))


def acquired(poses: np.ndarray, line_pose: np.ndarray) -> np.ndarray:
    """What is reconstructed where each phase-encode line is taken from one of several poses.

    Args:
        poses: (p, h, w) the object in each pose.
        line_pose: (h,) index of the pose of each line, the lines in order of rising frequency.

    Returns:
        (h, w) complex.
    """
    lines = fft.fft2(poses)
    return fft.ifft2(lines[fft.ifftshift(line_pose), np.arange(poses.shape[1])])


def soft_disc(shape: tuple[int, int], x: float, y: float, radius: float, edge: float) -> np.ndarray:
    """A disc (h, w) of weight 1 whose weight falls to 0 over its edge as a raised cosine.

    Args:
        shape: rows and columns.
        x, y: centre in pixels.
        radius: distance from the centre up to which the weight is 1, in pixels.
        edge: width of the edge in pixels; from radius + edge on the weight is exactly 0.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    beyond = np.clip((np.hypot(columns - x, rows - y) - radius) / max(edge, 1e-9), 0, 1)
    return np.where(beyond < 1, (1 + np.cos(math.pi * beyond)) / 2, 0.0)


def _checked(image: np.ndarray, strength: float) -> np.ndarray:
    if not (strength >= 0 and math.isfinite(strength)):
        raise ValueError(f"strength: found {strength}, expected a number of 0 or more")
    image = np.asarray(image, np.result_type(np.asarray(image).dtype, np.float32))
    if image.ndim != 2 or not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"image: found shape {image.shape} within {image.min()}-{image.max()}, expected (h, w) in 0-1")
    return image


def _result(image: np.ndarray, degraded: np.ndarray) -> Degraded:
    degraded = degraded.astype(image.dtype)
    return degraded, np.abs(degraded - image)


def _blended(image: np.ndarray, degraded: np.ndarray, weight: np.ndarray) -> Degraded:
    return _result(image, image + weight * (degraded - image))


def _region(image: np.ndarray, region: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    h, w = image.shape
    x, y, radius = rng.uniform(0.3, 0.7) * w, rng.uniform(0.3, 0.7) * h, rng.uniform(0.1, 0.2) * min(h, w)
    if region is None:
        return soft_disc((h, w), x, y, radius, radius / 2)
    region = np.asarray(region, np.float64)
    if region.shape != (h, w) or not (region.min() >= 0 and region.max() <= 1):
        raise ValueError(f"region: found shape {region.shape} for {(h, w)} or weights outside 0-1, expected both right")
    return region


def _drawn_path(lines: int, amplitude_px: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Displacement (lines,) to the right and downwards: breathing and a few sudden shifts in a fixed direction."""
    time = np.linspace(0, 1, lines)
    path = np.sin(2 * math.pi * (rng.uniform(2, 8) * time + rng.random()))
    for moment, shift in zip(rng.random(3), rng.uniform(-1, 1, 3), strict=True):
        path = path + shift * (time > moment)
    # The centre of k-space gives the image its place.
    path -= path[lines // 2]
    path *= amplitude_px / max(np.abs(path).max(), 1e-9)
    direction = rng.uniform(0, 2 * math.pi)
    return math.cos(direction) * path, math.sin(direction) * path


DEGRADATIONS: dict[str, Callable[..., Degraded]] = {
    function.__name__: function
    for function in (
        motion,
        rotation,
        organ_motion,
        local_motion,
        rician,
        local_rician,
        quantum_noise,
        low_dose_ct,
        blur,
        local_blur,
        downsampling,
    )
}
LOCAL = ("organ_motion", "local_motion", "local_blur", "local_rician")
"""Degradations that take a region."""
