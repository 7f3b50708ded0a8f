"""`python -m xiqa.compile`: compile every loop once, so that no later process waits for it; numba keeps the copies."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np

from xiqa.cdmam.curve import standard_curve
from xiqa.cdmam.graded import measure
from xiqa.cdmam.phantom import geometry_of
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure, Network

_SIDE = 40
"""Height and width in pixels of the images of networks and segmentation: the loops do not depend on it."""


def _phantom_images() -> None:
    """The simulator, the reader of both phantoms, graded signals and the curve."""
    for version in ("3.4", "4.0"):
        exposure, detector = Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=13.06), Detector()
        counts = simulate(exposure, detector, geometry_of(version, "standard_reader"), margin_mm=2.0).counts
        reading = read_image(counts, detector.pixel_mm, version=version)
        standard_curve(reading.corner[None], version=version)
        if version == "3.4":
            measure(counts, detector.pixel_mm, reading.registration)


def _gradient() -> None:
    """The gradient of a regression network; where its kernels cannot be used, torch takes their place."""
    from xiqa.models.cdc_net import CDCNet
    from xiqa.models.ensemble import Ensemble
    from xiqa.models.midpoint import MidpointGradient, why_no_kernels

    if reason := why_no_kernels():
        print(f"The gradient of regression networks is left to torch: {reason}.", flush=True)
        return
    member = CDCNet(_SIDE, Network(hidden=8)).eval().requires_grad_(False)
    MidpointGradient(Ensemble([member], 0.0, 1.0), "fast").gradient(np.zeros((1, _SIDE, _SIDE), np.float32))


def _segmentation() -> None:
    """Regions of an image."""
    from xiqa.segmentation import regions, segment

    image = np.random.default_rng(0).random((1, _SIDE, _SIDE))
    regions(image[0], segment(image))


STEPS: dict[str, Callable[[], None]] = {
    "simulator, reader, graded signals and curve": _phantom_images,
    "gradient of regression networks": _gradient,
    "segmentation": _segmentation,
}


def main() -> None:
    """Run every loop once that this installation has, side by side, and say how long each took."""
    steps = list(STEPS) if find_spec("torch") else list(STEPS)[:1]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for text in pool.map(_timed, steps):
            print(text, flush=True)


def _timed(name: str) -> str:
    start = time.perf_counter()
    STEPS[name]()
    return f"{name}: compiled or loaded in {time.perf_counter() - start:.1f} s"


if __name__ == "__main__":
    main()
