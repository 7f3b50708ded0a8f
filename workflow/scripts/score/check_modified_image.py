"""Add upsampled maps to their original, sample it afresh, and see where the predicted curve goes (figure 13)."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.files import read_array, read_json, read_labels, write_table
from xiqa.logs import Progress, log_to
from xiqa.models.ensemble import load_ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.saliency.modification import curves_over_samplings, midpoints_over_samplings, modify, permute, scale_to_norm
from xiqa.seeds import stream_seed


def check(
    paths_to_weights: list[str],
    path_to_counts: str,
    path_to_visits: str,
    maps: dict[str, dict[str, str]],
    checks: dict,
    image: str,
    gradient: dict,
    path_to_table: str,
    path_to_curves: str,
    progress: Progress,
) -> None:
    """Compare both forms of the first method's map, the map with permuted pixels, and other maps at equal norm.

    Original and modified image are sampled at the same pixels, so that their difference carries no sampling noise.
    """
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    target = MidpointGradient(ensemble, **gradient)
    counts = np.asarray(read_array(path_to_counts), np.float32)
    sampling = {
        "mean": ensemble.mean, "sd": ensemble.sd, "size": checks["size"], "samplings": checks["samplings"],
        "seed": stream_seed(checks["seed"], "check", image),
    }  # fmt: skip
    first = next(iter(maps))
    reference = np.asarray(read_array(maps[first]["map"]))
    candidates = []
    for method, paths in maps.items():
        saliency = np.asarray(read_array(paths["map"]))
        if method == first:
            published = saliency * read_labels(path_to_visits).astype(np.int32) / read_json(paths["summary"])["draws"]
            candidates += [
                (method, "published", lambda published=published: published),
                (method, "visit_normalised", lambda: reference),
                (method, "permuted", lambda: permute(reference, sampling["seed"])),
            ]
        else:
            equal = scale_to_norm(saliency, reference)
            candidates.append((method, "visit_normalised", lambda equal=equal: equal))
    before = midpoints_over_samplings(target, counts, **sampling)
    rows = []
    for number, (method, form, make) in enumerate(candidates):
        after = midpoints_over_samplings(target, modify(counts, make(), ensemble.sd), **sampling)
        difference = after - before
        error = difference.std(ddof=1) / np.sqrt(len(before)) if len(before) > 1 else np.nan
        rows.append(
            {"image": image, "group": image.split("-")[0], "method": method, "form": form,
             "midpoint_before_um": before.mean(), "midpoint_after_um": after.mean(), "change_um": difference.mean(),
             "change_standard_error_um": error, "samplings": len(before),
             "scaled_to": first if method != first else ""}
        )  # fmt: skip
        progress(number + 1, len(candidates), f"maps ({method}, {form})")
    write_table(path_to_table, pd.DataFrame(rows))
    added = {"after_um": reference, "after_published_um": candidates[0][2]()}
    curves = {
        "before_um": curves_over_samplings(ensemble, counts, **sampling),
        **{
            name: curves_over_samplings(ensemble, modify(counts, saliency, ensemble.sd), **sampling)
            for name, saliency in added.items()
        },
    }
    write_table(path_to_curves, pd.DataFrame({"image": image, "diameter_mm": CDC_DIAMETERS_MM, **curves}))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"check {snakemake.wildcards.image}") as progress:
        files = zip(snakemake.params.methods, snakemake.input.maps, snakemake.input.summaries, strict=True)
        check(
            paths_to_weights=list(snakemake.input.models),
            path_to_counts=snakemake.input.counts,
            path_to_visits=snakemake.input.visits,
            maps={method: {"map": map_, "summary": summary} for method, map_, summary in files},
            checks=snakemake.params.checks,
            image=snakemake.wildcards.image,
            gradient=snakemake.params.ensemble,
            path_to_table=snakemake.output.table,
            path_to_curves=snakemake.output.curves,
            progress=progress,
        )
