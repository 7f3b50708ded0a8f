"""Scores of predicted numbers, with intervals over patients, beside the shortcuts that a network must beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from xiqa.metrics.prediction import EXPANSION
from xiqa.metrics.shortcut_classification import FEATURE_SETS, encoder
from xiqa.metrics.statistics import (
    FEWEST_PATIENTS,
    TOO_FEW,
    interval,
    interval_of_estimate,
    jackknife,
    rmse_interval,
    root_mean,
)

SHORTCUTS = {name: FEATURE_SETS[name] for name in ("header", "intensity", "header and intensity", "borders")} | {
    "noise": ("noise_",),
    "mask presence": FEATURE_SETS["mask presence"],
}
"""Name of a shortcut -> prefixes of the features that it sees. The border of an image is its background."""
TRAINING_MEAN = "training mean"
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""L2 penalties that are tried."""
FOLDS = 5
BETTER, WORSE, UNDECIDED = "better", "worse", "not told apart"


def scores(predictions: pd.DataFrame, target: str) -> pd.DataFrame:
    """All scores of one part for one target, in long form.

    - rmse, mae, bias (mean of predicted - true), in the target's unit.
    - pearson, spearman: correlation of predicted and true values over the images.
    - coverage_95: share of images whose error is within 1.96 total standard uncertainties,
      √(aleatoric² + epistemic²); error_over_uncertainty: root mean square of error / uncertainty, 1 where it is right;
      error_with_uncertainty: Spearman's correlation of |error| and uncertainty, above 0 where it tells errors apart.

    Args:
        predictions: one row per image: image, patient, `target`, predicted_*, aleatoric_* and, of an ensemble,
            epistemic_*.
        target: the column of the true values.

    Returns:
        metric, value, ci_low and ci_high (95 % over patients: means and rmse by `statistics.interval`, correlations by
        the jackknife of Fisher's z), n_images, n_patients, reason (why there is no interval).

    Raises:
        ValueError: no row, a value that is no number, or an image that occurs twice.
    """
    truth, predicted, uncertainty = _checked(predictions, target)
    patients = pd.factorize(predictions["patient"])[0]
    error = predicted - truth
    covered = (np.abs(error) <= EXPANSION * uncertainty).astype(float)
    ratios = (error / uncertainty) ** 2
    rows: list[tuple[str, float, float, float]] = [
        ("rmse", float(root_mean(error**2)), *rmse_interval(error**2, patients)),
        ("mae", float(np.abs(error).mean()), *interval(np.abs(error), patients, bounds=(0.0, np.inf))),
        ("bias", float(error.mean()), *interval(error, patients)),
        ("pearson", *correlation(truth, predicted, patients)),
        ("spearman", *correlation(truth, predicted, patients, ranks=True)),
        ("coverage_95", float(covered.mean()), *interval(covered, patients, bounds=(0, 1))),
        ("error_over_uncertainty", float(root_mean(ratios)), *rmse_interval(ratios, patients)),
        ("error_with_uncertainty", *correlation(np.abs(error), uncertainty, patients, ranks=True)),
    ]
    table = pd.DataFrame(rows, columns=["metric", "value", "ci_low", "ci_high"])
    number = int(patients.max()) + 1
    few = f"{TOO_FEW}: {number}, expected {FEWEST_PATIENTS}" if number < FEWEST_PATIENTS else "all values are equal"
    reason = np.where(table["ci_low"].notna(), "", few)
    return table.assign(target=target, n_images=len(truth), n_patients=number, reason=reason)


def correlation(
    x: np.ndarray, y: np.ndarray, patients: np.ndarray, *, ranks: bool = False
) -> tuple[float, float, float]:
    """Correlation coefficient and its 95 % interval over patients; NaN where a side does not vary.

    Args:
        x, y: (n,) values.
        patients: (n,) numbers from 0 without a gap.
        ranks: of the ranks (Spearman) instead of the values (Pearson).

    Reference: Fisher, Metron 1 (1921) 3 (z); Tukey, Ann. Math. Stat. 29 (1958) 614 (pseudo-values).
    """

    def transformed(weights: np.ndarray) -> np.ndarray:
        found = []
        for kept in weights > 0:
            pair = [rankdata(values[kept]) if ranks else values[kept] for values in (x, y)]
            varied = all(np.ptp(values) > 0 for values in pair)
            found.append(np.arctanh(np.clip(np.corrcoef(*pair)[0, 1], -1 + 1e-12, 1 - 1e-12)) if varied else np.nan)
        return np.array(found)[:, None]

    estimate, pseudo_values = jackknife(transformed, patients)
    low, high = interval_of_estimate(estimate[0], pseudo_values[:, 0])
    return float(np.tanh(estimate[0])), float(np.tanh(low)), float(np.tanh(high))


