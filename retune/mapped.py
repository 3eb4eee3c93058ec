"""Rows out of memory-mapped arrays without keeping the whole array in memory."""

from __future__ import annotations

import itertools
import mmap
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 64 * 2**20
"""Bytes of a mapped array that are read before the system is told that they may go."""


def take_rows(mapped: npt.NDArray[Any], rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
    """Copy rows into another array, converting to its type.

    Pages that a map has touched count as this process's memory until they are given back, so they
    are given back block by block.

    Args:
        mapped: (N, ...), memory-mapped or not.
        rows: Which rows, (n,), in any order.
        out: (n, ...).
    """
    if not len(rows):
        return
    each = max(1, BLOCK // max(1, mapped[0].nbytes))
    if len(rows) <= each and len(mapped) <= each:
        out[...] = mapped[rows]
        release(mapped)
        return
    order = np.argsort(rows, kind="stable")
    edges = np.searchsorted(rows[order], np.arange(0, len(mapped) + each, each))
    for start, end in itertools.pairwise(edges.tolist()):
        if end > start:
            here = order[start:end]
            out[here] = mapped[rows[here]]
            release(mapped)


def release(mapped: npt.NDArray[Any]) -> None:
    """Let the system take back the pages of a memory map; nothing happens to other arrays."""
    base: Any = mapped
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "_mmap", None) or getattr(base, "base", None)
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
