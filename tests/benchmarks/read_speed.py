"""Prints how long `xiqa read` takes on 16 images: python tests/benchmarks/read_speed.py [FOLDER] [--pixel-mm 0.06]

The images are simulated once into FOLDER, where a later run finds them (default: a temporary folder). They are read
once to compile the loops, then with and without pictures, each in a process of its own from the command's start on, as
a user would: wall-clock seconds and seconds of processor of that process and its children, altogether and per image.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xiqa.cdmam.dicom import write_dicom
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure

IMAGES = 16
MARGIN_MM = 20.0
EXPOSURE = Exposure(anode="W", filter="Rh", tube_voltage_kv=28, exposure_mas=95, noise="physical")


def images(folder: Path, pixel_mm: float) -> Path:
    """The folder of the images, which are made where they are missing."""
    folder = folder / f"images_{pixel_mm:g}_mm"
    folder.mkdir(parents=True, exist_ok=True)
    detector = Detector(pixel_mm=pixel_mm)
    for index in range(IMAGES):
        path = folder / f"{index:02d}.dcm"
        if not path.exists():
            counts = simulate(EXPOSURE, detector, GEOMETRIES["standard_reader"], MARGIN_MM, seed=1, index=index).counts
            write_dicom(path, counts, EXPOSURE, detector, image_name=path.stem)
    return folder


def seconds(places: Path, out: Path, *options: str) -> tuple[float, float]:
    """Wall-clock and processor seconds of one call of `xiqa read`."""
    before, start = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "xiqa.cli", "read", str(places), "--out", str(out), *options]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if found.returncode not in (0, 3, 4):  # limit met, exceeded, not determined
        raise RuntimeError(f"xiqa read ended with {found.returncode}: {found.stderr}")
    return wall, after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the images (default: a temporary folder)")
    parser.add_argument("--pixel-mm", type=float, default=0.06)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        places, out = images(options.folder or Path(temporary), options.pixel_mm), Path(temporary, "out")
        seconds(places, out)  # compiles
        print(f"{IMAGES} images of {options.pixel_mm:g} mm, {os.cpu_count()} cores")
        print(f"{'xiqa read':20s} {'wall s':>8s} {'per image':>10s} {'processor s':>12s} {'per image':>10s}")
        for name, further in (("with pictures", ()), ("--no-pictures", ("--no-pictures",))):
            wall, processor = seconds(places, out, *further)
            print(f"{name:20s} {wall:8.2f} {wall / IMAGES:10.3f} {processor:12.2f} {processor / IMAGES:10.3f}")


if __name__ == "__main__":
    main()
