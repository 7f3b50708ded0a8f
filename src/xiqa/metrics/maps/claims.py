"""Claims of the papers that our tables can test, each with the rule that decides it, and the papers' own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from xiqa.metrics.maps.leaderboard import score_interval
from xiqa.metrics.statistics import FEWEST_PATIENTS, TOO_FEW, difference_interval
from xiqa.registry import (
    BASELINES,
    CONTROLS,
    GRADIENT_BASELINES,
    INTEGRATED,
    METHODS_BRIMA,
    MULTI,
    OTHERS_BROCKI,
    SINGLE,
    SMOOTHGRADS,
)

PAPERS = {"ozer": "Özer", "brima": "Brima 2023", "brocki": "Brocki 2022"}
"""First word of a claim's id -> how the paper is cited."""
SLIGHT = 0.035
"""Change of a score that counts as none, what rounds to 0.03: Özer calls changes of up to 0.028 insignificant
(table 2, Grad-CAM on LVOT), Brocki 2022 a fall from 0.58 to 0.55 similar (table 3, SmoothGrad)."""
UNDECIDED = "not testable"

PAIRED = (
    "Pointing Game on the same images (absolute maps where there are both forms, smoothed where not said), an "
    f"image's score averaged over the repeats; 95 % interval over at least {FEWEST_PATIENTS} patients, widened against "
    "the best of several for their number"
)
PAIRED_PUBLISHED = PAIRED.replace(
    "(absolute maps", "against boxes, as the code of Özer scores it: docs/explanation/papers.md (absolute maps"
)
RECOVERED = (
    "values and 95 % limits averaged over the networks; the interval of a difference follows from the two intervals "
    "as if they were independent (Zou and Donner 2008), which is wide for methods scored on the same images; against "
    "the best of several it is widened for their number"
)


class Difference(NamedTuple):
    """A difference that a claim is about, with its 95 % interval."""

    label: str
    value: float
    low: float
    high: float
    patients: float = np.inf

    def widened(self, number: int) -> Difference:
        """The interval that holds for a number of differences together (Bonferroni), by Student's distribution."""
        least = max(self.patients - 1, 1)
        factor = stdtrit(least, 1 - 0.025 / number) / stdtrit(least, 0.975)
        low, high = self.value - factor * (self.value - self.low), self.value + factor * (self.high - self.value)
        return self._replace(low=low, high=high)


