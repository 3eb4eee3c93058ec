"""How well maps outline findings, worked out from a few sums of each image, so that no mask is needed again.

Of an image and a finding are kept: how many pixels are both predicted and true, predicted, and true. Sums of them over
images give every Dice there is, on the test set and on each of its resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats, auroc
from retune.metrics.bootstrap import interval
from retune.metrics.continual import nan_mean, over_time
from retune.metrics.report import Measured

Sums = NDArray[np.uint32]
"""``(..., N, K, 3)``: pixels that are predicted and true, predicted, true; zeros where a finding is unknown."""
BOTH, PREDICTED, TRUE = range(3)
FEWEST: Final = 5
"""Positive images below which a number of a finding is undefined rather than flattering."""


def pooled_dice(sums: Sums, weights: NDArray[Any] | None = None) -> Floats:
    """Dice of the pixels of all images together, 2 |A and B| / (|A| + |B|): nothing predicted scores 0.

    Args:
        sums: ``(..., N, K, 3)``.
        weights: ``(B, N)`` how often each image counts in each resample; once where left out.

    Returns:
        ``(..., K)``, or ``(B, ..., K)`` with weights; NaN where nothing is true.
    """
    s = np.moveaxis(np.asarray(sums), -3, 0)
    if weights is None:
        total = s.sum(axis=0, dtype=np.float64)
    else:
        # Whole numbers below 2**53: exact in double precision.
        flat = s.reshape(len(s), -1).astype(np.float64)
        total = (weights.astype(np.float64) @ flat).reshape(len(weights), *s.shape[1:])
    return _dice(total, total[..., TRUE] > 0)


def dice_of_images(sums: Sums) -> Floats:
    """Dice of each image, ``(..., N, K)``; NaN where nothing is true."""
    return _dice(sums.astype(np.float64), sums[..., TRUE] > 0)


def positive_dice(sums: Sums) -> Floats:
    """Mean Dice over the images that have the finding, ``(..., K)``; one that paints on everybody does well."""
    return _mean_over_images(dice_of_images(sums))


def published_dice(sums: Sums, known: NDArray[np.bool_]) -> Floats:
    """Mean over all images as GLoRIA, MGCA, MedKLIP and Adaptor have it, ``(..., K)``.

    An image without the finding scores 1 where nothing is predicted and 0 otherwise, so that predicting nothing at all
    scores the share of such images.

    Args:
        sums: ``(..., N, K, 3)``.
        known: Which findings were looked for, bool ``(N, K)``.
    """
    nothing = np.where(sums[..., PREDICTED] > 0, 0.0, 1.0)
    score = np.where(sums[..., TRUE] > 0, dice_of_images(sums), nothing)
    return _mean_over_images(np.where(known, score, np.nan))


def false_alarms(sums: Sums, known: NDArray[np.bool_]) -> Floats:
    """Share of the images without the finding on which anything is predicted, ``(..., K)``."""
    empty = known & (sums[..., TRUE] == 0)
    return _mean_over_images(np.where(empty, sums[..., PREDICTED] > 0, np.nan))


def presence(sums: Sums, scores: Floats, known: NDArray[np.bool_]) -> Floats:
    """AUROC of one score an image for whether it has the finding, ``(..., K)``.

    Args:
        sums: ``(..., N, K, 3)``.
        scores: ``(..., N, K)``.
        known: Which findings were looked for, bool ``(N, K)``.
    """
    true = np.where(known, sums.reshape(-1, *sums.shape[-3:])[0][..., TRUE] > 0, np.nan)
    flat = scores.reshape(-1, *scores.shape[-2:])
    found: Floats = np.stack([np.asarray(auroc(true, moment)) for moment in flat])
    return found.reshape(*scores.shape[:-2], -1)


def too_few(train: ArrayLike, test: ArrayLike) -> NDArray[np.bool_]:
    """Which findings have no number at all, ``(K,)``, by how many training and test images have each."""
    return (np.asarray(train) < FEWEST) | (np.asarray(test) < FEWEST)


def undefined(few: NDArray[np.bool_], since: int, moments: int) -> NDArray[np.bool_]:
    """Which numbers there are none of, ``(2, T+1, K)``: by the decoder fitted anew, and by the one that was kept.

    Args:
        few: Findings that have none at all, ``(K,)``.
        since: The moment whose decoder was kept.
        moments: T+1.
    """
    found = np.broadcast_to(few, (2, moments, len(few))).copy()
    found[1, :since] = True
    return found


def best_threshold(counts: NDArray[np.int64], edges: Floats) -> float:
    """The threshold of the best pooled Dice.

    Args:
        counts: ``(2, bins)``: pixels outside and inside the truth by the value of the map.
        edges: ``(bins,)`` lower edge of each bin, ascending.

    Returns:
        A value is predicted where it reaches this; infinite where there is no true pixel.
    """
    outside, inside = (np.cumsum(part[::-1])[::-1].astype(np.float64) for part in counts)
    true = inside[0]
    if not true:
        return float("inf")
    dice = 2 * inside / (outside + inside + true)
    return float(edges[int(dice.argmax())])


def over_time_measured(
    refit: Floats, kept: Floats, resampled: Mapping[str, Floats], level: float = 0.95
) -> dict[str, Measured]:
    """The four metrics with intervals.

    Args:
        refit: ``(T+1, K)``.
        kept: ``(T+1, K)``.
        resampled: What :func:`retune.metrics.continual.over_time` gives on every resample of the test patients.
        level: Coverage of the intervals.
    """
    found = {}
    for key, value in over_time(refit, kept).items():
        low, high = interval(resampled[key], level)
        found[key] = Measured(float(value), float(low), float(high))
    return found


def _dice(sums: Floats, true: NDArray[np.bool_]) -> Floats:
    area = sums[..., PREDICTED] + sums[..., TRUE]
    dice: Floats = np.divide(2 * sums[..., BOTH], area, out=np.full_like(area, np.nan), where=true)
    return dice


def _mean_over_images(values: Floats) -> Floats:
    """``(..., N, K)`` to ``(..., K)``: the mean of what is defined."""
    return nan_mean(np.swapaxes(values, -1, -2))
