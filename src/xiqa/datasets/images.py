"""One image file of any readable format as pixels, and one mask file as truth for each pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from xiqa.datasets.base import DataError, Loaded, faults_named, same_size
from xiqa.datasets.dicom_file import looks_like_dicom

LUMINANCE = (299, 587, 114)
"""Weights of red, green and blue in thousandths, ITU-R BT.601."""
LARGEST_LABEL = 31
"""Whole numbers up to this one are labels in a mask; larger ones are grey levels."""
FULL_SCALE = {np.dtype(bool): 1.0, np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


def read_image(path: str | Path) -> Loaded:
    """Read one two-dimensional image.

    The format follows from the name, then from the content: DICOM (also without suffix or preamble), NIfTI, .npy,
    MetaImage (.mhd, .mha), and all that Pillow reads (PNG, JPEG, TIFF, BMP, ...).

    - Colour becomes luminance. Transparency is laid over black: what lies under it was never shown to a reader.
    - An orientation in the EXIF header is obeyed, as by viewers and annotation tools, in masks too.
    - A 16-bit TIFF whose 0 is white is inverted, so that bright is large.
    - Voxel (i, j) of a NIfTI slice is column i and row j; the affine does not turn it.

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
    return replace(loaded, pixels=pixels, header={"width": float(width), "height": float(height)} | loaded.header)


def read_mask(path: str | Path, pixels: np.ndarray | None, threshold: float | None = None) -> np.ndarray:
    """Read the mask of an image.

    A pixel is inside where its value is greater than `threshold`. Without one, a mask of whole numbers up to 31 holds
    labels (0/1, or one number per structure), and each but 0 is inside; so is each colour but black of a palette. Any
    other mask holds grey levels, of a colour its strongest channel: beyond half of the maximum is inside, since soft
    edges, and the ripples that JPEG leaves around an edge, would let the mask grow if every level but 0 counted.

    Args:
        path: the file, of any format that `read_image` reads.
        pixels: (h, w) the image; None leaves the size unchecked.
        threshold: in the unit of the file.

    Returns:
        (h, w) bool.

    Raises:
        DataError: the file cannot be read, is not finite, or has another size than the image.
    """
    with faults_named(path):
        loaded = _read(Path(path), colour_to_grey=lambda channels: channels.max(-1))
        values = _two_dimensional(path, loaded.pixels)
    if threshold is None:
        labels = loaded.header.get("colour") == "P" or (values.max() <= LARGEST_LABEL and (values % 1 == 0).all())
        threshold = 0 if labels else values.max() / 2
    mask = values > threshold
    if pixels is not None:
        same_size(path, mask, pixels)
    return mask


def _luminance(channels: np.ndarray) -> np.ndarray:
    """(h, w, 3) to (h, w); in whole numbers, so that grey stored as colour has exactly the pixels of grey."""
    thousandths = sum(weight * channels[..., band].astype(np.int32) for band, weight in enumerate(LUMINANCE))
    return (thousandths / 1000).astype(np.float32)


def _read(path: Path, colour_to_grey=_luminance) -> Loaded:
    """The file as it is."""
    with path.open("rb") as opened:
        start = opened.read(132)
    if not start:
        raise DataError(path, "is empty (0 bytes); copy it again")
    name = path.name.casefold()
    if name.endswith((".dcm", ".dicom", ".ima")) or looks_like_dicom(start):
        from xiqa.datasets.dicom_image import read_dicom_image

        return read_dicom_image(path)
    if name.endswith((".nii", ".nii.gz")):
        return _nifti(path)
    if name.endswith(".npy"):
        return _npy(path)
    if name.endswith((".mhd", ".mha")):
        return _metaimage(path)
    return _picture(path, colour_to_grey)


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


def _picture(path: Path, colour_to_grey) -> Loaded:
    from PIL import Image, ImageFile, ImageOps

    # Any library in the process may have allowed truncated files, which then read as half grey images.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(path) as image:
        image.verify()  # of the check sums in a PNG; reading alone passes over them
    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(path, f"found {image.n_frames} pages, expected one; save each image as a file of its own")
        mode, file_type = image.mode, image.format or ""
        white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0
        image = ImageOps.exif_transpose(image)
    if mode.startswith(("I", "F")):
        pixels = np.asarray(image)
        full_scale = 65535.0 if mode.startswith("I;16") or file_type == "PNG" else None
        if white_is_zero and mode.startswith("I;16"):
            pixels = 65535 - pixels
    elif mode in ("1", "L") and not image.has_transparency_data:
        pixels, full_scale = np.asarray(image.convert("L")), 255.0
    else:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        pixels, full_scale = colour_to_grey(np.asarray(image.convert("RGB"))), 255.0
    return Loaded(pixels, full_scale=full_scale, header={"colour": mode, "file_type": file_type})


def _nifti(path: Path) -> Loaded:
    import nibabel

    image = nibabel.load(path)
    kept = [axis for axis, length in enumerate(image.shape) if length > 1]
    if len(kept) != 2:
        raise DataError(path, f"found shape {image.shape}, expected one slice; format lvot reads whole series")
    column_mm, row_mm = (float(image.header.get_zooms()[axis]) for axis in kept)
    pixels = np.asarray(image.dataobj).squeeze().T
    return Loaded(pixels, spacing_mm=(row_mm, column_mm), header={"file_type": "NIfTI"})


def _npy(path: Path) -> Loaded:
    with path.open("rb") as opened:
        array = np.lib.format.read_array(opened, allow_pickle=False)
    if array.dtype.kind not in "buif":
        raise DataError(path, f"found values of type {array.dtype}, expected real numbers")
    return Loaded(array, full_scale=FULL_SCALE.get(array.dtype), header={"file_type": "npy"})


def _metaimage(path: Path) -> Loaded:
    from xiqa.datasets.metaimage import read_metaimage

    slices, (_, row_mm, column_mm) = read_metaimage(path)
    if len(slices) != 1:
        raise DataError(path, f"found {len(slices)} slices, expected one; format ct_contrast reads whole series")
    return Loaded(slices[0], spacing_mm=(row_mm, column_mm), header={"file_type": "MetaImage"})
