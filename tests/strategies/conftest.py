"""What every test of a strategy may use."""

from __future__ import annotations

import pytest

from retune.check.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """One for all tests: weights and prompts are read once."""
    return Lab()
