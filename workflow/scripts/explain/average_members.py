"""What an ensemble says: the mean of its members' maps, and their spread as a map of its own."""

from pathlib import Path

import numpy as np

from xiqa.files import read_array, write_array
from xiqa.logs import log_to


def average(paths_to_maps: dict[str, list[str]], folder: Path) -> None:
    """Write mean (k, h, w) and, in `spread`, standard deviation over the members of the maps of each method."""
    for method, paths in paths_to_maps.items():
        maps = np.stack([read_array(path) for path in paths])
        write_array(folder / f"{method}.npy", maps.mean(0, dtype=np.float64).astype(np.float32))
        write_array(folder / "spread" / f"{method}.npy", maps.std(0, dtype=np.float64).astype(np.float32))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"average maps of {snakemake.params.dataset}"):
        average(paths_to_maps=snakemake.params.maps, folder=Path(snakemake.output.means[0]).parent)
