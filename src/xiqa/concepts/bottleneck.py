"""Concept bottlenecks: decisions through named concepts only, what correcting these does, and what leaks past them.

Images x -> estimated concepts -> decision. The first map is linear on features of a trained network that stay as they
are, the second a small network. A side channel passes further numbers beside the concepts.

Reference: Koh et al., Concept Bottleneck Models, ICML 2020; Margeloiu et al., arXiv 2105.04289; Mahinpei et al., arXiv
2106.13314 (leakage).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from xiqa.metrics.statistics import interval
from xiqa.seeds import stream_seed

JOINT_WEIGHTS = (10.0, 1.0, 0.1)
"""Weights of the concepts in the joint loss; the smaller, the freer are the concepts to carry something else."""
SIDE_UNITS = 4
"""Numbers that the side channel passes beside the concepts."""
ORDERS = 20
"""Random orders in which concepts are corrected."""
_HIDDEN, _STEPS, _DECAY = 16, 100, 0.003


class Labelled(NamedTuple):
    """Images of one part.

    Attributes:
        x: (n, d) features.
        c: (n, q) concepts: standardised numbers, or 0 and 1.
        y: (n,) bool, the decision.
    """

    x: np.ndarray
    c: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Bottleneck:
    """A fitted bottleneck.

    Attributes:
        binary: (q,) which concepts are 0 and 1: their estimates are probabilities.
        to_concepts: features -> q numbers; those of binary concepts are logits.
        to_side: features -> numbers of the side channel, or None.
        decide: concepts and side channel -> logit of the decision.
    """

    binary: np.ndarray
    to_concepts: nn.Module
    to_side: nn.Module | None
    decide: nn.Module

    def estimate(self, x: np.ndarray) -> np.ndarray:
        """Estimated concepts (n, q) of features (n, d)."""
        with torch.no_grad():
            return _estimates(self.to_concepts(torch.as_tensor(x)), self.binary).numpy()

    def decision(self, x: np.ndarray, c: np.ndarray) -> np.ndarray:
        """The decision (n,) from concepts (n, q), be they estimated or corrected; features feed the side channel."""
        with torch.no_grad():
            side = None if self.to_side is None else self.to_side(torch.as_tensor(x))
            return _logit(self.decide, torch.as_tensor(c), side).numpy() > 0


def fit_independent(data: Labelled, seed: int) -> Bottleneck:
    """Concepts from images, and the decision from the true concepts, each fitted alone."""
    return _fit(data, seed, lambda parts: [_concept_loss(parts, data), _decision_loss(parts, data, true=True)])


def fit_sequential(data: Labelled, seed: int) -> Bottleneck:
    """Concepts from images first, then the decision from their estimates."""
    return _fit(data, seed, lambda parts: [_concept_loss(parts, data), _decision_loss(parts, data, detached=True)])


def fit_joint(data: Labelled, seed: int, weight: float, side: int = 0) -> Bottleneck:
    """Both at once: loss of the decision + weight · mean loss of the concepts, with a side channel of `side` units."""

    def losses(parts: Bottleneck) -> list[Callable[[], Tensor]]:
        decided, concepts = _decision_loss(parts, data), _concept_loss(parts, data)
        return [lambda: decided() + weight * concepts()]

    return _fit(data, seed, losses, side)


def fit_black_box(data: Labelled, seed: int) -> nn.Module:
    """The decision from features, with no concepts between: a small network of the same kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "black box"))
        net = _small(data.x.shape[1])
    x, y = torch.as_tensor(data.x), torch.as_tensor(data.y, dtype=torch.float64)
    _descend(list(net.parameters()), lambda: nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], y))
    return net


def _fit(
    data: Labelled, seed: int, losses: Callable[[Bottleneck], list[Callable[[], Tensor]]], side: int = 0
) -> Bottleneck:
    """A bottleneck whose losses are made small one after the other."""
    if len(set(data.y.tolist())) < 2:
        raise ValueError("bottleneck: found one decision for all images, expected both; ask for more images")
    d, q = data.x.shape[1], data.c.shape[1]
    binary = np.array([set(np.unique(values)) <= {0.0, 1.0} for values in data.c.T])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "bottleneck"))
        to_side = nn.Linear(d, side).double() if side else None
        parts = Bottleneck(binary, nn.Linear(d, q).double(), to_side, _small(q + side))
    nets = [net for net in (parts.to_concepts, parts.to_side, parts.decide) if net is not None]
    for loss in losses(parts):
        _descend([p for net in nets for p in net.parameters()], loss)
    return parts


def _small(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1)).double()


