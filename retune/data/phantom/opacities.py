"""Findings that fill the lung: haze, oedema, consolidation, pneumonia, atelectasis, nodules.

Each takes a share of the lung's air away; several on one place multiply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retune.data.phantom.body import Chest
from retune.data.phantom.frame import COARSE, Batch, Rows, column, enlarge, ramp
from retune.data.phantom.rng import F32, Draws
from retune.data.phantom.strokes import Strokes

OPACITY, LESION, EDEMA, CONSOLIDATION, PNEUMONIA, ATELECTASIS = 3, 4, 5, 6, 7, 8


@dataclass
class Filling:
    """What opacities do to a batch.

    Args:
        open: (n, size, size) share of the lung's air that is left.
        swell: (n, 1, 1) factor on the vessels' width.
        dense: (n, size, size) where vessels drown in consolidation and bronchi stand out, 0 to 1.
        extra: (n, size, size) attenuation of masses and calcium.
    """

    open: F32
    swell: F32
    dense: F32
    extra: F32


def filling(batch: Batch, chest: Chest, strokes: Strokes) -> Filling:
    """Draws all findings that fill the lung."""
    n, size = len(batch), batch.size
    x, y = chest.pose.to_body(COARSE)
    coarse = np.ones((n, COARSE, COARSE), dtype=np.float32)
    patches = unevenness(batch)
    _hila(batch, x, y, coarse)
    _haze(batch, x, y, coarse)
    swell = _edema(batch, x, y, patches, coarse, strokes)
    _pneumonia(batch, x, y, patches, coarse)
    _basal_loss(batch, chest, x, y, coarse)
    result = Filling(enlarge(coarse, size), swell, np.zeros_like(chest.air), np.zeros_like(chest.air))
    consolidation(batch, chest, result)
    _bands(batch, chest, result)
    lesions(batch, chest, result)
    return result


def unevenness(batch: Batch) -> F32:
    """(n, COARSE, COARSE) how much denser than elsewhere each image's haze is, mean 0."""
    return enlarge(batch.image.noise("patches", 24, 24), COARSE)


def _sides(batch: Batch, rows: Rows, finding: int) -> list[tuple[Rows, F32]]:
    """For each side, the rows that have the finding there and the sign of X on that side."""
    side = batch.side[rows, finding]
    found = []
    for code, sign in ((0, -1.0), (1, 1.0)):
        here = rows[(side == code) | (side == 2)]
        if len(here):
            found.append((here, np.full(len(here), sign, dtype=np.float32)))
    return found


def _blob(x: F32, y: F32, at: tuple[F32, F32], radius: tuple[F32, F32]) -> F32:
    """A Gaussian hump of height 1; ``at`` and ``radius`` are (m,) pairs."""
    qx = (x - column(at[0])) / column(radius[0])
    qy = (y - column(at[1])) / column(radius[1])
    qx *= qx
    qy *= qy
    qx += qy
    np.negative(qx, out=qx)
    return np.asarray(np.exp(qx, out=qx))


def _hila(batch: Batch, x: F32, y: F32, coarse: F32) -> None:
    """The normal roots of the lungs: crowded vessels, the left a little higher."""
    made = batch.person.uniform("hila", 4).astype(np.float32)
    for k, sign in enumerate((-1.0, 1.0)):
        at = (sign * (0.17 + 0.03 * made[:, k]), 0.02 - 0.05 * k + 0.04 * made[:, 2])
        root = _blob(x, y, at, (np.full(len(batch), 0.065, dtype=np.float32), 0.12 + 0.03 * made[:, 3]))
        coarse *= 1 - np.float32(0.32) * root


def _haze(batch: Batch, x: F32, y: F32, coarse: F32) -> None:
    """Lung Opacity: one vague cloud of ground glass."""
    for rows, sign in _sides(batch, batch.having(OPACITY), OPACITY):
        name = f"haze{sign[0]}"
        made = batch.person.only(rows).uniform(name, 3).astype(np.float32)
        grade = batch.severity[rows, OPACITY]
        at = (sign * (0.26 + 0.22 * made[:, 0]), -0.42 + 0.68 * batch.zone[rows, OPACITY])
        cloud = _blob(x[rows], y[rows], at, (0.16 + 0.10 * made[:, 1], 0.17 + 0.12 * made[:, 2]))
        coarse[rows] *= 1 - column(0.16 + 0.52 * grade) * cloud


