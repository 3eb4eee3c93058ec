"""Means over seeds of what results hold, and the intervals of such means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retune.metrics.continual import check_first, nan_mean
from retune.metrics.seeds import mean_and_sd
from retune.results.result import Interval, Result

if TYPE_CHECKING:
    from retune.report.groups import Method

Floats = NDArray[np.float64]
Spans = Mapping[str, tuple[float, float]]
"""Both ends of an interval, by metric."""


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


def over_seeds(values: Sequence[Interval]) -> Cell:
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


@dataclass(frozen=True)
class Entry:
    """One method on one stream.

    Args:
        method: Which.
        runs: One for every seed.
        spans: The intervals of the means over seeds, where they are known.
    """

    method: Method
    runs: tuple[Result, ...]
    spans: Spans | None = None

    @property
    def averaged(self) -> bool:
        """Whether intervals are no more than the seeds' own, their ends averaged."""
        return self.spans is None and len(self.runs) > 1

    def metric(self, name: str) -> Cell:
        """A metric over seeds."""
        cell = over_seeds([run.metrics[name] for run in self.runs])
        if self.spans is None:
            return cell
        low, high = self.spans[name]
        return replace(cell, low=low, high=high)

    def curve(self) -> tuple[Floats, Floats]:
        """Mean AUC over the labels seen so far, and its standard deviation over seeds: (T,) each."""
        return mean_and_sd(np.stack([mean_seen(run) for run in self.runs]))

    @property
    def one_order(self) -> bool:
        """Whether labels come in the same order for every seed."""
        return all(run.first == self.runs[0].first for run in self.runs)

    @property
    def shown(self) -> tuple[Result, ...]:
        """Runs whose matrices may be averaged: all, or the first seed's where the label order differs."""
        return self.runs if self.one_order else self.runs[:1]

    def matrix(self, which: str = "auc_matrix") -> Floats:
        """Mean over seeds of a matrix: (T+1, C)."""
        stack = np.array([getattr(run, which) for run in self.shown], dtype=np.float64)
        return mean_and_sd(stack)[0]

    def forgetting(self) -> tuple[Floats, Floats]:
        """What each label lost since its best, and the standard deviation over seeds: (C,) each."""
        return mean_and_sd(np.array([run.forgetting for run in self.runs], dtype=np.float64))

    def cost(self, name: str) -> float:
        """Mean over seeds of a cost."""
        return float(np.mean([getattr(run.cost, name) for run in self.runs]))
