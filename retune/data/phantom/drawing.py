"""From a table of exams to pictures, and to maps of where each finding shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from retune.data.findings import CHEXPERT
from retune.data.phantom.beam import expose, finish
from retune.data.phantom.body import Chest, chest
from retune.data.phantom.bones import bones
from retune.data.phantom.devices import devices
from retune.data.phantom.frame import Batch, Rows, batch, blurred, column, enlarge, ramp
from retune.data.phantom.opacities import Filling, filling
from retune.data.phantom.pleura import pleura
from retune.data.phantom.rng import F32
from retune.data.phantom.strokes import Strokes
from retune.data.phantom.table import Exams
from retune.data.phantom.tables import OPACITY_CHILDREN
from retune.data.phantom.vessels import vessels
from retune.errors import BadSetting

GENERATOR_VERSION: Final = "1"
"""Changes whenever a pixel, a label or a word does."""

_PIXELS_AT_ONCE: Final = 16 * 128 * 128
_VISIBLE: Final = 2.5 / 255
_CHILDREN: Final = [CHEXPERT.index(name) for name in OPACITY_CHILDREN]


def render(exams: Exams, rows: npt.ArrayLike, *, size: int = 128) -> npt.NDArray[np.uint8]:
    """Draws synthetic chest radiographs.

    Args:
        exams: The table, from ``exams``.
        rows: (m,) rows of the table to draw.
        size: Side of the images in pixels, at least 32.

    Returns:
        (m, size, size) 8-bit images. The patient's left is at the image's right. An image does not depend on
        which others are drawn with it.

    Raises:
        BadSetting: ``size`` too small, or a row that is not in the table.
    """
    chosen = checked(exams, rows, size)
    out = np.empty((len(chosen), size, size), dtype=np.uint8)
    for part, group in batches(exams, chosen, size):
        out[part] = finish(group, _picture(group))
    return out


def masks(exams: Exams, rows: npt.ArrayLike, *, size: int = 128) -> npt.NDArray[np.bool_]:
    """Maps where each finding changes the image.

    The image is drawn without grain with and without the finding; where brightness differs by more than 2.5
    of 255 grey levels, the finding shows. Lung Opacity shows where the findings do that it stands for.

    Args:
        exams: The table.
        rows: (m,) rows of it.
        size: Side of the images in pixels, at least 32.

    Returns:
        (m, 14, size, size), all False where a finding is absent and for No Finding.
    """
    chosen = checked(exams, rows, size)
    out = np.zeros((len(chosen), 14, size, size), dtype=np.bool_)
    for part, group in batches(exams, chosen, size):
        full = _picture(group, grain=False)
        for finding in range(1, 14):
            have = group.having(finding)
            if not len(have):
                continue
            without = group.severity[have]
            without[:, finding] = 0
            other = _picture(batch(exams, chosen[part][have], size, without), grain=False)
            out[part.start + have, finding] = np.abs(full[have] - other) > _VISIBLE
    opacity = exams.labels[chosen, 3] > 0
    out[opacity, 3] |= out[opacity][:, _CHILDREN].any(axis=1)
    return out


def checked(exams: Exams, rows: npt.ArrayLike, size: int) -> Rows:
    """(m,) the rows asked for.

    Raises:
        BadSetting: ``size`` too small, or a row that is not in the table.
    """
    if size < 32:
        raise BadSetting(f"images of {size} pixels are too small", where="size", fix="use at least 32")
    return exams.checked(rows)


def batches(exams: Exams, rows: Rows, size: int) -> Iterator[tuple[slice, Batch]]:
    """Some of the rows at a time: which of them, and what is needed to draw these."""
    severity = _drawn(exams)
    step = max(1, _PIXELS_AT_ONCE // size**2)
    for k in range(0, len(rows), step):
        part = slice(k, min(k + step, len(rows)))
        yield part, batch(exams, rows[part], size, severity[rows[part]])


def _drawn(exams: Exams) -> F32:
    """Severities to draw: Lung Opacity has a cloud of its own only where it stands for nothing else."""
    severity = np.where(exams.labels > 0, exams.severity, np.float32(0))
    severity[:, 3] *= (severity[:, _CHILDREN] == 0).all(axis=1)
    return severity


def _picture(group: Batch, *, grain: bool = True) -> F32:
    """(n, size, size) brightness from 0 to 1, before border and marker."""
    body = chest(group)
    tree, marks = Strokes(body.pose, group.size), Strokes(body.pose, group.size)
    vessels(group, tree)
    fine = Strokes(body.pose, group.size)
    fill = filling(group, body, fine)
    attenuation = _attenuation(group, body, fill, tree, fine)
    solid = np.zeros_like(attenuation)
    devices(group, body, marks, solid)
    solid += marks.draw(len(group), 0.008)
    attenuation += solid
    return expose(group, attenuation, _blur(group, attenuation), grain=grain)


def _attenuation(group: Batch, body: Chest, fill: Filling, tree: Strokes, fine: Strokes) -> F32:
    """Adds up what each ray passes."""
    n, size = len(group), group.size
    space = pleura(group, body, fill)
    lung = body.air * (1 - np.float32(0.94) * body.solid)
    texture = enlarge(group.person.noise("texture", 40, 40), size)
    aerated = lung * fill.open
    aerated *= 1 + np.float32(0.035) * texture
    aerated *= 1 + np.float32(0.17) * space.gas
    total = body.soft
    total -= aerated * (np.float32(2.0) * body.shape.thick)
    run = tree.draw(n, 0.0085)
    run *= fill.swell
    run *= 1 - space.gas
    run += fine.draw(n, 0.006) * (1 - space.gas)
    run *= ramp(lung * np.float32(2) - np.float32(0.35))
    run *= np.float32(0.25) + np.float32(0.75) * fill.open - np.float32(1.6) * fill.dense
    total += run
    total += fill.extra
    total += space.line * lung
    total += bones(group, body)
    # Outside the body there is nothing.
    return np.maximum(total, 0, out=total)


def _blur(group: Batch, attenuation: F32) -> F32:
    """What the detector's blur adds: a wide blur, mixed in so as to match each site's own."""
    wide = blurred(attenuation, 0.010 * group.size / 2, mode="edge")
    wide -= attenuation
    wide *= column(np.clip((group.of_site(lambda s: s.blur) / 0.010) ** 2, 0, 1.0))
    return wide
