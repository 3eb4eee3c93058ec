"""What the threshold in use means now: sensitivity, specificity and calibration since it was frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retune.audit.evidence import Evidence, Floats
from retune.audit.groups import ranged
from retune.metrics.binary import calibration_bins

BINS: Final = 15
RARER: Final = 0.5
"""Times that a label is as common in the other population that calibration is told for."""


@dataclass(frozen=True)
class Drift:
    """One label's threshold, from the version that froze it to the last.

    Args:
        label: Its name.
        since: The version that froze it.
        threshold: On its score.
        sensitivity: When frozen and now.
        specificity: When frozen and now.
        sensitivity_change: With its interval.
        specificity_change: With its interval.
        calibration: Expected calibration error when frozen and now, scores read as logits.
        rarer: The same now, were the label half as common.
        restoring: The threshold that would give the sensitivity of ``since`` on these images again, and the specificity
            it leaves: how far the threshold is off, not one to use, for it is read off the test images.
    """

    label: str
    since: int
    threshold: float
    sensitivity: tuple[float, float]
    specificity: tuple[float, float]
    sensitivity_change: tuple[float, float, float]
    specificity_change: tuple[float, float, float]
    calibration: tuple[float, float]
    rarer: float
    restoring: tuple[float, float]


def drifts(evidence: Evidence) -> list[Drift]:
    """Of every label that is in use and has enough images."""
    whole, level, last = evidence.whole, evidence.result.bootstrap.level, evidence.versions
    found = []
    for c in np.flatnonzero(whole.judged & evidence.in_use[-1]):
        since = evidence.result.first[c]
        known = ~np.isnan(evidence.targets[:, c])
        present = evidence.targets[known, c] == 1
        scores = evidence.scores[:, known, c]
        sensitivity, specificity = (r.value[[since, last], c] for r in (whole.sensitivity, whole.specificity))
        limit = float(evidence.thresholds[c])
        # Where as many are called, any threshold between two scores would do: it is not off.
        if sensitivity[1] != sensitivity[0]:
            limit = restoring(scores[last], present, float(sensitivity[0]))
        errors = [calibration_error(scores[v], present) for v in (since, last)]
        found.append(
            Drift(
                evidence.labels[c],
                since,
                float(evidence.thresholds[c]),
                (float(sensitivity[0]), float(sensitivity[1])),
                (float(specificity[0]), float(specificity[1])),
                ranged(whole.sensitivity.at(last, c) - whole.sensitivity.at(since, c), level),
                ranged(whole.specificity.at(last, c) - whole.specificity.at(since, c), level),
                (errors[0], errors[1]),
                calibration_error(scores[last], present, RARER),
                (limit, float((scores[last][~present] < limit).mean())),
            )
        )
    return found


def restoring(scores: Floats, present: NDArray[np.bool_], sensitivity: float) -> float:
    """The highest threshold at which at least this share of the positives is called.

    Args:
        scores: ``(N,)``.
        present: ``(N,)``.
        sensitivity: From 0 to 1.
    """
    positives = np.sort(scores[present])[::-1]
    need = max(1, int(np.ceil(round(sensitivity * len(positives), 9))))
    return float(positives[need - 1])


def calibration_error(logits: Floats, present: NDArray[np.bool_], commoner: float = 1.0) -> float:
    """Expected calibration error, as :func:`retune.metrics.expected_calibration_error` has it.

    Args:
        logits: ``(N,)``.
        present: ``(N,)``.
        commoner: Times that the label is as common as among these images: positives and negatives are weighted so.
    """
    share = present.mean()
    wanted = min(1.0, commoner * share)
    weights = np.where(present, wanted / share, (1 - wanted) / (1 - share))
    p = 0.5 * (1 + np.tanh(logits / 2))
    gap = np.bincount(calibration_bins(p, BINS), weights=weights * (p - present), minlength=BINS)
    return float(np.abs(gap).sum() / weights.sum())
