"""Pictures as programs for photographs write them: PNG, JPEG, TIFF, BMP, PGM and others, at their full depth or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xiqa.datasets.base import DataError, Loaded
from xiqa.datasets.dicom_decoder import Undecodable, stream_header
from xiqa.datasets.limits import check_size
from xiqa.extras import load

FILE_TYPES = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
"""What Pillow may open. The others that it knows are no medical images, and some start programs or lose depth."""
LUMINANCE = (299, 587, 114)
"""Weights of red, green and blue in thousandths, ITU-R BT.601."""
_NETPBM = {b"P1": (1, "1"), b"P2": (1, "L"), b"P3": (3, "RGB"), b"P4": (1, "1"), b"P5": (1, "L"), b"P6": (3, "RGB")}
_TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What the orientation in an EXIF header (tag 274) does to an array."""


def luminance(channels: np.ndarray) -> np.ndarray:
    """(h, w, 3) to (h, w); in whole numbers, so that grey stored as colour has exactly the pixels of grey."""
    thousandths = sum(weight * channels[..., band].astype(np.int32) for band, weight in enumerate(LUMINANCE))
    return np.asarray(thousandths / 1000).astype(np.float32)


def read_picture(
    path: Path, start: bytes, colour_to_grey: Callable[[np.ndarray], np.ndarray], readable: str = ""
) -> Loaded:
    """Read one picture.

    Args:
        path: the file.
        start: its first bytes, 32 or more.
        colour_to_grey: makes of (h, w, 3) what is wanted of colour.
        readable: all formats that are read, for the message.

    Returns:
        Pixels (h, w) as they are stored, or what is made of colour; the largest value that the file can hold; in
        `header` the colour mode and the file type.

    Raises:
        DataError: no picture, damaged, several pages, more than the limit of the data set, or a depth that would be
            lost.
    """
    from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

    if start[:2] in _NETPBM and start[2:3].isspace():
        return _netpbm(path, colour_to_grey)
    # Any library in the process may have allowed truncated files, which then read as half grey images.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.init()
    file_types = [name for name in FILE_TYPES if name in Image.OPEN]  # WebP is an option of Pillow
    try:
        with Image.open(path, formats=file_types) as image:
            check_size(path, (image.height, image.width, len(image.getbands())), 4 if image.mode[0] in "IF" else 1)
            image.verify()  # of the check sums in a PNG; reading alone passes over them
    except UnidentifiedImageError:
        raise DataError(path, f"cannot be read as any known format; {readable}") from None
    with Image.open(path, formats=file_types) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(path, f"found {image.n_frames} pages, expected one; save each image as a file of its own")
        mode, file_type, orientation = image.mode, image.format or "", image.getexif().get(274, 1)
        if _bits(path, start, image) > 8 and len(image.getbands()) > 1:
            header = {"colour": mode, "file_type": file_type}
            return Loaded(_deep_png(path, start, orientation, colour_to_grey), full_scale=65535.0, header=header)
        white_is_zero, invisible = getattr(image, "tag_v2", {}).get(262) == 0, image.info.get("transparency")
        image = ImageOps.exif_transpose(image)
    if mode.startswith(("I", "F")):
        pixels = np.asarray(image)
        full_scale = 65535.0 if mode.startswith("I;16") or file_type == "PNG" else None
        if white_is_zero and mode.startswith("I;16"):
            pixels = 65535 - pixels
        if isinstance(invisible, int):
            pixels = np.where(pixels == invisible, 0, pixels)
    elif mode in ("1", "L") and not image.has_transparency_data:
        pixels, full_scale = np.asarray(image.convert("L")), 255.0
    else:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        pixels, full_scale = colour_to_grey(np.asarray(image.convert("RGB"))), 255.0
    return Loaded(pixels, full_scale=full_scale, header={"colour": mode, "file_type": file_type})


