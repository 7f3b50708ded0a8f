"""Choose the images that are explained: by rule, the same for all networks of a split."""

from xiqa.datasets.splits import explained_images
from xiqa.files import PackedMasks, read_table, write_table
from xiqa.logs import log_to


def choose(
    path_to_table: str, path_to_masks: str, path_to_split: str, numbers: dict[str, int], path_to_chosen: str
) -> None:
    """Write one row per chosen image; see `explained_images`."""
    table, part = read_table(path_to_table), read_table(path_to_split)["part"].to_numpy()
    # A mask may be there and empty, as for a healthy image.
    table["has_mask"] = [bool(mask.any()) for mask in PackedMasks(path_to_masks)]
    write_table(path_to_chosen, explained_images(table, part, **numbers))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"choose images of {snakemake.wildcards.dataset}"):
        choose(
            path_to_table=snakemake.input.table,
            path_to_masks=snakemake.input.masks,
            path_to_split=snakemake.input.split,
            numbers=snakemake.params.numbers,
            path_to_chosen=snakemake.output.chosen,
        )
