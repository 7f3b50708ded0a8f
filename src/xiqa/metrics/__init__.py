"""Scores and statistics; numpy only, no torch.

Scores of single maps can be had from here: `xiqa.metrics.pointing_game(map, mask)`. Each is loaded when it is first
used: a stage of the pipeline rests on the code of the scores that it uses alone.
"""

import importlib
from typing import Any

_MODULES = {
    "pointing_game": "pointing_game",
    "relevance_rank": "relevance",
    "relevance_mass": "relevance",
    "roc_auc": "roc_auc",
    "region_dice": "region_dice",
    "iou": "overlap",
    "froc": "overlap",
    "fidelity": "fidelity",
    "insertion_deletion": "insertion_deletion",
    "road": "road",
    "difference_of_means": "difference_of_means",
    "dose_response": "dose_response",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"xiqa.metrics.maps.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
