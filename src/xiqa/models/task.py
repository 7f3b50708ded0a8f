"""What a network learns: the class of an image, or numbers. All that depends on it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from xiqa.datasets.base import classes_of, targets_of

LARGEST_LOG_VARIANCE = 10.0
"""Bound on ± the logarithm of a predicted variance, in standard deviations of the target: e^10 and more say nothing."""


ENSEMBLE = "ensemble"
"""What tables call the members of an ensemble together."""


class Task(Protocol):
    """What the outputs of a network mean."""

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for an image."""

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """What is learnt of each row of a prepared table."""

    def weights(self, truth: np.ndarray, balanced: bool) -> np.ndarray:
        """What the loss needs to know of the training images' truth."""

    def loss(self, output: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Loss of a batch: output (n, outputs), truth (n,) or (n, t)."""

    def scores(self, output: Tensor, truth: Tensor, weights: Tensor) -> dict[str, float]:
        """Row of the history of one part: loss first."""

    def rank(self, row: dict[str, float]) -> tuple[float, ...]:
        """Larger is better: by it the epoch is chosen, from the scores of the validation images."""

    def predictions(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """Columns (n,) of the table of predictions."""


@dataclass(frozen=True)
class Classification:
    """The class of an image.

    Attributes:
        classes: names in the order of their labels.
        one_output: one logit, of the second of two classes, instead of one per class.
    """

    classes: tuple[str, ...]
    one_output: bool = False

    @property
    def outputs(self) -> int:
        """One logit per class, or a single one."""
        return 1 if self.one_output else len(self.classes)

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """Labels (n,)."""
        return table["label"].to_numpy()

    def weights(self, truth: np.ndarray, balanced: bool) -> np.ndarray:
        """Weight of each class (k,)."""
        return class_weights(truth, len(self.classes)) if balanced else np.ones(len(self.classes))

    def loss(self, output: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Mean over images of their class weight times their cross-entropy; see `weighted_loss`."""
        return weighted_loss(output, truth, weights)

    @torch.no_grad()
    def scores(self, output: Tensor, truth: Tensor, weights: Tensor) -> dict[str, float]:
        """Loss, accuracy, and the mean of the accuracies of the classes that occur."""
        predicted = (output[:, 0] > 0).to(truth) if output.shape[1] == 1 else output.argmax(1)
        right = (predicted == truth).double()
        recalls = [right[truth == label].mean() for label in truth.unique()]
        return {
            "loss": self.loss(output, truth, weights).item(),
            "accuracy": right.mean().item(),
            "balanced_accuracy": torch.stack(recalls).mean().item(),
        }

    def rank(self, row: dict[str, float]) -> tuple[float, ...]:
        """Balanced accuracy, because plain accuracy prefers the frequent class; on even classes both are the same (Özer
        takes accuracy). Small validation parts tie often: the lower loss decides, which sees how sure the network is.
        """
        return row["validation_balanced_accuracy"], -row["validation_loss"]

    def predictions(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """Probability of each class."""
        return {f"probability_{label}": column for label, column in enumerate(probabilities(output).T)}


@dataclass(frozen=True)
class Regression:
    """Numbers, each with a learned variance: the first half of the outputs are means, the second log variances.

    The network works on standardised targets, (value - mean) / sd of the training images.

    Attributes:
        targets: columns of the prepared table.
        mean: mean of each over the training images.
        sd: standard deviation of each over the training images.
        units: unit of each, as figures print it; "" where nobody has said.

    Reference: Nix and Weigend, ICNN 1994 (learned variance); Lakshminarayanan et al. 2017.
    """

    targets: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    units: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """A mean and a log variance for each target."""
        return 2 * len(self.targets)

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """Standardised targets (n, t) float32."""
        return ((table[list(self.targets)].to_numpy() - self.mean) / self.sd).astype(np.float32)

    def weights(self, truth: np.ndarray, balanced: bool) -> np.ndarray:
        """Each target counts the same."""
        return np.ones(len(self.targets))

    def loss(self, output: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Mean negative log likelihood of a normal distribution over images and targets, without its constant."""
        mean, log_variance = self._halves(output)
        return 0.5 * (log_variance + (truth - mean) ** 2 * torch.exp(-log_variance)).mean()

    @torch.no_grad()
    def scores(self, output: Tensor, truth: Tensor, weights: Tensor) -> dict[str, float]:
        """Loss, and root mean square error in standard deviations of the training targets."""
        error = output[:, : len(self.targets)].double() - truth
        return {"loss": self.loss(output, truth, weights).item(), "rmse_over_sd": error.square().mean().sqrt().item()}

    def rank(self, row: dict[str, float]) -> tuple[float, ...]:
        """The lower validation loss, which sees the error and the variance that is stated for it."""
        return (-row["validation_loss"],)

    def predictions(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """`predicted_*` and `aleatoric_*` (standard deviation) of each target, in its unit."""
        mean, log_variance = self._halves(torch.from_numpy(np.asarray(output, np.float64)))
        found = {}
        for number, target in enumerate(self.targets):
            found[f"predicted_{target}"] = self.mean[number] + self.sd[number] * mean[:, number].numpy()
            found[f"aleatoric_{target}"] = self.sd[number] * torch.exp(log_variance[:, number] / 2).numpy()
        return found

    def readout(self, target: str, lower: bool) -> Tensor:
        """Weights (outputs,) of the scalar that a map explains: one mean output or the mean of all, or its negative.

        Args:
            target: one of `targets` with or without its `target_`, or "mean".
            lower: explain what speaks for a lower value.

        Raises:
            ValueError: there is no such target.

        Reference: Amanova et al. 2022, section 3.1: the midpoint of the curve, towards lower.
        """
        names = {"mean": list(range(len(self.targets)))}
        for number, name in enumerate(self.targets):
            names |= {name: [number], name.removeprefix("target_"): [number]}
        if target not in names:
            raise ValueError(f"explain.target: found '{target}', expected mean or one of {', '.join(self.targets)}")
        weights = torch.zeros(self.outputs)
        weights[names[target]] = (-1.0 if lower else 1.0) / len(names[target])
        return weights

    def _halves(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances (n, t); the latter are bounded softly, so that no gradient vanishes at once."""
        mean, raw = output.tensor_split(2, dim=1)
        return mean, LARGEST_LOG_VARIANCE * torch.tanh(raw / LARGEST_LOG_VARIANCE)


def task_of(table: pd.DataFrame, train_rows: np.ndarray, *, one_output: bool, units: dict[str, str]) -> Task:
    """The task of a prepared set: a regression if it has targets, else the classification of its labels.

    Args:
        table: prepared table.
        train_rows: indices of the training images, which standardise targets.
        one_output: for a classification, see `Classification`.
        units: unit of each target, its name with or without `target_`.

    Raises:
        ValueError: the training images have the same target, or a unit is of no target.
    """
    targets = targets_of(table)
    if not targets:
        return Classification(tuple(classes_of(table)), one_output)
    known = {name for target in targets for name in (target, target.removeprefix("target_"))}
    if stray := sorted(set(units) - known):
        raise ValueError(f"target_units: found {stray}, expected units of {', '.join(targets)}")
    values = table[targets].to_numpy()[train_rows]
    if not (values.std(0) > 0).all():
        raise ValueError(f"targets: found the same value in all {len(values)} training images; change the split")
    named = tuple(units.get(target, units.get(target.removeprefix("target_"), "")) for target in targets)
    return Regression(tuple(targets), tuple(values.mean(0).tolist()), tuple(values.std(0).tolist()), named)


def as_json(task: Task) -> dict[str, Any]:
    """A task as plain values for model.json."""
    return {"task": type(task).__name__.lower()} | asdict(task)  # type: ignore[call-overload]


def from_json(model: dict[str, Any]) -> Task:
    """The task that a model.json describes."""
    kind: Any = KINDS[model["task"]]
    values = {field.name: model[field.name] for field in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


KINDS: dict[str, type[Classification] | type[Regression]] = {
    "classification": Classification,
    "regression": Regression,
}


def class_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weight of each class: n / (classes × n of the class), so that their mean over the images is 1.

    Args:
        labels: (n,) labels of the training images.
        n_classes: number of classes.

    Returns:
        (n_classes,) float64.

    Raises:
        ValueError: a class has no training image.
    """
    counts = np.bincount(labels, minlength=n_classes)
    if not counts.all():
        raise ValueError(
            f"labels: found no training image of class {np.flatnonzero(counts == 0).tolist()}, expected some of each; "
            "change the split, or take the class out"
        )
    return len(labels) / (n_classes * counts)


def weighted_loss(output: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Mean over images of their class weight times their cross-entropy.

    Divided by the number of images, not by the sum of their weights: a rare class then counts as much in a batch
    without others as in any.

    Args:
        output: (n, k) logits, or (n, 1) for the second of two classes.
        y: (n,) labels.
        weights: (k,) or (2,), see `class_weights`.
    """
    if output.shape[1] == 1:
        entropy = F.binary_cross_entropy_with_logits(output[:, 0], y.to(output.dtype), reduction="none")
    else:
        entropy = F.cross_entropy(output, y, reduction="none")
    return (weights[y] * entropy).mean()


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Logits (m, k), or (m, 1) for the second of two classes -> probabilities (m, k) or (m, 2), float64."""
    scores = np.asarray(scores, np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], 1)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def combined(members: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The predictions of a deep ensemble from those of its members, for the same images in the same order.

    Of classes the mean probability, `total_entropy` of it, `aleatoric_entropy` (mean of the members') and
    `epistemic_entropy` (their difference, the mutual information of class and member), in nats; of each target the
    mean, `aleatoric_*` (root of the mean variance) and `epistemic_*` (standard deviation of the members' means,
    population form).

    Raises:
        ValueError: the members predict different images.

    Reference: Lakshminarayanan et al. 2017, section 2.4; Depeweg et al. 2018, section 3 (entropies).
    """
    first = members[0]
    if any(not other["image"].equals(first["image"]) for other in members):
        raise ValueError("ensemble: found members that predict different images, expected the same; predict again")

    def stacked(column: str) -> np.ndarray:
        return np.stack([member[column].to_numpy(float) for member in members])

    found = {}
    for column in first:
        if column.startswith("probability_"):
            found[column] = stacked(column).mean(0)
        elif column.startswith("predicted_"):
            target = column.removeprefix("predicted_")
            found[column] = stacked(column).mean(0)
            found[f"aleatoric_{target}"] = np.sqrt((stacked(f"aleatoric_{target}") ** 2).mean(0))
            found[f"epistemic_{target}"] = stacked(column).std(0)
    classes = [column for column in found if column.startswith("probability_")]
    if classes:
        of_members = np.stack([member[classes].to_numpy(float) for member in members])
        total, aleatoric = entropy(of_members.mean(0)), entropy(of_members).mean(0)
        found |= {"total_entropy": total, "aleatoric_entropy": aleatoric, "epistemic_entropy": total - aleatoric}
    return first.assign(**found)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy (..., ) in nats of probabilities (..., k)."""
    return -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(-1)
