"""OMIG of both kinds of networks on the same images, and the share of each map on each structure of the phantom."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.cells import cut, mosaic_pixels, scatter_back
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.datasets.sampling import draw_indices, sample
from xiqa.files import write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics.structure_share import structure_share_rows, summarise_structure_share
from xiqa.models.ensemble import load_ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.saliency.of_ensemble import ExplainedEnsemble, explain_ensemble
from xiqa.seeds import stream_seed


def explain_both(
    images: list[dict], members: dict, omig: dict, samplings: int, compute: dict, paths: dict, progress: Progress
) -> None:
    """The map of the cells is laid on the whole image; of the sampled network, the mean share over samplings."""
    ensembles = {kind: load_ensemble(folders) for kind, folders in members.items()}
    targets = {kind: ExplainedEnsemble(MidpointGradient(ensemble, **compute)) for kind, ensemble in ensembles.items()}
    rows = []
    for number, plan in enumerate(images):
        exposure, detector = Exposure(**plan["exposure"]), Detector(**plan["detector"])
        seed, index, name = stream_seed(plan["seed"], "generalise", plan["setting"]), plan["index"], plan["image"]
        margin_mm = plan["margins_mm"][index % len(plan["margins_mm"])]
        simulated = simulate(exposure, detector, GEOMETRIES[plan["geometry"]], margin_mm, seed, index)
        counts, structure = simulated.counts, simulated.structure
        registration = read_image(counts, detector.pixel_mm, name, search_mm=0.0).registration
        pixels = mosaic_pixels(registration, plan["patch_px"], counts.shape)
        x = ensembles["cells"].normalise(cut(counts, pixels)[None])
        found = scatter_back(explain_ensemble(targets["cells"], x, "omig", **omig)[0][0], pixels, counts.shape)
        facts = {"image": name, "group": plan["group"]}
        rows.append(structure_share_rows(found, structure, **facts, method="cells"))
        parts = []
        for repeat in range(samplings):
            rng = np.random.default_rng(stream_seed(seed, "sampling", index, repeat))
            places = draw_indices(counts.shape, plan["size"], rng)
            x = ensembles["sampled"].normalise(sample(counts, *places)[None])
            found = explain_ensemble(targets["sampled"], x, "omig", **omig)[0][0]
            parts.append(structure_share_rows(found, sample(structure, *places), **facts, method="sampled"))
        keys = ["image", "group", "method", "structure", "diameter_mm"]
        # A small disc that a sampling missed has no part in its map.
        sums = pd.concat(parts).groupby(keys, sort=False, dropna=False, as_index=False).sum()
        shares = ["share_abs", "share_signed", "share_area"]
        rows.append(sums.assign(**{share: sums[share] / samplings for share in shares}))
        progress(number + 1, len(images), "images explained")
    table = pd.concat(rows, ignore_index=True)
    write_table(paths["shares"], table)
    summaries = [summarise_structure_share(part) for part in (table.assign(group="all"), table)]
    write_table(paths["summary"], pd.concat(summaries, ignore_index=True))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "explain how they generalise") as progress:
        explain_both(
            images=snakemake.params.images,
            members={kind: [str(Path(path).parent) for path in snakemake.input[kind]] for kind in ("sampled", "cells")},
            omig=snakemake.params.omig,
            samplings=snakemake.params.samplings,
            compute=snakemake.params.compute,
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
