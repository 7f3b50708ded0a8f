"""Images of the phantom as they come, from folders, trees and files: each read once, and sorted by exposure setting."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xiqa.cdmam.dicom import Recording, read_dicom
from xiqa.cdmam.folder import Images
from xiqa.cdmam.graded import GradedImage, measure_visible
from xiqa.cdmam.grid import decimate
from xiqa.cdmam.reader import Reading, read_image

CURVE_OF_RECORD = 16
"""Images that a curve by counting should rest on."""
SAME_MAS = 1.1
"""Exposures that follow each other within this ratio are one setting: an automatic exposure control varies by less."""
PICTURE_PX = 1000
"""The longer side of the picture of an image that is kept for figures."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class ReadImage:
    """One image, read.

    Attributes:
        name: its name in results, unique among the images.
        file: its path in the folder that was given.
        header: what the file says of the exposure, without the counts.
        pixel_digest: SHA-256 of the counts, equal for the same image in another file.
        reading: what was detected.
        picture: (h, w) float32, the image reduced by block means to about `PICTURE_PX`.
        picture_factor: pixels of the image per pixel of the picture and axis.
        graded: what the graded signals tell; None: not asked for, or nothing.
    """

    name: str
    file: str
    header: Recording
    pixel_digest: str
    reading: Reading
    picture: np.ndarray
    picture_factor: int
    graded: GradedImage | None = None


@dataclass(frozen=True)
class Unread:
    """An image that could not be read.

    Attributes:
        name, file: as of `ReadImage`.
        reason: why, naming the file.
        picture: as of `ReadImage`, where the file has pixels in which the phantom was not found; else None.
        picture_factor: likewise.
        pixel_mm: pixel size, where there is a picture.
    """

    name: str
    file: str
    reason: str
    picture: np.ndarray | None = None
    picture_factor: int = 1
    pixel_mm: float = 0.0


def read_recording(
    path: str | os.PathLike,
    name: str,
    file: str = "",
    *,
    pixel_mm: float | None = None,
    frame: int | None = None,
    version: str | None = None,
    corners_px: np.ndarray | None = None,
    orientation: int | None = None,
    graded: bool = False,
) -> ReadImage | Unread:
    """Read one file: the one function by which the command line, Python and the pipeline read recordings.

    Args:
        path: a DICOM file.
        name: name of the image in results.
        file: what the file is called in results and messages; empty: its name.
        pixel_mm, frame: see `xiqa.cdmam.dicom.read_dicom`.
        version: version of the phantom; None: what the grid shows.
        corners_px: `block_px` of `xiqa.cdmam.reader.read_image`, taken where the grid is not found without.
        orientation: see there.
        graded: measure the graded signals as well; an image whose discs do not stand out has none.

    Returns:
        The image, or why it cannot be read; never raises for what is wrong with one file.
    """
    path, file = Path(path), file or Path(path).name
    recording = None
    try:
        recording = read_dicom(path, pixel_mm=pixel_mm, frame=frame)
        reading = _found(recording, file, version, corners_px, orientation)
    except (ValueError, OSError) as error:
        reason = str(error).replace(str(path), file)
        if recording is None or recording.counts.ndim != 2 or np.ptp(recording.counts) == 0:
            return Unread(name, file, reason)
        return Unread(name, file, reason, *_picture(recording.counts), recording.pixel_mm)
    picture, factor = _picture(recording.counts)
    header = dataclasses.replace(recording, counts=np.empty((0, 0), np.float32))
    measured = measure_visible(recording.counts, recording.pixel_mm, reading, name) if graded else {}
    return ReadImage(name, file, header, recording.pixel_digest, reading, picture, factor, measured.get(name))


def _found(
    recording: Recording, name: str, version: str | None, corners_px: np.ndarray | None, orientation: int | None
) -> Reading:
    """Read an image; where the grid is not found, with the corners that somebody gave."""
    how: dict[str, Any] = {"name": name, "orientation": orientation, "version": version}
    try:
        return read_image(recording.counts, recording.pixel_mm, **how)
    except ValueError:
        if corners_px is None:
            raise
    return read_image(recording.counts, recording.pixel_mm, **how, block_px=corners_px)


def _picture(counts: np.ndarray) -> tuple[np.ndarray, int]:
    factor = max(1, round(max(counts.shape) / PICTURE_PX))
    return decimate(np.ascontiguousarray(counts, np.float32), factor), factor


@dataclass(frozen=True)
class Found:
    """All images of a reading.

    Attributes:
        images: those that were read, each once.
        left_out: file -> why it was not.
        unread: of these, the images that should have been read and cannot.
    """

    images: list[ReadImage]
    left_out: dict[str, str]
    unread: dict[str, str]


