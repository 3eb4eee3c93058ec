"""Outlines as masks: boxes and polygons, drawn where they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from retune.data.dataset import Array, BoolArray


def boxes_mask(boxes: Array, size: tuple[int, int]) -> BoolArray:
    """What boxes cover together: the pixels whose middle is in one, and of each box one pixel at least.

    Args:
        boxes: Left, upper, right and lower edge of each in pixels, (n, 4): ``0, 0, 1, 1`` is the first pixel.
        size: Height and width of the mask.

    Returns:
        bool (H, W).
    """
    mask = np.zeros(size, dtype=bool)
    last = np.array(size[::-1], dtype=np.int64)
    edges = np.floor(np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2) + 0.5).astype(np.int64)
    low = np.clip(edges[:, 0], 0, last - 1)
    high = np.clip(edges[:, 1], low + 1, last)
    for (left, top), (right, bottom) in zip(low.tolist(), high.tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return mask


def polygons_mask(polygons: Sequence[Array], size: tuple[int, int]) -> BoolArray:
    """What polygons cover together, the pixels on their lines included.

    Args:
        polygons: Corners ``x, y`` of each, (P, 2), as numbers of pixels: ``0, 0`` is the first pixel. Where a polygon
            crosses itself, what it runs round twice is outside.
        size: Height and width of the mask.

    Returns:
        bool (H, W).
    """
    picture = Image.new("1", size[::-1])
    pen = ImageDraw.Draw(picture)
    for polygon in polygons:
        pen.polygon(np.asarray(polygon, dtype=np.float64).ravel().tolist(), fill=1, outline=1)
    return np.array(picture, dtype=bool)
