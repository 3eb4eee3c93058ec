"""Which entries of a track are tied: other test patients, or other seeds, might put them in another order."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from retune.metrics import interval


def tie_groups(
    means: Sequence[float | None],
    replicates: Sequence[Sequence[float | None]],
    errors: Sequence[float] | None = None,
    level: float = 0.95,
) -> list[int | None]:
    """Put entries into groups that are statistically tied with their best one.

    The best entry heads group 1. Whatever is not clearly worse is in its group: the interval of the difference does
    not lie below 0. Its half towards 0 is made of that of the paired resamples of test patients and of the standard
    errors over seeds, as independent ones add up. The best of the others heads group 2, and so on.

    Args:
        means: The published number of each entry; None where undefined.
        replicates: The same number on every resample of the test patients, resampled alike for all; none where
            nobody has recomputed it.
        errors: Standard error over seeds of each; 0 for all where left out.
        level: Coverage of the interval.

    Returns:
        The group of each entry, from 1; None where it cannot be compared.
    """
    many = max(map(len, replicates), default=0)
    found: list[int | None] = [None] * len(means)
    known = [(mean, k) for k, mean in enumerate(means) if mean is not None and len(replicates[k]) == many > 0]
    rest = np.array([k for _, k in sorted(known, key=lambda one: (-one[0], one[1]))], dtype=np.intp)
    samples = np.array([replicates[k] for k in rest], dtype=np.float64)
    value = np.array([means[k] for k in rest], dtype=np.float64)
    error = np.array([errors[k] if errors else 0.0 for k in rest])
    wide = NormalDist().inv_cdf(0.5 + level / 2)
    group = 0
    while len(rest):
        group += 1
        _, high = interval((samples - samples[0]).T, level)
        difference = value - value[0]
        patients = np.maximum(np.atleast_1d(high) - difference, 0)
        seeds = wide * np.hypot(error, error[0])
        tied = difference + np.hypot(patients, seeds) >= 0
        tied[0] = True
        for k in rest[tied]:
            found[k] = group
        rest, samples, value, error = rest[~tied], samples[~tied], value[~tied], error[~tied]
    return found
