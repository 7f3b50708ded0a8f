"""Draw the AUC of all classifiers of a data set against the severity of the defect."""

from xiqa.figures.classification import plot_auc_by_severity
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to


def draw(path_to_table: str, path_to_figure: str) -> None:
    """One curve per trained network, and those of the shortcuts, of the first seed."""
    table = read_table(path_to_table)
    table = table[(table["weights"] == "trained") & (table["seed"] == table["seed"].min())]
    curves = {name.replace("(", "").replace(")", ""): rows for name, rows in table.groupby("architecture", sort=False)}
    write_figure(path_to_figure, plot_auc_by_severity(curves))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw severity {snakemake.wildcards.dataset}"):
        draw(path_to_table=snakemake.input[0], path_to_figure=snakemake.output[0])
