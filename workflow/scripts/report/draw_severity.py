"""Show the dose-response part of a twin: its images, and the AUC of all classifiers against the severity."""

from xiqa.datasets.base import classes_of
from xiqa.figures.classification import plot_auc_by_severity
from xiqa.figures.datasets import plot_severity_strip
from xiqa.figures.style import note_seed
from xiqa.files import PackedMasks, read_array, read_table, write_figure
from xiqa.logs import log_to


def draw(paths: dict[str, str], paths_to_figures: dict[str, str]) -> None:
    """Draw one image per class and level; one curve per trained network, and those of the shortcuts, of one seed."""
    images, masks, table = read_array(paths["images"]), PackedMasks(paths["masks"]), read_table(paths["table"])
    classes = classes_of(table)
    write_figure(paths_to_figures["severity"], plot_severity_strip(images, masks, table, classes))
    scores = read_table(paths["scores"])
    first, number = scores["seed"].min(), scores["seed"].nunique()
    scores = scores[(scores["weights"] == "trained") & (scores["seed"] == first)]
    curves = {name.replace("(", "").replace(")", ""): rows for name, rows in scores.groupby("architecture", sort=False)}
    figure = plot_auc_by_severity(curves)
    note_seed(figure, first, number)
    write_figure(paths_to_figures["auc_by_severity"], figure)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw severity {snakemake.wildcards.dataset}"):
        draw(paths=dict(snakemake.input.items()), paths_to_figures=dict(snakemake.output.items()))
