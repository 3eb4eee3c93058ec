"""The figures that set methods side by side: a chart of altair each.

Up to six methods share one panel of curves; more of them get a panel each, with the others in grey behind,
because no reader tells ten colours apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil, expm1, log1p, log10
from typing import Any, Final

import altair as alt
import numpy as np

from retune.data.findings import codes
from retune.metrics.table import DECIDES
from retune.report.drawing import (
    BLUE,
    COLOURS,
    COLUMNS,
    FAINT,
    INK,
    SHAPES,
    VERMILLION,
    WIDTH,
    data,
    name_of,
    number,
    panels,
    span,
)
from retune.report.groups import Floats, Method, MethodGroup, StreamGroup
from retune.report.heatmap import label_order
from retune.report.places import LINE, SIZE, beside
from retune.results.text import shown

KEPT: Final = ("nothing", "features", "images")
"""What a method may keep of past patients, the gravest last."""


def curves(stream: StreamGroup, methods: Sequence[Method], domain: Sequence[float]) -> Any:
    """Mean AUC over the labels seen so far, after each experience, by method.

    Args:
        stream: What to draw.
        methods: Of the section: each has one colour in all of its streams.
        domain: Smallest and largest AUC of the axis.
    """
    together = len(methods) <= len(COLOURS)
    every = ceil(stream.steps / (10 if together else 5))
    axis = alt.Axis(values=list(range(1, stream.steps + 1, every)), format="d", grid=False)
    wide = alt.Scale(domain=[0.75, stream.steps + 0.25])
    high = alt.Scale(domain=list(domain), nice=False, zero=False)
    x = alt.X("step:Q", title="experience" if together else None, axis=axis, scale=wide)
    title = "mean AUC, labels seen so far" if together else None
    y, low = (alt.Y(f"{end}:Q", title=title, scale=high) for end in ("auc", "low"))
    rows = [row for group in stream.groups for row in _curve(group)]
    if together:
        return _one_panel(rows, methods, x, y, low).properties(width=WIDTH, height=220)
    repeated = [
        {**row, "panel": group.method.short, "own": row["method"] == group.method.short}
        for group in stream.groups
        for row in rows
    ]
    base = alt.Chart().encode(x=x, detail="method:N")
    grey = base.transform_filter("!datum.own").mark_line(stroke=FAINT, strokeWidth=0.6, opacity=0.45)
    own = base.transform_filter("datum.own")
    band = own.mark_area(color=BLUE, opacity=0.25).encode(y=low, y2="high:Q")
    line = own.mark_line(color=BLUE, strokeWidth=2, point=alt.OverlayMarkDef(size=12, color=BLUE))
    layers = alt.layer(grey.encode(y=y), band, line.encode(y=y), data=data(repeated))
    told = "mean AUC over the labels seen so far, after each experience"
    return panels(layers.properties(width=92, height=78), stream.groups, told)


def _one_panel(rows: list[dict[str, Any]], methods: Sequence[Method], x: Any, y: Any, low: Any) -> Any:
    names = {method.short: name_of(method) for method in methods}
    here = list(dict.fromkeys(row["method"] for row in rows))
    words = alt.Legend(
        orient="bottom", columns=1, title=None, labelLimit=WIDTH, symbolOpacity=1, values=here,
        labelExpr=f"{json.dumps(names)}[datum.label]",
    )  # fmt: skip
    tints, shapes = (alt.Scale(domain=list(names), range=list(of[: len(names)])) for of in (COLOURS, SHAPES))
    dashes = alt.Scale(domain=[False, True], range=[[1, 0], [5, 3]])
    base = alt.Chart(data(rows)).encode(x=x, color=alt.Color("method:N", scale=tints, legend=words))
    band = base.mark_area(opacity=0.2).encode(y=low, y2="high:Q")
    dash = alt.StrokeDash("bound:N", scale=dashes, legend=None)
    lines = base.mark_line(strokeWidth=1.8).encode(y=y, strokeDash=dash)
    shape = alt.Shape("method:N", scale=shapes, legend=words)
    points = base.mark_point(filled=True, size=42, opacity=1).encode(y=y, shape=shape)
    return alt.layer(band, lines, points)


def _curve(group: MethodGroup) -> list[dict[str, Any]]:
    method = group.method
    same = {"method": method.short, "bound": bool(method.bound)}
    return [
        {**same, "step": i + 1, "auc": number(mean), **span(mean, sd)}
        for i, (mean, sd) in enumerate(zip(*group.curve(), strict=True))
    ]


def curve_domain(streams: Sequence[StreamGroup]) -> tuple[float, float]:
    """Ends of an AUC axis that hold every curve and band, to the next .05."""
    ends: list[Floats] = []
    for group in (group for stream in streams for group in stream.groups):
        mean, sd = group.curve()
        ends += [mean - np.nan_to_num(sd), mean + np.nan_to_num(sd)]
    known = np.concatenate(ends)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = max(np.floor(known.min() * 20) / 20, 0.0), min(np.ceil(known.max() * 20) / 20, 1.0)
    return (low, high) if low < high else (0.0, 1.0)


def forgets(group: MethodGroup) -> bool:
    """Whether a method loses or gains anything that three decimals show."""
    mean, _ = group.forgetting()
    return bool((np.abs(np.nan_to_num(mean)) >= 0.0005).any())


def forgetting(groups: Sequence[MethodGroup]) -> Any:
    """What each label lost since its best, a panel for each method; whiskers are a standard deviation.

    Args:
        groups: Methods on one stream, at least one.
    """
    example = groups[0].runs[0]
    heads = [shown(code) for code in codes(example.labels)]
    rows: list[dict[str, Any]] = []
    for group in groups:
        mean, sd = group.forgetting()
        for c in np.flatnonzero(np.isfinite(mean)):
            row = {"panel": group.method.short, "label": heads[c], "lost": float(mean[c])}
            rows.append({**row, **span(mean[c], sd[c])})
    ends = [row[key] for row in rows for key in ("lost", "low", "high") if row[key] is not None]
    down = alt.Scale(domain=[heads[c] for c in label_order(example.first)])
    wide = alt.Scale(domain=[min(-0.05, *ends), max(0.05, *ends)], nice=False)
    axis = alt.Axis(tickCount=3, format=".2~f", labelFontSize=8)
    y = alt.Y("label:N", scale=down, title=None, axis=alt.Axis(labelFontSize=8, ticks=False))
    x, low = (alt.X(f"{end}:Q", title=None, scale=wide, axis=axis) for end in ("lost", "low"))
    tint = alt.condition("datum.lost > 0", alt.value(VERMILLION), alt.value(BLUE))
    bars = alt.Chart().mark_bar(height={"band": 0.7}).encode(x=x, y=y, color=tint)
    whiskers = alt.Chart().mark_rule(color=INK, strokeWidth=0.8).encode(x=low, x2="high:Q", y=y)
    zero = alt.Chart().mark_rule(color=INK, strokeWidth=0.6).encode(x=alt.datum(0))
    width = WIDTH // min(len(groups), COLUMNS) - 16
    layers = alt.layer(bars, whiskers, zero, data=data(rows)).properties(width=width, height=alt.Step(10))
    return panels(layers, groups, "fall from a label's best AUC; below 0 it gained")


def cost(stream: StreamGroup) -> Any:
    """Final AUC against trainable parameters and against seconds of fitting, by what a method keeps."""
    rows = []
    for group in stream.groups:
        final = group.metric(DECIDES.key)
        row: dict[str, Any] = {"name": name_of(group.method, 30), "kept": kept(group)}
        row |= {"auc": number(final.mean), **span(final.mean, final.sd)}
        row |= {"parameters": group.cost("trainable_parameters"), "seconds": group.cost("fit_seconds")}
        rows.append(row)
    parameters = _against(rows, "parameters", "trainable parameters", 1, "~s")
    seconds = _against(rows, "seconds", "seconds of fitting", 0.01, "~g")
    return alt.vconcat(parameters, seconds, spacing=12)


def kept(group: MethodGroup) -> str:
    """The gravest kind of thing kept of past patients in any run."""
    costs = [run.cost for run in group.runs]
    if any(c.stored_images for c in costs):
        return "images"
    return "features" if any(c.stored_features or c.stored_bytes for c in costs) else "nothing"


def _against(rows: list[dict[str, Any]], field: str, title: str, constant: float, style: str) -> Any:
    # Logarithmic above the constant, linear below it: zero-shot trains nothing, and 0 has no logarithm.
    top = max([10 * constant, *(row[field] for row in rows)])
    ticks = [0.0, *(10.0**k for k in range(round(log10(constant)) + 1, ceil(log10(top)) + 1))]
    ticks = ticks if len(ticks) <= 6 else [0.0, *ticks[1::2]]
    end = 1.5 * max(top, ticks[-1])
    height = max(170, 14 * len(rows))
    ends = [row[key] for row in rows for key in ("auc", "low", "high") if row[key] is not None] or [0.0, 1.0]
    spread = max(max(ends) - min(ends), 0.02)
    low, high = min(ends) - 0.08 * spread, max(ends) + 0.08 * spread
    wide = alt.Scale(type="symlog", constant=constant, domain=[0, end])
    axis = alt.Axis(values=ticks, labelExpr=f"format(datum.value, '{style}')")
    x = alt.X(f"{field}:Q", title=f"{title} (log)", scale=wide, axis=axis)
    tall = alt.Scale(domain=[low, high], zero=False, nice=False)
    y = alt.Y("auc:Q", title=DECIDES.heading, scale=tall)
    legend = alt.Legend(orient="top", title="keeps of past patients", symbolOpacity=1)
    tints, shapes = (alt.Scale(domain=list(KEPT), range=list(of[: len(KEPT)])) for of in (COLOURS, SHAPES))
    tint = alt.Color("kept:N", scale=tints, legend=legend)
    base = alt.Chart(data(rows)).encode(x=x)
    whiskers = base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q", scale=tall), y2="high:Q", color=tint)
    points = base.mark_point(filled=True, size=40, opacity=1).encode(
        y=y, color=tint, shape=alt.Shape("kept:N", scale=shapes, legend=legend)
    )
    layers = [whiskers, points, *_names(rows, field, constant, end, (low, high), height)]
    return alt.layer(*layers).properties(width=WIDTH, height=height)


def _names(
    rows: list[dict[str, Any]],
    field: str,
    constant: float,
    end: float,
    domain: tuple[float, float],
    height: float,
) -> list[Any]:
    """Layers with the name of every point, and a line to those that had to stand away from it."""
    low, high = domain
    drawn = [row for row in rows if row["auc"] is not None]
    wide, tall = WIDTH / log1p(end / constant), height / (high - low)
    at = [(wide * log1p(row[field] / constant), tall * (high - row["auc"])) for row in drawn]
    places = beside(at, [row["name"] for row in drawn], WIDTH, height)
    named = [
        {
            "name": row["name"],
            "align": place.align,
            "far": abs(place.y - py) > LINE / 2,
            "x": row[field],
            "y": row["auc"],
            "to_x": constant * expm1(place.x / wide),
            "to_y": high - place.y / tall,
        }
        for row, (_, py), place in zip(drawn, at, places, strict=True)
    ]
    base = alt.Chart(data(named))
    lines = base.transform_filter("datum.far").mark_rule(color=FAINT, strokeWidth=0.6)
    found: list[Any] = [lines.encode(x="x:Q", x2="to_x:Q", y="y:Q", y2="to_y:Q")]
    for align in ("left", "right"):
        text = base.transform_filter(f"datum.align == '{align}'").mark_text(
            align=align, baseline="middle", fontSize=SIZE, color=INK
        )
        found.append(text.encode(x="to_x:Q", y="to_y:Q", text="name:N"))
    return found
