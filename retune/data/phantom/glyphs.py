"""Burnt-in markers: a few letters as small bitmaps."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from retune.data.phantom.frame import Batch
from retune.data.phantom.rng import F32

_LETTERS: Final = {
    "A": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "P": ("11110", "10001", "10001", "11110", "10000", "10000", "10000"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    " ": ("00000",) * 7,
}
HEIGHT: Final = 0.055
"""Height of a letter as a share of the image's side."""


@lru_cache(maxsize=64)
def stamp(text: str, size: int) -> F32:
    """The text as an image of brightness 0 to 1, its height fitting images of ``size`` pixels."""
    rows = ["0".join(_LETTERS[letter][k] for letter in text) for k in range(7)]
    small = np.array([[float(c) for c in row] for row in rows])
    height = max(7, round(HEIGHT * size))
    width = max(1, round(height / 7 * small.shape[1]))
    iy = np.arange(height) * 7 // height
    ix = np.arange(width) * small.shape[1] // width
    return small[iy][:, ix].astype(np.float32)


def burn(batch: Batch, picture: F32) -> None:
    """Writes each site's marker into its images, in place: an L by the patient's left, an R by the right."""
    size = batch.size
    where = batch.image.uniform("marker", 3)
    for i, site in enumerate(batch.site):
        bedside, upright, corner = site.marker
        text = bedside if batch.ap[i] > 0 else upright
        glyph = stamp(text, size)
        h, w = glyph.shape
        right_side = "R" in text and "L" not in text  # the patient's right is at the image's left
        x = 0.04 + 0.06 * where[i, 0]
        x = x if right_side else 1 - x - w / size
        y = (0.75 if corner == 2 else 0.05) + 0.07 * where[i, 1]
        r, c = int(y * size), int(np.clip(x * size, 0, size - w))
        patch = picture[i, r : r + h, c : c + w]
        np.maximum(patch, glyph[: patch.shape[0], : patch.shape[1]] * (0.8 + 0.2 * where[i, 2]), out=patch)
