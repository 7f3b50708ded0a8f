"""Draw what one network does on one data set: ROC, confusion, calibration, training, feature space."""

from pathlib import Path

from matplotlib.figure import Figure

from xiqa.figures import classification as figures
from xiqa.figures.style import note_seed
from xiqa.files import read_json, read_table, write_figure
from xiqa.logs import log_to


def draw(
    paths_to_tables: list[str],
    folders_of_networks: dict[int, Path],
    paths_to_embedding: list[str],
    architecture: str,
    paths_to_figures: dict[str, str],
) -> None:
    """Draw the trained network of the first seed beside the shortcuts, and the training of all seeds."""
    first, number = min(folders_of_networks), len(folders_of_networks)

    def write(name: str, figure: Figure) -> None:
        note_seed(figure, first, number)
        write_figure(paths_to_figures[name], figure)

    def rows_of(table, name: str):
        own = (table["architecture"] == name) & (table["weights"] == "trained") & (table["seed"] == first)
        return table[own].reset_index(drop=True)

    tables = {Path(path).stem: read_table(path) for path in paths_to_tables}
    scores, data = tables["scores"], tables["scores"]["data"].iloc[0]
    names = [architecture, *(n for n in scores["architecture"].unique() if n.startswith("shortcut"))]
    texts = {name: rows_of(scores, name).fillna({"class_name": "", "reason": ""}) for name in names}
    curves = {name: rows_of(tables["roc"], name) for name in names}
    bands = {architecture: rows_of(tables["roc_band"], architecture)}
    write("roc", figures.plot_roc(curves, bands, texts, data))
    write("confusion", figures.plot_confusion(rows_of(tables["confusion"], architecture), data))
    bins = rows_of(tables["calibration"], architecture)
    write("calibration", figures.plot_reliability(bins, texts[architecture], data))
    histories = {f"seed {seed}": read_table(folder / "history.csv") for seed, folder in folders_of_networks.items()}
    best = {f"seed {seed}": read_json(f / "model.json")["best_epoch"] for seed, f in folders_of_networks.items()}
    write_figure(paths_to_figures["history"], figures.plot_training(histories, best, data))
    points, silhouettes = map(read_table, paths_to_embedding)
    classes = list(dict.fromkeys(tables["confusion"]["truth"]))
    write("embedding", figures.plot_embedding(points, silhouettes, classes, data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw {snakemake.wildcards.architecture} on {snakemake.wildcards.dataset}"):
        folders = [Path(path).parent for path in snakemake.input.histories if path.endswith("history.csv")]
        draw(
            paths_to_tables=list(snakemake.input.tables),
            folders_of_networks=dict(zip(snakemake.params.seeds, folders, strict=True)),
            paths_to_embedding=list(snakemake.input.embedding),
            architecture=snakemake.wildcards.architecture,
            paths_to_figures=dict(snakemake.output.items()),
        )
