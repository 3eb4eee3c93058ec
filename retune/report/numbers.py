"""Means over seeds of what results hold, and the intervals of such means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retune.metrics.continual import check_first, nan_mean
from retune.metrics.seeds import mean_and_sd
from retune.results.result import MetricRecord, Result

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A number over seeds.

    Args:
        mean: Over the seeds that define it; NaN where none does.
        sd: Sample standard deviation; NaN below two seeds.
        n: Seeds that define it.
        low: Lower end of the patient-bootstrap interval.
        high: Upper end.
    """

    mean: float
    sd: float
    n: int
    low: float
    high: float


def over_seeds(values: Sequence[MetricRecord]) -> Cell:
    """Mean and spread of one metric; its interval is that of one run, of several the ends are averaged."""
    rows = np.array([[v.value, v.low, v.high] for v in values], dtype=np.float64)
    mean, sd = mean_and_sd(rows)
    return Cell(
        float(mean[0]), float(sd[0]), int(np.isfinite(rows[:, 0]).sum()), float(mean[1]), float(mean[2])
    )


def mean_seen(result: Result) -> Floats:
    """Mean AUC over the labels seen so far, after each experience: (T,); its mean is the average AUC."""
    matrix, first = check_first(result.array("auc_matrix"), np.array(result.first, dtype=np.int64))
    moment = np.arange(1, len(matrix))[:, None]
    return np.asarray(nan_mean(np.where((first >= 1) & (first <= moment), matrix[1:], np.nan)))
