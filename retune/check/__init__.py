"""The public contract: what every strategy and every scenario must keep to, checked on small made-up data."""

from __future__ import annotations

from retune.check.checks import Check, ContractReport, Finding
from retune.check.scenario import check_scenario
from retune.check.strategy import check_strategy

__all__ = ["Check", "ContractReport", "Finding", "check_scenario", "check_strategy"]
