"""Quality assurance of a mammography system: records of its contrast-detail curve, to keep and to compare."""

from importlib import import_module
from typing import Any

__all__ = ["CDMAM"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: whoever reads images alone needs no figures and no PDF, nor is run again by them.
    if name == "CDMAM":
        return import_module("xiqa.qc.cdmam").CDMAM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
