"""What the answers of readers say: accuracy by arm, agreement, time; and what could not be used, listed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from xiqa.files import read_json
from xiqa.metrics.agreement import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from xiqa.metrics.statistics import FEWEST_PATIENTS, NOTHING, TOO_FEW, Interval, difference_interval, interval
from xiqa.reader_study.export import ANSWER_COLUMNS, KEY_FILE, KEY_FOLDER, STUDY_FILE
from xiqa.seeds import stream_seed

ANSWERS = "answers"
"""Folder, within a study, where the files of the readers are put."""
DRAWS = 2000
LONGEST_S = 86_400
"""Longest time for an answer that is believed."""


class Answers(NamedTuple):
    """The answers that can be used.

    Attributes:
        table: key and answers: a row for each reading, `answer` and `confidence` NaN where there is none, `right`.
        problems: file, row, problem: what was not used, and what is missing.
        study: what study.json says.
    """

    table: pd.DataFrame
    problems: pd.DataFrame
    study: dict[str, Any]


def read_answers(folder: str | Path, paths: Iterable[str | Path] | None = None) -> Answers:
    """Read the files of all readers; nothing is guessed: what does not fit is left out and listed.

    Args:
        folder: of the study, as it was exported, with its key.
        paths: files of the readers; None: all in `answers/` of the folder.

    Raises:
        ValueError: the folder holds no study, or no answer can be used.
    """
    folder = Path(folder)
    for needed in (folder / STUDY_FILE, folder / KEY_FOLDER / KEY_FILE):
        if not needed.is_file():
            raise ValueError(f"{needed}: there is none, expected the folder that `xiqa reader-study export` wrote")
    study, key = read_json(folder / STUDY_FILE), _read_key(folder / KEY_FOLDER / KEY_FILE)
    named = sorted(Path(path) for path in (paths if paths is not None else (folder / ANSWERS).glob("*")))
    if not named:
        raise ValueError(f"{folder / ANSWERS}: found no files, expected the answers that readers saved")
    problems: list[dict[str, Any]] = []

    def problem(path: Path, row: int | str, words: str) -> None:
        problems.append({"file": path.name, "row": row, "problem": words})

    files = {path: rows for path in named if (rows := _rows_of(path, study, problem)) is not None}
    owners = {path: rows["reader"].iloc[0] for path, rows in files.items()}
    for path, reader in owners.items():
        if twice := [other.name for other, of in owners.items() if of == reader and other != path]:
            problem(path, "", f"reader {reader} is in {', '.join(twice)}, too; none of these files is used")
    alone = [rows for path, rows in files.items() if list(owners.values()).count(owners[path]) == 1]
    given = pd.concat(alone) if alone else pd.DataFrame(columns=[*ANSWER_COLUMNS, "file"])
    known = key.set_index(["reader", "position"])
    kept = []
    for row in given.itertuples():
        path, place = Path(row.file), (int(row.reader), _whole(row.position))
        if place not in known.index or known.loc[place, "id"] != row.case:
            problem(path, row.Index, f"case {row.case!r} at position {row.position!r} is not of this reader")
        elif row.answer not in study["classes"]:
            words = "has no answer" if not row.answer else f"has the answer {row.answer!r}, which is no class"
            problem(path, row.Index, f"position {row.position} {words}")
        else:
            confidence, seconds = _number(row.confidence, 1, 5), _number(row.seconds, 0, LONGEST_S)
            for name, text, value in (("confidence", row.confidence, confidence), ("seconds", row.seconds, seconds)):
                if np.isnan(value):
                    problem(path, row.Index, f"position {row.position} has {name} {text!r}; its answer is used")
            kept.append((*place, row.answer, confidence, seconds, row.Index, path))
    found = pd.DataFrame(kept, columns=["reader", "position", "answer", "confidence", "seconds", "row", "path"])
    double = found.duplicated(["reader", "position"], keep=False)
    for row in found[double].itertuples():
        problem(row.path, row.row, f"position {row.position} is answered twice; neither answer is used")
    found = found[~double].drop(columns=["row", "path"])
    for path, of_file in given.groupby("file", sort=False):
        reader = int(of_file["reader"].iloc[0])
        places = set(key.loc[key["reader"] == reader, "position"]) - set(of_file["position"].map(_whole))
        if places:
            problem(Path(path), "", f"has no row for position {', '.join(map(str, sorted(places)))}")
    for reader in sorted(set(range(1, study["readers"] + 1)) - {int(of) for of in owners.values()}):
        problems.append({"file": "", "row": "", "problem": f"reader {reader} has sent no file that can be used"})
    if found.empty:
        raise ValueError(f"{folder}: found no answer that can be used; {problems[0]['file']}: {problems[0]['problem']}")
    table = key.merge(found, on=["reader", "position"], how="left")
    table["right"] = (table["answer"] == table["truth"]).where(table["answer"].notna()).astype(float)
    return Answers(table, pd.DataFrame(problems, columns=["file", "row", "problem"]), study)


def _read_key(path: Path) -> pd.DataFrame:
    """The key; names stay texts, for a class may be called 1 or None."""
    numbers = {"reader": int, "position": int, "case": int, "probability": float}
    key = pd.read_csv(path, dtype=str, keep_default_na=False).astype(numbers)
    return key.assign(repeat=key["repeat"] == "True")


def _rows_of(path: Path, study: dict, problem) -> pd.DataFrame | None:
    """The rows of one file as texts, numbered as a spreadsheet does; None if it is none of this study's."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        problem(path, "", f"cannot be read as CSV ({type(error).__name__})")
        return None
    if missing := [name for name in ANSWER_COLUMNS if name not in rows]:
        problem(path, "", f"has no column {', '.join(missing)}; expected the file that the form saves")
        return None
    if rows.empty:
        problem(path, "", "has no rows")
        return None
    if set(rows["digest"]) != {study["digest"]}:
        problem(path, "", "is of another study: its digest differs")
        return None
    reader = set(rows["reader"])
    if len(reader) > 1 or _whole(next(iter(reader))) not in range(1, study["readers"] + 1):
        problem(path, "", f"is of reader {', '.join(sorted(reader))}, expected one of 1 to {study['readers']}")
        return None
    rows.index = rows.index + 2
    return rows.assign(file=path.name)


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if low <= value <= high else float("nan")


