"""Tables of concepts: what each says of each layer and class, published scores beside it, and how well it is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xiqa.concepts import effects, vectors
from xiqa.metrics.paired import holm

FEWEST_PATIENTS = 5
"""Of a class in a part, below which nothing is fitted or told."""


class Responses(NamedTuple):
    """What a network makes of the designed images.

    Attributes:
        output: (n,) the explained output of each image: the logit of its own class, or a prediction.
        activations: layer -> (n, k) mean over its places.
        gradients: layer -> (n, k) sum over its places of the output's gradient.
    """

    output: np.ndarray
    activations: Mapping[str, np.ndarray]
    gradients: Mapping[str, np.ndarray]


def concept_effects(
    responses: Responses, table: pd.DataFrame, concepts: Sequence[str], *, seed: int, permutations: int
) -> pd.DataFrame:
    """Effects of concepts on the output of a network, class by class and layer by layer.

    Directions are fitted on images of the part "train" and told of those of "test", which are of other patients; the
    true effect is the slope of the output on the concept over the designed images of "test".

    Args:
        responses: of all designed images.
        table: their rows: part, patient, label_name, and a column for each concept.
        concepts: columns; one that does not vary within a class is left out of it, as is one that is not known of
            some image of it.
        seed: of permutations.
        permutations: how many.

    Returns:
        A row for each concept, class and layer: effect (output per SD of the concept), p, p_holm (over all rows),
        true_effect, true_se, output_sd (of the class), r_squared (how well the layer knows the concept), and as
        published tcav, rcv_sensitivity (mean of S per SD of the concept along the regression vector), br.

    Raises:
        ValueError: a class has fewer than `FEWEST_PATIENTS` patients in a part, or no concept varies within one.
    """
    rows = []
    for name, of_class in table.reset_index(drop=True).groupby("label_name", sort=False):
        train, test = (of_class.index[of_class["part"] == part].to_numpy() for part in ("train", "test"))
        for part, chosen in (("train", train), ("test", test)):
            patients = of_class.loc[chosen, "patient"].nunique()
            if patients < FEWEST_PATIENTS:
                raise ValueError(
                    f"concepts: found {patients} patients of class {name} in the {part} part, expected "
                    f"{FEWEST_PATIENTS} or more; ask for more images"
                )
        f = responses.output[test]
        for concept in concepts:
            c_train, c_test = (of_class.loc[chosen, concept].to_numpy(float) for chosen in (train, test))
            if not all(np.isfinite(c).all() and np.ptp(c) > 0 for c in (c_train, c_test)):
                continue
            truth, se = effects.true_effect(f, c_test, of_class.loc[test, "patient"])
            for layer, a in responses.activations.items():
                g = responses.gradients[layer][test]
                patients = of_class.loc[train, "patient"].to_numpy()
                found = effects.effect(a[train], g, c_train, patients, seed=seed, permutations=permutations)
                rows.append(
                    {"concept": concept, "class": name, "layer": layer, "effect": found.effect, "p": found.p,
                     "true_effect": truth, "true_se": se, "output_sd": float(f.std()),
                     **_published(a, g, train, test, c_train, c_test)}
                )  # fmt: skip
    if not rows:
        raise ValueError(f"concepts: found none of {', '.join(concepts)} that varies within a class; ask for others")
    made = pd.DataFrame(rows)
    made.insert(5, "p_holm", holm(made["p"].to_numpy()))
    return made


def _published(a, g, train, test, c_train, c_test) -> dict[str, float]:
    """Scores as published, and how well the layer knows the concept."""
    cav = vectors.concept_activation_vector(a[train], c_train > np.median(c_train))
    direction, beta, offset = vectors.regression_vector(a[train], c_train)
    known = effects.r_squared(np.asarray(a[test], float) @ beta + offset, c_test)
    length = np.linalg.norm(beta)
    return {
        "r_squared": known,
        "tcav": effects.tcav(g, cav),
        # A step of one SD of the concept along the regression vector has this length.
        "rcv_sensitivity": float(effects.along(g, direction).mean() * c_train.std() / length) if length > 0 else 0.0,
        "br": effects.bidirectional_relevance(g, direction, known),
    }


ESTIMATES = {"pattern": "effect", "regression vector": "rcv_sensitivity", "TCAV": "tcav"}
"""How an effect was estimated -> its column; TCAV says 0.5 where there is none."""


def concept_agreement(found: pd.DataFrame) -> pd.DataFrame:
    """How the estimates of each layer agree with the true effects, over concepts and classes.

    Args:
        found: from `concept_effects`, with further columns that name a network.

    Returns:
        A row for each network, layer and estimate: beyond, sign_right, r, slope (NaN for TCAV, which has no unit), and
        largest_over_sd, the largest estimate over the output's standard deviation.
    """
    networks = [name for name in ("architecture", "weights", "seed", "member") if name in found]
    rows = []
    for names, part in found.groupby([*networks, "layer"], sort=False):
        for estimate, column in ESTIMATES.items():
            values = part[column].to_numpy(float) - (0.5 if estimate == "TCAV" else 0.0)
            agreed = effects.agreement(values, part["true_effect"], part["true_se"])._asdict()
            if estimate == "TCAV":
                largest = agreed["slope"] = float("nan")
            else:
                largest = float(np.max(np.abs(values) / part["output_sd"]))
            rows.append({**dict(zip([*networks, "layer"], names, strict=True)), "estimate": estimate, **agreed,
                         "largest_over_sd": largest})  # fmt: skip
    return pd.DataFrame(rows)
