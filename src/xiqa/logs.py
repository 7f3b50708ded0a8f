"""Where a stage's messages go: everything into its log file, progress also to the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

Progress = Callable[[int, int, str], None]


@contextlib.contextmanager
def log_to(path: str | Path, label: str, every_seconds: float = 15.0) -> Iterator[Progress]:
    """Send stdout, stderr and an error's traceback to the log file of a stage.

    Args:
        path: the log file.
        label: what the stage works on, shown with its progress.
        every_seconds: shortest time between two lines of progress on the terminal.

    Yields:
        `progress(done, total, note)`: notes in the log how far the stage is and shows it from time to time.
    """
    terminal = sys.stderr
    last = time.monotonic()
    with open(path, "w", encoding="utf-8", buffering=1) as log:

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal last
            line = f"{label}: {done} of {total} {note}".rstrip()
            print(line, file=log)
            if time.monotonic() - last >= every_seconds:
                last = time.monotonic()
                print(f"    {line}", file=terminal, flush=True)

        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                yield progress
            except BaseException:
                traceback.print_exc(file=log)
                raise
