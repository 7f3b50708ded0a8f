"""Parameters of tests."""

import pytest


def long(*values):
    """A case that takes long and of which a quick one is its like: `make test` leaves it to `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.long)


def ci(*values):
    """A case that takes long and runs in CI on every change all the same."""
    return pytest.param(*values, marks=[pytest.mark.long, pytest.mark.ci])
