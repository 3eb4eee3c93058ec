"""Avalanche without its start-up warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from retune.avalanche_bridge.names import DISTRIBUTION
from retune.errors import MissingPackage


@contextmanager
def quietly() -> Iterator[None]:
    """Import and run Avalanche without warnings; it and what it imports give a dozen.

    Raises:
        MissingPackage: If Avalanche, or something that it imports, is not installed.
    """
    # Recorded, not ignored: Avalanche turns its own back on wherever it gives one.
    with warnings.catch_warnings(record=True):
        try:
            yield
        except ImportError as error:
            raise MissingPackage(
                f"Avalanche cannot be imported ({error})", fix=f"pip install {DISTRIBUTION}"
            ) from None
