"""AUROC and its kin, the continual-learning metrics, and their intervals: pure functions on arrays."""

from __future__ import annotations

from retune.metrics.binary import (
    auroc,
    average_precision,
    best_f1_threshold,
    expected_calibration_error,
    f1,
)
from retune.metrics.bootstrap import (
    bootstrap_auroc,
    bootstrap_ranking,
    detectable,
    interval,
    patient_weights,
)
from retune.metrics.bootstrap_sums import bootstrap_calibration, bootstrap_f1
from retune.metrics.continual import (
    average_auc,
    backward_transfer,
    final_auc,
    first_learnt,
    forgetting,
    forgetting_per_label,
    forward_transfer,
    gain,
    learning,
    zero_shot,
)
from retune.metrics.distinct import distinct
from retune.metrics.facts import LabelFacts, prevalence_of
from retune.metrics.report import ContinualReport, Measured, continual_report
from retune.metrics.seeds import mean_and_sd
from retune.metrics.table import METRICS, Metric

__all__ = [
    "METRICS",
    "ContinualReport",
    "LabelFacts",
    "Measured",
    "Metric",
    "auroc",
    "average_auc",
    "average_precision",
    "backward_transfer",
    "best_f1_threshold",
    "bootstrap_auroc",
    "bootstrap_calibration",
    "bootstrap_f1",
    "bootstrap_ranking",
    "continual_report",
    "detectable",
    "distinct",
    "expected_calibration_error",
    "f1",
    "final_auc",
    "first_learnt",
    "forgetting",
    "forgetting_per_label",
    "forward_transfer",
    "gain",
    "interval",
    "learning",
    "mean_and_sd",
    "patient_weights",
    "prevalence_of",
    "zero_shot",
]
