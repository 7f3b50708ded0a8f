"""Which methods can be trusted: they find the defect, tell what the network uses, and depend on its training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xiqa.datasets.base import DEFECT, localisation_check
from xiqa.metrics.maps.leaderboard import LEVEL, against_controls, can_pass, joint_level, score_interval, summarise
from xiqa.metrics.paired import corrected_p
from xiqa.names import method_name
from xiqa.registry import CONTROLS

SENSITIVITIES = frozenset({"gradient", "smoothgrad", "guided_backprop", "guided_grad_cam", "deconvolution"})
"""Methods whose maps say how much a pixel matters, not in which direction it speaks: their absolute map counts.

The derivative of the output after a pixel says how the output would change were the pixel brighter; its sign depends
on whether the object is brighter than its surroundings (Simonyan et al. 2014, section 3.1, take the absolute value).
All other methods count as they are: contributions to the output (input × gradient, path methods, LRP, SHAP, XRAI,
Grad-CAM), falls of the output (occlusion, turned over), and norms, which have no sign."""

PASSED, FAILED, NOT_TESTED, NOT_TESTABLE = "passed", "failed", "not tested", "not testable"


class Check(NamedTuple):
    """A check, the one score that decides it, and what a method must beat in it."""

    name: str
    score: str
    rival: str


CHECKS = (
    Check("localises", "roc_auc", "every control"),
    Check("faithful", "fidelity", "every control"),
    Check("depends_on_training", "roc_auc", "fully_random"),
)
"""Fixed before any result is seen: pixel AUC and fidelity are the scores of Brocki 2022 that each map has in full."""
SCORE_NAMES = {"roc_auc": "pixel AUC", "fidelity": "fidelity", "pointing_game": "Pointing Game"}
RULE = (
    "A method finds the defect if its pixel AUC is above that of each control: random map, centre prior and edges.",
    "Where the masks show an organ, such as the lungs, a method that passes this points into the organ, no more.",
    "It is faithful if its fidelity, when pixels are masked, is above that of each control.",
    "It depends on training if its pixel AUC is higher on the trained than on the fully randomised network.",
    "Each method counts in one form, fixed beforehand: absolute for sensitivities, else as it is.",
    "Above: the corrected p is below 0.05, and an interval of the mean gain that holds for all methods lies above 0.",
    "All methods and checks of a data set are corrected together: the chance of any false pass is at most 5 %.",
    "Trusted: all that was tested is passed, and at least two checks were tested.",
)


FEW_NAMES = 5
"""So many names at most stand in a sentence; the table below it has all."""


def form_of(method: str) -> str:
    """The form in which a method is judged, by its definition: absolute or signed (as it is)."""
    return "absolute" if method in SENSITIVITIES else "signed"


def trust(scores: pd.DataFrame, costs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Verdict on each method for each data set, by `RULE`.

    Args:
        scores: one row per scored map of one network per data set, in both forms (see `score_tables.in_both_forms`):
            dataset, weights (trained, fully_random, ...), seed, method, form, metric, image, patient, value (NaN: not
            scored). Repeats (seeds) of a patient are averaged.
        costs: dataset, method, seconds_per_map.

    Returns:
        One row per data set and method but the controls: form; of each check of `CHECKS` its mark (passed, failed, not
        tested, not testable: no result could be significant with so few patients), and _score (what decides),
        _against (the hardest rival), _gain, _low, _high (95 % over patients), _p (corrected for methods, rivals and
        checks), _images, _patients, _room (patients in whom a perfect map would be better); trusted (yes, no, not
        testable); pointing_game, roc_auc, fidelity with _low, _high and _images of the trained network;
        pointing_game_against, pointing_game_room, pointing_game_patients; seconds_per_map.
    """
    own = scores[scores["form"] == scores["method"].map(form_of)]
    tables = [_of_dataset(part).assign(dataset=dataset) for dataset, part in own.groupby("dataset", sort=False)]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "dataset", table.pop("dataset"))
    if costs is None:
        return table.assign(seconds_per_map=np.nan)
    return table.merge(costs[["dataset", "method", "seconds_per_map"]], on=["dataset", "method"], how="left")


def _of_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    trained = rows[rows["weights"] == "trained"]
    methods = [name for name in trained["method"].unique() if name not in CONTROLS]
    tests = max(sum(_was_made(check, rows) for check in CHECKS), 1)
    found = {check: _found(check, rows, tests) for check in CHECKS}
    found = {check: result[result["n"] > 0] for check, result in found.items()}
    table = pd.DataFrame({"method": methods, "form": [form_of(name) for name in methods]})
    for check, result in found.items():
        result = result.reindex(methods)
        n, corrected = result["n_patients"].fillna(0).astype(int), result["p_corrected"].astype(float)
        above = (corrected < LEVEL) & (result["least_low"] > 0)
        room = result["room"].fillna(0).astype(int)
        marks = np.where(above, PASSED, np.where([can_pass(k, tests=tests) for k in room], FAILED, NOT_TESTABLE))
        columns = {
            "": np.where(result["n"].isna(), NOT_TESTED, marks), "_score": check.score, "_against": result["control"],
            "_gain": result["difference"], "_low": result["ci_low"], "_high": result["ci_high"], "_p": corrected,
            "_images": result["n"].fillna(0).astype(int), "_patients": n, "_room": room,
        }  # fmt: skip
        table = table.assign(**{f"{check.name}{end}": np.asarray(column) for end, column in columns.items()})
    table["trusted"] = [
        _trusted(set(marks), marks) for marks in table[[check.name for check in CHECKS]].to_numpy().tolist()
    ]
    pointing = against_controls(trained[trained["metric"] == "pointing_game"], ["metric"], pairs=["image", "seed"])
    pointing = pointing.set_index("method").reindex(methods)
    columns = {"against": pointing["control"], "room": pointing["room"], "patients": pointing["n_patients"]}
    table = table.assign(**{f"pointing_game_{name}": np.asarray(column) for name, column in columns.items()})
    return table.merge(_values(trained, methods), on="method", how="left")


