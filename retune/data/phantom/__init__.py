"""The phantom: a generator of synthetic chest radiographs with known findings."""

from __future__ import annotations

from retune.data.phantom.drawing import GENERATOR_VERSION, masks, render
from retune.data.phantom.reports import reports
from retune.data.phantom.sites import BENCHMARK_SITES, PRETRAIN_SITES, SITES, Site
from retune.data.phantom.table import SIDES, Exams, exams

__all__ = [
    "BENCHMARK_SITES",
    "GENERATOR_VERSION",
    "PRETRAIN_SITES",
    "SIDES",
    "SITES",
    "Exams",
    "Site",
    "exams",
    "masks",
    "render",
    "reports",
]
