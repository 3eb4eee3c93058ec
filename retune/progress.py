"""How long work tells what it is at."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is to do.

What stands in brackets behind what is being done, as ``(waiting for pictures)``, may change while it is.
"""


def silent(stage: str, done: int, total: int) -> None:
    """Nobody is told."""
