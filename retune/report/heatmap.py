"""The matrix of one method as a heat-map.

Its colours are cividis (Nuñez et al., "Optimizing colormaps with consideration for color vision deficiency",
2018); every cell holds its number too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np

from retune.data.findings import codes
from retune.report.drawing import INK, data, number
from retune.report.groups import MethodGroup
from retune.results.text import decimals, shown

PALE: Final = 0.28
"""Opacity of cells of labels not yet learnt."""
LIGHT: Final = 0.74
"""AUC above which cividis is light enough for black numbers."""


def matrix(group: MethodGroup) -> Any:
    """AUC of every label (across, as they are learnt) at every moment (down).

    A line parts moments before a label is learnt, where cells are pale, from those after.
    """
    result = group.shown[0]
    auc, order = group.matrix(), label_order(result.first)
    moments = ["zero-shot", *(f"after {i}" for i in range(1, len(auc)))]
    heads = [shown(code) for code in codes(result.labels)]
    rows = [
        {"label": heads[c], "moment": moments[i], **_cell(float(auc[i, c]), 0 < result.first[c] <= i)}
        for i in range(len(auc))
        for c in order
    ]
    top = alt.Axis(orient="top", title=None, ticks=False, labelAngle=0, labelFontSize=8.5)
    across = alt.Scale(domain=[heads[c] for c in order])
    base = alt.Chart(data(rows)).encode(
        x=alt.X("label:O", scale=across, axis=top),
        y=alt.Y("moment:O", scale=alt.Scale(domain=moments), axis=alt.Axis(title=None, ticks=False)),
    )
    colours = alt.Scale(scheme="cividis", domain=[0.5, 1], clamp=True)
    cells = base.mark_rect().encode(
        color=alt.Color("auc:Q", scale=colours, legend=None), opacity=alt.Opacity("opacity:Q", scale=None)
    )
    numbers = base.mark_text(fontSize=8.5).encode(text="text:N", color=alt.Color("ink:N", scale=None))
    layers = alt.layer(cells, numbers, *_staircase(result.first, order, heads, moments))
    return layers.resolve_scale(color="independent").properties(width=alt.Step(24), height=alt.Step(19))


def label_order(first: Sequence[int]) -> list[int]:
    """Columns as labels are learnt; those never learnt come last."""
    return sorted(range(len(first)), key=lambda c: (first[c] or len(first) + 1, c))


def _cell(auc: float, learnt: bool) -> dict[str, Any]:
    ink = INK if not learnt or np.isnan(auc) else "#000000" if auc > LIGHT else "#ffffff"
    return {"auc": number(auc), "text": decimals(auc)[:4], "ink": ink, "opacity": 1 if learnt else PALE}


def _staircase(first: Sequence[int], order: list[int], heads: list[str], moments: list[str]) -> list[Any]:
    """Lines between the moments before and after a label is learnt: across columns, then down."""
    never = len(moments)
    tops = [first[c] or never for c in order]
    across = [
        {"label": heads[c], "from": moments[top]} for c, top in zip(order, tops, strict=True) if top < never
    ]
    down = [
        {"label": heads[order[k]], "from": moments[i], "to": moments[i]}
        for k in range(1, len(order))
        for i in range(tops[k - 1], tops[k])
    ]
    x, y = alt.X("label:O", bandPosition=0), alt.Y("from:O", bandPosition=0)
    lines = []
    if across:
        rule = alt.Chart(data(across)).mark_rule(color=INK, strokeWidth=1.6)
        lines.append(rule.encode(x=x, x2=alt.X2("label", bandPosition=1), y=y))
    if down:
        rule = alt.Chart(data(down)).mark_rule(color=INK, strokeWidth=1.6)
        lines.append(rule.encode(x=x, y=y, y2=alt.Y2("to", bandPosition=1)))
    return lines
