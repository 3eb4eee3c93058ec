"""Intervals of means over seeds: a suite's own where its table has them, else measured as it measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose, nan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retune.errors import UserError
from retune.metrics.table import COMPARED, in_table
from retune.report.suites import Suites
from retune.results.compare import Estimate
from retune.results.result import SCORES_FILE, Result
from retune.suite.compare import compare
from retune.suite.runs import Finished

if TYPE_CHECKING:
    from retune.report.groups import Spans


def spans(runs: Sequence[Result], suites: Suites, folders: Mapping[str, Path]) -> Spans | None:
    """Ends of the interval of each metric's mean over seeds, of one method on one stream.

    Args:
        runs: One for every seed.
        suites: That some of them may lie in.
        folders: Of each run, by its id.

    Returns:
        None where the runs have no test scores to measure them on, or no common test patients.
    """
    row = suites.row(runs)
    found = row.metrics if row is not None and _agrees(row.metrics, runs) else _measured(runs, folders)
    return None if found is None else {name: (_number(e.low), _number(e.high)) for name, e in found.items()}


def _agrees(metrics: Mapping[str, Estimate], runs: Sequence[Result]) -> bool:
    """Whether a table is of these results, and not of what stood there before."""
    for name in (metric.key for metric in in_table("report")):
        values = [value for r in runs if (value := r.metrics[name].value) is not None]
        told = metrics[name].mean if name in metrics else None
        if told is None or not values:
            if told is not None or values:
                return False
        elif not isclose(told, float(np.mean(values)), abs_tol=1e-9):
            return False
    return True


def _measured(runs: Sequence[Result], folders: Mapping[str, Path]) -> dict[str, Estimate] | None:
    cells = [Finished("", "", "", "", "", r.run.seed, folders[r.run.id]) for r in runs]
    if not all((cell.folder / SCORES_FILE).is_file() for cell in cells):
        return None
    drawn = runs[0].bootstrap
    try:
        compared = compare(cells, replicates=drawn.replicates, level=drawn.level, seed=drawn.seed)
    except UserError:
        return None
    return {metric.key: compared.estimate("", metric.key) for metric in COMPARED}


def _number(value: float | None) -> float:
    return nan if value is None else value
