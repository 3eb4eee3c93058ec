"""Continual-learning metrics of a matrix of scores: rows are moments, columns are labels.

``matrix`` is ``(..., T+1, C)``: row 0 before any training, row ``i`` after experience ``i``; higher is
better. It may hold AUROC, average precision or F1. Leading axes (bootstrap replicates) are kept: each
function returns ``(...)``, a NumPy float where there are none. ``first`` is ``(C,)``: the first experience, 1
to T, by the end of which a label can have been learnt, for a positive and a negative training image of it have been
shown (`first_learnt`); 0 for a label of which the stream never shows both.

A label that cannot be learnt is left out of learning, forgetting, both transfers and the average over time, which say how
learning went. It stays in the means at the end: a method is asked for it all the same, every method of it alike, and
what a stream fails to teach must not make its final AUC better.

NaN is "undefined". A label is left out of a mean where an entry that its own term needs is NaN; a mean over
nothing is NaN, without a warning.

Toolboxes use these names for other formulas (forgetting as first minus last, forward transfer against random
initialisation). These are the formulas of this benchmark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats


def first_learnt(positive: ArrayLike, negative: ArrayLike) -> NDArray[np.int64]:
    """The first experience, 1 to T, by the end of which each label can have been learnt; 0 if it never can.

    What earlier experiences have shown counts: a label of which the first shows absence only and the second
    presence only is first learnt in the second.

    Args:
        positive: ``(T, C)``: whether an experience shows a positive training image of a label that it observes.
        negative: ``(T, C)``: the same of negative ones.

    Returns:
        ``(C,)``.
    """
    shown = [np.logical_or.accumulate(np.asarray(one, dtype=bool), axis=0) for one in (positive, negative)]
    both = shown[0] & shown[1]
    return np.where(both.any(axis=0), both.argmax(axis=0) + 1, 0).astype(np.int64)


def final_auc(matrix: ArrayLike) -> Floats:
    """Mean over labels of the last row: ``mean_c R[T, c]``."""
    return nan_mean(_matrix(matrix)[..., -1, :])


def zero_shot(matrix: ArrayLike) -> Floats:
    """Mean over labels of the first row: ``mean_c R[0, c]``."""
    return nan_mean(_matrix(matrix)[..., 0, :])


def gain(matrix: ArrayLike) -> Floats:
    """Mean over labels of ``R[T, c] - R[0, c]``: what the whole stream was worth against zero-shot."""
    r = _matrix(matrix)
    return nan_mean(r[..., -1, :] - r[..., 0, :])


def learning(matrix: ArrayLike, first: ArrayLike) -> Floats:
    """Mean over ``first(c) >= 1`` of ``R[first(c), c] - R[first(c)-1, c]``: what a label's own experience was worth."""
    r, start = check_first(matrix, first)
    before = _rows(r, np.maximum(start - 1, 0))
    return nan_mean(np.where(start >= 1, _rows(r, start) - before, np.nan))


def average_auc(matrix: ArrayLike, first: ArrayLike) -> Floats:
    """Mean over ``i >= 1`` of the mean over the labels seen by then, ``1 <= first(c) <= i``, of R[i, c]."""
    r, start = check_first(matrix, first)
    moment = np.arange(1, r.shape[-2])[:, None]
    seen = (start >= 1) & (start <= moment)
    return nan_mean(nan_mean(np.where(seen, r[..., 1:, :], np.nan)))


def forgetting(matrix: ArrayLike, first: ArrayLike) -> Floats:
    """Mean over the labels with ``first(c) < T`` of `forgetting_per_label` (Chaudhry et al., 2018)."""
    return nan_mean(forgetting_per_label(matrix, first))


def forgetting_per_label(matrix: ArrayLike, first: ArrayLike) -> Floats:
    """What each label lost since its best: ``max over first(c) <= i < T of R[i, c], minus R[T, c]``.

    Negative where a label ended better than it ever was before (Chaudhry et al., "Riemannian walk for
    incremental learning", 2018).

    Returns:
        ``(..., C)``; NaN for a label never learnt or first learnt in the last experience.
    """
    r, start = check_first(matrix, first)
    last = r.shape[-2] - 1
    counted = (start >= 1) & (start < last)
    since = counted & (np.arange(last)[:, None] >= start)
    best = np.where(since, r[..., :-1, :], -np.inf).max(axis=-2)
    # The inner `where` keeps infinities out of the subtraction.
    return np.where(counted, np.where(counted, best, 0.0) - r[..., -1, :], np.nan)


def backward_transfer(matrix: ArrayLike, first: ArrayLike) -> Floats:
    """Mean over ``1 <= first(c) < T`` of ``R[T, c] - R[first(c), c]`` (Lopez-Paz and Ranzato, 2017)."""
    r, start = check_first(matrix, first)
    counted = (start >= 1) & (start < r.shape[-2] - 1)
    return nan_mean(np.where(counted, r[..., -1, :] - _rows(r, start), np.nan))


def forward_transfer(matrix: ArrayLike, first: ArrayLike) -> Floats:
    """Mean over ``first(c) > 1`` of ``R[first(c)-1, c] - R[0, c]``, against zero-shot.

    Lopez-Paz and Ranzato (2017) subtract a random initialisation; a vision-language model starts from its own
    zero-shot score.
    """
    r, start = check_first(matrix, first)
    before = _rows(r, np.maximum(start - 1, 0))
    return nan_mean(np.where(start > 1, before - r[..., 0, :], np.nan))


def nan_mean(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]
    return mean


def _matrix(matrix: ArrayLike) -> Floats:
    r = np.asarray(matrix, dtype=np.float64)
    if r.ndim < 2 or r.shape[-2] < 2:
        raise ValueError(f"matrix {r.shape} must be (..., T+1, C) with T at least 1")
    return r


def check_first(matrix: ArrayLike, first: ArrayLike) -> tuple[Floats, NDArray[np.signedinteger[Any]]]:
    """The matrix and the first experiences, after checking that they fit each other."""
    r = _matrix(matrix)
    start = np.asarray(first)
    if start.shape != r.shape[-1:] or not np.issubdtype(start.dtype, np.integer):
        raise ValueError(f"first must hold {r.shape[-1]} integers, not {start.dtype} {start.shape}")
    last = r.shape[-2] - 1
    if ((start < 0) | (start > last)).any():
        raise ValueError(f"first must lie within 0 (never learnt) to {last}, the number of experiences")
    return r, start.astype(np.intp)


def _rows(r: Floats, at: NDArray[np.signedinteger[Any]]) -> Floats:
    """``r[..., at[c], c]`` for each column c."""
    return r[..., at, np.arange(r.shape[-1])]


def over_time(refit: Floats, kept: Floats) -> dict[str, Floats]:
    """The four metrics of a transfer.

    Args:
        refit: ``(..., T+1, K)`` of the headline number, by a decoder that is fitted anew at every moment.
        kept: ``(..., T+1, K)`` of the decoder that was fitted first; NaN before it was.

    Returns:
        By key, each ``(...)``: means over the findings that are defined.
    """
    last = refit[..., -1, :]
    start = (~np.isnan(kept)).argmax(axis=-2, keepdims=True)
    began = np.take_along_axis(kept, start, axis=-2).squeeze(-2)
    return {
        "dense_final": nan_mean(last),
        "dense_transfer": nan_mean(last - refit[..., 0, :]),
        "dense_forgetting": nan_mean(np.fmax.reduce(refit[..., :-1, :], axis=-2) - last),
        "head_drift": nan_mean(began - kept[..., -1, :]),
    }
