"""Show a prepared data set: examples of each class, and its split."""

from xiqa.datasets.base import classes_of
from xiqa.figures.datasets import plot_examples, plot_split
from xiqa.files import PackedMasks, read_array, read_table, write_figure
from xiqa.logs import log_to


def draw(paths: dict[str, str], paths_to_figures: dict[str, str]) -> None:
    """Draw the figures of one data set."""
    images, masks, table = read_array(paths["images"]), PackedMasks(paths["masks"]), read_table(paths["table"])
    classes, data = classes_of(table), table["data"].iloc[0]
    table = table.assign(part=read_table(paths["split"])["part"].to_numpy())
    known = masks if table["has_mask"].any() else None
    write_figure(paths_to_figures["examples"], plot_examples(images, known, table, classes, data=data))
    write_figure(paths_to_figures["split"], plot_split(table, classes, data=data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw {snakemake.wildcards.dataset}"):
        draw(paths=dict(snakemake.input.items()), paths_to_figures=dict(snakemake.output.items()))