def _bits(path: Path, start: bytes, image) -> int:
    """Bits of a channel as they are stored; Pillow gives colour 8 bits whatever it had."""
    if image.format == "PNG":
        return start[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    if image.format == "JPEG2000":
        content = path.read_bytes()
        try:
            return stream_header(content[max(content.find(b"\xff\x4f\xff\x51"), 0) :])[3]
        except Undecodable:
            raise DataError(path, "found no JPEG 2000 image behind its header; copy it again") from None
    return 8


def _deep_png(path: Path, start: bytes, orientation: int, colour_to_grey: Callable) -> np.ndarray:
    """Colour of 16 bits a channel, which Pillow would cut to 8; a PNG, whose check sums were verified."""
    if start[:4] != b"\x89PNG" or start[25] not in (2, 6):
        found = "found more than 8 bits a channel in colour or with transparency"
        raise DataError(
            path, f"{found}, which would be cut to 8; save it as 16-bit grey, or as PNG without transparency"
        )
    png = load("png")
    width, height, rows, told = png.Reader(bytes=path.read_bytes()).asDirect()
    if told["bitdepth"] != 16 or told["planes"] not in (3, 4):
        raise DataError(path, f"found {told['bitdepth']} bits, expected 16-bit colour; export it again")
    pixels = np.stack([np.asarray(row, np.uint16) for row in rows]).reshape(height, width, told["planes"])
    if pixels.shape[2] == 4:  # over black
        pixels = (pixels[..., :3] * (pixels[..., 3:] / 65535.0)).round().astype(np.uint16)
    return colour_to_grey(_TURNED.get(orientation, np.asarray)(pixels))


def _netpbm(path: Path, colour_to_grey: Callable) -> Loaded:
    """PBM, PGM or PPM, plain or raw, of up to 16 bits: Pillow would spread 12 bits over 16.

    Reference: netpbm.sourceforge.net/doc/pgm.html.
    """
    content = path.read_bytes()
    kind, (bands, colour) = content[:2], _NETPBM[content[:2]]
    bitmap, plain = colour == "1", kind in (b"P1", b"P2", b"P3")
    between = rb"(?:\s|#[^\n\r]*[\n\r])+"
    header = re.match(kind + (between + rb"(\d{1,9})") * (2 if bitmap else 3) + rb"(?:#[^\n\r]*)?\s", content)
    if not header:
        raise DataError(path, "found no width, height and maximum behind its first two bytes; copy it again")
    width, height, maximum = (*map(int, header.groups()), 1)[:3]
    if not 1 <= maximum <= 65535:
        raise DataError(path, f"found the maximum {maximum}, expected 1 to 65535")
    size = check_size(path, (height, width, bands), 2)
    body, kind_of_value = content[header.end() :], ">u2" if maximum > 255 else "u1"
    if plain:
        plain_text = re.sub(rb"#[^\n\r]*", b"", body)
        texts = re.findall(rb"[01]", plain_text) if bitmap else plain_text.split(maxsplit=size)
        values: Any = np.array([int(text) for text in texts], np.int64)
        found, expected = len(values), height * width * bands
    else:
        expected = height * ((width + 7) // 8) if bitmap else height * width * bands * np.dtype(kind_of_value).itemsize
        found = len(body) if body[expected:].strip() else min(len(body), expected)
        values = np.frombuffer(body[:expected], "u1" if bitmap else kind_of_value) if found == expected else None
        if bitmap and values is not None:
            values = np.unpackbits(values.reshape(height, -1), axis=1)[:, :width]
    if found != expected:
        what = "the values end too early: truncated" if found < expected else "there are values behind the image"
        raise DataError(path, f"{what}; expected one whole image; copy it again, or save each image as a file")
    if values.min() < 0:
        raise DataError(path, f"found the value {values.min()}, expected 0 or more; export it again")
    if values.max() > maximum:
        raise DataError(path, f"found the value {values.max()}, expected at most {maximum} as its header says")
    values = values.reshape((height, width, bands) if bands > 1 else (height, width)).astype(np.int32)
    if bitmap:  # 1 is black; black and white are 0 and 255 in every format
        values, maximum = 255 * (1 - values), 255
    pixels = colour_to_grey(values) if bands > 1 else values
    return Loaded(pixels, full_scale=float(maximum), header={"colour": colour, "file_type": "PPM"})
