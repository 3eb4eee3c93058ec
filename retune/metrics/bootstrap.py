"""Intervals from a bootstrap over patients, fast enough to run on every result.

A replicate draws patients with replacement and takes every image of each. It is kept as a count per image
(how often its patient was drawn), so a metric of the replicate is that metric weighted by the counts: the
rows are sorted once per label, not once per replicate. What a replicate has of each step of a label's ROC curve, its
positives and negatives with scores between two thresholds, is a sum of counts; all such sums of many labels and
replicates are one product with a sparse matrix of ones. Counts are summed as integers, hence exactly.

A replicate in which a label lacks one of the two classes is NaN for that label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats, check_scores, check_targets

Counts = NDArray[np.unsignedinteger[Any]]

_CELLS = 1 << 21  # scores sorted at a time
_BLOCK = 1 << 24  # steps of curves, of all replicates, walked at a time
_WIDE = 128  # replicates whose sums are taken at a time: their counts stay in the cache


def patient_weights(patients: ArrayLike, replicates: int, seed: int) -> Counts:
    """How often each image is drawn in each replicate of a bootstrap over patients.

    Patients are numbered in order of first appearance, so their spelling does not matter. The draws come from
    the raw stream of PCG64, which NumPy keeps fixed across versions; the first replicates do not depend on
    how many follow.

    Args:
        patients: ``(N,)`` identifiers of any hashable kind.
        replicates: B.
        seed: Seed of the draws.

    Returns:
        ``(B, N)`` counts in the narrowest unsigned type that holds them.
    """
    ids = patients.tolist() if isinstance(patients, np.ndarray) else list(patients)  # type: ignore[arg-type]
    if any(i is None or i != i for i in ids):
        raise ValueError("patients: a missing identifier cannot be resampled")
    number: dict[Any, int] = {}
    codes = np.array([number.setdefault(i, len(number)) for i in ids], dtype=np.intp)
    if replicates < 1 or not ids:
        raise ValueError("a bootstrap needs at least one replicate and one patient")
    # Images along rows: what is done with the counts goes image by image.
    return _drawn(len(number), replicates, seed)[codes].T


@lru_cache(maxsize=1)
def _drawn(n: int, replicates: int, seed: int) -> Counts:
    """How often each patient is drawn, ``(n, B)``; the same for all runs with as many patients."""
    stream = np.random.PCG64(seed)
    counts = np.empty((replicates, n), dtype=np.uint32)
    for row in counts:
        # The top 32 bits scaled to [0, n): Lemire's multiply-and-shift, biased by less than n / 2**32.
        drawn = ((stream.random_raw(n) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)
        row[:] = np.bincount(drawn.astype(np.intp), minlength=n)
    return np.ascontiguousarray(counts.astype(np.min_scalar_type(counts.max())).T)


def bootstrap_auroc(targets: ArrayLike, scores: ArrayLike, weights: NDArray[Any]) -> Floats:
    """AUROC of each replicate; ties count one half.

    Args:
        targets: ``(N, C)`` of 1, 0 and NaN (unknown: the row is ignored for that label).
        scores: ``(N, C)``, or ``(K, N, C)`` for K moments scored on the same images.
        weights: ``(B, N)`` counts, from `patient_weights`.

    Returns:
        ``(B, C)`` or ``(B, K, C)``.
    """
    return bootstrap_ranking(targets, scores, weights, precision=False)[0]


def bootstrap_ranking(
    targets: ArrayLike, scores: ArrayLike, weights: NDArray[Any], *, precision: bool = True
) -> tuple[Floats, Floats]:
    """AUROC and average precision of each replicate from the same sums.

    Args:
        targets: ``(N, C)``.
        scores: ``(N, C)`` or ``(K, N, C)``.
        weights: ``(B, N)`` counts.
        precision: Whether to work out average precision; if not, it is NaN.

    Returns:
        Two arrays ``(B, C)`` or ``(B, K, C)``.
    """
    y, s, shape = side_by_side(targets, scores)
    w, lane = check_counts(weights, len(y))
    auc, ap = np.empty((2, len(w), s.shape[1]))
    few = max(1, _CELLS // max(1, len(y)))
    for c in range(0, s.shape[1], few):
        curves = _Curves.of(y[:, c : c + few], s[:, c : c + few])
        some = max(1, _BLOCK // (_WIDE * curves.ends[-1])) * _WIDE
        for b in range(0, len(w), some):
            part = w[b : b + some]
            counts = [np.ascontiguousarray(part[block].T, dtype=lane) for block in blocks(len(part))]
            auc[b : b + some, c : c + few], ap[b : b + some, c : c + few] = curves.measure(counts, precision)
    return auc.reshape(len(w), *shape), ap.reshape(len(w), *shape)


def side_by_side(targets: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Checked targets and scores, ``(N, C)`` or of K moments ``(K, N, C)``, as two (N, F); and (C,) or (K, C)."""
    y, s = check_targets(targets), check_scores(scores)
    if y.ndim != 2 or s.ndim not in (2, 3) or s.shape[-2:] != y.shape:
        raise ValueError(f"targets {y.shape} must be (N, C) and scores {s.shape} (N, C) or (K, N, C)")
    if s.ndim == 2:
        return y, s, s.shape[1:]
    return np.tile(y, len(s)), s.transpose(1, 0, 2).reshape(len(y), -1), (len(s), y.shape[1])


