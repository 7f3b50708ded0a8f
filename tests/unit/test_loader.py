"""Batches come in order whatever the threads do, few at a time, and a reader's error reaches the caller."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiqa.models.loader import even_batches, read_batches


class Watched:
    """Images whose reading is slow for some rows, and counted."""

    def __init__(self, array: np.ndarray):
        self.array, self.started, self.threads = array, 0, set()

    def __getitem__(self, rows):
        self.started += 1
        self.threads.add(threading.current_thread().name)
        time.sleep(0.004 * (rows[0] % 3))
        return self.array[rows]


@pytest.fixture
def memory_map(tmp_path) -> np.ndarray:
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).random((23, 4, 4)).astype(np.float16))
    return np.load(path, mmap_mode="r")


@given(n=st.integers(2, 300), batch_size=st.integers(2, 70))
def test_batches_are_even_and_hold_every_row_once_in_order(n, batch_size):
    rows = np.random.default_rng(n).permutation(1000)[:n]
    batches = even_batches(rows, batch_size)
    sizes = [len(batch) for batch in batches]
    np.testing.assert_array_equal(np.concatenate(batches), rows)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch_size, 3)


def test_few_rows():
    assert even_batches(np.zeros(0, int), 4) == []
    assert [list(batch) for batch in even_batches(np.array([7]), 4)] == [[7]]


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_order_and_content_do_not_depend_on_the_threads(memory_map, workers):
    batches = even_batches(np.random.default_rng(1).permutation(23), 4)
    watched = Watched(memory_map)
    found = list(read_batches(watched, batches, workers))
    assert len(found) == len(batches)
    for images, rows in zip(found, batches, strict=True):
        assert type(images) is np.ndarray
        assert images.dtype == np.float16
        np.testing.assert_array_equal(images, memory_map[rows])
    assert (threading.current_thread().name in watched.threads) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_no_more_batches_are_read_than_may_wait(memory_map, workers):
    watched = Watched(memory_map)
    for taken, _ in enumerate(read_batches(watched, even_batches(np.arange(23), 2), workers), start=1):
        time.sleep(0.005)
        assert watched.started <= taken + workers


def test_threads_read_at_the_same_time(memory_map):
    both = threading.Barrier(2, timeout=60)

    class Meeting:
        def __getitem__(self, rows):
            both.wait()  # passes only if two threads are here at once
            return memory_map[rows]

    assert len(list(read_batches(Meeting(), even_batches(np.arange(16), 4), 2))) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_reading_reaches_the_caller(memory_map, workers):
    reader = read_batches(memory_map, [np.array([0]), np.array([99])], workers)
    next(reader)
    with pytest.raises(IndexError):
        next(reader)


def test_leaving_early_ends_the_threads(memory_map):
    before = threading.active_count()
    reader = read_batches(Watched(memory_map), even_batches(np.arange(23), 2), 3)
    next(reader)
    reader.close()
    assert threading.active_count() == before