def accuracy_by_arm(answers: Answers, draws: int = DRAWS) -> pd.DataFrame:
    """Share of right first answers in each arm, with an interval over readers and patients.

    Readers and patients are drawn anew together, each draw weighing an answer by how often its reader and its patient
    were drawn (2.5th to 97.5th percentile). The wider end of this and of the interval over patients
    (`statistics.interval`, which does not shrink to nothing where all are right) is given; none with fewer than six
    patients. With fewer than five readers the interval says little of other readers.

    Returns:
        A row for each arm: arm, accuracy, ci_low, ci_high, answers, missing, readers, patients, seconds (median).
    """
    table, rows = answers.table[~answers.table["repeat"].astype(bool)], []
    for arm, of_arm in table.groupby("arm", sort=False):
        given = of_arm[of_arm["answer"].notna()]
        low, high = _interval(given, draws, answers.study["seed"])
        rows.append(
            {"arm": arm, "accuracy": given["right"].mean(), "ci_low": low, "ci_high": high, "answers": len(given),
             "missing": len(of_arm) - len(given), "readers": given["reader"].nunique(),
             "patients": given["patient"].nunique(), "seconds": given["seconds"].median()}
        )  # fmt: skip
    return pd.DataFrame(rows).assign(data=answers.study["data"])


def _weights(given: pd.DataFrame, draws: int, seed: int) -> np.ndarray:
    """(draws, answers) how often reader and patient of each answer were drawn."""
    rng, weights = np.random.default_rng(stream_seed(seed, "readers and patients")), 1
    for column in ("reader", "patient"):
        codes, names = pd.factorize(given[column])
        weights = weights * rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)[:, codes]
    return np.asarray(weights)


