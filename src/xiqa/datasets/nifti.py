"""Headers of NIfTI-1, NIfTI-2 and Analyze files: single (.nii), a pair (.hdr, .img), either of them gzipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spm2analyze import Spm2AnalyzeHeader

from xiqa.datasets.base import DataError
from xiqa.datasets.limits import GZIP, inflated
from xiqa.datasets.paths import checked
from xiqa.datasets.volumes import Axis, Stored

_HEADER_BYTES = 540
_KINDS = {
    b"n+1\0": Nifti1Header,
    b"ni1\0": Nifti1PairHeader,
    b"n+2\0": Nifti2Header,
    b"ni2\0": Nifti2PairHeader,
}
"""By their magic; the plus says that the values are in the same file."""
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])


def stored(path: Path) -> Stored:
    """How the values of a NIfTI image lie in its file, or in the second file of a pair; either name of it will do.

    Unit, spacing and place follow from the header: `xyzt_units` (mm where it names none), `pixdim`, and of the affines
    the sform, else the qform. Analyze files have neither; they are taken as stored. A file that is gzipped is known by
    its content, whatever its name.

    Raises:
        DataError: no NIfTI, colour or another type, a header that contradicts itself, or a pair without its second.
    """
    header_path = _partner(path, ".hdr") if _suffix(path) == ".img" else path
    block, gzipped = _start(header_path)
    header, single = _header(header_path, block)
    data = header_path if single else _partner(header_path, ".img")
    if not single:
        gzipped = _start(data)[1]
    # Of a single file 0 stands for right behind the header and its four bytes of extension.
    behind = len(header.binaryblock) + 4 if single else 0
    offset = float(header["vox_offset"]) or behind
    if not (behind <= offset < 1e15 and offset == int(offset)):
        raise DataError(
            header_path, f"found values from byte {offset:g} on, expected {behind} or more; export it again"
        )
    dtype = header.get_data_dtype()
    if header["bitpix"] != 8 * dtype.itemsize:
        raise DataError(
            header_path, f"found {header['bitpix']} bits a value, expected those of {dtype}; export it again"
        )
    slope, intercept = header.get_slope_inter()
    factor, affine = 1.0, None
    if not isinstance(header, Spm2AnalyzeHeader):
        factor = _MM[header.get_xyzt_units()[0]]
        if header["sform_code"] < 0 or header["qform_code"] < 0:
            raise DataError(header_path, "found a code of its affines below 0; export it again")
        if header["sform_code"] or header["qform_code"]:
            affine = header.get_best_affine()[:3] * factor * _LPS_FROM_RAS[:, None]
    axes = []
    for number, (length, zoom) in enumerate(zip(header.get_data_shape(), header.get_zooms(), strict=True)):
        spacing = abs(float(zoom)) * factor if number < 3 and zoom and np.isfinite(zoom) else None
        axes.append(Axis(length, spacing, affine[:, number] if affine is not None and number < 3 else None))
    return Stored(
        kind="NIfTI",
        path=path,
        files=(header_path,) if single else (header_path, data),
        axes=tuple(axes),
        origin_mm=None if affine is None else affine[:, 3],
        dtype=dtype,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        start=0 if gzipped else int(offset),
        packing=GZIP if gzipped else None,
        skip=int(offset) if gzipped else 0,
    )


def _header(path: Path, block: bytes) -> tuple[Nifti1Header | Spm2AnalyzeHeader, bool]:
    """The header, and whether the values follow it in the same file."""
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    magic = block[4:8] if 540 in sizes else block[344:348]
    kind = _KINDS.get(magic, Spm2AnalyzeHeader)
    if not sizes & {348, 540} or (kind is Spm2AnalyzeHeader and 540 in sizes):
        raise DataError(path, "found neither a NIfTI nor a MetaImage header; export it again")
    try:
        # Without the checks of the library: they mend in silence what may decide the pixels.
        return kind(block[: kind.template_dtype.itemsize], check=False), magic in (b"n+1\0", b"n+2\0")
    except Exception as error:
        raise DataError(path, f"found a damaged NIfTI header ({type(error).__name__}); export it again") from None


def _start(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, unpacked, and whether it is gzipped."""
    with path.open("rb") as file:
        block = file.read(_HEADER_BYTES)
        if not block.startswith(b"\x1f\x8b"):
            return block, False
        file.seek(0)
        block = b""
        for piece in inflated(path, file, GZIP):
            block += piece
            if len(block) >= _HEADER_BYTES:
                break
        return block[:_HEADER_BYTES], True


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _partner(path: Path, suffix: str) -> Path:
    """The other file of a pair, .hdr or .img, perhaps gzipped."""
    stem = path.name.removesuffix(".gz").removesuffix(_suffix(path))
    names = [f"{stem}{suffix}{end}" for end in ("", ".gz")]
    found = next((name for name in names if path.with_name(name).is_file()), names[0])
    return checked(path.with_name(found), path)
