"""Draw the checks of the explanations: modified images, structure shares, designs of upsampling (figure 13)."""

import pandas as pd

from xiqa.cdmam.limits import limit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.figures.checks import (
    plot_modified_curves,
    plot_modified_midpoints,
    plot_structure_share,
    plot_upsampling_designs,
)
from xiqa.figures.style import data_of
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to
from xiqa.names import method_name


def draw_checks(paths_to_curves: list[str], paths_to_tables: dict[str, str], paths: dict[str, str]) -> None:
    """Draw figure 13 of the paper, and what goes beyond it."""
    tables = {name: read_table(path) for name, path in paths_to_tables.items()}
    curves, modified, shares = pd.concat(map(read_table, paths_to_curves)), tables["modified"], tables["shares"]
    data, method = data_of(modified["data"]), modified["method"].iloc[0]
    firsts = curves.assign(group=curves["image"].str.split("-").str[0]).drop_duplicates(["group", "diameter_mm"])
    limits = {"acceptable": (CDC_DIAMETERS_MM, limit_curve("acceptable", CDC_DIAMETERS_MM))}
    write_figure(paths["curves"], plot_modified_curves(firsts, method, limits, data=data))
    write_figure(paths["midpoints"], plot_modified_midpoints(modified, tables["modified_summary"], data=data))
    first = shares[(shares["method"] == method) & (shares["group"] == "all")]
    write_figure(paths["shares"], plot_structure_share(first, title=f"{method_name(method)} map", data=data))
    write_figure(paths["designs"], plot_upsampling_designs(tables["designs"], data=data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "draw checks"):
        draw_checks(
            paths_to_curves=list(snakemake.input.curves),
            paths_to_tables={name: path for name, path in snakemake.input.items() if name != "curves"},
            paths=dict(snakemake.output.items()),
        )
