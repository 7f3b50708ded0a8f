"""Saliency methods, one module each.

`attribute`, `attribute_many` and `attribute_ensemble` explain any torch module. They are loaded when they are first
used: a stage of the pipeline that loads one method by name rests on the code of that method alone.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("attribute", "attribute_many", "attribute_ensemble"):
        return getattr(importlib.import_module("xiqa.saliency.attribution"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
