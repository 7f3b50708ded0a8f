"""Images of exposure settings as the reader would have read them, drawn from psychometric curves."""

import dataclasses

import numpy as np

from xiqa.cdmam.curve import GOLD_ATTENUATION_PER_UM
from xiqa.cdmam.dicom import Recording
from xiqa.cdmam.phantom import CELL_PRESENT, CORNER_CODES, DIAMETERS_MM, THICKNESSES_UM
from xiqa.cdmam.reader import Reading, Registration
from xiqa.qc.analysis import Analysis, analyse
from xiqa.qc.limits_file import load_limits
from xiqa.qc.load import ReadImage, Setting, settings_of
from xiqa.qc.record import Options

HEADER = Recording(
    counts=np.empty((0, 0), np.float32), pixel_mm=0.07, tube_voltage_kv=28.0, exposure_mas=100.0, anode="W",
    filter="Rh", name="image", polarity_settled=True, system="Maker Model", serial_number="17",
    station="MAMMO1", date="2026-01-15", intensity_relationship="LIN",
)  # fmt: skip
PLACED = {
    "origin_mm": (120.0, 150.0), "angle_deg": 0.5, "scale": 1.035, "orientation": 0, "residual_mm": 0.008,
    "pitch_mm": 10.35, "eccentric_offset": 0.3, "magnification": 1.035, "discs_dark": True, "discs_visible": True,
    "displacement": None,
}  # fmt: skip


def registration(**changes) -> Registration:
    """A phantom that stands straight in an image of 240 mm × 300 mm."""
    step = 10.35 / np.sqrt(2) / HEADER.pixel_mm
    steps = np.array([[step, -step], [-step, -step]])
    centre = np.array(PLACED["origin_mm"]) / HEADER.pixel_mm - 0.5
    frame = np.vstack([centre - 7.5 * steps.sum(axis=0), steps])
    values = {**PLACED, "frame_px": frame, "disc_frame_px": frame, **changes}
    known = {field.name for field in dataclasses.fields(Registration)}
    return Registration(**{name: value for name, value in values.items() if name in known})


def hit_rates(scale: float = 1.0, slope: float = 2.3) -> np.ndarray:
    """Probability (16, 16) of a hit of a system whose thresholds are `scale` times those of a good one."""
    threshold_um = scale * (0.0265 / DIAMETERS_MM**1.5 + 0.004 / DIAMETERS_MM**2)
    position = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * threshold_um))[:, None]
    cells = np.log(-np.expm1(-GOLD_ATTENUATION_PER_UM * THICKNESSES_UM))
    return 0.25 + 0.75 / (1 + np.exp(-slope * (cells - position)))


def signals(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Signals (5, 16, 16) of the centre and of each corner: noise 1, and discs that fit the thresholds."""
    full = -np.expm1(-GOLD_ATTENUATION_PER_UM * THICKNESSES_UM) / (scale * 0.002 / DIAMETERS_MM[:, None] ** 1.5)
    found = rng.normal(0, 1, (5, 16, 16))
    found[0] += full
    found[CORNER_CODES, *np.indices((16, 16))] += np.where(CELL_PRESENT, full, 0)
    return np.where(CELL_PRESENT, found, np.nan).astype(np.float32)


def read_images(count: int, scale: float = 1.0, seed: int = 0, **header) -> list[ReadImage]:
    """Images of a system, each with its own draws; `header`: what differs from `HEADER`."""
    rng = np.random.default_rng([seed, count])
    rates, found = hit_rates(scale), []
    for number in range(count):
        corner, centre = (
            np.where(CELL_PRESENT, np.where(rng.random((16, 16)) < rates, 1, 2), -1).astype(np.int8) for _ in range(2)
        )
        graded = signals(rng, scale)
        reading = Reading(f"{number}", corner, centre, corner, graded[1:], graded[0], registration())
        picture = rng.normal(1000, 10, (43, 34)).astype(np.float32)
        name, digest = f"image_{seed}_{number:02d}", f"{seed}-{scale}-{number}"
        head = dataclasses.replace(HEADER, **header)
        found.append(ReadImage(name, f"{name}.dcm", head, digest, reading, picture, 100))
    return found


def analysed(count: int = 16, scale: float = 1.0, seed: int = 0, bootstrap: int = 60, **header) -> Analysis:
    """The analysis of such a setting against the European limits."""
    (setting,) = settings_of(read_images(count, scale, seed, **header))
    return analyse(setting, options(bootstrap=bootstrap))


def options(**changes) -> Options:
    """The usual options."""
    return Options(limits=load_limits(), **changes)


def setting_of(images: list[ReadImage]) -> Setting:
    """One setting of all images."""
    return settings_of(images, one=True)[0]
