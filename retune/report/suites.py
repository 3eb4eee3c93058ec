"""The suites that runs lie in: what their tables call a run, and what stands there of a method; and where nothing
does, intervals measured as a suite measures them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Final

import numpy as np

from retune.errors import UserError
from retune.metrics.table import COMPARED, in_table
from retune.results.compare import Estimate
from retune.results.result import SCORES_FILE, Result
from retune.sealed import Untrusted
from retune.suite.compare import compare
from retune.suite.document import SUITE_FILE, read_names
from retune.suite.runs import Finished
from retune.suite.summary import Row, Summary
from retune.suite.tables import TABLE_FILE

ABOVE: Final = 4
"""So far above a run's folder its suite is looked for."""


class Suites:
    """The suites of some runs.

    Args:
        folders: Of each run, by its id.

    Attributes:
        cells: What a suite calls a run, by the run's id; a run in no suite is not among them.
        notes: What could not be read.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.cells: dict[str, Finished] = {}
        self.notes: list[str] = []
        self._homes: dict[str, Path] = {}
        self._tables: dict[Path, Summary | None] = {}
        found: dict[Path, dict[str, Finished]] = {}
        for run, folder in folders.items():
            home = next((p for p in folder.parents[:ABOVE] if (p / SUITE_FILE).is_file()), None)
            if home is None:
                continue
            if home not in found:
                found[home] = self._read(home)
            if run in found[home]:
                self.cells[run], self._homes[run] = found[home][run], home

    def row(self, runs: Sequence[Result]) -> Row | None:
        """What a suite's table says of one method on one stream; None where it is not of these very runs."""
        homes = {self._homes.get(result.run.id) for result in runs}
        home = homes.pop()
        if homes or home is None:
            return None
        cells = [self.cells[result.run.id] for result in runs]
        table = self._table(home)
        asked = {(c.scenario, c.data, c.backbone, c.order, c.strategy) for c in cells}
        rows = [
            row
            for setting in (table.settings if table else ())
            for row in setting.rows
            if (setting.scenario, setting.data, setting.backbone, setting.order, row.strategy) in asked
            and row.seeds == sorted(result.run.seed for result in runs)
        ]
        return rows[0] if len(rows) == len(asked) == 1 else None

    def _read(self, home: Path) -> dict[str, Finished]:
        try:
            return read_names(home)
        except UserError as error:
            self.notes.append(f"{error}; its methods are told apart by their settings.")
            return {}

    def _table(self, home: Path) -> Summary | None:
        if home not in self._tables:
            try:
                self._tables[home] = Summary.read(home / TABLE_FILE)
            except Untrusted as error:
                self.notes.append(f"{error}; its intervals are measured anew.")
                self._tables[home] = None
            except UserError:  # A suite that was interrupted has none.
                self._tables[home] = None
        return self._tables[home]


def spans(
    runs: Sequence[Result], suites: Suites, folders: Mapping[str, Path]
) -> Mapping[str, Estimate] | None:
    """Each metric's mean over seeds with its interval, of one method on one stream: a suite's own, else as it measures.

    Args:
        runs: One for every seed.
        suites: That some of them may lie in.
        folders: Of each run, by its id.

    Returns:
        None where the runs have no test scores to measure them on, or no common test patients.
    """
    row = suites.row(runs)
    return row.metrics if row is not None and _agrees(row.metrics, runs) else _measured(runs, folders)


def _agrees(metrics: Mapping[str, Estimate], runs: Sequence[Result]) -> bool:
    """Whether a table is of these results, and not of what stood there before."""
    for name in (metric.key for metric in in_table("report")):
        values = [value for r in runs if (value := r.metric(name).value) is not None]
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
    except Untrusted:
        raise
    except UserError:
        return None
    return {metric.key: compared.estimate("", metric.key) for metric in COMPARED}
