"""Which entries of a track are tied: their difference, resample by resample, may be nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retune.metrics import interval


def tie_groups(
    means: Sequence[float | None], replicates: Sequence[Sequence[float | None]], level: float = 0.95
) -> list[int | None]:
    """Put entries into groups that are statistically tied with their best one.

    The best entry heads group 1. Whatever is not clearly worse is in its group: the interval of the paired
    difference does not lie below 0. The best of the others heads group 2, and so on.

    Args:
        means: The published number of each entry; None where undefined.
        replicates: The same number on every resample of the test patients, resampled alike for all; none where
            nobody has recomputed it.
        level: Coverage of the interval.

    Returns:
        The group of each entry, from 1; None where it cannot be compared.
    """
    many = max(map(len, replicates), default=0)
    found: list[int | None] = [None] * len(means)
    known = [(mean, k) for k, mean in enumerate(means) if mean is not None and len(replicates[k]) == many > 0]
    rest = [k for _, k in sorted(known, key=lambda one: (-one[0], one[1]))]
    samples = np.array([replicates[k] for k in rest], dtype=np.float64)
    group = 0
    while rest:
        group += 1
        _, high = interval((samples - samples[0]).T, level)
        tied = np.atleast_1d(high) >= 0
        tied[0] = True
        for k in np.flatnonzero(tied):
            found[rest[k]] = group
        rest = [k for k, same in zip(rest, tied, strict=True) if not same]
        samples = samples[~tied]
    return found
