"""The machine: how many cores there are, and how memory is given back."""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_NEVER: Final = 2**31 - 1
_LARGEST: Final = 32 * 2**20
"""The largest threshold that glibc takes."""
BLOCK: Final = 64 * 2**20
"""Bytes of a mapped array that are read before the system is told that they may go."""


def cores() -> int:
    """How many cores this process may use: of the machine's, those that its affinity and its control group allow."""
    import joblib

    return int(joblib.cpu_count())


def keep_freed_memory() -> None:
    """Tell glibc's allocator not to give memory back to the system.

    A step allocates and frees the same few large arrays. Where each goes back to the system, every
    page is faulted in and zeroed again, which can cost as much as the arithmetic. Elsewhere than on
    Linux with glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its arrays, and where their values begin; nothing is checked."""
    with path.open("rb") as file:
        return read_header(file)


def read_header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """What :func:`safetensors_header` tells, of a file open at its start."""
    length = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(length), object_pairs_hook=once), 8 + length


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``: an object in which no key stands twice, else a ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two entries have one name")
    return found


def map_array(path: Path, dtype: str, shape: Sequence[int], offset: int) -> npt.NDArray[Any]:
    """An array in a file, whose values stay there until they are asked for."""
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(str(path), dtype, "r", offset, tuple(shape))


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
