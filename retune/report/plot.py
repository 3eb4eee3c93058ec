"""The report's figures of one run, or of several, for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt

from retune.errors import UserError
from retune.report.drawing import themed
from retune.report.figures import curve_domain, curves
from retune.report.groups import UNNAMED, Section, sections
from retune.report.heatmap import matrix
from retune.results.result import Result


def plot(results: Result | Iterable[Result], names: Mapping[str, str] = UNNAMED) -> Any:
    """Draw one run (the AUC of every label at every moment, and their mean), or the curves of several by stream.

    Args:
        results: One result, or several.
        names: What their methods are called, by run id, where not by strategy and settings.

    Returns:
        A chart of altair: a notebook shows it, and its ``save("figure.png")`` (or ``.svg``, ``.html``) writes it.

    Raises:
        UserError: If there is none, or two runs differ in nothing that a result tells.
    """
    alone = isinstance(results, Result)
    found = sections([results] if isinstance(results, Result) else results, names)
    if not found:
        raise UserError("there is no finished run to draw")
    charts = [_streams(section, matrices=alone) for section in found]
    return themed(charts[0] if len(charts) == 1 else alt.vconcat(*charts, spacing=30))


def _streams(section: Section, *, matrices: bool) -> Any:
    """The figures of one data set and backbone."""
    domain, drawn = curve_domain(section.streams), []
    for stream in section.streams:
        parts = [matrix(stream.groups[0])] if matrices else []
        parts.append(curves(stream, section.methods, domain))
        title = f"{stream.title}, {section.title}"
        drawn.append(
            alt.hconcat(*parts, spacing=30, title=title).resolve_scale(
                color="independent", shape="independent"
            )
        )
    return alt.concat(*drawn, columns=2) if len(drawn) > 1 else drawn[0]
