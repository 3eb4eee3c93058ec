"""What methods still see of another task: a curve and a column for each finding, beside what needs no picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import altair as alt
import numpy as np

from retune.metrics.seeds import mean_and_sd
from retune.report.drawing import COLOURS, FAINT, INK, WIDTH, data, name_of, number
from retune.report.groups import Floats, MethodGroup, StreamGroup
from retune.results.result import TransferRecord
from retune.results.text import shown
from retune.results.transfers import across, beside, headline, measured, task_key, title

ACROSS: Final = 2
"""Panels beside each other."""
LINES: Final = ("probe refitted at every moment", "first probe, kept", "no training")
DASHES: Final = ([1, 0], [4, 3], [1, 2])


@dataclass(frozen=True)
class TransferView:
    """One task, and the methods that were measured on it.

    Args:
        record: Of one of their runs: what all of them share.
        groups: The methods, the best first.
    """

    record: TransferRecord
    groups: tuple[MethodGroup, ...]

    @property
    def title(self) -> str:
        """What was measured, on what."""
        return title(self.record)

    @property
    def notes(self) -> list[str]:
        """What must be said beside the numbers."""
        return across({group.method.label: group.runs for group in self.groups})

    @property
    def moving(self) -> tuple[MethodGroup, ...]:
        """Methods whose image side is another than the backbone's."""
        return tuple(g for g in self.groups if any(r.moves for r in records(g)))

    @property
    def drawn(self) -> tuple[MethodGroup, ...]:
        """Of these the best, as many as there are colours."""
        return self.moving[: len(COLOURS)]

    @property
    def findings(self) -> list[int]:
        """Places of those that some method has a number of."""
        ends = np.stack([over_time(group)[0, -1] for group in self.groups])
        return np.flatnonzero(~np.isnan(ends).all(axis=0)).tolist()

    @property
    def prior(self) -> list[tuple[str, list[float | None]]]:
        """Trivial predictors that score anything, and what they score of each finding."""
        key = self.record.headline
        return [(name, of[key]) for name, of in self.record.trivial.items() if any(of.get(key, []))]

    def rows(self) -> list[tuple[str, list[tuple[float, float, float]]]]:
        """Of each method and of the frozen backbone, the headline at the end by finding, with the ends of its interval.

        Over several seeds value and ends are means.
        """
        first = self.groups[0]
        found = [("frozen backbone", self._cells(first, 0))]
        return [*((group.method.label, self._cells(group, -1)) for group in self.groups), *found]

    def _cells(self, group: MethodGroup, moment: int) -> list[tuple[float, float, float]]:
        value, low, high = (over_time(group, end)[0, moment] for end in ("", "_low", "_high"))
        return [(value[k], low[k], high[k]) for k in self.findings]

    def details(self, group: MethodGroup) -> tuple[list[str], list[tuple[str, list[float]]]]:
        """Heads, and a row of numbers for each finding: over time, and by other rules beside what needs no picture."""
        refit, kept = over_time(group)
        lost = np.fmax.reduce(refit[:-1]) - refit[-1]
        every = [beside(record) for record in records(group)]
        heads = ["before", "end", "forgotten", "kept", *(head for head, _ in every[0])]
        others = [
            mean_and_sd(np.array([columns[i][1] for columns in every], dtype=np.float64))[0]
            for i in range(len(every[0]))
        ]
        columns = [refit[0], refit[-1], lost, kept[-1], *others]
        return heads, [(self.record.findings[k], [float(of[k]) for of in columns]) for k in self.findings]


def transfers_of(stream: StreamGroup) -> tuple[TransferView, ...]:
    """The tasks that methods of a stream were measured on."""
    found: dict[str, list[MethodGroup]] = {}
    for group in stream.groups:
        record = measured(group.runs[0])
        if record is not None:
            found.setdefault(task_key(record), []).append(group)
    return tuple(TransferView(records(of[0])[0], tuple(of)) for of in found.values())


def records(group: MethodGroup) -> list[TransferRecord]:
    """The transfers of a method's runs."""
    return [record for run in group.runs if (record := measured(run)) is not None]


def over_time(group: MethodGroup, end: str = "") -> Floats:
    """The headline number, or an end of its interval, mean over seeds: (2, T+1, K), refitted and kept."""
    return mean_and_sd(np.stack([headline(record, end) for record in records(group)]))[0]


def curves(view: TransferView) -> Any:
    """A panel for each finding: the headline number at every moment, by method; a dotted line needs no picture.

    Args:
        view: What to draw.
    """
    steps = len(view.record.refit[view.record.headline]) - 1
    frozen = over_time(view.groups[0])[0, 0]
    levels = _levels(view, frozen)
    rows = [row for group in view.drawn for row in _lines(group, view)]
    for k in view.findings:
        panel = {"panel": shown(view.record.findings[k]), "which": LINES[-1]}
        rows += [
            {**panel, "name": name, "moment": i, "value": number(values[k])}
            for name, values in levels
            for i in (0, steps)
        ]
    names = {group.method.short: name_of(group.method) for group in view.drawn} | {
        name: f"{name}, dotted" for name, _ in levels
    }
    tints = [*COLOURS[: len(view.drawn)], INK, FAINT][: len(names)]
    axis = alt.Axis(values=list(range(0, steps + 1, ceil((steps + 1) / 6))), format="d", grid=False)
    wide = alt.Scale(domain=[-0.2, steps + 0.2], nice=False)
    words: dict[str, Any] = {
        "orient": "bottom",
        "columns": 1,
        "title": None,
        "symbolOpacity": 1,
        "symbolType": "stroke",
    }
    name = alt.Legend(labelLimit=WIDTH, labelExpr=f"{json.dumps(names)}[datum.label]", **words)
    which = alt.Legend(symbolStrokeColor=INK, symbolSize=300, **words)
    drawn = LINES if view.drawn else LINES[-1:]
    dashes = alt.Scale(domain=list(drawn), range=list(DASHES[-len(drawn) :]))
    lines = alt.Chart(data(rows)).encode(
        x=alt.X("moment:Q", title=None, axis=axis, scale=wide),
        y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4, format=".2~f", labelFontSize=8)),
        color=alt.Color("name:N", scale=alt.Scale(domain=list(names), range=tints), legend=name),
        strokeDash=alt.StrokeDash("which:N", scale=dashes, legend=which),
        detail=["name:N", "which:N"],
    )
    header = alt.Header(title=None, labelFontSize=8.5, labelLimit=150, labelPadding=3)
    order = [shown(view.record.findings[k]) for k in view.findings]
    return (
        lines.mark_line(strokeWidth=1.6)
        .properties(width=(WIDTH - 46) // ACROSS, height=84)
        .facet(facet=alt.Facet("panel:N", sort=order, header=header), columns=ACROSS, spacing=8)
        .resolve_scale(y="independent")
        .properties(title=f"{view.record.headline}, after each experience; 0 is before training")
    )


def _levels(view: TransferView, frozen: Floats) -> list[tuple[str, Sequence[float | None]]]:
    """What does not learn: the backbone, and anatomy alone."""
    return [("frozen", frozen.tolist()), *(of for of in view.prior if of[0] == "prior")]


def _lines(group: MethodGroup, view: TransferView) -> list[dict[str, Any]]:
    values = over_time(group)
    return [
        {
            "panel": shown(view.record.findings[k]),
            "name": group.method.short,
            "which": which,
            "moment": i,
            "value": number(values[w, i, k]),
        }
        for w, which in enumerate(LINES[:2])
        for k in view.findings
        for i in range(values.shape[1])
    ]