def blocks(replicates: int) -> Iterator[slice]:
    """Replicates whose sums are taken at a time."""
    return (slice(i, min(i + _WIDE, replicates)) for i in range(0, replicates, _WIDE))


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis, ignoring the replicates that are NaN.

    Args:
        samples: ``(B, ...)``.
        level: Coverage, between 0 and 1.

    Returns:
        Two arrays ``(...)``; NaN where every replicate is.
    """
    x = np.sort(np.asarray(samples, dtype=np.float64), axis=0)  # NaN sorts last
    if x.ndim == 0 or not len(x) or not 0 < level < 1:
        raise ValueError("an interval needs at least one sample and a level between 0 and 1")
    last = (~np.isnan(x)).sum(axis=0) - 1

    def at(share: float) -> Floats:
        position = share * np.maximum(last, 0)
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(last, 0))
        low, high = (np.take_along_axis(x, i[None], axis=0)[0] for i in (below, above))
        value: Floats = (low + (position - below) * (high - low))[()]
        return value

    return at((1 - level) / 2), at((1 + level) / 2)


def check_counts(weights: NDArray[Any], rows: int) -> tuple[NDArray[Any], type[np.unsignedinteger[Any]]]:
    """The counts, and the narrowest type that holds the sum of a replicate."""
    w = np.asarray(weights)
    if w.ndim != 2 or w.shape[1] != rows or not np.issubdtype(w.dtype, np.integer):
        raise ValueError(f"weights must be integer counts (B, {rows}), not {w.dtype} {w.shape}")
    if w.size and w.min() < 0:
        raise ValueError("weights: a count cannot be negative")
    total = int(w.sum(axis=1, dtype=np.uint64).max(initial=0))
    if total >= 1 << 32:
        raise ValueError("weights: a replicate of 2**32 images or more is not supported")
    return w, np.uint16 if total < 1 << 16 else np.uint32


@dataclass(frozen=True)
class _Curves:
    """The ROC curves of some labels, walked side by side from the highest score to the lowest.

    A step of a curve is a score that a positive has, with the negatives since the step before; the last holds the
    negatives below all positives. Rows of the matrices are steps: the first of every curve, the second of every
    curve that has one, and so on.
    """

    positives: Any  # sparse (steps, N): 1 where an image is positive and stands in the step
    negatives: Any  # the same of negatives, those tied with the step's positives among them
    tied: Any  # sparse (ties, N): the latter alone
    tied_step: NDArray[np.intp]  # (ties,) where
    tied_curve: Any  # sparse (K, ties): 1 where such a step is of a curve
    ends: list[int]  # where the rows of each step end
    curves: NDArray[np.intp]  # (K,) which label each curve is of: the longest curve first

    @classmethod
    def of(cls, y: Floats, s: Floats) -> _Curves:
        """Of targets and scores ``(N, K)``."""
        from scipy.sparse import csr_array

        n, k = y.shape
        s = np.where(np.isnan(y), -np.inf, s).T
        order = np.argsort(-s, axis=1)
        s, y = np.take_along_axis(s, order, axis=1), np.take_along_axis(y.T, order, axis=1)
        positive, negative = (y == 1).ravel(), (y == 0).ravel()
        image, curve = order.ravel(), np.repeat(np.arange(k), n)
        begins = np.ones((k, n), dtype=bool)
        begins[:, 1:] = s[:, 1:] != s[:, :-1]
        tie = np.cumsum(begins.ravel()) - 1
        steps = np.logical_or.reduceat(positive, np.flatnonzero(begins))  # which scores a positive has
        before = np.cumsum(steps) - steps
        step = before[tie] + curve  # every curve has its last step beside these

        sizes = np.bincount(curve[begins.ravel()], weights=steps, minlength=k).astype(np.intp) + 1
        longest = np.argsort(-sizes, kind="stable")
        rank = np.empty(k, dtype=np.intp)
        rank[longest] = np.arange(k)
        of = np.repeat(np.arange(k), sizes)
        nth = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        walk = np.lexsort((rank[of], nth))

        def matrix(chosen: NDArray[np.bool_]) -> Any:
            start = np.concatenate([[0], np.cumsum(np.bincount(step[chosen], minlength=len(of)))])
            ones = np.ones(int(chosen.sum()), dtype=np.uint8)
            return csr_array((ones, image[chosen], start), shape=(len(of), n))[walk]

        tied = matrix(negative & steps[tie])
        at = np.flatnonzero(np.diff(tied.indptr))
        of_curve = csr_array((np.ones(len(at)), (rank[of[walk[at]]], np.arange(len(at)))), shape=(k, len(at)))
        ends = np.cumsum(np.bincount(nth)).tolist()
        return cls(matrix(positive), matrix(negative), tied[at], at, of_curve, ends, longest)

    def measure(self, counts: list[Counts], precision: bool) -> tuple[Floats, Floats]:
        """AUROC and average precision ``(b, K)`` of replicates whose counts are ``(N, ...)``, some in each array."""
        lane = counts[0].dtype

        def sums(matrix: Any) -> Counts:
            matrix, at = matrix.astype(lane), 0
            found = np.empty((matrix.shape[0], sum(some.shape[1] for some in counts)), dtype=lane)
            for some in counts:
                found[:, at : at + some.shape[1]] = matrix @ some
                at += some.shape[1]
            return found

        hits, falls, tied = sums(self.positives), sums(self.negatives), sums(self.tied)
        shape = (len(self.curves), hits.shape[1])
        true, false = np.zeros((2, *shape), dtype=lane)
        # Exact for as many images as the counts' type can hold.
        lost = np.zeros(shape, dtype=np.uint32 if lane == np.uint16 else np.float64)
        gain = np.zeros(shape)
        start = 0
        for end in self.ends:
            k, hit = end - start, hits[start:end]
            false[:k] += falls[start:end]
            lost[:k] += np.multiply(hit, false[:k], dtype=lost.dtype)
            true[:k] += hit
            if precision:
                called = np.maximum((true[:k] + false[:k]).astype(np.float64), 1)
                gain[:k] += np.multiply(hit, true[:k], dtype=lost.dtype) / called
            start = end
        positives = true.astype(np.float64)
        pairs = positives * false
        # Twice the pairs won, ties as half: all but those lost.
        won = 2 * (pairs - lost) + self.tied_curve @ (hits[self.tied_step].astype(np.float64) * tied)
        auc, ap = np.full((2, hits.shape[1], len(self.curves)), np.nan)
        both = pairs > 0
        auc[:, self.curves] = np.where(both, won / np.maximum(2 * pairs, 1), np.nan).T
        if precision:
            ap[:, self.curves] = np.where(both, gain / np.maximum(positives, 1), np.nan).T
        return auc, ap


def detectable(samples: ArrayLike, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a test set of this size shows with ``power``: the minimum detectable effect.

    It is ``(z[1 - alpha/2] + z[power]) * SE``, by default 2.80 standard errors, where SE is the deviation of the
    difference over resamples of the test patients (Bloom, "Minimum detectable effects", Evaluation Review 19, 1995).

    Args:
        samples: ``(B,)`` the paired difference on every resample; NaN are left out.
        alpha: Level of the two-sided test.
        power: How often the difference is to be found.

    Returns:
        NaN for fewer than two resamples.
    """
    x = np.asarray(samples, dtype=np.float64)
    x = x[~np.isnan(x)]
    normal = NormalDist()
    errors = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    return float(errors * x.std(ddof=1)) if len(x) > 1 else float("nan")
