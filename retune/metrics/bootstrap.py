"""Intervals from a bootstrap over patients, fast enough to run on every result.

A replicate draws patients with replacement and takes every image of each. It is kept as a count per image
(how often its patient was drawn), so a metric of the replicate is that metric weighted by the counts: the
rows are sorted once per label, not once per replicate, and a replicate costs one gather and one running sum.
Four replicates share each 64-bit word of that sum. Counts are summed as integers, hence exactly, and
no result depends on the number of threads.

A replicate in which a label lacks one of the two classes is NaN for that label.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats, check_scores, check_targets
from retune.system import cores

Counts = NDArray[np.unsignedinteger[Any]]

_BLOCK_BYTES = 1 << 20  # of running sums at a time in each thread: smaller ones spend their time on locks
_LONG = 8192  # rows from which a NumPy call each is worth its cost


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
    n = len(number)
    stream = np.random.PCG64(seed)
    counts = np.empty((replicates, n), dtype=np.uint32)
    for row in counts:
        # The top 32 bits scaled to [0, n): Lemire's multiply-and-shift, biased by less than n / 2**32.
        drawn = ((stream.random_raw(n) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)
        row[:] = np.bincount(drawn.astype(np.intp), minlength=n)
    return counts.astype(np.min_scalar_type(counts.max()))[:, codes]


def bootstrap_auroc(
    targets: ArrayLike, scores: ArrayLike, weights: NDArray[Any], threads: int | None = None
) -> Floats:
    """AUROC of each replicate; ties count one half.

    Args:
        targets: ``(N, C)`` of 1, 0 and NaN (unknown: the row is ignored for that label).
        scores: ``(N, C)``, or ``(K, N, C)`` for K moments scored on the same images.
        weights: ``(B, N)`` counts, from `patient_weights`.
        threads: How many to use; by default one per core. The result does not depend on it.

    Returns:
        ``(B, C)`` or ``(B, K, C)``.
    """
    return bootstrap_ranking(targets, scores, weights, threads, precision=False)[0]


def bootstrap_ranking(
    targets: ArrayLike,
    scores: ArrayLike,
    weights: NDArray[Any],
    threads: int | None = None,
    *,
    precision: bool = True,
) -> tuple[Floats, Floats]:
    """AUROC and average precision of each replicate from the same running sums.

    Args:
        targets: ``(N, C)``.
        scores: ``(N, C)`` or ``(K, N, C)``.
        weights: ``(B, N)`` counts.
        threads: How many to use; by default one per core.
        precision: Whether to work out average precision; if not, it is NaN.

    Returns:
        Two arrays ``(B, C)`` or ``(B, K, C)``.
    """
    y, s = check_targets(targets), check_scores(scores)
    if y.ndim != 2 or s.ndim not in (2, 3) or s.shape[-2:] != y.shape:
        raise ValueError(f"targets {y.shape} must be (N, C) and scores {s.shape} (N, C) or (K, N, C)")
    w, lane = check_counts(weights, len(y))
    moments = s if s.ndim == 3 else s[None]
    threads = max(1, threads or _threads())
    auc = np.full((len(w), len(moments), y.shape[1]), np.nan)
    ap = np.full_like(auc, np.nan)

    with ThreadPoolExecutor(threads) as pool:
        cells = [(k, c) for k in range(len(moments)) for c in range(y.shape[1])]
        rankings = list(pool.map(lambda kc: _Ranking.of(y[:, kc[1]], moments[kc[0], :, kc[1]]), cells))

        def run(block: slice) -> None:
            packed = _pack(w[block], lane)
            size = block.stop - block.start
            for (k, c), ranking in zip(cells, rankings, strict=True):
                if ranking is not None:
                    a, p = ranking.measure(packed, lane, precision)
                    auc[block, k, c], ap[block, k, c] = a[:size], p[:size]

        for _ in pool.map(run, _blocks(len(w), len(y), lane)):
            pass
    return (auc, ap) if s.ndim == 3 else (auc[:, 0], ap[:, 0])


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


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One label at one moment, sorted by score; groups of tied scores without a positive need no place."""

    order: NDArray[np.intp]  # (n+1,) rows by rising score, after one row of weight zero
    start: NDArray[np.intp]  # (G,) how many rows score lower than each group of ties that holds a positive
    end: NDArray[np.intp]  # (G,) the same and the group itself
    positive: NDArray[np.intp]  # (P,) rows of the positives by rising score
    group: NDArray[np.intp] | None  # (G,) where each group begins among the positives; None if all are single

    @classmethod
    def of(cls, y: Floats, s: Floats) -> _Ranking | None:
        rows = np.flatnonzero(~np.isnan(y))
        rows = rows[np.argsort(s[rows], kind="stable")]
        y, s = y[rows], s[rows]
        place = np.flatnonzero(y == 1)
        if len(place) in (0, len(y)):
            return None
        edges = np.concatenate([[0], np.flatnonzero(s[1:] != s[:-1]) + 1, [len(s)]])
        tie, group = np.unique(np.searchsorted(edges, place, side="right") - 1, return_index=True)
        order = np.append(-1, rows)  # the last column of the packed weights is zero
        singles = len(tie) == len(place)
        return cls(order, edges[tie], edges[tie + 1], rows[place], None if singles else group)

    def measure(
        self, packed: NDArray[np.uint64], lane: type[np.unsignedinteger[Any]], precision: bool
    ) -> tuple[Floats, Floats]:
        """AUROC and average precision of each replicate packed in ``(m, N+1)`` words."""
        sums = packed.take(self.order, axis=1)
        # NumPy holds the interpreter lock during a running sum over several rows, not over one.
        for part in sums if len(self.order) > _LONG else [sums]:
            np.cumsum(part, axis=-1, out=part)
        lower = _unpack(sums.take(self.start, axis=1), lane)  # (m * lanes, G) images scoring lower
        upper = _unpack(sums.take(self.end, axis=1), lane)  # and the group itself
        total = _unpack(sums[:, -1:], lane)[:, 0]
        drawn = packed.take(self.positive, axis=1)
        if self.group is not None:
            drawn = np.add.reduceat(drawn, self.group, axis=1)
        hits = _unpack(drawn, lane)  # positives in the group
        positives = hits.sum(axis=1)
        pairs = positives * (total - positives)
        both = pairs > 0
        # Twice the pairs won, ties as half: positives x negatives lower and upper. Summed over groups, the
        # positives among lower and upper telescope to positives squared.
        won = np.einsum("bg,bg->b", hits, lower + upper) - positives**2
        auc = np.where(both, won / np.maximum(2 * pairs, 1), np.nan)
        if not precision:
            return auc, np.full_like(auc, np.nan)
        above = total[:, None] - lower  # images called positive at this threshold
        true = positives[:, None] - np.cumsum(hits, axis=1) + hits
        gain = hits * true / np.maximum(above, 1)
        return auc, np.where(both, gain.sum(axis=1) / np.maximum(positives, 1), np.nan)


