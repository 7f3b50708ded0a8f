"""Say what a study will cost, without starting it: python workflow/scripts/plan_study.py [STUDY.yaml ...] [--cores N].

With `-` instead of files the checked configuration comes as JSON on the standard input: so the workflow asks it.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import yaml

from xiqa.config import Config, laid_over, load_config, own_images_alone
from xiqa.storage import Storage, storage

PROJECT = Path(__file__).resolve().parents[3]


def study_of(paths: list[str]) -> Config:
    """The study as the workflow reads it: laid over the default, and over the list for own images where it is one."""
    read = lambda path: yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}  # noqa: E731
    base, top = read(PROJECT / "config/config.yaml"), {}
    for path in paths:
        top = laid_over(top, read(path))
    if own_images_alone(laid_over(base, top)):
        base = laid_over(base, read(PROJECT / "config/own_images.yaml"))
    return load_config(laid_over(base, top))


def disk(parts: list[Storage], results: str) -> str:
    """What a study needs of the disk, and what is free where its results lie, in one sentence."""
    kept, temporary = (sum(getattr(part, kind) for part in parts) / 1e9 for kind in ("kept", "temporary"))
    folder = Path(results).resolve()
    free = shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free / 1e9
    warning = "" if free > kept + temporary else " That is too little: make room, or name another folder in `results`."
    return (
        f"Disk: about {kept:.2g} GB of results, and up to {temporary:.2g} GB that is deleted again; {free:.0f} GB are "
        f"free.{warning}"
    )


def plan(config: Config, own_images: bool, cores: int, title: str) -> str:
    """Measure the rates of a study, and tell what it costs, one line per stage."""
    # Slow to import: a configuration with a fault is told before.
    from xiqa.cdmam.folder import find_images
    from xiqa.plan import longest_advice, stages, told, work_of
    from xiqa.rates import Rates, images_in

    start = time.monotonic()
    recordings = sum(len(find_images(folder).paths) for folder in config.cdmam.recordings)
    images = images_in(config)
    work = work_of(config, images, recordings, ["images"] if own_images else [])
    rates = Rates(config, lambda name: print(f"\r  measuring {name:<60}", end="", file=sys.stderr, flush=True))
    lines = stages(work, rates.of(part.rate for part in work if part.rate), rates.start_s)
    print(f"\r{'':<72}\r", end="", file=sys.stderr, flush=True)
    where = f"Rates: measured just now, on this machine, in {time.monotonic() - start:.0f} s."
    parts = [part for part in storage(config, images) if not own_images or part.part.split(":")[0] in config.datasets]
    text = told(lines, title=title, cores=cores, rates_from=where, disk=disk(parts, config.results))
    return "\n".join(filter(None, [text, longest_advice(lines)]))


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", metavar="STUDY.yaml", help="laid over config/config.yaml")
    parser.add_argument("--cores", type=int, default=cores, help="jobs at the same time (default: all cores)")
    asked = parser.parse_args()
    study = Config.model_validate_json(sys.stdin.read()) if asked.studies == ["-"] else study_of(asked.studies)
    own = own_images_alone(study.model_dump())
    print(plan(study, own, asked.cores, f"What study {study.study} costs from the beginning"))