def _trusted(kinds: set[str], marks: list[str]) -> str:
    tested = [mark for mark in marks if mark != NOT_TESTED]
    if FAILED in kinds or len(tested) < 2:
        return "no"
    return NOT_TESTABLE if NOT_TESTABLE in kinds else "yes"


def _was_made(check: Check, rows: pd.DataFrame) -> bool:
    """Whether there are scores of methods and of what they must beat."""
    rows = rows[(rows["metric"] == check.score) & rows["value"].notna()]
    trained, control = rows["weights"] == "trained", rows["method"].isin(CONTROLS)
    rivals = trained & control if check.rival == "every control" else rows["weights"] == check.rival
    return bool((trained & ~control).any() and rivals.any())


def _found(check: Check, rows: pd.DataFrame, tests: int) -> pd.DataFrame:
    """By method the columns of `against_controls`, of whatever the rival is."""
    rows = rows[rows["metric"] == check.score]
    trained = rows[rows["weights"] == "trained"]
    if check.rival == "every control":
        found = against_controls(trained, ["metric"], pairs=["image", "seed"], tests=tests)
    else:
        found = _against_state(trained, rows[rows["weights"] == check.rival], check.rival, tests)
    return found.set_index("method")


def _against_state(trained: pd.DataFrame, other: pd.DataFrame, name: str, tests: int) -> pd.DataFrame:
    """Trained less other networks, on the same images, one hypothesis per method."""
    images = [
        rows.groupby(["method", "patient", "image"], sort=False)["value"].mean().dropna() for rows in (trained, other)
    ]
    gains = (images[0] - images[1]).dropna().drop(list(CONTROLS), level="method", errors="ignore")
    each = gains.groupby(level=["method", "patient"], sort=False).mean().unstack("method")
    p = dict(zip(each.columns, corrected_p(each.to_numpy()), strict=True)) if len(gains) else {}
    found = []
    for method, gain in gains.groupby(level="method", sort=False):
        patients = gain.index.get_level_values("patient")
        low, high = score_interval(gain.to_numpy(), patients)
        least = score_interval(gain.to_numpy(), patients, level=joint_level(each.shape[1], tests))[0]
        corrected = min(1, tests * p[method])
        room = patients[(images[1].reindex(gain.index) < 1).to_numpy()].nunique()
        found.append((method, name, gain.mean(), low, high, least, corrected, len(gain), patients.nunique(), room))
    columns = ["method", "control", "difference", "ci_low", "ci_high", "least_low", "p_corrected", "n", "n_patients"]
    return pd.DataFrame(found, columns=[*columns, "room"])


