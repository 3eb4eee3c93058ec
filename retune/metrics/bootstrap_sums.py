"""Bootstrap of metrics that are made of sums over images: F1 at a fixed threshold, and calibration error.

A replicate is a weight per image, so every such sum, over every replicate, is one matrix product. What an image
takes no part in is a zero there, and the product knows where the zeros are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats, calibration_bins, check_pair
from retune.metrics.bootstrap import blocks, check_counts, side_by_side


def bootstrap_f1(
    targets: ArrayLike, scores: ArrayLike, thresholds: ArrayLike, weights: NDArray[Any]
) -> Floats:
    """F1 of ``score >= threshold`` in each replicate.

    Args:
        targets: ``(N, C)`` of 1, 0 and NaN.
        scores: ``(N, C)`` or ``(K, N, C)``.
        thresholds: ``(C,)``; NaN where a label has none.
        weights: ``(B, N)`` counts.

    Returns:
        ``(B, C)`` or ``(B, K, C)``; NaN where a replicate lacks a class or a label a threshold.
    """
    y, s, shape = side_by_side(targets, scores)
    limits = np.asarray(thresholds, dtype=np.float64)
    if limits.shape != shape[-1:]:
        raise ValueError(f"thresholds {limits.shape} must be ({shape[-1]},)")
    limits = np.tile(limits, y.shape[1] // max(1, shape[-1]))
    w, lane = check_counts(weights, len(y))
    called = s >= limits
    positives, negatives, hits, alarms = (
        _counted(w, chosen, lane) for chosen in (y == 1, y == 0, called & (y == 1), called & (y == 0))
    )
    valid = (positives > 0) & (negatives > 0) & ~np.isnan(limits)
    f1 = np.where(valid, 2 * hits / np.maximum(hits + alarms + positives, 1), np.nan)
    return f1.reshape(len(f1), *shape)


def bootstrap_calibration(
    targets: ArrayLike, probabilities: ArrayLike, weights: NDArray[Any], bins: int = 15
) -> Floats:
    """Expected calibration error of each replicate, with the bins of `expected_calibration_error`.

    Args:
        targets: ``(N, C)`` of 1, 0 and NaN.
        probabilities: ``(N, C)`` within [0, 1].
        weights: ``(B, N)`` counts.
        bins: How many bins.

    Returns:
        ``(B, C)``; NaN where a replicate lacks a class.
    """
    y, p = check_pair(targets, probabilities)
    w, lane = check_counts(weights, len(y))
    cells = calibration_bins(p, bins)
    label, image = np.nonzero(~np.isnan(y).T)
    gap = (p - y)[image, label]
    in_bin = _sums(w, gap, label * bins + cells[image, label], image, y.shape[1] * bins)
    error = np.abs(in_bin).reshape(-1, y.shape[1], bins).sum(axis=2)
    positives, negatives = _counted(w, y == 1, lane), _counted(w, y == 0, lane)
    valid = (positives > 0) & (negatives > 0)
    return np.where(valid, error / np.maximum(positives + negatives, 1), np.nan)


def _counted(weights: NDArray[Any], chosen: NDArray[np.bool_], lane: type[np.unsignedinteger[Any]]) -> Floats:
    """How many images of each column of ``chosen`` (N, F) each replicate holds, (B, F)."""
    column, image = np.nonzero(chosen.T)
    return _sums(weights, np.ones(len(image), dtype=lane), column, image, chosen.shape[1])


def _sums(
    weights: NDArray[Any],
    values: NDArray[Any],
    row: NDArray[np.intp],
    image: NDArray[np.intp],
    rows: int,
) -> Floats:
    """Sums (B, rows) over images of values that each belong to a row, in every replicate."""
    from scipy.sparse import csr_array

    matrix = csr_array((values, (row, image)), shape=(rows, weights.shape[1]))
    out = np.empty((len(weights), rows))
    for block in blocks(len(weights)):
        out[block] = (matrix @ np.ascontiguousarray(weights[block].T, dtype=values.dtype)).T
    return out
