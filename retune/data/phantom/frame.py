"""Coordinates: where each pixel lies in the body.

Body coordinates are in units of half the image's side: X to the patient's left (image right), Y downwards,
the origin in the middle of the chest. All anatomy is written in them, so it is the same at every image size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from retune.data.phantom.rng import F32, I64, Draws
from retune.data.phantom.sites import Site, site_in
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
    # Whole rows are copied far faster than columns.
    tall = _stretched(coarse, size)
    return np.ascontiguousarray(_stretched(tall.transpose(0, 2, 1), size).transpose(0, 2, 1))


def _stretched(images: F32, size: int) -> F32:
    """(n, g, w) images enlarged to (n, size, w)."""
    total = np.zeros((len(images), size, images.shape[2]), dtype=np.float32)
    for index, weight in taps(images.shape[1], size):
        part = np.take(images, index, axis=1)
        part *= weight[:, None]
        total += part
    return total


@lru_cache(maxsize=16)
def _bell(sigma: float) -> tuple[float, ...]:
    """Weights of a Gaussian blur cut off at 2.5 deviations, from its middle outwards."""
    reach = int(2.5 * sigma + 0.5)
    weight = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    return tuple((weight / weight.sum()).tolist()[reach:])


def blurred(images: F32, sigma: float, *, mode: Literal["constant", "edge"]) -> F32:
    """(n, h, w) images blurred by a Gaussian, rows and columns one after the other.

    Written out, as ``enlarge`` is; the digits are those of scipy's ``gaussian_filter1d``.

    Args:
        images: Sharp ones.
        sigma: The Gaussian's deviation, pixels.
        mode: What lies outside: nothing, or what the edge shows.
    """
    middle, *others = _bell(sigma)
    reach = len(others)
    for rows in (True, False):
        padding = ((0, 0), (reach, reach), (0, 0)) if rows else ((0, 0), (0, 0), (reach, reach))
        padded = np.pad(images, padding, mode=mode).astype(np.float64)
        count = images.shape[1 if rows else 2]
        shifted = [
            padded[:, k : k + count] if rows else padded[..., k : k + count] for k in range(2 * reach + 1)
        ]
        total = shifted[reach] * middle
        for k in range(reach, 0, -1):
            pair = shifted[reach - k] + shifted[reach + k]
            pair *= others[k - 1]
            total += pair
        images = total.astype(np.float32)
    return images


def band(y: F32, low: npt.ArrayLike, high: npt.ArrayLike) -> slice:
    """Rows of pixels outside of which no image of a batch has a ``y`` between its ``low`` and ``high``.

    Most things are small: elsewhere they need not be looked for.
    """
    # Along a row of pixels, y only grows or only falls.
    ends = y[:, :, 0], y[:, :, -1]
    low, high = (np.reshape(np.asarray(bound, dtype=np.float32), (-1, 1)) for bound in (low, high))
    inside = (np.maximum(*ends) >= low) & (np.minimum(*ends) <= high)
    rows = np.flatnonzero(inside.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)


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
        site=tuple(
            site_in(str(name), progress)
            for name, progress in zip(exams.site[rows], exams.progress[rows].tolist(), strict=True)
        ),
    )
