"""Metrics of one binary label, or of many at once, with unknown labels left out.

Targets are 1 (present), 0 (absent) or NaN (unknown: the row is ignored for that label). Every function takes
one label, ``(N,)``, and returns a float, or many, ``(N, C)``, and returns ``(C,)``. A label that lacks one of
the two classes has no value: NaN, without a warning. Scores must be finite: a score that is NaN has no rank,
and one that is infinite is a fault upstream, so both raise ``ValueError`` naming the column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def auroc(targets: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | Floats:
    """Area under the ROC curve; tied scores count one half, as in scikit-learn.

    Args:
        targets: ``(N,)`` or ``(N, C)``.
        scores: The shape of ``targets``; higher means more likely present.
        weights: ``(N,)`` non-negative weight of each row.

    Returns:
        A float, or ``(C,)``.
    """
    return _per_label((_auroc,), targets, scores, weights)[0]


def average_precision(
    targets: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> float | Floats:
    """Average precision: precision at each threshold weighted by the gain in recall, without interpolation.

    Args:
        targets: ``(N,)`` or ``(N, C)``.
        scores: The shape of ``targets``; higher means more likely present.
        weights: ``(N,)`` non-negative weight of each row.

    Returns:
        A float, or ``(C,)``.
    """
    return _per_label((_average_precision,), targets, scores, weights)[0]


def ranking(targets: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """AUROC and average precision of many labels, ``(C,)`` each, for the price of one of them."""
    auc, ap = _per_label((_auroc, _average_precision), targets, scores)
    return np.asarray(auc), np.asarray(ap)


def f1(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike) -> float | Floats:
    """F1 of the prediction ``score >= threshold``.

    Args:
        targets: ``(N,)`` or ``(N, C)``.
        scores: The shape of ``targets``.
        threshold: One number, or ``(C,)``; where it is NaN (a label not learnt) the F1 is NaN.

    Returns:
        A float, or ``(C,)``.
    """
    y, s = check_pair(targets, scores)
    limits = np.broadcast_to(np.asarray(threshold, dtype=np.float64), y.shape[1:])
    present, known = y == 1, ~np.isnan(y)
    called = (s >= limits) & known
    hits = (called & present).sum(axis=0)
    value = 2.0 * hits / np.maximum(called.sum(axis=0) + present.sum(axis=0), 1)
    value = np.where(has_both_classes(y) & ~np.isnan(limits), value, np.nan)
    return value if y.ndim == 2 else float(value)


def best_f1_threshold(targets: ArrayLike, scores: ArrayLike) -> float | Floats:
    """The observed score that gives the highest F1 when used as ``score >= threshold``.

    Of several equally good ones the highest is taken, which calls the fewest images positive.

    Args:
        targets: ``(N,)`` or ``(N, C)``.
        scores: The shape of ``targets``.

    Returns:
        A float, or ``(C,)``; NaN for a label that lacks a class.
    """
    return _per_label((_best_f1_threshold,), targets, scores)[0]


def expected_calibration_error(
    targets: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> float | Floats:
    """Expected calibration error over equal bins of the probability of presence (Guo et al., 2017).

    The mean over images of ``|mean probability - share present|`` of the bin that the image falls in; bin
    ``m`` of ``M`` is ``((m-1)/M, m/M]`` and 0 falls in the first.

    Args:
        targets: ``(N,)`` or ``(N, C)``.
        probabilities: The shape of ``targets``, within [0, 1].
        bins: How many bins.

    Returns:
        A float, or ``(C,)``.
    """
    y, p = check_pair(targets, probabilities)
    cells = calibration_bins(p, bins)
    both = has_both_classes(y)

    def one(y: Floats, p: Floats, cell: NDArray[np.intp]) -> float:
        known = ~np.isnan(y)
        gap = np.bincount(cell[known], weights=p[known] - y[known], minlength=bins)
        return float(np.abs(gap).sum() / known.sum())

    if y.ndim == 1:
        return one(y, p, cells) if both else float("nan")
    columns = range(y.shape[1])
    return np.array([one(y[:, c], p[:, c], cells[:, c]) if both[c] else np.nan for c in columns])


def calibration_bins(probabilities: Floats, bins: int) -> NDArray[np.intp]:
    """The bin, 0 to ``bins - 1``, of each probability."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    outside = (probabilities < 0) | (probabilities > 1)
    if outside.any():
        raise ValueError(f"probabilities: {_column(outside)}has a value outside [0, 1]")
    inner = np.arange(1, bins) / bins
    return np.searchsorted(inner, probabilities, side="left")


