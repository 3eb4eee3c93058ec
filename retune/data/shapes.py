"""Outlines as masks: boxes, polygons and runs of pixels, drawn where they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from retune.data.dataset import Array, BoolArray, IntArray
from retune.errors import BadTable

Runs = Literal["relative", "columns", "rows"]


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


def runs_mask(text: str, size: tuple[int, int], dialect: Runs) -> BoolArray:
    """What runs of pixels cover, written as pairs of a start and a length.

    Args:
        text: ``start length start length ...``; blank, or ``-1``, is an empty mask.
        size: Height and width of the mask.
        dialect: How starts are counted. ``relative``: from the end of the run before, from 0, column by column, as SIIM's
            first table; ``columns``: from 1, column by column, as its later tables; ``rows``: from 1, row by row, as
            CheXmask.

    Returns:
        bool (H, W).

    Raises:
        BadTable: If it is not such runs, or one leaves the picture or overlaps another.
    """
    starts, ends = run_ends(text, dialect)
    height, width = size
    if len(ends) and (starts[0] < 0 or int(ends.max()) > height * width):
        raise BadTable(f"a run leaves the picture of {width} x {height} pixels")
    if (starts[1:] < ends[:-1]).any():
        raise BadTable("a run overlaps the one before")
    steps = np.zeros(height * width + 1, dtype=np.int8)
    steps[starts] += 1
    steps[ends] -= 1
    flat = steps[:-1].cumsum(dtype=np.int8).astype(bool)
    return flat.reshape(height, width) if dialect == "rows" else flat.reshape(width, height).T


def run_ends(text: str, dialect: Runs) -> tuple[IntArray, IntArray]:
    """First pixel of each run, and the one past its last; see :func:`runs_mask`."""
    words = text.split()
    if words in ([], ["-1"]):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    if not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
        raise BadTable("runs are not whole numbers")
    if len(words) % 2:
        raise BadTable(f"{len(words)} numbers are no pairs of start and length")
    given, lengths = np.array(words, dtype=np.int64).reshape(-1, 2).T
    if (lengths == 0).any():
        raise BadTable("a run has no length")
    if dialect == "relative":
        ends = np.cumsum(given + lengths)
        return ends - lengths, ends
    return given - 1, given - 1 + lengths


def dialect_of(texts: Iterable[str]) -> Runs:
    """Which way a table of masks, column by column, counts the starts of its runs.

    Absolute starts rise within a mask; of relative ones hardly any table's do.

    Args:
        texts: Its masks.

    Raises:
        BadTable: If one is no runs.
    """
    for text in texts:
        starts = run_ends(text, "columns")[0]
        if (np.diff(starts) <= 0).any():
            return "relative"
    return "columns"