def _interval(given: pd.DataFrame, draws: int, seed: int) -> Interval:
    if given["patient"].nunique() < FEWEST_PATIENTS:
        return NOTHING
    weights = _weights(given, draws, seed)
    total = weights.sum(1)
    shares = (weights @ given["right"].to_numpy())[total > 0] / total[total > 0]
    low, high = np.percentile(shares, [2.5, 97.5])
    least, most = interval(given["right"], given["patient"], bounds=(0, 1))
    return min(float(low), least), max(float(high), most)


def compare_arms(answers: Answers, draws: int = DRAWS) -> pd.DataFrame:
    """Pairs of arms: difference of accuracy with its interval, and McNemar's exact test over cases.

    A case is right in an arm where most of its readers are; cases with a tie, or without an answer in an arm, take no
    part in the test.

    Returns:
        A row for each pair: arm, other, difference (arm less other), ci_low, ci_high, cases, only_arm, only_other, p.

    Reference: McNemar, Psychometrika 12 (1947) 153, in its exact form.
    """
    table, rows = answers.table[~answers.table["repeat"].astype(bool) & answers.table["answer"].notna()], []
    weights = _weights(table, draws, answers.study["seed"])
    right = table["right"].to_numpy()
    by_case = table.pivot_table(index="case", columns="arm", values="right", aggfunc="mean")
    for arm, other in combinations(dict.fromkeys(answers.table["arm"]), 2):
        shares, of_arms = [], [table[table["arm"] == name] for name in (arm, other)]
        for name in (arm, other):
            own = weights * (table["arm"] == name).to_numpy()
            shares.append(np.divide(own @ right, own.sum(1), out=np.full(len(own), np.nan), where=own.sum(1) > 0))
        means = [own["right"].mean() for own in of_arms]
        if min(own["patient"].nunique() for own in of_arms) < FEWEST_PATIENTS:
            low, high = NOTHING
        elif any(mean in (0, 1) for mean in means):  # answers that are all alike would be drawn alike
            one, two = (
                (mean, *_interval(own, draws, answers.study["seed"])) for mean, own in zip(means, of_arms, strict=True)
            )
            low, high = difference_interval(one, two)
        else:
            low, high = np.nanpercentile(shares[0] - shares[1], [2.5, 97.5])
        pairs = by_case[[arm, other]].dropna() if {arm, other} <= set(by_case) else pd.DataFrame(columns=[arm, other])
        pairs = pairs[(pairs != 0.5).all(axis=1)] > 0.5
        only = int((pairs[arm] & ~pairs[other]).sum()), int((~pairs[arm] & pairs[other]).sum())
        p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
        rows.append(
            {"arm": arm, "other": other, "difference": means[0] - means[1], "ci_low": low, "ci_high": high,
             "cases": len(pairs), "only_arm": only[0], "only_other": only[1], "p": p}
        )  # fmt: skip
    columns = ["arm", "other", "difference", "ci_low", "ci_high", "cases", "only_arm", "only_other", "p"]
    return pd.DataFrame(rows, columns=columns).assign(data=answers.study["data"])


def reader_agreement(answers: Answers) -> pd.DataFrame:
    """Agreement of readers on the same cases, whatever their arms, and of each reader with himself or herself.

    Grades of confidence have coefficients of their own, whose disagreement grows with the square of the distance.

    Returns:
        A row for each coefficient: who ("all readers", "reader 1 and 2", "reader 1, repeats"), coefficient, value,
        cases.
    """
    table, classes = answers.table, answers.study["classes"]
    code = table["answer"].map({name: number for number, name in enumerate(classes)}).astype(float)
    coded = table.assign(code=code)
    first = coded[~coded["repeat"].astype(bool)].pivot(index="reader", columns="case", values="code")
    sure = table[~table["repeat"].astype(bool)].pivot(index="reader", columns="case", values="confidence")
    rows = []
    both = int((first.notna().sum() >= 2).sum())
    for name, value in (
        ("Fleiss' κ", fleiss_kappa(first, len(classes))),
        ("Krippendorff's α", krippendorff_alpha(first)),
        ("Gwet's AC1", gwet_ac1(first, len(classes))),
        ("Krippendorff's α of confidence", krippendorff_alpha(sure, "interval")),
    ):
        rows.append({"who": "all readers", "coefficient": name, "value": value, "cases": both})
    for one, two in combinations(first.index, 2):
        rows += _kappas(
            f"reader {one} and {two}",
            first.loc[one],
            first.loc[two],
            sure.loc[one] - 1,
            sure.loc[two] - 1,
            len(classes),
        )
    for reader, own in coded.groupby("reader"):
        again = own[own["repeat"].astype(bool)].set_index("case")
        before = own[~own["repeat"].astype(bool)].set_index("case").loc[again.index]
        rows += _kappas(
            f"reader {reader}, repeats",
            before["code"],
            again["code"],
            before["confidence"] - 1,
            again["confidence"] - 1,
            len(classes),
        )
    return pd.DataFrame(rows).assign(data=answers.study["data"])


