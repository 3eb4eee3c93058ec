"""The normal chest: shapes of each patient, and what they attenuate.

Attenuation is in natural units (minus the logarithm of what passes): about 3 through the middle of the body,
lungs aside. Lengths are in units of half the image's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from retune.data.phantom.frame import Batch, Pose, Rows, band, column, ramp
from retune.data.phantom.rng import F32

_ROOM: Final = np.float32(0.01)
"""What rounding may not exceed."""


@dataclass
class Shape:
    """Measures of each patient, (n, 1, 1) each; findings change some of them.

    Args:
        half: Half the greatest inner width of the chest.
        apex: Height of the lungs' apices.
        dome_right, dome_left: Heights of the diaphragm's domes.
        ratio: Cardiothoracic ratio, of widths.
        mediastinum: Half the width of the upper mediastinum.
        knob: Radius of the aortic knob.
        thick: Thickness of the body.
        slope: Slope of the ribs.
        shift: Sideways shift of heart and mediastinum.
    """

    half: F32
    apex: F32
    dome_right: F32
    dome_left: F32
    ratio: F32
    mediastinum: F32
    knob: F32
    thick: F32
    slope: F32
    shift: F32


def shapes(batch: Batch) -> Shape:
    """Draws the measures of each patient, findings included."""
    person, image = batch.person, batch.image
    vary = person.normal("build", 8)
    breath = image.normal("breath")[:, 0] * 0.035 - 0.09 * batch.ap
    old = (batch.age - 55) / 20
    half = np.clip(0.66 + 0.03 * vary[:, 0] - 0.025 * batch.female, 0.56, 0.76)
    dome = 0.40 + breath + 0.025 * vary[:, 1]
    base = np.clip(0.43 + 0.026 * vary[:, 2] + 0.008 * old, 0.36, 0.485) + 0.025 * batch.ap
    grade = batch.severity
    ratio = np.where(grade[:, 2] > 0, 0.485 + 0.135 * grade[:, 2] + 0.5 * (base - 0.43), base)
    wide = 0.135 + 0.012 * vary[:, 3] + 0.012 * batch.ap
    wide = wide + np.where(grade[:, 1] > 0, 0.035 + 0.10 * grade[:, 1], 0)
    raised = np.where(grade[:, 8] > 0, 0.02 + 0.15 * grade[:, 8], 0)
    on_right = (batch.side[:, 8] == 0) | (batch.side[:, 8] == 2)
    on_left = (batch.side[:, 8] == 1) | (batch.side[:, 8] == 2)
    pulled = 0.06 * grade[:, 8] * ((batch.side[:, 8] == 1) * 1.0 - (batch.side[:, 8] == 0))
    pushed = 0.05 * grade[:, 9] * ((batch.side[:, 9] == 0) * 1.0 - (batch.side[:, 9] == 1))
    return Shape(
        half=column(half),
        apex=column(-0.74 + 0.025 * vary[:, 4] + 0.02 * batch.ap),
        dome_right=column(dome - raised * on_right),
        dome_left=column(dome + 0.05 + 0.012 * vary[:, 5] - raised * on_left),
        ratio=column(ratio),
        mediastinum=column(wide),
        knob=column(0.075 + 0.010 * vary[:, 6] + 0.010 * old + 0.05 * grade[:, 1]),
        thick=column(np.clip(1 + 0.10 * vary[:, 7], 0.75, 1.3)),
        slope=column(1 + 0.12 * person.normal("ribs")[:, 0] - 0.25 * batch.ap),
        shift=column(pulled + pushed + 0.012 * image.normal("turn")[:, 0]),
    )


@dataclass
class Chest:
    """Fields of a batch on its pixels, (n, size, size) each.

    Args:
        x, y: Body coordinates; ``u`` is the distance from the midline, ``left`` is 1 on the patient's left.
        outer: Distance of the lung's outer border from the midline, at each height.
        inner: The same of its inner border.
        dome: Height of the diaphragm at each distance from the midline.
        air: Thickness of lung along the ray, 0 to 1, before heart and findings take their share.
        solid: Share of that taken by heart and mediastinum.
        soft: Attenuation of everything but lungs and bones.
    """

    shape: Shape
    pose: Pose
    x: F32
    y: F32
    u: F32
    left: F32
    outer: F32
    inner: F32
    dome: F32
    air: F32
    solid: F32
    soft: F32


def chest(batch: Batch) -> Chest:
    """Draws the normal chest without its bones and vessels."""
    shape, pose = shapes(batch), batch.pose()
    x, y = pose.to_body(batch.size)
    u = np.abs(x)
    left = (x > 0).astype(np.float32)
    outer, inner, z2 = _borders(shape, y)
    dome = _dome(shape, u, left)
    air = _air(shape, u, y, outer, inner, dome, z2)
    solid = _solid(shape, x, y)
    soft = _soft(batch, shape, x, y, u, outer, dome)
    return Chest(shape, pose, x, y, u, left, outer, inner, dome, air, solid, soft)


def _borders(shape: Shape, y: F32) -> tuple[F32, F32, F32]:
    centre = np.float32(0.28)
    z = (centre - y) / (centre - shape.apex)
    np.clip(z, 0, 1, out=z)
    z2 = z * z
    outer = np.float32(1) - z2 * z * np.sqrt(z)
    np.sqrt(outer, out=outer)
    outer *= shape.half - np.float32(0.20)
    outer += np.float32(0.20)
    inner = z2 * z2
    inner *= np.float32(0.12)
    inner += np.float32(0.07)
    return outer, inner, z2


def _dome(shape: Shape, u: F32, left: F32) -> F32:
    dome = shape.dome_right + (shape.dome_left - shape.dome_right) * left
    w = u / shape.half
    w -= np.float32(0.5)
    w *= np.float32(2)
    np.clip(w, -1, 1.2, out=w)
    square = w * w
    dome += square * np.where(w > 0, np.float32(0.20), np.float32(0.07))
    return dome


def _air(shape: Shape, u: F32, y: F32, outer: F32, inner: F32, dome: F32, z2: F32) -> F32:
    breadth = outer - inner
    np.maximum(breadth, np.float32(0.02), out=breadth)
    f = (u - inner) * (outer - u)
    f *= np.float32(4)
    f /= breadth
    f /= breadth
    np.clip(f, 0, 1, out=f)
    np.sqrt(f, out=f)
    f *= np.float32(1.7) - np.float32(0.7) * f
    f *= np.float32(1) - np.float32(0.3) * z2
    z8 = z2 * z2
    z8 *= z8
    f *= np.sqrt(np.float32(1) - z8 * z2)
    below = dome - y
    keep = ramp(below * np.float32(28)) * np.float32(0.9)
    keep += ramp((below + np.float32(0.10)) * np.float32(6)) * np.float32(0.1)
    f *= keep
    return f


def _chord(qx: F32, qy: F32) -> F32:
    """Chord through an ellipsoid at (qx, qy), in units of its half axes."""
    q = qx * qx
    q += qy * qy
    np.subtract(np.float32(1), q, out=q)
    np.clip(q, 0, 1, out=q)
    return np.asarray(np.sqrt(q, out=q))


def heart(shape: Shape, x: F32, y: F32) -> F32:
    """(n, size, size) thickness of the heart along the ray, 0 to 1.15.

    Where it is above a half, it is as wide as ``shape.ratio`` says.
    """
    xs = x - shape.shift
    width = shape.ratio * shape.half  # half of the heart's transverse diameter
    low = np.float32(0.5) * (shape.dome_right + shape.dome_left)
    tall = np.float32(0.30) + np.float32(0.10) * (shape.ratio - np.float32(0.43))
    lean = np.float32(0.45)
    axis = np.sqrt(np.maximum(width * width - (lean * tall) ** 2, np.float32(0.01)))
    solid = np.zeros_like(xs)
    middle = low - np.float32(0.22)
    here = band(y, middle - tall - _ROOM, middle + tall + _ROOM)
    dy = y[:, here] - middle
    ventricles = _chord((xs[:, here] - np.float32(0.32) * width - lean * dy) / axis, dy / tall)
    ventricles *= np.float32(1.15)
    atrium = _chord(
        (xs[:, here] + np.float32(0.30) * width) / (np.float32(0.62) * width),
        (dy - np.float32(0.02)) / np.float32(0.25),
    )
    np.maximum(ventricles, atrium, out=solid[:, here])
    return solid


def _solid(shape: Shape, x: F32, y: F32) -> F32:
    xs = x - shape.shift
    solid = heart(shape, x, y)
    # Great vessels: a column that narrows upwards, the knob on the left, the pulmonary trunk below it.
    lower = np.clip(y + np.float32(0.62), 0, 0.6)
    wide = shape.mediastinum * (np.float32(0.80) + np.float32(0.45) * lower)
    column_ = ramp((wide - np.abs(xs - np.float32(0.02))) * np.float32(14)) * np.float32(0.75)
    np.maximum(solid, column_, out=solid)
    for height, breadth, reach, thick in ((-0.33, shape.knob, shape.knob, 0.85), (-0.13, 0.09, 0.13, 0.6)):
        here = band(y, height - reach - _ROOM, height + reach + _ROOM)
        qx, qy = xs[:, here] - shape.mediastinum, y[:, here] - np.float32(height)
        vessel = _chord(qx / np.float32(breadth), qy / np.float32(reach)) * np.float32(thick)
        np.maximum(solid[:, here], vessel, out=solid[:, here])
    return np.clip(solid, 0, 1, out=solid)


def _soft(batch: Batch, shape: Shape, x: F32, y: F32, u: F32, outer: F32, dome: F32) -> F32:
    wall = np.float32(0.13) + np.float32(0.08) * (shape.thick - np.float32(1))
    edge = shape.half + wall + np.float32(0.6) * ramp((-y - np.float32(0.06)) * np.float32(1.3))
    q = u / edge
    q *= q
    body: F32 = np.sqrt(np.clip(np.float32(1) - q * q, 0, 1))
    # Above the shoulders there is only the neck.
    top = np.float32(-1.0) + np.float32(0.42) * np.clip(u - np.float32(0.22), 0, 1)
    body *= np.float32(0.35) * ramp((y - top) * np.float32(3)) + np.float32(0.65)
    body *= ramp((y - top) * np.float32(9))
    body *= np.float32(2.75) * shape.thick
    body += ramp((y - dome) * np.float32(4)) * np.float32(0.45)
    # Windpipe and main bronchi: columns of air.
    centre = shape.shift * np.float32(0.6) + np.float32(0.01)
    here = band(y, -9, -0.04 + _ROOM)
    height = y[:, here]
    tube = ramp((np.float32(0.045) - np.abs(x[:, here] - centre)) * np.float32(26))
    tube *= ramp((-np.float32(0.22) - height) * np.float32(20))
    fork = np.abs(u[:, here] - np.float32(0.03) - np.float32(0.75) * (height + np.float32(0.22)))
    fork = ramp((np.float32(0.032) - fork) * np.float32(26))
    fork *= ramp((np.float32(0.075) - np.abs(height + np.float32(0.14))) * np.float32(20))
    tube += fork * np.float32(0.6)
    body[:, here] -= tube * np.float32(0.42)
    _abdomen(batch, shape, x, y, dome, body)
    rows = np.flatnonzero(batch.female > 0)
    if len(rows):
        _breasts(batch, rows, x, y, u, body)
    return body


def _abdomen(batch: Batch, shape: Shape, x: F32, y: F32, dome: F32, body: F32) -> None:
    """Gas of stomach and colon under the left dome."""
    place = batch.image.uniform("stomach", 6)
    size = column(0.04 + 0.09 * place[:, 0]) * column(place[:, 1] > 0.2)
    level = shape.dome_left + column(0.06 + 0.05 * place[:, 2]) + size * np.float32(0.6)
    here = band(y, level - size - _ROOM, level + size + _ROOM)
    gas = _chord(
        (x[:, here] - column(0.30 + 0.12 * place[:, 3])) / (size * np.float32(1.6) + np.float32(1e-3)),
        (y[:, here] - level) / (size + np.float32(1e-3)),
    )
    body[:, here] -= gas * column(0.35 + 0.35 * place[:, 4]) * (y[:, here] > dome[:, here])


def _breasts(batch: Batch, rows: Rows, x: F32, y: F32, u: F32,
             body: F32) -> None:  # fmt: skip
    made = batch.person.only(rows).uniform("breast", 4)
    radius = column(0.25 + 0.10 * made[:, 0])
    dx = (u[rows] - column(0.38 + 0.06 * made[:, 1])) / (radius * np.float32(1.05))
    dy = (y[rows] - column(0.22 + 0.14 * made[:, 2])) / radius
    dy *= np.where(dy > 0, np.float32(1), np.float32(0.6))
    body[rows] += _chord(dx, dy) * column(0.25 + 0.35 * made[:, 3])
