"""Which part of the installation a library belongs to, for errors that say what to install."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_LEARN = ("h5py", "nibabel", "png", "pyarrow", "safetensors", "skimage", "sklearn", "timm", "torch", "torchvision")
PART_OF = dict.fromkeys(_LEARN, "learn") | {"mlflow": "pipeline", "snakemake": "pipeline"}
"""Library, by the name that Python imports -> optional part of pyproject.toml."""


@contextmanager
def told() -> Iterator[None]:
    """Let a library that is missing be told with the part that brings it, as a ModuleNotFoundError."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in PART_OF:
            raise
        raise ModuleNotFoundError(
            f"{library}: not installed, and this needs it; pip install 'xiqa[{PART_OF[library]}]'", name=error.name
        ) from error


def load(library: str) -> ModuleType:
    """A library of an optional part; a ModuleNotFoundError that names the part where it is missing."""
    with told():
        return importlib.import_module(library)
