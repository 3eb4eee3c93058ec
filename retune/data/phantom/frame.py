"""Coordinates: where each pixel lies in the body.

Body coordinates are in units of half the image's side: X to the patient's left (image right), Y downwards,
the origin in the middle of the chest. All anatomy is written in them, so it is the same at every image size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from retune.data.phantom.rng import F32, I64, Draws
from retune.data.phantom.sites import SITES, Site
from retune.data.phantom.table import Exams

Rows = npt.NDArray[np.intp]
COARSE = 48
"""Side of the coarse grid on which haze and scatter are computed, whatever the image's size."""


def ramp(value: F32) -> F32:
    """0 below -0.5, 1 above 0.5, linear between; in place."""
    value += np.float32(0.5)
    return np.clip(value, 0, 1, out=value)


def column(values: npt.ArrayLike) -> F32:
    """(n,) values as float32 (n, 1, 1), to be combined with images."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


@lru_cache(maxsize=16)
def axis(size: int) -> F32:
    """(size,) pixel centres from -1 to 1."""
    return ((np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1).astype(np.float32)


@lru_cache(maxsize=32)
def taps(small: int, size: int) -> tuple[tuple[npt.NDArray[np.intp], F32], ...]:
    """Four pairs (index, weight), (size,) each: cubic B-splines from a small grid to a big one."""
    at = (np.arange(size) + 0.5) * small / size - 0.5
    base = np.floor(at).astype(np.intp)
    t = at - base
    weights = (
        (1 - t) ** 3 / 6,
        (4 - 6 * t**2 + 3 * t**3) / 6,
        (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
        t**3 / 6,
    )
    return tuple(
        (np.clip(base + k, 0, small - 1), weight.astype(np.float32))
        for k, weight in enumerate(weights, start=-1)
    )


def enlarge(coarse: F32, size: int) -> F32:
    """(n, g, g) coarse images smoothly enlarged to (n, size, size).

    Written out rather than as a matrix product, whose last bits depend on the machine's linear algebra.
    """
    n, small = coarse.shape[:2]
    tall = np.zeros((n, size, small), dtype=np.float32)
    wide = np.zeros((n, size, size), dtype=np.float32)
    for index, weight in taps(small, size):
        tall += coarse[:, index] * weight[:, None]
    for index, weight in taps(small, size):
        wide += np.take(tall, index, axis=2) * weight
    return wide


@dataclass(frozen=True)
class Pose:
    """How the patient stands in the frame: (n,) each."""

    cosine: F32
    sine: F32
    zoom: F32
    right: F32
    down: F32

    def to_body(self, size: int) -> tuple[F32, F32]:
        """(n, size, size) body coordinates X and Y of each pixel."""
        grid = axis(size)
        gx = grid[None, None, :] - column(self.right)
        gy = grid[None, :, None] - column(self.down)
        c, s = column(self.cosine / self.zoom), column(self.sine / self.zoom)
        return gx * c + gy * s, gy * c - gx * s

    def to_pixels(self, rows: I64, x: F32, y: F32, size: int) -> tuple[F32, F32]:
        """Pixel column and row of body points; ``x`` and ``y`` are (m, k), ``rows`` (m,)."""
        c, s, z = (v[rows][:, None] for v in (self.cosine, self.sine, self.zoom))
        half = np.float32(size / 2)
        px = (z * (x * c - y * s) + self.right[rows][:, None] + 1) * half - np.float32(0.5)
        py = (z * (x * s + y * c) + self.down[rows][:, None] + 1) * half - np.float32(0.5)
        return px, py

    def only(self, rows: Rows) -> Pose:
        """The same for some rows."""
        return Pose(self.cosine[rows], self.sine[rows], self.zoom[rows], self.right[rows], self.down[rows])


@dataclass(frozen=True)
class Batch:
    """A few exams about to be rendered together.

    Args:
        size: Side of the images, pixels.
        person: Random numbers of the patients.
        image: Random numbers of the images.
        severity: (n, 14); a finding is drawn where it is above 0.
        side: (n, 14) 0 right, 1 left, 2 bilateral.
        zone: (n, 14) 0 apex to 1 base.
        ap: (n,) 1 for AP images, else 0.
        female: (n,) 1 for women, else 0.
        age: (n,) years.
        site: The site of each image.
    """

    size: int
    person: Draws
    image: Draws
    severity: F32
    side: npt.NDArray[np.int8]
    zone: F32
    ap: F32
    female: F32
    age: F32
    site: tuple[Site, ...]

    def __len__(self) -> int:
        return len(self.ap)

    def of_site(self, read: Callable[[Site], float]) -> F32:
        """(n,) one setting of each image's site."""
        return np.array([read(site) for site in self.site], dtype=np.float32)

    def having(self, finding: int) -> Rows:
        """Rows in which a finding is drawn."""
        return np.flatnonzero(self.severity[:, finding] > 0)

    def pose(self) -> Pose:
        """How each patient stands."""
        tilt = np.deg2rad(self.of_site(lambda s: s.rotation) * self.image.normal("tilt")[:, 0])
        zoom = self.of_site(lambda s: s.zoom) * (1 + 0.035 * self.person.normal("zoom")[:, 0])
        shift = self.image.normal("shift", 2) * 0.025
        return Pose(
            np.cos(tilt).astype(np.float32),
            np.sin(tilt).astype(np.float32),
            np.clip(zoom, 0.82, 1.18).astype(np.float32),
            shift[:, 0].astype(np.float32),
            (shift[:, 1] + 0.02).astype(np.float32),
        )


def batch(exams: Exams, rows: Rows, size: int, severity: F32) -> Batch:
    """Gathers what is needed to draw some rows of a table."""
    return Batch(
        size=size,
        person=exams.of_patients().only(rows),
        image=exams.of_images().only(rows),
        severity=severity,
        side=exams.side[rows],
        zone=exams.zone[rows],
        ap=(exams.view[rows] == "AP").astype(np.float32),
        female=(exams.sex[rows] == "F").astype(np.float32),
        age=exams.age[rows],
        site=tuple(SITES[str(name)] for name in exams.site[rows]),
    )
