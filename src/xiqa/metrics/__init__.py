"""Scores and statistics; numpy only, no torch.

Scores of single maps can be had from here: `xiqa.metrics.pointing_game(map, mask)`. Each is loaded when it is first
used: a stage of the pipeline rests on the code of the scores that it uses alone.
"""

import importlib
from typing import Any

from xiqa.registry import SCORES, added, score_module

_MODULES = {
    "pointing_game": "pointing_game",
    "region_dice": "region_dice",
    "froc": "overlap",
    "fidelity": "fidelity",
    "insertion_deletion": "insertion_deletion",
    "road": "road",
    "difference_of_means": "difference_of_means",
    "dose_response": "dose_response",
}


def __getattr__(name: str) -> Any:
    if name in SCORES or (not name.startswith("_") and name in added("xiqa.scores")):
        return getattr(importlib.import_module(score_module(name)), name)
    if name in _MODULES:
        return getattr(importlib.import_module(f"xiqa.metrics.maps.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