def shortcut_predictions(features: pd.DataFrame, table: pd.DataFrame, target: str) -> dict[str, pd.DataFrame]:
    """What can be predicted without looking at the content of an image: ridge regressions, and the training mean.

    The penalty is chosen by cross-validation over training patients; the error of the held-out ones is the uncertainty.

    Args:
        features: n rows from `shortcut_classification.shortcut_features`.
        table: n rows in the same order: image, patient, part (`train` is fitted), the target.
        target: its column.

    Returns:
        Name of each shortcut whose features are all there -> the rows of the table outside training with predicted_*
        and aleatoric_*.
    """
    table, features = table.reset_index(drop=True), features.reset_index(drop=True)
    fitted = (table["part"] == "train").to_numpy()
    y, patients = table.loc[fitted, target].to_numpy(float), table.loc[fitted, "patient"].to_numpy()
    rest = table[~fitted].reset_index(drop=True)
    constant = {f"predicted_{target}": y.mean(), f"aleatoric_{target}": y.std()}
    found = {TRAINING_MEAN: rest.assign(**constant)}
    for name, prefixes in SHORTCUTS.items():
        if not all(any(column.startswith(prefix) for column in features) for prefix in prefixes):
            continue
        seen = features[[column for column in features if column.startswith(prefixes)]]
        penalty, error = _penalty(seen[fitted], y, patients)
        model = make_pipeline(encoder(seen[fitted]), Ridge(penalty)).fit(seen[fitted], y)
        values = {f"predicted_{target}": model.predict(seen[~fitted]), f"aleatoric_{target}": error}
        found[name] = rest.assign(**values)
    return found


def compare(network: pd.DataFrame, shortcuts: Mapping[str, pd.DataFrame], target: str) -> pd.DataFrame:
    """A network against each shortcut on the same images.

    Returns:
        One row per shortcut: network_rmse and shortcut_rmse; difference of their mean square errors (network less
        shortcut) with its 95 % interval over patients, ci_low and ci_high; verdict: better, worse, or not told apart;
        n_images, n_patients.

    Raises:
        ValueError: a shortcut has other images.
    """
    rows = []
    truth, predicted, _ = _checked(network, target)
    own = (predicted - truth) ** 2
    for name, shortcut in shortcuts.items():
        if set(shortcut["image"]) != set(network["image"]):
            raise ValueError(f"shortcut {name}: found other images than those of the network; score the same part")
        other = shortcut.set_index("image").loc[network["image"], f"predicted_{target}"].to_numpy(float)
        squares = (other - truth) ** 2
        low, high = interval(own - squares, network["patient"].to_numpy())
        rows.append(
            {
                "target": target,
                "shortcut": name,
                "network_rmse": float(root_mean(own)),
                "shortcut_rmse": float(root_mean(squares)),
                "difference": float((own - squares).mean()),
                "ci_low": low,
                "ci_high": high,
                "verdict": BETTER if high < 0 else WORSE if low > 0 else UNDECIDED,
                "n_images": len(truth),
                "n_patients": network["patient"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def total_uncertainty(predictions: pd.DataFrame, target: str) -> np.ndarray:
    """Total standard uncertainty (n,) as predicted: the root of the sum of squares of aleatoric and epistemic."""
    aleatoric = predictions[f"aleatoric_{target}"].to_numpy(float)
    return np.hypot(
        aleatoric, predictions.get(f"epistemic_{target}", pd.Series(0.0, predictions.index)).to_numpy(float)
    )


def _checked(predictions: pd.DataFrame, target: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if predictions.empty or predictions["image"].duplicated().any():
        raise ValueError(f"predictions: found {len(predictions)} rows, some twice or none; expected one per image")
    truth, predicted = (predictions[name].to_numpy(float) for name in (target, f"predicted_{target}"))
    uncertainty = total_uncertainty(predictions, target)
    if not np.isfinite([truth, predicted, uncertainty]).all() or not (uncertainty > 0).all():
        raise ValueError(f"predictions of {target}: found NaN, infinity or an uncertainty of 0; train again")
    return truth, predicted, uncertainty


def _penalty(train: pd.DataFrame, y: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """The penalty with the least square error on held-out training patients, and the root of that error."""
    folds = min(FOLDS, len(set(patients)))
    if folds < 2:
        return 1.0, float(y.std())
    squares = np.zeros((len(PENALTIES), len(y)))
    for fitted, held_out in GroupKFold(folds).split(train, y, patients):
        encoded = encoder(train)
        seen, unseen = encoded.fit_transform(train.iloc[fitted]), encoded.transform(train.iloc[held_out])
        for number, penalty in enumerate(PENALTIES):
            squares[number, held_out] = (Ridge(penalty).fit(seen, y[fitted]).predict(unseen) - y[held_out]) ** 2
    means = squares.mean(1)
    return PENALTIES[int(np.argmin(means))], float(np.sqrt(means.min()))
