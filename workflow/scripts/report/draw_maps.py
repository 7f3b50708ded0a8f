"""Draw saliency maps of sampled images, and OMIG for several c and L (figures 3, 14)."""

import pandas as pd

from xiqa.cdmam.samples import first_of_each_group, read_samples
from xiqa.figures.saliency_maps import plot_omig_settings, plot_sampled_maps
from xiqa.figures.style import SHOWN_GROUPS, data_of
from xiqa.files import read_array, write_figure
from xiqa.logs import log_to
from xiqa.names import group_name
from xiqa.registry import FALLING


def draw_maps(
    paths_to_images: list[str],
    paths_to_tables: list[str],
    paths_to_maps: dict[str, str],
    images_per_group: int,
    path_to_omig_maps: str | None,
    path_to_omig_table: str | None,
    paths: dict[str, str],
) -> None:
    """Rows are the first images of the shown groups, columns the methods; of falling maps the negative is drawn."""
    images, table = read_samples(paths_to_images, paths_to_tables, "test")
    explained = list(first_of_each_group(table, images_per_group))
    first = [index for index in first_of_each_group(table, 1) if table["group"][index] in SHOWN_GROUPS]
    arrays = {m: -read_array(path) if m in FALLING else read_array(path) for m, path in paths_to_maps.items()}
    titles = {index: group_name(table["group"][index]) for index in first}
    maps = {titles[i]: {method: array[explained.index(i)] for method, array in arrays.items()} for i in first}
    data = data_of(table["data"].iloc[first])
    write_figure(paths["maps"], plot_sampled_maps(maps, {titles[i]: images[i, 0] for i in first}, data=data))
    if path_to_omig_maps is not None:
        pairs = pd.read_csv(path_to_omig_table).drop_duplicates(["c", "steps"])[["c", "steps"]]
        array = read_array(path_to_omig_maps)
        groups = list(table["group"].iloc[first_of_each_group(table, 1)])
        settings = {
            titles[i]: {
                (c, steps): array[number, groups.index(table["group"][i])]
                for number, (c, steps) in enumerate(pairs.itertuples(index=False))
            }
            for i in first[:2]
        }
        write_figure(paths["omig_parameters"], plot_omig_settings(settings, data=data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "draw maps"):
        draw_maps(
            paths_to_images=list(snakemake.input.images),
            paths_to_tables=list(snakemake.input.tables),
            paths_to_maps=dict(zip(snakemake.params.methods, snakemake.input.maps, strict=True)),
            images_per_group=snakemake.params.images_per_group,
            path_to_omig_maps=snakemake.input.get("omig_maps"),
            path_to_omig_table=snakemake.input.get("omig_table"),
            paths=dict(snakemake.output.items()),
        )