def has_both_classes(targets: Floats) -> NDArray[np.bool_]:
    """Whether each label, along the first axis, has a known 1 and a known 0."""
    both: NDArray[np.bool_] = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    return both


def check_targets(targets: ArrayLike) -> Floats:
    """Targets as float64, after checking that they hold nothing but 1, 0 and NaN."""
    y = np.asarray(targets, dtype=np.float64)
    wrong = ~((y == 0) | (y == 1) | np.isnan(y))
    if wrong.any():
        raise ValueError(f"targets: {_column(wrong)}has a value other than 0, 1 and NaN")
    return y


def check_scores(scores: ArrayLike) -> Floats:
    """Scores as float64 (exact for every narrower float), after checking that all are finite."""
    s = np.asarray(scores, dtype=np.float64)
    wrong = ~np.isfinite(s)
    if wrong.any():
        raise ValueError(f"scores: {_column(wrong)}has a value that is NaN or infinite")
    return s


def check_pair(targets: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Checked targets and scores of one shape, ``(N,)`` or ``(N, C)``."""
    y, s = check_targets(targets), check_scores(scores)
    if y.shape != s.shape or y.ndim not in (1, 2):
        raise ValueError(f"targets {y.shape} and scores {s.shape} must both be (N,) or (N, C)")
    return y, s


def _column(wrong: NDArray[np.bool_]) -> str:
    """Names the last-axis column and the row of the first wrong value; a 1-D array has only a row."""
    at = np.argwhere(wrong)[0]
    row = f"row {at[-2] if wrong.ndim > 1 else at[0]} " if wrong.ndim else ""
    return f"column {at[-1]}, {row}" if wrong.ndim > 1 else row


def _per_label(
    metrics: Sequence[Callable[[Floats, Floats, Floats], float]],
    targets: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
) -> list[float] | list[Floats]:
    """Of each metric, a float or ``(C,)``; what they are functions of is worked out once for all."""
    y, s = check_pair(targets, scores)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != y.shape[:1]:
        raise ValueError(f"weights {w.shape} must be ({len(y)},)")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights must be finite and not negative")

    def one(y: Floats, s: Floats) -> list[float]:
        use = ~np.isnan(y) & (w > 0)  # a row of weight zero is no row, even for what counts as a threshold
        y, s = y[use], s[use]
        if not has_both_classes(y):
            return [float("nan")] * len(metrics)
        curve = _curve(y, s, w[use])
        return [metric(*curve) for metric in metrics]

    if y.ndim == 1:
        return one(y, s)
    columns = np.array([one(y[:, c], s[:, c]) for c in range(y.shape[1])], dtype=np.float64)
    return list(np.ascontiguousarray(columns.reshape(-1, len(metrics)).T))


def _curve(y: Floats, s: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """True and false positive weight at each distinct score as threshold, highest first, and the score."""
    order = np.argsort(-s, kind="stable")
    y, s, w = y[order], s[order], w[order]
    ends = np.append(np.flatnonzero(s[1:] != s[:-1]), len(s) - 1)
    return np.cumsum(w * y)[ends], np.cumsum(w * (1 - y))[ends], s[ends]


def _auroc(tp: Floats, fp: Floats, thresholds: Floats) -> float:
    tp, fp = tp / tp[-1], fp / fp[-1]
    before_tp, before_fp = np.append(0.0, tp[:-1]), np.append(0.0, fp[:-1])
    return float(((fp - before_fp) * (tp + before_tp)).sum() / 2)


def _average_precision(tp: Floats, fp: Floats, thresholds: Floats) -> float:
    gain = np.diff(tp, prepend=0.0) / tp[-1]
    return float((gain * (tp / (tp + fp))).sum())


def _best_f1_threshold(tp: Floats, fp: Floats, thresholds: Floats) -> float:
    return float(thresholds[np.argmax(2 * tp / (tp + fp + tp[-1]))])
