"""What a reader of a data set gives: records of images, and faults where a file cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xiqa.datasets.orientation import NOWHERE, Place

Box = tuple[float, float, float, float]
"""(x_min, y_min, x_max, y_max) in pixels of the original image, end-exclusive."""
DEFECT = "defect"
"""What a ground-truth mask shows if it shows what decides the label; it is empty where there is none."""


class DataError(ValueError):
    """A file of a data set that cannot be used: which one, what was found, what was expected, what to do.

    Args:
        path: the file; its name is the first thing that the message says.
        problem: what was found, what was expected, and what to do.

    Attributes:
        row: of the table that lists the images, where there is one.
    """

    row: int | None = None

    def __init__(self, path: str | os.PathLike, problem: str):
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = str(path), problem


@contextmanager
def faults_named(path: str | os.PathLike, quote: bool = True) -> Iterator[None]:
    """Turn whatever a reader raises into a DataError: the one place where a library's failure becomes a file's fault.

    A damaged file can raise any exception. Decoders written in Rust panic with a BaseException that is no Exception.
    What is no fault of the file passes: the user's interrupt, an exit, too little memory, a missing package.

    Args:
        path: the file that is read.
        quote: give the text of the error too; not where it may quote a header, and so a patient.

    Raises:
        DataError: names the file and the kind of error.
    """
    try:
        yield
    except (DataError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, ImportError):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:200] if quote else ""
        reason = ": ".join(filter(None, [type(error).__name__, reason]))
        problem = f"cannot be read ({reason}); expected a whole file of its format; copy it again"
        raise DataError(path, problem) from (error if quote else None)


@dataclass(frozen=True)
class Loaded:
    """The pixels of one image.

    Attributes:
        pixels: (h, w) float32 in the file's own unit (grey value, Hounsfield unit), bright = large, finite.
        mask: (h, w) bool, the ground truth; None where the set has none for this image. All False is a statement:
            the annotator looked and found nothing.
        boxes: ground-truth boxes; empty where there are none.
        spacing_mm: distance between rows and between columns in mm; None if unknown.
        header: fields of the header that could betray the label, as plain numbers or texts; for the shortcut baseline.
        full_scale: largest value that the file's type can hold, where that is a meaning (255 for 8 bit); else None.
        place: how the image lies in the patient, where the file says so; `pixels` are then in the standard orientation.
        structures: name of a structure -> (h, w) bool, masks of what a map's share is told of beside the ground truth,
            such as organs or text; those of an image that has none are left out.
    """

    pixels: np.ndarray
    mask: np.ndarray | None = None
    boxes: tuple[Box, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    header: dict[str, float | str] = field(default_factory=dict)
    full_scale: float | None = None
    place: Place = NOWHERE
    structures: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One image of a data set, listed but not yet read.

    Attributes:
        image: identifier, unique in the set, with nothing in it that identifies a patient.
        patient: the patient's id as the set has it (prepare stores a pseudonym), or the proxy group.
        label: class index, 0 or more.
        label_name: name of the class.
        files: the files that it is made of; their bytes give the source digest.
        load: reads the pixels; raises DataError.
        grouping: what `patient` is: "patient", or "proxy" where the set has no patient ids.
        part: the set's official part, "train", "validation" or "test"; None without one.
        mask_of: what the set's masks show: DEFECT, or the organ in which evidence may lie, in the plural ("lungs"). A
            map that lies in an organ has not found a defect.
        structures: names of all structures that images of the set can have masks of, see `Loaded`.
        targets: column (`target` or `target_*`) -> what a regression shall predict; empty for a classification.
        extra: further plain columns for the table, such as `frame`, `view` or `finding`.
        row: of the set's table that lists the image (the heading is row 1), for messages; None without such a table.
    """

    image: str
    patient: str
    label: int
    label_name: str
    files: tuple[Path, ...]
    load: Callable[[], Loaded]
    grouping: str = "patient"
    part: str | None = None
    mask_of: str = DEFECT
    structures: tuple[str, ...] = ()
    targets: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    row: int | None = None


Records = Iterator[Record | DataError]
"""What `read(folder, options)` of a reader module yields, in an order that depends on the files alone."""


def same_size(mask_path: str | Path, mask: np.ndarray, pixels: np.ndarray) -> None:
    """Refuse a mask that has another size than its image.

    Raises:
        DataError: names the mask's file and both sizes.
    """
    if mask.shape != pixels.shape:
        raise DataError(
            mask_path, f"found a mask of {mask.shape}, expected {pixels.shape} (rows, columns) as the image"
        )


def localisation_check(mask_of: str, *, many: bool = False) -> str:
    """What a map does that lies on the ground truth, in the words of tables, figures and findings.

    Args:
        mask_of: what the masks show, see `Record`.
        many: of several maps.

    Returns:
        "finds the defect", or "points into the lungs" (or whatever organ the masks show); of many "find", "point".
    """
    end = "" if many else "s"
    return f"find{end} the defect" if mask_of == DEFECT else f"point{end} into the {mask_of}"


def mask_of(table: pd.DataFrame) -> str:
    """What the masks of a prepared set show."""
    return table["mask_of"].iloc[0]


def classes_of(table: pd.DataFrame) -> list[str]:
    """Names of the classes in the order of their labels, from a prepared table."""
    return table.groupby("label")["label_name"].first().tolist()


def targets_of(table: pd.DataFrame) -> list[str]:
    """Columns of the targets of a prepared table, in their order; none for a classification."""
    return [name for name in table.columns if name == "target" or name.startswith("target_")]


def box_of(mask: np.ndarray) -> tuple[Box, ...]:
    """The tightest box around a mask (h, w), empty for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return ()
    return ((float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)),)
