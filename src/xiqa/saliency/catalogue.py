"""What there is: the saliency methods by name, and the options of each."""

from __future__ import annotations

import inspect

import pandas as pd

from xiqa.registry import METHODS, added, module_of
from xiqa.saliency.attribution import COMMON, checked_method, options_of_family


def methods() -> pd.DataFrame:
    """The saliency methods that `attribute` takes, those that other packages add at the end.

    Returns:
        One row per method: method, family (methods of one family share their passes), at_layers (it looks at the
        output of layers), falls (its values fall where a pixel speaks for the class), what (one sentence).
    """
    rows = [
        {"method": name, "family": m.module, "at_layers": m.at_layers, "falls": m.falling, "what": m.what}
        for name, m in (METHODS | added("xiqa.methods")).items()
    ]
    return pd.DataFrame(rows)


def options(method: str) -> pd.DataFrame:
    """The options of a saliency method; the docstring of `module.maps` or `module.explain` has their meaning and unit.

    Returns:
        One row per option: option, default ("required" where there is none), type, of_all_methods.

    Raises:
        ValueError: no method has this name.
    """
    own = options_of_family(module_of(checked_method(method)))
    rows = [
        {
            "option": name,
            "default": "required" if parameter.default is inspect.Parameter.empty else parameter.default,
            "type": str(parameter.annotation),
            "of_all_methods": False,
        }
        for name, parameter in own.items()
    ]
    shared = [
        {"option": name, "default": default, "type": kind, "of_all_methods": True}
        for name, (default, kind) in COMMON.items()
    ]
    return pd.DataFrame([*rows, *shared])
