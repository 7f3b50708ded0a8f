"""Provide one full-resolution image with its exact structures, for upsampled explanations."""

import numpy as np

from xiqa.cdmam.dicom import read_dicom
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.registered import structure_of_reading
from xiqa.cdmam.samples import parts_of_recordings
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.files import write_array, write_json, write_labels
from xiqa.logs import log_to
from xiqa.seeds import stream_seed


def original(original: dict, image: str, paths_to_recordings: list[str], paths: dict[str, str]) -> None:
    """Simulate the image, or read the recording and place the phantom where the reader found it."""
    if "recorded" in original:
        # The n-th recording of the test part; recordings come folder by folder.
        tested = [
            path for path, part in recordings_with_parts(paths_to_recordings, original["parts"]) if part == "test"
        ]
        recording = read_dicom(tested[int(original["recorded"])])
        counts, pixel_mm, data = recording.counts, recording.pixel_mm, "recorded"
        structure = structure_of_reading(read_image(counts, pixel_mm, name=image), counts.shape, pixel_mm)
    else:
        detector = Detector(**original["detector"])
        group = image.split("-")[0]
        simulated = simulate(
            Exposure(**original["exposure"]), detector, GEOMETRIES[original["geometry"]], original["margin_mm"],
            seed=stream_seed(original["seed"], "image", group), index=original["index"],
        )  # fmt: skip
        counts, structure, pixel_mm, data = simulated.counts, simulated.structure, detector.pixel_mm, "simulated"
    if original["rotated"]:
        counts, structure = np.rot90(counts), np.rot90(structure)
    write_array(paths["counts"], np.ascontiguousarray(counts))
    write_labels(paths["structure"], structure)
    write_json(paths["facts"], {"image": image, "pixel_mm": pixel_mm, "data": data, "shape": list(counts.shape)})


def recordings_with_parts(paths: list[str], parts: dict[str, str | dict[str, int]]) -> list[tuple[str, str]]:
    """Each recording's path with its part, as the stage that samples recordings divides them."""
    folders = dict.fromkeys(path.rsplit("/", 1)[0] for path in paths)
    pairs = []
    for folder, part in zip(folders, parts.values(), strict=True):
        files = [path for path in paths if path.rsplit("/", 1)[0] == folder]
        pairs += zip(files, parts_of_recordings(len(files), part), strict=True)
    return pairs


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"original {snakemake.wildcards.image}"):
        original(
            original=snakemake.params.original,
            image=snakemake.wildcards.image,
            paths_to_recordings=list(snakemake.input),
            paths=dict(snakemake.output.items()),
        )