class Verdict(NamedTuple):
    """What the tables say of a claim: yes, no or not testable, and the numbers that say so."""

    holds: str
    evidence: str


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: that all of some differences lie between two bounds.

    Attributes:
        id: number of the paper and a short name.
        place: where the paper claims it.
        sentence: the claim in our words.
        what: the differences.
        how: where their values and intervals come from.
        measure: tables of one data set, as `test_claims` hands them on -> the differences; raises `Missing`.
        above: lower bound.
        below: upper bound.
    """

    id: str
    place: str
    sentence: str
    what: str
    how: str
    measure: Callable[[Mapping[str, pd.DataFrame]], list[Difference]]
    above: float = 0.0
    below: float = np.inf

    @property
    def rule(self) -> str:
        """How the claim is decided."""
        where = f"between {self.above:g} and {self.below:g}"
        if np.isinf(self.below):
            where = f"above {self.above:g}"
        elif np.isinf(self.above):
            where = f"below {self.below:g}"
        return (
            f"{self.what}: {self.how}. Yes: the interval of every difference lies {where}. No: that of one lies wholly "
            "elsewhere, also when widened for their number (Bonferroni). Otherwise these data do not decide."
        )

    def decide(self, tables: Mapping[str, pd.DataFrame]) -> Verdict:
        """Verdict of the tables of one data set (see `test_claims`)."""
        try:
            found = self.measure(tables)
        except Missing as missing:
            return Verdict(UNDECIDED, str(missing))
        evidence = "; ".join(f"{d.label} {d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})" for d in found)
        if all(self.above < d.low and d.high < self.below for d in found):
            return Verdict("yes", evidence)
        widened = [d.widened(len(found)) for d in found]
        if any(d.high < self.above or d.low > self.below for d in widened):
            return Verdict("no", evidence)
        return Verdict(UNDECIDED, f"not decided by these data: {evidence}")


class Missing(Exception):
    """What a claim needs is not in the tables."""


def published() -> pd.DataFrame:
    """The numbers of the papers' tables.

    Returns:
        One row per number: paper, section (of prose), table (NA: prose), study (data set), architecture (empty: none;
        two of a difference), method (our name; empty: about a network), published_name, row (state, network, form or
        group), metric, value (NaN: the paper has none), sd_or_interval (text), unit, note.
    """
    with (files(__package__) / "tables/published.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return table.assign(table=pd.to_numeric(table["table"]).astype("Int64"), value=pd.to_numeric(table["value"]))


def test_claims(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Test every claim on every data set.

    Args:
        tables: any of
            localisation: one row per scored map: dataset, architecture, weights (trained, semi_random, fully_random),
                seed, method, form (signed, absolute), smoothing (σ, 0: none), metric (pointing_game is used), image,
                patient, value (NaN: not scored);
            published: as localisation, in the scoring of Özer;
            fidelity, roc_auc, region_dice, difference_of_means: dataset, method, value, ci_low, ci_high, and, where
                they apply, form, architecture, seed.

    Returns:
        One row per claim and data set: claim, paper, place, sentence, dataset, holds (yes, no, not testable),
        evidence, rule. What these data leave open, or lack, is not testable; the evidence says which.
    """
    of_images = {"localisation", "published"} & set(tables)
    tables = {**tables, **{name: _averaged(tables[name]) for name in of_images}}
    datasets = sorted({dataset for table in tables.values() for dataset in table["dataset"]}) or [""]
    parts = {name: {key: table[table["dataset"] == name] for key, table in tables.items()} for name in datasets}
    rows = [
        (
            claim.id,
            PAPERS[claim.id.split("-")[0]],
            claim.place,
            claim.sentence,
            dataset,
            *claim.decide(part),
            claim.rule,
        )
        for claim in CLAIMS
        for dataset, part in parts.items()
    ]
    columns = ["claim", "paper", "place", "sentence", "dataset", "holds", "evidence", "rule"]
    return pd.DataFrame(rows, columns=columns)


def _require(tables: Mapping, name: str, wanted: Sequence[str], column: str = "method") -> None:
    """A claim that names methods (or states) is undecided wherever one of them was not run."""
    if name not in tables:
        raise Missing(f"the table {name} is missing")
    known = set(tables[name].dropna(subset=["value"])[column])
    absent = [value for value in wanted if value not in known]
    if absent:
        raise Missing(f"the table {name} has none of {', '.join(absent)}")


# Paired differences of image scores (Özer).


def _averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """Pointing Game of each image, averaged over repeats."""
    rows = rows[rows["metric"] == "pointing_game"]
    one = ["dataset", "method", "weights", "form", "smoothing", "architecture", "image", "patient"]
    return rows.groupby(one, as_index=False)["value"].mean()


def _scores(
    tables: Mapping, method: str, weights: str = "trained", smoothed: bool | None = None, name: str = "localisation"
) -> pd.Series:
    """Score of each image; `smoothed` None takes smoothed maps where there are any."""
    rows = tables[name]
    rows = rows[(rows["method"] == method) & (rows["weights"] == weights)]
    absolute = rows["form"] == "absolute"
    rows = rows[absolute == absolute.any()]
    smooth = rows["smoothing"] > 0
    rows = rows[smooth == (smooth.any() if smoothed is None else smoothed)]
    return rows.set_index(["architecture", "image", "patient"])["value"].dropna()


