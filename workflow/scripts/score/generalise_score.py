"""Predict the test settings with both ensembles and the shortcut, and score them beside what readings give."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.labels import labels_of
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.cdmam.shortcut import background_statistics, fit_shortcut
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.calibration import calibrate, scale_of
from xiqa.metrics.generalise import bounds, scores, shortcut_spread
from xiqa.metrics.prediction import predictions_table, total_uncertainty
from xiqa.models.ensemble import load_ensemble, predict

BATCH = 4
"""Mosaics computed at once: one takes some hundred megabytes."""


class Part:
    """The images of some settings, and their labels."""

    def __init__(self, folder: str, settings: list[str]):
        self.folder, self.settings = Path(folder), settings
        self.curves = pd.concat([read_table(self.folder / s / "curves.csv") for s in settings], ignore_index=True)
        counts = [len(read_array(self.folder / setting / "sampled.npy")) for setting in settings]
        self.of_image = list(np.repeat(settings, counts))
        self.names = [f"{setting}-{index}" for setting, n in zip(settings, counts, strict=True) for index in range(n)]
        self.truth_um, self.censored = labels_of(self.curves[self.curves["kind"] == "label"], self.of_image)

    def seen(self, kind: str) -> np.ndarray:
        """What one kind of network sees of all images, (n, s, s) counts."""
        return np.concatenate([read_array(self.folder / setting / f"{kind}.npy")[:, 0] for setting in self.settings])

    def statistics(self) -> np.ndarray:
        """Background mean and standard deviation of all images, (n, 2) counts."""
        return background_statistics(self.seen("sampled"))

    def predicted(self, ensemble, kind: str) -> pd.DataFrame:
        """Rows of predictions, group: the setting."""
        found = [
            predict(ensemble, ensemble.normalise(read_array(self.folder / setting / f"{kind}.npy")[:, 0]), BATCH)
            for setting in self.settings
        ]
        merged = {name: np.concatenate([part[name] for part in found]) for name in found[0] if name != "member_um"}
        return predictions_table(self.names, self.of_image, CDC_DIAMETERS_MM, self.truth_um, merged, self.censored)


def points(part: Part, method: str, groups: dict[str, str], predicted_um, low_um, high_um) -> pd.DataFrame:
    """Rows of generalise.csv, from (n, 12) arrays."""
    number = len(CDC_DIAMETERS_MM)
    table = pd.DataFrame(
        {
            "method": method,
            "setting": np.repeat(part.of_image, number),
            "image": np.repeat(part.names, number),
            "diameter_mm": np.tile(CDC_DIAMETERS_MM, len(part.names)),
            "truth_um": part.truth_um.ravel(),
            "predicted_um": np.ravel(predicted_um),
            "low_um": np.ravel(low_um),
            "high_um": np.ravel(high_um),
            "censored": part.censored.ravel(),
        }
    )
    return table.assign(group=table["setting"].map(groups))


def read(part: Part, kind: str, groups: dict[str, str]) -> pd.DataFrame:
    """Rows of generalise.csv of one kind of reading, of each image or of all images of a setting together."""
    curves = part.curves[part.curves["kind"] == kind]
    truth = part.curves.query("kind == 'label'").set_index(["setting", "diameter_mm"])[["cdc_um", "censored"]]
    table = curves.rename(columns={"cdc_um": "predicted_um", "ci_low_um": "low_um", "ci_high_um": "high_um"})
    table = table.drop(columns="censored").join(
        truth.rename(columns={"cdc_um": "truth_um"}), on=["setting", "diameter_mm"]
    )
    table = table.assign(method=kind, group=table["setting"].map(groups))
    columns = ["method", "setting", "image", "diameter_mm", "truth_um", "predicted_um", "low_um", "high_um"]
    return table[[*columns, "censored", "group"]]


def score(folder: str, parts: dict[str, list[str]], groups: dict[str, str], members: dict, paths: dict) -> None:
    """Write generalise.csv (all points), generalise_scores.csv and the calibration of both ensembles."""
    trained, validated, tested = (Part(folder, settings) for settings in parts.values())
    shortcut = fit_shortcut(trained.statistics(), trained.truth_um)
    spread = shortcut_spread(shortcut.predict(validated.statistics()), validated.truth_um, validated.censored)
    predicted = shortcut.predict(tested.statistics())
    found = [points(tested, "shortcut", groups, predicted, *bounds(predicted, spread, True))]
    calibrations = []
    for kind, folders in members.items():
        ensemble = load_ensemble(folders)
        calibration = calibrate(validated.predicted(ensemble, kind))
        calibrations.append(calibration.assign(method=kind))
        rows = tested.predicted(ensemble, kind)
        predicted = rows["predicted_um"].to_numpy()
        calibrated = scale_of(calibration) * total_uncertainty(rows).to_numpy()
        found.append(points(tested, kind, groups, predicted, *bounds(predicted, calibrated, False)))
    found += [read(tested, kind, groups) for kind in ("graded", "counted")]
    table = pd.concat(found, ignore_index=True)
    write_table(paths["points"], table)
    write_table(paths["scores"], scores(table))
    write_table(paths["calibration"], pd.concat(calibrations, ignore_index=True))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "score how well they generalise"):
        score(
            folder=snakemake.params.folder,
            parts=snakemake.params.parts,
            groups=snakemake.params.groups,
            members={kind: [str(Path(path).parent) for path in snakemake.input[kind]] for kind in ("sampled", "cells")},
            paths=dict(snakemake.output.items()),
        )