def _edema(batch: Batch, x: F32, y: F32, patches: F32, coarse: F32, strokes: Strokes) -> F32:
    """Haze around both hila, swollen vessels, septal lines at the bases."""
    swell = np.ones((len(batch), 1, 1), dtype=np.float32)
    rows = batch.having(EDEMA)
    if not len(rows):
        return swell
    grade = batch.severity[rows, EDEMA]
    coarse[rows] *= 1 - flooding(batch, rows, x, y, patches)
    swell[rows] = column(1.02 + 0.6 * grade)
    _septal_lines(batch, rows, grade, strokes)
    return swell


def flooding(batch: Batch, rows: Rows, x: F32, y: F32, patches: F32) -> F32:
    """(m, COARSE, COARSE) share of the lung's air that oedema takes in some rows, most around the hila."""
    grade = batch.severity[rows, EDEMA]
    made = batch.person.only(rows).uniform("edema", 4).astype(np.float32)
    u = np.abs(x[rows])
    wings = _blob(u, y[rows], (0.24 + 0.06 * made[:, 0], 0.02 + 0.10 * made[:, 1]),
                  (0.20 + 0.08 * grade, 0.28 + 0.14 * grade))  # fmt: skip
    wings *= np.clip(1 + np.float32(0.45) * patches[rows], 0.2, 1.8)
    # One side is often the worse.
    lean = 1 + column(0.35 * (made[:, 2] - 0.5)) * np.sign(x[rows])
    taken: F32 = np.clip(column(0.03 + 0.56 * grade) * wings * lean, 0, 0.9)
    return taken


def _septal_lines(batch: Batch, rows: Rows, grade: F32, strokes: Strokes) -> None:
    """Kerley's B lines: short, level, at the lateral bases; Kerley's A lines: longer, towards the hila."""
    lines = 14
    draw = batch.image.only(rows).uniform("kerley", lines * 4).reshape(-1, 4).astype(np.float32)
    which = np.repeat(np.arange(len(rows)), lines)
    far = np.tile(np.arange(lines) % 4 < 3, len(rows))
    sign = np.where(draw[:, 0] < 0.5, -1, 1).astype(np.float32)
    end = np.where(far, 0.60 - 0.05 * draw[:, 1], 0.30 + 0.15 * draw[:, 1]).astype(np.float32)
    long = np.where(far, 0.09, 0.16).astype(np.float32)
    height = np.where(far, 0.05 + 0.36 * draw[:, 2], -0.30 + 0.4 * draw[:, 2]).astype(np.float32)
    t = np.linspace(0, 1, strokes.points(0.16), dtype=np.float32)
    x = sign[:, None] * (end - long * 1)[:, None] + sign[:, None] * long[:, None] * t
    y = height[:, None] + np.where(far, 0.01, 0.10)[:, None].astype(np.float32) * (1 - t) * (
        draw[:, 3:] - 0.6
    )
    strokes.add(rows[which], x, y.astype(np.float32), (0.0004 + 0.0034 * grade)[which][:, None])


def _pneumonia(batch: Batch, x: F32, y: F32, patches: F32, coarse: F32) -> None:
    """A cluster of patches that run into each other, around one focus."""
    for rows, sign in _sides(batch, batch.having(PNEUMONIA), PNEUMONIA):
        grade = batch.severity[rows, PNEUMONIA]
        made = batch.person.only(rows).uniform(f"pneumonia{sign[0]}", 24).astype(np.float32)
        centre = (0.34 + 0.14 * made[:, 0], -0.25 + 0.55 * np.sqrt(batch.zone[rows, PNEUMONIA]))
        total = np.zeros((len(rows), COARSE, COARSE), dtype=np.float32)
        spread = 0.12 + 0.10 * grade
        for k in range(6):
            a, b, c = made[:, 3 * k + 1], made[:, 3 * k + 2], made[:, 3 * k + 3]
            at = (sign * (centre[0] + spread * (2 * a - 1)), centre[1] + spread * (2 * b - 1))
            radius = 0.065 + 0.055 * c
            patch = _blob(x[rows], y[rows], at, (radius * 1.15, radius))
            total += patch * column(1 / (1 + np.exp((k - 1.5 - 5 * grade) * 3)))
        total *= np.clip(1 + np.float32(0.9) * patches[rows], 0.05, 2.5)
        coarse[rows] *= 1 - np.clip(total, 0, 1.15) * column(0.26 + 0.44 * grade)


def _basal_loss(batch: Batch, chest: Chest, x: F32, y: F32, coarse: F32) -> None:
    """Atelectasis crowds the base: a haze just above the raised dome."""
    for rows, sign in _sides(batch, batch.having(ATELECTASIS), ATELECTASIS):
        dome = (chest.shape.dome_left if sign[0] > 0 else chest.shape.dome_right)[rows, 0, 0]
        made = batch.person.only(rows).uniform(f"loss{sign[0]}", 1).astype(np.float32)
        grade = batch.severity[rows, ATELECTASIS]
        cloud = _blob(x[rows], y[rows], (sign * (0.24 + 0.14 * made[:, 0]), dome), (np.full_like(dome, 0.22),
                      0.08 + 0.05 * grade))  # fmt: skip
        coarse[rows] *= 1 - column(0.05 + 0.40 * grade) * cloud


