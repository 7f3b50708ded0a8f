"""Saliency methods, one module each.

`attribute`, `attribute_many` and `attribute_ensemble` explain any torch module; `checks` tells what a map promises and
keeps; `methods` and `options` list what there is; `show` draws maps beside their images. They are loaded when they are
first used: a stage of the pipeline that loads one method by name rests on the code of that method alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

from xiqa.extras import told

if TYPE_CHECKING:
    from xiqa.figures.show import show
    from xiqa.saliency.attribution import attribute, attribute_ensemble, attribute_many, checks, predicted_classes
    from xiqa.saliency.catalogue import methods, options

_PLACES = {
    "attribute": "xiqa.saliency.attribution",
    "attribute_ensemble": "xiqa.saliency.attribution",
    "attribute_many": "xiqa.saliency.attribution",
    "checks": "xiqa.saliency.attribution",
    "methods": "xiqa.saliency.catalogue",
    "options": "xiqa.saliency.catalogue",
    "predicted_classes": "xiqa.saliency.attribution",
    "show": "xiqa.figures.show",
}
__all__ = [
    "attribute",
    "attribute_ensemble",
    "attribute_many",
    "checks",
    "methods",
    "options",
    "predicted_classes",
    "show",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        with told():
            return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
