"""Read out the recordings of one exposure setting: detection matrices, and graded signals."""

from pathlib import Path

import numpy as np

from xiqa.cdmam.folder import withhold_patients
from xiqa.cdmam.readings import write_readings
from xiqa.cdmam.registered import registration_facts
from xiqa.logs import Progress, log_to
from xiqa.qc.load import Unread, read_recording


def read_recordings(
    paths_to_recordings: list[str],
    setting: str,
    path_to_detections: str,
    path_to_graded: str,
    path_to_images: str,
    progress: Progress,
) -> None:
    """Read each DICOM file; images are named by setting and number, so that file names stay out of the results."""
    detections, measured, rows, seen = [], {}, [], {}
    withheld = withhold_patients(map(Path, paths_to_recordings))
    for number, path in enumerate(paths_to_recordings):
        file = withheld(path)
        image = read_recording(path, f"{setting}-{number}", file, version="3.4", graded=True)
        if isinstance(image, Unread):
            raise ValueError(image.reason)
        if (first := seen.setdefault(image.pixel_digest, file)) != file:
            raise ValueError(f"{file}: found the same pixels as in {first}, expected another image; remove one of them")
        detections.append(np.stack([image.reading.corner, image.reading.centre]))
        measured |= {} if image.graded is None else {image.name: image.graded}
        rows.append({"image": image.name, **registration_facts(image.reading), "data": "recorded"})
        progress(number + 1, len(paths_to_recordings), "recordings read")
    write_readings(path_to_detections, path_to_graded, path_to_images, detections, measured, rows)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"read {snakemake.wildcards.setting}") as progress:
        read_recordings(
            paths_to_recordings=list(snakemake.input),
            setting=snakemake.wildcards.setting,
            path_to_detections=snakemake.output.detections,
            path_to_graded=snakemake.output.graded,
            path_to_images=snakemake.output.images,
            progress=progress,
        )
