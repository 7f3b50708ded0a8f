"""Simulated brain tumour slices: a head in three dimensions, cut and scanned like contrast-enhanced T1-weighted MRI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial.transform import Rotation
from skimage.measure import find_contours

from xiqa.config import Twin
from xiqa.datasets.twins import mri
from xiqa.datasets.twins.writing import Progress, Redraw, plan, twin_row, unchanged, write_twin_table
from xiqa.files import atomic_path
from xiqa.seeds import stream_seed

CLASSES = ("meningioma", "glioma", "pituitary")
SIDE = 192
"""Rows and columns of an image; the real set has 512."""

SELLA_MM = np.array([0.0, 25.0, -31.0])
"""Middle of the pituitary fossa; x to the patient's left, y to the front, z up, from the middle of the head."""


@dataclass(frozen=True)
class Slice:
    """One simulated slice.

    Attributes:
        image: (h, w) float32, what the scanner shows.
        mask: (h, w) bool, the tumour.
        halo: (h, w) bool, what else the tumour changes: its blurred edge, oedema around a glioma, the dural tail of a
            meningioma.
        tissue: (h, w) float32 signal before coil, blur and noise.
        facts: what the generator drew and must not decide the class.
    """

    image: np.ndarray
    mask: np.ndarray
    halo: np.ndarray
    tissue: np.ndarray
    facts: dict[str, float | str]


@dataclass(frozen=True)
class Seat:
    """Where a patient's tumour is placed: in the middle of all its slices.

    Attributes:
        home: (3,) the pituitary fossa, moved to the middle slice, in mm.
        right: (3,) unit vector to the right of the image.
        down: (3,) unit vector downwards.
        normal: (3,) unit vector across.
        coronal: whether the slices are coronal; axial otherwise.
        radii_mm: (3,) half axes of the brain.
    """

    home: np.ndarray
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    coronal: bool
    radii_mm: np.ndarray


