"""Fit the contrast-detail curve of every exposure setting: the labels of its images."""

import numpy as np
import pandas as pd

from xiqa.cdmam.curve import coefficient_of_variation, fit_curve
from xiqa.cdmam.graded import from_table, graded_curve
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import Progress, log_to
from xiqa.seeds import stream_seed

ENOUGH_TO_RESAMPLE = 64


def fit_curves(
    paths_to_detections: dict[str, str],
    paths_to_graded: dict[str, str],
    paths_to_fitted: list[str],
    readout: dict,
    path_to_curves: str,
    path_to_variation: str,
    progress: Progress,
) -> None:
    """Fit each setting's curve by the method that labels its images; the curves of both methods stand beside it.

    By counting it rests on the corner detections; where 64 images or more were read, tell how much 16 images vary.
    Curves and variations that are fitted already, if any, come first: training depends on those of its settings alone.
    """
    none = pd.DataFrame(columns=["diameter_mm", "coefficient_of_variation", "censored", "setting", "data"])
    curves, variations = [[read_table(path)] for path in paths_to_fitted] or ([], [none])
    for number, (setting, path) in enumerate(paths_to_detections.items()):
        corner = np.asarray(read_array(path)[:, 0])
        seed = stream_seed(readout["seed"], "bootstrap", setting)
        counted = fit_curve(corner, human=readout["human"], bootstrap=readout["bootstrap"], seed=seed)
        measured = list(from_table(read_table(paths_to_graded[setting])).values())
        if measured:
            graded = graded_curve(measured, human=readout["human"], draws=readout["bootstrap"], seed=seed).table
        elif readout["labels"] == "standard":
            graded = counted.assign(cdc_um=np.nan)
        else:
            raise ValueError(
                f"setting {setting}: found no image whose discs stand out of the noise, expected at least one to label "
                "it from graded signals; leave the setting out, or count hits (cdmam.readout.labels: standard)"
            )
        curve = (graded if readout["labels"] == "graded" else counted).assign(
            labels=readout["labels"],
            standard_um=counted["cdc_um"],
            standard_low_um=counted["ci_low_um"],
            standard_high_um=counted["ci_high_um"],
            standard_censored=counted["censored"],
            graded_um=graded["cdc_um"],
        )
        data = "recorded" if setting.startswith("recording_") else "simulated"
        curves.append(curve.assign(setting=setting, images=len(corner), data=data))
        if len(corner) >= ENOUGH_TO_RESAMPLE:
            variation = coefficient_of_variation(corner, n=16, seed=seed)
            variations.append(variation.assign(setting=setting, data=data))
        progress(number + 1, len(paths_to_detections), "curves fitted")
    table = pd.concat(curves, ignore_index=True)
    write_table(path_to_curves, table[["setting", *table.columns.drop(["setting"])]])
    write_table(path_to_variation, pd.concat([part for part in variations if len(part)] or variations))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "fit curves") as progress:
        fit_curves(
            paths_to_detections=dict(zip(snakemake.params.settings, snakemake.input.detections, strict=True)),
            paths_to_graded=dict(zip(snakemake.params.settings, snakemake.input.graded, strict=True)),
            paths_to_fitted=list(snakemake.input.fitted),
            readout=snakemake.params.readout,
            path_to_curves=snakemake.output.curves,
            path_to_variation=snakemake.output.variation,
            progress=progress,
        )
