"""Import of timm where torchvision's compiled operators do not belong to the torch that is installed."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

_DECLARED: list[object] = []


@lru_cache(maxsize=1)
def import_timm() -> ModuleType:
    """Import timm, which imports torchvision.

    PyPI's torchvision is compiled for the CUDA build of torch. Beside a CPU build its operators cannot be loaded, and
    its import stops where it describes two of them, `nms` and `qnms`, that nobody has declared. They are declared
    here, and only then. Nothing in xiqa or timm's classifiers calls them; whoever does gets torch's "not implemented".
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        # FRAGMENT, and kept alive by the list: the declaration ends with the library object.
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(declared)
        import torchvision  # noqa: F401
    import timm

    return timm
