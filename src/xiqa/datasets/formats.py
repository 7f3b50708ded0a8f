"""Every file format that is read: one list, from which come the choice of the reader, messages and a page of docs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xiqa.datasets.dicom_file import looks_like_dicom


@dataclass(frozen=True)
class Format:
    """One format of image files.

    Attributes:
        name: as its makers write it.
        reader: `dicom`, `volume`, `npy`, `picture`, or the module of the one data set that has it.
        suffixes: ends of names, in lower case, that choose the reader.
        magic: bytes that choose it whatever the name, by where they stand.
        content: what is read.
        orientation: how the array lies.
        depth: types of stored values.
        limits: what is refused, beyond `largest_image_mb`.
        library: what decodes it.
    """

    name: str
    reader: str
    suffixes: tuple[str, ...]
    magic: tuple[tuple[int, bytes], ...]
    content: str
    orientation: str
    depth: str
    limits: str
    library: str


_STREAM = ", a stream of another size than the header says or without its end"
_STANDARD = "turned into the standard orientation"
_STORED = "as stored"
_EXIF = "as stored; the orientation in EXIF is obeyed"
_NUMBERS = "8- to 64-bit whole numbers, 32- and 64-bit float"
FORMATS = (
    *(
        Format(
            f"DICOM: {syntaxes}", "dicom", (".dcm", ".dicom", ".ima"), (),
            "one grey image, also without preamble or suffix, or the only frame of an enhanced one; modality values "
            "(Hounsfield units of CT), rescale and spacing also from functional groups",
            f"slices {_STANDARD}; projections as stored",
            depth, "colour, several frames, annotations burned in" + further, library,
        )
        for syntaxes, depth, further, library in (
            ("uncompressed, little or big endian; RLE", "8 to 32 bit", "", "pydicom"),
            ("deflated", "8 to 32 bit", ", a wrong checksum where there is one", "own, pydicom"),
            ("JPEG Lossless (.57, .70), JPEG-LS (.80, near-lossless .81)", "8 to 16 bit", _STREAM, "python-gdcm"),
            ("JPEG Baseline (.50) and Extended (.51), which are lossy", "8 and 12 bit", _STREAM, "python-gdcm"),
            ("JPEG 2000 (.90, lossy .91), HTJ2K (.201, .202, .203)", "8 to 16 bit", _STREAM, "pylibjpeg-openjpeg"),
        )
    ),
    Format(
        "NIfTI-1, NIfTI-2", "volume", (".nii", ".nii.gz"), ((344, b"n+1\0"), (4, b"n+2\0")),
        "one slice, or all of a series where the data set's format reads series; scl_slope, scl_inter and xyzt_units "
        "are applied", _STANDARD, _NUMBERS,
        "colour, complex values, a file of another length than the header says, more than three axes longer than 1",
        "nibabel (header), own",
    ),
    Format(
        "NIfTI or Analyze 7.5 pair", "volume", (".hdr", ".img", ".hdr.gz", ".img.gz"),
        ((344, b"ni1\0"), (4, b"ni2\0")),
        "as NIfTI; either file can be named, both must be there", f"{_STANDARD}; Analyze as stored",
        _NUMBERS, "as NIfTI", "nibabel (header), own",
    ),
    Format(
        "MetaImage", "volume", (".mha", ".mhd"), (),
        "one slice, or all of a series where the data set's format reads series; plain or packed by zlib", _STANDARD,
        _NUMBERS, "colour, values as text, data in several files or outside the data set, a wrong length or checksum",
        "own",
    ),
    Format(
        "NumPy", "npy", (".npy",), ((0, b"\x93NUMPY"),), "an array (rows, columns)", _STORED,
        "Boolean, whole numbers, float", "pickled objects", "NumPy",
    ),
    Format(
        "PNG", "picture", (".png",), ((0, b"\x89PNG"),), "grey; colour as luminance; transparency over black", _EXIF,
        "1 to 16 bit grey, 8 and 16 bit colour", "several frames, 16-bit grey with transparency, a wrong checksum",
        "Pillow; pypng (16-bit colour)",
    ),
    Format(
        "JPEG", "picture", (".jpg", ".jpeg"), ((0, b"\xff\xd8"),), "grey; colour as luminance", _EXIF, "8 bit",
        "12 bit, several pictures in a file", "Pillow",
    ),
    Format(
        "TIFF", "picture", (".tif", ".tiff"), ((0, b"II*\0"), (0, b"MM\0*")),
        "grey (0 may be white); colour as luminance", _EXIF, "8, 16, 32 bit, float; 8 bit colour",
        "several pages, colour of more than 8 bit", "Pillow",
    ),
    Format(
        "PBM, PGM, PPM", "picture", (".pbm", ".pgm", ".ppm", ".pnm"),
        tuple((0, b"P%d" % number + space) for number in range(1, 7) for space in (b"\n", b" ", b"\r", b"\t")),
        "grey; colour as luminance; plain or raw", _STORED, "1 to 16 bit, as stored; the maximum of the header is the "
        "full scale", "several pictures in a file", "own",
    ),
    Format(
        "BMP, GIF, WebP", "picture", (".bmp", ".gif", ".webp"), (), "as PNG", _EXIF, "8 bit",
        "several frames", "Pillow",
    ),
    Format(
        "JPEG 2000", "picture", (".jp2", ".j2k"), (), "as PNG", _EXIF,
        "8 to 16 bit grey, spread over 16 bit; 8 bit colour", "colour of more than 8 bit", "Pillow",
    ),
    Format(
        "MATLAB v7.3", "brain_tumor", (".mat",), (), "format: brain_tumor only: image, mask, label and patient",
        "the matrix as MATLAB shows it", _NUMBERS,
        "links and data outside of the file, filters other than deflate, shuffle and Fletcher-32", "h5py",
    ),
)  # fmt: skip
READ_BY_IMAGES = tuple(entry for entry in FORMATS if entry.reader != "brain_tumor")


def reader_of(path: Path, start: bytes) -> str:
    """Which reader a file needs, by its content, else by its name; what nobody else claims is a picture.

    Args:
        path: the file.
        start: its first bytes, 348 or more where it has so many.
    """
    name = path.name.casefold()
    if looks_like_dicom(start):
        return "dicom"
    for entry in READ_BY_IMAGES:
        if any(start[place:].startswith(mark) for place, mark in entry.magic):
            return entry.reader
    return next((entry.reader for entry in READ_BY_IMAGES if name.endswith(entry.suffixes)), "picture")


def readable() -> str:
    """What is read, for messages."""
    return "xiqa reads " + ", ".join(f"{entry.name} ({' '.join(entry.suffixes)})" for entry in READ_BY_IMAGES)


def format_table() -> str:
    """The table of docs/reference/formats.md."""
    lines = [
        "| Format | Names | What is read | Orientation | Values | Refused | Decoded by |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in FORMATS:
        names = " ".join(f"`{suffix}`" for suffix in entry.suffixes)
        cells = (entry.name, names, entry.content, entry.orientation, entry.depth, entry.limits, entry.library)
        lines.append(f"| {' | '.join(cell or '-' for cell in cells)} |")
    return "\n".join(lines) + "\n"
