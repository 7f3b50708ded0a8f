"""Draw the checks of the explanations: modified images, structure shares, designs of upsampling (figure 13)."""

import pandas as pd

from xiqa.cdmam.limits import limit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.figures.checks import (
    plot_modified_curves,
    plot_modified_midpoints,
    plot_structure_share,
    plot_upsampling_convergence,
)
from xiqa.figures.style import data_of, group_name, method_name
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to


def draw_checks(
    paths_to_curves: list[str], path_to_modified: str, path_to_shares: str, path_to_designs: str, paths: dict[str, str]
) -> None:
    """Draw figure 13 of the paper, and what goes beyond it."""
    curves, modified = pd.concat(map(read_table, paths_to_curves)), read_table(path_to_modified)
    data = data_of(modified["data"])
    firsts = curves.assign(group=curves["image"].str.split("-").str[0]).drop_duplicates(["group", "diameter_mm"])
    before = {group_name(group): rows["before_um"].to_numpy() for group, rows in firsts.groupby("group", sort=False)}
    after = {group_name(group): rows["after_um"].to_numpy() for group, rows in firsts.groupby("group", sort=False)}
    limits = {"acceptable": (CDC_DIAMETERS_MM, limit_curve("acceptable", CDC_DIAMETERS_MM))}
    write_figure(paths["curves"], plot_modified_curves(CDC_DIAMETERS_MM, before, after, limits, data=data))
    write_figure(paths["midpoints"], plot_modified_midpoints(modified, data=data))
    shares = read_table(path_to_shares)
    method = shares["method"].iloc[0]
    plain = shares[(shares["method"] == method) & ~shares["image"].str.endswith("-rotated")]
    write_figure(paths["shares"], plot_structure_share(plain, title=f"{method_name(method)}, all groups", data=data))
    write_figure(paths["designs"], plot_upsampling_convergence(read_table(path_to_designs), data=data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "draw checks"):
        draw_checks(
            paths_to_curves=list(snakemake.input.curves),
            path_to_modified=snakemake.input.modified,
            path_to_shares=snakemake.input.shares,
            path_to_designs=snakemake.input.designs,
            paths=dict(snakemake.output.items()),
        )
