"""Support devices: tubes, catheters, pacemakers, drains, electrodes, sternal wires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retune.data.phantom.body import Chest
from retune.data.phantom.frame import Batch, Rows, column, ramp
from retune.data.phantom.rng import F32
from retune.data.phantom.strokes import Strokes, bezier

DEVICES, PNEUMOTHORAX, EFFUSION = 13, 9, 10
KINDS = ("tube", "line", "pacemaker", "electrodes", "drain", "wires", "feeding")
# Chance of each kind by view, for a middling severity.
_CHANCES = {
    "PA": (0.02, 0.40, 0.30, 0.15, 0.10, 0.30, 0.05),
    "AP": (0.40, 0.55, 0.15, 0.60, 0.15, 0.15, 0.35),
}


def kinds(batch: Batch, rows: Rows) -> npt.NDArray[np.bool_]:
    """(m, 7) which of ``KINDS`` each row carries; at least one."""
    draw = batch.image.only(rows).uniform("kinds", len(KINDS) + 1)
    chance = np.where(batch.ap[rows, None] > 0, _CHANCES["AP"], _CHANCES["PA"])
    chance = chance * (0.45 + 0.9 * batch.severity[rows, DEVICES])[:, None]
    drained = (batch.severity[rows, PNEUMOTHORAX] > 0.4) | (batch.severity[rows, EFFUSION] > 0.8)
    chance[:, 4] += 0.35 * drained
    has = draw[:, :-1] < chance
    none = ~has.any(axis=1)
    fallback = np.where(draw[:, -1] < 0.5, 1, np.where(draw[:, -1] < 0.8, 3, 2))
    has[np.flatnonzero(none), fallback[none]] = True
    return np.asarray(has, dtype=np.bool_)


def devices(batch: Batch, chest: Chest, strokes: Strokes, total: F32) -> None:
    """Adds the devices: thin ones to ``strokes``, solid ones to ``total`` (attenuation)."""
    rows = batch.having(DEVICES)
    if not len(rows):
        return
    has = kinds(batch, rows)
    draws = batch.person.only(rows)
    made = draws.uniform("devices", 24).astype(np.float32)
    sight = (0.55 + 0.55 * batch.severity[rows, DEVICES]).astype(np.float32)
    _tube(rows, has[:, 0], made, sight, strokes)
    _line(rows, has[:, 1], made, sight, strokes)
    _pacemaker(chest, rows, has[:, 2], made, sight, strokes, total)
    _electrodes(batch, chest, rows, has[:, 3], sight, strokes, total)
    _drain(batch, rows, has[:, 4], made, sight, strokes)
    _sternal_wires(rows, has[:, 5], made, sight, strokes)
    _feeding(rows, has[:, 6], made, sight, strokes)


def _curve(strokes: Strokes, rows: Rows, control: Sequence[tuple[Any, Any]], weight: F32,
           length: float) -> None:  # fmt: skip
    """Adds one cubic curve for each row."""
    m = len(rows)
    points = np.zeros((m, 4, 2), dtype=np.float32)
    for k, (x, y) in enumerate(control):
        points[:, k, 0], points[:, k, 1] = x, y
    x, y = bezier(points, strokes.points(length))
    strokes.add(rows.astype(np.int64), x, y, weight[:, None])


def _tube(rows: Rows, has: npt.NDArray[np.bool_], made: F32, sight: F32, strokes: Strokes) -> None:
    """An endotracheal tube: two walls, down the windpipe."""
    r, m, w = rows[has], made[has], sight[has] * np.float32(0.0132)
    if not len(r):
        return
    tip = -0.36 + 0.12 * m[:, 0]
    for side in (-0.016, 0.016):
        _curve(
            strokes,
            r,
            [(0.02 + side, -1.05), (0.0 + side, -0.85), (0.01 + side, -0.6), (0.01 + side, tip)],
            w,
            0.8,
        )


def _line(rows: Rows, has: npt.NDArray[np.bool_], made: F32, sight: F32, strokes: Strokes) -> None:
    """A central venous catheter: from neck, shoulder or arm into the superior vena cava."""
    r, m, w = rows[has], made[has], sight[has] * np.float32(0.0144)
    if not len(r):
        return
    tip = (-0.07 - 0.02 * m[:, 1], -0.20 + 0.25 * m[:, 2])
    kind, left = m[:, 3], m[:, 4] < 0.3
    sign = np.where(left, 1, -1)
    x0 = np.where(kind < 0.4, 0.16, np.where(kind < 0.7, 0.55, 0.98)) * sign
    y0 = np.where(kind < 0.4, -1.0, np.where(kind < 0.7, -0.58, -0.35 + 0.3 * m[:, 5]))
    x1 = np.where(kind < 0.4, 0.14, np.where(kind < 0.7, 0.36, 0.72)) * sign
    y1 = np.where(kind < 0.4, -0.8, np.where(kind < 0.7, -0.68, -0.92))
    _curve(strokes, r, [(x0, y0), (x1, y1), (-0.08, -0.66), tip], w, 1.6)


def _pacemaker(chest: Chest, rows: Rows, has: npt.NDArray[np.bool_], made: F32, sight: F32, strokes: Strokes,
               total: F32) -> None:  # fmt: skip
    """A generator below the clavicle, mostly the left, and one or two leads to the right heart."""
    r, m = rows[has], made[has]
    if not len(r):
        return
    sign = np.where(m[:, 6] < 0.85, 1, -1)
    cx, cy = sign * (0.44 + 0.08 * m[:, 7]), -0.47 + 0.08 * m[:, 8]
    radius = 0.075 + 0.02 * m[:, 9]
    qx = (chest.x[r] - column(cx)) / column(radius * 1.15)
    qy = (chest.y[r] - column(cy)) / column(radius)
    q = np.square(qx * qx) + np.square(qy * qy)
    shape = ramp((1 - q) * np.float32(3))
    total[r] += shape * column(0.7 + 1.5 * sight[has]) * (np.float32(0.75) + np.float32(0.25) * (q < 0.35))
    weight = sight[has] * np.float32(0.0204)
    ventricle = (0.16 + 0.12 * m[:, 10], 0.26 + 0.08 * m[:, 11])
    _curve(strokes, r, [(cx, cy - radius), (0.25 * sign, -0.85), (-0.16, -0.25), (-0.10, 0.02)], weight, 1.3)
    _curve(strokes, r, [(-0.10, 0.02), (-0.09, 0.20), (0.0, 0.30), ventricle], weight, 0.6)
    two = m[:, 12] < 0.6
    if two.any():
        _curve(strokes, r[two], [(cx[two], cy[two] - radius[two]), (0.27 * sign[two], -0.80), (-0.20, -0.1),
               (-0.14, -0.02 + 0.06 * m[two, 13])], weight[two], 1.2)  # fmt: skip


def _electrodes(batch: Batch, chest: Chest, rows: Rows, has: npt.NDArray[np.bool_], sight: F32,
                strokes: Strokes, total: F32) -> None:  # fmt: skip
    """ECG pads and their slack wires."""
    r = rows[has]
    if not len(r):
        return
    m = batch.image.only(r).uniform("pads", 24).astype(np.float32)
    places = ((-0.50, -0.50), (0.50, -0.50), (0.55, 0.30), (-0.55, 0.35), (0.05, 0.30))
    for k, (px, py) in enumerate(places):
        keep = m[:, 4 * k] < 0.75
        if not keep.any():
            continue
        s, mk = r[keep], m[keep]
        x, y = px + 0.16 * (mk[:, 4 * k + 1] - 0.5), py + 0.20 * (mk[:, 4 * k + 2] - 0.5)
        weight = sight[has][keep]
        d = ((chest.x[s] - column(x)) ** 2 + (chest.y[s] - column(y)) ** 2) * np.float32(1 / 0.026**2)
        total[s] += ramp((1 - d) * np.float32(2)) * column(0.25 + 0.7 * weight)
        away = 0.9 * (mk[:, 4 * k + 3] - 0.5)
        _curve(strokes, s, [(x, y), (x + 0.25 * away, y + 0.25), (away, y + 0.15), (away + 0.5 * px, 1.05)],
               weight * np.float32(0.0101), 1.4)  # fmt: skip


def _drain(
    batch: Batch, rows: Rows, has: npt.NDArray[np.bool_], made: F32, sight: F32, strokes: Strokes
) -> None:
    """A chest drain, on the side of gas or fluid where there is any."""
    r, m, w = rows[has], made[has], sight[has] * np.float32(0.0149)
    if not len(r):
        return
    side = np.where(batch.side[r, PNEUMOTHORAX] >= 0, batch.side[r, PNEUMOTHORAX], batch.side[r, EFFUSION])
    sign = np.where(side == 0, -1, np.where(side == 1, 1, np.where(m[:, 14] < 0.5, -1, 1)))
    for gap in (-0.014, 0.014):
        _curve(strokes, r, [(sign * 0.92, 0.30 + gap), (sign * 0.60, 0.20 + gap), (sign * (0.48 + gap), -0.2),
               (sign * (0.28 + gap + 0.1 * m[:, 15]), -0.48)], w, 1.3)  # fmt: skip


def _sternal_wires(rows: Rows, has: npt.NDArray[np.bool_], made: F32, sight: F32, strokes: Strokes) -> None:
    """Closed loops down the breastbone."""
    r, m, w = rows[has], made[has], sight[has] * np.float32(0.0180)
    if not len(r):
        return
    t = np.linspace(0, 2 * np.pi, strokes.points(0.2), dtype=np.float32)
    for k in range(6):
        y = -0.40 + 0.115 * k + 0.015 * np.sin(7 * m[:, 16] + k)
        lean = 0.012 * np.cos(9 * m[:, 17] + 2 * k)
        x = 0.034 * np.cos(t)[None, :] + lean[:, None]
        loop = (y[:, None] + 0.02 * np.sin(t)).astype(np.float32)
        strokes.add(r.astype(np.int64), x.astype(np.float32), loop, w[:, None])


def _feeding(rows: Rows, has: npt.NDArray[np.bool_], made: F32, sight: F32, strokes: Strokes) -> None:
    """A feeding tube: down the gullet into the stomach."""
    r, m, w = rows[has], made[has], sight[has] * np.float32(0.0144)
    if not len(r):
        return
    _curve(strokes, r, [(0.04, -1.05), (0.02, -0.5), (0.04, 0.0), (0.07, 0.48)], w, 1.6)
    _curve(
        strokes,
        r,
        [(0.07, 0.48), (0.09, 0.62), (0.2, 0.70), (0.30 + 0.1 * m[:, 18], 0.62 + 0.1 * m[:, 19])],
        w,
        0.4,
    )
