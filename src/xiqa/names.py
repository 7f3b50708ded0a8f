"""Names as tables, figures and sentences print them."""

from __future__ import annotations

from xiqa.registry import METHODS, added, base_method

GROUP_NAMES = {
    "scenario_1": "scenario #1",
    "scenario_2": "scenario #2",
    "scenario_3": "scenario #3",
    "scenario_4": "scenario #4",
    "scenario_1_3": "scenarios #1-#3",
    "ood": "OOD",
    "recorded_standin": "stand-in (simulated)",
    "recorded": "recorded",
}


def group_name(group: str) -> str:
    """A test group's name as figures print it."""
    return GROUP_NAMES.get(group, group.replace("_", " "))


def method_name(method: str) -> str:
    """A saliency method's name as figures print it."""
    base = base_method(method)
    variant = {"": "", "_smooth": ", smooth", "_top": ", best regions"}[method.removeprefix(base)]
    known = METHODS.get(base) or added("xiqa.methods").get(base)
    return (known.label if known else base.replace("_", " ")) + variant


def judged_name(method: str, form: str) -> str:
    """A method's name, between bars where its absolute map is judged."""
    return f"|{method_name(method)}|" if form == "absolute" else method_name(method)
