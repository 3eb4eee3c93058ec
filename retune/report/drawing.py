"""What all figures share: colours, type and width, how a method is called, and how a chart becomes SVG and PNG.

Colours are of Okabe and Ito ("Color universal design", 2008), some darkened for contrast on white and on
black; none carries meaning alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree

import altair as alt
import numpy as np
import vl_convert

from retune.errors import RetuneError
from retune.report.groups import Method, MethodGroup
from retune.results.text import shown

WIDTH: Final = 320
"""Points across the plot: with its axis a figure fits a phone."""
SCALE: Final = 2
"""Pixels of a PNG for each point of its SVG."""
INK: Final = "#1b1f24"
FAINT: Final = "#8b949e"
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b8679a", "#9a7b00", "#7a7f87")
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
BLUE, VERMILLION = COLOURS[:2]
COLUMNS: Final = 3
"""Small panels side by side."""

_ON_PAGE: Final = {INK: "currentColor", FAINT: "var(--faint)"}
_ELEMENTS: Final = {"svg", "g", "path", "rect", "text", "tspan", "line", "circle", "defs", "clipPath"}
_NUMBER: Final = re.compile(r"-?\d+\.\d{3,}")


@alt.theme.register("retune", enable=False)
def _theme() -> alt.theme.ThemeConfig:
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 10, "titleFontSize": 10}
    axis = {"domainColor": FAINT, "tickColor": FAINT, "gridColor": FAINT, "gridOpacity": 0.25}
    # What a figure shows is said once for all of it, not mark by mark.
    config: Any = {
        "aria": False,
        "background": "#ffffff",
        "font": "Liberation Sans, Arial, Helvetica, sans-serif",
        "axis": {**text, **axis, "titleFontWeight": "normal", "titlePadding": 8},
        "header": text,
        "legend": {**text, "titleFontWeight": "normal"},
        "padding": 4,
        "title": {"color": INK, "fontSize": 10, "fontWeight": "normal", "anchor": "start"},
        "view": {"stroke": None},
    }
    return {"config": config}


def themed(chart: Any) -> Any:
    """A chart that brings its type and colours along, to be shown outside a page."""
    return chart.configure(**_theme()["config"])


def svg_of(chart: Any) -> str:
    """A chart of altair as a whole SVG file, on white."""
    with alt.theme.enable("retune"):
        # Checking a chart against its schema takes longer than drawing it; tests draw every kind.
        text = chart.to_json(validate=False, indent=None)
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return vl_convert.vegalite_to_svg(text, vl_version=version)


def png(svg: str) -> bytes:
    """The same figure in pixels."""
    return vl_convert.svg_to_png(svg, scale=SCALE)


def inline(svg: str, prefix: str, alt: str) -> str:
    """The same figure as a part of a page: see-through, in the page's ink, without ids that could clash.

    Args:
        svg: A file made by :func:`svg_of`.
        prefix: Set before every id.
        alt: What the figure shows, for who does not see it.

    Raises:
        RetuneError: If the drawing holds an element that could do more than draw.
    """
    root = ElementTree.fromstring(svg)
    background = next(iter(root))
    if background.tag.endswith("rect"):
        root.remove(background)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if element.tag not in _ELEMENTS:
            raise RetuneError(f"a figure holds the element <{element.tag}>")
        element.attrib = {
            key: _on_page(key, value, prefix)
            for key, value in element.attrib.items()
            if not key.startswith(("aria-", "on", "role", "class", "{"))
        }
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.pop("version", None)
    root.attrib.update(
        {"role": "img", "aria-label": alt, "style": f"--width:{width}px", "viewBox": f"0 0 {width} {height}"}
    )
    return ElementTree.tostring(root, encoding="unicode")


def _on_page(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key in ("d", "transform"):
        return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value)
    return _ON_PAGE.get(value, value.replace("url(#", f"url(#{prefix}"))


def name_of(method: Method, length: int = 44) -> str:
    """A method's name as every figure shows it, cut after about ``length`` characters."""
    bound = f" ({method.bound})" if method.bound else ""
    return f"{shown(method.short, length - len(bound))}{bound}"


def panels(layers: Any, groups: Sequence[MethodGroup], title: str) -> Any:
    """A small panel for each method, by the field ``panel``, which holds its whole name."""
    order = [group.method.short for group in groups]
    header = alt.Header(title=None, labelFontSize=8.5, labelLimit=96, labelPadding=3)
    facet = alt.Facet("panel:N", sort=order, header=header)
    return layers.facet(facet=facet, columns=min(len(order), COLUMNS), spacing=8).properties(title=title)


def data(rows: list[dict[str, Any]]) -> Any:
    """Rows that a chart holds itself."""
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def number(value: float | None) -> float | None:
    """A number as JSON knows it: null where undefined."""
    return None if value is None or not np.isfinite(value) else float(value)


def span(mean: float | None, sd: float | None) -> dict[str, float | None]:
    """Ends of a band or whisker."""
    if mean is None or sd is None:
        return {"low": None, "high": None}
    return {"low": number(mean - sd), "high": number(mean + sd)}
