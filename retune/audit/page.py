"""The page of an audit: HTML that needs nothing else, and the same as Markdown."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import altair as alt
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from retune.audit.groups import comparable, ranged
from retune.audit.one import Audit
from retune.audit.several import Methods
from retune.audit.tables import tables
from retune.report.drawing import BLUE, COLUMNS, FAINT, data, inline, number, svg_of
from retune.results.text import shown


def html(audit: Audit | Methods) -> str:
    """An audit as a page.

    Args:
        audit: Of one run, or of several.
    """
    one = audit if isinstance(audit, Audit) else None
    # Names come from files that anyone may have made: all but the figures and the style sheet is escaped.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = lambda value: shown(value) if type(value) is str else value
    template = environment.from_string((files("retune.audit") / "audit.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup((files("retune.report") / "page.css").read_text(encoding="utf-8")),
        title=audit.title,
        verdict=one.verdict if one else "",
        notes=audit.notes,
        tables=tables(audit),
        figures=[Markup(figure) for figure in _figures(one)] if one else [],
        synthetic=audit.synthetic,
    )


def markdown(audit: Audit | Methods) -> str:
    """The same as Markdown.

    Args:
        audit: Of one run, or of several.
    """
    parts = [f"# {_cell(audit.title)}", *map(_cell, audit.notes)]
    if isinstance(audit, Audit):
        parts.insert(1, f"**{_cell(audit.verdict)}**")
    for table in tables(audit):
        sides = ["---" if k in (0, *table.wordy) else "---:" for k in range(len(table.heads))]
        lines = [table.heads, sides, *table.rows]
        body = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        parts += [f"## {_cell(table.title)}", body, _cell(table.note)]
    return "\n\n".join([*filter(None, parts), "Signed off by: ______________  on: ______________"]) + "\n"


def _cell(value: str) -> str:
    clean = shown(value).replace("\\", "\\\\").replace("|", "\\|")
    return clean.replace("<", "&lt;").replace("`", "\\`").replace("[", "\\[")


def _figures(audit: Audit) -> list[str]:
    """A figure for each kind of group: a panel for each, its mean AUC over versions, the mean of the others dashed."""
    level, found = audit.evidence.result.bootstrap.level, []
    for k, (by, of) in enumerate(audit.slices.items()):
        judged, labels = comparable(of)
        if len(judged) < 2:
            continue
        rows = []
        for one in judged:
            mean = one.auc.mean(labels)
            others = np.mean([o.auc.mean(labels).value for o in judged if o is not one], axis=0)
            for v in range(audit.evidence.versions + 1):
                middle, low, high = ranged(mean.at(v), level)
                rows.append(
                    {"panel": f"{by} {one.name}", "version": v, "auc": number(middle), "low": number(low),
                     "high": number(high), "others": number(float(others[v]))}
                )  # fmt: skip
        svg = svg_of(_panels(rows, f"mean AUC of {int(labels.sum())} labels, by {by}"))
        alt_text = (
            f"Lines, a panel for each {by}: mean AUC of every version. The tables below hold the changes."
        )
        found.append(inline(svg, f"g{k}-", alt_text))
    return found


def _panels(rows: list[dict[str, Any]], title: str) -> Any:
    scale = alt.Scale(zero=False, nice=True)
    base = alt.Chart(data(rows)).encode(x=alt.X("version:O", axis=alt.Axis(title="version", labelAngle=0)))
    band = base.mark_area(color=BLUE, opacity=0.18).encode(
        y=alt.Y("low:Q", scale=scale, axis=alt.Axis(title=None, tickCount=4)), y2="high:Q"
    )
    own = base.mark_line(color=BLUE, point={"color": BLUE, "size": 18}, strokeWidth=1.8).encode(
        y=alt.Y("auc:Q", scale=scale)
    )
    others = base.mark_line(color=FAINT, strokeDash=[4, 3], strokeWidth=1.2).encode(
        y=alt.Y("others:Q", scale=scale)
    )
    layers = alt.layer(band, others, own).properties(width=84, height=80)
    header = alt.Header(title=None, labelFontSize=9, labelPadding=3)
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    facet = alt.Facet("panel:N", sort=panels, header=header)
    return layers.facet(facet=facet, columns=min(COLUMNS, len(panels)), spacing=8).properties(title=title)