def _paired(label: str, first: pd.Series, second: pd.Series) -> Difference:
    difference = (first - second).dropna()
    if difference.empty:
        raise Missing(f"no image has both scores of {label}")
    patients = difference.index.get_level_values("patient")
    if patients.nunique() < FEWEST_PATIENTS:
        raise Missing(f"{label}: {TOO_FEW}, found {patients.nunique()}, expected at least {FEWEST_PATIENTS}")
    interval = score_interval(difference.to_numpy(), patients)
    return Difference(label, float(difference.mean()), *interval, patients.nunique())


def _trained_above_randomised(tables: Mapping) -> list[Difference]:
    methods, states = (*BASELINES, *SINGLE, *MULTI), ("semi_random", "fully_random")
    _require(tables, "localisation", methods)
    _require(tables, "localisation", states, "weights")
    return [
        _paired(f"{method}: trained - {state}", _scores(tables, method), _scores(tables, method, state))
        for method in methods
        for state in states
    ]


def _above_best_baseline(tables: Mapping, methods: Sequence[str]) -> list[Difference]:
    _require(tables, "localisation", (*methods, *BASELINES))
    baselines = {method: _scores(tables, method) for method in BASELINES}
    best = max(baselines, key=lambda method: baselines[method].mean())
    found = [_paired(f"{method} - {best}", _scores(tables, method), baselines[best]) for method in methods]
    return [difference.widened(len(BASELINES)) for difference in found]


def _multi_above_single(tables: Mapping) -> list[Difference]:
    _require(tables, "localisation", (*SINGLE, *MULTI))
    return [_paired(f"{m}: multi - single", _scores(tables, f"{m}_multi"), _scores(tables, m)) for m in SINGLE]


def _smoothed_above_unsmoothed(tables: Mapping, methods: Sequence[str], name: str = "localisation") -> list[Difference]:
    _require(tables, name, methods)
    return [
        _paired(
            f"{method}: smoothed - unsmoothed",
            *(_scores(tables, method, smoothed=smoothed, name=name) for smoothed in (True, False)),
        )
        for method in methods
    ]


# Differences of summarised values (Özer, Brima 2023 and Brocki 2022).


def _summaries(tables: Mapping, name: str, methods: Sequence[str], form: str = "absolute") -> dict[str, pd.DataFrame]:
    """Value and limits of each method, one row per network; the other form where the method has but one."""
    _require(tables, name, methods)
    found = {}
    for method in methods:
        rows = tables[name][tables[name]["method"] == method]
        if "form" in rows and form in set(rows["form"]):
            rows = rows[rows["form"] == form]
        network = [column for column in ("architecture", "seed") if column in rows]
        # A table without limits decides nothing.
        numbers = ["value", "ci_low", "ci_high", "n_patients"]
        rows = rows.reindex(columns=[*network, *numbers])
        found[method] = rows.groupby(network or (lambda _: 0))[numbers].mean()
    return found


def _recovered(label: str, first: pd.DataFrame, second: pd.DataFrame) -> Difference:
    """Difference of two summaries, averaged over the networks that they share.

    Reference: Zou and Donner, Stat. Med. 27 (2008) 1693 (method of variance estimates recovery).
    """
    shared = first.index.intersection(second.index)
    if shared.empty:
        raise Missing(f"no network has both values of {label}")
    sides = [side.loc[shared].to_numpy().mean(axis=0) for side in (first, second)]
    a, b = (side[:3] for side in sides)
    patients = np.nanmin([np.inf, *(side[3] for side in sides)])
    return Difference(label, a[0] - b[0], *difference_interval(tuple(a), tuple(b)), patients)


def _top(
    tables: Mapping, name: str, tops: Sequence[str], rest: Sequence[str], forms: Sequence[str] = ("absolute",)
) -> list[Difference]:
    """Each of `tops` - the best of `rest`, both in the same form; widened for those that the best was chosen from."""
    found = []
    for form in forms:
        of_tops, of_rest = (_summaries(tables, name, methods, form) for methods in (tops, rest))
        best = max(of_rest, key=lambda method: of_rest[method]["value"].mean())
        said = f" ({form})" if len(forms) > 1 else ""
        found += [_recovered(f"{top} - {best}{said}", of_tops[top], of_rest[best]).widened(len(rest)) for top in tops]
    return found


