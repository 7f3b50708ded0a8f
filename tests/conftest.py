"""What all tests share: the folder of real images, the project's root, and how workers share the tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:
    # Read when torch is loaded, by a test. With more threads, workers would wait for each other's.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing on a busy machine. The same examples every time: what passes here passes in CI.
settings.register_profile("repeatable", deadline=None, derandomize=True)
# New examples every time; `make test-all` asks for it.
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


def pytest_generate_tests(metafunc):
    """Refuse parameters from a set: its order differs between processes, and workers must find the same tests."""
    for marker in metafunc.definition.iter_markers("parametrize"):
        values = marker.kwargs.get("argvalues", marker.args[1] if len(marker.args) > 1 else ())
        if isinstance(values, set | frozenset):
            pytest.fail(f"{metafunc.definition.nodeid}: parameters are a set, whose order changes; sort it")


def pytest_collection_modifyitems(items):
    """Workers take the tests that run Snakemake first: they are the longest, and none must be left for the end."""
    if WORKER:
        items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it are skipped, saying so, where it is not set."""
    folder = os.environ.get("XIQA_REAL_DATA")
    if not folder:
        pytest.skip("XIQA_REAL_DATA is not set: it names the folder with the real images")
    return Path(folder)
