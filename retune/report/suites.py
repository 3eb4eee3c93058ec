"""The suites that runs lie in: what their tables call a run, and what stands there of a stream; and where nothing
does, methods set against each other as a suite does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Final

import numpy as np

from retune.errors import UserError
from retune.metrics.table import COMPARED, DENSE
from retune.results.result import SCORES_FILE, Result
from retune.sealed import Untrusted
from retune.suite.document import SUITE_FILE, read_names
from retune.suite.runs import Finished
from retune.suite.summary import Setting, Summary, summarise
from retune.suite.tables import TABLE_FILE

Methods = Mapping[str, Sequence[Result]]
"""The runs of one stream, by the label of their method."""
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

    def setting(self, methods: Methods) -> Setting | None:
        """What a suite's table says of one stream; None where it is not of these very runs."""
        runs = [run for same in methods.values() for run in same]
        homes = {self._homes.get(run.run.id) for run in runs}
        home = homes.pop()
        if homes or home is None:
            return None
        table = self._table(home)
        cells = [self.cells[run.run.id] for run in runs]
        asked = {(c.scenario, c.data, c.backbone, c.order) for c in cells}
        found = [
            setting
            for setting in (table.settings if table else ())
            if (setting.scenario, setting.data, setting.backbone, setting.order) in asked
        ]
        return found[0] if len(found) == len(asked) == 1 and _agrees(found[0], methods) else None

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
                self.notes.append(f"{error}; its methods are compared anew.")
                self._tables[home] = None
            except UserError:  # A suite that was interrupted has none.
                self._tables[home] = None
        return self._tables[home]


def compared(methods: Methods, suites: Suites, folders: Mapping[str, Path]) -> Setting | None:
    """The methods of one stream set against each other: by a suite's own table, else as it would.

    Args:
        methods: The runs of each, one for every seed, by its label.
        suites: That some of them may lie in.
        folders: Of each run, by its id.

    Returns:
        None where the runs have no test scores to compare them by, or no common test patients.
    """
    return suites.setting(methods) or _measured(methods, folders)


def _agrees(setting: Setting, methods: Methods) -> bool:
    """Whether a table is of these results, and neither of what stood there before nor made when less was measured."""
    rows = {row.strategy: row for row in setting.rows}
    if rows.keys() != methods.keys():
        return False
    for label, runs in methods.items():
        row = rows[label]
        if row.seeds != sorted(run.run.seed for run in runs) or any(
            m.key not in row.metrics for m in COMPARED
        ):
            return False
        for metric in (*COMPARED, *(m for m in DENSE if m.key in row.metrics)):
            values = [value for run in runs if (value := run.metric(metric.key).value) is not None]
            told = row.metrics[metric.key].mean
            if values and (told is None or not isclose(told, float(np.mean(values)), abs_tol=1e-9)):
                return False
    return True


def _measured(methods: Methods, folders: Mapping[str, Path]) -> Setting | None:
    cells = [
        Finished(label, "", "", "", "", run.run.seed, folders[run.run.id])
        for label, runs in methods.items()
        for run in runs
    ]
    if not all((cell.folder / SCORES_FILE).is_file() for cell in cells):
        return None
    try:
        return summarise(cells).settings[0]
    except Untrusted:
        raise
    except UserError:
        return None
