"""What all tests share: the folder of real images, and the project's root."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a busy machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

ROOT = Path(__file__).resolve().parent.parent


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
