"""From the records of any data set to one table, one array of images and one of masks, image by image."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from xiqa.config import Dataset
from xiqa.datasets.base import Box, DataError, Loaded, Record, faults_named, targets_of
from xiqa.datasets.sampling import places_of, sample
from xiqa.files import append_array, write_table
from xiqa.provenance import file_digest

IMAGE_TYPE = np.float16
"""Stored intensities lie within 0 to 1: steps of 0.0005 at most."""


FILES = {
    "images": "images.npy",
    "masks": "masks.npy",
    "structures": "structures.npy",
    "originals": "originals.npy",
    "original_masks": "original_masks.npy",
    "table": "table.parquet",
    "skipped": "skipped.csv",
}
"""What `prepare` writes."""


def prepare(
    records: Iterable[Record | DataError],
    dataset: Dataset,
    *,
    facts: pd.DataFrame | None,
    key: bytes,
    paths: Mapping[str, str | os.PathLike],
    progress: Callable[[int, int, str], None],
) -> pd.DataFrame:
    """Check, scale and resize every image, and write `paths`: images, masks, table, skipped.

    Args:
        records: what a reader lists.
        dataset: size, fit, intensity, and whether a fault stops or skips.
        facts: the table twin.csv of a simulated twin (image, patient, part, severity, ...); None: real data.
        key: secret behind pseudonyms and digests; without it nobody finds a patient or a file by trying.
        paths: files to write: images.npy (n, size, size) float16 within 0-1, masks.npy (for
            `files.PackedMasks`), structures.npy (n, names, size, bytes), masks of named structures packed in the same
            way, originals.npy and original_masks.npy (image and mask before the sampling, empty images where
            the set has none), the table (one row per image) and skipped.csv (row, reason; with its header only where
            nothing was skipped). `row` is that of the set's table (the heading is row 1), or the place in the order of
            the files from 1; names of files stay out, since they may hold a patient's.
        progress: told how many images are done.

    Returns:
        The table.

    Raises:
        DataError: the first fault, unless `dataset.on_fault` is skip.
        ValueError: no image is left, or two patients have ids that differ in their writing only.
    """
    skipped: list[dict[str, Any]] = []

    def fault(error: DataError, row: int, files: Iterable[Path] = ()) -> None:
        if dataset.on_fault == "stop":
            raise error
        skipped.append({"row": row, "reason": _without_names(error, files)})

    listed = list(_listed(records, fault))
    names = listed[0][1].structures if listed else ()
    rows: list[dict[str, Any]] = []
    first_with: dict[str, Any] = {}
    with ExitStack() as stack:
        add = {
            name: stack.enter_context(append_array(paths[name], shape, kind))
            for name, (shape, kind) in _arrays(dataset, len(names)).items()
        }
        for number, (row, record) in enumerate(listed):
            try:
                with faults_named(record.files[0], quote=False):
                    loaded = record.load()
                check(loaded, record.files[0])
                scaled = to_unit_range(loaded, dataset, record.files[0])
            except DataError as error:
                fault(error, row, record.files)
                continue
            arrays, boxes, spacing_mm = _prepared(record.image, scaled, loaded, names, dataset)
            for name, values in arrays.items():
                add[name](np.packbits(values, axis=-1) if values.dtype == bool else values)
            digest = hashlib.sha256(f"{loaded.pixels.shape}".encode() + loaded.pixels.tobytes()).hexdigest()
            known = {
                "boxes": json.dumps(boxes),
                "mask_of": dataset.mask_of or record.mask_of,
                "structures": json.dumps(names),
                "duplicate_of": first_with.setdefault(digest, record.image),
                "data": "real" if facts is None else "simulated",
            }
            rows.append(_row(record, loaded, spacing_mm, key, known))
            progress(number + 1, len(listed), "images")
        if not rows:
            raise ValueError(
                f"{paths['table']}: no image is left of {len(listed)} listed; {paths['skipped']} or the message above "
                "says why"
            )
    table = _table(rows, facts, key, paths["table"])
    write_table(paths["table"], table)
    write_table(paths["skipped"], pd.DataFrame(skipped, columns=["row", "reason"]).sort_values("row"))
    return table


def _table(rows: list[dict[str, Any]], facts: pd.DataFrame | None, key: bytes, path: str | os.PathLike) -> pd.DataFrame:
    """The rows of all images, with what only all of them tell: labels of targets, duplicates, facts of a twin."""
    table = pd.DataFrame(rows)
    if table["mask_of"].nunique() > 1:
        found = ", ".join(sorted(table["mask_of"].unique()))
        raise ValueError(f"{path}: the masks show {found}; expected one of them, name it in `mask_of`")
    if columns := targets_of(table):
        table["label"], table["label_name"] = quarters(table[columns].to_numpy())
    table["duplicate_of"] = table["duplicate_of"].where(table["duplicate_of"] != table["image"])
    return table if facts is None else _with_facts(table, facts, key)


def quarters(targets: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The labels of images with targets: which quarter of them an image belongs to.

    Splits are even in the labels, and so are the images that are explained: each part has the whole range.

    Args:
        targets: (n, t), finite; of several the mean of all counts, each in its standard deviation.

    Returns:
        (n,) whole numbers from 0 (lowest), without gaps, and the names of the quarters.
    """
    spread = np.where(targets.std(0) > 0, targets.std(0), 1)
    mean = ((targets - targets.mean(0)) / spread).mean(1)
    quarter = np.unique(np.searchsorted(np.quantile(mean, (0.25, 0.5, 0.75)), mean), return_inverse=True)[1]
    return quarter, [f"quarter {number + 1}" for number in quarter]


