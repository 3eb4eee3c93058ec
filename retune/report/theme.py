"""What all figures share: width, colours, type, and how a method is called.

Colours are of Okabe and Ito ("Color universal design", 2008), some darkened for contrast on white and on
black; none carries meaning alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np

from retune.report.groups import Entry, Method
from retune.report.svg import FAINT, INK, PAPER
from retune.results.text import shown

WIDTH: Final = 320
"""Points across the plot: with its axis a figure fits a phone."""
FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b8679a", "#9a7b00", "#7a7f87")
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
BLUE, VERMILLION = COLOURS[:2]
COLUMNS: Final = 3
"""Small panels side by side."""


def name_of(method: Method, length: int = 44) -> str:
    """Number and name, as every figure shows them.

    Args:
        method: Has one number throughout a section.
        length: Cut after about this many characters.
    """
    bound = " (upper bound)" if method.upper_bound else ""
    return f"{method.number} {shown(method.short, length - len(bound))}{bound}"


def panel_of(method: Method) -> str:
    """The head of a small panel."""
    return name_of(method, 20)


def data(rows: list[dict[str, Any]]) -> Any:
    """Rows that a chart holds itself."""
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def number(value: float) -> float | None:
    """A number as JSON knows it: null where undefined."""
    return float(value) if np.isfinite(value) else None


def span(mean: float, sd: float) -> dict[str, float | None]:
    """Ends of a band or whisker."""
    return {"low": number(mean - sd), "high": number(mean + sd)}


def panels(layers: Any, entries: Sequence[Entry], title: str) -> Any:
    """A small panel for each method, by the field ``panel``."""
    order = [panel_of(entry.method) for entry in entries]
    header = alt.Header(title=None, labelFontSize=8.5, labelLimit=88, labelPadding=3)
    facet = alt.Facet("panel:N", sort=order, header=header)
    return layers.facet(facet=facet, columns=min(len(order), COLUMNS), spacing=8).properties(title=title)


def finished(chart: Any) -> Any:
    """A chart in the dress of all."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 10, "titleFontSize": 10}
    axis = {"domainColor": FAINT, "tickColor": FAINT, "gridColor": FAINT, "gridOpacity": 0.25}
    return chart.configure(
        # What a figure shows is said once for all of it, not mark by mark.
        aria=False,
        background=PAPER,
        font=FONT,
        axis={**text, **axis, "titleFontWeight": "normal", "titlePadding": 8},
        header=text,
        legend={**text, "titleFontWeight": "normal"},
        padding=4,
        title={"color": INK, "fontSize": 10, "fontWeight": "normal", "anchor": "start"},
        view={"stroke": None},
    )