def _kappas(
    who: str, first: pd.Series, second: pd.Series, sure: pd.Series, sure_too: pd.Series, classes: int
) -> list[dict[str, Any]]:
    """Cohen's κ of answers, and quadratic of grades of confidence (0 to 4), of the cases that have both."""
    found = (("Cohen's κ", first, second, classes, False), ("quadratic κ of confidence", sure, sure_too, 5, True))
    return [
        {"who": who, "coefficient": name, "value": cohen_kappa(one, two, number, quadratic=quadratic),
         "cases": int((one.notna() & two.notna()).sum())}
        for name, one, two, number, quadratic in found
    ]  # fmt: skip


def describe(answers: Answers, accuracy: pd.DataFrame, comparison: pd.DataFrame, agreement: pd.DataFrame):
    """The findings of a study, for `xiqa.report.pages.write_findings`."""
    question = {"label": "say what an image shows", "network": "say what the network will say"}[answers.study["task"]]
    findings: list[tuple[str, str | pd.DataFrame]] = []
    for row in accuracy.itertuples():
        ends = f"{100 * row.ci_low:.0f} to {100 * row.ci_high:.0f} %" if row.ci_low == row.ci_low else TOO_FEW
        of = f"of {row.answers} answers of {row.readers} readers, in {row.seconds:.1f} s each (median)"
        words = f"With {arm_name(row.arm)}: {100 * row.accuracy:.0f} % ({ends}) {of}."
        if not row.answers:
            words = f"With {arm_name(row.arm)} there is no answer that can be used."
        findings.append((f"How often do readers rightly {question}?", words))
    for row in comparison.dropna(subset=["difference"]).itertuples():
        clear = row.ci_low > 0 or row.ci_high < 0
        words = f"{100 * abs(row.difference):.0f} points {'more' if row.difference > 0 else 'fewer'}"
        ends = f"{100 * row.ci_low:+.0f} to {100 * row.ci_high:+.0f} points" if row.ci_low == row.ci_low else TOO_FEW
        span = f"{ends}, McNemar p = {row.p:.2g}"
        start = f"With {arm_name(row.arm)} {words} than with {arm_name(row.other)} ({span})"
        findings.append(("Do the arms differ?", f"{start}: {'a difference' if clear else 'no difference shown'}."))
    whole = agreement[agreement["who"] == "all readers"].set_index("coefficient")["value"]
    told = ", ".join(f"{name} {value:.2f}" for name, value in whole.dropna().items()) or "no coefficient has a value"
    findings.append(("Do readers agree?", f"Beyond chance, over all cases and arms: {told}."))
    if len(answers.problems):
        words = f"{len(answers.problems)} answers or files are missing or could not be used; problems.csv lists each."
        findings.append(("What could not be used", words))
    findings += [("Accuracy", accuracy.round(3)), ("Pairs of arms", comparison.round(3)),
                 ("Agreement", agreement.round(3))]  # fmt: skip
    return findings


def arm_name(arm: str) -> str:
    """An arm as sentences call it."""
    from xiqa.names import method_name

    parts = [
        "the prediction" if part == "prediction" else f"the map of {method_name(part.removeprefix('map:'))}"
        for part in arm.split("+")
        if part != "image"
    ]
    return " and ".join(["the image", *parts]) if parts else "the image alone"
