"""Every number of one run, from its targets and its scores at every moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from retune.metrics import continual
from retune.metrics.binary import (
    Floats,
    check_scores,
    check_targets,
    expected_calibration_error,
    f1,
    has_both_classes,
    ranking,
)
from retune.metrics.bootstrap import bootstrap_ranking, interval, patient_weights
from retune.metrics.bootstrap_sums import bootstrap_calibration, bootstrap_f1
from retune.metrics.distinct import distinct
from retune.metrics.facts import LabelFacts
from retune.metrics.table import COMPARED, METRICS, Basis, Metric


@dataclass(frozen=True)
class Measured:
    """A value of the whole test set and its bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ContinualReport:
    """What `continual_report` works out. Matrices are ``(T+1, C)``, NaN where undefined.

    Attributes:
        metrics: By key, each of :data:`retune.metrics.table.METRICS`; those of F1 are NaN without thresholds.
        auc_matrix: AUROC of each label at each moment.
        auc_low: Lower end of its interval.
        auc_high: Upper end.
        ap_matrix: Average precision.
        f1_matrix: F1 at the frozen thresholds; None without thresholds.
        ece: ``(C,)`` calibration error of each label after the last experience.
        undefined: Columns that lack a class in the test set and so are in no mean.
        replicates: By key, of each metric that methods are compared by: what it is on every resample, ``(B,)``.
    """

    metrics: dict[str, Measured]
    auc_matrix: Floats
    auc_low: Floats
    auc_high: Floats
    ap_matrix: Floats
    f1_matrix: Floats | None
    ece: Floats
    undefined: tuple[int, ...]
    replicates: dict[str, Floats]


def continual_report(
    targets: ArrayLike,
    scores: ArrayLike,
    first: ArrayLike,
    patients: ArrayLike,
    thresholds: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    prevalence: ArrayLike | None = None,
) -> ContinualReport:
    """Work out every metric of a run, with percentile intervals from a bootstrap over patients.

    Intervals hold the runs as they are and resample the test patients; they say nothing of other seeds. In a
    replicate that lacks a class of a rare label, that label is left out of the means. Forgetting subtracts
    from a maximum over moments, which noise raises, so its replicates lie somewhat above its value where
    moments are close.

    Args:
        targets: ``(N, C)`` of the test set: 1, 0, or NaN where unknown.
        scores: ``(T+1, N, C)`` logits before training and after each experience; higher means more likely
            present. Only the calibration error reads them as logits.
        first: ``(C,)`` the first experience, 1 to T, that can have taught each label; 0 if none can.
        patients: ``(N,)`` identifier of each image's patient.
        thresholds: ``(C,)`` a label's threshold on its score, frozen when it was first learnt; NaN if it has
            none.
        replicates: How many bootstrap replicates.
        seed: Seed of the bootstrap.
        level: Coverage of the intervals.
        prevalence: ``(C,)`` of each label in the training images, from 0 to 1; without it there are no groups of
            labels that are about as common.

    Returns:
        The report.
    """
    y, s = check_targets(targets), check_scores(scores)
    if y.ndim != 2 or s.ndim != 3 or s.shape[1:] != y.shape:
        raise ValueError(f"targets {y.shape} must be (N, C) and scores {s.shape} (T+1, N, C)")
    facts = LabelFacts.of(first, prevalence)
    weights = patient_weights(patients, replicates, seed)
    if weights.shape[1] != len(y):
        raise ValueError(f"patients: {weights.shape[1]} identifiers for {len(y)} rows of targets")
    columns, label, place = distinct(s)
    known = y[:, label]
    auc, ap = (x[place] for x in ranking(known, columns))
    continual.check_first(auc, first)
    auc_samples, ap_samples = (x.take(place, axis=1) for x in bootstrap_ranking(known, columns, weights))

    f1_matrix: Floats | None = None
    # Of each basis, the whole test set and every resample; without thresholds there is no F1.
    bases: dict[Basis, tuple[Floats, Floats]] = {"auc": (auc, auc_samples), "ap": (ap, ap_samples)}
    if thresholds is not None:
        limits = np.asarray(thresholds, dtype=np.float64)[label]
        f1_matrix = np.asarray(f1(known, columns, limits))[place]
        bases["f1"] = f1_matrix, bootstrap_f1(known, columns, limits, weights).take(place, axis=1)
    probabilities = 0.5 * (1 + np.tanh(s[-1] / 2))  # the logistic function, without overflow
    ece = np.asarray(expected_calibration_error(y, probabilities))
    bases["ece"] = ece, bootstrap_calibration(y, probabilities, weights)

    resampled = {m.key: m.of(bases[m.basis][1], facts) for m in METRICS if m.basis in bases}

    def measured(metric: Metric) -> Measured:
        if metric.key not in resampled:
            return Measured(np.nan, np.nan, np.nan)
        low, high = interval(resampled[metric.key], level)
        return Measured(float(metric.of(bases[metric.basis][0], facts)), float(low), float(high))

    metrics = {metric.key: measured(metric) for metric in METRICS}
    low, high = interval(auc_samples, level)
    undefined = tuple(int(c) for c in np.flatnonzero(~has_both_classes(y)))
    compared = {metric.key: resampled[metric.key] for metric in COMPARED}
    return ContinualReport(metrics, auc, low, high, ap, f1_matrix, ece, undefined, compared)