def _bands(batch: Batch, chest: Chest, result: Filling) -> None:
    """Plates of collapsed lung: nearly level bands above the dome."""
    for rows, sign in _sides(batch, batch.having(ATELECTASIS), ATELECTASIS):
        grade = batch.severity[rows, ATELECTASIS]
        dome = (chest.shape.dome_left if sign[0] > 0 else chest.shape.dome_right)[rows, 0, 0]
        made = batch.person.only(rows).uniform(f"bands{sign[0]}", 15).astype(np.float32)
        out = chest.x[rows] * column(sign)
        for k in range(3):
            a, b, c, d, e = (made[:, 5 * k + j] for j in range(5))
            middle = 0.26 + 0.18 * a
            rise = column(dome - 0.07 - 0.10 * k - 0.05 * b) + column(0.5 * (c - 0.5)) * (
                out - column(middle)
            )
            across = (chest.y[rows] - rise) / column(0.012 + 0.014 * d * (0.5 + grade))
            along = (out - column(middle)) / column(0.09 + 0.10 * e)
            along *= along
            along *= along
            across *= across
            across += along
            shown = np.clip(3 * grade - k + 0.4, 0, 1)
            result.open[rows] *= 1 - np.exp(-across) * column((0.22 + 0.5 * grade) * shown)


def consolidation(batch: Batch, chest: Chest, result: Filling) -> None:
    """Dense lobar filling with one straight edge, a fissure; vessels give way to air bronchograms."""
    for rows, sign in _sides(batch, batch.having(CONSOLIDATION), CONSOLIDATION):
        grade = batch.severity[rows, CONSOLIDATION]
        made = batch.person.only(rows).uniform(f"lobe{sign[0]}", 5).astype(np.float32)
        upper = batch.zone[rows, CONSOLIDATION] < 0.4
        fissure = np.where(upper, -0.16 + 0.10 * made[:, 0], 0.02 + 0.16 * made[:, 0]).astype(np.float32)
        out = chest.x[rows] * column(sign)
        edge = chest.y[rows] - column(fissure) - column(0.35 * (made[:, 1] - 0.5)) * (out - np.float32(0.35))
        part = ramp(edge * column(np.where(upper, -30, 30)))
        radius = (0.19 + 0.10 * grade, 0.19 + 0.14 * grade)
        height = fissure + np.where(upper, -0.12, 0.13)
        q = _blob(out, chest.y[rows], (0.33 + 0.14 * made[:, 2], height), radius)
        part *= np.clip(q * np.float32(2.2), 0, 1)
        dense = part * column(0.22 + 0.62 * grade)
        result.open[rows] *= 1 - dense
        np.maximum(result.dense[rows], dense, out=dense)
        result.dense[rows] = dense


def lesions(batch: Batch, chest: Chest, result: Filling) -> None:
    """Round nodules, or one mass: balls of soft tissue."""
    rows = batch.having(LESION)
    if not len(rows):
        return
    draws: Draws = batch.person.only(rows)
    made = draws.uniform("lesion", 16).astype(np.float32)
    grade = batch.severity[rows, LESION]
    many = 1 + 3 * (made[:, 15] > 0.6)
    side = batch.side[rows, LESION]
    for k in range(4):
        a, b, c = made[:, 3 * k], made[:, 3 * k + 1], made[:, 3 * k + 2]
        sign = np.where(side == 0, -1, np.where(side == 1, 1, 1 - 2 * (k % 2)))
        zone = batch.zone[rows, LESION] if k == 0 else b
        radius = (0.036 + 0.016 * c + 0.11 * grade**1.5) * (1 if k == 0 else 0.7)
        height = -0.46 + 0.70 * zone
        wide = 0.24 + (0.30 - 0.14 * (1 - zone)) * a
        dx = (chest.x[rows] - column(sign * wide)) / column(radius)
        dy = (chest.y[rows] - column(height)) / column(radius * (0.85 + 0.3 * made[:, 14]))
        ball = np.sqrt(np.clip(1 - dx * dx - dy * dy, 0, 1))
        strength = (0.55 + 2.0 * radius + 0.40 * grade) * (many > k)
        result.extra[rows] += ball * column(strength) * ramp(chest.air[rows] * np.float32(3))