def _row(
    record: Record, loaded: Loaded, spacing_mm: tuple[float, float], key: bytes, known: dict[str, str]
) -> dict[str, Any]:
    """The row of an image in the table."""
    return {
        "image": record.image,
        "patient": pseudonym(record.patient, key),
        "grouping": record.grouping,
        "label": record.label,
        "label_name": record.label_name,
        "height": loaded.pixels.shape[0],
        "width": loaded.pixels.shape[1],
        "spacing_row_mm": spacing_mm[0],
        "spacing_column_mm": spacing_mm[1],
        "has_mask": loaded.mask is not None,
        "part": record.part,
        "source_digest": source_digest(record.files, key),
        **known,
        **record.targets,
        **record.extra,
        **{f"header_{name}": value for name, value in loaded.header.items()},
    }


def check(loaded: Loaded, path: str | os.PathLike) -> None:
    """Refuse pixels, masks and boxes that no image can have.

    Raises:
        DataError: not two-dimensional, empty, not finite, constant, a mask of another size, a box outside.
    """
    pixels, mask = loaded.pixels, loaded.mask
    if pixels.ndim != 2 or min(pixels.shape, default=0) < 2:
        raise DataError(path, f"found an array of shape {pixels.shape}, expected one grey image (rows, columns)")
    bad = np.count_nonzero(~np.isfinite(pixels))
    if bad:
        raise DataError(path, f"found {bad} pixels that are NaN or infinite; repair the file or leave it out")
    if pixels.min() == pixels.max():
        raise DataError(
            path, f"found the value {pixels.flat[0]:g} in all pixels; an image that is constant shows nothing"
        )
    for one in (mask, *loaded.structures.values()):
        if one is not None and one.shape != pixels.shape:
            raise DataError(path, f"found a mask of {one.shape}, expected {pixels.shape} (rows, columns) as the image")
    height, width = pixels.shape
    for x_min, y_min, x_max, y_max in loaded.boxes:
        if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
            raise DataError(
                path,
                f"found the box ({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g}), expected x_min < x_max within 0 to "
                f"{width} and y_min < y_max within 0 to {height}; correct the annotation",
            )


def to_unit_range(loaded: Loaded, dataset: Dataset, path: str | os.PathLike) -> np.ndarray:
    """Pixels (h, w) float32 within 0-1 as `dataset.intensity` says.

    Raises:
        DataError: `full_scale` for a file whose type has no meaningful range.
    """
    pixels = loaded.pixels.astype(np.float32)
    if dataset.window_hu is not None:  # the configuration allows it for intensity: window alone
        centre, width = dataset.window_hu
        low, high = centre - width / 2, centre + width / 2
    elif dataset.intensity == "percentiles":
        low, high = np.percentile(pixels, [0.5, 99.5])
        if low == high:
            low, high = pixels.min(), pixels.max()
    elif loaded.full_scale is not None:
        low, high = 0.0, loaded.full_scale
    else:
        raise DataError(
            path,
            "intensity: full_scale needs an 8- or 16-bit image; set intensity: percentiles, or window with window_hu",
        )
    return np.clip((pixels - low) / (high - low), 0, 1, dtype=np.float32)