def _descend(parameters: Sequence[nn.Parameter], loss: Callable[[], Tensor]) -> None:
    """Make a loss over all images small, with a penalty on the weights that it depends on."""
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    reached = [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]

    def value_and_gradient(vector: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.from_numpy(vector), reached)
        value = loss() + _DECAY * torch.stack([(p**2).sum() for p in reached if p.ndim > 1]).sum()
        return value.item(), parameters_to_vector(torch.autograd.grad(value, reached)).numpy()

    start = parameters_to_vector(reached).detach().numpy()
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    vector_to_parameters(torch.from_numpy(found.x), reached)


def _estimates(raw: Tensor, binary: np.ndarray) -> Tensor:
    return torch.where(torch.as_tensor(binary), raw.sigmoid(), raw)


def _logit(decide: nn.Module, c: Tensor, side: Tensor | None) -> Tensor:
    return decide(c if side is None else torch.cat([c, side], 1))[:, 0]


def _concept_loss(parts: Bottleneck, data: Labelled) -> Callable[[], Tensor]:
    x, c, binary = torch.as_tensor(data.x), torch.as_tensor(data.c), torch.as_tensor(parts.binary)

    def loss() -> Tensor:
        raw = parts.to_concepts(x)
        entropy = nn.functional.binary_cross_entropy_with_logits(raw, c.clamp(0, 1), reduction="none")
        return torch.where(binary, entropy, (raw - c) ** 2).mean()

    return loss


def _decision_loss(
    parts: Bottleneck, data: Labelled, *, true: bool = False, detached: bool = False
) -> Callable[[], Tensor]:
    x, c, y = torch.as_tensor(data.x), torch.as_tensor(data.c), torch.as_tensor(data.y, dtype=torch.float64)

    def loss() -> Tensor:
        estimated = c if true else _estimates(parts.to_concepts(x), parts.binary)
        side = None if parts.to_side is None else parts.to_side(x)
        logit = _logit(parts.decide, estimated.detach() if detached else estimated, side)
        return nn.functional.binary_cross_entropy_with_logits(logit, y)

    return loss


def corrected(estimated: np.ndarray, true: np.ndarray, which: Sequence[int]) -> np.ndarray:
    """Concepts (n, q) of which those of `which` were set right by a person who knows them."""
    made = estimated.copy()
    made[:, list(which)] = true[:, list(which)]
    return made


def greedy_order(bottleneck: Bottleneck, data: Labelled) -> list[int]:
    """Concepts in the order in which correcting them helps most, one after the other, on the images given."""
    order: list[int] = []
    estimated = bottleneck.estimate(data.x)
    for _ in range(data.c.shape[1]):

        def accuracy(concept: int) -> float:
            made = corrected(estimated, data.c, [*order, concept])
            return float(np.mean(bottleneck.decision(data.x, made) == data.y))

        order.append(max((concept for concept in range(data.c.shape[1]) if concept not in order), key=accuracy))
    return order


def intervention_curve(
    bottleneck: Bottleneck, train: Labelled, test: Labelled, patients: np.ndarray, seed: int
) -> pd.DataFrame:
    """Accuracy on test images against the number of concepts corrected, in random orders and in a greedy one.

    Args:
        bottleneck: fitted on `train`.
        train: chooses the greedy order.
        test: scored.
        patients: (n,) of the test images.
        seed: of the random orders.

    Returns:
        A row for each order ("random": the mean over `ORDERS`, "greedy") and number: order, corrected, accuracy,
        ci_low, ci_high.
    """
    q, estimated = test.c.shape[1], bottleneck.estimate(test.x)
    rng = np.random.default_rng(stream_seed(seed, "orders of correction"))
    orders: dict[str, list[list[int]]] = {
        "random": [rng.permutation(q).tolist() for _ in range(ORDERS)],
        "greedy": [greedy_order(bottleneck, train)],
    }
    rows = []
    for name, chosen in orders.items():
        for number in range(q + 1):
            sets = [frozenset(order[:number]) for order in chosen]
            right = {
                which: bottleneck.decision(test.x, corrected(estimated, test.c, sorted(which))) == test.y
                for which in set(sets)
            }
            rows.append({"order": name, "corrected": number} | _accuracy([right[which] for which in sets], patients))
    return pd.DataFrame(rows)


def _accuracy(right: Sequence[np.ndarray], patients: np.ndarray) -> dict[str, float]:
    of_images = np.mean(right, axis=0)
    low, high = interval(of_images, patients, bounds=(0, 1))
    return {"accuracy": float(of_images.mean()), "ci_low": low, "ci_high": high}


