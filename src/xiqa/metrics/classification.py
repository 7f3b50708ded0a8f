"""Scores of a classifier's predictions, with intervals over patients: accuracy, AUC, ROC, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from xiqa.metrics.statistics import FEWEST_PATIENTS, TOO_FEW, interval
from xiqa.seeds import stream_seed

BINS = 15
"""Bins of equal width over 0 to 1 of the top probability, for the expected calibration error."""

FPR_GRID = np.linspace(0, 1, 101)
"""False-positive rates at which the band of a ROC curve is given."""

RARE_CLASS = f"{TOO_FEW} of a class: fewer than {FEWEST_PATIENTS}"
BIASED = "no interval: chance adds to it; compare ece_if_calibrated"


class Checked(NamedTuple):
    """A table of predictions, checked: labels (n,), probabilities (n, k), and patients (n,) numbered from 0."""

    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray


def check_predictions(predictions: pd.DataFrame, classes: Sequence[str]) -> Checked:
    """Check a table of predictions.

    Args:
        predictions: one row per image of one part: image, patient, label (0 to k - 1), probability_0 to
            probability_{k-1} and, where there is one, part.
        classes: k >= 2 names in the order of the labels.

    Raises:
        ValueError: the table has no rows, lacks a column, mixes parts, has an image twice, a probability that is NaN,
            outside 0 to 1 or does not add to 1, an unknown label, or no patient; the image is named.
    """
    k = len(classes)
    columns = [f"probability_{number}" for number in range(k)]
    missing = {"image", "patient", "label", *columns} - set(predictions)
    if k < 2 or missing or predictions.empty:
        raise ValueError(
            f"predictions: found {len(predictions)} rows, {k} classes, columns missing: {sorted(missing)}; expected "
            "rows, at least two classes, and one probability for each"
        )
    if "part" in predictions and predictions["part"].nunique() > 1:
        parts = sorted(map(str, predictions["part"].unique()))
        raise ValueError(f"predictions: found the parts {parts}, expected one; scores that pool parts mean nothing")
    probabilities = predictions[columns].to_numpy(float)
    labels = predictions["label"].to_numpy(float)
    with np.errstate(invalid="ignore"):
        faults = {
            "probabilities that are NaN or outside 0 to 1": ~((probabilities >= 0) & (probabilities <= 1)).all(1),
            "probabilities that do not add to 1": ~(np.abs(probabilities.sum(1) - 1) <= 1e-3),
            f"a label that is none of 0 to {k - 1}": ~np.isin(labels, range(k)),
            "no patient": predictions["patient"].isna().to_numpy(),
            "a second row": predictions["image"].duplicated().to_numpy(),
        }
    for fault, rows in faults.items():
        if rows.any():
            image = predictions["image"].iloc[int(np.argmax(rows))]
            raise ValueError(
                f"predictions: image '{image}' has {fault} ({rows.sum()} images in all); predict the images again"
            )
    return Checked(labels.astype(int), probabilities, pd.factorize(predictions["patient"])[0])


def scores(predictions: pd.DataFrame, classes: Sequence[str], *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """All scores of one part, in long form.

    - accuracy, balanced_accuracy (mean recall of the classes), of the class with the highest probability.
    - auc: two classes: area under the ROC curve of the second; more: mean over classes of each against the rest, with
      one more row for each class. Ties count half.
    - ece: expected calibration error, 15 bins of equal width of the top probability. It cannot be negative, so it is
      above 0 for perfect probabilities too: ece_if_calibrated is what chance gives for these. It has no interval.
    - brier: half the squared distance of the probabilities from the truth, 0 to 1; the usual one for two classes.

    Args:
        predictions: see `check_predictions`.
        classes: names in the order of the labels.
        draws: random weights of patients.
        seed: seed of the weights.

    Returns:
        metric, class_name (empty where it is of all classes), value, ci_low and ci_high (95 % over patients: accuracy
        and Brier score by `xiqa.metrics.statistics.interval`, the others by `drawn`), n_images, n_patients, reason
        (why a value or its interval is NaN).

    Raises:
        ValueError: see `check_predictions`.

    Reference: Guo et al., ICML 2017, equation 3 (ECE); Brier, Mon. Weather Rev. 78 (1950) 1; Hand and Till, Machine
    Learning 45 (2001) 171, section 1 (AUC as an estimate of the order of two images).
    """
    checked = check_predictions(predictions, classes)
    labels, probabilities, patients = checked
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    # Column b holds, for the images of bin b, how far they were right beyond what was promised.
    surplus = np.eye(BINS)[_bins(confidence)] * (correct - confidence)[:, None]
    loss = ((probabilities - np.eye(len(classes))[labels]) ** 2).sum(1) / 2
    ranked = [("balanced_accuracy", ""), ("auc", "")]
    ranked += [("auc", classes[c]) for c in one_against_rest(classes) if len(classes) > 2]
    values = _ranked(labels, probabilities, np.ones((1, len(labels))))[0]
    ends = [
        np.quantile(_ranked(*drawn(checked, best=best, draws=draws, seed=seed)), end, axis=0).clip(0, 1)
        for best, end in ((False, 0.025), (True, 0.975))
    ]
    few = (patients_of_class(checked) < FEWEST_PATIENTS).any()
    rows = [("accuracy", "", correct.mean(), *interval(correct, patients, bounds=(0, 1)))]
    rows += [
        (*name, value, *((np.nan, np.nan) if few or np.isnan(value) else (low, high)))
        for name, value, low, high in zip(ranked, values, *ends, strict=True)
    ]
    rows += [("ece", "", np.abs(surplus.sum(0)).sum() / len(labels), np.nan, np.nan)]
    rows += [("brier", "", loss.mean(), *interval(loss, patients, bounds=(0, 1)))]
    rows += [("ece_if_calibrated", "", _chance_ece(confidence), np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["metric", "class_name", "value", "ci_low", "ci_high"])
    number = int(patients.max()) + 1
    reasons = {"ece": BIASED, "ece_if_calibrated": ""}
    table["reason"] = [
        _absent(labels, classes, [row.class_name] if row.class_name else classes) if np.isnan(row.value)
        else "" if not np.isnan(row.ci_low)
        else reasons.get(row.metric, TOO_FEW if number < FEWEST_PATIENTS else RARE_CLASS)
        for row in table.itertuples()
    ]  # fmt: skip
    order = ["metric", "class_name", "value", "ci_low", "ci_high", "n_images", "n_patients", "reason"]
    return table.assign(n_images=len(labels), n_patients=number)[order]


def _ranked(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Balanced accuracy, AUC over classes and, of more than two, of each class: (m, s) from weights (m, n)."""
    k = probabilities.shape[1]
    truth, correct = np.eye(k)[labels], probabilities.argmax(1) == labels
    with np.errstate(invalid="ignore"):
        recall = (weights @ (truth * correct[:, None])) / (weights @ truth)
    aucs = np.stack([weighted_auc(probabilities[:, c], labels == c, weights) for c in one_against_rest(range(k))], 1)
    columns = [recall.mean(1), aucs.mean(1), *(aucs.T if k > 2 else ())]
    return np.stack(columns, axis=1)