def _values(trained: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Mean scores that readers know, with intervals, on all images that a method explained."""
    shown = trained[trained["metric"].isin(SCORE_NAMES) & trained["method"].isin(methods)]
    means = summarise(shown, ["metric", "method"]).set_index(["method", "metric"])
    table = pd.DataFrame({"method": methods})
    for metric in SCORE_NAMES:
        for end, name in (("", "mean"), ("_low", "ci_low"), ("_high", "ci_high"), ("_images", "n")):
            column = means[name].unstack("metric").reindex(columns=list(SCORE_NAMES))[metric]
            table[f"{metric}{end}"] = table["method"].map(column)
    return table


def describe_trust(verdicts: pd.DataFrame, claims: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """What a reader wants to know first: which methods can be trusted here, how sure, at what cost.

    Args:
        verdicts: see `trust`, with the columns data (simulated or real) and mask_of (what the masks show).
        claims: see `claims.test_claims`.

    Returns:
        (heading, sentence) pairs; lists of methods and of claims are tables below their sentence.
    """
    sentences = []
    for (dataset, data), own in verdicts.groupby(["dataset", "data"], sort=False):
        heading, truth = f"{dataset} ({data} images)", own["mask_of"].iloc[0]
        sentences += [(heading, _count(check, own, truth)) for check in CHECKS]
        sentences += [(heading, sentence) for sentence in _ceiling(own, truth)]
        trusted = own[own["trusted"] == "yes"].sort_values("seconds_per_map")
        if trusted.empty:
            sentences.append((heading, "No method passes all checks, so none is called trusted."))
            continue
        names = [method_name(name) for name in trusted["method"]]
        which = ", ".join(names) if len(names) <= FEW_NAMES else f"the fastest is {names[0]}"
        many = f"{len(names)} of {len(own)} methods {'is' if len(names) == 1 else 'are'} trusted: {which}."
        sentences.append((heading, many if len(own) > 1 else f"The one method tested is trusted: {which}."))
        sentences.append((heading, pd.DataFrame([_gains(row) for row in trusted.itertuples()])))
    sentences += [("The rule", sentence) for sentence in RULE]
    return [*sentences, *_claims(claims)]


def _claims(claims: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """Which claims of the papers hold on which data sets: one sentence, and a table of what is decided."""
    heading, rows = "Do the papers' claims hold here?", []
    grouped = claims.groupby(["paper", "sentence"], sort=False)
    for (paper, sentence), own in grouped:
        held = {word: ", ".join(own.loc[own["holds"] == word, "dataset"]) for word in ("yes", "no", "not testable")}
        if held["yes"] or held["no"]:
            undecided = held.pop("not testable")
            rows.append({"paper": paper, "claim": sentence, **held, "undecided": undecided})
    sentence = (
        f"Of {grouped.ngroups} claims {len(rows)} are decided on some data set; claims.csv has all with evidence."
    )
    return [(heading, sentence), *([(heading, pd.DataFrame(rows))] if rows else [])]


WHAT = {
    "faithful": ("are faithful when pixels are masked", "is faithful", "be faithful when pixels are masked"),
    "depends_on_training": ("depend on training", "depends on training", "depend on training"),
}


def _what(check: Check, truth: str) -> tuple[str, str, str]:
    """What methods do that pass a check, what one does, and what it is shown to do."""
    many = f"{localisation_check(truth, many=True)} better than random, centre and edges"
    return WHAT.get(check.name, (many, localisation_check(truth), many))


def _ceiling(own: pd.DataFrame, truth: str) -> list[str]:
    """Whether a control already points right nearly everywhere, so that no method could be shown to do better."""
    row = own.loc[own["pointing_game_patients"].fillna(0).astype(int).idxmax()]
    patients = row["pointing_game_patients"]
    if not can_pass(int(patients) if patients > 0 else 0) or can_pass(int(row["pointing_game_room"])):
        return []
    control = str(row["pointing_game_against"]).replace("_", " ")
    organ = "" if truth == DEFECT else f" into the {truth}"
    right = int(patients - row["pointing_game_room"])
    return [
        f"In the Pointing Game no method can beat the {control}: it points right{organ} in {right} of {patients:.0f} "
        "patients."
    ]


def _count(check: Check, own: pd.DataFrame, truth: str) -> str:
    """How many methods pass a check, of how many, on how many images."""
    many, single, shown = _what(check, truth)
    marks = own[check.name]
    tested = own[marks != NOT_TESTED]
    if tested.empty:
        return f"Whether a method {single} was not tested."
    images = tested[f"{check.name}_images"]
    seen = _counted(images.max(), "image")
    seen = seen if images.min() == images.max() else f"{images.min()} to {seen}"
    passed, judged = (marks == PASSED).sum(), tested[tested[check.name] != NOT_TESTABLE]
    if judged.empty:
        patients, room = tested[f"{check.name}_patients"].max(), tested[f"{check.name}_room"].max()
        if can_pass(patients) and room < patients:
            return (
                f"None can be shown to {shown}: a perfect map would be better than all rivals in only "
                f"{room} of {patients} patients."
            )
        who = "None is" if len(tested) > 1 else "The one method tested is not"
        return f"{who} shown to {shown}: {seen} of {_counted(patients, 'patient')} are too few to decide."
    if len(tested) == 1:
        return f"The one method tested {single if passed else f'is not shown to {shown}'} ({seen})."
    if passed:
        # Of one method: "finds the defect better than ...", "is faithful".
        words = many if passed > 1 else single + (many[many.index(" better than") :] if " better than" in many else "")
        return f"{passed} of {len(tested)} methods {words} ({seen})."
    return f"None of {len(tested)} methods is shown to {shown} ({seen})."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _gains(row: Any) -> dict[str, str]:
    """What a trusted method gains in each check that it passed: a row of a table, for readers."""
    found = {"method": method_name(row.method), "its map counts": form_of(row.method)}
    for check in CHECKS:
        gain, low, high, p, images, patients, against = (
            getattr(row, f"{check.name}_{end}") for end in ("gain", "low", "high", "p", "images", "patients", "against")
        )
        over = {"fully_random": "the randomised network"}.get(against, str(against).replace("_", " "))
        passed = getattr(row, check.name) == PASSED
        found[f"{check.name.replace('_', ' ')}: {SCORE_NAMES[check.score]} above"] = (
            f"{over} by {gain:.2f} ({low:.2f} to {high:.2f}; p {p:.2g}; {_counted(images, 'image')}, "
            f"{_counted(patients, 'patient')})"
            if passed
            else "not tested"
        )
    return found | {"seconds per map": f"{row.seconds_per_map:.2g}"}