def keep_each_once(images: Images, results: Sequence[ReadImage | Unread]) -> Found:
    """Sort results into images and what is left out; an image that is there twice, by its pixels, counts once.

    Args:
        images: as of `xiqa.cdmam.folder.find_all`.
        results: of `read_recording`, in the order of `images.paths`.
    """
    left_out = {images.shown[path]: reason for path, reason in images.others.items()}
    unread: dict[str, str] = {}
    read: list[ReadImage] = []
    seen: dict[str, str] = {}
    for result in results:
        if isinstance(result, Unread):
            unread[result.file] = result.reason
        elif (first := seen.setdefault(result.pixel_digest, result.file)) != result.file:
            left_out[result.file] = f"the same pixels as {first}, counted once"
        else:
            read.append(result)
    return Found(read, dict(sorted((left_out | unread).items())), dict(sorted(unread.items())))


# ---------------------------------------------------------------------------------------------------------------------
# Exposure settings


@dataclass(frozen=True)
class Setting:
    """The images of one exposure setting.

    Attributes:
        name: such as "W-Rh_28kV_100mAs"; says more where that does not tell settings apart.
        images: its images, in the order of their names.
    """

    name: str
    images: tuple[ReadImage, ...]


def settings_of(images: Iterable[ReadImage], *, one: bool = False) -> list[Setting]:
    """Sort images by exposure setting, from their headers.

    One setting has one phantom, system, target and filter, tube voltage, pixel size and kind of pixels; its exposures
    follow each other within `SAME_MAS`.

    Args:
        images: the images.
        one: take all as one setting, whatever their headers say.
    """
    groups = [list(images)] if one else cluster(images, _key, lambda image: _mas(image.header))
    names = setting_names([[image.header for image in group] for group in groups])
    named = zip(names, groups, strict=True)
    return [Setting(name, tuple(sorted(group, key=lambda image: image.file))) for name, group in sorted(named)]


def _same_mas(mas: float | None, before: float | None) -> bool:
    """Whether an exposure follows another within `SAME_MAS`; two that are unknown do."""
    if mas is None or before is None:
        return mas is None and before is None
    return mas <= SAME_MAS * before


def cluster(items: Iterable[Item], key: Callable[[Item], Any], mas: Callable[[Item], float | None]) -> list[list[Item]]:
    """Sort things with equal keys into groups whose exposures follow each other within `SAME_MAS`."""
    groups: list[list[Item]] = []
    last: tuple[Any, float | None] | None = None
    for item in sorted(items, key=lambda item: (repr(key(item)), mas(item) is None, mas(item) or 0.0)):
        here = key(item), mas(item)
        if last is not None and here[0] == last[0] and _same_mas(here[1], last[1]):
            groups[-1].append(item)
        else:
            groups.append([item])
        last = here
    return groups


def _key(image: ReadImage) -> tuple:
    header = image.header
    return (
        image.reading.version, header.system, header.serial_number, header.anode, header.filter, header.tube_voltage_kv,
        round(header.pixel_mm, 4), header.for_presentation, header.intensity_relationship, header.frame,
    )  # fmt: skip


def _mas(header: Recording) -> float | None:
    return header.exposure_mas


_FURTHER: tuple[Callable[[Recording], str], ...] = (
    lambda header: f"{header.pixel_mm:.4g}mm",
    lambda header: "for_presentation" if header.for_presentation else "for_processing",
    lambda header: header.intensity_relationship or "unknown_relationship",
    lambda header: header.system or "unknown_system",
    lambda header: header.serial_number or "no_serial_number",
    lambda header: f"frame_{header.frame}" if header.frame else "single_frame",
)


def setting_names(groups: Sequence[Sequence[Recording]]) -> list[str]:
    """Name exposure settings, each from the headers of its images: as short as tells them apart, fit for file names."""
    names = [_short_name(group) for group in groups]
    for further in _FURTHER:
        words = [further(group[0]) for group in groups]
        for name in {name for name in names if names.count(name) > 1}:
            equal = [k for k, other in enumerate(names) if other == name]
            if len({words[k] for k in equal}) > 1:
                for k in equal:
                    names[k] = f"{name}_{words[k]}"
    names = [re.sub(r"[^\w.+-]+", "-", name) for name in names]
    return [f"{name}_{names[:k].count(name) + 1}" if names.count(name) > 1 else name for k, name in enumerate(names)]


def _short_name(headers: Sequence[Recording]) -> str:
    """Target, filter, voltage and exposure, as far as the images agree on them."""

    def common(values: Iterable) -> Any:
        different = set(values)
        return different.pop() if len(different) == 1 else None

    anode, material = common(h.anode for h in headers), common(h.filter for h in headers)
    voltage = common(h.tube_voltage_kv for h in headers)
    exposures = [h.exposure_mas for h in headers if h.exposure_mas is not None]
    known = len(exposures) == len(headers) and max(exposures) <= SAME_MAS**2 * min(exposures)
    parts = [
        f"{anode}-{material}" if anode and material else "",
        f"{voltage:g}kV" if voltage is not None else "",
        f"{np.median(exposures):.3g}mAs" if known else "",
    ]
    return "_".join(filter(None, parts)) or "setting"
