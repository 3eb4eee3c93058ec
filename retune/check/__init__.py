"""The public contract: what plugins must keep to, on small made-up data, and readers, on their files."""

from __future__ import annotations

from retune.check.backbone import check_backbone
from retune.check.checks import Check, ContractReport, Finding
from retune.check.dataset import check_dataset
from retune.check.metric import check_metric
from retune.check.scenario import check_scenario
from retune.check.strategy import check_strategy

__all__ = [
    "Check",
    "ContractReport",
    "Finding",
    "check_backbone",
    "check_dataset",
    "check_metric",
    "check_scenario",
    "check_strategy",
]
