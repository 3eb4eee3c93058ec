"""How a deep picture is brought to 8 bits."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Array, BoolArray

WINDOW: Final = (0.005, 0.995)
"""Share of a deep picture's pixels that turn black and white: burnt-in markers must not set the exposure."""


def expose(pixels: npt.NDArray[np.uint16], outside: BoolArray | None = None) -> npt.NDArray[np.uint8]:
    """Window a deep picture to its 0.5th to 99.5th percentile, or to its whole range where these coincide.

    The window is the picture's own, so it does not matter how many of the 16 bits are used, nor
    which offset and scale a device wrote.

    Args:
        pixels: Brighter is larger; shape (H, W). A constant picture keeps its brightness.
        outside: Pixels that are no part of the picture, shape (H, W): they do not count, and turn black.

    Returns:
        Grey values of shape (H, W).
    """
    counts = np.bincount((pixels if outside is None else pixels[~outside]).ravel(), minlength=65536)
    present = np.flatnonzero(counts)
    if not len(present):
        return np.zeros(pixels.shape, dtype=np.uint8)
    low, high = np.searchsorted(np.cumsum(counts) / counts.sum(), WINDOW)
    if low == high:
        low, high = present[0], present[-1]
    if low == high:
        ramp = np.arange(65536) >> 8
    else:
        ramp = np.rint(np.clip((np.arange(65536) - low) / float(high - low), 0, 1) * 255)
    grey: Array = ramp.astype(np.uint8).take(pixels)
    if outside is not None:
        grey[outside] = 0
    return grey
