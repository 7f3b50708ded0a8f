"""Draw one upsampled map whole and with cutouts at large and at small discs (figures 4-7, 12)."""

import numpy as np

from xiqa.figures.blocks import block_mean
from xiqa.figures.saliency_maps import UpsampledView, plot_upsampled_maps, plot_upsampling_quality
from xiqa.files import read_array, read_json, read_labels, write_figure
from xiqa.logs import log_to
from xiqa.names import group_name, method_name

UNIT = "Δx (training SD)"
CUTOUT_MM = 42.0
# Structure labels of the discs around which the cutouts lie: 1.60-0.80 mm and 0.20-0.10 mm.
CUTOUTS = {"large discs": range(2, 6), "small discs": range(11, 15)}


def draw_upsampled(
    path_to_map: str, path_to_counts: str, path_to_structure: str, path_to_facts: str, quality: dict[str, str],
    method: str, image: str, paths: dict[str, str],
) -> None:  # fmt: skip
    """Draw the visit-normalised map; red raises and blue lowers a pixel's value on the way to a better curve."""
    facts, structure = read_json(path_to_facts), read_labels(path_to_structure)
    visits, saliency = read_labels(quality["visits"]), np.asarray(read_array(path_to_map))
    pixel_mm, data = facts["pixel_mm"], facts["data"]
    title = f"{method_name(method)}, {group_name(image.split('-')[0])}{', rotated' if 'rotated' in image else ''}"
    shown = np.where(visits > 0, saliency, np.nan)
    views = [
        UpsampledView(
            f"{title}, {name}", shown, cutout_around(structure, labels, pixel_mm), read_array(path_to_counts), structure
        )
        for name, labels in CUTOUTS.items()
    ]
    columns = ("map", "cutout", "image_cutout")
    write_figure(paths["map"], plot_upsampled_maps(views, pixel_mm, UNIT, columns, data=data))
    standard_error, disagreement = read_array(quality["standard_error"]), read_array(quality["disagreement"])
    block = read_json(quality["summary"])["block_px"]
    figure = plot_upsampling_quality(
        block_mean(visits, block), standard_error, disagreement, block * pixel_mm, UNIT, title, data=data
    )
    write_figure(paths["quality"], figure)


def cutout_around(structure: np.ndarray, labels: range, pixel_mm: float) -> tuple[float, float, float, float]:
    """A square around the median position of some discs, inside the image: (x_min, y_min, x_max, y_max) in mm."""
    rows, columns = np.nonzero(np.isin(structure, list(labels)))
    box = []
    for places, length in ((columns, structure.shape[1]), (rows, structure.shape[0])):
        side = min(CUTOUT_MM, length * pixel_mm)
        low = np.clip(np.median(places) * pixel_mm - side / 2, 0, length * pixel_mm - side) if places.size else 0.0
        box.append((float(low), float(low + side)))
    (x_min, x_max), (y_min, y_max) = box
    return x_min, y_min, x_max, y_max


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw {snakemake.wildcards.method} of {snakemake.wildcards.image}"):
        draw_upsampled(
            path_to_map=snakemake.input.map,
            path_to_counts=snakemake.input.counts,
            path_to_structure=snakemake.input.structure,
            path_to_facts=snakemake.input.facts,
            quality={name: snakemake.input[name] for name in ("visits", "standard_error", "disagreement", "summary")},
            method=snakemake.wildcards.method,
            image=snakemake.wildcards.image,
            paths=dict(snakemake.output.items()),
        )
