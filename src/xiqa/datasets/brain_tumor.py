"""Brain tumours of Cheng (Brima 2023): one MATLAB v7.3 file `N.mat` per slice, in any folders, with the tumour's mask.

Reference: Cheng 2017, brain tumor dataset, figshare 1512427.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Record, Records, faults_named, same_size
from xiqa.datasets.limits import check_size, with_rules
from xiqa.datasets.masks import inside_of
from xiqa.datasets.paths import files_below

CLASSES = ("meningioma", "glioma", "pituitary")
FOLDS = "cvind.mat"
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List all slices by their number; the set's five-fold index, if `cvind.mat` lies there, becomes column `fold`.

    Raises:
        DataError: no .mat file, or a `cvind.mat` that cannot be read.
    """
    names = dataset.classes or CLASSES
    files = list(files_below(folder, ".mat"))
    paths = [path for path in files if isinstance(path, Path)]
    if files == [path for path in paths if path.name == FOLDS]:
        raise DataError(folder, "found no .mat file, expected 1.mat to 3064.mat, here or in folders below")
    folds = next((_folds(path) for path in paths if path.name == FOLDS), None)
    numbered: dict[int, Path] = {}
    for path in files:
        if isinstance(path, DataError):
            yield path
        elif path.name == FOLDS:
            continue
        elif not path.stem.isdecimal():
            yield DataError(path, "found a name that is no number, expected N.mat; take it out")
        elif (other := numbered.setdefault(int(path.stem), path)) != path:
            yield DataError(path, f"found the number of {other} again, expected each once; take one out")
    for number, path in sorted(numbered.items()):
        try:
            label, patient = _label(path), _patient(path)
            if folds is not None and not 1 <= number <= len(folds):
                raise DataError(path, f"{FOLDS} has {len(folds)} entries, expected one for number {number}")
        except DataError as fault:
            yield fault
            continue
        yield Record(
            image=str(number),
            patient=patient,
            label=label,
            label_name=names[label],
            files=(path,),
            load=partial(_load, path),
            extra={} if folds is None else {"fold": int(folds[number - 1])},
        )


def _load(path: Path) -> Loaded:
    # MATLAB stores columns first, HDF5 reads rows first: the transpose is the matrix as MATLAB has it, and upright.
    pixels = _field(path, "cjdata/image").T
    mask = inside_of(path, _field(path, "cjdata/tumorMask").T)
    if pixels.ndim != 2 or pixels.dtype.kind not in "iuf":
        raise DataError(
            path, f"field cjdata/image: found {pixels.shape} {pixels.dtype}, expected numbers (rows, columns)"
        )
    if not np.isfinite(pixels).all():
        raise DataError(path, "field cjdata/image: found NaN or infinity, expected numbers; download it again")
    same_size(f"{path}: field cjdata/tumorMask", mask, pixels)
    return Loaded(np.ascontiguousarray(pixels, np.float32), mask, header={"rows": float(len(pixels))})


def _label(path: Path) -> int:
    value = _field(path, "cjdata/label")
    if value.size != 1 or value.item() not in (1, 2, 3):
        raise DataError(path, f"field cjdata/label: found {value.tolist()}, expected 1, 2 or 3 ({', '.join(CLASSES)})")
    return int(value.item()) - 1


def _patient(path: Path) -> str:
    codes = _field(path, "cjdata/PID")
    # An empty text is stored as its size, two zeros.
    patient = "".join(map(chr, codes.ravel())).strip("\0 ") if codes.dtype.kind == "u" else ""
    if not patient:
        raise DataError(path, "field cjdata/PID: found no characters, expected the patient's id; fill it in")
    return patient


def _folds(path: Path) -> np.ndarray:
    """The fold of each slice, (n,) int: 1 to 5."""
    folds = _field(path, "cvind").ravel()
    if not np.isin(folds, np.arange(1, 6)).all():
        raise DataError(path, "field cvind: found other values than 1 to 5, expected the fold of each slice")
    return folds.astype(int)


def _field(path: Path, name: str) -> np.ndarray:
    with faults_named(path):
        try:
            with h5py.File(path, "r") as file:
                return _array(path, file, name)
        except (OSError, RuntimeError):
            problem = f"field {name} cannot be read: no MATLAB v7.3 file, or damaged; download it again"
            raise DataError(path, problem) from None


def _array(path: Path, group: h5py.Group, name: str) -> np.ndarray:
    """The numbers of a field that lies in the file itself: links, external and virtual data can name other files."""
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or part not in group:
            raise DataError(path, f"found no field {name}, expected one; download the file again")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise DataError(path, f"field {name}: found a link, expected the data themselves; leave the file out")
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.dtype.kind not in "biuf" or group.shape is None:
        raise DataError(path, f"found no field {name} of numbers, expected one; download the file again")
    creation = group.id.get_create_plist()
    filters = {creation.get_filter(number)[0] for number in range(creation.get_nfilters())}
    if group.external or group.is_virtual or not filters <= _FILTERS:
        raise DataError(path, f"field {name}: found data in other files, or packed by a plugin; leave the file out")
    check_size(path, group.shape or (1,), group.dtype.itemsize)
    return np.asarray(group[()])
