"""Prints seconds per simulated image on one core: python tests/benchmarks/simulator_speed.py"""

import time

import numpy as np

from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.projection import clear_cache, frame_shape
from xiqa.cdmam.simulator import noise_free, simulate, simulate_cell, simulate_sampled, structure_labels
from xiqa.config import Detector, Exposure

PUBLIC_SIMULATOR_CELL_SECONDS = 6.9  # docs/explanation/simulator.md says how it was estimated


def seconds(call, repeats=9):
    """Median and best time of calls with rising image numbers."""
    times = []
    for index in range(repeats):
        start = time.perf_counter()
        call(index)
        times.append(time.perf_counter() - start)
    return float(np.median(times)), min(times)


def main():
    """Measure each kind of image with either noise model."""
    detector, geometry = Detector(), GEOMETRIES["standard_reader"]
    settings = {
        "published": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=18.91),
        "physical": Exposure(tube_voltage_kv=28, exposure_mas=80, noise="physical"),
    }
    rng = np.random.default_rng(0)
    print(f"{'image':42s} {'median s':>9s} {'best s':>9s}")
    for noise, exposure in settings.items():

        def uncached(index, exposure=exposure, margin_mm=0.0):
            clear_cache()
            simulate(exposure, detector, geometry, margin_mm, 0, index)

        def sampled(index, exposure=exposure):
            shape = frame_shape(geometry, detector, 0.0)
            rows, columns = (np.sort(rng.choice(side, 250, replace=False)) for side in shape)
            simulate_sampled(exposure, detector, geometry, 0.0, 0, 0, rows, columns)

        def cell(index, exposure=exposure):
            simulate_cell(exposure, detector, GEOMETRIES["ptb"], 1.6, 2.0, seed=0, index=index)

        for call in (uncached, sampled, cell):
            call(0)  # compile
        rows = {
            "full frame, projection not in memory": seconds(uncached),
            "full frame, projection in memory": seconds(
                lambda index, exposure=exposure: simulate(exposure, detector, geometry, 0.0, 0, 0)
            ),
            "full frame, margin 40 mm, in memory": seconds(
                lambda index, exposure=exposure: simulate(exposure, detector, geometry, 40.0, 0, 0)
            ),
            "250 x 250 sampled pixels, in memory": seconds(sampled),
            "expected counts of a full frame": seconds(
                lambda index, exposure=exposure: noise_free(exposure, detector, geometry, 0.0, 0, 0)
            ),
            "structure labels": seconds(
                lambda index, exposure=exposure: structure_labels(exposure, detector, geometry, 0.0, 0, index)
            ),
            "single cell, 146 x 146": seconds(cell, 50),
        }
        for name, (median, best) in rows.items():
            print(f"{noise + ': ' + name:42s} {median:9.4f} {best:9.4f}")
        ratio = PUBLIC_SIMULATOR_CELL_SECONDS / rows["single cell, 146 x 146"][0]
        print(f"single cell: {ratio:.0f} times faster than the public simulator's estimated {6.9} s")


if __name__ == "__main__":
    main()