def bottleneck_scores(
    train: Labelled, test: Labelled, patients: np.ndarray, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All bottlenecks on one set of concepts, and what leaks past them.

    Args:
        train: images that all are fitted to.
        test: images of other patients.
        patients: (n,) of the test images.
        seed: of initial weights and orders.

    Returns:
        Scores, a row for each of: majority, black box, true concepts (decision from the true concepts), independent,
        sequential, joint (for each weight), side channel (joint with the largest weight): joint_weight, accuracy,
        ci_low, ci_high, concept_r_squared (mean share of the concepts' variance that estimates explain), over_true
        (accuracy less that of the true concepts: above 0 something leaks), all_corrected, deleted (accuracy where all
        estimates are replaced by their mean over the training images: what is above the majority goes past the
        concepts). And curves, as `intervention_curve`, of all bottlenecks.
    """
    black = fit_black_box(train, seed)
    with torch.no_grad():
        direct = black(torch.as_tensor(test.x))[:, 0].numpy() > 0
    independent = fit_independent(train, seed)
    most = np.full(len(test.y), train.y.mean() > 0.5)
    of_true = independent.decision(test.x, test.c) == test.y
    rows = [
        {"bottleneck": name, **_accuracy([right], patients)}
        for name, right in (
            ("majority", most == test.y),
            ("black box", direct == test.y),
            ("true concepts", of_true),
        )
    ]
    fitted: list[tuple[str, float, Bottleneck]] = [
        ("independent", np.nan, independent),
        ("sequential", np.nan, fit_sequential(train, seed)),
        *(("joint", weight, fit_joint(train, seed, weight)) for weight in JOINT_WEIGHTS),
        ("side channel", JOINT_WEIGHTS[0], fit_joint(train, seed, JOINT_WEIGHTS[0], SIDE_UNITS)),
    ]
    curves = []
    for name, weight, made in fitted:
        estimated = made.estimate(test.x)
        deleted = np.broadcast_to(made.estimate(train.x).mean(0), estimated.shape).copy()
        left = np.square(estimated - test.c).mean(0) / np.square(test.c - test.c.mean(0)).mean(0)
        own = _accuracy([made.decision(test.x, estimated) == test.y], patients)
        rows.append(
            {"bottleneck": name, "joint_weight": weight, **own, "concept_r_squared": float(1 - left.mean()),
             "over_true": own["accuracy"] - float(of_true.mean()),
             "all_corrected": float(np.mean(made.decision(test.x, test.c) == test.y)),
             "deleted": float(np.mean(made.decision(test.x, deleted) == test.y))}
        )  # fmt: skip
        curve = intervention_curve(made, train, test, patients, seed)
        curves.append(pd.DataFrame({"bottleneck": name, "joint_weight": weight, **dict(curve.items())}))
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)


def concept_values(table: pd.DataFrame, concepts: Sequence[str]) -> np.ndarray:
    """Concepts (n, q) of designed images: numbers standardised by the training part, classes as 0 and 1.

    Raises:
        ValueError: a concept that does not vary over the training images.
    """
    train, columns = (table["part"] == "train").to_numpy(), []
    for name in concepts:
        if pd.api.types.is_numeric_dtype(table[name]):
            values = table[name].to_numpy(float)
            if not np.ptp(values[train]) > 0:
                raise ValueError(
                    f"bottleneck: found one value of {name} in all training images, expected one that varies"
                )
            columns.append((values - values[train].mean()) / values[train].std())
        else:
            kinds = sorted(set(table[name]))
            columns += [(table[name] == kind).to_numpy(float) for kind in (kinds if len(kinds) > 2 else kinds[1:])]
    return np.stack(columns, 1)


def of_designed(
    features: np.ndarray, table: pd.DataFrame, sets: Mapping[str, Sequence[str]], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`bottleneck_scores` of which designed images are acceptable, for each set of concepts.

    Args:
        features: (n, d) of a network whose weights stay as they are.
        table: rows of the designed images: part, patient, acceptable and the concepts.
        sets: name -> columns that are its concepts.
        seed: of initial weights and orders.

    Returns:
        Scores and curves, with a first column `concepts`, the name of the set.
    """
    rows = {part: np.flatnonzero(table["part"] == part) for part in ("train", "test")}
    x = np.asarray(features, np.float64)
    sd = x[rows["train"]].std(0)
    x = ((x - x[rows["train"]].mean(0)) / np.where(sd > 0, sd, 1))[:, sd > 0]
    patients, y = table["patient"].to_numpy(), table["acceptable"].to_numpy(bool)
    scores: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    for name, columns in sets.items():
        c = concept_values(table, columns)
        train, test = (Labelled(x[at], c[at], y[at]) for at in (rows["train"], rows["test"]))
        for made, kept in zip(
            bottleneck_scores(train, test, patients[rows["test"]], seed), (scores, curves), strict=True
        ):
            kept.append(pd.DataFrame({"concepts": name, **dict(made.items())}))
    return pd.concat(scores, ignore_index=True), pd.concat(curves, ignore_index=True)
