"""The AUC matrix of an entry, and the Dice of its transfer's findings, ready to be shown as tables."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Final

import numpy as np

from retune.data.findings import codes
from retune.leaderboard.entry import Entry, Run
from retune.metrics import forgetting_per_label, mean_and_sd

STEPS: Final = 10
"""Colours, from an AUC of .5 to one of 1."""


@dataclass(frozen=True)
class Cell:
    """One AUC.

    Args:
        value: NaN where undefined.
        style: Classes of its look.
    """

    value: float
    style: str


@dataclass(frozen=True)
class Column:
    """A label.

    Args:
        label: Its name.
        code: In short.
        first: The first experience that shows it; 0 if none does.
        cells: From before training to after the last experience.
        lost: How far it ends below its best since it was learnt; NaN where that says nothing.
    """

    label: str
    code: str
    first: int
    cells: list[Cell]
    lost: float


@dataclass(frozen=True)
class Matrix:
    """Labels across in the order in which they are learnt, moments down.

    Args:
        title: Which seeds it is of.
        moments: Names of the rows.
        columns: The labels.
    """

    title: str
    moments: list[str]
    columns: list[Column]


def matrices(entry: Entry) -> list[Matrix]:
    """The mean over seeds where all learn labels in one order, else one for each seed."""
    runs = entry.runs
    if len({tuple(run.first) for run in runs}) == 1:
        many = len(runs)
        return [_matrix(entry, runs, f"mean of {many} seeds" if many > 1 else f"seed {runs[0].seed}")]
    return [_matrix(entry, [run], f"seed {run.seed}") for run in runs]


@dataclass(frozen=True)
class Finding:
    """Dice of a finding of a transfer, mean over seeds; NaN where undefined.

    Args:
        name: The finding's.
        prior: Of the mean training mask.
        began: Before training.
        final: At the end.
        kept: At the end, by the probe that was fitted first.
    """

    name: str
    prior: float | None
    began: float
    final: float
    kept: float


def findings(entry: Entry) -> list[Finding]:
    """What the image side still sees; nothing where an entry has no transfer."""
    if entry.transfer is None:
        return []
    (refit, kept), _ = mean_and_sd(np.array([run.dice for run in entry.runs], dtype=np.float64))
    columns = zip(entry.transfer.findings, entry.transfer.prior, refit[0], refit[-1], kept[-1], strict=True)
    return [Finding(name, prior, float(a), float(b), float(c)) for name, prior, a, b, c in columns]


def _matrix(entry: Entry, runs: list[Run], title: str) -> Matrix:
    first, steps, short = runs[0].first, entry.scenario.steps, codes(entry.labels)
    stack = np.array([run.auc_matrix for run in runs], dtype=np.float64)
    (auc, _), (lost, _) = mean_and_sd(stack), mean_and_sd(forgetting_per_label(stack, first))
    columns = []
    for c in sorted(range(len(first)), key=lambda c: (first[c] or steps + 1, c)):
        cells = [Cell(value, _style(value, first[c], i)) for i, value in enumerate(auc[:, c].tolist())]
        columns.append(Column(entry.labels[c], short[c], first[c], cells, float(lost[c])))
    return Matrix(title, ["zero-shot", *(f"after {i}" for i in range(1, steps + 1))], columns)


def _style(value: float, first: int, moment: int) -> str:
    """Its colour; pale until the label is learnt, with a line above where that happens."""
    learnt = 0 < first <= moment
    step = "none" if isnan(value) else max(0, min(STEPS - 1, int((value - 0.5) * 2 * STEPS)))
    return f"h{step}{'' if learnt else ' pale'}{' learnt' if first == moment > 0 else ''}"
