"""What the verbs of the command line share: kinds of options, work in several processes."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from rich.console import Console
from rich.progress import track

VERBS = {
    "read": "read CDMAM images: detection matrices, contrast-detail curves held against limits, records for the file",
    "compare": "compare two results of xiqa read: two settings, systems, readers or dates",
    "trend": "follow a system over its results of xiqa read: control charts that alarm at a drift",
    "simulate": "write simulated CDMAM images as DICOM",
    "reader-study": "ask people: blinded cases with and without explanations, and what the answers say",
}
"""The verbs of the command line, one module each, and what `xiqa --help` says of them."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count(least: int) -> Callable[[str], int]:
    """A kind of option: whole numbers from `least`."""

    def whole_number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from {least}")
        return int(text)

    return whole_number


def number(low: float, high: float) -> Callable[[str], float]:
    """A kind of option: numbers from `low` to `high`."""

    def real_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from {low:g} to {high:g}")
        return value

    return real_number


def point(text: str) -> tuple[float, float]:
    """A kind of option: a place "X,Y" in pixels."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected X,Y in pixels, such as 310,1250") from None
    return x, y


def each(work: Callable, tasks: Sequence[tuple], jobs: int, title: str) -> Iterable[tuple[int, Any]]:
    """Yield (number of the task, result) as they come, with a progress bar on stderr."""
    console = Console(stderr=True)
    if jobs == 1 or len(tasks) == 1:
        for number, task in enumerate(track(tasks, title, console=console)):
            yield number, work(*task)
        return
    # A forked process shares what is loaded, a spawned one loads it again for some seconds; forking is safe while no
    # other thread can hold a lock. All processes start with the first task, before the progress bar's thread does.
    forks = sys.platform == "linux" and threading.active_count() == 1
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("fork" if forks else "spawn")) as pool:
        running = {pool.submit(work, *task): number for number, task in enumerate(tasks)}
        for done in track(as_completed(running), title, total=len(running), console=console):
            yield running[done], done.result()
