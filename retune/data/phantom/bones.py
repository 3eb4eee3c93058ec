"""Bones: ribs, spine, clavicles and shoulder blades, with their fractures."""

from __future__ import annotations

import numpy as np

from retune.data.phantom.body import Chest
from retune.data.phantom.frame import Batch, Rows, column, ramp
from retune.data.phantom.rng import F32

FRACTURE = 12
_SPACING = np.float32(0.128)
_FIRST = np.float32(-0.86)


def bones(batch: Batch, chest: Chest) -> F32:
    """(n, size, size) attenuation of the bones."""
    strength = column(1.05 - 0.006 * (batch.age - 55) + 0.10 * batch.person.normal("bone")[:, 0])
    total = _ribs(batch, chest)
    total += _spine(batch, chest)
    _clavicles(batch, chest, total)
    _blades(batch, chest, total)
    total *= strength
    return total


def _ribs(batch: Batch, chest: Chest) -> F32:
    """Twelve pairs at once: the height above the ribs' common curve, in units of their spacing."""
    s = chest.u / chest.shape.half
    s2 = s * s
    back = s2 * s2
    back *= np.float32(0.10)
    back += s2 * np.float32(0.24)
    back -= s * np.float32(0.12)
    back *= chest.shape.slope
    end = np.float32(0.22) * chest.shape.slope
    front: F32 = np.float32(1) - s
    np.maximum(front, np.float32(0), out=front)
    front *= np.float32(0.42) - np.float32(0.12) * front
    front *= chest.shape.slope
    front += end
    y = chest.y - _FIRST
    cut = None
    rows = batch.having(FRACTURE)
    if len(rows):
        y, cut = _broken(batch, chest, rows, y, back)
    posterior = _tubes((y - back) / _SPACING, np.float32(0.27))
    reach = ramp((chest.outer + np.float32(0.02) - chest.u) * np.float32(30))
    reach *= ramp((chest.u - np.float32(0.06)) * np.float32(25))
    rim = np.float32(0.75) + np.float32(0.6) * np.clip(s2 * s2, 0, 1)
    posterior *= reach
    posterior *= rim
    anterior = _tubes((y - front) / _SPACING, np.float32(0.30))
    anterior *= ramp((s - np.float32(0.52)) * np.float32(6))
    anterior *= reach
    posterior *= np.float32(0.34)
    if cut is not None:
        posterior[rows] *= 1 - cut[0]
        posterior[rows] += cut[1]
    posterior += anterior * np.float32(0.22)
    return posterior


def _tubes(phase: F32, half: np.float32) -> F32:
    """Profile of hollow tubes at whole numbers plus a half of ``phase``, for twelve ribs."""
    whole: F32 = np.floor(phase)
    d = phase - whole
    d -= np.float32(0.5)
    np.abs(d, out=d)
    d /= half
    shade = d * d
    shade *= np.float32(0.5)
    shade += np.float32(0.6)
    np.subtract(np.float32(1), d, out=d)
    shade *= ramp(d * np.float32(4))
    shade *= (whole >= 0) & (whole < 12)
    return shade


