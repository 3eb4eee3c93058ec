"""Findings of the pleural space: air, fluid, scars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retune.data.phantom.body import Chest
from retune.data.phantom.frame import Batch, column, ramp
from retune.data.phantom.opacities import Filling, _sides
from retune.data.phantom.rng import F32

PNEUMOTHORAX, EFFUSION, OTHER = 9, 10, 11


@dataclass
class Pleura:
    """What the pleural space holds.

    Args:
        gas: (n, size, size) 1 in a pneumothorax, where no vessel runs.
        line: (n, size, size) attenuation of the visceral pleura.
    """

    gas: F32
    line: F32


def pleura(batch: Batch, chest: Chest, fill: Filling) -> Pleura:
    """Draws the pleural findings; fluid and scars take air from ``fill``."""
    result = Pleura(np.zeros_like(chest.air), np.zeros_like(chest.air))
    pneumothorax(batch, chest, result)
    effusion(batch, chest, fill)
    _scars(batch, chest, fill)
    return result


def pneumothorax(batch: Batch, chest: Chest, result: Pleura) -> None:
    """The lung shrinks away from the chest wall, most at the apex; its edge is a thin white line."""
    for rows, sign in _sides(batch, batch.having(PNEUMOTHORAX), PNEUMOTHORAX):
        grade = column(batch.severity[rows, PNEUMOTHORAX])
        made = batch.person.only(rows).uniform(f"gas{sign[0]}", 3).astype(np.float32)
        high = np.clip((np.float32(0.35) - chest.y[rows]) / np.float32(1.0), 0, 1.2)
        depth = (np.float32(0.09) + np.float32(0.34) * grade) * (column(0.15 + 0.25 * made[:, 0]) + high)
        depth += np.float32(0.012) * np.sin(chest.y[rows] * np.float32(9) + column(6 * made[:, 1]))
        beyond = depth - (chest.outer[rows] - chest.u[rows])
        here = chest.left[rows] == (1 if sign[0] > 0 else 0)
        inside = (chest.air[rows] > 0.05) & here
        result.gas[rows] += ramp(np.float32(50) * beyond) * inside
        result.line[rows] += np.exp(-((beyond / np.float32(0.010)) ** 2)) * inside * (0.38 + 0.24 * grade)


def effusion(batch: Batch, chest: Chest, fill: Filling) -> None:
    """Fluid fills the base up to a meniscus on the chest wall; in lying patients it is a veil too."""
    for rows, sign in _sides(batch, batch.having(EFFUSION), EFFUSION):
        grade = batch.severity[rows, EFFUSION]
        dome = (chest.shape.dome_left if sign[0] > 0 else chest.shape.dome_right)[rows]
        made = batch.person.only(rows).uniform(f"fluid{sign[0]}", 2).astype(np.float32)
        # With fluid on both sides one is the smaller.
        share = np.where((batch.side[rows, EFFUSION] == 2) & ((made[:, 0] < 0.5) == (sign > 0)), 0.6, 1.0)
        amount = column((0.01 + 0.62 * grade**1.35) * share)
        w = chest.u[rows] / chest.shape.half[rows]
        w2 = w * w
        surface = dome + np.float32(0.17) - amount * (np.float32(0.62) + np.float32(0.58) * w2 * w)
        depth = chest.y[rows] - surface
        here = chest.left[rows] == (1 if sign[0] > 0 else 0)
        fluid = ramp(np.asarray(depth * np.float32(11), dtype=np.float32)) * np.float32(0.93)
        veil = column(0.22 * grade * batch.ap[rows] * share) * np.clip(chest.y[rows] + np.float32(0.5), 0, 1)
        fill.open[rows] *= 1 - np.maximum(fluid, veil) * here


def _scars(batch: Batch, chest: Chest, fill: Filling) -> None:
    """Pleural Other: thickening along the wall, an apical cap, calcified plaques."""
    for rows, sign in _sides(batch, batch.having(OTHER), OTHER):
        grade = column(batch.severity[rows, OTHER])
        made = batch.person.only(rows).uniform(f"scar{sign[0]}", 12).astype(np.float32)
        here = (chest.left[rows] == (1 if sign[0] > 0 else 0)).astype(np.float32)
        y, gap = chest.y[rows], chest.outer[rows] - chest.u[rows]
        wavy: F32 = np.float32(1) + np.float32(0.30) * np.sin(
            y * column(5 + 6 * made[:, 0]) + column(6 * made[:, 1])
        )
        thick = (np.float32(0.045) + np.float32(0.075) * grade) * wavy
        middle = column(-0.15 + 0.35 * made[:, 2])
        reach = np.exp(-(((y - middle) / column(0.22 + 0.20 * made[:, 3])) ** 4))
        peel = ramp(np.float32(40) * (thick * reach - gap)) * here
        fill.open[rows] *= 1 - peel * (np.float32(0.50) + np.float32(0.35) * grade)
        cap = np.float32(0.05) + np.float32(0.11) * grade
        depth = chest.shape.apex[rows] + cap * (np.float32(1) + np.float32(0.3) * wavy) - y
        capped = column(made[:, 4] < 0.6)
        fill.open[rows] *= 1 - ramp(depth * np.float32(12)) * here * capped * np.float32(0.75)
        calcified = column(made[:, 5] < 0.6)
        for k in range(2):
            a, b, c = made[:, 6 + 3 * k], made[:, 7 + 3 * k], made[:, 8 + 3 * k]
            dx = (chest.x[rows] - column(sign * (0.28 + 0.22 * a))) / column(0.05 + 0.05 * b)
            dy = (y - column(-0.20 + 0.50 * c)) / column(0.020 + 0.02 * a)
            ragged = np.float32(1) + np.float32(0.4) * np.sin(dx * np.float32(5) + column(9 * c))
            spot = ramp((ragged - dx * dx - dy * dy) * np.float32(2.5))
            fill.extra[rows] += spot * calcified * (np.float32(0.08) + np.float32(0.30) * grade)
