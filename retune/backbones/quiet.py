"""Keeping other libraries' notices from our users."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Drop log records and warnings while a model library works.

    open_clip logs through the root logger, whose first use would also install a handler for good.
    """
    handler = logging.NullHandler()
    before = logging.root.manager.disable
    logging.root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)


def gist(error: Exception) -> str:
    """The gist of another library's message: its kind and its first two lines, cut."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 or len(lines) > 2 else ''}"
