"""Freed memory stays in the process, for the next step of training will ask for it again."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_NEVER: Final = 2**31 - 1
_LARGEST: Final = 32 * 2**20
"""The largest threshold that glibc takes."""


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