def _forms(
    tables: Mapping, name: str, methods: Sequence[str], forms: Sequence[str] = ("absolute", "signed")
) -> list[Difference]:
    """The first form of each method that has both - the second."""
    _require(tables, name, methods)
    one = [m for m in methods if not set(forms) <= set(tables[name].query("method == @m")["form"])]
    if one:
        raise Missing(f"the table {name} has {', '.join(one)} in one form: the other is missing")
    first, second = (_summaries(tables, name, methods, form) for form in forms)
    return [_recovered(f"{method}: {' - '.join(forms)}", first[method], second[method]) for method in methods]


def _groups(tables: Mapping, more: Sequence[str], less: Sequence[str]) -> list[Difference]:
    """Mean difference of means of one group of methods - that of another."""
    sides = [_summaries(tables, "difference_of_means", methods) for methods in (more, less)]
    label = " - ".join(f"mean of {', '.join(side)}" for side in sides)
    return [_recovered(label, *(pd.concat(side.values()).mean().to_frame().T for side in sides))]


def _most_consistent(tables: Mapping) -> list[Difference]:
    """Lowest difference of means of the baselines - the lowest of NormGrad."""
    lowest = []
    for methods in (BASELINES, (*SINGLE, *MULTI)):
        found = _summaries(tables, "difference_of_means", methods)
        lowest.append(min(found.items(), key=lambda item: item[1]["value"].mean()))
    (baseline, first), (normgrad, second) = lowest
    choices = len(BASELINES) * len((*SINGLE, *MULTI))
    return [_recovered(f"{baseline} - {normgrad}", first, second).widened(choices)]


def _discrepancy(tables: Mapping) -> list[Difference]:
    methods = SMOOTHGRADS[:1], INTEGRATED[1:]
    found = {"fidelity": _top(tables, "fidelity", *methods), "Dice": _top(tables, "region_dice", *methods[::-1])}
    return [d._replace(label=f"{name} of {d.label}") for name, differences in found.items() for d in differences]


