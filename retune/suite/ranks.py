"""Which methods are better over several streams: average ranks and their critical difference.

Follows Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006: methods are ranked
on every stream, Friedman's test asks whether the ranks differ at all, and Nemenyi's test how far apart two average
ranks must be. Methods closer than that are tied, and shown so.

A block of the test is a stream, by its mean over seeds, and never a seed: seeds of a stream share its patients, so
counting them as data sets of their own would make any difference significant with enough of them.

Demšar's approximations of Friedman's distribution ask for more than ten blocks. Its p value is taken here from
permutations of the ranks within each stream, which hold for any number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.results.result import Number, Record

Floats = NDArray[np.float64]

ALPHA: Final = 0.05
PERMUTATIONS: Final = 9999
FEW: Final = 10
"""Streams up to which Demšar calls a comparison by ranks weak."""


class RankedMethod(Record):
    """A method and its mean rank over streams; 1 is best."""

    strategy: str
    rank: float


class Ranks(Record):
    """Methods over several streams.

    Attributes:
        reason: Why there are no ranks; empty where there are.
        methods: Best first.
        left_out: Methods that lack a value on some stream, and so cannot be ranked.
        streams: Names of the blocks.
        friedman: Friedman's chi-squared statistic, corrected for ties.
        p: Its p value by permutation.
        critical_difference: How far apart average ranks must be at the 5 % level (Nemenyi).
        tied: Maximal groups of two or more methods that are not told apart.
        notes: What to bear in mind.
    """

    reason: str = ""
    methods: tuple[RankedMethod, ...] = ()
    left_out: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    friedman: Number = None
    p: Number = None
    critical_difference: Number = None
    tied: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def rank_methods(values: Mapping[str, Mapping[str, float]]) -> Ranks:
    """Rank methods over streams.

    Args:
        values: By stream, then by method: a mean over seeds, higher is better; NaN or absent where there is none.

    Returns:
        The ranks of the methods that have a value on every stream, or the reason why there are none.
    """
    streams = tuple(sorted(values))
    everyone = sorted({method for row in values.values() for method in row})
    complete = [m for m in everyone if all(np.isfinite(values[s].get(m, np.nan)) for s in streams)]
    left_out = tuple(m for m in everyone if m not in complete)
    if len(streams) < 2:
        return Ranks(reason=f"Ranks need at least two streams, and there is {len(streams) or 'none'}.")
    if len(complete) < 3:
        reason = (
            f"Ranks need at least three methods run on every stream, and there are {len(complete) or 'none'}."
        )
        return Ranks(reason=reason, left_out=left_out, streams=streams)
    ranks = ranks_within([[values[s][m] for m in complete] for s in streams])
    statistic, p = friedman(ranks)
    average = ranks.mean(axis=0)
    difference = critical_difference(len(complete), len(streams))
    notes = []
    if p > ALPHA:
        notes.append("Friedman's test finds no difference between any methods: all are tied.")
    if len(streams) <= FEW:
        notes.append(f"{len(streams)} streams are few: only large differences between ranks can show.")
    order = sorted(range(len(complete)), key=lambda j: (average[j], complete[j]))
    # Nemenyi's test is for ranks that differ at all.
    groups = tied_groups(average[order], difference) if p <= ALPHA else [range(len(order))]
    return Ranks(
        methods=tuple(RankedMethod(strategy=complete[j], rank=float(average[j])) for j in order),
        left_out=left_out,
        streams=streams,
        friedman=statistic,
        p=p,
        critical_difference=difference,
        tied=tuple(tuple(complete[order[i]] for i in group) for group in groups),
        notes=tuple(notes),
    )


def ranks_within(values: ArrayLike) -> Floats:
    """Ranks ``(N, k)`` of k methods on each of N streams, 1 for the highest; equal values share their mean rank."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(-np.asarray(values, dtype=np.float64), axis=1)
    return ranks


def friedman(ranks: Floats) -> tuple[float, float]:
    """Friedman's statistic, corrected for ties, and its p value by permutation within streams.

    Args:
        ranks: ``(N, k)``, from `ranks_within`.

    Returns:
        The statistic, which is distributed as chi-squared with k - 1 degrees of freedom if N is large, and the
        share of permutations, this one among them, that reach it.
    """
    k = ranks.shape[1]
    off = ranks - (k + 1) / 2
    spread = (off**2).sum()
    if spread == 0:  # every method ties on every stream
        return 0.0, 1.0
    rng = np.random.default_rng(0)
    sums = np.zeros((PERMUTATIONS, k))
    for row in off:
        sums += rng.permuted(np.tile(row, (PERMUTATIONS, 1)), axis=1)
    observed = (off.sum(axis=0) ** 2).sum()
    reached = ((sums**2).sum(axis=1) >= observed - 1e-9).sum()
    return float((k - 1) * observed / spread), float((1 + reached) / (1 + PERMUTATIONS))


def critical_difference(methods: int, streams: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of average ranks, ``q_alpha * sqrt(k (k + 1) / (6 N))``.

    Args:
        methods: k, at least 2.
        streams: N.
        alpha: Level of the test over all pairs.
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - alpha, methods, np.inf) / sqrt(2)
    return float(q * sqrt(methods * (methods + 1) / (6 * streams)))


def tied_groups(average: Sequence[float] | Floats, difference: float) -> list[range]:
    """Maximal runs of two or more methods whose average ranks lie within a critical difference.

    Args:
        average: Average ranks, ascending.
        difference: The critical difference; ranks exactly that far apart are told apart.

    Returns:
        Ranges of positions; they may overlap.
    """
    a = np.asarray(average)
    ends = np.searchsorted(a, a + difference - 1e-9, side="left")
    spans = [range(i, int(end)) for i, end in enumerate(ends) if end - i > 1]
    return [s for i, s in enumerate(spans) if i == 0 or s.stop > spans[i - 1].stop]
