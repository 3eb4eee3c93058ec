"""Bootstrap of metrics that are made of sums over images: F1 at a fixed threshold, and calibration error.

A replicate is a weight per image, so every such sum, over every replicate, is one matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats, calibration_bins, check_pair, check_scores, check_targets
from retune.metrics.bootstrap import check_counts

_BLOCK = 1 << 22  # weights held as float64 at a time


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
    y, s = check_targets(targets), check_scores(scores)
    check_counts(weights, len(y))
    if y.ndim != 2 or s.ndim not in (2, 3) or s.shape[-2:] != y.shape:
        raise ValueError(f"targets {y.shape} must be (N, C) and scores {s.shape} (N, C) or (K, N, C)")
    limits = np.asarray(thresholds, dtype=np.float64)
    if limits.shape != y.shape[1:]:
        raise ValueError(f"thresholds {limits.shape} must be ({y.shape[1]},)")
    positives, negatives = _sums(weights, y == 1), _sums(weights, y == 0)
    valid = (positives > 0) & (negatives > 0) & ~np.isnan(limits)

    def one(moment: Floats) -> Floats:
        called = (moment >= limits) & ~np.isnan(y)
        hits, calls = _sums(weights, called & (y == 1)), _sums(weights, called)
        return np.where(valid, 2 * hits / np.maximum(calls + positives, 1), np.nan)

    return one(s) if s.ndim == 2 else np.stack([one(moment) for moment in s], axis=1)


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
    check_counts(weights, len(y))
    cells, known = calibration_bins(p, bins), ~np.isnan(y)
    positives, negatives = _sums(weights, y == 1), _sums(weights, y == 0)
    gap = np.where(known, p - np.where(known, y, 0.0), 0.0)
    error = np.empty_like(positives)
    for c in range(y.shape[1]):
        in_bin = np.where(cells[:, c, None] == np.arange(bins), gap[:, c, None], 0.0)
        error[:, c] = np.abs(_sums(weights, in_bin)).sum(axis=1)
    valid = (positives > 0) & (negatives > 0)
    return np.where(valid, error / np.maximum(positives + negatives, 1), np.nan)


def _sums(weights: NDArray[Any], values: NDArray[Any]) -> Floats:
    """``weights @ values``, ``(B, N) @ (N, F)``, in blocks of replicates."""
    w = np.asarray(weights)
    v = np.asarray(values, dtype=np.float64)
    step = max(1, _BLOCK // max(1, len(v)))
    out = np.empty((len(w), v.shape[1]))
    for i in range(0, len(w), step):
        np.matmul(w[i : i + step].astype(np.float64), v, out=out[i : i + step])
    return out
