"""A chart as SVG: as a file of its own, as a part of a page, and as PNG."""

from __future__ import annotations

import re
from typing import Any, Final
from xml.etree import ElementTree

import altair
import vl_convert

from retune.errors import RetuneError

INK: Final = "#1b1f24"
FAINT: Final = "#8b949e"
PAPER: Final = "#ffffff"

SCALE: Final = 2
"""Pixels of a PNG for each point of its SVG."""

_ON_PAGE: Final = {INK: "currentColor", FAINT: "var(--faint)"}
_ELEMENTS: Final = {"svg", "g", "path", "rect", "text", "tspan", "line", "circle", "defs", "clipPath"}
_NUMBER: Final = re.compile(r"-?\d+\.\d{3,}")


def svg_of(chart: Any) -> str:
    """A chart of altair as a whole SVG file, on white."""
    version = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    # Checking a chart against its schema takes longer than drawing it; tests draw every kind.
    return vl_convert.vegalite_to_svg(chart.to_json(validate=False, indent=None), vl_version=version)


def png(svg: str) -> bytes:
    """The same figure in pixels."""
    return vl_convert.svg_to_png(svg, scale=SCALE)


def size(svg: str) -> tuple[float, float]:
    """Width and height in points."""
    root = ElementTree.fromstring(svg)
    return float(root.attrib["width"]), float(root.attrib["height"])


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
        kept = {
            k: v for k, v in element.attrib.items() if not k.startswith(("aria-", "on", "role", "class", "{"))
        }
        element.attrib.clear()
        for key, value in kept.items():
            element.set(key, _on_page(key, value, prefix))
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
