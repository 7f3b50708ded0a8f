"""Keep random rows and columns of the recordings of one exposure setting."""

import numpy as np
import pandas as pd

from xiqa.cdmam.dicom import read_dicom
from xiqa.cdmam.labels import own_label_um
from xiqa.cdmam.samples import even_shares, parts_of_recordings
from xiqa.datasets.sampling import draw_indices
from xiqa.datasets.sampling import sample as take
from xiqa.files import write_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.seeds import stream_seed


def sample_recordings(
    paths_to_recordings: list[str],
    split: str | dict[str, int],
    sampling: dict,
    setting: str,
    paths: dict[str, str],
    progress: Progress,
) -> None:
    """Sample training recordings often and test recordings once.

    Few recordings stand for many training images (Amanova 2022 made 4,800 of 48): `training_samplings` samplings are
    shared evenly by the training recordings, K to a row. `split`: see `parts_of_recordings`. `own_labels`, if any:
    what the human-equivalent factor multiplies in the label that each training recording gets of its own.
    """
    size, repeats = sampling["size"], sampling["samplings"]
    parts = parts_of_recordings(len(paths_to_recordings), split)
    trained = [number for number, part in enumerate(parts) if part == "train"]
    shares = even_shares(sampling["training_samplings"], len(trained)) if trained else []
    copies = dict(zip(trained, shares, strict=True))
    plan = [(number, part, copy) for number, part in enumerate(parts) for copy in range(max(1, copies.get(number, 1)))]
    images = np.zeros((len(plan), repeats, size, size), np.float32)
    indices = np.zeros((len(plan), repeats, 2, size), np.int32)
    rows, loaded = [], None
    for index, (number, part, copy) in enumerate(plan):
        if loaded is None or loaded[0] != number:
            loaded = number, read_dicom(paths_to_recordings[number])
            own = {}
            if sampling.get("own_labels") and part == "train":
                shown = f"{setting}-{number}"
                own = {"label_um": own_label_um(loaded[1].counts, loaded[1].pixel_mm, sampling["own_labels"], shown)}
        counts = loaded[1].counts
        for repeat in range(repeats):
            rng = np.random.default_rng(stream_seed(sampling["seed"], "sampling", setting, number, copy, repeat))
            chosen = draw_indices(counts.shape, size, rng)
            images[index, repeat] = take(counts, *chosen)
            indices[index, repeat] = chosen
        rows.append(
            {"image": f"{setting}-{number}", "setting": setting, "part": part, "step": "recorded", "margin_mm": np.nan,
             "index": number, "height": counts.shape[0], "width": counts.shape[1], "pixel_mm": loaded[1].pixel_mm,
             "data": "recorded", **own}
        )  # fmt: skip
        progress(index + 1, len(plan), "samplings")
    write_array(paths["images"], images)
    write_array(paths["indices"], indices)
    write_table(paths["table"], pd.DataFrame(rows))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"sample {snakemake.wildcards.setting}") as progress:
        sample_recordings(
            paths_to_recordings=list(snakemake.input),
            split=snakemake.params.split,
            sampling=snakemake.params.sampling,
            setting=snakemake.wildcards.setting,
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
