"""Quality assurance of a mammography system: records of its contrast-detail curve, to keep and to compare."""

from typing import Any

__all__ = ["CDMAM"]


def __getattr__(name: str) -> Any:
    """Load what is asked for only then: the reader's processes need none of it."""
    if name == "CDMAM":
        from xiqa.qc.cdmam import CDMAM

        return CDMAM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