def render(patient_seed: int, image_seed: int, label: int, severity: float, side: int = SIDE) -> Slice:
    """One slice of one patient.

    Head, plane, gain and noise follow from the seeds alone: with another label or severity everything but the tumour
    stays the same, noise included.

    Args:
        patient_seed: seed of the anatomy, the tumour and the plane.
        image_seed: seed of the slice's place within the patient, of the scanner's settings and of the noise: the images
            of a patient are of several series, as in the real set.
        label: 0 meningioma, 1 glioma, 2 pituitary tumour.
        severity: contrast of the tumour against what it replaces, relative to a typical one; the tissue changes in
            proportion to it (but never below 0), its shape does not. 0: no tumour.
        side: rows and columns.
    """
    scan = np.random.default_rng(stream_seed(patient_seed, "scan"))
    coronal = scan.random() < 0.6
    turn = Rotation.from_euler("xyz", scan.normal(0, [3, 3, 4]), degrees=True)
    right, down = turn.apply([[1, 0, 0], [0, 0, -1] if coronal else [0, -1, 0]])
    normal = np.cross(down, right)
    home = SELLA_MM + normal * (scan.uniform(-3, 3) if coronal else scan.uniform(0, 6))

    draw = np.random.default_rng(stream_seed(image_seed, "scan"))
    offset_mm, lean, shift_mm = draw.uniform(-2.5, 2.5), np.deg2rad(draw.normal(0, 4)), draw.normal(0, 4, 2)
    field_mm, gain = draw.uniform(205, 245), 1000 * np.exp(draw.normal(0, 0.3))
    noise_sd, resolution = 0.07 * np.exp(draw.uniform(-0.3, 0.3)), draw.uniform(0.75, 1.0)
    ghost, coil = 0.012 * draw.random(), mri.coil_field(draw, (side, side), 0.12)
    # The field of view is centred on the head, not on the sella.
    centre = home + offset_mm * normal + (shift_mm[0] + 14 * coronal - home @ down) * down + shift_mm[1] * right
    axes = np.cos(lean) * down - np.sin(lean) * right, np.cos(lean) * right + np.sin(lean) * down
    plane = mri.Plane.centred(centre, *axes, (side, side), field_mm / side)

    tissue, inner = _head(plane, patient_seed)
    grow = np.random.default_rng(stream_seed(patient_seed, "tumour", label))
    seat = Seat(home, right, down, normal, coronal, _radii(patient_seed))
    tumour, share, halo, halo_share = _TUMOURS[label](grow, plane, inner, seat)
    change = halo_share * (halo - tissue)
    change += share * (tumour - tissue - change)
    tissue = np.maximum(tissue + np.float32(severity) * change, 0)
    noise = np.random.default_rng(stream_seed(image_seed, "noise"))
    image = mri.acquire(tissue * coil, noise, noise_sd=noise_sd, resolution=resolution, ghost=ghost, ghost_px=side // 3)
    mask = share > 0.5
    facts = {
        "plane": "coronal" if coronal else "axial", "field_mm": field_mm, "gain": gain, "noise_sd": noise_sd,
        "resolution": resolution, "offset_mm": offset_mm, "tumour_px": int(mask.sum()),
    }  # fmt: skip
    return Slice(image * np.float32(gain), mask, ((halo_share > 0) | (share > 0)) & ~mask, tissue, facts)


def _step(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(x)


def _inside(position: np.ndarray, radii_mm: np.ndarray) -> np.ndarray:
    """Distance in mm of positions (3, ...) from the inner table of the skull and its base, negative inside."""
    x, y, z = position
    # The ridges of the petrous bones run backwards and outwards from the sella.
    ridge = y - 8 + 0.65 * np.abs(x)
    front, back = _step((y - 28 - 0.5 * np.hypot(x, 14)) / 8), _step(-ridge / 5)
    middle = (1 - front) * (1 - back)
    roof = -25 + 10 * np.exp(-(((np.abs(x) - 31) / 14) ** 2))
    base = roof * front - 62 * back + middle * (-48 + 13 * np.exp(-((x / 17) ** 2)))
    petrous = 18 * np.exp(-((ridge / 7) ** 2)) * _step((np.abs(x) - 18) / 4)
    # Twice the height: the base is thinner than the vault.
    return np.maximum(mri.ellipsoid(position, np.zeros(3), radii_mm), 2 * (base + petrous - z))


def _radii(seed: int) -> np.ndarray:
    """Half axes (3,) of a patient's brain in mm."""
    return np.array([67, 84, 69]) * np.random.default_rng(stream_seed(seed, "radii")).normal(1, 0.03, 3)


class _Head:
    """A head on a plane, painted from the outside in.

    White matter is about 0.5. Everything is drawn for the whole head, so that slices of one patient fit each other.
    Places in mm are rounded from atlases.

    Attributes:
        image: (h, w) signal.
        inner: (h, w) distance from the inside of the skull in mm.
    """

    def __init__(self, plane: mri.Plane, seed: int):
        self.rng = rng = np.random.default_rng(stream_seed(seed, "anatomy"))
        self.plane, self.edge = plane, float(np.linalg.norm(plane.down))
        self.skull_mm, self.scalp_mm, self.fat_mm = rng.uniform(5, 8), rng.uniform(6, 10), rng.uniform(3, 6)
        self.white, self.grey = 0.52 + rng.normal(0, 0.02), 0.43 + rng.normal(0, 0.02)
        self.fluid = 0.16 + rng.normal(0, 0.02)
        self.fat, self.muscle, self.air = 0.95 + rng.normal(0, 0.08), 0.4 + rng.normal(0, 0.03), 0.03
        # Spin echo shows fast blood dark, gradient echo bright.
        self.vein, self.artery = rng.uniform(0.75, 1.0), rng.choice([0.08, 0.85])
        self.shrunk = rng.uniform(0, 1)
        position = plane.coordinates()
        self.bumps, self.fine, self.coarse = 1.2 * self.field(80), self.field(6), self.field(40)
        inner = _inside(position, _radii(seed)) + 0.5 * self.bumps
        # Where the base is steep, its height is no distance; its change from pixel to pixel makes it one.
        self.inner = inner / np.maximum(np.hypot(*np.gradient(inner, self.edge)), 1)
        parts = [
            mri.ellipsoid(position, np.zeros(3), _radii(seed) + self.skull_mm + self.scalp_mm),
            mri.ellipsoid(position, (0, 40, -72), (58, 58, 72)),
            mri.ellipsoid(position, (0, -14, -130), (56, 58, 130)),
        ]
        self.outer = -7 * np.log(sum(np.exp(-np.clip(part, -60, 60) / 7) for part in parts)) + self.bumps
        # No head is made of ellipsoids: what lies inside is displaced by a smooth field.
        position += [1.3 * self.field(45) + 0.5 * self.field(18) for _ in range(3)]
        self.position, (x, self.y, self.z) = position, position
        self.ax = np.abs(x)
        self.image = np.zeros(plane.shape, np.float32)

    def field(self, wavelength_mm: float) -> np.ndarray:
        """A smooth random field (h, w) of the head."""
        return mri.Waves.draw(self.rng, wavelength_mm).on(self.plane)

    def symmetric(self, wavelength_mm: float) -> np.ndarray:
        """The same, equal on both sides of the head."""
        plane, waves, mirror = self.plane, mri.Waves.draw(self.rng, wavelength_mm), np.array([-1, 1, 1])
        other = mri.Plane(plane.origin * mirror, plane.down * mirror, plane.right * mirror, plane.shape)
        return (waves.on(plane) + waves.on(other)) / np.sqrt(2)

    def paint(self, distance_mm: np.ndarray, value, edge_mm: float | None = None) -> None:
        """Blend a value into the image where a distance is negative."""
        mri.blend(self.image, mri.coverage(distance_mm, self.edge if edge_mm is None else edge_mm), value)

    def spot(self, centre, radii, value: float, sides=(1,), jitter_mm: float = 0.6) -> None:
        """Paint an ellipsoid, or one on each side."""
        for side in sides:
            at = np.multiply(centre, (side, 1, 1)) + jitter_mm * self.rng.normal(size=3)
            window = self.plane.window(at, max(radii) + self.edge + 4)
            if self.image[window].size:
                distance = mri.ellipsoid(self.position[(slice(None), *window)], at, radii)
                mri.blend(self.image[window], mri.coverage(distance, self.edge), value)

    def flesh(self) -> None:
        """Paint ears, scalp and flesh; jaw, pterygoid, tongue, throat, nose, sinuses, mastoid, orbits, ethmoid."""
        self.spot((83, -12, -34), (5, 14, 24), 0.75 * self.fat, _BOTH)
        self.paint(self.outer, self.fat * (0.88 + 0.08 * self.fine))
        planes = np.abs(self.symmetric(20)) < 0.14
        self.paint(
            self.outer + self.fat_mm, np.where(planes, 0.7 * self.fat, self.muscle * (1 + 0.12 * self.symmetric(6)))
        )
        self.paint(np.maximum(4 * (0.8 - self.symmetric(30)), self.outer + self.fat_mm + 2), 0.8 * self.fat)
        self.spot((46, 22, -78), (3.5, 14, 26), 0.08, _BOTH)
        self.spot((46, 22, -78), (1.5, 10, 22), 0.7, _BOTH)
        self.spot((27, 24, -72), (2.5, 10, 16), 0.15, _BOTH)
        self.spot((0, 42, -100), (24, 28, 15), self.muscle * 1.1)
        self.spot((0, 14, -78), (14, 9, 26), 0.65)
        self.spot((0, 14, -78), (9, 6, 22), self.air)
        self.spot((0, 58, -64), (15, 34, 22), 0.7)
        self.spot((6, 58, -64), (5, 32, 19), self.air, _BOTH)
        self.spot((8, 56, -70), (2.5, 26, 7), 0.7, _BOTH)
        self.spot((28, 54, -64), (15, 18, 17), 0.65, _BOTH)
        self.spot((28, 54, -64), (13.5, 16, 15.5), self.air, _BOTH)
        self.spot((54, -18, -46), (13, 14, 15), 0.1, _BOTH)
        self.spot((31, 56, -33), (17, 26, 17), 0.8 * self.fat, _BOTH)
        for at in ((31, 48, -21), (31, 48, -45), (19, 48, -33), (43, 48, -33)):
            self.spot(at, (3, 18, 2.5), 0.5, _BOTH)
        self.spot((26, 44, -32), (2.2, 18, 2.2), 0.42, _BOTH)
        self.spot((32, 68, -33), (12.5, 12.5, 12.5), 0.5, _BOTH)
        self.spot((32, 68, -33), (11, 11, 11), 0.2, _BOTH)
        self.spot((32, 76, -33), (4.5, 2.2, 4.5), 0.4, _BOTH)
        self.spot((0, 62, -34), (10, 22, 14), 0.12)

    def skull(self) -> None:
        """Paint the skull with its marrow, dura, fluid."""
        self.paint(np.maximum(self.inner - self.skull_mm, self.outer + self.scalp_mm * 0.6), 0.07)
        self.paint(
            np.maximum(
                np.abs(self.inner - self.skull_mm / 2) - (0.16 + 0.05 * self.coarse) * self.skull_mm,
                self.outer + self.scalp_mm,
            ),
            0.45,
        )
        self.paint(self.inner, 0.35)
        self.paint(self.inner + 1.2, self.fluid)

    def brain(self) -> None:
        """Paint the cortex, whose sulci follow the zeros of a random field down to a depth, and cerebellum."""
        depth = -self.inner - 2.0 - 1.5 * self.shrunk
        below = _step((-14 + 0.25 * (self.y + 40) - self.z) / 1.5) * _step((4 - self.y - 0.65 * self.ax) / 2)
        fold = np.abs(self.field(20) + 0.2 * self.field(8)) * 3.2
        folia = np.abs(np.sin(0.7 * (np.hypot(self.ax - 6, self.y + 30) + 0.5 * self.z) + 1.6 * self.field(22))) * 1.9
        self.cortex = np.minimum(depth, fold + 0.5 * np.maximum(depth - self.rng.uniform(14, 20), 0))
        fissure = self.ax - 0.5 - 0.7 * self.shrunk - 0.3 * self.bumps
        self.arch = mri.ellipsoid(self.position, (0, 3, 6), (60, 40, 19))
        fissure = np.where((self.arch > 0) & (self.z > -12 - 0.3 * self.y), fissure, 30)
        sylvian = np.abs(self.z + 8 - 0.4 * (58 - self.ax) + 2 * self.coarse) - 0.6 - self.shrunk
        insula = np.abs(self.ax - 37 - 2 * self.coarse) - 0.6 - self.shrunk
        sylvian = np.where((self.ax > 36) & (self.y > -20) & (self.y < 46), sylvian, 30)
        insula = np.where((np.abs(self.z - 4) < 13) & (self.y > -12) & (self.y < 40), insula, 30)
        self.cortex = np.minimum.reduce([self.cortex, fissure, np.maximum(sylvian, -1), np.maximum(insula, -1)])
        brain = self.grey + (self.white - self.grey) * np.clip((self.cortex - 2.8) / 1.8, 0, 1)
        brain *= 1 + 0.02 * self.fine + 0.02 * self.coarse
        self.paint(-np.maximum(self.cortex - 0.3 - 0.6 * self.shrunk, -3), brain, 1.5)
        cerebellum = np.minimum(depth, folia + 0.04 * depth)
        self.paint(np.maximum(4 * (0.5 - below), -depth), self.fluid)
        self.paint(
            np.maximum(4 * (0.6 - below), -depth),
            self.grey + (self.white - self.grey) * np.clip(cerebellum - 0.7, -0.8, 1),
        )

    def nuclei(self) -> None:
        """Paint caudate, putamen, thalamus; ventricles with their plexus."""
        self.spot((12, 22, 12), (5, 10, 7), self.grey, _BOTH)
        self.spot((25, 14, 3), (6, 16, 11), self.grey, _BOTH)
        self.spot((10, -6, 3), (9, 14, 9), self.grey * 1.04, _BOTH)
        self.wide = 0.8 + 0.7 * self.shrunk + 0.1 * self.rng.normal()
        self.spot((4.5, 15, 11), (2.8 * self.wide, 28, 6.5), self.fluid, _BOTH)
        self.spot((9, 13, 15), (5.5 * self.wide, 32, 4.0 * self.wide), self.fluid, _BOTH)
        self.spot((33, 2, -24), (1.8 * self.wide, 11, 3 * self.wide), self.fluid, _BOTH)
        self.spot((0, 2, -7), (1.6 * self.wide, 12, 10), self.fluid)
        self.spot((14, -14, 12), (2.5, 10, 3), self.vein, _BOTH)

    def stem(self) -> None:
        """Paint the stem in its cisterns, fourth ventricle, chiasm, stalk, sphenoid sinus, gland, arteries."""
        self.spot((0, -8, -14), (19, 15, 13), self.fluid)
        self.spot((0, -12, -34), (17.5, 15, 20), self.fluid)
        self.spot((0, 20, -22), (10, 9, 7), self.fluid)
        self.spot((14, 21, -21), (11, 3, 5), self.fluid, _BOTH)
        self.spot((0, 33, -20), (2, 10, 6), self.fluid)
        self.spot((0, -10, -14), (17, 13, 14), self.white * 0.97)
        self.spot((0, -14, -34), (16, 13, 20), self.white * 0.97)
        self.spot((15, -26, -34), (9, 8, 9), self.white, _BOTH)
        self.spot((0, -34, -34), (7 * self.wide, 5, 10), self.fluid)
        self.spot((1, 3, -28), (1.6, 1.6, 14), self.artery, (1,), 1.5)
        self.spot((0, 23, -19), (8, 4, 1.8), self.white * 0.92)
        self.spot((0, 22, -25), (1.3, 1.5, 6), 0.75)
        self.spot((0, 27, -48), (13, 13, 9), self.air, (1,), 2)
        self.spot((0, 25, -42), (9, 7, 3), 0.2)
        gland = self.rng.uniform(0.62, 0.82)
        self.spot((13.5, 24, -32), (5.5, 12, 7), gland, _BOTH)
        self.spot(
            SELLA_MM,
            (self.rng.uniform(6, 8.5), 6, self.rng.uniform(2.2, 4.2)),
            gland + self.rng.normal(0, 0.05),
            (1,),
            0.8,
        )
        self.spot((13, 25, -33), (2.6, 8, 2.6), 0.06, _BOTH, 1)
        self.spot((14, 22, -19), (11, 1.4, 1.4), self.artery, _BOTH, 1)
        self.spot((36, 18, -4), (1.3, 14, 1.3), self.artery, _BOTH, 2)

    def vessels(self) -> None:
        """Paint the dura of the falx, sinuses, veins in the sulci."""
        self.paint(
            np.maximum.reduce([self.ax - 0.5, 6 - self.arch, 6 - self.z, self.inner]), self.rng.uniform(0.4, 0.7)
        )
        self.paint(
            np.maximum.reduce([self.ax - 4 - 0.7 * self.inner, self.inner, np.minimum(10 - self.z, self.y + 50)]),
            self.vein,
        )
        self.paint(
            np.maximum.reduce([np.abs(self.z + 22 + 0.1 * self.ax) - 3.5, self.inner, -self.inner - 4, self.y + 30]),
            self.vein,
        )
        veins = np.maximum(2 * (1.5 - self.field(11)), self.cortex - 0.8)
        self.paint(np.maximum(veins, self.inner + 0.8), self.vein)


_BOTH = (-1, 1)


def _head(plane: mri.Plane, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Signal of a head on a plane (h, w), and the distance from the inside of its skull in mm (h, w)."""
    head = _Head(plane, seed)
    for paint in (head.flesh, head.skull, head.brain, head.nuclei, head.stem, head.vessels):
        paint()
    return head.image, head.inner


def _vault(radii_mm: np.ndarray, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Point (3,) where a ray from inside the skull leaves it for good."""
    ray = start[:, None] + direction[:, None] * np.arange(0.0, 120.0)
    return ray[:, np.flatnonzero(_inside(ray, radii_mm) < 0)[-1]]


def _blob(rng: np.random.Generator, plane: mri.Plane, centre, radius_mm: float, rough: float) -> np.ndarray:
    """Distance in mm from the surface of a rounded, uneven body; (h, w)."""
    radii = radius_mm * rng.uniform(0.85, 1.15, 3)
    distance = mri.ellipsoid(plane.coordinates(), centre, radii)
    waves = mri.Waves.draw(rng, 1.7 * radius_mm), mri.Waves.draw(rng, 0.8 * radius_mm)
    return distance + rough * radius_mm * (waves[0].on(plane) + 0.35 * waves[1].on(plane))


Tumour = tuple[np.ndarray, np.ndarray, float, np.ndarray]
"""Signal (h, w) and share (h, w) of a tumour, then signal and share (h, w) of its halo."""


def _meningioma(rng: np.random.Generator, plane: mri.Plane, inner: np.ndarray, seat: Seat) -> Tumour:
    """Outside the brain, on the dura with a broad base and a tail along it; bright throughout."""
    edge, radius_mm = float(np.linalg.norm(plane.down)), rng.uniform(9, 25)
    if seat.coronal and rng.random() < 0.25:
        side_mm, up_mm = rng.choice([-1, 1]) * 0.75 * radius_mm, rng.uniform(62, 82)
        centre = seat.home + side_mm * seat.right - up_mm * seat.down
    else:
        angle = np.deg2rad(rng.uniform(-5, 185) if seat.coronal else rng.uniform(130, 410))
        along = np.cos(angle) * seat.right - np.sin(angle) * seat.down
        start = seat.home + (-36 if seat.coronal else 30) * seat.down
        centre = _vault(seat.radii_mm, start, along) - rng.uniform(0.6, 0.9) * radius_mm * along
    centre = centre + rng.uniform(-0.3, 0.3) * radius_mm * seat.normal
    distance = _blob(rng, plane, centre, radius_mm, 0.06)
    signal = rng.normal(0.8, 0.08) + 0.025 * mri.Waves.draw(rng, 5).on(plane)
    signal -= rng.uniform(0, 0.15) * mri.coverage(distance + 0.6 * radius_mm, 4)
    tail = mri.coverage(np.maximum(np.abs(inner + 0.8) - 1.1, distance - rng.uniform(0.4, 0.9) * radius_mm), edge)
    return signal, mri.coverage(np.maximum(distance, inner + 0.3), edge), 0.75, 0.8 * tail


def _glioma(rng: np.random.Generator, plane: mri.Plane, inner: np.ndarray, seat: Seat) -> Tumour:
    """Inside the brain: uneven, mostly a bright rim around a dark core, with oedema."""
    edge, radius_mm = float(np.linalg.norm(plane.down)), rng.uniform(9, 25)
    for _ in range(100):
        centre = seat.home + rng.uniform(-60, 60) * seat.right + rng.uniform(-100, 100) * seat.down
        if _inside(centre[:, None], seat.radii_mm)[0] < -0.7 * radius_mm - 4:
            break
    centre = centre + rng.uniform(-0.2, 0.2) * radius_mm * seat.normal
    distance = _blob(rng, plane, centre, radius_mm, 0.16)
    patches = mri.Waves.draw(rng, 0.8 * radius_mm).on(plane)
    rim_mm = rng.uniform(0.2, 0.4) * radius_mm
    solid = rng.random() < 0.25
    core = mri.coverage(distance + rim_mm + 1.2 * patches, 2) if not solid else _step(2 * patches + 0.5)
    rim = rng.normal(0.74, 0.09) * (1 + 0.12 * patches)
    necrosis = rng.uniform(0.2, 0.32) + 0.03 * mri.Waves.draw(rng, 6).on(plane)
    around = mri.coverage(np.maximum(distance - rng.uniform(3, 9), inner + 6), 6)
    share = mri.coverage(np.maximum(distance, inner + 2.5), 2 * edge)
    return rim + core * (necrosis - rim), share, 0.36, 0.7 * around


def _pituitary(rng: np.random.Generator, plane: mri.Plane, inner: np.ndarray, seat: Seat) -> Tumour:
    """In the midline, from the pituitary fossa upwards: smooth, fairly even, now and then with a cyst."""
    edge, radius_mm = float(np.linalg.norm(plane.down)), rng.uniform(7, 13)
    centre = seat.home + rng.normal(0, 1, 3)
    height_mm = SELLA_MM[2] + 0.55 * radius_mm
    centre[2] = height_mm if seat.coronal else 0.5 * (seat.home[2] + height_mm)
    distance = _blob(rng, plane, centre, radius_mm, 0.05)
    fossa = mri.ellipsoid(plane.coordinates(), SELLA_MM, (8, 7, 6))
    distance = -2 * np.log(np.exp(-np.clip(distance, -40, 40) / 2) + np.exp(-np.clip(fossa, -40, 40) / 2))
    signal = rng.normal(0.76, 0.08) + 0.03 * mri.Waves.draw(rng, 5).on(plane)
    if rng.random() < 0.3:
        cyst = mri.coverage(distance + rng.uniform(0.3, 0.5) * radius_mm, 3)
        signal = signal + cyst * (rng.uniform(0.25, 0.45) - signal)
    return signal, mri.coverage(distance, edge), 0.0, np.zeros(plane.shape, np.float32)


_TUMOURS = (_meningioma, _glioma, _pituitary)


def write(folder: Path, twin: Twin, seed: int, progress: Progress, redraw: Redraw = unchanged) -> None:
    """Write the twin: `1.mat`, `2.mat`, ... in MATLAB's v7.3 form as the real set has them, then `twin.csv`.

    Args:
        folder: where the files go.
        twin: how many patients, images and levels of severity.
        seed: the study's seed.
        progress: called with images done, images in all, and the patient.
        redraw: changes what is made of whom before it is made.
    """
    planned = redraw(plan("brain_tumor", twin, seed, CLASSES, label_per="patient"))
    rows = []
    for number, image in enumerate(planned, 1):
        made = render(image.patient_seed, image.image_seed, image.label, image.severity)
        write_mat(folder / f"{number}.mat", made, image.label + 1, image.patient)
        rows.append(twin_row(image, **{"image": str(number)} | made.facts))
        progress(number, len(planned), image.patient)
    write_twin_table(folder, rows)


def write_mat(path: Path, made: Slice, label: int, patient: str) -> None:
    """Write one slice as MATLAB's v7.3 form of the struct `cjdata`; arrays lie transposed in it, as MATLAB leaves them.

    Args:
        path: the file.
        made: the slice.
        label: 1 meningioma, 2 glioma, 3 pituitary tumour.
        patient: the patient's id.
    """
    image = np.clip(np.rint(made.image), 0, np.iinfo(np.int16).max).astype(np.int16)
    border = max(find_contours(np.pad(made.mask, 1).astype(float), 0.5), key=len)
    content = {
        "PID": (np.frombuffer(patient.encode("utf-16-le"), np.uint16)[:, None], "char"),
        "image": (image.T, "int16"),
        "label": (np.array([[float(label)]]), "double"),
        # Columns before rows, counted from 1: the padding has moved them already.
        "tumorBorder": (border[:, ::-1].reshape(1, -1), "double"),
        "tumorMask": (made.mask.T.astype(np.uint8), "logical"),
    }
    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=512) as file:
            group = file.create_group("cjdata")
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for name, (values, kind) in content.items():
                group[name] = values
                group[name].attrs["MATLAB_class"] = np.bytes_(kind)
                if kind in ("char", "logical"):
                    group[name].attrs["MATLAB_int_decode"] = np.int32(2 if kind == "char" else 1)
        header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created by: xiqa (simulated)".ljust(116)
        with open(temporary, "r+b") as file:
            file.write(header + bytes(8) + b"\x00\x02IM")
