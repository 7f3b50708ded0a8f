"""Draw the scores of the maps of a data set: localisation, averaged curves, masking, cascading randomisation."""

from pathlib import Path

from xiqa.figures.map_scores import plot_cascade, plot_curves, plot_localisation, plot_masking
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to
from xiqa.metrics.maps.beside import ours


def draw(paths_to_tables: list[str], path_to_curves: str, path_to_masking: str, network: dict, paths: dict) -> None:
    """Draw the first network of a data set; the localisation of all states of it."""
    tables = {Path(path).stem: read_table(path) for path in paths_to_tables}
    curves, data = read_table(path_to_curves), tables["roc_auc"]["data"].iloc[0]
    roc, dice = curves[curves["kind"] == "roc"], curves[curves["kind"] == "region_dice"]
    figures = {
        "localisation": lambda: plot_localisation(
            ours(tables["pointing_game"]), tables["roc_auc"], network["architecture"], data
        ),
        "map_roc": lambda: plot_curves(
            roc, "false positive rate", "true positive rate", "area under the averaged curve", data
        ),
        "region_dice": lambda: plot_curves(
            dice, "most salient area shown (%)", "Dice coefficient", "maximum of the averaged curve", data, log_x=True
        ),
        "fidelity": lambda: plot_masking(
            tables["fidelity"], read_table(path_to_masking), network["architecture"], data
        ),
        "cascade": lambda: plot_cascade(tables["cascade"], data),
    }
    for name, path in paths.items():
        write_figure(path, figures[name]())


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw scores of {snakemake.wildcards.dataset}"):
        draw(
            paths_to_tables=list(snakemake.input.tables),
            path_to_curves=snakemake.input.curves,
            path_to_masking=snakemake.input.masking,
            network=snakemake.params.network,
            paths=dict(snakemake.output.items()),
        )