def _pack(weights: NDArray[Any], lane: type[np.unsignedinteger[Any]]) -> NDArray[np.uint64]:
    """``(b, N)`` counts as ``(m, N+1)`` words that hold several replicates each; the last column is zero."""
    lanes = 8 // np.dtype(lane).itemsize
    words = -(-len(weights) // lanes)
    packed = np.zeros((words, weights.shape[1] + 1, lanes), dtype=lane)
    for i in range(lanes):
        part = weights[i * words : (i + 1) * words]
        packed[: len(part), :-1, i] = part
    return packed.view(np.uint64)[..., 0]


def _unpack(words: NDArray[np.uint64], lane: type[np.unsignedinteger[Any]]) -> Floats:
    """``(m, G)`` words as ``(m * lanes, G)`` numbers, in the order that `_pack` was given."""
    lanes = 8 // np.dtype(lane).itemsize
    parts = words.view(lane).reshape(*words.shape, lanes).transpose(2, 0, 1)
    return parts.astype(np.float64, order="C").reshape(-1, words.shape[1])


def _blocks(replicates: int, rows: int, lane: type[np.unsignedinteger[Any]]) -> Iterator[slice]:
    """Slices of replicates; their size depends on nothing that changes from machine to machine."""
    size = 8 // np.dtype(lane).itemsize * max(1, _BLOCK_BYTES // (8 * (rows + 1)))
    return (slice(i, min(i + size, replicates)) for i in range(0, replicates, size))


def _threads() -> int:
    """As many as this process was told to use, else may use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    return cores()
