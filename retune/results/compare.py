"""How far apart methods are on one stream, measured on the same test patients.

The test patients are resampled once for all runs of a stream. Two methods are then compared resample by resample,
so what makes a resample easy or hard for both cancels out, and the interval of a difference is mostly narrower
than those of the two methods suggest. Each run is resampled once, whatever it is compared with: the cost grows
with the number of runs, not of pairs.

An interval holds the runs as they are and resamples patients; it says nothing of other seeds. The standard
deviation over seeds does that, so the two always stand together with the number of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics import bootstrap_auroc, detectable, distinct, interval, mean_and_sd
from retune.metrics.binary import Floats
from retune.metrics.facts import LabelFacts
from retune.metrics.table import COMPARED, DECIDES, DENSE, ZERO_SHOT, Metric
from retune.results.result import Number, Record
from retune.results.verdict import CHANCE


class Estimate(Record):
    """A value over seeds and patients; null where undefined.

    Attributes:
        mean: Mean over seeds.
        sd: Standard deviation over seeds; null for fewer than two.
        n: How many seeds it is defined for.
        low: Lower end of the patient-bootstrap interval of the mean over seeds.
        high: Upper end.
    """

    mean: Number
    sd: Number
    n: int
    low: Number
    high: Number

    @classmethod
    def of(
        cls, values: Sequence[float | None], low: float | None = None, high: float | None = None
    ) -> Estimate:
        """Mean and deviation of what is defined, a value a seed; an interval is worked out elsewhere."""
        given = np.array(values, dtype=np.float64)
        mean, sd = mean_and_sd(given)
        return cls(mean=float(mean), sd=float(sd), n=int(np.isfinite(given).sum()), low=low, high=high)


class Difference(Estimate):
    """A paired difference of two methods over seeds and patients; null where undefined.

    Attributes:
        detectable: The smallest difference that these test patients could show, with 80 % power at the two-sided
            5 % level: its minimum detectable effect (:func:`retune.metrics.detectable`). Null in older tables.
    """

    detectable: Number = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One run: each metric that methods are compared by, on the test set as it is, and on every resample of its patients.

    Args:
        values: Numbers; NaN where undefined.
        replicates: ``(B,)`` each.
    """

    values: Mapping[str, float]
    replicates: Mapping[str, Floats]

    @classmethod
    def of(
        cls,
        matrix: Floats,
        facts: LabelFacts,
        targets: ArrayLike,
        scores: NDArray[Any],
        weights: NDArray[Any],
    ) -> Sample:
        """Measure a run on the test set as it is and on every resample.

        Args:
            matrix: ``(T+1, C)`` AUROC on the test set as it is.
            facts: What the training images say of each label.
            targets: ``(N, C)``: 1, 0, or NaN where unknown.
            scores: ``(T+1, N, C)``.
            weights: ``(B, N)`` counts, from :func:`retune.metrics.patient_weights`.

        Raises:
            ValueError: If they do not fit each other.
        """
        columns, label, place = distinct(scores)
        resampled = bootstrap_auroc(np.asarray(targets)[:, label], columns, weights)
        resampled = resampled.take(place, axis=1)
        return cls.of_replicates(matrix, facts, {m.key: m.of(resampled, facts) for m in COMPARED})

    @classmethod
    def of_replicates(cls, matrix: Floats, facts: LabelFacts, replicates: Mapping[str, Floats]) -> Sample:
        """A run that was resampled before."""
        return cls({metric.key: float(metric.of(matrix, facts)) for metric in COMPARED}, replicates)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of one stream setting, resampled alike.

    Args:
        samples: By strategy and seed.
        level: Coverage of the intervals.
    """

    samples: Mapping[str, Mapping[int, Sample]]
    level: float = 0.95

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """By what the runs can be compared: by the same for all of them."""
        every = [set(sample.values) for seeds in self.samples.values() for sample in seeds.values()]
        shared = set.intersection(*every) if every else set()
        return tuple(metric for metric in (*COMPARED, *DENSE) if metric.key in shared)

    def estimate(self, strategy: str, metric: str) -> Estimate:
        """A metric of one method over all of its seeds."""
        runs = self.samples[strategy].values()
        return self._over_seeds([(run.values[metric], run.replicates[metric]) for run in runs])[0]

    def difference(self, strategy: str, other: str, metric: str) -> Difference:
        """A metric of one method minus that of another, over the seeds that both were run with."""
        mine, theirs = self.samples[strategy], self.samples[other]
        pairs = [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]
        found, replicates = self._over_seeds(
            [
                (a.values[metric] - b.values[metric], a.replicates[metric] - b.replicates[metric])
                for a, b in pairs
            ]
        )
        return Difference(**vars(found), detectable=detectable(replicates))

    def share(self, strategy: str, upper_bound: str) -> Estimate:
        """The share of the way from zero-shot to an upper bound that a method goes, over the seeds that both have.

        It is ``(final - zero-shot) / (upper bound - zero-shot)`` of the AUC, each a mean over seeds, and the same on
        every resample. Zero-shot is that of the upper bound's runs: a method may begin elsewhere, at chance for
        example, and would have gone a long way from there. The share is undefined where the interval of what stands
        below the line reaches 0: there is no way then, and next to no way makes any share. A resample on which there
        is none counts against both ends.
        """
        mine, theirs = self.samples[strategy], self.samples[upper_bound]
        pairs = [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]
        if any(bound.values[ZERO_SHOT.key] == CHANCE for _, bound in pairs):
            return Estimate.of([])  # it did not begin at zero-shot
        gone, whole = (
            [
                (
                    one.values[DECIDES.key] - bound.values[ZERO_SHOT.key],
                    one.replicates[DECIDES.key] - bound.replicates[ZERO_SHOT.key],
                )
                for one, bound in ends
            ]
            for ends in (pairs, [(bound, bound) for _, bound in pairs])
        )
        way, ways = self._over_seeds(whole)
        if way.n < len(pairs) or way.mean is None or way.low is None or way.low <= 0:
            return Estimate.of([])
        _, gains = self._over_seeds(gone)
        shares = gains / np.where(ways > 0, ways, np.nan)
        with np.errstate(invalid="ignore"):  # between a number and an infinite one there is no end
            low, _ = interval(np.where(ways <= 0, -np.inf, shares), self.level)
            _, high = interval(np.where(ways <= 0, np.inf, shares), self.level)
        return Estimate.of([value / way.mean for value, _ in gone], float(low), float(high))

    def _over_seeds(self, runs: Sequence[tuple[float, Floats]]) -> tuple[Estimate, Floats]:
        """Mean over seeds with its interval, and that mean on every resample; none where it is undefined."""
        known = [(value, replicates) for value, replicates in runs if not np.isnan(value)]
        if not known:
            return Estimate.of([]), np.array([])
        replicates: Floats = np.mean([replicates for _, replicates in known], axis=0)
        low, high = interval(replicates, self.level)
        return Estimate.of([value for value, _ in known], float(low), float(high)), replicates
