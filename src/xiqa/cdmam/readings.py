"""The files of the images of one exposure setting that a study has read, simulated or recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from xiqa.cdmam.graded import GradedImage, to_table
from xiqa.files import write_array, write_table


def write_readings(
    path_to_detections: str,
    path_to_graded: str,
    path_to_images: str,
    detections: Sequence[np.ndarray],
    measured: Mapping[str, GradedImage],
    rows: Sequence[dict],
) -> None:
    """Write what was read.

    Args:
        path_to_detections: gets `detections`: of each image (2, D, T) int8, of corner and centre, as in `Reading`.
        path_to_graded: gets `measured`, by name of the image, as of `xiqa.cdmam.graded.to_table`.
        path_to_images: gets `rows`: of each image its name, `registration_facts`, and whether it was recorded.
    """
    write_array(path_to_detections, np.stack(detections))
    write_table(path_to_graded, to_table(measured))
    write_table(path_to_images, pd.DataFrame(rows))