def _arrays(dataset: Dataset, structures: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of one item of each array that `prepare` writes; masks are packed."""
    size, kept = dataset.input_size, dataset.size if dataset.sampling else 0
    return {
        "images": ((size, size), IMAGE_TYPE),
        "masks": ((size, -(-size // 8)), np.uint8),
        "structures": ((structures, size, -(-size // 8)), np.uint8),
        "originals": ((kept, kept), IMAGE_TYPE),
        "original_masks": ((kept, -(-kept // 8)), np.uint8),
    }


def _prepared(
    name: str, scaled: np.ndarray, loaded: Loaded, structures: tuple[str, ...], dataset: Dataset
) -> tuple[dict[str, np.ndarray], list[Box], tuple[float, float]]:
    """The items of one image (masks bool), its boxes, and the spacing of rows and columns in mm."""
    side, size = dataset.size, dataset.input_size
    image, mask, boxes, spacing_mm = to_square(scaled, loaded, side, dataset.fit)
    named = _structures(loaded, structures, side, dataset.fit)
    if not dataset.sampling:
        nothing = np.zeros((0, 0))
        originals = {"originals": nothing, "original_masks": nothing.astype(bool)}
        return {"images": image, "masks": mask, "structures": named, **originals}, boxes, spacing_mm
    rows, columns = places_of(name, 0, side, size)
    arrays = {
        "images": sample(image, rows, columns),
        "masks": sample(mask, rows, columns),
        "structures": named[:, rows[:, None], columns],
        "originals": image,
        "original_masks": mask,
    }
    boxes = [_sampled_box(box, rows, columns) for box in boxes]
    return arrays, boxes, (spacing_mm[0] * side / size, spacing_mm[1] * side / size)


def _sampled_box(box: Box, rows: np.ndarray, columns: np.ndarray) -> Box:
    """A box (x_min, y_min, x_max, y_max) around those sampled pixels that lie in it."""
    x_min, x_max = np.searchsorted(columns, (box[0], box[2]))
    y_min, y_max = np.searchsorted(rows, (box[1], box[3]))
    return float(x_min), float(y_min), float(x_max), float(y_max)


def _structures(loaded: Loaded, names: tuple[str, ...], size: int, fit: str) -> np.ndarray:
    """Masks of all named structures (names, size, size) bool; of those that the image has none, nothing."""
    found = np.zeros((len(names), size, size), bool)
    for number, name in enumerate(names):
        if name in loaded.structures:
            found[number] = to_square(loaded.pixels, replace(loaded, mask=loaded.structures[name]), size, fit)[1]
    return found


def to_square(
    scaled: np.ndarray, loaded: Loaded, size: int, fit: str
) -> tuple[np.ndarray, np.ndarray, list[Box], tuple[float, float]]:
    """Resize image, mask and boxes to a square.

    Args:
        scaled: (h, w) intensities within 0-1.
        loaded: mask, boxes and spacing of the original.
        size: side of the square in pixels.
        fit: "stretch" both axes on their own, or "pad" the shorter one with the image's minimum, centred.

    Returns:
        Image (size, size) float32, averaged over the area that each new pixel covers (triangle filter); mask
        (size, size) bool, True where it covers at least half of a pixel, and where it is too thin for that, where it
        covers most, so that no ground truth vanishes; boxes in new pixels; spacing of rows and columns in mm, NaN if
        unknown.
    """
    height, width = scaled.shape
    mask = np.zeros(scaled.shape, bool) if loaded.mask is None else loaded.mask
    top = left = 0
    if fit == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        border = ((top, side - height - top), (left, side - width - left))
        scaled = np.pad(scaled, border, constant_values=scaled.min())
        mask = np.pad(mask, border)
        height = width = side
    image = np.asarray(Image.fromarray(scaled).resize((size, size), Image.Resampling.BILINEAR))
    covered = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX))
    small = covered >= 0.5
    if mask.any() and not small.any():
        small = covered == covered.max()
    per_row, per_column = size / height, size / width
    boxes = [
        ((x_min + left) * per_column, (y_min + top) * per_row, (x_max + left) * per_column, (y_max + top) * per_row)
        for x_min, y_min, x_max, y_max in loaded.boxes
    ]
    spacing = loaded.spacing_mm or (np.nan, np.nan)
    return np.clip(image, 0, 1), small, boxes, (spacing[0] / per_row, spacing[1] / per_column)


def pseudonym(patient: str, key: bytes) -> str:
    """Twelve hexadecimal digits that stand for a patient: the same for equal id and key, and no way back."""
    return hashlib.sha256(key + str(patient).encode()).hexdigest()[:12]


def read_or_make_key(path: str | os.PathLike, *, outside: str | os.PathLike) -> bytes:
    """The secret behind the pseudonyms of real patients: made once for a user, never logged, never among the results.

    Args:
        path: file of 64 hexadecimal digits, which only its owner may read.
        outside: folder of the results, which are shared; the secret must not lie in it.

    Raises:
        ValueError: it lies among the results, others may read it, it is no key, or it cannot be made.
    """
    path = Path(path)
    advice = "name another file in pseudonym_key"
    if path.resolve().is_relative_to(Path(outside).resolve()):
        raise ValueError(f"{path}: lies in the folder of the results, which may be shared; {advice}")
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".pseudonym_key-") as made:
                made.write(secrets.token_hex(32))
                made.flush()
                # Of jobs that prepare several sets at once the first one makes it.
                with suppress(FileExistsError):
                    os.link(made.name, path)
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text()
    except OSError as error:
        raise ValueError(f"{path}: cannot be made or read ({error.strerror}); {advice}") from None
    if mode & 0o077:
        raise ValueError(f"{path}: found mode {mode:o}, expected 600, so that nobody else reads it; chmod 600 it")
    if not re.fullmatch(r"[0-9a-f]{64}\s*", text):
        raise ValueError(f"{path}: found something else than 64 hexadecimal digits; {advice}")
    return bytes.fromhex(text)


def source_digest(files: Iterable[Path], key: bytes) -> str:
    """SHA-256 over the key and the bytes of the files of one image, 64 hexadecimal digits.

    Without the key nobody who has a public set, or a copy of a patient's images, finds them among the results.
    """
    digest = hashlib.sha256(key)
    for path in files:
        digest.update(_file_digest(path, path.stat().st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _file_digest(path: Path, changed_ns: int) -> bytes:
    """SHA-256 of a file as it was then; all slices of a volume are made of one file."""
    return bytes.fromhex(file_digest(path))


def _listed(records: Iterable[Record | DataError], fault: Callable[..., None]) -> Iterator[tuple[int, Record]]:
    """Records, with their rows, whose identifiers, patients and labels are in order; everything else is a fault."""
    seen: set[str] = set()
    ids: dict[str, tuple[str, int]] = {}
    items, place = iter(records), 0
    while True:
        with faults_named("the list of images"):
            record = next(items, None)
        if record is None:
            return
        place += 1
        row = place if record.row is None else record.row
        if isinstance(record, DataError):
            fault(record, row)
            continue
        problem = None
        if not str(record.patient).strip():
            problem = "has no patient id; without one its images could lie in training and test at once. Add it"
        elif not re.fullmatch(r"[\w.+-]+", record.image):
            problem = f"has the image id '{record.image}', expected letters, digits, '.', '_', '+' and '-'"
        elif record.image in seen:
            problem = f"has the image id '{record.image}', which another image has already; make them different"
        if problem:
            fault(DataError(record.files[0], problem), row, record.files)
            continue
        seen.add(record.image)
        # A proxy that is the image's own name was written by a program, for one image.
        if record.patient != record.image:
            _check_writing(record.patient, row, ids)
        yield row, record


def _check_writing(patient: str, row: int, ids: dict[str, tuple[str, int]]) -> None:
    """Refuse an id that is another one but for its writing: images of one patient could lie in two parts."""
    known, first = ids.setdefault(plain_id(patient), (patient, row))
    if known != patient:
        raise ValueError(
            f"rows {first} and {row}: found two ids of patients (or groups) that differ only in case, spaces, leading "
            "zeros or how a number is written; expected one writing for each, since images of one patient must not "
            "lie in training and test at once. If they are two patients, rename one"
        )


def plain_id(patient: str) -> str:
    """An id without what spreadsheets and people change: 007, 7, 7.0, " 7" and 7E0 are one; so are "P 07" and "p7"."""
    text = "".join(unicodedata.normalize("NFKC", str(patient)).casefold().split())
    number = re.fullmatch(r"\+?(\d+)(?:[.,]0*)?", text)
    if number:
        text = number[1]
    elif re.fullmatch(r"\d+(?:[.,]\d+)?e\+?\d{1,2}", text) and (value := float(text.replace(",", "."))).is_integer():
        text = str(int(value))
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", text)


def _without_names(error: DataError, files: Iterable[Path]) -> str:
    """What was wrong, without what may name a patient: quotations, paths, and names of files."""
    reason = re.sub(r"['\"].*['\"]", "'…'", error.problem)
    for path in (Path(error.path), *files):
        if len(path.parts) > 1:
            reason = re.sub(f"{re.escape(str(path.parent))}.*", "…", reason)
        reason = re.sub(rf"(?<!\w){re.escape(path.name)}(?!\w)", "…", reason)
    return reason


def _with_facts(table: pd.DataFrame, facts: pd.DataFrame, key: bytes) -> pd.DataFrame:
    """Add what the generator of a twin knows; its patients are simulated ones and replace proxy groups."""
    facts = facts.astype({"image": str}).drop(columns=["label", "label_name", "data"], errors="ignore")
    missing = sorted(set(table["image"]) - set(facts["image"]))
    if missing:
        raise ValueError(
            f"twin.csv does not list the images {missing[:3]} ({len(missing)} in all); write the twin again"
        )
    known = facts.set_index("image").loc[table["image"]].reset_index(drop=True)
    table = table.assign(
        patient=[pseudonym(patient, key) for patient in known["patient"].astype(str)],
        grouping="patient",
        part=known["part"].where(known["part"] == "severity", table["part"]),
    )
    return table.assign(
        **{name: known[name] for name in known.columns if name not in ("patient", "part") and name not in table.columns}
    )
