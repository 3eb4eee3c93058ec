"""A data set of grey noise with discs in it: small enough to encode in a test, and with outlines that are known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from PIL import Image

from retune.data.dataset import BoolArray, Dataset, IntArray
from retune.data.readers.base import Reader

SIDE = 128


@dataclass(frozen=True)
class Discs(Reader):
    """Every second picture has a bright disc; Heart is a square in all, which nobody outlined in every third.

    Args:
        images: How many.
        rare: Whether the disc is in every 40th picture only.
        outlined: Whether there are outlines at all.
    """

    name: ClassVar[str] = "discs"
    needs_root: ClassVar[bool] = False
    takes_root: ClassVar[bool] = False
    source: ClassVar[str] = "made for a test"
    licence: ClassVar[str] = "Apache-2.0"
    synthetic: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ("Lung Lesion", "Edema")

    images: Annotated[int, Ge(1)] = 96
    rare: bool = False
    outlined: bool = True

    def read(self, root: Path | None) -> Dataset:
        """Make the table."""
        number = np.arange(self.images)
        disc = number % (40 if self.rare else 2) == 0
        made = DiscImages(self.images, disc)
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=np.array([f"D{i}" for i in number]),
            patient_id=np.array([f"P{i // 2}" for i in number]),
            split=np.where(number % 8 < 4, "train", np.where(number % 8 < 6, "valid", "test")),
            targets=np.stack([disc, number % 3 == 0], axis=1).astype(np.float32),
            images=made,
            synthetic=True,
            regions=made if self.outlined else None,
        )


@dataclass(frozen=True)
class DiscImages:
    """Pictures and outlines; an ``ImageSource`` and ``Regions``."""

    n: int
    disc: BoolArray
    findings: tuple[str, ...] = ("Lung Lesion", "Heart")

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image]:
        """Noise, and where the disc is 120 grey values more."""
        found = []
        for row, (disc, _) in zip(rows.tolist(), self._shapes(rows), strict=True):
            noise = np.random.default_rng(row).integers(40, 80, (SIDE, SIDE))
            found.append(Image.fromarray((noise + 120 * disc).astype(np.uint8)))
        return found

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest of a picture, and of its outlines."""
        return [hashlib.sha256(f"disc {i} {self.disc[i]}".encode()).digest() for i in rows.tolist()]

    def exists(self, rows: IntArray) -> BoolArray:
        """Always."""
        return np.ones(len(rows), dtype=bool)

    def describe(self, row: int) -> str:
        """Name of a picture."""
        return f"disc {row}"

    def known(self, rows: IntArray) -> BoolArray:
        """Discs always, Heart in two of three."""
        return np.stack([np.ones(len(rows), dtype=bool), rows % 3 != 0], axis=1)

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Of discs and squares."""
        known = self.known(rows)
        return [np.stack(shapes) & known[i][:, None, None] for i, shapes in enumerate(self._shapes(rows))]

    def _shapes(self, rows: IntArray) -> list[tuple[BoolArray, BoolArray]]:
        y, x = np.mgrid[:SIDE, :SIDE]
        square = (abs(y - 64) < 20) & (abs(x - 70) < 24)
        found = []
        for row in rows.tolist():
            cy, cx = np.random.default_rng(1000 + row).integers(24, SIDE - 24, 2)
            found.append((((y - cy) ** 2 + (x - cx) ** 2 < 20**2) & bool(self.disc[row]), square))
        return found
