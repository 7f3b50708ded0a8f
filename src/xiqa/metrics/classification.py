"""Scores of a classifier's predictions, with intervals over patients: accuracy, AUC, ROC, calibration, confusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from xiqa.seeds import stream_seed

BINS = 15
"""Bins of equal width over 0 to 1 of the top probability, for the expected calibration error."""

FPR_GRID = np.linspace(0, 1, 101)
"""False-positive rates at which the band of a ROC curve is given."""

ONE_PATIENT = "one patient: nothing to resample"
RARE_CLASS = "too few patients of a class: more than 5 % of the bootstrap draws lack it"
NO_WIDTH = "equal in all bootstrap draws: the interval has no width, yet the true value may differ"

Statistic = Callable[[np.ndarray], np.ndarray]
"""From weights (m, n) of the images to values (m, s); NaN where a value is not defined."""


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
      above 0 for perfect probabilities too: ece_if_calibrated is what chance gives for these. Resampling adds to it
      in the same way: its interval lies too high.
    - brier: half the squared distance of the probabilities from the truth, 0 to 1; the usual one for two classes.

    Args:
        predictions: see `check_predictions`.
        classes: names in the order of the labels.
        draws: bootstrap draws over patients.
        seed: seed of the bootstrap.

    Returns:
        metric, class_name (empty where it is of all classes), value, ci_low and ci_high (95 % percentile bootstrap
        over patients), n_images, n_patients, reason (why a value is NaN, or its interval NaN or without width).

    Raises:
        ValueError: see `check_predictions`.

    Reference: Guo et al., ICML 2017, equation 3 (ECE); Brier, Mon. Weather Rev. 78 (1950) 1; Hand and Till, Machine
    Learning 45 (2001) 171, section 1 (AUC as an estimate of the order of two images).
    """
    checked = check_predictions(predictions, classes)
    labels, probabilities, patients = checked
    truth = np.eye(len(classes))[labels]
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    # Column b holds, for the images of bin b, how far they were right beyond what was promised.
    surplus = np.eye(BINS)[_bins(confidence)] * (correct - confidence)[:, None]
    loss = ((probabilities - truth) ** 2).sum(1) / 2
    each = one_against_rest(classes)

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(1)
        with np.errstate(invalid="ignore"):
            recall = (weights @ (truth * correct[:, None])) / (weights @ truth)
        aucs = np.stack([weighted_auc(probabilities[:, c], labels == c, weights) for c in each], axis=1)
        columns = [weights @ correct / total, recall.mean(1), aucs.mean(1), *(aucs.T if len(each) > 1 else ())]
        columns += [np.abs(weights @ surplus).sum(1) / total, weights @ loss / total]
        return np.stack(columns, axis=1)

    names = [("accuracy", ""), ("balanced_accuracy", ""), ("auc", "")]
    names += [("auc", classes[c]) for c in each if len(each) > 1] + [("ece", ""), ("brier", "")]
    rows = pd.DataFrame(names, columns=["metric", "class_name"])
    rows = rows.assign(**patient_bootstrap(statistic, patients, draws=draws, seed=seed))
    chance = pd.DataFrame({"metric": ["ece_if_calibrated"], "class_name": "", "value": [_chance_ece(confidence)]})
    rows = pd.concat([rows, chance], ignore_index=True)
    rows["reason"] = [
        _absent(labels, classes, [class_name] if class_name else classes) if np.isnan(value) else reason
        for value, class_name, reason in zip(rows["value"], rows["class_name"], rows["reason"].fillna(""), strict=True)
    ]
    order = ["metric", "class_name", "value", "ci_low", "ci_high", "n_images", "n_patients", "reason"]
    return rows.assign(n_images=len(labels), n_patients=patients.max() + 1)[order]


