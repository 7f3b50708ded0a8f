"""What a classifier still recognises while the pixels that its maps call important, or unimportant, are masked."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from xiqa.files import read_array, read_table, write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics.maps.fidelity import fidelity, fidelity_area, fidelity_ends, masking_curves
from xiqa.metrics.maps.insertion_deletion import insertion_deletion
from xiqa.metrics.maps.localisation import published_signs
from xiqa.metrics.maps.road import road
from xiqa.models.model import load_model, predictor
from xiqa.models.zoo import build
from xiqa.registry import FALLING, METHODS_BROCKI

BLUR_OF_SIDE = 0.1


def score(
    paths: dict[str, str],
    paths_to_maps: dict[str, str],
    images: dict[str, str],
    network: dict[str, str],
    settings: dict,
    paths_to_results: dict[str, str],
    progress: Progress,
) -> None:
    """Write fidelity, insertion, deletion and ROAD of each image and method, and the masking curves over all images."""
    classifier = load_model(Path(paths["weights"]).parent, build)
    classifier.net.to(settings["device"])
    predict, chosen = predictor(classifier, settings["precision"]), read_table(paths["chosen"])
    shown = chosen.query("masking")
    rows = shown["row"].to_numpy()
    pixels = np.asarray(read_array(paths["images"])[rows], np.float64)
    told = read_table(paths["table"]).iloc[rows]
    labels, patients = told["label"].to_numpy(), told["patient"].to_numpy()
    blurred = ndimage.gaussian_filter(pixels, (0, *[BLUR_OF_SIDE * side for side in pixels.shape[1:]]))
    masked_with = settings["masked_with"]
    if masked_with and set(masked_with) != set(classifier.classes):
        raise ValueError(f"masked_with: found {list(masked_with)}, expected a value for each of {classifier.classes}")
    filling = np.array([masked_with[classifier.classes[k]] for k in labels]) if masked_with else blurred
    given = {"predict": predict, "images": pixels, "labels": labels}
    masking = {"replacement": filling, "steps": settings["steps"], "seed": settings["seed"]}
    ends = fidelity_ends(**given, replacement=filling)
    scores, curves = [], []
    for number, (method, path) in enumerate(paths_to_maps.items()):
        progress(number, len(paths_to_maps), method)
        maps = read_array(path)[chosen.query(images[method])["masking"].to_numpy()]
        maps = -maps if method in FALLING else maps
        forms = {"signed": maps} if (maps < 0).any() else {}
        if forms and settings["published_form"] and method in METHODS_BROCKI:
            forms["published"] = maps * published_signs(method, labels)[:, None, None]
        for form, formed in (forms | {"absolute": np.abs(maps)}).items():
            found = fidelity(**given, maps=formed, ends=ends, **masking)
            curves.append(masking_curves(found.correct, labels, patients).assign(method=method, form=form))
            if form == "published":
                continue  # Brocki 2022 has averaged curves only
            values = {"fidelity": fidelity_area(found.correct)}
            if form == "signed" or not forms:  # the form that the method is defined in
                inserted, deleted = insertion_deletion(**given, maps=formed, blurred=blurred, steps=20)
                values |= {"insertion": inserted, "deletion": deleted}
                values["road"] = road(**given, maps=formed, seed=settings["seed"])
            for metric, value in values.items():
                known = {"method": method, "form": form, "metric": metric}
                scores.append(shown[["image", "part", "costly"]].assign(**known, value=value))
    joined = pd.concat(scores, ignore_index=True)
    reason = np.where(joined["value"].notna(), "", "constant or non-finite map")
    write_table(paths_to_results["scores"], joined.assign(valid=joined["value"].notna(), reason=reason, **network))
    write_table(paths_to_results["curves"], pd.concat(curves, ignore_index=True))


if "snakemake" in globals():
    names = snakemake.wildcards
    with log_to(snakemake.log[0], f"mask what maps of {names.architecture} show on {names.dataset}") as progress:
        torch.set_num_threads(snakemake.threads)
        score(
            paths={name: path for name, path in snakemake.input.items() if name != "maps"},
            paths_to_maps={Path(path).stem: path for path in snakemake.input.maps},
            images=snakemake.params.images,
            network={"architecture": names.architecture, "weights": names.weights, "seed": int(names.seed)},
            settings=snakemake.params.settings,
            paths_to_results=dict(snakemake.output.items()),
            progress=progress,
        )
