"""Ask which properties of the exposure the predicted curve follows, layer by layer, and draw it beside the physics."""

from pathlib import Path

import torch

from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.concepts.of_curve import curve_effects, designed_images
from xiqa.concepts.scores import concept_agreement
from xiqa.config import Detector, Exposure
from xiqa.figures.concepts import plot_curve_concepts
from xiqa.files import write_figure, write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics.concept_findings import describe_curve_concepts
from xiqa.models.ensemble import load_ensemble
from xiqa.report.pages import write_findings


def score(weights: list[str], design: dict, permutations: int, written: dict[str, str], progress: Progress) -> None:
    """Write the effects of all factors, how they agree with the truth, a figure and a page."""
    ensemble = load_ensemble([Path(path).parent for path in weights])
    counts, table = designed_images(
        [Exposure(**exposure) for exposure in design["exposures"]], Detector(**design["detector"]),
        GEOMETRIES[design["geometry"]], ensemble.size, design["images"], design["seed"], design["human"], progress,
    )  # fmt: skip
    effects = curve_effects(ensemble, counts, table, seed=design["seed"], permutations=permutations)
    agreement = concept_agreement(effects)
    write_table(written["effects"], effects.assign(data="simulated"))
    write_table(written["agreement"], agreement.assign(data="simulated"))
    write_figure(written["figure"], plot_curve_concepts(effects))
    findings = describe_curve_concepts(effects, agreement)
    title = "What the predicted contrast-detail curve follows (simulated images)"
    write_findings(title, findings, written["page"], written["findings"], picture=written["figure"])


if "snakemake" in globals():
    with log_to(snakemake.log[0], "concepts of the curve") as progress:
        torch.set_num_threads(snakemake.threads)
        score(
            weights=list(snakemake.input),
            design=snakemake.params.design,
            permutations=snakemake.params.permutations,
            written=dict(snakemake.output.items()),
            progress=progress,
        )