def auc_by_severity(
    predictions: pd.DataFrame, classes: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """AUC at each severity of the defect: the dose-response of the network.

    Args:
        predictions: the dose-response part (see `check_predictions`), with the column `severity`: the level that an
            image was made for, images without defect included; rows without a severity belong to no level.
        classes: names in the order of the labels.
        draws: bootstrap draws over patients.
        seed: seed of the bootstrap.

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
    """Band of the ROC curves over resampled patients, vertical at each false-positive rate (not simultaneous).

    Args:
        predictions: see `check_predictions`.
        classes: names in the order of the labels; curves as in `roc_curve_table`.
        draws: bootstrap draws over patients.
        seed: seed of the bootstrap.

    Returns:
        class_name, fpr (0, 0.01, ... 1), tpr_mean over the draws, tpr_low, tpr_high (95 %; NaN where too few patients
        have the class).

    Reference: Fawcett, Pattern Recognition Letters 27 (2006) 861, section 9.1 (vertical averaging).
    """
    labels, probabilities, patients = check_predictions(predictions, classes)
    bands = [pd.DataFrame(columns=["class_name", "fpr", "tpr_mean", "tpr_low", "tpr_high"])]
    for c in one_against_rest(classes):
        positive = labels == c
        if not 0 < positive.sum() < len(labels):
            continue
        drawn = np.concatenate(
            [_tpr_on_grid(probabilities[:, c], positive, weights) for weights in patient_weights(patients, draws, seed)]
        )
        low, high = percentile_interval(drawn)
        mean = np.where(np.isnan(low), np.nan, np.mean(drawn[~np.isnan(drawn[:, 0])], axis=0))
        bands.append(
            pd.DataFrame(
                {"class_name": classes[c], "fpr": FPR_GRID, "tpr_mean": mean, "tpr_low": low, "tpr_high": high}
            )
        )
    return pd.concat(bands[1:] or bands, ignore_index=True)


def calibration_bins(
    predictions: pd.DataFrame, classes: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The reliability diagram behind the expected calibration error: the bins that hold images.

    Returns:
        low and high end of the bin, n_images, confidence (mean top probability), accuracy and its 95 % bootstrap
        interval over patients, ci_low and ci_high (NaN where more than 5 % of the draws leave the bin empty, and where
        all draws are equal: a bin without an error says nothing of its width).
    """
    labels, probabilities, patients = check_predictions(predictions, classes)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    number, place = np.unique(_bins(confidence), return_inverse=True)
    members = np.eye(len(number))[place]

    def statistic(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weights @ (members * correct[:, None])) / (weights @ members)

    intervals = patient_bootstrap(statistic, patients, draws=draws, seed=seed)
    known = intervals["reason"] == ""
    return pd.DataFrame(
        {
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "n_images": members.sum(0).astype(int),
            "confidence": confidence @ members / members.sum(0),
            "accuracy": intervals["value"],
            "ci_low": np.where(known, intervals["ci_low"], np.nan),
            "ci_high": np.where(known, intervals["ci_high"], np.nan),
        }
    )


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


def patient_weights(patients: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image was drawn when whole patients are drawn with replacement.

    Args:
        patients: (n,) numbers from 0 without a gap.
        draws: rows in all; they come in blocks, to keep memory below about 100 MB.
        seed: seed of the draws.

    Returns:
        Blocks (m, n) float64.
    """
    number = int(patients.max()) + 1
    rng = np.random.default_rng(stream_seed(seed, "bootstrap over patients"))
    block = max(1, 2_000_000 // len(patients))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        drawn = rng.integers(0, number, (rows, number)) + number * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number)
        yield counts[:, patients].astype(float)


def percentile_interval(drawn: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles of bootstrap draws (m, s), NaN where so many are undefined that they could fill both tails."""
    low, high = np.full((2, drawn.shape[1]), np.nan)
    usable = np.isnan(drawn).mean(0) <= 1 - level
    if usable.any():
        ends = [(1 - level) / 2, (1 + level) / 2]
        low[usable], high[usable] = np.nanquantile(drawn[:, usable], ends, axis=0)
    return low, high


def patient_bootstrap(
    statistic: Statistic, patients: np.ndarray, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, np.ndarray]:
    """Values and percentile intervals of statistics of weighted images, whole patients being drawn.

    Args:
        statistic: see `Statistic`.
        patients: (n,) numbers from 0 without a gap.
        draws: bootstrap draws.
        level: coverage of the intervals.
        seed: seed of the draws; equal seeds draw equal patients, so that differences are paired.

    Returns:
        value, ci_low, ci_high and reason (text, empty where there is nothing to say), each (s,).

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    value = statistic(np.ones((1, len(patients))))[0]
    if patients.max() == 0:
        nothing = np.full(len(value), np.nan)
        return {"value": value, "ci_low": nothing, "ci_high": nothing, "reason": np.full(len(value), ONE_PATIENT)}
    drawn = np.concatenate([statistic(weights) for weights in patient_weights(patients, draws, seed)])
    low, high = percentile_interval(drawn, level)
    reason = np.select([np.isnan(low), low == high], [RARE_CLASS, NO_WIDTH], "")
    low, high = (np.where(np.isnan(value), np.nan, end) for end in (low, high))
    return {"value": value, "ci_low": low, "ci_high": high, "reason": reason}


def one_against_rest(classes: Sequence[str]) -> list[int]:
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