def _broken(batch: Batch, chest: Chest, rows: Rows, y: F32,
            back: F32) -> tuple[F32, tuple[F32, F32]]:  # fmt: skip
    """Neighbouring ribs step at a break, gape there, and carry callus."""
    grade = column(batch.severity[rows, FRACTURE])
    made = batch.person.only(rows).uniform("fracture", 5)
    left = chest.left[rows] == column(batch.side[rows, FRACTURE] == 1)
    s = chest.u[rows] / chest.shape.half[rows]
    phase = (y[rows] - back[rows]) / _SPACING
    first = column(np.floor(2.2 + 5.0 * made[:, 0]))
    count = np.floor(np.float32(2.5) + np.float32(3.4) * grade)
    hit = left & (phase > first) & (phase < first + count)
    where = column(0.50 + 0.34 * made[:, 1])
    beyond = s - where - np.float32(0.05) * (np.floor(phase) % 2)
    step = np.clip(beyond * np.float32(40), 0, 1) * np.exp(-np.clip(beyond, 0, 2) * np.float32(3))
    sign = column(np.where(made[:, 2] < 0.5, -1, 1))
    y = y.copy()
    y[rows] += hit * step * sign * (np.float32(0.022) + np.float32(0.035) * grade)
    near = np.abs(beyond)
    off = np.abs(phase - np.floor(phase) - np.float32(0.5))
    inside = ramp((np.float32(0.42) - off) * np.float32(12)) * hit
    gap = ramp((np.float32(0.035) + np.float32(0.045) * grade - near) * np.float32(50)) * inside
    callus = np.exp(-((near / np.float32(0.075)) ** 2)) * inside * column(0.4 + 0.6 * made[:, 3])
    fresh = column(made[:, 4] < 0.55)
    bright = (np.float32(0.45) + np.float32(0.60) * grade) * (1 - np.float32(0.4) * fresh)
    # Blood under the pleura lies about the break, between the ribs too.
    blood = np.exp(-((near / np.float32(0.13)) ** 2)) * hit * (np.float32(0.15) + np.float32(0.30) * grade)
    return y, (gap * fresh, callus * bright + blood)


def _spine(batch: Batch, chest: Chest) -> F32:
    disc = column(0.105 + 0.008 * batch.person.normal("spine")[:, 0])
    bend = column(0.02 * batch.person.normal("scoliosis")[:, 0]) * np.sin(np.float32(2.2) * chest.y)
    d = np.abs(chest.x - bend)
    body = ramp((np.float32(0.075) - d) * np.float32(35))
    wave = np.cos(chest.y * (np.float32(2 * np.pi) / disc))
    body *= np.float32(0.42) + np.float32(0.10) * wave
    pedicle = np.exp(-(((d - np.float32(0.045)) / np.float32(0.016)) ** 2)) * np.clip(wave, 0, 1)
    body += pedicle * np.float32(0.10)
    return np.asarray(body)


def _clavicles(batch: Batch, chest: Chest, total: F32) -> None:
    top = int(batch.size * 0.42)  # they never lie lower
    u, y = chest.u[:, :top], chest.y[:, :top]
    high = column(-0.52 + 0.03 * batch.person.normal("clavicle")[:, 0] - 0.05 * batch.ap)
    turn = column(0.02 * batch.image.normal("shrug")[:, 0]) * (2 * chest.left[:, :top] - 1)
    middle = high + turn - np.float32(0.20) * u - np.float32(0.035) * np.sin(u * np.float32(7.5))
    d = np.abs(y - middle) / (np.float32(0.030) + np.float32(0.014) * (u < 0.16))
    shade = (np.float32(0.6) + np.float32(0.4) * d * d) * ramp((np.float32(1) - d) * np.float32(4))
    shade *= ramp((u - np.float32(0.06)) * np.float32(30)) * ramp((np.float32(0.80) - u) * np.float32(30))
    total[:, :top] += shade * np.float32(0.42)


def _blades(batch: Batch, chest: Chest, total: F32) -> None:
    """Shoulder blades: over the lungs in AP images, beside them in PA images. And the upper arms' heads."""
    part = int(batch.size * 0.62)
    u, y = chest.u[:, :part], chest.y[:, :part]
    edge = chest.shape.half + column(0.03 - 0.16 * batch.ap)
    inward = u - edge - np.float32(0.22) * np.clip(y + np.float32(0.45), -1, 1)
    blade = ramp(inward * np.float32(22)) * ramp((np.float32(0.02) - y) * np.float32(8))
    blade *= ramp((y + np.float32(0.62)) * np.float32(14)) * np.exp(-np.clip(inward, 0, 1) * np.float32(5))
    total[:, :part] += blade * np.float32(0.22)
    q = ((u - np.float32(0.93)) / np.float32(0.12)) ** 2 + ((y + np.float32(0.60)) / np.float32(0.13)) ** 2
    total[:, :part] += np.sqrt(np.clip(1 - q, 0, 1)) * np.float32(0.55)
