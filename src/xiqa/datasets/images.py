"""One image file of any readable format as pixels, and one mask file as truth for each pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from xiqa.datasets.base import DataError, Loaded, faults_named, same_size
from xiqa.datasets.formats import readable, reader_of
from xiqa.datasets.masks import check_same_place, inside_of
from xiqa.datasets.paths import if_there
from xiqa.datasets.pictures import luminance, read_picture

LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP")
"""File types that may change the values of a mask."""
FULL_SCALE = {np.dtype(bool): 1.0, np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


def load_image(path: str | Path) -> Loaded:
    """Read one two-dimensional image.

    The format follows from the content, then from the name; `datasets.formats` lists all that are read.

    - Colour becomes luminance. Transparency is laid over black: what lies under it was never shown to a reader.
    - An orientation in the EXIF header is obeyed, as by viewers and annotation tools, in masks too.
    - A 16-bit TIFF whose 0 is white is inverted, so that bright is large.
    - NIfTI and MetaImage slices are turned into the standard orientation of `datasets.orientation`.

    Args:
        path: the file.

    Returns:
        Pixels (h, w), the pixel spacing and full scale where the format has them, and in `header` width, height,
        colour mode and file type (of DICOM what its reader gives).

    Raises:
        DataError: the file is missing, empty, truncated or of no known format; it holds more than one slice or page;
            its pixels are NaN, infinite, or all the same.
    """
    with faults_named(path):
        loaded = _read(Path(path))
        pixels = _two_dimensional(path, loaded.pixels)
    if pixels.min() == pixels.max():
        raise DataError(path, f"every pixel is {pixels.flat[0]:g}, expected an image; export it again or take it out")
    height, width = pixels.shape
    return replace(loaded, pixels=pixels, header={"width": float(width), "height": float(height), **loaded.header})


def read_mask(
    path: str | Path,
    image: Loaded | np.ndarray | None,
    mask_values: str | None = None,
    index: int | None = None,
) -> np.ndarray:
    """Read the mask of an image; `masks.inside_of` decides what is inside.

    Masks whose file says how they lie in the patient (NIfTI, MetaImage) are turned as images are, and must lie where
    the image lies. Other masks (PNG, .npy, ...) fit images that need no turn.

    Args:
        path: the file, of any format that `load_image` reads.
        image: the image, or its pixels (h, w); None leaves size and place unchecked.
        mask_values: which values are inside; None: as the data set says.
        index: slice or frame of a file that holds a series.

    Returns:
        (h, w) bool.

    Raises:
        DataError: the file cannot be read or is not finite, nobody can tell what is inside, or it has another size or
            place than the image.
    """
    with faults_named(path):
        place = image.place.affine if isinstance(image, Loaded) else None
        loaded = _read(Path(path), lambda channels: channels, index, place)
        values = loaded.pixels
        if not (values.ndim == 2 or values.shape[2:] == (3,)) or not values.size:
            raise DataError(path, f"found an array of shape {values.shape}, expected (rows, columns)")
        lossy = loaded.header.get("file_type") in LOSSY
        mask = inside_of(path, values, mask_values=mask_values, lossy=lossy, full_scale=loaded.full_scale)
    if image is None:
        return mask
    image = image if isinstance(image, Loaded) else Loaded(image)
    same_size(path, mask, image.pixels)
    check_same_place(path, loaded.place, image.place, mask.shape)
    return mask


def _read(path: Path, colour_to_grey=luminance, index: int | None = None, place: np.ndarray | None = None) -> Loaded:
    """The file as it is; of a series the slice at this place (an affine), or with this index."""
    if_there(path, path)
    with path.open("rb") as opened:
        start = opened.read(352)
    if not start:
        raise DataError(path, "is empty (0 bytes); copy it again")
    reader = reader_of(path, start)
    if reader == "dicom":
        from xiqa.datasets.dicom_image import read_dicom_image

        return read_dicom_image(path)
    if reader == "volume":
        return _volume(path, index, place)
    if reader == "npy":
        return _npy(path)
    return read_picture(path, start, colour_to_grey, readable())


def _two_dimensional(path: str | Path, pixels: np.ndarray) -> np.ndarray:
    """Pixels as (h, w) float32, refused if they are empty, of another dimension or not finite."""
    if pixels.ndim != 2 or not pixels.size:
        raise DataError(path, f"found an array of shape {pixels.shape}, expected (rows, columns)")
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(pixels, np.float32)
    bad = pixels.size - np.count_nonzero(np.isfinite(pixels))
    if bad:
        raise DataError(path, f"found {bad} pixels that are NaN or infinite, expected numbers; export it again")
    return pixels


def _volume(path: Path, index: int | None, place: np.ndarray | None) -> Loaded:
    from xiqa.datasets.volumes import open_volume

    volume = open_volume(path)
    if index is None and volume.shape[0] != 1:
        found = f"found {volume.shape[0]} slices, expected one"
        raise DataError(path, f"{found}; format lvot reads series of frames, format ct_contrast those of slices")
    return replace(volume.slice(volume.index_at(place, index or 0)), header={"file_type": volume.stored.kind})


def _npy(path: Path) -> Loaded:
    with path.open("rb") as opened:
        array = np.lib.format.read_array(opened, allow_pickle=False)
    if array.dtype.kind not in "buif":
        raise DataError(path, f"found values of type {array.dtype}, expected real numbers")
    return Loaded(array, full_scale=FULL_SCALE.get(array.dtype), header={"file_type": "npy"})
