"""Findings that people outlined by boxes or polygons: regions that are drawn when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from retune.data.dataset import Array, BoolArray, IntArray
from retune.data.shapes import boxes_mask, polygons_mask
from retune.errors import BadTable

DRAWING: Final = "1"
"""Goes up whenever the same outlines would be drawn into other masks."""
LARGEST: Final = 1024
"""Longest side of a mask in pixels; larger pictures are outlined in proportion."""


@dataclass(frozen=True)
class Outlines:
    """What was outlined on N pictures, M outlines in all.

    Args:
        known: Which of K findings were looked for on which picture, bool (N, K).
        row: Picture of each outline, (M,).
        finding: Its finding's column, (M,).
        shapes: A box ``x1, y1, x2, y2``, float64 (4,), or a polygon, float64 (P, 2), each in pixels of the picture.
        where: Where each is written, for messages.
    """

    known: BoolArray
    row: IntArray
    finding: IntArray
    shapes: Sequence[Array]
    where: Sequence[str]

    @cached_property
    def of(self) -> dict[int, list[int]]:
        """The outlines on each picture that has some."""
        found: dict[int, list[int]] = {}
        for i, row in enumerate(self.row.tolist()):
            found.setdefault(row, []).append(i)
        return found


class Sizes(Protocol):
    """How large the pictures are that were outlined."""

    def of(self, row: int) -> tuple[int, int]:
        """Height and width of a row's picture, in pixels."""
        ...

    def keys(self, rows: IntArray) -> list[bytes]:
        """Whatever determines each row's size."""
        ...


@dataclass(frozen=True)
class Square:
    """Pictures that are all squares of one size.

    Args:
        side: In pixels.
    """

    side: int

    def of(self, row: int) -> tuple[int, int]:
        """Height and width."""
        return self.side, self.side

    def keys(self, rows: IntArray) -> list[bytes]:
        """The side."""
        return [str(self.side).encode()] * len(rows)


@dataclass(frozen=True)
class Outlined:
    """Regions known by their outlines; several of one finding on one picture are one mask. A ``Regions``.

    Args:
        findings: Names of the K findings.
        read: Reads the outlines; called once, when the first of them are asked for.
        sizes: Of the pictures, in the pixels that outlines are in.
        shares: Whether outlines are in shares of a picture's sides, from 0 to 1, rather than in pixels.
    """

    findings: tuple[str, ...]
    read: Callable[[], Outlines]
    sizes: Sizes
    shares: bool = False

    @cached_property
    def outlines(self) -> Outlines:
        """What was outlined."""
        return self.read()

    def known(self, rows: IntArray) -> BoolArray:
        """Which findings were looked for, bool (n, K)."""
        return self.outlines.known[rows]

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Where each finding is, bool (K, H, W) for each row; no side is longer than :data:`LARGEST`.

        Raises:
            BadTable: If an outline has no area or does not lie in the picture.
        """
        return [self._mask(row) for row in rows.tolist()]

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest of each row's outlines and of what its picture's size follows from."""
        return [self._key(row, size) for row, size in zip(rows.tolist(), self.sizes.keys(rows), strict=True)]

    def _mask(self, row: int) -> BoolArray:
        height, width = self.sizes.of(row)
        scale = min(1.0, LARGEST / max(height, width))
        small = (max(1, round(height * scale)), max(1, round(width * scale)))
        mask = np.zeros((len(self.findings), *small), dtype=bool)
        sides = (1, 1) if self.shares else (width, height)
        reduced = np.array(small[::-1]) / sides
        drawn = self.outlines
        for i in drawn.of.get(row, ()):
            shape = drawn.shapes[i]
            _check(shape, *sides, drawn.where[i])
            points = shape.reshape(-1, 2) * reduced
            here = boxes_mask(points, small) if shape.ndim == 1 else polygons_mask([points], small)
            mask[drawn.finding[i]] |= here
        return mask

    def _key(self, row: int, size: bytes) -> bytes:
        digest = hashlib.sha256(f"outlines\0{DRAWING}\0{self.findings}\0".encode() + size)
        drawn = self.outlines
        for i in drawn.of.get(row, ()):
            shape = drawn.shapes[i]
            digest.update(f"\0{drawn.finding[i]}\0{shape.shape}\0".encode() + shape.astype("<f8").tobytes())
        return digest.digest()


def _check(shape: Array, width: int, height: int, where: str) -> None:
    """Refuse what encloses nothing or leaves the picture."""
    points = shape.reshape(-1, 2)
    if shape.ndim == 1 and not (points[0] < points[1]).all():
        raise BadTable(f"box {_told(shape)} has no area", where=where)
    if shape.ndim == 2 and len(points) < 3:
        raise BadTable(f"a polygon of {len(points)} points encloses nothing", where=where)
    if not ((points >= 0) & (points <= (width, height))).all():
        what = f"box {_told(shape)}" if shape.ndim == 1 else "a polygon"
        size = f"{width} x {height}{' pixels' if width > 1 else ''}"
        raise BadTable(f"{what} leaves the picture of {size}", where=where)


def _told(box: Array) -> str:
    return ", ".join(f"{value:g}" for value in box.tolist())
