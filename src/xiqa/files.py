"""Atomic reading and writing: every output appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends without an error.

    The temporary name keeps the suffix, so that writers which look at it choose the same format. It is fixed, so
    that what a killed run left behind is overwritten by the next one instead of piling up.

    Args:
        path: the file to write; its folder is made where it is missing.
        needed: bytes of the file, where they are known before.

    Raises:
        OSError: there is no room for the file: which disk is full, how much is needed and how much was free.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except Exception as error:
        if no_room := _no_room(path, temporary, needed, error):
            raise no_room from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota on this disk is used up",
    errno.EFBIG: "a file may not become so large here (ulimit -f)",
}


def _no_room(path: Path, temporary: Path, needed: int | None, error: Exception) -> OSError | None:
    """The error that says that there is no room for a file, if this is what stopped its writer; else None.

    Writers tell it in words of their own: safetensors and pyarrow name the number of the system's error, and numpy says
    nothing but how many numbers it has written ("3054636 requested and 130944 written").
    """
    named = re.search(r"(?:os error|errno) (\d+)", str(error), re.IGNORECASE)
    number = getattr(error, "errno", None) or (int(named[1]) if named else None)
    if number is None and isinstance(error, OSError) and " requested and " in str(error):
        number = errno.ENOSPC
    if number not in NO_ROOM:
        return None
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free + (temporary.stat().st_size if temporary.exists() else 0)
    amount = "more" if needed is None else f"{needed / 1e6:.1f} MB"
    return OSError(
        number,
        f"{NO_ROOM[number]}: {path.name} needs {amount}, and {free / 1e6:.1f} MB were free in {folder}. Make room "
        "there, or let `results` name a folder on another disk, and run again: what is done stays. `make plan` says "
        "how much a study needs",
    )


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write one array as .npy, atomically, without pickle."""
    with atomic_path(path, array.nbytes) as temporary:
        np.save(temporary, array, allow_pickle=False)


def read_array(path: str | os.PathLike) -> np.ndarray:
    """Open one .npy array as a read-only memory map."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def write_labels(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Write (h, w) whole numbers from 0 to 65535 as a grey .png, atomically: any viewer opens it, and it is small."""
    from PIL import Image

    kind = np.min_scalar_type(labels.max(initial=0))
    if labels.min(initial=0) < 0 or kind.itemsize > 2:
        raise ValueError(f"{path}: found values from {labels.min()} to {labels.max()}, expected 0 to 65535")
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(labels, kind)).save(temporary, compress_level=1)


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Read what `write_labels` wrote, (h, w) uint8 or uint16."""
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image, np.uint8 if image.mode == "L" else np.uint16)


class PackedMasks:
    """Square masks of which a .npy array (n, size, ⌈size / 8⌉) holds rows of pixels as bits; read when asked for.

    Attributes:
        shape: (n, size, size).
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._packed = read_array(path)
        self.shape = (*self._packed.shape[:2], self._packed.shape[1])

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, items: Any) -> np.ndarray:
        """Masks (..., size, size) bool, taken as numpy takes items of the first axis."""
        return np.unpackbits(self._packed[items], axis=-1, count=self.shape[-1]).view(bool)


@contextlib.contextmanager
def append_array(path: str | os.PathLike, item_shape: tuple[int, ...], dtype: Any) -> Iterator[Callable]:
    """Yield a function that appends one item to a .npy array, which need not fit into memory, atomically.

    Args:
        path: the .npy file.
        item_shape: shape of one item; the array gets the shape (items, *item_shape).
        dtype: type of the array.
    """

    def header(stream: BinaryIO, items: int) -> None:
        # numpy leaves room in the header for the first axis to grow, so that it can be written again in place.
        description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(stream, description | {"shape": (items, *item_shape)})

    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        items = 0
        header(stream, items)

        def append(item: np.ndarray) -> None:
            nonlocal items
            if item.shape != tuple(item_shape):
                raise ValueError(f"{path}: found an item of shape {item.shape}, expected {tuple(item_shape)}")
            stream.write(np.ascontiguousarray(item, dtype).data)
            items += 1

        yield append
        stream.seek(0)
        header(stream, items)


def write_table(path: str | os.PathLike, table) -> None:
    """Write a pandas table as .csv or .parquet, by its suffix, atomically and without its index."""
    with atomic_path(path) as temporary:
        if temporary.suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        elif temporary.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            raise ValueError(f"{path}: found suffix '{temporary.suffix}', expected .csv or .parquet")


def read_table(path: str | os.PathLike):
    """Read a .csv or .parquet table with pandas."""
    import pandas as pd

    path = Path(path)
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def write_tensors(path: str | os.PathLike, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Write torch tensors as .safetensors, atomically."""
    from safetensors.torch import save_file

    with atomic_path(path, sum(tensor.nbytes for tensor in tensors.values())) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def read_tensors(path: str | os.PathLike) -> dict:
    """Read a .safetensors file as a dictionary of torch tensors."""
    from safetensors.torch import load_file

    return load_file(path)


def write_figure(path: str | os.PathLike, figure) -> None:
    """Write a matplotlib figure (.png, .svg, .pdf) atomically, without a date, and close it."""
    import matplotlib.pyplot as plt

    path = Path(path)
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, bbox_inches="tight", metadata=metadata.get(path.suffix))
    plt.close(figure)