def auc_by_severity(
    predictions: pd.DataFrame, classes: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """AUC at each severity of the defect: the dose-response of the network.

    Args:
        predictions: the dose-response part (see `check_predictions`), with the column `severity`: the level that an
            image was made for, images without defect included; rows without a severity belong to no level.
        classes: names in the order of the labels.
        draws: random weights of patients.
        seed: seed of the weights.

    Returns:
        severity (rising), value (AUC, mean over classes as in `scores`), ci_low, ci_high, n_images, n_patients,
        reason; empty where no row has a severity.
    """
    columns = ["severity", "value", "ci_low", "ci_high", "n_images", "n_patients", "reason"]
    check_predictions(predictions, classes)
    rows = []
    for severity, part in predictions.groupby("severity", sort=True):
        table = scores(part, classes, draws=draws, seed=seed)
        overall = table[(table["metric"] == "auc") & (table["class_name"] == "")]
        rows.append(overall.assign(severity=severity)[columns])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Confusion matrix in long form: truth, predicted, n (images), share (of the row's images; NaN without any)."""
    labels, probabilities, _ = check_predictions(predictions, classes)
    k = len(classes)
    counts = np.bincount(labels * k + probabilities.argmax(1), minlength=k * k)
    table = pd.DataFrame({"truth": np.repeat(list(classes), k), "predicted": list(classes) * k, "n": counts})
    return table.assign(share=table["n"] / table.groupby("truth")["n"].transform("sum"))


def roc_curve_table(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Every corner of the ROC curves: class_name, threshold, fpr, tpr.

    An image is called positive if its probability is at least the threshold; the first is infinite. Two classes give
    the curve of the second, more give each against the rest; a class that is absent, or alone, has no rows.
    """
    labels, probabilities, _ = check_predictions(predictions, classes)
    curves = [pd.DataFrame(columns=["class_name", "threshold", "fpr", "tpr"])]
    for c in one_against_rest(classes):
        if 0 < (labels == c).sum() < len(labels):
            fpr, tpr, threshold = roc_curve(labels == c, probabilities[:, c], drop_intermediate=False)
            curves.append(pd.DataFrame({"class_name": classes[c], "threshold": threshold, "fpr": fpr, "tpr": tpr}))
    return pd.concat(curves[1:] or curves, ignore_index=True)


def roc_band(predictions: pd.DataFrame, classes: Sequence[str], *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Band of the ROC curves, vertical at each false-positive rate (not simultaneous); see `drawn`.

    Args:
        predictions: see `check_predictions`.
        classes: names in the order of the labels; curves as in `roc_curve_table`.
        draws: random weights of patients.
        seed: seed of the weights.

    Returns:
        class_name, fpr (0, 0.01, ... 1), tpr_mean over weights of the patients alone, tpr_low, tpr_high (95 %; NaN
        where a class has fewer than six patients).

    Reference: Fawcett, Pattern Recognition Letters 27 (2006) 861, section 9.1 (vertical averaging).
    """
    checked = check_predictions(predictions, classes)
    few = (patients_of_class(checked) < FEWEST_PATIENTS).any()
    worst, best = (drawn(checked, best=better, draws=draws, seed=seed) for better in (False, True))
    n = len(checked.labels)
    bands = [pd.DataFrame(columns=["class_name", "fpr", "tpr_mean", "tpr_low", "tpr_high"])]
    for c in one_against_rest(classes):
        if not 0 < (checked.labels == c).sum() < n:
            continue
        alone = _tpr_on_grid(checked.probabilities[:, c], checked.labels == c, worst.weights[:, :n])
        low, high = (
            np.quantile(_tpr_on_grid(part.probabilities[:, c], part.labels == c, part.weights), end, axis=0)
            for part, end in ((worst, 0.025), (best, 0.975))
        )
        known = {"tpr_mean": alone.mean(0), "tpr_low": low, "tpr_high": high}
        known = {name: np.full(len(FPR_GRID), np.nan) for name in known} if few else known
        bands.append(pd.DataFrame({"class_name": classes[c], "fpr": FPR_GRID} | known))
    return pd.concat(bands[1:] or bands, ignore_index=True)


def calibration_bins(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The reliability diagram behind the expected calibration error: the bins that hold images.

    Returns:
        low and high end of the bin, n_images, confidence (mean top probability), accuracy and its 95 % interval over
        patients, ci_low and ci_high (NaN where fewer than six patients have an image in the bin).
    """
    labels, probabilities, patients = check_predictions(predictions, classes)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    number, place = np.unique(_bins(confidence), return_inverse=True)
    rows = []
    for bin_number, inside in zip(number, np.eye(len(number), dtype=bool)[place].T, strict=True):
        ends = interval(correct[inside], patients[inside], bounds=(0, 1))
        low, high = bin_number / BINS, (bin_number + 1) / BINS
        rows.append((low, high, int(inside.sum()), confidence[inside].mean(), correct[inside].mean(), *ends))
    columns = ["low", "high", "n_images", "confidence", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def weighted_auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of weighted images: the Mann-Whitney statistic, ties counting half.

    Args:
        score: (n,) larger for what is more likely positive.
        positive: (n,) bool.
        weights: (m, n), each row how often every image was drawn.

    Returns:
        (m,), exact for whole weights; NaN where all weight lies on one class.
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    weights = weights[:, order]
    up = np.add.reduceat(weights * positive[order], starts, axis=1)
    down = np.add.reduceat(weights * ~positive[order], starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    with np.errstate(invalid="ignore"):
        return (up * below).sum(1) / (up.sum(1) * down.sum(1))


class Drawn(NamedTuple):
    """Images with one more of each class at their end, (n + k,), and weights of all of them, (draws, n + k)."""

    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray


def drawn(checked: Checked, *, best: bool, draws: int = 2000, seed: int = 0) -> Drawn:
    """Random weights of patients, within each class, with one more patient of each class answered as well or as badly
    as can be.

    A statistic that rises with every right answer lies below its 97.5 % quantile over the weights with the best more,
    and above its 2.5 % quantile with the worst more, at least as often as it says: of a share of hits these are the
    exact limits of Clopper and Pearson, of a mean Gaffke's; for the AUC coverage is shown by simulation.

    Args:
        checked: labels, probabilities and patients.
        best: whether the images more are answered as well or as badly as can be.
        draws: weights.
        seed: seed of the weights.

    Reference: Gaffke, Math. Methods Statist. 14 (2005) 451.
    """
    k = checked.probabilities.shape[1]
    right = np.where(np.eye(k, dtype=bool), 2.0, -1.0)
    weights = np.zeros((draws, len(checked.labels) + k))
    for c in range(k):
        of_class = np.flatnonzero(checked.labels == c)
        codes, names = pd.factorize(checked.patients[of_class])
        if len(names):
            rng = np.random.default_rng(stream_seed(seed, "weights of patients", c))
            of_patients = rng.dirichlet(np.ones(len(names) + 1), draws)
            weights[:, of_class] = of_patients[:, codes]
            weights[:, len(checked.labels) + c] = of_patients[:, -1] * len(of_class) / len(names)
    labels = np.concatenate([checked.labels, np.arange(k)])
    return Drawn(labels, np.concatenate([checked.probabilities, right if best else 1 - right]), weights)


def patients_of_class(checked: Checked) -> np.ndarray:
    """Number of patients with an image of each class, (k,)."""
    k = checked.probabilities.shape[1]
    return np.array([len(np.unique(checked.patients[checked.labels == c])) for c in range(k)])


def one_against_rest(classes: Sequence) -> list[int]:
    """The classes that have a ROC curve: the second of two, all of more."""
    return [1] if len(classes) == 2 else list(range(len(classes)))


def _absent(labels: np.ndarray, classes: Sequence[str], needed: Sequence[str]) -> str:
    """Say which classes make a value undefined: those that are absent, or the one that is alone."""
    gone = [name for c, name in enumerate(classes) if name in needed and c not in labels]
    return "no image of " + ", ".join(gone) if gone else f"no image but of {', '.join(needed)}"


def _bins(confidence: np.ndarray) -> np.ndarray:
    """Bin of each top probability; a bin holds its upper end, as in Guo et al."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _chance_ece(confidence: np.ndarray) -> float:
    """Mean ECE that independent images with these top probabilities have if each is right with its probability.

    The surplus of a bin is then about normal with variance Σ p (1 - p), its size on average √(2 / π) of the deviation.
    """
    variance = np.bincount(_bins(confidence), confidence * (1 - confidence), BINS)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(confidence))


def _tpr_on_grid(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """True-positive rate (m, 101) at `FPR_GRID` for each row of weights (m, n); NaN where a class has no weight."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[score[order][1:] != score[order][:-1], True])
    up = np.cumsum(weights[:, order] * positive[order], axis=1)[:, ends]
    down = np.cumsum(weights[:, order] * ~positive[order], axis=1)[:, ends]
    rates = np.full((len(weights), len(FPR_GRID)), np.nan)
    for row in np.flatnonzero((up[:, -1] > 0) & (down[:, -1] > 0)):
        # Of a vertical step np.interp takes the upper end, if rounding does not put the grid before it.
        fpr, tpr = np.r_[0, down[row] / down[row, -1]], np.r_[0, up[row] / up[row, -1]]
        rates[row] = np.interp(FPR_GRID + 1e-12, fpr, tpr)
    return rates
