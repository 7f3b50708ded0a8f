"""What a classifier must beat: regressions on header fields, intensities and borders, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from xiqa.metrics.classification import (
    RARE_CLASS,
    check_predictions,
    drawn,
    one_against_rest,
    patients_of_class,
    weighted_auc,
)
from xiqa.metrics.statistics import FEWEST_PATIENTS, interval_of_estimate, jackknife, lumped
from xiqa.seeds import stream_seed

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths C of the L2 penalty that are tried."""

BORDER = 0.1
"""Width of the frame at the edge of an image that is called its border, as a share of its side."""

FOLDS = 5
MISSING = "(missing)"
SIZE_COLUMNS = ("height", "width", "spacing_row_mm", "spacing_column_mm")
"""Columns of the prepared table that a header gives under any name."""

FEATURE_SETS = {
    "header": ("header_",),
    "intensity": ("intensity_",),
    "header and intensity": ("header_", "intensity_"),
    "borders": ("border_",),
    "mask presence": ("header_has_mask",),
    "bright pixels": ("bright_",),
}
"""Name of a shortcut -> prefixes of the features that it sees; one whose features are absent is left out."""


def shortcut_features(images: np.ndarray, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """What can be known of an image without looking at its content.

    Args:
        images: (n, h, w) prepared images; a memory map is read image by image.
        table: the prepared table, one row per image in the same order: its columns header_{field} and the size and
            pixel spacing of the original are used; None: intensities alone.

    Returns:
        n rows: intensity_mean, intensity_sd, intensity_p01 to intensity_p99; the same as border_ of a frame at the
        edge, where marks and collimation are but seldom a finding; noise_sd, the standard deviation of white noise
        that differences of neighbours speak for; and header_{field}: numbers (NaN where
        missing) where every entry is one, else texts, `(missing)` for a missing one.

    Raises:
        ValueError: the table has another number of rows, or an image holds NaN.
    """
    if table is not None and len(table) != len(images):
        raise ValueError(f"table: found {len(table)} rows, expected {len(images)}, one per image in their order")
    names = ["mean", "sd", *(f"p{percentile:02d}" for percentile in PERCENTILES)]
    names = [*(f"{where}_{name}" for where in ("intensity", "border") for name in names), "noise_sd"]
    border = np.ones(images.shape[1:], bool)
    rows_px, columns_px = (max(1, round(BORDER * side_px)) for side_px in images.shape[1:])
    border[rows_px:-rows_px, columns_px:-columns_px] = False
    rows = np.empty((len(images), len(names)))
    for number, image in enumerate(images):
        image = np.asarray(image, np.float64)
        rows[number] = *_statistics(image), *_statistics(image[border]), _noise_sd(image)
    if not np.isfinite(rows).all():
        number = int(np.argmin(np.isfinite(rows).all(1)))
        raise ValueError(f"images: number {number} holds NaN or infinity, expected finite pixels; prepare it again")
    features = {
        "header_" + name.removeprefix("header_"): name
        for name in ([] if table is None else table.columns)
        if name.startswith("header_") or name in SIZE_COLUMNS
    }
    return pd.DataFrame(rows, columns=names).assign(
        **{
            feature: _numbers_or_texts(table[name].reset_index(drop=True))
            for feature, name in features.items()
            if table is not None
        }
    )


def fit_predict(
    train: pd.DataFrame,
    labels: Sequence[int],
    patients: Sequence,
    test: pd.DataFrame,
    *,
    n_classes: int,
    seed: int = 0,
) -> np.ndarray:
    """Class probabilities from a logistic regression that saw the training part alone.

    Numbers are standardised, a missing one is the median and a category of its own; texts are one category each, the
    rarest beyond twenty together. Classes weigh equally, as in the networks' training. The L2 penalty is chosen by
    cross-validation over training patients: the least log loss, every class weighing equally.

    Args:
        train: (n, features) from `shortcut_features`.
        labels: (n,) 0 to n_classes - 1.
        patients: (n,) whose image it is; never in two folds.
        test: (m, features) the same columns.
        n_classes: number of classes.
        seed: seed of the folds.

    Returns:
        (m, n_classes); a class without training images has probability 0.

    Raises:
        ValueError: the training part holds fewer than two classes.
    """
    labels, patients = np.asarray(labels), np.asarray(patients)
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(f"shortcut: found training images of {len(found)} class, expected at least two; split again")
    model = make_pipeline(encoder(train), _regression(_strength(train, labels, patients, seed))).fit(train, labels)
    probabilities = np.zeros((len(test), n_classes))
    probabilities[:, found] = model.predict_proba(test)
    return probabilities


def shortcut_predictions(
    features: pd.DataFrame, table: pd.DataFrame, *, n_classes: int, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """The predictions of every shortcut for all images outside the training part.

    Args:
        features: n rows from `shortcut_features`.
        table: n rows in the same order: image, patient, part (`train` is fitted), label, and what else shall be kept.
        n_classes: number of classes.
        seed: seed of the folds.

    Returns:
        Name of each of `FEATURE_SETS` whose features are all there -> the rows of the table outside training with
        probability_0 to probability_{k-1}.
    """
    table, features = table.reset_index(drop=True), features.reset_index(drop=True)
    fitted = table["part"] == "train"
    predictions = {}
    for name, prefixes in FEATURE_SETS.items():
        if not all(any(column.startswith(prefix) for column in features) for prefix in prefixes):
            continue
        seen = features[[column for column in features if column.startswith(prefixes)]]
        probabilities = fit_predict(
            seen[fitted], table["label"][fitted], table["patient"][fitted], seen[~fitted],
            n_classes=n_classes, seed=seed,
        )  # fmt: skip
        columns = {f"probability_{number}": probabilities[:, number] for number in range(n_classes)}
        predictions[name] = table[~fitted].assign(**columns).reset_index(drop=True)
    return predictions


def auc_difference(
    network: pd.DataFrame, shortcut: pd.DataFrame, classes: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> dict:
    """AUC of two classifiers on the same images, and their difference with a paired interval.

    Args:
        network: predictions of one part (see `xiqa.metrics.classification.check_predictions`).
        shortcut: predictions of the same images, in any order.
        classes: names in the order of the labels; more than two: mean of the AUC of each against the rest.
        draws: random weights of patients, the same for both.
        seed: seed of the weights.

    Returns:
        network_auc and shortcut_auc with network_low, network_high, shortcut_low, shortcut_high; difference (network
        less shortcut), ci_low, ci_high; n_images, n_patients; reason (why there are no intervals). That of the
        difference is from the jackknife over patients, and reaches as far as one more patient of each class could move
        it where the others leave no spread.

    Raises:
        ValueError: the images or their labels differ.
    """
    checked = check_predictions(network, classes)
    by_image = shortcut.set_index("image", drop=False)
    if set(network["image"]) != set(by_image.index) or len(network) != len(by_image):
        raise ValueError(f"shortcut: found {len(by_image)} images, expected the network's {len(network)}; score both")
    other = check_predictions(by_image.loc[network["image"]], classes)
    if (checked.labels != other.labels).any():
        image = network["image"].iloc[int(np.argmax(checked.labels != other.labels))]
        raise ValueError(
            f"shortcut: image '{image}' has another label than in the network's predictions; predict again"
        )

    def auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        each = [weighted_auc(probabilities[:, c], labels == c, weights) for c in one_against_rest(classes)]
        return np.mean(each, axis=0)

    def differences(weights: np.ndarray) -> np.ndarray:
        first, second = (auc(side.labels, side.probabilities, weights) for side in (checked, other))
        return np.stack([first, second, first - second], axis=1)

    patients = patients_of_class(checked)
    values, pseudo_values = jackknife(differences, checked.patients)
    found = dict(zip(("network", "shortcut", "difference"), values, strict=True))
    ends = dict.fromkeys(found, (np.nan, np.nan))
    few = (patients < FEWEST_PATIENTS).any()
    if not few:
        # [worst, best] of each; the same weights of patients for both, so that differences are paired.
        network_drawn, shortcut_drawn = (
            [auc(*drawn(side, best=best, draws=draws, seed=seed)) for best in (False, True)]
            for side in (checked, other)
        )
        ends["network"], ends["shortcut"] = (
            (np.quantile(worst, 0.025), np.quantile(best, 0.975)) for worst, best in (network_drawn, shortcut_drawn)
        )
        effective = len(patients) / (1 / patients).sum()
        low, high = interval_of_estimate(found["difference"], pseudo_values[:, 2], effective=effective)
        # Equal predictions are one classifier; classifiers that merely rank alike on these images may still differ.
        if lumped(pseudo_values[:, 2]) and not np.array_equal(checked.probabilities, other.probabilities):
            low = min(low, np.quantile(network_drawn[0] - shortcut_drawn[1], 0.025))
            high = max(high, np.quantile(network_drawn[1] - shortcut_drawn[0], 0.975))
        ends["difference"] = max(low, -1.0), min(high, 1.0)
    names = {"network": "network", "shortcut": "shortcut", "difference": "ci"}
    limits = {f"{name}_{end}": ends[key][k] for key, name in names.items() for k, end in enumerate(("low", "high"))}
    return {
        "network_auc": found["network"], "shortcut_auc": found["shortcut"], "difference": found["difference"], **limits,
        "n_images": len(checked.labels), "n_patients": int(checked.patients.max()) + 1,
        "reason": RARE_CLASS if few else "",
    }  # fmt: skip


def compare(
    network: pd.DataFrame,
    shortcuts: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """`auc_difference` of a network and each shortcut: one row each, with its name in the column `shortcut`."""
    return pd.DataFrame(
        [
            {"shortcut": name} | auc_difference(network, predictions, classes, draws=draws, seed=seed)
            for name, predictions in shortcuts.items()
        ]
    )


def verdict(comparison: pd.DataFrame, network: str = "the network") -> tuple[bool, str]:
    """Whether a network is shown to beat every shortcut: what must stand first in a report, whichever way it came out.

    Args:
        comparison: rows of `compare`.
        network: what the network is called.

    Returns:
        Whether the 95 % interval of the AUC difference lies above 0 for every shortcut, and a sentence: about the
        strongest shortcut of those that the network is not shown to beat, or of all where it beats them; one that says
        so where no interval could be had.
    """
    unbeaten = comparison[~(comparison["ci_low"] > 0)]
    rows = comparison if unbeaten.empty else unbeaten
    row = rows.loc[rows["shortcut_auc"].fillna(-1).idxmax()]
    if np.isnan(row["ci_low"]):
        reason = row["reason"] or "the AUC is not defined"
        return False, f"Whether {network} beats a shortcut ({row['shortcut']}) cannot be said: {reason}."
    interval = f"difference {row['difference']:.2f} (95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f})"
    if unbeaten.empty:
        return True, (
            f"{network} beats every shortcut: AUC {row['network_auc']:.2f} against {row['shortcut_auc']:.2f} of the "
            f"best ({row['shortcut']}), {interval}."
        )
    better = "is better than" if row["ci_high"] < 0 else "may be as good as"
    return False, (
        f"A shortcut ({row['shortcut']}) {better} {network}: AUC {row['shortcut_auc']:.2f} against "
        f"{row['network_auc']:.2f}, {interval}."
    )


def _statistics(values: np.ndarray) -> list[float]:
    return [values.mean(), values.std(), *np.percentile(values, PERCENTILES)]


def _noise_sd(image: np.ndarray) -> float:
    """Standard deviation of white noise, from the median of |mixed second differences|, which edges hardly move; 0 for
    an image too small to have any.

    Reference: Immerkær, Comput. Vis. Image Underst. 64 (1996) 300 (the mask), with the median in place of the mean.
    """
    mixed = np.diff(np.diff(image, 2, axis=0), 2, axis=1)
    return float(np.median(np.abs(mixed)) / (0.6745 * 6)) if mixed.size else 0.0


def _numbers_or_texts(entries: pd.Series) -> pd.Series:
    """A header field as numbers if every entry is one, else as texts."""
    missing = entries.isna() | (entries.astype(str).str.strip() == "")
    numbers = pd.to_numeric(entries.mask(missing), errors="coerce").astype(float)
    if (numbers.notna() == ~missing).all() and numbers.notna().any():
        return numbers.replace([np.inf, -np.inf], np.nan)
    return entries.astype(str).str.strip().mask(missing, MISSING)


def encoder(features: pd.DataFrame) -> ColumnTransformer:
    """What makes standardised numbers and categories of the features; see `fit_predict`."""
    numbers = [column for column in features if pd.api.types.is_numeric_dtype(features[column])]
    texts = [column for column in features if column not in numbers]
    scale = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    # A field that names the image or the patient would give one category to each.
    categories = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=20)
    return ColumnTransformer([("numbers", scale, numbers), ("texts", categories, texts)])


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)


def _strength(train: pd.DataFrame, labels: np.ndarray, patients: np.ndarray, seed: int) -> float:
    """C with the least log loss on held-out training patients; 1 where a class has one patient."""
    classes = np.unique(labels)
    folds = min(FOLDS, *(len(set(patients[labels == c])) for c in classes))
    if folds < 2:
        return 1.0
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=stream_seed(seed, "shortcut folds") % 2**32)
    losses = np.zeros((len(STRENGTHS), len(labels)))
    for fitted, held_out in cut.split(train, labels, patients):
        if len(np.unique(labels[fitted])) < 2:
            continue
        encoded = encoder(train)
        seen, unseen = encoded.fit_transform(train.iloc[fitted]), encoded.transform(train.iloc[held_out])
        for number, strength in enumerate(STRENGTHS):
            model = _regression(strength).fit(seen, labels[fitted])
            own = model.predict_proba(unseen)[labels[held_out][:, None] == model.classes_]
            known = np.isin(labels[held_out], model.classes_)
            losses[number, held_out[known]] = -np.log(np.maximum(own, 1e-6))
    per_class = [losses[:, labels == c].mean(1) for c in classes]
    return STRENGTHS[int(np.argmin(np.mean(per_class, axis=0)))]
