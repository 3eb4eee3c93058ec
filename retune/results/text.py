"""How text and numbers of results are written: both come from files that anyone may have made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from retune.errors import printable

NAMED: Final = 4
"""Names that a sentence tells, at most."""


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names) if more < 2 else f"{', '.join(names[:NAMED])} and {more} others"


def shown(text: str, length: int | None = None) -> str:
    """Text without control characters, which no XML may hold and which could turn a line around.

    Args:
        text: Any text.
        length: Cut after this many characters.
    """
    clean = printable(text)
    return clean if length is None or len(clean) <= length else clean[: length - 1].rstrip() + "…"


def number(value: float | None, *, signed: bool = False) -> str:
    """Three decimals without a leading zero, and no nought below nought; a dash where undefined."""
    if value is None or value != value:
        return "-"
    value = round(value, 3) + 0.0
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text[: 5 if signed else 4]


def decimals(value: float | None, signed: bool = False) -> str:
    """:func:`number` as a page shows it: with printers' dashes."""
    text = number(value, signed=signed)
    return "–" if text == "-" else text.replace("-", "−")


def count(value: float) -> str:
    """A whole number, or a mean of some, with thousands set apart."""
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """Seconds with as many decimals as say something."""
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"


def size(value: float) -> str:
    """Bytes in the largest decimal unit that leaves at least 1."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


def stored(images: float, features: float, nbytes: float) -> str:
    """What is kept of past patients; nothing of nothing."""
    kinds = [f"{count(n)} {kind}" for n, kind in ((images, "images"), (features, "features")) if n]
    return ", ".join(kinds + ([size(nbytes)] if nbytes else []))


def slug(text: str, length: int = 60) -> str:
    """A part of a file name: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "x"


def inert(value: Any) -> Any:
    """A cell that a spreadsheet shows and never computes: text that begins like a formula has an apostrophe before it."""
    if not isinstance(value, str):
        return value
    formula = re.match(r"[=+@\t\r＝＋－＠]|-(?![\d.]+\Z)", value) or re.match(r"\s+[=+\-@]", value)
    return f"'{shown(value)}" if formula else shown(value)


def piped(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def plain(text: str) -> str:
    """Text in which Markdown sees no mark-up."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", shown(text))
