"""Thin things (vessels, lines, tubes): points along curves, dropped onto the pixels and blurred."""

from __future__ import annotations

import numpy as np

from retune.data.phantom.frame import Pose, blurred
from retune.data.phantom.rng import F32, I64


class Strokes:
    """Collects curves in body coordinates, then draws them all.

    Args:
        pose: How the patients stand.
        size: Side of the images, pixels.
    """

    def __init__(self, pose: Pose, size: int) -> None:
        self.pose, self.size = pose, size
        self._rows: list[I64] = []
        self._at: list[I64] = []
        self._weight: list[F32] = []

    def points(self, length: float) -> int:
        """How many points a curve of some length needs so as not to look dotted."""
        return max(2, int(np.ceil(length * self.size * 0.75)))

    def add(self, rows: I64, x: F32, y: F32, weight: F32) -> None:
        """Adds points.

        Args:
            rows: (m,) image of each curve.
            x: (m, k) body coordinates of its points, in order.
            y: (m, k) likewise.
            weight: (m, k) or (m, 1) what the curve attenuates, times its width.
        """
        self._rows.append(rows)
        step = np.empty_like(x)
        step[:, 1:] = np.hypot(np.diff(x), np.diff(y))
        step[:, 0] = step[:, 1]
        mass = weight * step
        px, py = self.pose.to_pixels(rows, x, y, self.size)
        # Clipped well outside, so that points off the image land in the margin.
        np.clip(px, -2, self.size, out=px)
        np.clip(py, -2, self.size, out=py)
        ix, iy = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
        fx, fy = px - ix, py - iy
        pitch = self.size + 4
        base = (rows[:, None] * pitch + iy + 2) * pitch + ix + 2
        for dy, wy in ((0, 1 - fy), (1, fy)):
            for dx, wx in ((0, 1 - fx), (1, fx)):
                self._at.append((base + dy * pitch + dx).ravel())
                self._weight.append((mass * wy * wx).ravel())

    def draw(self, count: int, width: float) -> F32:
        """(count, size, size) the curves, blurred to ``width`` (a Gaussian's deviation, half image sides)."""
        pitch, size = self.size + 4, self.size
        drawn = np.zeros((count, size, size), dtype=np.float32)
        if not self._at:
            return drawn
        flat = np.bincount(
            np.concatenate(self._at), weights=np.concatenate(self._weight), minlength=count * pitch * pitch
        )
        used = np.unique(np.concatenate(self._rows))
        # Mass over pixel area: what is left is attenuation.
        sharp = flat.reshape(count, pitch, pitch)[used, 2:-2, 2:-2] * (size * size / 4)
        drawn[used] = blurred(sharp.astype(np.float32), max(width * size / 2, 0.45), mode="constant")
        return drawn


def bezier(control: F32, count: int) -> tuple[F32, F32]:
    """(m, count) points x and y of cubic Bezier curves, from (m, 4, 2) control points."""
    t = np.linspace(0, 1, count, dtype=np.float32)
    basis = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    x = np.zeros((len(control), count), dtype=np.float32)
    y = np.zeros_like(x)
    for k, b in enumerate(basis):
        x += control[:, k, 0, None] * b
        y += control[:, k, 1, None] * b
    return x, y
