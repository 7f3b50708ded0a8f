"""Sound files of DICOM in its transfer syntaxes, and of pictures, from which `fuzz_readers` makes damaged ones."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from fuzz_readers import PIXELS, Seed
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

SYNTAXES = {
    "DICOM": None,
    "DICOM RLE": gdcm.TransferSyntax.RLELossless,
    "DICOM JPEG Lossless (.57)": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "DICOM JPEG Lossless (.70)": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "DICOM JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "DICOM JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "DICOM JPEG of 12 bit": gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    "DICOM deflated": gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian,
}


def encode(path: Path, syntax: int) -> Path:
    """Write a DICOM file anew in another transfer syntax, with the encoders of gdcm."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def pixel_seeds() -> dict[str, Seed]:
    """One seed per kind of file; where nothing protects the bytes, all of them are open."""
    seeds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, syntax in SYNTAXES.items():
            path = Path(folder, "a.dcm")
            _write(path)
            if syntax is not None:
                encode(path, syntax)
            content = path.read_bytes()
            data_set = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
            # gdcm writes the checksum of gzip behind deflated data.
            open_bytes = ((0, data_set),) if name == "DICOM deflated" else ((0, len(content)),)
            seeds[name] = Seed("a.dcm", content, fields=_fields(path), open_bytes=open_bytes)
    deep, colour = PIXELS.astype(np.uint16), np.repeat((PIXELS // 4).astype(np.uint8)[..., None], 3, 2)
    for kind, pixels in (("PNG", deep), ("JPEG", colour), ("TIFF", deep), ("BMP", colour)):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        content = stream.getvalue()
        open_bytes = () if kind == "PNG" else ((0, len(content)),)
        seeds[kind] = Seed(f"a.{kind.lower()}", content, fields=((0, 60),), open_bytes=open_bytes)
    for kind, content in {
        "PGM": b"P5 20 24 999\n" + PIXELS.astype(">u2").tobytes(),
        "plain PGM": b"P2\n# plain\n20 24\n999\n" + " ".join(map(str, PIXELS.ravel())).encode(),
    }.items():
        seeds[kind] = Seed("a.pgm", content, fields=((0, 20),), open_bytes=((0, len(content)),))
    return seeds


def _write(path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = MRImageStorage, "1.2.3.4", "MR"
    data.Rows, data.Columns = PIXELS.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelSpacing = 1, "MONOCHROME2", [0.5, 0.5]
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = PIXELS.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def _fields(path: Path) -> tuple[tuple[int, int], ...]:
    """The header, and the first bytes of the pixels, where compressed ones have a header of their own."""
    content = path.read_bytes()
    start = max(content.rfind(mark) for mark in (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\xe0\x7f\x10\x00"))
    return (128, max(start, 200) - 128), (max(start, 200), 80)
