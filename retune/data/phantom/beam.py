"""From attenuation to a displayed picture: beam, scatter, grain, detector, window, collimator, marker."""

from __future__ import annotations

import numpy as np

from retune.data.phantom.frame import COARSE, Batch, axis, column, enlarge, ramp
from retune.data.phantom.glyphs import burn
from retune.data.phantom.rng import F32


def expose(batch: Batch, attenuation: F32, blur: F32, *, grain: bool = True) -> F32:
    """Takes the picture.

    Args:
        batch: The exams.
        attenuation: (n, size, size) minus the logarithm of what passes; overwritten.
        blur: (n, size, size) what the detector's blur adds, in attenuation.
        grain: Whether photons are counted with noise.

    Returns:
        (n, size, size) brightness from 0 to 1, dense things bright.
    """
    attenuation += blur
    attenuation *= column(batch.of_site(lambda s: s.energy))
    np.clip(attenuation, 0, 9, out=attenuation)
    passed = np.exp(np.negative(attenuation, out=attenuation), out=attenuation)
    passed += _scatter(batch, passed)
    if grain:
        photons = column(
            batch.of_site(lambda s: s.exposure) * np.exp(0.25 * batch.image.normal("dose")[:, 0])
        )
        # A pixel of a small image gathers the light of many; the reference is 128 pixels.
        photons = photons * np.float32((128 / batch.size) ** 2)
        sigma = np.sqrt(passed / photons)
        sigma *= batch.image.noise("grain", batch.size, batch.size)
        passed += sigma
    np.maximum(passed, np.float32(1e-4), out=passed)
    density = np.log(passed, out=passed)
    np.negative(density, out=density)
    return _window(batch, density)


def _scatter(batch: Batch, passed: F32) -> F32:
    """Light from everywhere: the primary picture blurred very wide, a share of it added."""
    n, size = len(batch), batch.size
    step = max(size // 32, 1)
    cut = size // step * step
    small = passed[:, :cut, :cut].reshape(n, cut // step, step, cut // step, step).mean(axis=(2, 4))
    small = np.minimum(small, np.float32(0.35))
    wide = enlarge(enlarge(_pool(small), COARSE // 3), size)
    wide *= column(batch.of_site(lambda s: s.scatter) * (1 + 0.2 * batch.image.normal("scatter")[:, 0]))
    return np.maximum(wide, 0, out=wide)


def _pool(small: F32) -> F32:
    """(n, g, g) to (n, 8, 8) by averaging with overlapping weights."""
    g = small.shape[1]
    at = (np.arange(8) + 0.5) * g / 8 - 0.5
    weight = np.exp(-(((np.arange(g)[None, :] - at[:, None]) * 8 / g) ** 2))
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.asarray(
        np.einsum("nib,ai->nab", np.einsum("nij,bj->nib", small, weight), weight), dtype=np.float32
    )


def _window(batch: Batch, density: F32) -> F32:
    """A soft-shouldered display curve around the site's level, with the operator's small errors."""
    level = batch.of_site(lambda s: s.level) + 0.10 * batch.image.normal("level")[:, 0]
    width = batch.of_site(lambda s: s.width) * np.exp(0.08 * batch.image.normal("width")[:, 0])
    density -= column(level)
    density *= column(4 / width)
    np.clip(density, -9, 9, out=density)
    # Logistic curve.
    np.exp(np.negative(density, out=density), out=density)
    density += 1
    np.reciprocal(density, out=density)
    gamma = column(batch.of_site(lambda s: s.gamma))
    np.log(density, out=density)
    density *= gamma
    return np.exp(density, out=density)


def finish(batch: Batch, picture: F32) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """(n, size, size) brightness to 8 bits, with the collimator's border and the burnt-in marker."""
    border = np.abs(batch.image.normal("border", 4)) * 0.5 + 0.5
    border = border * batch.of_site(lambda s: s.collimation)[:, None]
    grid = axis(batch.size)
    sharp = np.float32(batch.size / 2)
    across = ramp((grid[None, :] + 1 - border[:, 0:1].astype(np.float32)) * sharp)
    across *= ramp((1 - border[:, 1:2].astype(np.float32) - grid[None, :]) * sharp)
    along = ramp((grid[None, :] + 1 - border[:, 2:3].astype(np.float32)) * sharp)
    along *= ramp((1 - border[:, 3:4].astype(np.float32) - grid[None, :]) * sharp)
    picture *= across[:, None, :]
    picture *= along[:, :, None]
    burn(batch, picture)
    picture *= np.float32(255)
    picture += np.float32(0.5)
    return picture.astype(np.uint8)
