"""The branching vessels of the lungs."""

from __future__ import annotations

from typing import Final

import numpy as np

from retune.data.phantom.frame import Batch
from retune.data.phantom.rng import F32, I64
from retune.data.phantom.strokes import Strokes

_STEMS: Final = 8
_BRANCHES: Final = 4


def vessels(batch: Batch, strokes: Strokes) -> None:
    """Adds each patient's vessel tree: per side eight stems from the hilum, four branches on each."""
    n = len(batch)
    rows = np.arange(n, dtype=np.int64).repeat(2 * _STEMS)
    draw = batch.person.uniform("tree", 2 * _STEMS * 4).reshape(-1, 4).astype(np.float32)
    left = np.tile(np.repeat(np.array([0, 1]), _STEMS), n)
    order = np.tile(np.arange(_STEMS), 2 * n)
    # Angle from straight up (0) over outwards (90) to straight down (180), in degrees.
    angle = np.deg2rad(8 + 165 * (order + 0.15 + 0.7 * draw[:, 0]) / _STEMS).astype(np.float32)
    length = (0.34 + 0.16 * draw[:, 1] + 0.10 * np.abs(np.cos(angle))).astype(np.float32)
    sign = np.where(left == 1, 1, -1).astype(np.float32)
    start = np.stack(
        [0.11 + 0.05 * draw[:, 2], -0.14 + 0.27 * (angle / np.pi) + 0.05 * draw[:, 0] - 0.04 * left], axis=1
    )
    # The lower lobes' vessels are the wider ones in an upright patient.
    weight = (0.0062 + 0.004 * (angle / np.pi)) * (0.75 + 0.5 * draw[:, 1]).astype(np.float32)
    bend = (1.0 * (draw[:, 3] - 0.5)).astype(np.float32)
    tips = _grow(strokes, rows, start.astype(np.float32), angle, length, bend, sign, weight, 0.5)
    draw = batch.person.uniform("twigs", 2 * _STEMS * _BRANCHES * 3).reshape(-1, 3).astype(np.float32)
    again = np.repeat(np.arange(len(rows)), _BRANCHES)
    which = np.tile(np.arange(_BRANCHES), len(rows))
    along = 0.22 + 0.2 * which + 0.12 * draw[:, 0]
    at = _along(tips, again, along.astype(np.float32))
    turn = np.where(which % 2 == 0, 1, -1) * (0.45 + 0.55 * draw[:, 1])
    _grow(
        strokes,
        rows[again],
        at,
        (angle[again] + turn).astype(np.float32),
        (length[again] * (0.75 - 0.45 * along) * (0.7 + 0.5 * draw[:, 2])).astype(np.float32),
        (-0.4 * turn).astype(np.float32),
        sign[again],
        (weight[again] * (0.62 - 0.3 * along)).astype(np.float32),
        0.28,
    )


def _grow(strokes: Strokes, rows: I64, start: F32, angle: F32, length: F32, bend: F32, sign: F32, weight: F32,
          longest: float) -> tuple[F32, F32]:  # fmt: skip
    """Adds gently bent vessels that taper; returns their points with the side's sign taken out."""
    t = np.linspace(0, 1, strokes.points(longest), dtype=np.float32)
    direction = angle[:, None] + bend[:, None] * t
    x = start[:, :1] + length[:, None] * t * np.sin(direction)
    y = start[:, 1:] - length[:, None] * t * np.cos(direction)
    taper = 1 - np.float32(0.72) * t
    strokes.add(rows, x * sign[:, None], y, weight[:, None] * taper)
    return x, y


def _along(points: tuple[F32, F32], which: I64, share: F32) -> F32:
    """(m, 2) the points some share of the way along curves."""
    x, y = points
    k = np.minimum((share * (x.shape[1] - 1)).astype(np.int64), x.shape[1] - 1)
    return np.stack([x[which, k], y[which, k]], axis=1)
