"""What a test set can show: p-values from resamples, several of them at once, and how many patients it would take."""

from __future__ import annotations

from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from retune.audit.evidence import Floats, Sampled

POWER: Final = 0.8
_NORMAL: Final = NormalDist()


def holm(p: ArrayLike) -> Floats:
    """P-values adjusted for their number, step-down (Holm, 1979); NaN are no comparison and stay.

    Args:
        p: ``(K,)``.
    """
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    found = np.full(values.shape, np.nan)
    found[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return found


def standard_error(sampled: Sampled) -> Floats:
    """Deviation over resamples; NaN where fewer than two are known."""
    x = sampled.replicates
    known = ~np.isnan(x)
    n = known.sum(axis=0)
    mean = np.where(known, x, 0).sum(axis=0) / np.maximum(n, 1)
    square = np.where(known, x - mean, 0) ** 2
    return np.where(n > 1, np.sqrt(square.sum(axis=0) / np.maximum(n - 1, 1)), np.nan)


def p_above(estimate: float, error: float, limit: float) -> float:
    """One-sided: how likely so high an estimate is where the truth is ``limit``, or lies below."""
    if not error > 0:
        return float("nan") if np.isnan(estimate + error) else (0.0 if estimate > limit else 1.0)
    return 1 - _NORMAL.cdf((estimate - limit) / error)


def two_sided(estimate: Floats, error: Floats) -> Floats:
    """P-values that the truth is 0."""
    from scipy.special import ndtr

    safe = np.where(error > 0, error, 1)
    same = np.where(estimate == 0, 1.0, 0.0)
    return np.where(
        np.isnan(estimate + error), np.nan, np.where(error > 0, 2 * ndtr(-np.abs(estimate) / safe), same)
    )


def quantile(share: float) -> float:
    """Of the normal distribution."""
    return _NORMAL.inv_cdf(share)


def patients_needed(patients: int, error: float, distance: float, confidence: float) -> int | None:
    """How many test patients would show, with 80 % power, on which side of a limit an estimate lies.

    Args:
        patients: How many there are.
        error: Standard error with these.
        distance: Of the estimate from the limit.
        confidence: One-sided.

    Returns:
        None where no number would do: the estimate is the limit.
    """
    if not abs(distance) > 0 or not error > 0:
        return None
    times = ((quantile(confidence) + quantile(POWER)) * error / distance) ** 2
    return int(np.ceil(patients * times))


def counts_needed(counted: int, patients: int, share: float, alpha: float) -> int | None:
    """How many test patients would decide it, were as large a share of them counted.

    Args:
        counted: Patients with it.
        patients: Of how many.
        share: That is allowed, from 0 to 1.
        alpha: Of the one-sided test.

    Returns:
        None where ten million would not.
    """
    from scipy.special import bdtr, bdtrc

    n = np.unique(np.geomspace(patients, 1e7, 2000).astype(np.int64))
    k = np.round(n * (counted / patients))
    decided = (bdtr(k, n, share) < alpha) | ((k > 0) & (bdtrc(k - 1, n, share) < alpha))
    return int(n[np.argmax(decided)]) if decided.any() else None
