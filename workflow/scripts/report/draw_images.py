"""Draw the phantom, sampled images, and an image with a margin and its maps (figures 1, 8, 9)."""

import numpy as np

from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.samples import first_of_each_group, read_samples
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.figures.cdmam_images import plot_margin_image, plot_phantom, plot_sampled_images
from xiqa.figures.style import SHOWN_GROUPS, data_of
from xiqa.files import read_array, write_figure
from xiqa.logs import log_to
from xiqa.names import group_name


def draw_images(
    paths_to_images: list[str],
    paths_to_tables: list[str],
    paths_to_maps: dict[str, str],
    images_per_group: int,
    phantom: dict,
    paths: dict[str, str],
) -> None:
    """Draw figures 1, 8 and 9 of the paper from this study's images."""
    images, table = read_samples(paths_to_images, paths_to_tables, "test")
    first = [index for index in first_of_each_group(table, 1) if table["group"][index] in SHOWN_GROUPS][:3]
    fields = (table[["height", "width"]].to_numpy() * table[["pixel_mm"]].to_numpy())[first]
    titles = [group_name(table["group"][index]) for index in first]
    data = data_of(table["data"].iloc[first])
    write_figure(paths["sampled"], plot_sampled_images([images[i, 0] for i in first], titles, list(fields), data=data))

    detector, geometry = Detector(**phantom["detector"]), GEOMETRIES[phantom["geometry"]]
    counts = simulate(Exposure(**phantom["exposure"]), detector, geometry, 0.0, 0, 0).counts
    write_figure(paths["phantom"], plot_phantom(counts, detector.pixel_mm, geometry))

    # Of the explained images, the one with the widest margin.
    explained = first_of_each_group(table, images_per_group)
    widest = int(np.nanargmax(table["margin_mm"].to_numpy()[explained]))
    maps = {method: read_array(path)[widest] for method, path in paths_to_maps.items()}
    image = explained[widest]
    margin = table["margin_mm"][image]
    write_figure(paths["margin"], plot_margin_image(images[image, 0], maps, margin, data=table["data"][image]))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "draw images"):
        draw_images(
            paths_to_images=list(snakemake.input.images),
            paths_to_tables=list(snakemake.input.tables),
            paths_to_maps=dict(zip(snakemake.params.methods, snakemake.input.maps, strict=True)),
            images_per_group=snakemake.params.images_per_group,
            phantom=snakemake.params.phantom,
            paths=dict(snakemake.output.items()),
        )
