"""Batches of images from a memory map, read ahead by threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from xiqa.datasets.sampling import SampledImages


def even_batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Divide rows, in their order, into batches whose sizes differ by one at most.

    A batch of a single image would leave batch normalisation without a spread, hence none is made of two rows or
    more; to that end a batch of three may arise where the batch size is two.

    Args:
        rows: (n,) indices.
        batch_size: rows per batch at most.
    """
    if not len(rows):
        return []
    return np.array_split(rows, max(1, min(math.ceil(len(rows) / batch_size), len(rows) // 2)))


def read_batches(
    images: np.ndarray | SampledImages, batches: Sequence[np.ndarray], workers: int
) -> Iterator[np.ndarray]:
    """Yield the images of each batch, in order, while threads read the next ones.

    Threads suffice: reading a memory map waits for the disk and copies, both without Python's lock. At most
    `workers` batches wait beside the one handed out; neither their order nor their content depends on the threads.

    Args:
        images: (n, h, w), usually a memory map.
        batches: indices of the images of each batch.
        workers: threads that read; 0 reads each batch when it is asked for.

    Yields:
        (b, h, w) copies, of the dtype of `images`.
    """
    if workers == 0:
        yield from (np.asarray(images[rows]) for rows in batches)
        return
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(workers, "read") as pool:
        try:
            for rows in batches:
                waiting.append(pool.submit(images.__getitem__, rows))
                if len(waiting) > workers:
                    yield np.asarray(waiting.popleft().result())
            while waiting:
                yield np.asarray(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()
