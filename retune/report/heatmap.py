"""The matrix of one method as a heat-map.

Its colours are cividis (Nuñez et al., "Optimizing colormaps with consideration for color vision deficiency",
2018); every cell holds its number too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np

from retune.report.drawing import INK, data, number
from retune.report.groups import MethodGroup
from retune.results.text import decimals, shown

PALE: Final = 0.28
"""Opacity of cells of labels not yet learnt."""
LETTER: Final = 6.1
"""Room for a letter of a label's name."""
LIGHT: Final = 0.74
"""AUC above which cividis is light enough for black numbers."""


def matrix(group: MethodGroup) -> Any:
    """AUC of every label (down, as they are learnt) at every moment (across): as narrow as a phone.

    A line parts moments before a label is learnt, where cells are pale, from those after.
    """
    result = group.shown[0]
    auc, order = group.matrix(), label_order(result.first)
    moments = [str(i) for i in range(len(auc))]
    heads = _heads(result.labels)
    rows = [
        {"label": heads[c], "moment": moments[i], **_cell(float(auc[i, c]), 0 < result.first[c] <= i)}
        for i in range(len(auc))
        for c in order
    ]
    told = {"title": "after experience; 0 is zero-shot", "titleAnchor": "end", "titlePadding": 3}
    top = alt.Axis(orient="top", ticks=False, labelAngle=0, labelPadding=3, **told)  # type: ignore[arg-type]
    # A browser's letters may be wider than those that were measured.
    side = alt.Axis(title=None, ticks=False, minExtent=LETTER * max(map(len, heads)))
    base = alt.Chart(data(rows)).encode(
        x=alt.X("moment:O", scale=alt.Scale(domain=moments), axis=top),
        y=alt.Y("label:O", scale=alt.Scale(domain=[heads[c] for c in order]), axis=side),
    )
    colours = alt.Scale(scheme="cividis", domain=[0.5, 1], clamp=True)
    cells = base.mark_rect().encode(
        color=alt.Color("auc:Q", scale=colours, legend=None), opacity=alt.Opacity("opacity:Q", scale=None)
    )
    numbers = base.mark_text(fontSize=10).encode(text="text:N", color=alt.Color("ink:N", scale=None))
    layers = alt.layer(cells, numbers, *_staircase(result.first, order, heads, moments))
    return layers.resolve_scale(color="independent").properties(width=alt.Step(29), height=alt.Step(18))


def _heads(labels: Sequence[str]) -> list[str]:
    """Names as a figure shows them; where two would be alike, with their number."""
    heads = [shown(label, 28) for label in labels]
    return [head if heads.count(head) == 1 else f"{c + 1} {head}" for c, head in enumerate(heads)]


def label_order(first: Sequence[int]) -> list[int]:
    """Columns as labels are learnt; those never learnt come last."""
    return sorted(range(len(first)), key=lambda c: (first[c] or len(first) + 1, c))


def _cell(auc: float, learnt: bool) -> dict[str, Any]:
    ink = INK if not learnt or np.isnan(auc) else "#000000" if auc > LIGHT else "#ffffff"
    return {"auc": number(auc), "text": decimals(auc)[:4], "ink": ink, "opacity": 1 if learnt else PALE}


def _staircase(first: Sequence[int], order: list[int], heads: list[str], moments: list[str]) -> list[Any]:
    """Lines between the moments before and after a label is learnt: down its row, then across to the next."""
    never = len(moments)
    starts = [first[c] or never for c in order]
    down = [
        {"label": heads[c], "moment": moments[start]}
        for c, start in zip(order, starts, strict=True)
        if start < never
    ]
    across = [
        {"label": heads[order[k]], "moment": moments[i]}
        for k in range(1, len(order))
        for i in range(starts[k - 1], starts[k])
    ]
    x, y = alt.X("moment:O", bandPosition=0), alt.Y("label:O", bandPosition=0)
    lines = []
    if down:
        rule = alt.Chart(data(down)).mark_rule(color=INK, strokeWidth=1.6)
        lines.append(rule.encode(x=x, y=y, y2=alt.Y2("label", bandPosition=1)))
    if across:
        rule = alt.Chart(data(across)).mark_rule(color=INK, strokeWidth=1.6)
        lines.append(rule.encode(x=x, x2=alt.X2("moment", bandPosition=1), y=y))
    return lines
