"""Put the main figures and the tables of a data set on one page of the report."""

from pathlib import Path

from xiqa.files import read_table
from xiqa.logs import log_to
from xiqa.report.pages import write_page

SHOWN = {
    "classifier": "The networks: size, and scores on the test part with 95 % intervals (Brima 2023, table 3).",
    "pointing_game": "Pointing Game of each method, with and without smoothing, and against the best control.",
    "smoothing": "What smoothing does to the Pointing Game (Özer, table 2).",
    "randomisation": "Trained against randomised networks on the same images (Özer, tables 3 and 4).",
    "difference_of_means": "Difference of Means between architectures (Özer, tables 5 and 6).",
    "roc_auc": "Pixel AUC, over the image and inside the body (Brocki 2022, table 2).",
    "region_dice": "Dice coefficient of the best regions (Brocki 2022, table 3).",
    "fidelity": "Fidelity, insertion, deletion and ROAD (Brocki 2022, table 1).",
    "averaged": "Areas of curves averaged over images: ROC as in Brocki 2022, region Dice, FROC.",
    "relevance": "Relevance mass and rank, intersection over union.",
    "dose_response": "Does the map's mass on the defect grow with its severity?",
    "alignment": "Maps of layers as published and centred.",
}


def write(
    paths_to_tables: list[str], paths_to_figures: list[str], captions: dict[str, str], title: str, path_to_page: str
) -> None:
    """Write small copies of the figures, and the tables that a reader compares; the files have everything."""
    tables = {Path(path).stem: path for path in paths_to_tables}
    found = {name: (caption, read_table(tables[name])) for name, caption in SHOWN.items() if name in tables}
    data = next(iter(found.values()))[1]["data"].iloc[0]
    write_page(f"{title} ({data} images)", paths_to_figures, captions, found, path_to_page)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"page of {snakemake.wildcards.dataset}"):
        write(
            paths_to_tables=list(snakemake.input.tables),
            paths_to_figures=list(snakemake.input.figures),
            captions=snakemake.params.captions,
            title=snakemake.wildcards.dataset,
            path_to_page=snakemake.output.page,
        )