CLAIMS = (
    Claim(
        "ozer-trained-above-randomised",
        "tables 3 and 4",
        "Every method points to the defect more often on trained networks than on randomised ones.",
        "Each method on trained networks - on semi- and on fully randomised ones",
        PAIRED,
        _trained_above_randomised,
    ),
    Claim(
        "ozer-normgrad-above-baselines",
        "table 4, section 4.4",
        "Every NormGrad setting points to the defect more often than every baseline.",
        "Each NormGrad setting - the baseline with the best mean",
        PAIRED,
        partial(_above_best_baseline, methods=(*SINGLE, *MULTI)),
    ),
    Claim(
        "ozer-multi-above-baselines",
        "tables 3 and 5, section 4.5",
        "NormGrad over several layers points to the defect more often than every baseline.",
        "Each multi-layer NormGrad - the baseline with the best mean",
        PAIRED,
        partial(_above_best_baseline, methods=MULTI),
    ),
    Claim(
        "ozer-multi-above-single",
        "table 3, section 4.4",
        "NormGrad over several layers points to the defect more often than over a single one.",
        "Several layers - one, for each virtual layer",
        PAIRED,
        _multi_above_single,
    ),
    Claim(
        "ozer-smoothing-helps-gradients",
        "table 2, section 4.3",
        "Smoothing makes input × gradient, guided backpropagation and guided Grad-CAM point better.",
        "Each of the three smoothed - unsmoothed",
        PAIRED,
        partial(_smoothed_above_unsmoothed, methods=GRADIENT_BASELINES),
    ),
    Claim(
        "ozer-smoothing-helps-gradients-published",
        "table 2, section 4.3",
        "Scored as the paper does it, smoothing makes the three gradient methods point better.",
        "Each of the three, scored as published, smoothed - unsmoothed",
        PAIRED_PUBLISHED,
        partial(_smoothed_above_unsmoothed, methods=GRADIENT_BASELINES, name="published"),
    ),
    Claim(
        "ozer-smoothing-leaves-normgrad",
        "table 2, section 4.3",
        "Smoothing hardly changes how often NormGrad and Grad-CAM point to the defect.",
        "Each of them smoothed - unsmoothed",
        PAIRED,
        partial(_smoothed_above_unsmoothed, methods=(*SINGLE, *MULTI, "grad_cam")),
        above=-SLIGHT,
        below=SLIGHT,
    ),
    Claim(
        "ozer-smoothing-leaves-normgrad-published",
        "table 2, section 4.3",
        "Scored as the paper does it, smoothing hardly changes how often NormGrad and Grad-CAM point to the defect.",
        "Each of them, scored as published, smoothed - unsmoothed",
        PAIRED_PUBLISHED,
        partial(_smoothed_above_unsmoothed, methods=(*SINGLE, *MULTI, "grad_cam"), name="published"),
        above=-SLIGHT,
        below=SLIGHT,
    ),
    Claim(
        "ozer-dom-multi-below-baselines",
        "tables 5 and 6, section 5",
        "NormGrad over several layers depends less on the architecture than the baselines.",
        "Mean DoM of the baselines - mean DoM of multi-layer NormGrad",
        RECOVERED,
        partial(_groups, more=BASELINES, less=MULTI),
    ),
    Claim(
        "ozer-dom-multi-below-single",
        "sections 4.5 and 5",
        "NormGrad over several layers depends less on the architecture than over a single one.",
        "Mean DoM of single-layer NormGrad - mean DoM of multi-layer NormGrad",
        RECOVERED,
        partial(_groups, more=SINGLE, less=MULTI),
    ),
    Claim(
        "ozer-dom-lowest-is-normgrad",
        "captions of tables 5 and 6",
        "The method that depends least on the architecture is a NormGrad.",
        "Lowest DoM of the baselines - lowest DoM of the NormGrads",
        RECOVERED,
        _most_consistent,
    ),
    Claim(
        "brima-xrai-best",
        "section 4.3 (by eye, figures 8 and 9)",
        "XRAI explains the input best of the methods shown.",
        "Pixel AUC, our choice of measure, of XRAI - of the best other method, both signed and both absolute",
        RECOVERED,
        partial(_top, name="roc_auc", tops=("xrai",), rest=METHODS_BRIMA, forms=("signed", "absolute")),
    ),
    Claim(
        "brima-gradients-uninformative",
        "section 4.3 (by eye, figures 8 and 9)",
        "Maps of the gradient and SmoothGrad are too noisy to explain what the network rests on.",
        "Pixel AUC, our choice of measure, of each of the two - of the best control",
        RECOVERED,
        partial(_top, name="roc_auc", tops=("gradient", "smoothgrad"), rest=CONTROLS),
        above=-np.inf,
        below=0.0,
    ),
    Claim(
        "brocki-fidelity-above-random",
        "table 1, section 4.1",
        "Every method is more faithful to the network than a random map, without the sign.",
        "Fidelity of each method (absolute) - of the random map",
        RECOVERED,
        partial(_top, name="fidelity", tops=(*SMOOTHGRADS, *INTEGRATED, *OTHERS_BROCKI), rest=("random",)),
    ),
    Claim(
        "brocki-fidelity-smoothgrad-top",
        "table 1, abstract",
        "Squared SmoothGrad and SmoothGrad are the most faithful methods, without the sign.",
        "Fidelity of each of the two (absolute) - of the best other method",
        RECOVERED,
        partial(_top, name="fidelity", tops=SMOOTHGRADS, rest=(*INTEGRATED, *OTHERS_BROCKI)),
    ),
    Claim(
        "brocki-fidelity-absolute",
        "table 1, section 4.1",
        "Every method with a sign is more faithful without it.",
        "Fidelity of each method's absolute maps - of its signed maps",
        RECOVERED,
        partial(_forms, name="fidelity", methods=("smoothgrad", *INTEGRATED, *OTHERS_BROCKI)),
    ),
    Claim(
        "brocki-fidelity-black-white",
        "section 5",
        "A white reference beside the black one makes integrated gradients more faithful, without the sign.",
        "Fidelity of integrated gradients (absolute) from black and white - from black",
        RECOVERED,
        partial(_top, name="fidelity", tops=INTEGRATED[:1], rest=INTEGRATED[1:]),
    ),
    Claim(
        "brocki-auc-smoothgrad-top",
        "table 2, abstract",
        "Squared SmoothGrad and SmoothGrad agree best with the experts' region pixel by pixel, without the sign.",
        "Pixel AUC of each of the two (absolute) - of the best other method",
        RECOVERED,
        partial(_top, name="roc_auc", tops=SMOOTHGRADS, rest=(*INTEGRATED, *OTHERS_BROCKI)),
    ),
    Claim(
        "brocki-auc-absolute",
        "table 2, section 4.2",
        "Every method with a sign agrees better with the experts' region pixel by pixel without it.",
        "Pixel AUC of each method's absolute maps - of its signed maps",
        RECOVERED,
        partial(_forms, name="roc_auc", methods=("smoothgrad", *INTEGRATED, *OTHERS_BROCKI)),
    ),
    Claim(
        "brocki-dice-above-random",
        "table 3, section 4.3",
        "Every method overlaps with the experts' region more than a random map.",
        "Largest region Dice of each method (absolute) - of the random map",
        RECOVERED,
        partial(_top, name="region_dice", tops=(*SMOOTHGRADS, *INTEGRATED, *OTHERS_BROCKI), rest=("random",)),
    ),
    Claim(
        "brocki-dice-integrated-gradients-top",
        "table 3, section 5",
        "Both integrated gradients overlap best with the experts' region, without the sign.",
        "Largest region Dice of each of the two (absolute) - of the best other method",
        RECOVERED,
        partial(_top, name="region_dice", tops=INTEGRATED, rest=(*SMOOTHGRADS, *OTHERS_BROCKI)),
    ),
    Claim(
        "brocki-dice-smoothgrad-top-signed",
        "table 3, section 4.3",
        "Both SmoothGrads overlap best with the experts' region, with the sign.",
        "Largest region Dice of each of the two (signed) - of the best other method",
        RECOVERED,
        partial(_top, name="region_dice", tops=SMOOTHGRADS, rest=(*INTEGRATED, *OTHERS_BROCKI), forms=("signed",)),
    ),
    Claim(
        "brocki-dice-absolute",
        "table 3, section 4.3",
        "The overlap with the experts' region is similar or larger without the sign, but for expected gradients.",
        "Largest region Dice of each method's absolute maps - of its signed maps",
        RECOVERED,
        partial(_forms, name="region_dice", methods=("smoothgrad", *INTEGRATED, "gradient", "deconvolution")),
        above=-SLIGHT,
    ),
    Claim(
        "brocki-dice-expected-gradients",
        "table 3, section 5",
        "Expected gradients overlap better with the experts' region with the sign than without.",
        "Largest region Dice of expected gradients' signed maps - of their absolute maps",
        RECOVERED,
        partial(_forms, name="region_dice", methods=("expected_gradients",), forms=("signed", "absolute")),
    ),
    Claim(
        "brocki-discrepancy",
        "abstract, section 5",
        "Measures of faithfulness and of agreement with experts rank methods differently: integrated gradients.",
        "Squared SmoothGrad - integrated gradients in fidelity, the reverse in largest region Dice (absolute)",
        RECOVERED,
        _discrepancy,
    ),
)
"""All claims, in the order of the papers."""
